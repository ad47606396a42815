"""A network over a split -> stored predictions. Torch is imported where a network is run, not to read them."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import CallError, DataError, MissingPathError, ModelError
from mien.runs import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from mien.data import FaceSamples
    from mien.models import FaceClassifier

Faces = TypeVar("Faces", NDArray[np.uint8], "Tensor")

VIEWS = (1, 2, 10)
SHIFT = 2
"""Pixels by which four of the ten views are shifted."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities of a split's faces.

    Attributes:
        row: int32 ``(N,)``, the data set's row numbers, each once.
        label: int8 ``(N,)``, index into ``EMOTIONS``.
        probabilities: float32 ``(N, 7)``, rows sum to one.

    Raises:
        DataError: the arrays do not belong together, or are no probabilities.
    """

    row: NDArray[np.int32]
    label: NDArray[np.int8]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        count, classes = len(self.row), len(EMOTIONS)
        if self.row.shape != (count,) or self.label.shape != (count,) or self.probabilities.shape != (count, classes):
            raise DataError(
                f"predictions are row (N,), label (N,) and probabilities (N, {classes});"
                f" {self.row.shape}, {self.label.shape} and {self.probabilities.shape} came"
            )
        if count == 0:
            raise DataError("predictions must hold at least one face; none came")
        if len(np.unique(self.row)) != count:
            raise DataError("predictions must hold every row once; some rows come twice")
        if self.label.min() < 0 or self.label.max() >= classes:
            raise DataError(f"labels must be 0 to {classes - 1}; {self.label.min()} to {self.label.max()} came")
        sums = self.probabilities.sum(1, dtype=np.float64)
        if not np.isfinite(self.probabilities).all() or self.probabilities.min() < 0 or abs(sums - 1).max() > 1e-3:
            wrong = ~np.isfinite(sums) | (abs(sums - 1) > 1e-3) | (self.probabilities < 0).any(1)
            raise DataError(
                "probabilities must be 0 to 1 and sum to one;"
                f" {wrong.sum()} rows do not, the first is row {self.row[wrong][0]}"
            )

    def __len__(self) -> int:
        return len(self.row)

    def subset(self, mask: NDArray[np.bool_]) -> "Predictions":
        """The faces where ``mask`` ``(N,)`` is true."""
        return Predictions(self.row[mask], self.label[mask], self.probabilities[mask])

    def save(self, path: Path) -> None:
        """Write a compressed npz with the fields' names, whole or not at all."""
        arrays: dict[str, Any] = {"row": self.row, "label": self.label, "probabilities": self.probabilities}
        write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def load_predictions(path: Path) -> Predictions:
    """Read stored predictions, ours or another tool's.

    Raises:
        MissingPathError: there is no such file.
        DataError: it is no npz with ``row``, ``label`` and ``probabilities``, or they are no predictions.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            row, label, probabilities = (arrays[name] for name in ("row", "label", "probabilities"))
    except FileNotFoundError as error:
        raise MissingPathError(f"no predictions at {path}") from error
    except (KeyError, ValueError, OSError, EOFError, BadZipFile, zlib.error, TypeError) as error:
        raise DataError(
            f"{path}: expected an npz with row (N,), label (N,) and probabilities (N, {len(EMOTIONS)}): {error}"
        ) from error
    try:
        return Predictions(row.astype(np.int32), label.astype(np.int8), probabilities.astype(np.float32))
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error


def predict_logits(
    classifier: "FaceClassifier", images: NDArray[np.uint8], *, views: int = 1, batch_size: int = 256
) -> NDArray[np.float32]:
    """Logits of every view of every face, on the network's device, in float32.

    Args:
        classifier: the network; left in evaluation mode.
        images: uint8 ``(N, H, W)``.
        views: 1 = the face; 2 = with its mirror image; 10 = centre and four shifts, each with its mirror image.
        batch_size: faces per pass.

    Returns:
        float32 ``(V, N, K)``.

    Raises:
        ModelError: the network answers with values that are no finite numbers.
    """
    import torch

    device = next(classifier.parameters()).device
    classifier.eval()
    batches = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            faces = torch.from_numpy(np.array(images[start : start + batch_size])).unsqueeze(1).to(device)
            of_views = [classifier(classifier.prepare(view)) for view in face_views(faces, views)]
            batches.append(torch.stack(of_views).float().cpu().numpy())  # (V, n, K)
    logits = np.concatenate(batches, axis=1)
    bad = int(np.count_nonzero(~np.isfinite(logits).all((0, 2))))
    if bad:
        raise ModelError(
            f"expected finite numbers of the network, came others for {bad} of {logits.shape[1]} faces: its training"
            " diverged; lower optimizer.lr, or set training.clip_norm, and train it anew"
        )
    return logits


def face_views(faces: Faces, views: int) -> list[Faces]:
    """The views of stored faces ``(..., H, W)``, arrays or tensors, each of the same shape. Shifts replicate the edge.

    Raises:
        ValueError: ``views`` is not 1, 2 or 10.
    """
    if views not in VIEWS:
        raise ValueError(f"views must be one of {VIEWS}; {views} came")
    height, width = faces.shape[-2:]
    shifts = [(0, 0)]
    if views == 10:
        shifts += [(down, right) for down in (-SHIFT, SHIFT) for right in (-SHIFT, SHIFT)]
    pixels = [(_shifted(height, down)[:, None], _shifted(width, right)) for down, right in shifts]
    if views > 1:
        pixels += [(rows, columns[::-1].copy()) for rows, columns in pixels]  # mirrored
    return [faces[..., rows, columns] for rows, columns in pixels]


def _shifted(size: int, shift: int) -> NDArray[np.int64]:
    """Which of ``size`` pixels each pixel shows: int64 ``(size,)``."""
    return np.clip(np.arange(size) + shift, 0, size - 1)


def probabilities_of(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Softmax of logits over a temperature, averaged over views: ``(V, N, K) -> (N, K)``."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(-1, keepdims=True)
    averaged: NDArray[np.float32] = shares.mean(0).astype(np.float32)
    return averaged


def mean_of(probabilities: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of several views' or networks' probabilities of the same faces: each ``(N, K)``, as it is."""
    averaged: NDArray[np.float32] = np.stack(probabilities).mean(0, dtype=np.float64).astype(np.float32)
    return averaged


