"""Labelled faces in memory or memory-mapped, and the splits that the protocols make of them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.data import holdout, pictures
from mien.data.paths import PathTable
from mien.emotions import EMOTIONS, as_classes
from mien.errors import DataError

if TYPE_CHECKING:
    from mien.recipe import DataSettings

UNLABELLED = -1

SEVEN: tuple[str, ...] = tuple(emotion.value for emotion in EMOTIONS)
"""FER-2013's classes, which data have unless they bring their own."""

MIN_CLASSES, MAX_CLASSES = 2, 50


class Split(StrEnum):
    """The splits by name. ``published_test`` is ``public_test`` and ``private_test`` together."""

    TRAINING = "training"
    VALIDATION = "validation"
    PUBLIC_TEST = "public_test"
    PRIVATE_TEST = "private_test"
    PUBLISHED_TEST = "published_test"


class Protocol(StrEnum):
    """How the splits are used (challenge: Goodfellow et al. 2013, arXiv:1307.0414).

    ``contest``: validation = PublicTest, test = PrivateTest, as in the challenge.
    ``published``: validation = an eighth of Training (3,589 rows of FER-2013), test = Public and Private together.
    """

    CONTEST = "contest"
    PUBLISHED = "published"


class Usage(IntEnum):
    """Where a picture comes from. ``TEST`` is Public or Private where a layout does not tell them apart."""

    TRAINING = 0
    PUBLIC_TEST = 1
    PRIVATE_TEST = 2
    TEST = 3


class RowSource(StrEnum):
    """What the row numbers rest on: FER-2013's picture hashes, the order in the file, or the sorted paths."""

    INDEX = "index"
    FILE = "file"
    PATH = "path"


FER2013_SPLITS: Mapping[Usage, str] = {
    Usage.TRAINING: "Training",
    Usage.PUBLIC_TEST: "PublicTest",
    Usage.PRIVATE_TEST: "PrivateTest",
}
"""Names of data that are not FER-2013 and are split as it is."""

OWN_SPLITS: Mapping[Usage, str] = {
    Usage.TRAINING: "training",
    Usage.PUBLIC_TEST: "validation",
    Usage.PRIVATE_TEST: "test",
    Usage.TEST: "test",
}
"""Names of the splits of other data, where they do not say their own."""

REMEDIES: dict[Split, str] = {
    Split.TRAINING: "put the pictures to train on into PATH/train/<class>/",
    Split.VALIDATION: (
        "hold some of Training out (--set data.protocol=published), put pictures into PATH/val/<class>/, or ask for"
        " another split, such as --split test"
    ),
    Split.PUBLISHED_TEST: "put pictures with labels into PATH/test/<class>/, or ask for another split",
}
"""What to do where a split has no face with a label, if it is more than to ask for another split."""


@dataclass(frozen=True)
class Fold:
    """Part ``number``, from 0 on, of the ``count`` equal parts of Training, for cross-validation."""

    number: int
    count: int


_Wanted = tuple[Split, Protocol, int | None, Fold | None]


