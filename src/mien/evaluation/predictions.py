"""Predictions of a split: probabilities of its faces, stored as npz, ours or another tool's."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.data import FaceSamples
from mien.emotions import EMOTIONS, as_classes
from mien.files import writing
from mien.runs import Run

HALVES = {"published_test": ("public_test", "private_test")}
"""A split that is two others -> these, in the order of its rows."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities of a split's faces.

    Attributes:
        row: int32 ``(N,)``, the data set's row numbers, each once.
        label: int8 ``(N,)``, index into ``classes``.
        probabilities: float32 ``(N, K)``, rows sum to one.
        classes: names of the K classes, in the order of their labels.
        group: int32 ``(N,)``, number of the subject that each face shows, ``-1`` unknown; ``None`` without subjects.

    Raises:
        DataError: the arrays do not belong together, or are no probabilities.
    """

    row: NDArray[np.int32]
    label: NDArray[np.int8]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...] = EMOTIONS
    group: NDArray[np.int32] | None = None

    @classmethod
    def of(cls, samples: FaceSamples, indices: NDArray[np.int64], probabilities: NDArray[np.float32]) -> "Predictions":
        """Of the faces at ``indices`` ``(N,)`` of a data set."""
        group = None if samples.groups is None else samples.groups[indices]
        return cls(samples.rows[indices], samples.labels[indices], probabilities, samples.classes, group)

    def __post_init__(self) -> None:
        count, classes = len(self.row), len(self.classes)
        if self.row.shape != (count,) or self.label.shape != (count,) or self.probabilities.shape != (count, classes):
            raise errors.DataError(
                f"expected row (N,), label (N,) and probabilities (N, {classes}),"
                f" got {self.row.shape}, {self.label.shape} and {self.probabilities.shape};"
                " save the names of other classes than the seven emotions as classes (K,)"
            )
        if self.group is not None and self.group.shape != (count,):
            raise errors.DataError(
                f"expected group ({count},), the number of each face's subject, got {self.group.shape}"
            )
        if count == 0:
            raise errors.DataError("expected predictions of at least one face, got none")
        if len(np.unique(self.row)) != count:
            raise errors.DataError("expected predictions of every row once, got some rows twice")
        low, high = self.label.min(), self.label.max()
        if low < 0 or high >= classes:
            raise errors.DataError(f"expected labels from 0 to {classes - 1}, got {low} to {high}")
        sums = self.probabilities.sum(1, dtype=np.float64)
        wrong = ~np.isfinite(sums) | (abs(sums - 1) > 1e-3) | (self.probabilities < 0).any(1)
        if wrong.any():
            raise errors.DataError(
                "expected probabilities from 0 to 1 that sum to one,"
                f" got others in {wrong.sum()} rows, first in row {self.row[wrong][0]}"
            )

    def __len__(self) -> int:
        return len(self.row)

    def subset(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Predictions":
        """The faces where a mask ``(N,)`` is true, or those at indices, in their order."""
        group = None if self.group is None else self.group[chosen]
        return Predictions(self.row[chosen], self.label[chosen], self.probabilities[chosen], self.classes, group)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that no face has."""
        totals = np.bincount(self.label, minlength=len(self.classes))
        return tuple(name for name, total in zip(self.classes, totals.tolist(), strict=True) if not total)

    def among_present(self) -> "Predictions":
        """The same with the probabilities of absent classes taken out, and those of the others summing to one."""
        present = np.isin(np.arange(len(self.classes)), self.label)
        kept = self.probabilities.astype(np.float64) * present
        kept[kept.sum(1) == 0] = present  # all certainty lies elsewhere: nothing is said about these
        return replace(self, probabilities=(kept / kept.sum(1, keepdims=True)).astype(np.float32))

    def save(self, path: Path) -> None:
        """Write a compressed npz with the fields' names, whole or not at all; the seven emotions are not named."""
        named: dict[str, NDArray[np.generic]] = {}
        named |= {} if self.classes == EMOTIONS else {"classes": np.array(self.classes, np.str_)}
        named |= {} if self.group is None else {"group": self.group}
        with writing(path, error=errors.RunError) as file:
            np.savez_compressed(file, row=self.row, label=self.label, probabilities=self.probabilities, **named)  # type: ignore[arg-type]


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of different faces, one after another.

    Raises:
        DataError: a row is in two of them.
    """
    row, label, probabilities = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "label", "probabilities")
    )
    groups = [part.group for part in parts if part.group is not None]
    return Predictions(
        row, label, probabilities, parts[0].classes, np.concatenate(groups) if len(groups) == len(parts) else None
    )


def load_predictions(path: Path) -> Predictions:
    """Read stored predictions, ours or another tool's.

    Raises:
        MissingPathError: there is no such file.
        DataError: it is no npz with ``row``, ``label`` and ``probabilities``, or they are no predictions.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            row, label, probabilities = arrays["row"], arrays["label"], arrays["probabilities"]
            classes = as_classes(arrays["classes"].tolist()) if "classes" in arrays else EMOTIONS
            group = arrays["group"].astype(np.int32) if "group" in arrays else None
        return Predictions(
            row.astype(np.int32), label.astype(np.int8), probabilities.astype(np.float32), classes, group
        )
    except FileNotFoundError as error:
        raise errors.MissingPathError(f"no predictions at {path}") from error
    except errors.DataError as error:
        raise errors.DataError(f"{path}: {error}") from error
    except (KeyError, ValueError, OSError, EOFError, BadZipFile, zlib.error, TypeError) as error:
        raise errors.DataError(
            f"{path}: expected an npz with row (N,), label (N,) and probabilities (N, {len(EMOTIONS)}), or (N, K) with"
            f" classes (K,), got {error}"
        ) from error


def prediction_files(run: Run, split: str) -> list[Path]:
    """Files that hold a run's predictions of a split: its own, or its two halves'; none where they are missing."""
    for names in ((split,), HALVES.get(split, ())):
        files = [run.predictions_path(name) for name in names]
        if files and all(file.exists() for file in files):
            return files
    return []


def load_split_predictions(run: Run, split: str) -> Predictions:
    """A run's stored predictions of a split; those of ``published_test`` can be joined from its halves.

    Raises:
        MissingPathError: they are not stored.
        DataError: they are damaged.
    """
    files = prediction_files(run, split) or [run.predictions_path(split)]
    return joined([load_predictions(file) for file in files])