def logits_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits that have these probabilities: ``(N, K) -> (1, N, K)``, as of one view."""
    logits: NDArray[np.float32] = np.log(probabilities.clip(np.finfo(np.float32).tiny))[None]
    return logits


def uncalibrated(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """What probabilities of one view ``(N, K)`` were before the temperature."""
    return probabilities_of(logits_of(probabilities), 1 / temperature)


def predict_split(
    classifier: "FaceClassifier",
    samples: "FaceSamples",
    positions: NDArray[np.int64],
    *,
    temperature: float = 1.0,
    views: int = 1,
) -> tuple[Predictions, NDArray[np.float32]]:
    """Calibrated predictions of the faces at ``positions`` ``(M,)``, and the uncalibrated probabilities ``(M, 7)``."""
    logits = predict_logits(classifier, samples.images[positions], views=views)
    predictions = Predictions(samples.rows[positions], samples.labels[positions], probabilities_of(logits, temperature))
    return predictions, probabilities_of(logits)


def device_type(accelerator: str) -> str:
    """``cpu`` or ``cuda``, of ``auto``, ``cpu`` or ``cuda``.

    Raises:
        CallError: ``cuda`` is asked for, and torch has none.
    """
    import torch

    if accelerator == "cuda" and not torch.cuda.is_available():
        raise CallError("--accelerator cuda needs a GPU that torch can use, came none; take cpu or auto")
    return "cuda" if accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available()) else "cpu"
