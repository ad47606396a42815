"""What a network learnt from, as hashes of pictures, so that "unseen" is true of any data.

``learnt.npy`` of a run, and ``NAME.learnt.npy`` beside an exported ``NAME.onnx``, hold uint64 ``(M,)``, sorted, each
once: ``data.samples.picture_hashes`` of Training, the part that was held out to choose on included, and of what its
teachers and the weights that it began from had learnt from. They are of pixels as they were stored: a copy of another
size, colour or compression is another picture. Weights from ImageNet by name count as
nothing, and so does a validation split apart from Training, such as PublicTest. Behind those of a file that mien did
not write there may be any.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples
from mien.data.samples import Usage
from mien.errors import RunError
from mien.files import writing
from mien.runs.run import Run

NOTHING: NDArray[np.uint64] = np.empty(0, np.uint64)


@dataclass(frozen=True)
class Learnt:
    """Hashes of pictures; ``is_complete`` where no others are behind the weights."""

    hashes: NDArray[np.uint64]
    is_complete: bool

    def holds(self, samples: FaceSamples, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the faces at ``indices`` ``(N,)`` are identical to one of the pictures: ``(N,)``."""
        return np.isin(samples.hashes[indices], self.hashes)

    def with_others(self, others: Iterable["Learnt"]) -> "Learnt":
        """These and what others learnt from."""
        found = [self, *others]
        return Learnt(np.unique(np.concatenate([each.hashes for each in found])), all(e.is_complete for e in found))

    def content(self) -> bytes:
        """The bytes of ``learnt.npy``."""
        buffer = io.BytesIO()
        np.save(buffer, self.hashes)
        return buffer.getvalue()

    def save(self, path: Path) -> None:
        """Write the hashes, whole or not at all; raises ``RunError``."""
        with writing(path, error=RunError) as file:
            file.write(self.content())


UNKNOWN = Learnt(NOTHING, is_complete=False)


def training_of(samples: FaceSamples) -> Learnt:
    """Training, whole: also what is held out of it to choose on."""
    return Learnt(np.unique(samples.hashes[samples.usages == Usage.TRAINING]), is_complete=True)


def learnt_by(run: Run) -> Learnt:
    """What a finished run learnt from; ``UNKNOWN`` of one from before hashes were kept.

    Raises:
        RunError: its report or ``learnt.npy`` is damaged.
    """
    is_complete = run.report_path.exists() and run.load_report().learnt_pictures is not None
    return Learnt(_read(run.learnt_path), is_complete) if run.learnt_path.exists() else UNKNOWN


def beside(model: Path) -> Path:
    """The hashes' file of an exported network."""
    return model.with_suffix(".learnt.npy")


def learnt_beside(model: Path, sha256: str | None, *, is_complete: bool) -> Learnt:
    """What an exported network learnt from, by the file beside it; ``UNKNOWN`` where that is gone, or another's.

    ``sha256`` of that file is what the network says.

    Raises:
        RunError: the file is damaged.
    """
    path = beside(model)
    if sha256 is None or not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        return UNKNOWN
    return Learnt(_read(path), is_complete)


def _read(path: Path) -> NDArray[np.uint64]:
    try:
        hashes = np.load(path, allow_pickle=False)
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise ValueError(f"expected uint64 (M,), got {hashes.dtype} {hashes.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{path} is damaged: {error}; delete it, then it is unknown what the network saw") from error
    found: NDArray[np.uint64] = hashes
    return found