@dataclass(frozen=True)
class FaceSamples:
    """Labelled faces, sorted by row.

    Attributes:
        images: uint8 ``(N, S, S)``, grey, or ``(N, S, S, 3)``, RGB; may be memory-mapped.
        labels: int8 ``(N,)``, index into ``classes``; ``-1`` where there is no label.
        rows: int32 ``(N,)``, strictly increasing; for FER-2013 the row of the original ``fer2013.csv``.
        usages: int8 ``(N,)``, values of ``Usage``.
        name: of the data set, ``"fer2013"`` or ``"synthetic"``; stands in every report.
        row_source: what ``rows`` rest on.
        skipped: a line for each picture that was left out on request.
        classes: names of the 2 to 50 classes, in the order of their labels.
        paths: the file of each face, where each has one.
        groups: int32 ``(N,)``, number of the person or other subject that a face shows, ``-1`` unknown; ``None`` where
            nobody asked for it.
        split_names: what the data call their splits, such as ``val``; by default ``OWN_SPLITS``, and nothing for
            FER-2013 and drawn faces. Unless they are ``FER2013_SPLITS``, ``PUBLIC_TEST`` is the data's own validation.

    Raises:
        DataError: the arrays do not belong together.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int8]
    rows: NDArray[np.int32]
    usages: NDArray[np.int8]
    name: str
    row_source: RowSource
    skipped: tuple[str, ...] = field(default=())
    classes: tuple[str, ...] = SEVEN
    paths: PathTable | None = None
    groups: NDArray[np.int32] | None = None
    split_names: Mapping[Usage, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.split_names and self.name not in ("fer2013", "synthetic"):
            object.__setattr__(self, "split_names", OWN_SPLITS)
        count, shape = len(self.images), self.images.shape
        if shape[3:] not in ((), (3,)) or shape[1:2] != shape[2:3] or self.images.dtype != np.uint8:
            raise DataError(f"expected faces uint8 (N, S, S) or (N, S, S, 3), got {self.images.dtype} {shape}")
        for name in ("labels", "rows", "usages"):
            if getattr(self, name).shape != (count,):
                raise DataError(f"expected {count} {name} for {count} faces, got {getattr(self, name).shape}")
        for name in ("paths", "groups"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise DataError(f"expected {count} {name} for {count} faces, got {len(values)}")
        if not MIN_CLASSES <= len(self.classes) <= MAX_CLASSES:
            raise DataError(f"expected {MIN_CLASSES} to {MAX_CLASSES} classes, got {len(self.classes)}")
        try:
            as_classes(self.classes)
        except ValueError as error:
            raise DataError(f"{self.name}: {error}; rename the classes") from error
        if count and (self.labels.min() < UNLABELLED or self.labels.max() >= len(self.classes)):
            low, high = self.labels.min(), self.labels.max()
            raise DataError(f"expected labels of 0 to {len(self.classes) - 1}, got {low} to {high}")
        if (np.diff(self.rows) <= 0).any():
            raise DataError("expected strictly increasing rows, got a row twice, or unsorted rows")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Side of a face in pixels."""
        return int(self.images.shape[1])

    @property
    def color(self) -> bool:
        """Whether the faces are RGB."""
        return self.images.ndim == 4

    @property
    def in_chans(self) -> int:
        """Channels of a face: 1 or 3."""
        return 3 if self.color else 1

    @property
    def has_own_splits(self) -> bool:
        """Whether the data are not split as FER-2013 is, into Public and Private."""
        return bool(self.split_names) and self.split_names != FER2013_SPLITS

    def with_classes(self, classes: tuple[str, ...]) -> "FaceSamples":
        """The same faces with labels that index into ``classes``, which may be more than the faces have.

        Raises:
            DataError: labelled faces are of a class that is not among them.
        """
        if self.classes == classes:
            return self
        present = np.unique(self.labels[self.labels != UNLABELLED])
        missing = [self.classes[label] for label in present if self.classes[label] not in classes]
        if missing:
            raise DataError(
                f"{self.name}: expected faces of the classes {', '.join(classes)}, got some of {', '.join(missing)};"
                " leave these out (--skip-unmapped), map them (--label-map FILE), or take a network that names them"
            )
        place = {name: label for label, name in enumerate(classes)}
        table = [*(place.get(name, UNLABELLED) for name in self.classes), UNLABELLED]  # its last stands for -1
        found = replace(self, labels=np.array(table, np.int8)[self.labels], classes=classes)
        if "hashes" in self.__dict__:  # of the same pictures
            found.__dict__["hashes"] = self.hashes
        return found

    def with_groups(self, groups: NDArray[np.int32]) -> "FaceSamples":
        """The same faces by subject, ``(N,)``."""
        found = replace(self, groups=groups)
        found.__dict__.update({name: self.__dict__[name] for name in ("hashes", "_sha256") if name in self.__dict__})
        return found

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """:func:`picture_hashes` of all pictures, ``(N,)``."""
        return picture_hashes(self.images)

    def content_sha256(self) -> str:
        """Hash of rows, labels and pixels (hexadecimal); equal for every lossless layout of the same data.

        Classes other than the seven count too.
        """
        return self._sha256

    def remembering(self, hashes: NDArray[np.uint64], sha256: str) -> "FaceSamples":
        """Itself, with these values of :attr:`hashes` and :meth:`content_sha256`, which are not computed again."""
        self.__dict__.update(hashes=hashes, _sha256=sha256)
        return self

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256(b"" if self.classes == SEVEN else json.dumps(self.classes).encode())
        for values in (self.rows.astype("<i4"), self.labels):
            digest.update(np.ascontiguousarray(values).tobytes())
        for block in pictures.blocks(self.images):
            digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    def split(
        self,
        split: Split,
        protocol: Protocol = Protocol.CONTEST,
        validation_rows: int | None = None,
        fold: Fold | None = None,
    ) -> NDArray[np.int64]:
        """Indices of the labelled faces of a split, int64 ``(M,)``, increasing.

        Args:
            split: which one.
            protocol: decides what ``training`` and ``validation`` are; the test splits are the same in both. Where
                the data bring a validation split of their own, it is ``validation`` in both and no part of
                ``published_test``.
            validation_rows: faces that ``published`` holds out of Training; ``None`` is an eighth of them,
                which is 3,589 of FER-2013's 28,709. By subject it is met as nearly as whole subjects allow.
            fold: the part of Training that is ``validation``, whatever the protocol; the rest is ``training``.

        Raises:
            DataError: the data do not have this split.
        """
        wanted = (split, protocol, validation_rows, fold)
        if wanted not in self._splits:
            indices = self._indices(*wanted)
            if len(indices) == 0:
                raise DataError(self._lacking(split))
            indices.flags.writeable = False  # whoever asks gets the same
            self._splits[wanted] = indices
        return self._splits[wanted]

    @cached_property
    def _splits(self) -> dict[_Wanted, NDArray[np.int64]]:
        """Those that were asked for, by the arguments of :meth:`split`: they are asked for many times."""
        return {}

    def _indices(
        self, split: Split, protocol: Protocol, validation_rows: int | None, fold: Fold | None
    ) -> NDArray[np.int64]:
        if self.has_own_splits and split in (Split.PUBLIC_TEST, Split.PRIVATE_TEST):
            raise DataError(
                f"{self.name}: expected a split of data that are not FER-2013's, got {split}; use --split"
                f" {Split.VALIDATION} (their val/) or --split {Split.PUBLISHED_TEST} (their test/)"
            )
        labelled = self.labels != UNLABELLED
        own_validation = self.has_own_splits and bool((self.usages == Usage.PUBLIC_TEST).any())
        is_held_out = (protocol is Protocol.PUBLISHED and not own_validation) or fold is not None
        if split is Split.TRAINING or (split is Split.VALIDATION and is_held_out):
            indices = np.flatnonzero(labelled & (self.usages == Usage.TRAINING))
            if not is_held_out or not len(indices):
                return indices
            held_out = self._held_out(indices, validation_rows, fold)
            return indices[held_out if split is Split.VALIDATION else ~held_out]
        if split is Split.PUBLISHED_TEST:
            is_test = (self.usages != Usage.TRAINING) & ~(own_validation & (self.usages == Usage.PUBLIC_TEST))
            return np.flatnonzero(labelled & is_test)
        if not self.has_own_splits and (self.usages == Usage.TEST).any():
            raise DataError(
                f"{split}: expected pictures of Public and Private told apart, got one test split (rows come from"
                f" {self.row_source}: pixels that differ from FER-2013's, as in JPEG copies, or another data set);"
                " use published_test (to train: --set data.protocol=published), a lossless copy, or folders train,"
                " validation and test"
            )
        usage = Usage.PRIVATE_TEST if split is Split.PRIVATE_TEST else Usage.PUBLIC_TEST
        return np.flatnonzero(labelled & (self.usages == usage))

    def _lacking(self, split: Split) -> str:
        """What to say where a split has no labelled face."""
        counts = {self.split_name(usage): int((self.usages == usage).sum()) for usage in Usage}
        found = ", ".join(f"{count:,} of {usage}" for usage, count in counts.items() if count) or "no picture"
        return (
            f"{self.name}: expected labelled faces in {split}, got {found}, {(self.labels != UNLABELLED).sum():,} with"
            f" a label; {REMEDIES.get(split, 'ask for another split')}"
        )

    def split_for(self, split: Split, settings: "DataSettings") -> NDArray[np.int64]:
        """:meth:`split` as a recipe's ``[data]`` makes it."""
        fold = None if settings.fold is None else Fold(settings.fold, settings.folds)
        return self.split(split, Protocol(settings.protocol), settings.validation_rows, fold)

    def split_name(self, usage: Usage) -> str:
        """What the data call a split, or its name here."""
        return {**OWN_SPLITS, **self.split_names}[usage] if self.has_own_splits else usage.name.lower()

    def name_of(self, indices: NDArray[np.int64]) -> str | None:
        """What data with splits of their own call those, not for training, of the faces at ``indices`` ``(M,)``."""
        usages = np.unique(self.usages[indices]).tolist()
        if not self.has_own_splits or Usage.TRAINING in usages:
            return None
        return " and ".join(dict.fromkeys(self.split_name(Usage(usage)) for usage in usages))

    def _held_out(self, training: NDArray[np.int64], count: int | None, fold: Fold | None) -> NDArray[np.bool_]:
        labels, groups = self.labels[training], self.hashes[training]
        if self.groups is not None:
            groups = holdout.joined(groups, self.groups[training])
        if fold is not None:
            held_out: NDArray[np.bool_] = holdout.stratified_folds(labels, groups, fold.count) == fold.number
            return held_out
        count = round(len(training) / 8) if count is None else count
        hold_out = holdout.stratified_holdout if self.groups is None else holdout.grouped_holdout
        return hold_out(labels, groups, count)

    def shared_subjects(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int32]:
        """Subjects that stand among the faces at both indices, sorted; none where subjects are unknown."""
        if self.groups is None:
            return np.empty(0, np.int32)
        both = np.intersect1d(self.groups[one], self.groups[other])
        return both[both >= 0]

    def subjects_in_two_splits(self) -> dict[tuple[Usage, Usage], int]:
        """Two splits as the data bring them -> how many subjects stand in both, where there are any."""
        found = {
            pair: len(self.shared_subjects(*(np.flatnonzero(self.usages == usage) for usage in pair)))
            for pair in combinations(map(Usage, np.unique(self.usages).tolist()), 2)
        }
        return {pair: number for pair, number in found.items() if number}


def picture_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64-bit BLAKE2b of each picture's pixels: ``(N, S, S[, 3]) -> (N,)``. Equal pictures have equal hashes."""
    digests = b"".join(
        hashlib.blake2b(image.tobytes(), digest_size=8).digest() for block in pictures.blocks(images) for image in block
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
