"""Faces in tables: comma-separated text, and Parquet as the Hugging Face hub writes it.

A csv has columns ``emotion``, ``pixels`` and ``Usage`` in any order, case and spacing; Parquet a column of encoded
pictures and one of labels.
"""

import csv
import gzip
import io
import itertools
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.data import samples
from mien.data.layouts import raw
from mien.data.layouts.class_folders import is_picture
from mien.data.layouts.tree import Tree, explained, read_head
from mien.emotions import EMOTIONS
from mien.face.crop import FACE_SIZE

logger = logging.getLogger(__name__)

PIXELS = FACE_SIZE * FACE_SIZE

BATCH = 2048  # rows that are parsed at once: 20 MB of text
MAX_LINE = 100_000
"""Longest line in characters; a face needs at most 9,216 and a few."""

IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img_bytes", "img"), ("label", "labels", "emotion")


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


def read_tables(tree: Tree, tables: Mapping[str, bool], classes: Mapping[str, int], *, skip_bad: bool) -> raw.RawFaces:
    """The faces of the files that :func:`find_tables` found; rows go on counting from file to file.

    ``classes`` are labels by the lower-case number or name of a class; ``skip_bad`` leaves out pictures in Parquet that
    cannot be decoded.

    Raises:
        DataError: names the file, the line or row, and the remedy.
        MissingExtraError: Parquet without pyarrow.
    """
    faces: list[raw.RawFace] = []
    skipped: list[str] = []
    for name, is_parquet in tables.items():
        part = read_parquet(tree, name, classes, skip_bad=skip_bad) if is_parquet else read_csv(tree, name, classes)
        start = faces[-1].row + 1 if faces else 0
        faces += [replace(face, row=start + face.row) for face in part.faces] if start else part.faces
        skipped += part.skipped
    return raw.RawFaces(faces, samples.RowSource.FILE, tuple(skipped))


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


def read_csv(tree: Tree, name: str, classes: Mapping[str, int]) -> raw.RawFaces:
    """The faces of a file, which must have a column ``pixels`` of 2,304 numbers with single spaces between them.

    Without ``emotion`` the labels are -1. Without ``Usage`` the file's name tells the split, if it does.

    Raises:
        DataError: names the file, the line (the header is line 1) and the remedy.
    """
    place, faces = tree.place(name), list[raw.RawFace]()
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
            faces += _read_batch(batch, columns, place, raw.split_of_file(name), classes, len(faces))
    if not faces:
        raise errors.DataError(f"{place}: expected rows of faces, got a header alone; fetch it again")
    return raw.RawFaces(faces, samples.RowSource.FILE)


def _read_batch(
    rows: list[tuple[int, list[str]]],
    columns: list[str],
    place: str,
    split: samples.Split | None,
    classes: Mapping[str, int],
    start: int,
) -> list[raw.RawFace]:
    """Numbered rows -> faces, the first of which is row ``start``; ``split`` is of rows without ``Usage``."""
    labels, splits, places, texts = [], [], [], []
    for line, row in rows:
        where = f"{place} line {line}"
        if len(row) != len(columns):
            raise _line_error(where, f"{len(columns)} fields", f"{len(row)}")
        cells = dict(zip(reversed(columns), reversed(row), strict=True))  # the first of equal columns counts
        label = classes.get(cells["emotion"].strip().lower()) if "emotion" in cells else samples.UNLABELLED
        if label is None:
            expected = f"an emotion from 0 to {len(EMOTIONS) - 1}, or a class of --label-map"
            raise _line_error(where, expected, repr(cells["emotion"].strip()))
        usage = raw.split_of(cells["usage"]) if "usage" in cells else split
        if usage is None and "usage" in cells:
            raise _line_error(where, "Usage Training, PublicTest or PrivateTest", repr(cells["usage"]))
        labels.append(label)
        splits.append(usage)
        places.append(where)
        texts.append(cells["pixels"].strip())
    images = parse_pixels(texts)
    if images is None:
        where, text = next(each for each in zip(places, texts, strict=True) if parse_pixels([each[1]]) is None)
        raise _line_error(where, *_pixel_fault(text))
    faces = enumerate(zip(images, labels, splits, places, strict=True), start)
    return [raw.RawFace(image, label, usage, number, where) for number, (image, label, usage, where) in faces]


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


def read_parquet(tree: Tree, name: str, classes: Mapping[str, int], *, skip_bad: bool) -> raw.RawFaces:
    """The faces of a Parquet file: pictures as bytes or as a struct ``{bytes, path}``, labels as numbers or names.

    Without a label column the labels are -1. Where the file carries the hub's list of class names, these decide what
    a number means: some copies of FER-2013 number alphabetically. The file's name tells the split, if it does.

    Raises:
        DataError: a missing column, a bad label or picture; names the file, the row (from 1) and the remedy.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = errors.import_extra("pyarrow.parquet", "report")
    place = tree.place(name)
    # A zip's member seeks by reading from its start again, so that it is better held in memory.
    with explained(place), tree.open(name) as stream, io.BytesIO(stream.read()) as content:
        try:
            with parquet.ParquetFile(content) as file:
                encoded = _encoded(file, name, classes, place)
                return raw.decode_faces(encoded, place, samples.RowSource.FILE, skip_bad=skip_bad)
        except errors.import_extra("pyarrow", "report").ArrowException as error:
            raise errors.DataError(f"{place}: expected a whole Parquet file, got {error}; fetch it again") from error


def _encoded(file: Any, name: str, classes: Mapping[str, int], place: str) -> Iterator[raw.Encoded]:
    """Picture and label of each row."""
    image = _find_column(file.schema_arrow.names, IMAGE_COLUMNS)
    label = _find_column(file.schema_arrow.names, LABEL_COLUMNS)
    if image is None:
        columns = ", ".join(file.schema_arrow.names)
        raise errors.DataError(f"{place}: expected a column 'image' (and 'label'), got {columns}; rename the column")
    names, split = _class_names(file.schema_arrow.metadata, label), raw.split_of_file(name)
    places = (f"{place} row {number}" for number in itertools.count(1))
    for batch in file.iter_batches(batch_size=1024, columns=[image] if label is None else [image, label]):
        values = [None] * batch.num_rows if label is None else batch.column(label).to_pylist()
        for picture, value in zip(batch.column(image).to_pylist(), values, strict=True):
            where = next(places)
            number = samples.UNLABELLED if label is None else _parquet_label(value, names, classes, where)
            yield raw.Encoded(where, number, split, partial(_content, picture, where))


def _content(image: Any, place: str) -> bytes:
    content = image.get("bytes") if isinstance(image, dict) else image
    if isinstance(content, bytes):
        return content
    kind = type(content).__name__
    raise errors.DataError(f"{place}: expected the bytes of a picture, got {kind}; fetch it again")


def _find_column(columns: list[str], names: tuple[str, ...]) -> str | None:
    by_name = {column.strip().lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _class_names(metadata: dict[bytes, bytes] | None, column: str | None) -> list[str] | None:
    """Class names that the hub's ``datasets`` library notes in a file's metadata, in the order of their numbers."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[column]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _parquet_label(value: Any, names: list[str] | None, classes: Mapping[str, int], place: str) -> int:
    text = str(value).strip()
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        text = names[value]
    label = classes.get(text.lower())
    if label is None:
        raise errors.DataError(
            f"{place}: expected a label from 0 to 6, an emotion's name or a class of --label-map, got {text!r};"
            " correct the row"
        )
    return label
