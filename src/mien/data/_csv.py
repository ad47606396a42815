"""Faces in comma-separated text: columns ``emotion``, ``pixels`` and ``Usage`` in any order, case and spacing."""

import csv
import gzip
import io
import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from mien.data._names import split_of, split_of_file
from mien.data._raw import RawFaces, join
from mien.data._tree import Tree, explained
from mien.data.samples import UNLABELLED, RowSource, Split
from mien.emotions import EMOTIONS
from mien.errors import DataError
from mien.face.crop import FACE_SIZE

PIXELS = FACE_SIZE * FACE_SIZE
GZIP_MAGIC = b"\x1f\x8b"

BATCH = 2048
"""Rows that are parsed at once: 20 MB of text."""

MAX_LINE = 100_000
"""Longest line in characters; a face needs at most 9,216 and a few."""


@dataclass(frozen=True)
class Columns:
    """Lower-case names in the file's order, and where the three stand that count; ``None`` where a file has none."""

    names: tuple[str, ...]
    pixels: int | None
    emotion: int | None
    usage: int | None


def read_columns(tree: Tree, name: str) -> Columns:
    """The columns that a file's first line names.

    Raises:
        DataError: the file is empty or no comma-separated text.
    """
    with _rows(tree, name) as rows:
        return _columns(rows, tree.place(name))


def read_csv(tree: Tree, name: str, classes: Mapping[str, int]) -> RawFaces:
    """The faces of a file, which must have a column ``pixels`` of 2,304 numbers with single spaces between them.

    Without ``emotion`` the labels are -1. Without ``Usage`` the file's name tells the split, if it does.

    Args:
        tree: holds the file.
        name: of the file.
        classes: lower-case number or name of a class -> label.

    Raises:
        DataError: names the file, the line (the header is line 1) and the remedy.
    """
    place = tree.place(name)
    split = split_of_file(name)
    with _rows(tree, name) as rows:
        columns = _columns(rows, place)
        _check_columns(columns, place)
        parts = []
        while batch := list(itertools.islice(rows, BATCH)):
            parts.append(_read_batch(batch, columns, place, split, classes))
    if not parts:
        raise DataError(f"{place}: expected rows of faces, came a header alone; fetch it anew")
    return join(parts)


def _read_batch(
    rows: list[tuple[int, list[str]]], columns: Columns, place: str, split: Split | None, classes: Mapping[str, int]
) -> RawFaces:
    """Numbered rows -> faces; ``split`` is of rows without ``Usage``."""
    pixels = columns.names.index("pixels")
    labels, splits = [], []
    for line, row in rows:
        if len(row) != len(columns.names):
            raise _line_error(place, line, f"{len(columns.names)} fields", f"{len(row)}")
        labels.append(UNLABELLED if columns.emotion is None else _label(row[columns.emotion], classes, place, line))
        splits.append(split if columns.usage is None else _split(row[columns.usage], place, line))
    return RawFaces(
        images=_read_pixels([(line, row[pixels].strip()) for line, row in rows], place),
        labels=np.array(labels, dtype=np.int8),
        splits=tuple(splits),
        positions=np.arange(len(rows), dtype=np.int32),
        places=tuple(f"{place} line {line}" for line, _ in rows),
        row_source=RowSource.FILE,
    )


