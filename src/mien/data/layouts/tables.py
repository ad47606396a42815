"""Faces in tables: comma-separated text with columns ``emotion``, ``pixels`` and ``Usage``, and Parquet (``parquet``).

The columns stand in any order, case and spacing. ``subject``, or else ``name``, may tell whom a face shows.
"""

import csv
import gzip
import io
import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.data import samples
from mien.data.layouts import parquet, raw, subjects
from mien.data.layouts.class_folders import is_picture
from mien.data.layouts.tree import Tree, explained, read_head
from mien.face.crop import FACE_SIZE

logger = logging.getLogger(__name__)

PIXELS = FACE_SIZE * FACE_SIZE

BATCH = 2048  # rows that are parsed at once: 20 MB of text
MAX_LINE = 100_000
"""Longest line in characters; a face needs at most 9,216 and a few."""


def find_tables(tree: Tree) -> dict[str, bool]:
    """The files to read one after the other -> whether it is Parquet; none where there are only pictures.

    Raises:
        DataError: several csv that are not one for each split.
    """
    if tree.is_file and not is_picture(tree.path.name):
        return {tree.path.name: read_head(tree.path) == b"PAR1"}
    parquet = [name for name in tree.names if name.lower().endswith(".parquet")]
    csv_files = _find_csv(tree, alone=not parquet and not any(map(is_picture, tree.names)))
    return dict.fromkeys(csv_files, False) or dict.fromkeys(parquet, True)


def read_tables(
    tree: Tree, tables: Mapping[str, bool], classes: Mapping[str, int], options: raw.ReadOptions
) -> raw.RawFaces:
    """The faces of the files that :func:`find_tables` found; rows go on counting from file to file.

    ``classes`` are labels by the lower-case number or name of a class. ``options.skip_bad`` leaves out pictures in
    Parquet that cannot be decoded, ``skip_unmapped`` rows of other classes.

    Raises:
        DataError: names the file, the line or row, and the remedy.
        MissingExtraError: Parquet without pyarrow.
    """
    faces: list[raw.RawFace] = []
    skipped: list[str] = []
    for name, is_parquet in tables.items():
        read = parquet.read_parquet if is_parquet else read_csv
        part = read(tree, name, classes, options)
        start = len(faces) + len(skipped)
        faces += [replace(face, row=start + face.row) for face in part.faces] if start else part.faces
        skipped += part.skipped
    return raw.RawFaces(faces, samples.RowSource.FILE, tuple(skipped))


def read_column(tree: Tree, column: str) -> list[str]:
    """The texts of a column by row, as :func:`read_tables` counts rows: of those that were left out, too.

    Raises:
        CallError: the tree holds no tables, or one without the column; lists its columns.
        DataError: a file that cannot be read.
        MissingExtraError: Parquet without pyarrow.
    """
    found: list[str] = []
    for name, is_parquet in find_tables(tree).items():
        found += parquet.read_column(tree, name, column) if is_parquet else _csv_column(tree, name, column)
    if not found:
        raise errors.CallError(
            f"{tree.path}: expected a table with a column {column!r}, got no table; leave data.group out"
        )
    return found


def _csv_column(tree: Tree, name: str, column: str) -> list[str]:
    with _rows(tree, name) as rows:
        columns = _columns(rows, tree.place(name))
        at = columns.index(parquet.named_column(columns, column, tree.place(name)))
        return [row[at].strip() for _, row in rows]


def _find_csv(tree: Tree, alone: bool) -> list[str]:
    """The csv with ``pixels`` and ``Usage``, else those with ``pixels``: of the challenge's files the whole one.

    ``alone`` says that the tree holds nothing else that could be read.
    """
    columns: dict[str, list[str]] = {}
    for name in tree.names:
        if name.lower().endswith((".csv", ".csv.gz")):
            try:
                with _rows(tree, name) as rows:
                    columns[name] = _columns(rows, tree.place(name))
            except errors.DataError as error:
                if alone:
                    raise
                logger.warning("left aside: %s", error)
    faces = [name for name, found in columns.items() if "pixels" in found]
    names = [name for name in faces if "usage" in columns[name]] or faces
    splits = [raw.split_of_file(name) for name in names]
    if len(names) > 1 and (None in splits or len(set(splits)) < len(splits)):
        raise errors.DataError(
            f"{tree.path}: expected one csv of faces, or one for each split (train.csv, test.csv),"
            f" got {', '.join(names)}; give the file that you mean"
        )
    return names


