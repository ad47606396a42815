"""Faces in Parquet: a column of encoded pictures and a column of labels, as the Hugging Face hub writes them."""

import io
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mien.data._names import split_of_file
from mien.data._raw import Encoded, RawFaces, decode_faces
from mien.data._tree import Tree, explained
from mien.data.samples import UNLABELLED, RowSource
from mien.errors import DataError, import_extra

MAGIC = b"PAR1"

IMAGE_COLUMNS = ("image", "img_bytes", "img")
LABEL_COLUMNS = ("label", "labels", "emotion")


def read_parquet(tree: Tree, name: str, classes: Mapping[str, int], *, skip_bad: bool) -> RawFaces:
    """The faces of a Parquet file: pictures as bytes or as a struct ``{bytes, path}``, labels as numbers or names.

    Without a label column the labels are -1. Where the file carries the hub's list of class names, these decide what
    a number means: some copies of FER-2013 number alphabetically. The file's name tells the split, if it does.

    Args:
        tree: holds the file.
        name: of the file.
        classes: lower-case number or name of a class -> label.
        skip_bad: leave out pictures that cannot be decoded.

    Raises:
        DataError: a missing column, a bad label or picture; names the file, the row (from 1) and the remedy.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = import_extra("pyarrow.parquet", "report")
    place = tree.place(name)
    # A zip's member seeks by reading from its start again, so that it is better held in memory.
    with explained(place), tree.open(name) as stream, io.BytesIO(stream.read()) as content:
        try:
            with parquet.ParquetFile(content) as file:
                rows = _rows(file, classes, place)
                return decode_faces(_encoded(rows, name, place), place, RowSource.FILE, skip_bad=skip_bad, exact=True)
        except import_extra("pyarrow", "report").ArrowException as error:
            raise DataError(f"{place}: expected a whole Parquet file, came {error}; fetch it anew") from error


def _encoded(rows: Iterator[tuple[Any, int]], name: str, place: str) -> Iterator[Encoded]:
    split = split_of_file(name)
    for number, (image, label) in enumerate(rows, start=1):
        where = f"{place} row {number}"
        yield Encoded(where, label, split, partial(_content, image, where))


def _content(image: Any, place: str) -> bytes:
    content = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(content, bytes):
        raise DataError(f"{place}: expected the bytes of a picture, came {type(content).__name__}; fetch it anew")
    return content


def _rows(file: Any, classes: Mapping[str, int], place: str) -> Iterator[tuple[Any, int]]:
    """Picture and label of each row."""
    image = _find_column(file.schema_arrow.names, IMAGE_COLUMNS)
    label = _find_column(file.schema_arrow.names, LABEL_COLUMNS)
    if image is None:
        columns = ", ".join(file.schema_arrow.names)
        raise DataError(f"{place}: expected a column 'image' (and 'label'), came {columns}; rename the column")
    names = _class_names(file.schema_arrow.metadata, label)
    number = 0
    for batch in file.iter_batches(batch_size=1024, columns=[image] if label is None else [image, label]):
        values = [None] * batch.num_rows if label is None else batch.column(label).to_pylist()
        for picture, value in zip(batch.column(image).to_pylist(), values, strict=True):
            number += 1
            where = f"{place} row {number}"
            yield picture, UNLABELLED if label is None else _label(value, names, classes, where)


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


def _label(value: Any, names: list[str] | None, classes: Mapping[str, int], place: str) -> int:
    text = str(value).strip()
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        text = names[value]
    label = classes.get(text.lower())
    if label is None:
        raise DataError(
            f"{place}: expected a label from 0 to 6, an emotion's name or a class of --label-map, came {text!r};"
            " correct the row"
        )
    return label
