"""Which files a call names, and where what belongs to them is written."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mien.errors import CallError, MissingPathError

ENDINGS = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
"""Of the files that are taken from a folder; a file that is named is read whatever its ending."""


@dataclass(frozen=True)
class NamedFile:
    """A file, and its name below the folder or pattern that was given: ``trip/a.jpg`` of ``photos`` is ``trip/a``."""

    path: str
    name: str


def named_files(arguments: Sequence[str]) -> list[NamedFile]:
    """Files, the pictures of folders and their folders, and the files of patterns, each list in order of name.

    Raises:
        CallError: an address of the web.
        MissingPathError: nothing is there, a folder holds no picture, or a pattern matches none.
    """
    return [file for argument in arguments for file in _files_of(argument)]


def check_no_address(argument: str) -> None:
    """Refuse an address of the web.

    Raises:
        CallError: it is one.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", argument):
        raise CallError(f"mien reads files and fetches nothing; save {argument} and give its path")


def _files_of(argument: str) -> list[NamedFile]:
    check_no_address(argument)
    path = Path(argument)
    if path.is_dir():
        found = list(_pictures_below(argument))
        if not found:
            raise MissingPathError(f"no picture in {argument}; looked for {' '.join(ENDINGS)}")
        return found
    if not os.path.lexists(argument) and glob.has_magic(argument):
        return [NamedFile(name, Path(name).stem) for name in _matching(path, argument)]
    if not os.path.lexists(argument):
        raise MissingPathError(f"no file or folder at {argument}")
    return [NamedFile(argument, path.stem)]


def _matching(pattern: Path, argument: str) -> list[str]:
    """The files that a pattern matches; unlike ``glob``, ``pathlib`` follows no links into a circle."""
    fixed = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
    matched = Path(*pattern.parts[:fixed]).glob(str(Path(*pattern.parts[fixed:])))
    files = sorted(str(path) for path in matched if not path.is_dir())
    if not files:
        raise MissingPathError(f"no file matches {argument}")
    return files


def _pictures_below(folder: str) -> Iterator[NamedFile]:
    closed: list[str] = []
    # Links to folders are not followed, so none leads in a circle.
    for place, folders, files in os.walk(folder, onerror=lambda error: closed.append(error.filename)):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(ENDINGS):
                below = os.path.relpath(place, folder)
                yield NamedFile(os.path.join(place, name), os.path.normpath(os.path.join(below, Path(name).stem)))
    # Whoever reads a folder that cannot be looked into as a picture is told so, like of any other bad file.
    yield from (NamedFile(place, os.path.relpath(place, folder)) for place in closed)


class OutputNames:
    """Places in a folder for files that belong to inputs, each only once: ``a.png``, ``a-2.png``, ..."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()

    def place(self, name: str) -> Path:
        """A path without an ending, in a folder that is there.

        Raises:
            CallError: the folder cannot be made.
        """
        chosen, number = name, 1
        while chosen in self._taken:
            number += 1
            chosen = f"{name}-{number}"
        self._taken.add(chosen)
        path = self._folder / chosen
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CallError(f"cannot make the folder {path.parent}: {error.strerror}; choose another") from error
        return path
