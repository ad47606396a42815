"""Faces in Parquet as the Hugging Face hub writes it: a column of encoded pictures and one of labels.

Others may tell whom a face shows: ``subject``, or else the name that its file had.
"""

import io
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mien import errors
from mien.data import samples
from mien.data.layouts import raw, subjects
from mien.data.layouts.tree import Tree, explained

IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img_bytes", "img"), ("label", "labels", "emotion")


@dataclass(frozen=True)
class Row:
    """A row of a file; its picture is ``None`` where pictures were not asked for, its class where there is no label."""

    place: str
    picture: object
    class_name: str | None
    subject: str | None
    split: samples.Split | None

    def content(self) -> bytes:
        """The encoded picture.

        Raises:
            DataError: the row holds something else.
        """
        content = self.picture.get("bytes") if isinstance(self.picture, dict) else self.picture
        if isinstance(content, bytes):
            return content
        kind = type(content).__name__
        raise errors.DataError(f"{self.place}: expected the bytes of a picture, got {kind}; fetch it again")


@contextmanager
def opened(tree: Tree, name: str, *, with_pictures: bool = True, batch: int = 1024) -> Iterator[Iterator[Row]]:
    """The rows of a file, to be read while it is open, so many at a time.

    Where the file carries the hub's list of class names, these decide what a number means: some copies of FER-2013
    number alphabetically. The file's name tells the split, if it does.

    Raises:
        DataError: a missing column, or no whole Parquet file; names it and the remedy.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = errors.import_extra("pyarrow.parquet", "report")
    place = tree.place(name)
    # A zip's member seeks by reading from its start again, so that it is better held in memory.
    with explained(place), tree.open(name) as stream, io.BytesIO(stream.read()) as content:
        try:
            with parquet.ParquetFile(content) as file:
                yield _rows(file, place, raw.split_of_file(name), with_pictures, batch)
        except errors.import_extra("pyarrow", "report").ArrowException as error:
            raise errors.DataError(f"{place}: expected a whole Parquet file, got {error}; fetch it again") from error


def _rows(file: Any, place: str, split: samples.Split | None, with_pictures: bool, size: int) -> Iterator[Row]:
    schema = file.schema_arrow
    image, label = _find_column(schema.names, IMAGE_COLUMNS), _find_column(schema.names, LABEL_COLUMNS)
    if image is None:
        found = ", ".join(schema.names)
        raise errors.DataError(f"{place}: expected a column 'image' (and 'label'), got {found}; rename the column")
    names = _class_names(schema.metadata, label)
    telling = [name for name in schema.names if name.strip().lower() in subjects.COLUMNS]
    columns = [*([image] if with_pictures else []), *([] if label is None else [label]), *telling]
    places = (f"{place} row {number}" for number in itertools.count(1))
    for batch in file.iter_batches(batch_size=size, columns=columns or [image]):
        for cells, where in zip(batch.to_pylist(), places, strict=False):
            subject = subjects.subject_in({name.strip().lower(): str(cells[name] or "") for name in telling})
            text = None if label is None else _class_name(cells[label], names)
            yield Row(where, cells.get(image), text, subject, split)


def read_parquet(tree: Tree, name: str, classes: Mapping[str, int], options: raw.ReadOptions) -> raw.RawFaces:
    """FER-2013's faces of a file: pictures as bytes or as a struct ``{bytes, path}``, labels as numbers or names.

    Without a label column the labels are -1. Rows of other ``classes`` are left out where ``options.skip_unmapped``.

    Raises:
        DataError: a missing column, a bad label or picture; names the file, the row (from 1) and the remedy.
        MissingExtraError: pyarrow is not installed.
    """
    skipped: list[str] = []
    with opened(tree, name) as rows:
        encoded = _encoded(rows, classes, options, skipped)
        found = raw.decode_faces(encoded, tree.place(name), samples.RowSource.FILE, skip_bad=options.skip_bad)
    return raw.RawFaces(found.faces, found.row_source, (*found.skipped, *skipped))


def _encoded(
    rows: Iterator[Row], classes: Mapping[str, int], options: raw.ReadOptions, skipped: list[str]
) -> Iterator[raw.Encoded]:
    for number, row in enumerate(rows):
        label = label_of_row(row, classes)
        if label is None:
            skipped.append(raw.left_out_unmapped(row.place, row.class_name or "", options))
        else:
            yield raw.Encoded(row.place, label, row.split, row.content, number, row.subject)


def label_of_row(row: Row, classes: Mapping[str, int]) -> int | None:
    """The label by the lower-case class name or number, -1 without a column of labels, ``None`` of other classes."""
    return samples.UNLABELLED if row.class_name is None else classes.get(row.class_name.lower())


def read_column(tree: Tree, name: str, column: str) -> list[str]:
    """The texts of a column, empty where there is no value; raises as ``tables.read_column``."""
    parquet, place = errors.import_extra("pyarrow.parquet", "report"), tree.place(name)
    with explained(place), tree.open(name) as stream, parquet.ParquetFile(io.BytesIO(stream.read())) as file:
        values = file.read(columns=[named_column(file.schema_arrow.names, column, place)]).column(0).to_pylist()
    return ["" if value is None else str(value).strip() for value in values]


def named_column(columns: list[str], column: str, place: str) -> str:
    """The one of a table's columns that ``data.group`` names, in any case.

    Raises:
        CallError: there is none; lists them.
    """
    found = _find_column(columns, (column.strip().lower(),))
    if found is None:
        raise errors.CallError(
            f"{place}: expected a column {column!r}, as data.group says, got {', '.join(columns)}; name one of these,"
            " or leave data.group out"
        )
    return found


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


def _class_name(value: object, names: list[str] | None) -> str:
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return str(value).strip()
