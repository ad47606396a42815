"""Faces as a layout holds them, before it is known which data set they are.

Also what the names of folders, files and columns tell: splits, classes, and the usage that splits come to.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import emotions, errors
from mien.data.layouts.subjects import numbered
from mien.data.samples import FER2013_SPLITS, FaceSamples, RowSource, Split, Usage
from mien.face.crop import FACE_SIZE, crop_face
from mien.face.images import decode_image

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), Split.TRAINING),
    **dict.fromkeys(("val", "valid", "validation"), Split.VALIDATION),
    "publictest": Split.PUBLIC_TEST,
    "privatetest": Split.PRIVATE_TEST,
    **dict.fromkeys(("test", "testing"), Split.PUBLISHED_TEST),
}
"""Lower-case name without spaces, ``_`` and ``-`` -> split. A plain ``test`` may hold Public and Private together."""
SHORT_SPLIT_NAMES = ("train", "val", "test")
"""Those of folders in the wild, which stand beside the full ones where names are listed."""

SPLIT_PREFIXES: dict[str, Split] = {
    "train": Split.TRAINING,
    "val": Split.VALIDATION,
    "public": Split.PUBLIC_TEST,
    "private": Split.PRIVATE_TEST,
    "test": Split.PUBLISHED_TEST,
}
"""How the name of a file begins -> split: ``train-00000-of-00001.parquet``."""


@dataclass(frozen=True)
class ReadOptions:
    """What to do with pictures and classes that cannot be used.

    Attributes:
        skip_bad: leave out pictures that cannot be read, and copies that FER-2013 does not have, instead of refusing;
            they are noted in ``FaceSamples.skipped``.
        skip_unmapped: leave out classes that are no emotion, likewise.
        label_map: TOML file that names the emotions of classes: of folders, or in a table's column of labels.
        size: side in pixels at which pictures of folders are stored; ``None`` is FER-2013's 48.
        color: store them as RGB, not grey.
        group: what tells whom a picture shows: a regular expression with one group over its path; of a table a column.
        strict: refuse faces that have another size or no colour, as FER-2013's, and paths that tell no subject at all.
        scratch: file to write pictures to that are too many for memory; it may stay.
        show: called now and then with the numbers of pictures that were read and that there are.
    """

    skip_bad: bool = False
    skip_unmapped: bool = False
    label_map: Path | None = None
    size: int | None = None
    color: bool = False
    group: str | None = None
    strict: bool = field(default=True, repr=False)
    scratch: Path | None = field(default=None, repr=False, compare=False)
    show: Callable[[int, int], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Encoded:
    """A picture that is still to be decoded."""

    place: str
    label: int
    split: Split | None
    read: Callable[[], bytes]
    row: int | None = None  # place in the layout, where it is not that among those that are decoded
    subject: str | None = None


@dataclass(frozen=True)
class RawFace:
    """A face, and what its layout tells of it."""

    pixels: NDArray[np.uint8]  # (48, 48)
    label: int  # -1 where there is none
    split: Split | None  # None where the layout tells none
    row: int  # place in the layout, from 0, counting what was skipped
    place: str  # file and line, row or member, for error messages
    lossy: bool = False  # it is stored as JPEG, so that its pixels are not the original's
    subject: str | None = None  # whom it shows, where that is told


@dataclass(frozen=True)
class RawFaces:
    """One or more faces in the order of their layout, and a line for each picture that was left out."""

    faces: Sequence[RawFace]
    row_source: RowSource
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.faces)

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """uint8 ``(N, 48, 48)``."""
        return np.stack([face.pixels for face in self.faces])  # N x (48, 48) -> (N, 48, 48)

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """int8 ``(N,)``."""
        return np.array([face.label for face in self.faces], dtype=np.int8)

    @property
    def splits(self) -> list[Split | None]:
        """What the layout tells of each face, ``(N,)``."""
        return [face.split for face in self.faces]

    def to_samples(
        self,
        name: str,
        usages: NDArray[np.int8],
        original_rows: NDArray[np.int32] | None = None,
        split_names: Mapping[Usage, str] | None = None,
    ) -> FaceSamples:
        """The faces as a data set, sorted by their rows in the layout or by those of FER-2013."""
        rows = np.array([face.row for face in self.faces], np.int32) if original_rows is None else original_rows
        order = np.argsort(rows)
        groups = numbered([face.subject for face in self.faces])
        return FaceSamples(
            images=self.images[order],
            labels=self.labels[order],
            rows=rows[order],
            usages=usages[order],
            name=name,
            row_source=self.row_source if original_rows is None else RowSource.INDEX,
            skipped=self.skipped,
            groups=None if groups is None else groups[order],
            split_names=split_names or {},
        )


def decode_faces(
    pictures: Iterable[Encoded],
    source: str,
    row_source: RowSource,
    *,
    skip_bad: bool,
    skipped: Iterable[str] = (),
) -> RawFaces:
    """Decode pictures of FER-2013 in order; another size than 48 x 48 is bad.

    ``source`` names the whole in error messages, and ``skipped`` are the lines of what was left out before.

    Raises:
        DataError: a bad picture without ``skip_bad``, or no picture is left.
    """
    faces, left_out = [], []
    for row, picture in enumerate(pictures):
        try:
            faces.append(_decode(picture, row if picture.row is None else picture.row))
        except (errors.DataError, errors.MediaError) as error:
            if not skip_bad:
                raise errors.DataError(f"{error}. Or leave bad pictures out: --skip-bad") from error
            left_out.append(str(error))
    if not faces:
        raise errors.DataError(
            f"{source}: expected labelled pictures, got none that can be read. {' '.join(left_out[:3])}"
        )
    return RawFaces(faces, row_source, (*left_out, *skipped))


def _decode(picture: Encoded, row: int) -> RawFace:
    content = picture.read()
    pixels = decode_image(content, picture.place)
    if pixels.shape[:2] != (FACE_SIZE, FACE_SIZE):
        raise errors.DataError(
            f"{picture.place}: expected FER-2013's {FACE_SIZE} x {FACE_SIZE} pixels,"
            f" got {pixels.shape[1]} x {pixels.shape[0]}; read other data sets as folder:PATH or parquet:PATH"
        )
    is_jpeg = content.startswith(b"\xff\xd8")
    return RawFace(crop_face(pixels), picture.label, picture.split, row, picture.place, is_jpeg, picture.subject)


def left_out_unmapped(place: str, name: str, options: ReadOptions) -> str:
    """The line about a row of a table whose class has no label, and is left out.

    Raises:
        DataError: nobody asked for that.
    """
    if options.skip_unmapped:
        return f"{place}: of class {name}, which is no emotion"
    last = len(emotions.EMOTIONS) - 1
    raise errors.DataError(
        f"{place}: expected an emotion from 0 to {last}, its name or a class of --label-map, got {name!r}; correct the"
        ' row, map the class (--label-map FILE, TOML with lines such as "7" = "disgust") or leave such rows out'
        " (--skip-unmapped)"
    )


def split_of(name: str) -> Split | None:
    """Split that a folder or a ``Usage`` value names, in any case and spelling; ``None`` where it names none."""
    return SPLIT_NAMES.get(name.strip().lower().replace("_", "").replace("-", "").replace(" ", ""))


def split_named(name: str) -> Split:
    """Split that a caller names, as :func:`split_of`.

    Raises:
        UnknownNameError: it names none.
    """
    known = {each.value: each for each in Split}
    found = known.get(name, split_of(name))
    if found is None:
        raise errors.unknown_name((*known, *SHORT_SPLIT_NAMES), name, "split")
    return found


def split_of_file(name: str) -> Split | None:
    """Split that a file's name begins with or one of its folders bears (``default/train/0000.parquet``)."""
    *folders, stem = name.split("/")
    for prefix, split in SPLIT_PREFIXES.items():
        if stem.lower().startswith(prefix):
            return split
    return next((split for split in map(split_of, reversed(folders)) if split is not None), None)


