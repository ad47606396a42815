"""Files below a path, whatever holds them: a folder, a zip, or the one file itself."""

import csv
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mien.errors import DataError, MissingPathError
from mien.files import is_shown

MAX_DEPTH = 8  # folders below the given one that are looked into

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
"""Endings of files that the user is to unpack; FER-2013 itself was published as one."""


class Tree:
    """The files of a folder (links followed) or of a zip, or a single file, at ``path``.

    ``names`` are relative POSIX paths, sorted; hidden files and ``__MACOSX`` are left out.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile | None = None) -> None:
        self.path, self._archive = path, archive
        self._folder = path if path.is_dir() else path.parent
        if archive is None:
            self.names = sorted(_walk(path, "", ())) if path.is_dir() else [path.name]
            return
        members = [member for member in archive.infolist() if not member.is_dir()]
        if any(member.flag_bits & 1 for member in members):
            raise DataError(f"{path}: expected a plain zip, got one with a password; unpack it and give the folder")
        named = {member.filename.replace("\\", "/").removeprefix("./"): member for member in members}
        self._members = {name: member for name, member in named.items() if _is_shown(name)}
        self.names = sorted(self._members)

    @property
    def is_file(self) -> bool:
        """Whether this is a single file, which has nothing but its own name."""
        return self._archive is None and self._folder != self.path

    def open(self, name: str) -> IO[bytes]:
        """The file as a binary stream, which the caller closes."""
        return self._archive.open(self._members[name]) if self._archive else (self._folder / name).open("rb")

    def place(self, name: str) -> str:
        """What an error message calls the file."""
        return f"{self.path}:{name}" if self._archive else str(self._folder / name)

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file of at most ``limit`` bytes: a small zip can hold a huge member.

        Raises:
            DataError: it cannot be read, or is larger.
        """
        with explained(self.place(name)), self.open(name) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise DataError(f"{self.place(name)}: expected at most {limit:,} bytes, got more; leave the file out")
        return content


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """The files below a folder or in a zip, or the file itself.

    Raises:
        MissingPathError: there is no such path.
        DataError: it cannot be read, is empty, or is a damaged or encrypted zip.
    """
    archive = None
    with explained(str(path)):
        if not path.exists():
            raise MissingPathError(f"{path}: expected labelled faces, but there is no such path; check its spelling")
        if path.is_file():
            if path.name.lower().endswith(ARCHIVES):
                raise DataError(f"{path}: expected a folder, a zip or a csv, got an archive; unpack it first")
            head = read_head(path)
            if not head:
                raise DataError(f"{path}: expected labelled faces, got an empty file; fetch it again")
            archive = zipfile.ZipFile(path) if head[:2] == b"PK" else None
        elif not path.is_dir():
            raise DataError(f"{path}: expected a file or a folder, got a device or a pipe; save it as a file")
    try:
        with explained(str(path)):
            tree = Tree(path, archive)
        yield tree
    finally:
        if archive is not None:
            archive.close()


def read_head(path: Path, count: int = 4) -> bytes:
    """The first bytes of a file, which tell its kind."""
    with open(path, "rb") as stream:
        return stream.read(count)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what the standard library raises on unreadable files into a ``DataError`` that names the place."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or place
        raise DataError(f"{where}: expected a readable file, got one without permission; change its mode") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{place}: expected a whole file, got a damaged one ({error}); fetch it again") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{place}: expected comma-separated text, got other bytes ({error}); fetch it again") from error


def _walk(folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[str]:
    """Names of the files below ``folder``; a link to a folder ``above`` is not followed again."""
    place = folder.resolve()
    if place in above or len(above) > MAX_DEPTH:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if not _is_shown(name):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{name}/", (*above, place))
            elif entry.is_file():
                yield name


def _is_shown(name: str) -> bool:
    return all(map(is_shown, name.split("/")))
