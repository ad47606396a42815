"""Results as JSON, JSON lines, CSV or Parquet: written one by one, in constant memory, valid wherever they stop."""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mien import errors
from mien.emotions import EMOTIONS
from mien.face import result
from mien.files import writing

PARQUET_BATCH = 4096
"""Rows that are held until they are written to Parquet together."""


Write = Callable[[result.Row], None]  # adds a row


@contextlib.contextmanager
def _json(stream: IO[bytes], columns: Mapping[str, type]) -> Iterator[Write]:
    """A list with one object a line."""
    separator = b"[\n"

    def write(row: result.Row) -> None:
        nonlocal separator
        stream.write(separator + json.dumps(row).encode())
        separator = b",\n"

    try:
        yield write
    finally:
        stream.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


@contextlib.contextmanager
def _json_lines(stream: IO[bytes], columns: Mapping[str, type]) -> Iterator[Write]:
    """One object a line."""

    def write(row: result.Row) -> None:
        stream.write(json.dumps(row).encode() + b"\n")

    yield write


@contextlib.contextmanager
def _csv(stream: IO[bytes], columns: Mapping[str, type]) -> Iterator[Write]:
    """UTF-8 with a header, lines ending in a line feed, empty cells for ``None``, ``true`` and ``false``."""
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)

    def write(row: result.Row) -> None:
        cells = (row[name] for name in columns)
        rows.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in cells])

    try:
        yield write
    finally:
        text.detach()


@contextlib.contextmanager
def _parquet(stream: IO[bytes], columns: Mapping[str, type]) -> Iterator[Write]:
    """Typed columns, compressed. Needs pyarrow, from the extra ``report``."""
    arrow: Any = errors.import_extra("pyarrow", "report")
    parquet: Any = errors.import_extra("pyarrow.parquet", "report")
    types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
    schema = arrow.schema([(name, types[kind]) for name, kind in columns.items()])
    held: list[result.Row] = []

    def flush() -> None:
        if held:
            file.write_table(arrow.Table.from_pylist(held, schema))
            held.clear()

    def write(row: result.Row) -> None:
        held.append(row)
        if len(held) == PARQUET_BATCH:
            flush()

    file = parquet.ParquetWriter(stream, schema)
    try:
        yield write
    finally:
        flush()
        file.close()


WRITERS: dict[str, Callable[[IO[bytes], Mapping[str, type]], contextlib.AbstractContextManager[Write]]] = {
    "csv": _csv,
    "json": _json,
    "jsonl": _json_lines,
    "parquet": _parquet,
}
"""Format, and ending of a file's name -> what writes it; the stream stays open."""

NESTED = ("json", "jsonl")
"""Formats that hold a picture with its faces; the others hold a row per face."""


@contextlib.contextmanager
def writing_rows(target: Path | IO[bytes], columns: Mapping[str, type], kind: str | None = None) -> Iterator[Write]:
    """Rows into a file or a binary stream, by the function that is yielded.

    A file appears under its name at the end. Where the block ends in an error or an interruption, the rows so far lie
    beside it, as ``mien.files.writing`` says; a pipe gets each row as it comes. JSON rows may have any keys.

    Args:
        target: a path, or a stream such as ``sys.stdout.buffer``.
        columns: name -> ``str``, ``int``, ``float`` or ``bool``, in order.
        kind: a key of ``WRITERS``; by default the path's ending.

    Raises:
        UnknownNameError: no such format.
        MissingExtraError: Parquet without pyarrow.
        OutputError: the file cannot be written; what stood there still stands.
    """
    if not isinstance(target, Path):
        with errors.look_up(WRITERS, kind or "json", "format")(target, columns) as write:
            yield write
        return
    if kind is None:
        check_ending(target)
    chosen = kind or target.suffix[1:].lower()
    writer = errors.look_up(WRITERS, chosen, "format")
    with writing(target, partial=True, streamed=chosen != "parquet") as stream, writer(stream, columns) as write:
        yield write


def check_ending(target: Path) -> None:
    """Raise ``UnknownNameError`` where no format has the path's ending."""
    if target.suffix[1:].lower() not in WRITERS:
        known = [f".{name}" for name in WRITERS]
        raise errors.unknown_name(known, target.suffix or target.name, "ending of an output file")


@contextlib.contextmanager
def writing_pictures(
    target: Path | IO[bytes],
    kind: str | None = None,
    classes: Sequence[str] = EMOTIONS,
    *,
    abstaining: bool = False,
    pages: bool = False,
) -> Iterator[Callable[[result.Picture], None]]:
    """Pictures into a file or a binary stream, as ``mien predict`` gives them; otherwise as :func:`writing_rows`.

    ``classes`` are the network's. Where ``abstaining``, tables get a column ``abstained``; JSON has it always. Where
    ``pages``, they get a column ``page``.
    """
    columns = result.picture_columns(classes, abstaining=abstaining, pages=pages)
    chosen = kind or (target.suffix[1:].lower() if isinstance(target, Path) else "json")
    with writing_rows(target, columns, kind) as write:

        def write_picture(picture: result.Picture) -> None:
            rows = [] if chosen in NESTED else picture.to_rows(classes, abstaining=abstaining, pages=pages)
            for row in [picture.to_json()] if chosen in NESTED else rows:
                write(row)

        yield write_picture