def usages_of_splits(splits: Sequence[Split | None]) -> NDArray[np.int8]:
    """Usage of each picture from the split that its layout tells: ``(N,)``, for data that are not FER-2013.

    A validation split takes the place of Public. ``test`` is then Private, and else a test that is not told apart.
    Without any split it is a test too: a data set without one serves to measure, and is never trained on
    by accident.
    """
    has_validation = Split.VALIDATION in splits or Split.PUBLIC_TEST in splits
    table = {
        Split.TRAINING: Usage.TRAINING,
        Split.VALIDATION: Usage.PUBLIC_TEST,
        Split.PUBLIC_TEST: Usage.PUBLIC_TEST,
        Split.PRIVATE_TEST: Usage.PRIVATE_TEST,
        Split.PUBLISHED_TEST: Usage.PRIVATE_TEST if has_validation else Usage.TEST,
        None: Usage.TEST,
    }
    return np.array([table[split] for split in splits], dtype=np.int8)


def own_split_names(told: Iterable[tuple[Split | None, str]]) -> dict[Usage, str]:
    """What data call their splits: names by usage, of several of one split the first, from split and name of each face.

    Data that tell Public or Private are split as FER-2013 is; data that tell nothing are a test.
    """
    names: dict[Split, str] = {}
    for split, name in told:
        if split is not None:
            names.setdefault(split, name)
    if not names:
        return {Usage.TEST: "test"}
    if Split.PUBLIC_TEST in names or Split.PRIVATE_TEST in names:
        return dict(FER2013_SPLITS)
    return {
        Usage(usage): name for usage, name in zip(usages_of_splits(list(names)).tolist(), names.values(), strict=True)
    }


def class_names(label_map: Path | None = None, base: Mapping[str, int] | None = None) -> dict[str, int]:
    """Lower-case class name -> label: the aliases in use, then ``base``, then the user's ``label_map``.

    Raises:
        DataError: ``label_map`` is missing, not TOML or maps to something that is no emotion.
    """
    aliases = {alias: emotions.EMOTIONS.index(emotion) for alias, emotion in emotions.ALIASES.items()}
    labels = {**aliases, **(base or {})}
    if label_map is None:
        return labels
    try:
        lines = tomllib.loads(label_map.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise errors.MissingPathError(
            f"{label_map}: expected a label map, but there is no such file; check the path"
        ) from error
    except (OSError, ValueError) as error:
        raise errors.DataError(
            f'{label_map}: expected TOML lines such as "1" = "surprise", got {error}; correct the file'
        ) from error
    for name, emotion in lines.items():
        label = emotions.label_of(emotion) if isinstance(emotion, str) else None
        if label is None:
            known = ", ".join(emotions.EMOTIONS)
            raise errors.DataError(
                f"{label_map}: expected an emotion for class {name!r}, got {emotion!r}; write one of {known}"
            )
        labels[name.lower()] = label
    return labels
