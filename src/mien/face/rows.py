"""Results as JSON, JSON lines, CSV or Parquet: written one by one, in constant memory, valid wherever they stop."""

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from mien.errors import OutputError, import_extra, look_up, unknown_name
from mien.face.result import ABSTAINING_COLUMNS, PICTURE_COLUMNS, Picture

Row = Mapping[str, Any]

PARQUET_BATCH = 4096
"""Rows that are held until they are written to Parquet together."""


class RowWriter(Protocol):
    """Takes rows one by one; ``close`` makes what was written valid."""

    def write(self, row: Row) -> None:
        """Add a row."""

    def close(self) -> None:
        """Write what is still held; the stream stays open."""


class JsonWriter:
    """A list with one object a line."""

    def __init__(self, stream: IO[bytes], columns: Mapping[str, type]) -> None:
        self._stream = stream
        self._separator = b"[\n"

    def write(self, row: Row) -> None:
        """Add an object."""
        self._stream.write(self._separator + json.dumps(row).encode())
        self._separator = b",\n"

    def close(self) -> None:
        """Close the list."""
        self._stream.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class JsonLinesWriter:
    """One object a line."""

    def __init__(self, stream: IO[bytes], columns: Mapping[str, type]) -> None:
        self._stream = stream

    def write(self, row: Row) -> None:
        """Add an object."""
        self._stream.write(json.dumps(row).encode() + b"\n")

    def close(self) -> None:
        """Nothing is held."""


class CsvWriter:
    """UTF-8 with a header, lines ending in a line feed, empty cells for ``None``, ``true`` and ``false``."""

    def __init__(self, stream: IO[bytes], columns: Mapping[str, type]) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        self._columns = columns
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._csv.writerow(columns)

    def write(self, row: Row) -> None:
        """Add a row."""
        cells = (row[name] for name in self._columns)
        self._csv.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in cells])

    def close(self) -> None:
        """Let go of the stream."""
        self._text.detach()


class ParquetWriter:
    """Typed columns, compressed. Needs pyarrow, from the extra ``report``."""

    def __init__(self, stream: IO[bytes], columns: Mapping[str, type]) -> None:
        self._arrow: Any = import_extra("pyarrow", "report")
        parquet: Any = import_extra("pyarrow.parquet", "report")
        types = {str: self._arrow.string(), int: self._arrow.int64(), float: self._arrow.float64()}
        types[bool] = self._arrow.bool_()
        self._schema = self._arrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._file = parquet.ParquetWriter(stream, self._schema)
        self._held: list[Row] = []

    def write(self, row: Row) -> None:
        """Add a row."""
        self._held.append(row)
        if len(self._held) == PARQUET_BATCH:
            self._flush()

    def close(self) -> None:
        """Write what is held, and the footer."""
        if self._held:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_table(self._arrow.Table.from_pylist(self._held, self._schema))
        self._held.clear()


WRITERS: dict[str, Callable[[IO[bytes], Mapping[str, type]], RowWriter]] = {
    "csv": CsvWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "parquet": ParquetWriter,
}
"""Format, and ending of a file's name -> writer."""

NESTED = ("json", "jsonl")
"""Formats that hold a picture with its faces; the others hold a row per face."""


@contextlib.contextmanager
def writing_rows(target: Path | IO[bytes], columns: Mapping[str, type], kind: str | None = None) -> Iterator[RowWriter]:
    """Rows into a file or a binary stream.

    A file appears under its name at the end, and also where the block ends in an error or an interruption: it then
    holds the rows so far. JSON rows may have any keys.

    Args:
        target: a path, whose ending names the format, or a stream such as ``sys.stdout.buffer``.
        columns: name -> ``str``, ``int``, ``float`` or ``bool``, in order.
        kind: ``csv``, ``json``, ``jsonl`` or ``parquet``; by default the path's ending.

    Raises:
        UnknownNameError: no such format.
        MissingExtraError: Parquet without pyarrow.
        OutputError: the file cannot be written; what stood there still stands.
    """
    if not isinstance(target, Path):
        with _closing(look_up(WRITERS, kind or "json", "format")(target, columns)) as writer:
            yield writer
        return
    constructor = look_up(WRITERS, kind, "format") if kind else _writer_of(target)
    with _replacing(target) as stream, _closing(constructor(stream, columns)) as writer:
        yield writer


@contextlib.contextmanager
def writing_pictures(
    target: Path | IO[bytes], kind: str | None = None, *, abstaining: bool = False
) -> Iterator[Callable[[Picture], None]]:
    """Pictures into a file or a binary stream, as ``mien predict`` gives them. Arguments and errors as above.

    Args:
        target: as above.
        kind: as above.
        abstaining: tables get a last column ``abstained``; JSON has it always.

    Yields:
        a function that writes a picture.
    """
    chosen = kind or (target.suffix[1:].lower() if isinstance(target, Path) else "json")
    with writing_rows(target, ABSTAINING_COLUMNS if abstaining else PICTURE_COLUMNS, kind) as writer:

        def write(picture: Picture) -> None:
            for row in [picture.to_json()] if chosen in NESTED else picture.to_rows(abstaining=abstaining):
                writer.write(row)

        yield write


def _writer_of(path: Path) -> Callable[[IO[bytes], Mapping[str, type]], RowWriter]:
    ending = path.suffix[1:].lower()
    if ending in WRITERS:
        return WRITERS[ending]
    raise unknown_name([f".{name}" for name in WRITERS], path.suffix or path.name, "ending of an output file")


@contextlib.contextmanager
def _closing(writer: RowWriter) -> Iterator[RowWriter]:
    try:
        yield writer
    finally:
        writer.close()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is closed, whatever ended the block but a failed write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _cannot_write(path, error) from error
    file = _OutputFile(descriptor, path)
    try:
        with io.BufferedWriter(file) as stream:
            yield stream
    finally:
        if file.written and not file.failed:
            _publish(temporary, path)
        else:
            _remove(temporary)


class _OutputFile(io.FileIO):
    """A file that remembers whether it was written to, and whether that failed."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "wb")
        self._path = path
        self.written = self.failed = False

    def write(self, content: Any) -> int:
        """Write as any file does; errors are ours."""
        self.written = True
        try:
            return super().write(content)
        except OSError as error:
            self.failed = True
            raise _cannot_write(self._path, error) from error


def _publish(temporary: str, path: Path) -> None:
    try:
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise _cannot_write(path, error) from error


def _remove(temporary: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; free some space, or choose another place")
