"""Files below a path, whatever holds them: a folder, a zip, or the one file itself."""

import csv
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from mien.errors import DataError, MissingPathError

MAX_DEPTH = 8
"""Folders below the given one that are looked into."""


ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
"""How the names of files end that are to be unpacked; FER-2013 itself came as one."""


class Tree(Protocol):
    """Files by their names, which are relative POSIX paths, sorted; hidden files and ``__MACOSX`` are left out."""

    path: Path
    names: list[str]

    def open(self, name: str) -> IO[bytes]:
        """The file as a binary stream, which the caller closes."""

    def place(self, name: str) -> str:
        """What an error message calls the file."""

    def close(self) -> None:
        """Let go of what holds the files."""


class FolderTree:
    """The files of a folder, symbolic links followed, or a single file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path if path.is_dir() else path.parent
        self.names = sorted(_walk(path, "", ())) if path.is_dir() else [path.name]

    def open(self, name: str) -> IO[bytes]:
        """The file as a binary stream, which the caller closes."""
        return open(self._folder / name, "rb")

    def place(self, name: str) -> str:
        """What an error message calls the file."""
        return str(self._folder / name)

    def close(self) -> None:
        """Nothing is held."""


class ZipTree:
    """The members of a zip.

    Raises:
        DataError: truncated, damaged or encrypted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with explained(str(path)):
            self._zip = zipfile.ZipFile(path)
        members = [member for member in self._zip.infolist() if not member.is_dir()]
        named = {member.filename.replace("\\", "/").removeprefix("./"): member for member in members}
        self._members = {name: member for name, member in named.items() if _is_shown(name)}
        self.names = sorted(self._members)
        if any(member.flag_bits & 1 for member in members):
            self.close()
            raise DataError(f"{path}: expected a plain zip, came one with a password; unpack it and give the folder")

    def open(self, name: str) -> IO[bytes]:
        """The member as a binary stream, which the caller closes."""
        return self._zip.open(self._members[name])

    def place(self, name: str) -> str:
        """What an error message calls the member."""
        return f"{self.path}:{name}"

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """The files below a folder or in a zip, or the file itself.

    Raises:
        MissingPathError: there is no such path.
        DataError: it cannot be read, is empty, or is a damaged zip.
    """
    with explained(str(path)):
        if not path.exists():
            raise MissingPathError(f"{path}: expected labelled faces, but there is no such path; check its spelling")
        if not (path.is_dir() or path.is_file()):
            raise DataError(f"{path}: expected a file or a folder, came a device or a pipe; save it as a file")
        if path.is_file() and path.name.lower().endswith(ARCHIVES):
            raise DataError(f"{path}: expected a folder, a zip or a csv, came an archive; unpack it first")
        head = b"" if path.is_dir() else read_head(path)
        if not path.is_dir() and not head:
            raise DataError(f"{path}: expected labelled faces, came an empty file; fetch it anew")
        tree: Tree = ZipTree(path) if head[:2] == b"PK" else FolderTree(path)
    try:
        yield tree
    finally:
        tree.close()


def read_head(path: Path, count: int = 4) -> bytes:
    """The first bytes of a file, which tell its kind."""
    with open(path, "rb") as stream:
        return stream.read(count)


def read_file(tree: Tree, name: str, limit: int) -> bytes:
    """The content of one file of a tree, of at most ``limit`` bytes: a small zip can hold a huge member.

    Raises:
        DataError: it cannot be read, or is larger.
    """
    with explained(tree.place(name)), tree.open(name) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{tree.place(name)}: expected at most {limit:,} bytes, came more; leave the file out")
    return content


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what the standard library raises on unreadable files into a ``DataError`` that names the place."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or place
        raise DataError(f"{where}: expected a readable file, came one without permission; change its mode") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{place}: expected a whole file, came a damaged one ({error}); fetch it anew") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{place}: expected comma-separated text, came something else ({error}); fetch it anew"
        ) from error


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
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
