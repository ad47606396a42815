"""Networks that can be evaluated, runs and ONNX files alike; torch is imported where a run is opened."""

import ctypes
import hashlib
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.data import FaceSamples, Split
from mien.data import Protocol as SplitProtocol
from mien.data.index import TRAINING_ROWS, load_index
from mien.data.pictures import Images
from mien.data.samples import Fold
from mien.emotions import EMOTIONS
from mien.face import network as onnx
from mien.face.crop import FACE_SIZE
from mien.runs import Report, Run, load_run
from mien.runs.learnt import Learnt, learnt_beside, learnt_by
from mien.runs.report import parse_report

if TYPE_CHECKING:
    from torch import Tensor

    from mien.models import FaceClassifier
    from mien.recipe import DataSettings

Faces = TypeVar("Faces", NDArray[np.uint8], "Tensor")

VIEWS = (1, 2, 10)
PART = 8192
"""Faces that an ONNX file is given at a time, whatever their number: all views of them are held in memory."""

SHIFT = 2
"""Pixels by which four of the ten views are shifted."""

LEARNT = ("learnt_sha256", "learnt_pictures")
"""What a file says of the hashes beside it; the second only where these are all that it learnt from."""

SPLIT = ("protocol", "validation_rows", "fold", "folds", "group")
"""What a file says of the recipe's ``[data]`` that made its splits, as far as it was set."""

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
"""Settings of mallopt(3)."""


