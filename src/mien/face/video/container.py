"""What an MP4 or QuickTime file says of itself and OpenCV does not hand over: its length, and whether it is whole.

Source: ISO/IEC 14496-12, the ISO base media file format, sections 4.2 (boxes) and 8.2 to 8.4 (movie, track, handler).
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Kinds of box with which such a file begins; old QuickTime files have no ``ftyp``."""


@dataclass(frozen=True)
class Movie:
    """What the boxes of a file say.

    Attributes:
        whole: no box reaches beyond the end of the file.
        indexed: the index, without which nothing can be read, is there.
        seconds: for how long it shows pictures; ``None`` where the index shows no pictures, or does not say.
    """

    whole: bool
    indexed: bool
    seconds: float | None


class _Box(NamedTuple):
    kind: bytes
    content: int
    end: int


def read_movie(path: Path) -> Movie | None:
    """What a file says of itself; ``None`` where it is of another kind."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if stream.read(8)[4:] not in FIRST_BOXES:
            return None
        boxes = list(_boxes(stream, 0, size))
        index = next((box for box in boxes if box.kind == b"moov" and box.end <= size), None)
        return Movie(
            whole=all(box.end <= size for box in boxes),
            indexed=index is not None,
            seconds=None if index is None else _seconds(stream, index),
        )


def _boxes(stream: IO[bytes], start: int, end: int) -> Iterator[_Box]:
    """The boxes that begin between two places; the last may reach beyond ``end``."""
    while start + 8 <= end:
        stream.seek(start)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        header = 8
        if length == 1 and len(head) == 16:  # the length is too large for 32 bits and follows
            (length,) = struct.unpack_from(">Q", head, 8)
            header = 16
        elif length == 0:  # until the end of the file
            length = end - start
        if length < header:
            return
        yield _Box(kind, start + header, start + length)
        start += length


def _seconds(stream: IO[bytes], movie: _Box) -> float | None:
    """Length of the first track of pictures as it is presented; ``None`` where it is not told."""
    scale = _number(stream, _inside(stream, movie, b"mvhd"), (12, ">I"), (20, ">I"))
    for track in _boxes(stream, movie.content, movie.end):
        handler = _inside(stream, track, b"mdia", b"hdlr") if track.kind == b"trak" else None
        if handler is not None and _read(stream, handler)[8:12] == b"vide":
            length = _number(stream, _inside(stream, track, b"tkhd"), (20, ">I"), (28, ">Q"))
            return length / scale if length and scale else None
    return None


def _inside(stream: IO[bytes], box: _Box, *kinds: bytes) -> _Box | None:
    """The first box of the first kind in a box, in that the first of the second kind, and so on."""
    found: _Box | None = box
    for kind in kinds:
        children = _boxes(stream, found.content, found.end) if found is not None else iter(())
        found = next((child for child in children if child.kind == kind), None)
    return found


def _number(stream: IO[bytes], box: _Box | None, short: tuple[int, str], long: tuple[int, str]) -> int | None:
    """The number at an offset of a box; ``long`` holds for boxes of version 1. All bits set mean that it is unknown."""
    content = b"" if box is None else _read(stream, box)
    offset, form = long if content[:1] == b"\1" else short
    size = struct.calcsize(form)
    if len(content) < offset + size:
        return None
    (number,) = struct.unpack_from(form, content, offset)
    return None if number == 256**size - 1 else int(number)


def _read(stream: IO[bytes], box: _Box) -> bytes:
    """The beginning of a box's content, enough for every field that is looked at."""
    stream.seek(box.content)
    return stream.read(min(40, box.end - box.content))
