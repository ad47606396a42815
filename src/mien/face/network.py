"""The network that names emotions: one ONNX file, which holds its own preprocessing, calibration and labels."""

import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.emotions import as_classes
from mien.face.result import SUM_TOLERANCE
from mien.face.runtime import create_session

ASSETS = Path(__file__).parent / "assets"
"""The networks in the package: ``NAME.onnx``, and what is known of it in ``NAME.json``."""

DEFAULT_MODEL = "base"
BATCH = 64  # faces that go through the network together
COLOR_CHANNELS = 3
EXPORT_REMEDY = "give a file that mien export wrote"


def shipped_models() -> dict[str, Path]:
    """Name -> file of the networks in the package."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.onnx"))}


def read_card(path: Path) -> dict[str, Any]:
    """What is known of a network, from ``NAME.json`` beside it; a ``ModelError`` where that is missing or damaged."""
    beside = path.with_suffix(".json")
    try:
        card: dict[str, object] = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.ModelError(
            f"{beside}: expected the report of {path.name}, got {error}; install mien again"
        ) from error
    return card


def no_model_remedy() -> str:
    """What to do where the package has lost its networks, as in a program that was frozen without them."""
    if getattr(sys, "frozen", False):
        return "freeze the program again with: pyinstaller --collect-data mien"
    return "run: pip install --force-reinstall mien, or give one: --model FILE.onnx"


def model_file(model: str | Path) -> Path:
    """The file of a network in the package, by a name such as ``base``, or of your own.

    Raises:
        UnknownNameError: neither; lists the names.
        MissingPathError: no such file, or it is a run's folder.
        ModelError: there is no network in this installation.
    """
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    path = Path(model)
    if path.is_file():
        return path
    if (path / "recipe.toml").is_file():
        raise errors.MissingPathError(
            f"expected a network as a file, got the run {path}; export it first: mien export {shlex.quote(str(path))}"
            " --out mine.onnx"
        )
    if path.suffix or isinstance(model, Path) or len(path.parts) > 1:
        raise errors.MissingPathError(f"no model at {path}; {EXPORT_REMEDY}, or one of: {', '.join(shipped) or 'none'}")
    if not shipped:
        raise errors.ModelError(f"this installation brings no model; {no_model_remedy()}")
    raise errors.unknown_name(shipped, str(model), "model")


class Threshold(NamedTuple):
    """A confidence from which on answers are given; all in [0, 1]."""

    accuracy: float  # of the answers on validation faces
    confidence: float  # minimum of an answer
    coverage: float  # fraction of the validation faces that got one


class EmotionNetwork:
    """Faces -> calibrated probabilities. Safe to share between threads.

    Attributes:
        path: of the ONNX file.
        classes: what it names, in the order of its outputs: ``EMOTIONS``, or the names of its own.
        color: whether it sees faces in RGB; else in grey.
        size: side of the faces, in pixels.
        metadata: what the file says of itself: ``model``, ``training_data``, ``license``, ...
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, threads: int | None = None) -> None:
        """Read a network; ``threads`` are the processor cores for one batch, by default all.

        Raises:
            ModelError: the file is damaged, or not a network that ``mien export`` wrote; and as :func:`model_file`.
        """
        self.path = model_file(model)
        _check_whole(self.path)
        try:
            self._session = create_session(self.path, threads)
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
            channels, self.size, outputs = _check_graph(self._session, self.path)
        except errors.ModelError:
            raise
        except Exception as error:  # its exceptions have no common base
            raise errors.ModelError(f"{self.path}: expected an ONNX network, got {error}; {EXPORT_REMEDY}") from error
        self.color = channels == COLOR_CHANNELS
        self.classes = _classes(self.metadata, outputs, self.path)

    def threshold(self, accuracy: float) -> Threshold:
        """The minimum confidence at which answers reach an ``accuracy``, on validation pictures of FER-2013.

        Raises:
            CallError: not an accuracy above 0 and at most 1, or more than this network can reach.
            ModelError: the file does not say.
        """
        if not 0 < accuracy <= 1:
            raise errors.CallError(f"expected an accuracy above 0 and at most 1, such as 0.9, got {accuracy:g}")
        try:
            known = [Threshold(*map(float, line)) for line in json.loads(self.metadata["abstention"])]
        except (KeyError, TypeError, ValueError) as error:
            raise errors.ModelError(
                f"{self.path}: expected a table of abstention, got none; {EXPORT_REMEDY}"
            ) from error
        enough = [each for each in known if each.accuracy >= accuracy - 1e-9]
        if not enough:
            highest = max((each.accuracy for each in known), default=0.0)
            raise errors.CallError(
                f"expected an accuracy that {self.path.name} reaches, {highest:.1%} at most, got {accuracy:.1%}"
            )
        return min(enough, key=lambda each: each.accuracy)

    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the ``classes``, grey ``(N, S, S)`` or RGB ``(N, S, S, 3)`` -> ``(N, K)``; rows sum to one.

        Raises:
            ValueError: not uint8 faces of the network's own S and colour.
            ModelError: the network fails, or gives no probabilities.
        """
        expected = (self.size, self.size, COLOR_CHANNELS) if self.color else (self.size, self.size)
        if faces.dtype != np.uint8 or faces.shape[1:] != expected:
            raise ValueError(f"expected uint8 (N, {', '.join(map(str, expected))}), got {faces.dtype} {faces.shape}")
        planes = as_planes(faces)
        found = np.empty((len(faces), len(self.classes)), np.float32)
        for start in range(0, len(faces), BATCH):
            found[start : start + BATCH] = self._run(planes[start : start + BATCH])  # (n, C, S, S) -> (n, K)
        return found

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            found: NDArray[np.float32] = self._session.run(["probabilities"], {"faces": batch})[0]
        except Exception as error:  # its exceptions have no common base
            raise errors.ModelError(f"{self.path}: expected an answer, got {error}; {EXPORT_REMEDY}") from error
        # A foreign or damaged network may give anything; a comparison with NaN is false.
        fits = found.shape == (len(batch), len(self.classes)) and found.dtype == np.float32
        if not (fits and (found >= 0).all() and (np.abs(found.sum(1) - 1) <= SUM_TOLERANCE).all()):
            raise errors.ModelError(
                f"{self.path}: expected float32 probabilities {(len(batch), len(self.classes))} that sum to one,"
                f" got {found.dtype} {found.shape} with other values; {EXPORT_REMEDY}"
            )
        return found


def as_planes(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Faces as graphs take them: grey ``(N, S, S) -> (N, 1, S, S)``, RGB ``(N, S, S, 3) -> (N, 3, S, S)``; a view."""
    return faces[:, None] if faces.ndim == 3 else faces.transpose(0, 3, 1, 2)