class Predictor(Protocol):
    """A network that can be evaluated."""

    @property
    def path(self) -> Path:
        """The file with its weights, whose hash ``looks.jsonl`` notes."""

    @property
    def run(self) -> Run | None:
        """The run directory that holds its results, where it has one."""

    @property
    def report(self) -> Report:
        """What is known of it."""

    @property
    def stored(self) -> "DataSettings | None":
        """In which size, colour and by which subjects it takes the pictures of folders, where that is not the usual."""

    @property
    def learnt(self) -> Learnt:
        """The pictures that it learnt from, as far as they are known."""

    def indices(self, samples: FaceSamples, split: Split) -> NDArray[np.int64]:
        """Which of the samples are a split, ``(M,)``, under the protocol that chose its weights.

        Raises:
            DataError: the data do not have this split.
        """

    def predict(self, images: Images, views: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Faces ``(N, S, S[, 3])`` -> calibrated probabilities ``(N, K)`` and, where they are known, uncalibrated ones.

        They are means over 1, 2 or 10 ``views`` of each face.

        Raises:
            DataError: the network takes faces of another size.
            ModelError: the network fails.
        """


def open_predictor(model: Path, accelerator: str = "auto") -> Predictor:
    """The network in a run directory, in an ONNX file, or in the package by its name; a folder comes before a name.

    Raises:
        CallError: ``accelerator`` is ``cuda``, and the model is an ONNX file or torch has no GPU.
        MissingPathError: there is neither.
        RunError: the folder holds no finished run.
        ModelError: the file is no network that ``mien export`` wrote.
    """
    if model.suffix == ".onnx" or model.is_file() or (str(model) in onnx.shipped_models() and not model.is_dir()):
        if accelerator == "cuda":
            raise errors.CallError(
                "expected --accelerator cpu or auto for an ONNX file, got cuda; it runs on the processor"
            )
        return OnnxPredictor(onnx.EmotionNetwork(model))
    return RunPredictor(load_run(model), accelerator)


class RunPredictor:
    """The kept weights of a finished run, on the device that ``accelerator`` names: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        RunError: the run is not finished, or damaged.
        CallError: ``cuda`` is asked for, and torch has no GPU.
    """

    def __init__(self, run: Run, accelerator: str = "auto") -> None:
        self.run = run
        self.path = run.best_checkpoint
        self.report = run.load_report()
        self.learnt = learnt_by(run)

        import torch

        from mien.runs.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(self.path)
        self.temperature = checkpoint.temperature
        self.stored = checkpoint.recipe.data
        device = device_type(accelerator)
        if device == "cpu":
            keep_freed_memory()
        layout = torch.channels_last if checkpoint.recipe.training.channels_last else torch.contiguous_format
        self.classifier = checkpoint.classifier().to(device).to(memory_format=layout)

    def indices(self, samples: FaceSamples, split: Split) -> NDArray[np.int64]:
        """See :class:`Predictor`."""
        return samples.split_for(split, self.stored)

    def predict(self, images: Images, views: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See :class:`Predictor`."""
        if len(images.shape) == 4 and self.classifier.in_chans == 1:
            raise errors.DataError(
                f"{self.run.path}: expected grey faces, got faces in colour; read the data with --set data.color=false"
            )
        logits = predict_logits(self.classifier, images, views=views)
        return probabilities_of(logits, self.temperature), probabilities_of(logits)


class OnnxPredictor:
    """An ONNX file, evaluated without torch.

    Attributes:
        temperature: by which it divides its logits, if it says so.
        protocol: the one that chose its weights; ``contest`` if it names none.
        validation_rows: faces that ``published`` held out of Training, if it says so.
        fold: the part of Training that was held out instead, if it says so.
        group: what told the subjects of its data, if it says so.
        report: what the file says of itself; of a network in the package also what its card says.
        learnt: by the file beside it; networks in the package learnt from FER-2013's Training.

    Raises:
        ModelError: it names a protocol or a fold that there is not, or a temperature that is none.
    """

    run = None

    def __init__(self, network: onnx.EmotionNetwork) -> None:
        self.network = network
        self.path = network.path
        self.temperature = _temperature(network)
        self.protocol, self.validation_rows, self.fold = _split(network)
        self.group = network.metadata.get("group")
        self.stored = _stored(network)
        self.learnt = _file_learnt(network)
        self.report = _file_report(network, self)

    def indices(self, samples: FaceSamples, split: Split) -> NDArray[np.int64]:
        """See :class:`Predictor`."""
        return samples.split(split, self.protocol, self.validation_rows, self.fold)

    def predict(self, images: Images, views: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """See :class:`Predictor`."""
        size, color = self.network.size, self.network.color
        if images.shape[1:] != ((size, size, onnx.COLOR_CHANNELS) if color else (size, size)):
            raise errors.DataError(
                f"{self.path}: expected faces of {size} x {size} pixels {'in colour' if color else 'in grey'}, got"
                f" {images.shape[2]} x {images.shape[1]}{' in colour' if len(images.shape) == 4 else ''}; give the data"
                " that it was made for"
            )
        of_parts = []
        for start in range(0, len(images), PART):
            planes = face_views(onnx.as_planes(images[start : start + PART]), views)  # (n, C, S, S) each
            faces = (view.transpose(0, 2, 3, 1) if color else view[:, 0] for view in planes)
            of_parts.append([self.network.probabilities(view) for view in faces])
        of_views = [np.concatenate(view) for view in zip(*of_parts, strict=True)]
        if self.temperature is None:
            return mean_of(of_views), None
        return mean_of(of_views), mean_of([uncalibrated(view, self.temperature) for view in of_views])


def _stored(network: onnx.EmotionNetwork) -> "DataSettings | None":
    group = network.metadata.get("group")
    if network.size == FACE_SIZE and not network.color and group is None:
        return None
    errors.import_extra("pydantic", "train")
    from mien.recipe import DataSettings

    # Other programs' networks may have sizes that no recipe allows; data of another size are refused with theirs.
    return DataSettings.model_construct(size=network.size, color=network.color, group=group)


def _temperature(network: onnx.EmotionNetwork) -> float | None:
    written = network.metadata.get("temperature")
    try:
        temperature = None if written is None else float(written)
    except ValueError:
        temperature = 0.0
    if temperature is None or 0 < temperature < math.inf:
        return temperature
    raise errors.ModelError(f"{network.path}: expected a temperature above 0, got {written!r}; {onnx.EXPORT_REMEDY}")


def _split(network: onnx.EmotionNetwork) -> tuple[SplitProtocol, int | None, Fold | None]:
    """The protocol, and the number of rows or the fold held out, as ``mien export`` writes them into a file."""
    said = {"protocol": SplitProtocol.CONTEST.value, **network.metadata}
    rows, number = said.get("validation_rows"), said.get("fold")
    try:
        fold = None if number is None else Fold(int(number), int(said.get("folds", "")))
        if fold is not None and not 0 <= fold.number < fold.count:
            raise ValueError("no such fold")
        return SplitProtocol(said["protocol"]), None if rows is None else int(rows), fold
    except ValueError as error:
        got = ", ".join(f"{key} {said[key]!r}" for key in SPLIT if key in said)
        raise errors.ModelError(
            f"{network.path}: expected a protocol ({', '.join(SplitProtocol)}), a number of validation rows, and a fold"
            f" of several, got {got}; {onnx.EXPORT_REMEDY}"
        ) from error


def _file_learnt(network: onnx.EmotionNetwork) -> Learnt:
    if _is_shipped(network):
        return Learnt(np.unique(load_index().picture_hashes[:TRAINING_ROWS]), is_complete=True)
    sha256, pictures = (network.metadata.get(key) for key in LEARNT)
    return learnt_beside(network.path, sha256, is_complete=pictures is not None)


def _is_shipped(network: onnx.EmotionNetwork) -> bool:
    return network.path.resolve() in onnx.shipped_models().values()


def _file_report(network: onnx.EmotionNetwork, predictor: OnnxPredictor) -> Report:
    content = network.path.read_bytes()
    card = onnx.read_card(network.path) if _is_shipped(network) else {}
    learnt, fold = predictor.learnt, predictor.fold
    known = {
        **{key: value for key, value in card.items() if key != "results"},
        **{key: value for key, value in sorted(network.metadata.items()) if key not in ("labels", *LEARNT)},
        **({} if network.classes == EMOTIONS else {"labels": list(network.classes)}),
        **({"learnt_pictures": len(learnt.hashes)} if learnt.is_complete and not card else {}),
        **({} if fold is None else {"fold": fold.number, "folds": fold.count}),
        **({"color": True} if network.color else {}),
        **({} if predictor.temperature is None else {"temperature": predictor.temperature}),
        "file": network.path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "protocol": predictor.protocol.value,
    }
    return parse_report({"model": network.path.stem, **known}, source=str(network.path))


def predict_logits(
    classifier: "FaceClassifier", images: Images, *, views: int = 1, batch_size: int = 256
) -> NDArray[np.float32]:
    """Logits of 1, 2 or 10 views of faces, uint8 ``(N, H, W[, 3])`` -> float32 ``(V, N, K)``, on the network's device.

    The network is left in evaluation mode.

    Raises:
        ModelError: the network answers with values that are no finite numbers.
    """
    import torch

    from mien.models import face_tensor

    device = next(classifier.parameters()).device
    classifier.eval()
    batches = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            faces = face_tensor(np.array(images[start : start + batch_size])).to(device)  # (n, C, H, W)
            of_views = [classifier(view) for view in face_views(faces, views)]
            batches.append(torch.stack(of_views).float().cpu().numpy())  # (V, n, K)
    logits = np.concatenate(batches, axis=1)
    bad = int(np.count_nonzero(~np.isfinite(logits).all((0, 2))))
    if bad:
        raise errors.ModelError(
            f"expected finite logits, got others for {bad} of {logits.shape[1]} faces: its training diverged; lower"
            " optimizer.lr, or set training.clip_norm, and train it again"
        )
    return logits


def face_views(faces: Faces, views: int) -> list[Faces]:
    """The views of stored faces ``(..., H, W)``, arrays or tensors, each of the same shape.

    1 = the face; 2 = with its mirror image; 10 = centre and four shifts, the edge repeated, each with its mirror image.

    Raises:
        ValueError: ``views`` is not 1, 2 or 10.
    """
    if views not in VIEWS:
        raise ValueError(f"expected views to be one of {VIEWS}, got {views}")
    height, width = faces.shape[-2:]
    shifts = [(0, 0)]
    if views == 10:
        shifts += [(down, right) for down in (-SHIFT, SHIFT) for right in (-SHIFT, SHIFT)]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    pixels = [((rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1)) for down, right in shifts]
    if views > 1:
        pixels += [(down, right[::-1].copy()) for down, right in pixels]  # mirrored
    return [faces[..., down, right] for down, right in pixels]


def probabilities_of(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Softmax of logits over a temperature, averaged over views: ``(V, N, K) -> (N, K)``."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))
    of_views: NDArray[np.float64] = exponentials / exponentials.sum(-1, keepdims=True)
    averaged: NDArray[np.float32] = of_views.mean(0).astype(np.float32)
    return averaged


def mean_of(probabilities: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of several views' or networks' probabilities of the same faces, each ``(N, K)``."""
    averaged: NDArray[np.float32] = np.stack(probabilities).mean(0, dtype=np.float64).astype(np.float32)
    return averaged


def logits_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits that have these probabilities: ``(N, K) -> (1, N, K)``, as of one view."""
    logits: NDArray[np.float32] = np.log(probabilities.clip(np.finfo(np.float32).tiny))[None]
    return logits


def uncalibrated(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """What probabilities of one view ``(N, K)`` were before the temperature."""
    return probabilities_of(logits_of(probabilities), 1 / temperature)


def device_type(accelerator: str) -> str:
    """``cpu`` or ``cuda``, for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        CallError: ``cuda`` is asked for, and torch has no GPU.
    """
    import torch

    if accelerator == "cuda" and not torch.cuda.is_available():
        raise errors.CallError("expected a GPU that torch can use for --accelerator cuda, got none; take cpu or auto")
    return "cuda" if accelerator in ("auto", "cuda") and torch.cuda.is_available() else "cpu"


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the rest of this process; false where the C library is another one.

    Else it gives large blocks back after every pass, and the system clears them again page by page: on two cores up to
    a third of the time of a training step (docs/decisions/0011). A process then holds as much as its largest step
    needed. Source: mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # No block comes from the system by itself, and the heap never shrinks (-1).
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