@contextmanager
def _rows(tree: Tree, name: str) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """Rows that are not blank, each with its line number (from 1); plain or gzipped UTF-8."""
    with explained(tree.place(name)), ExitStack() as stack:
        stream = stack.enter_context(tree.open(name))
        magic = stream.read(2)
        stream.seek(0)
        if magic == GZIP_MAGIC:
            stream = cast(IO[bytes], stack.enter_context(gzip.open(stream)))
        text = stack.enter_context(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        reader = csv.reader(_lines(text, tree.place(name)), strict=True)
        yield ((reader.line_num, row) for row in reader if row)


def _lines(text: IO[str], place: str) -> Iterator[str]:
    for number in itertools.count(1):
        line = text.readline(MAX_LINE)
        if not line:
            return
        if len(line) == MAX_LINE:
            raise _line_error(place, number, f"at most {MAX_LINE:,} characters", "more")
        yield line


def _columns(rows: Iterator[tuple[int, list[str]]], place: str) -> Columns:
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(f"{place}: expected a header such as 'emotion,pixels,Usage', came an empty file; fetch it anew")
    names = tuple(name.strip().lower() for name in header)
    where = {name: names.index(name) for name in names}
    return Columns(names, where.get("pixels"), where.get("emotion"), where.get("usage"))


def _check_columns(columns: Columns, place: str) -> None:
    came = repr(", ".join(columns.names)[:200])
    if columns.pixels is None:
        raise DataError(f"{place}: expected a column 'pixels' (and 'emotion', 'Usage'), came {came}; give such a csv")
    if columns.emotion is None and not {"pixels", "usage"}.issuperset(columns.names):
        raise DataError(
            f"{place}: expected a column 'emotion', or pixels and Usage alone, came {came}; rename its labels"
        )


def _label(text: str, classes: Mapping[str, int], place: str, line: int) -> int:
    text = text.strip()
    label = classes.get(text.lower())
    if label is None:
        raise _line_error(
            place, line, f"an emotion from 0 to {len(EMOTIONS) - 1}, or a class of --label-map", repr(text)
        )
    return label


def _split(text: str, place: str, line: int) -> Split:
    split = split_of(text)
    if split is None:
        raise _line_error(place, line, "Usage Training, PublicTest or PrivateTest", repr(text))
    return split


def _read_pixels(rows: list[tuple[int, str]], place: str) -> NDArray[np.uint8]:
    """Texts of 2,304 numbers -> uint8 ``(N, 48, 48)``."""
    images = parse_pixels([text for _, text in rows])
    if images is not None:
        return images
    line, text = next((line, text) for line, text in rows if parse_pixels([text]) is None)
    raise _line_error(place, line, *_pixel_fault(text))


def parse_pixels(texts: list[str]) -> NDArray[np.uint8] | None:
    """Texts of 2,304 numbers, 0 to 255, with single spaces between, or else ``None``: -> uint8 ``(N, 48, 48)``.

    Works on all bytes at once, so that the 300 MB of ``fer2013.csv`` take seconds.
    """
    text = np.frombuffer(" ".join([*texts, ""]).encode("ascii", errors="replace"), dtype=np.uint8)
    ends = np.flatnonzero(text == ord(" "))  # (N * 2304,): where each number ends
    digits = text - ord("0")  # wraps around for everything below "0"
    if len(ends) != len(texts) * PIXELS or np.count_nonzero(digits < 10) + len(ends) != len(text):
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    if lengths.min() < 1 or lengths.max() > 3:
        return None
    values = digits[ends - 1].astype(np.uint16)
    values += np.where(lengths > 1, digits[ends - 2], np.uint8(0)) * np.uint16(10)
    values += np.where(lengths > 2, digits[ends - 3], np.uint8(0)) * np.uint16(100)
    if values.max() > 255 or any(text.count(" ") != PIXELS - 1 for text in texts):
        return None
    return values.astype(np.uint8).reshape(len(texts), FACE_SIZE, FACE_SIZE)


def _pixel_fault(text: str) -> tuple[str, str]:
    """What was expected of a text of pixels, and what came."""
    numbers = text.split(" ")
    for number in numbers:
        if not (number.isascii() and number.isdigit()) or len(number) > 3 or int(number) > 255:
            return "pixels from 0 to 255 with single spaces between", repr(number[:20])
    return f"{FACE_SIZE} x {FACE_SIZE} = {PIXELS} pixels", f"{len(numbers)}"


def _line_error(place: str, line: int, expected: str, came: str) -> DataError:
    return DataError(f"{place} line {line}: expected {expected}, came {came}; correct the line or fetch the file anew")