def _check_whole(path: Path) -> None:
    """Refuse a network of the package that is not the one in its report: it could answer wrongly without a sign."""
    if path.parent != ASSETS or not path.with_suffix(".json").exists():
        return
    expected, sha256 = read_card(path).get("sha256"), hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != expected:
        raise errors.ModelError(
            f"{path}: expected the network with sha256 {expected}, got {sha256}; install mien again"
        )


def _check_graph(session: Any, path: Path) -> tuple[int, int, object]:
    """Channels and side of the faces, and the number of classes, if inputs and outputs are those of the contract.

    A graph may leave the number of classes free; then it is no ``int``.
    """
    inputs = [(each.name, each.type) for each in session.get_inputs()]
    outputs = {each.name: each.shape for each in session.get_outputs()}
    shape = session.get_inputs()[0].shape if inputs else []
    fits = inputs == [("faces", "tensor(uint8)")] and "probabilities" in outputs and len(shape) == 4
    free = fits and not isinstance(shape[0], int)
    if not (free and shape[1] in (1, COLOR_CHANNELS) and isinstance(shape[2], int) and shape[2] == shape[3]):
        raise errors.ModelError(
            f"{path}: expected an input 'faces' uint8 [N, 1, S, S], or [N, 3, S, S] in colour, and an output"
            f" 'probabilities', got {inputs} {shape} and {sorted(outputs)}; {EXPORT_REMEDY}"
        )
    return int(shape[1]), int(shape[2]), outputs["probabilities"][-1]


def _classes(metadata: dict[str, str], outputs: object, path: Path) -> tuple[str, ...]:
    """The names of the graph's ``outputs`` classes, as it tells them."""
    try:
        labels = json.loads(metadata.get("labels", "null"))
    except (ValueError, RecursionError):
        labels = metadata["labels"][:200]
    try:
        classes = as_classes(labels if isinstance(labels, list) else [labels])
    except ValueError as error:
        raise errors.ModelError(f"{path}: labels: {error}; {EXPORT_REMEDY}") from error
    if isinstance(outputs, int) and outputs != len(classes):
        raise errors.ModelError(
            f"{path}: expected a label for each of its {outputs} probabilities, got {len(classes)} labels"
            f" ({', '.join(classes)}); {EXPORT_REMEDY}"
        )
    return classes
