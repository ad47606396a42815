"""The network that names emotions: one ONNX file, which holds its own preprocessing, calibration and labels."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import CallError, MissingPathError, ModelError, unknown_name
from mien.face.result import SUM_TOLERANCE
from mien.face.runtime import create_session

ASSETS = Path(__file__).parent / "assets"
"""The networks in the package: ``NAME.onnx``, and what is known of it in ``NAME.json``."""

DEFAULT_MODEL = "base"
BATCH = 64
"""Faces that go through the network together."""

EXPORT_REMEDY = "give a file that mien export wrote"


def shipped_models() -> dict[str, Path]:
    """Name -> file of the networks in the package."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.onnx"))}


def model_card(path: Path) -> dict[str, Any]:
    """What is known of a network: its report, size, speed, licence, from ``NAME.json`` beside it.

    Raises:
        ModelError: that file is missing or damaged.
    """
    beside = path.with_suffix(".json")
    try:
        card: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{beside}: expected the report of {path.name}, came {error}; install mien again") from error
    return card


def model_file(model: str | Path) -> Path:
    """The file of a network in the package, or of one of your own.

    Args:
        model: a name such as ``base``, or the path of an ``.onnx`` file.

    Raises:
        UnknownNameError: neither; lists the names.
        MissingPathError: no such file.
        ModelError: there is no network in this installation.
    """
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    path = Path(model)
    if path.is_file():
        return path
    if path.suffix or isinstance(model, Path) or len(path.parts) > 1:
        raise MissingPathError(f"no model at {path}; {EXPORT_REMEDY}, or one of: {', '.join(shipped) or 'none'}")
    if not shipped:
        raise ModelError(f"this installation brings no model; {EXPORT_REMEDY}")
    raise unknown_name(shipped, str(model), "model")


class Threshold(NamedTuple):
    """A confidence from which on answers are given; all in [0, 1].

    Attributes:
        accuracy: that was asked for.
        confidence: least of an answer.
        coverage: share of the validation faces that got one.
    """

    accuracy: float
    confidence: float
    coverage: float


class EmotionNetwork:
    """Grey faces -> calibrated probabilities. Safe to share between threads.

    Attributes:
        path: of the ONNX file.
        size: side of the faces, in pixels.
        metadata: what the file says of itself: ``model``, ``training_data``, ``license``, ...
    """

    def __init__(self, model: str | Path = DEFAULT_MODEL, threads: int | None = None) -> None:
        """Read a network.

        Args:
            model: a name of the package's, or the path of an ``.onnx`` file.
            threads: processor cores for one batch; by default all.

        Raises:
            UnknownNameError: no such name.
            MissingPathError: no such file.
            ModelError: the file is damaged, or not a network that ``mien export`` wrote.
        """
        self.path = model_file(model)
        _check_whole(self.path)
        try:
            self._session = create_session(self.path, threads)
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
            self.size = _check_graph(self._session, self.path)
        except ModelError:
            raise
        except Exception as error:  # its exceptions have no common base
            raise ModelError(f"{self.path}: expected an ONNX network, came {error}; {EXPORT_REMEDY}") from error
        _check_labels(self.metadata, self.path)

    def threshold(self, accuracy: float) -> Threshold:
        """From which confidence on answers are right in a share of ``accuracy``, on validation pictures of FER-2013.

        Raises:
            CallError: not an accuracy above 0 and at most 1, or more than this network can reach.
            ModelError: the file does not say.
        """
        if not 0 < accuracy <= 1:
            raise CallError(f"expected an accuracy above 0 and at most 1, such as 0.9; {accuracy:g} came")
        try:
            known = [Threshold(*map(float, line)) for line in json.loads(self.metadata["abstention"])]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{self.path} does not say how sure it must be to be right; {EXPORT_REMEDY}") from error
        enough = [each for each in known if each.accuracy >= accuracy - 1e-9]
        if not enough:
            most = max((each.accuracy for each in known), default=0.0)
            raise CallError(f"{self.path.name} reaches an accuracy of {most:.1%} at most; {accuracy:.1%} was asked for")
        return min(enough, key=lambda each: each.accuracy)

    def probabilities(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the emotions, in the order of ``EMOTIONS``: ``(N, S, S) -> (N, 7)``, rows sum to one.

        Raises:
            ValueError: not uint8 ``(N, S, S)`` with the network's own S.
            ModelError: the network fails, or gives no probabilities.
        """
        if faces.dtype != np.uint8 or faces.ndim != 3 or faces.shape[1:] != (self.size, self.size):
            raise ValueError(f"expected uint8 (N, {self.size}, {self.size}), came {faces.dtype} {faces.shape}")
        found = np.empty((len(faces), len(EMOTIONS)), np.float32)
        for start in range(0, len(faces), BATCH):
            found[start : start + BATCH] = self._run(faces[start : start + BATCH, None])  # (n, 1, S, S)
        return found

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One batch: ``(n, 1, S, S) -> (n, 7)``."""
        try:
            found: NDArray[np.float32] = self._session.run(["probabilities"], {"faces": batch})[0]
        except Exception as error:  # its exceptions have no common base
            raise ModelError(f"{self.path}: expected an answer, came {error}; {EXPORT_REMEDY}") from error
        # A foreign or damaged network may give anything; a comparison with NaN is false.
        fits = found.shape == (len(batch), len(EMOTIONS)) and found.dtype == np.float32
        if not (fits and (found >= 0).all() and (np.abs(found.sum(1) - 1) <= SUM_TOLERANCE).all()):
            raise ModelError(
                f"{self.path}: expected float32 probabilities {(len(batch), len(EMOTIONS))} that sum to one,"
                f" came {found.dtype} {found.shape} with other values; {EXPORT_REMEDY}"
            )
        return found


def _check_whole(path: Path) -> None:
    """Refuse a network of the package that is not the one in its report: it could answer wrongly without a sign."""
    if path.parent != ASSETS or not path.with_suffix(".json").exists():
        return
    expected, came = model_card(path).get("sha256"), hashlib.sha256(path.read_bytes()).hexdigest()
    if came != expected:
        raise ModelError(f"{path}: expected the network with sha256 {expected}, came {came}; install mien again")


def _check_graph(session: Any, path: Path) -> int:
    """The side of the faces, if inputs and outputs are those of the contract."""
    inputs = [(each.name, each.type) for each in session.get_inputs()]
    outputs = {each.name for each in session.get_outputs()}
    shape = session.get_inputs()[0].shape if inputs else []
    fits = inputs == [("faces", "tensor(uint8)")] and "probabilities" in outputs and len(shape) == 4
    free = fits and not isinstance(shape[0], int)
    if not (free and shape[1] == 1 and isinstance(shape[2], int) and shape[2] == shape[3]):
        raise ModelError(
            f"{path}: expected an input 'faces' uint8 [N, 1, S, S] and an output 'probabilities',"
            f" came {inputs} {shape} and {sorted(outputs)}; {EXPORT_REMEDY}"
        )
    return int(shape[2])


def _check_labels(metadata: dict[str, str], path: Path) -> None:
    expected = [emotion.value for emotion in EMOTIONS]
    try:
        came = json.loads(metadata.get("labels", "null"))
    except (ValueError, RecursionError):
        came = metadata["labels"][:200]
    if came != expected:
        raise ModelError(f"{path}: expected the labels {', '.join(expected)}, came {came}; {EXPORT_REMEDY}")
