"""Which files a call names: files, folders, patterns, and what comes through stdin."""

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.cli import shared
from mien.errors import CallError, MissingPathError, shorten
from mien.face import images
from mien.files import is_shown

STDIN = "-"
"""The argument for a picture, or a list of paths, that comes through stdin."""

KINDS = 8
"""Endings of files that were left out, at most, that are named."""

CONTROLS = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f]")
"""Bytes that no list of paths has."""


@dataclass(frozen=True)
class NamedFile:
    """A file, and its name below the folder or pattern that was given: ``trip/a.jpg`` of ``photos`` is ``trip/a``."""

    path: str
    name: str
    content: bytes | NDArray[np.uint8] | None = None  # what is not read from the path: a file, or a page of one

    def read(self) -> NDArray[np.uint8]:
        """Its pixels; raises as ``read_image``."""
        if isinstance(self.content, bytes):
            return images.decode_image(self.content, self.path)
        return images.read_image(self.path) if self.content is None else self.content

    def source(self) -> Path | bytes:
        """The file, or its content."""
        return self.content if isinstance(self.content, bytes) else Path(self.path)

    def pages(self) -> Iterator["NamedFile"]:
        """Its pages or frames, as files whose names end in their numbers; raises as ``read_image``."""
        for number, pixels in enumerate(images.read_pages(self.source(), self.path), 1):
            yield replace(self, name=f"{self.name}-page{number}", content=pixels)


def named_files(arguments: Sequence[str]) -> list[NamedFile]:
    """Files, the pictures of folders and their folders, and the files of patterns, each list in order of name.

    ``-`` is a picture or a list of paths on stdin. What of a folder was left out is counted on stderr.

    Raises:
        CallError: a URL, or nothing of use on stdin.
        MissingPathError: there is no file, no picture or no match.
    """
    passed: Counter[str] = Counter()
    try:
        return [file for argument in arguments for file in _files_of(argument, passed)]
    finally:
        tell_of_passed(passed)


def tell_of_passed(passed: Counter[str]) -> None:
    """Count files that were not looked at on stderr, by their endings."""
    if not passed:
        return
    kinds = [f"{count:,} {ending}" for ending, count in passed.most_common(KINDS)]
    others = passed.total() - sum(count for _, count in passed.most_common(KINDS))
    kinds += [f"{others:,} others"] if others else []
    remedy = f"; {images.HEIC_REMEDY}" if passed.keys() & set(images.HEIC_ENDINGS) else ""
    files = "1 file was" if passed.total() == 1 else f"{passed.total():,} files were"
    shared.messages.print(f"{files} not looked at: {', '.join(kinds)}{remedy}")


def _files_of(argument: str, passed: Counter[str]) -> list[NamedFile]:
    if argument == STDIN:
        return _files_from_stdin(passed)
    if argument.startswith("data:"):
        raise CallError(f"expected a path, got {shorten(argument)}; decode it, and send it to mien predict -")
    shared.check_no_url(argument)
    if os.path.isdir(argument):
        return _pictures_below(argument, passed)
    if os.path.lexists(argument):
        return [NamedFile(argument, Path(argument).stem)]
    if not glob.has_magic(argument):
        shown = shorten(argument)
        raise MissingPathError(f"expected a file or folder, got {shown}, where there is none; check the path")
    files = _files_of_pattern(argument, passed)
    if not files:
        raise MissingPathError(f"expected files, got {shorten(argument)}, which no file matches; check the pattern")
    return files


def _pictures_below(folder: str, passed: Counter[str]) -> list[NamedFile]:
    endings = images.endings()
    found = [NamedFile(path, os.path.splitext(name)[0]) for path, name in files_below(folder, endings, passed)]
    if not found:
        raise MissingPathError(f"expected a picture in {folder}, got none of {' '.join(endings)}; name another")
    return found


def _files_of_pattern(pattern: str, passed: Counter[str]) -> list[NamedFile]:
    """Files that match, and the pictures of folders that do; hidden ones only where the pattern says so."""
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    is_hidden = any(part.startswith(".") for part in parts[fixed:])
    found = []
    # Unlike glob, pathlib follows no links into a circle.
    for path in sorted(Path(*parts[:fixed]).glob(str(Path(*parts[fixed:])))):
        if not (is_hidden or all(map(is_shown, path.parts[fixed:]))):
            continue
        if not path.is_dir():
            found.append(NamedFile(str(path), path.stem))
        elif "**" not in parts:  # which has gone into it already
            below = files_below(str(path), images.endings(), passed)
            found += [NamedFile(file, os.path.join(path.name, os.path.splitext(name)[0])) for file, name in below]
    return found


def _files_from_stdin(passed: Counter[str]) -> list[NamedFile]:
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()
    if images.is_picture(content):
        return [NamedFile(STDIN, "stdin", content)]
    lines = content.split(b"\0" if b"\0" in content else b"\n")
    paths = [os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip()]
    if CONTROLS.search(content) or not paths:
        got = "something else" if content else "nothing"
        remedy = f"; {images.HEIC_REMEDY}" if images.is_heif(content) else ""
        raise CallError(f"expected a picture or a list of paths on stdin, got {got}{remedy or '; check what is sent'}")
    if STDIN in paths:
        raise CallError("expected paths on stdin, got '-', which is stdin itself; write ./- for a file of this name")
    return [file for path in paths for file in _files_of(path, passed)]


def files_below(folder: str, endings: tuple[str, ...], passed: Counter[str]) -> list[tuple[str, str]]:
    """Files below a folder with one of the ``endings``, in order of name: path, and path below the folder.

    Hidden files, and what systems put beside the user's own, are left out. ``passed`` counts the other endings. Links
    are followed, but no folder is entered twice, and none that holds this one. Folders that cannot be looked into come
    last: whoever reads one as a file is told so, like of any other bad file.
    """
    above = os.path.realpath(folder)
    entered: set[tuple[int, int]] = set()
    found: list[str] = []
    closed: list[str] = []
    tops = [folder]
    for top in tops:  # which grows: links come after the folders themselves, whose paths are the better ones
        for place, folders, names in os.walk(top, onerror=lambda error: closed.append(error.filename)):
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in entered:
                folders.clear()
                continue
            entered.add((status.st_dev, status.st_ino))
            shown = [name for name in folders if is_shown(name)]
            links = [name for name in sorted(shown) if os.path.islink(os.path.join(place, name))]
            tops += [path for path in (os.path.join(place, name) for name in links) if not _holds(path, above)]
            folders[:] = [name for name in shown if name not in links]
            for name in filter(is_shown, names):
                if name.lower().endswith(endings):
                    found.append(os.path.join(place, name))
                else:
                    passed[os.path.splitext(name)[1].lower() or "without an ending"] += 1
    below = sorted((Path(os.path.relpath(path, folder)).parts, path) for path in found)
    below.sort(key=lambda each: (each[0][:-1], each[0][-1]))  # a folder's own files come before its folders
    return [(path, os.path.join(*parts)) for parts, path in below] + [
        (place, os.path.relpath(place, folder)) for place in closed
    ]


def _holds(link: str, folder: str) -> bool:
    """Whether a link leads to a folder that holds the other one."""
    return os.path.join(folder, "").startswith(os.path.join(os.path.realpath(link), ""))