def read_csv(tree: Tree, name: str, classes: Mapping[str, int], options: raw.ReadOptions) -> raw.RawFaces:
    """The faces of a file, which must have a column ``pixels`` of 2,304 numbers with single spaces between them.

    Without ``emotion`` the labels are -1. Without ``Usage`` the file's name tells the split, if it does. Rows of other
    ``classes`` are left out where ``options.skip_unmapped``.

    Raises:
        DataError: names the file, the line (the header is line 1) and the remedy.
    """
    place, faces, skipped, count = tree.place(name), list[raw.RawFace](), list[str](), 0
    with _rows(tree, name) as rows:
        columns = _columns(rows, place)
        found = repr(", ".join(columns)[:200])
        if "pixels" not in columns:
            raise errors.DataError(
                f"{place}: expected a column 'pixels' (and 'emotion', 'Usage'), got {found}; give such a csv"
            )
        if "emotion" not in columns and not {"pixels", "usage"}.issuperset(columns):
            raise errors.DataError(
                f"{place}: expected a column 'emotion', or pixels and Usage alone, got {found}; rename its labels"
            )
        while batch := list(itertools.islice(rows, BATCH)):
            read, left_out = _read_batch(batch, columns, place, raw.split_of_file(name), classes, options, count)
            faces += read
            skipped += left_out
            count += len(batch)
    if not faces:
        what = f"{count:,} of other classes" if count else "a header alone"
        raise errors.DataError(f"{place}: expected rows of faces, got {what}; fetch it again or map them (--label-map)")
    return raw.RawFaces(faces, samples.RowSource.FILE, tuple(skipped))


def _read_batch(
    rows: list[tuple[int, list[str]]],
    columns: list[str],
    place: str,
    split: samples.Split | None,
    classes: Mapping[str, int],
    options: raw.ReadOptions,
    start: int,
) -> tuple[list[raw.RawFace], list[str]]:
    """Numbered rows -> faces, and a line for each left out; ``split`` is of rows without ``Usage``, ``start`` a row."""
    told: list[tuple[int, samples.Split | None, int, str, str | None]] = []
    texts, skipped = [], []
    for number, (line, row) in enumerate(rows, start):
        where = f"{place} line {line}"
        if len(row) != len(columns):
            raise _line_error(where, f"{len(columns)} fields", f"{len(row)}")
        cells = dict(zip(reversed(columns), reversed(row), strict=True))  # the first of equal columns counts
        name = cells.get("emotion", "").strip()
        label = classes.get(name.lower()) if "emotion" in cells else samples.UNLABELLED
        if label is None:
            skipped.append(raw.left_out_unmapped(where, name, options))
            continue
        usage = raw.split_of(cells["usage"]) if "usage" in cells else split
        if usage is None and "usage" in cells:
            raise _line_error(where, "Usage Training, PublicTest or PrivateTest", repr(cells["usage"]))
        told.append((label, usage, number, where, subjects.subject_in(cells)))
        texts.append(cells["pixels"].strip())
    images = parse_pixels(texts) if texts else np.empty((0, FACE_SIZE, FACE_SIZE), np.uint8)
    if images is None:
        where, text = next(
            (each[3], text) for each, text in zip(told, texts, strict=True) if parse_pixels([text]) is None
        )
        raise _line_error(where, *_pixel_fault(text))
    faces = [
        raw.RawFace(image, label, usage, number, where, subject=subject)
        for image, (label, usage, number, where, subject) in zip(images, told, strict=True)
    ]
    return faces, skipped


@contextmanager
def _rows(tree: Tree, name: str) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """Rows that are not blank, each with its line number (from 1); plain or gzipped UTF-8."""
    with explained(tree.place(name)), ExitStack() as stack:
        stream = stack.enter_context(tree.open(name))
        magic = stream.read(2)
        stream.seek(0)
        if magic == b"\x1f\x8b":
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
            raise _line_error(f"{place} line {number}", f"at most {MAX_LINE:,} characters", "more")
        yield line


def _columns(rows: Iterator[tuple[int, list[str]]], place: str) -> list[str]:
    """Lower-case names in the file's order."""
    _, header = next(rows, (0, []))
    if not header:
        raise errors.DataError(
            f"{place}: expected a header such as 'emotion,pixels,Usage', got an empty file; fetch it again"
        )
    return [name.strip().lower() for name in header]


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
    """What was expected of a text of pixels, and what was got."""
    numbers = text.split(" ")
    for number in numbers:
        if not (number.isascii() and number.isdigit()) or len(number) > 3 or int(number) > 255:
            return "pixels from 0 to 255 with single spaces between", repr(number[:20])
    return f"{FACE_SIZE} x {FACE_SIZE} = {PIXELS} pixels", f"{len(numbers)}"


def _line_error(where: str, expected: str, got: str) -> errors.DataError:
    return errors.DataError(f"{where}: expected {expected}, got {got}; correct the line or fetch the file again")
