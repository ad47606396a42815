"""A video file -> upright RGB frames with their presentation times, one after the other.

What an MP4 or QuickTime file says of itself and OpenCV does not hand over (its length, and whether it is whole) is read
from its boxes. Source: ISO/IEC 14496-12, the ISO base media file format, sections 4.2 (boxes) and 8.2 to 8.4 (movie,
track, handler).
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.face.images import MAX_PIXELS
from mien.face.result import shown_path

USUAL_RATE, HIGHEST_RATE = 30.0, 240.0
"""Frames per second of a file that does not say, and those that are believed at most; where the rate varies, OpenCV may
state the clock's, 1000 or 90000."""

MISSING_SECONDS, MISSING_FRACTION = 1.0, 0.02
"""By how much pictures may end before the length that a file states: outside MP4 it is that of the sound, if longer."""

FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Kinds of box with which an MP4 or QuickTime file begins; old QuickTime files have no ``ftyp``."""


class RawFrame(NamedTuple):
    """A frame: its number from 0, its time in seconds after the first, and its pixels, uint8 ``(H, W, 3)``, RGB."""

    number: int
    time: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Movie:
    """What the boxes of a file say."""

    whole: bool  # no box reaches beyond the end of the file
    indexed: bool  # the index, without which nothing can be read, is there
    seconds: float | None  # for how long it shows pictures; None where the index shows none, or does not say


class VideoReader:
    """A video that is read once, from its beginning. Use it in a ``with`` statement, or close it.

    Times are the container's: those of a variable frame rate too. Where a frame has none, or one that is not after
    the last frame's, it comes one frame's length after that. Frames are turned upright by the file's own note.

    Attributes:
        path: of the file.
        width, height: of the upright frames, in pixels.
        rate: frames per second, on average; where the rate varies, a guess outside MP4.
        seconds: length as the file states it, or ``None``.
    """

    def __init__(self, path: Path | str) -> None:
        """Open a video.

        Raises:
            MissingPathError: there is no such file.
            MediaError: it holds no pictures, cannot be opened, or has frames above ``MAX_PIXELS``.
        """
        self.path = Path(path)
        movie = _look_at(self.path)
        self._capture = cv2.VideoCapture(os.path.abspath(self.path), cv2.CAP_FFMPEG)
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not self._capture.isOpened() or self.width < 1 or self.height < 1:
            found = "something else; convert it to MP4 or WebM"
            if self.path.stat().st_size == 0:
                found = "an empty file; copy it again"
            elif movie is not None and not movie.indexed:
                found = "a file without its index, which stands at the end; copy it again"
            raise errors.MediaError(f"{path}: expected a whole video that OpenCV can read, got {found}")
        self._whole = movie is None or movie.whole
        self.seconds, self.rate = self._length(movie)
        self._end = 0.0
        if self.width * self.height > MAX_PIXELS:
            self.close()
            raise errors.MediaError(
                f"{path}: expected frames of at most {MAX_PIXELS:,} pixels, got {self.width} x {self.height}; shrink it"
            )

    def _length(self, movie: Movie | None) -> tuple[float | None, float]:
        """Seconds, if they are stated, and frames per second."""
        rate, frames = (self._capture.get(name) for name in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        if movie is not None and movie.seconds and frames > 0:
            return movie.seconds, min(frames / movie.seconds, HIGHEST_RATE)
        # Outside MP4, OpenCV's number of frames is the stated length times the rate, so this brings the length back.
        seconds = frames / rate if movie is None and frames > 0 and rate > 0 else None
        return seconds, rate if 0 < rate <= HIGHEST_RATE else USUAL_RATE

    def read(self, stride: int = 1) -> Iterator[RawFrame]:
        """Every ``stride``-th frame, as far as the file can be read; :meth:`check_end` says whether that is its end."""
        number, time, first = 0, 0.0, 0.0
        while self._capture.grab():
            stated = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if number == 0:
                first = stated
            else:
                time = stated - first if stated - first > time else time + 1 / self.rate
            self._end = time + 1 / self.rate
            if number % stride == 0:
                readable, bgr = self._capture.retrieve()
                if not readable:
                    return
                yield RawFrame(number, time, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))
            number += 1

    def check_end(self) -> None:
        """Compare where reading ended with what the file states.

        Raises:
            MediaError: there was no frame, or the file is cut off or damaged.
        """
        if self._end == 0:
            raise errors.MediaError(f"{self.path}: expected a video, got a file without frames; check it in a player")
        if not self._whole:
            raise errors.MediaError(
                f"{self.path}: the file is cut off; its pictures up to {self._end:.2f} s could be read; copy it again"
            )
        if self.seconds is not None and self._end < self.seconds * (1 - MISSING_FRACTION) - MISSING_SECONDS:
            raise errors.MediaError(
                f"{self.path}: the file states {self.seconds:.2f} s, but its pictures end at {self._end:.2f} s;"
                " it is cut off or damaged; copy it again"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def not_utf8(path: Path) -> bool:
    """The path holds bytes that are no UTF-8, on which OpenCV crashes."""
    return shown_path(os.path.abspath(path)) != os.path.abspath(path)


def _look_at(path: Path) -> Movie | None:
    """What an MP4 file says of itself, after what OpenCV would not bear is refused."""
    if not_utf8(path):
        raise errors.MediaError(
            f"{shown_path(os.fspath(path))}: expected a name in UTF-8, which OpenCV needs; rename the file or folder"
        )
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            found = "a folder; name a file in it" if path.is_dir() else "a pipe or device; save it as a file"
            raise errors.MediaError(f"{path}: expected a video file, got {found}")
        return read_movie(path)
    except FileNotFoundError as error:
        raise errors.MissingPathError(f"{path}: expected a video, but there is no such file; check the path") from error
    except OSError as error:
        raise errors.MediaError(
            f"{path}: expected a readable video file, got {error.strerror or error}; check its permissions"
        ) from error


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
        (length, kind), header = struct.unpack_from(">I4s", head), 8
        if length == 1 and len(head) == 16:  # the length is too large for 32 bits and follows
            (length,), header = struct.unpack_from(">Q", head, 8), 16
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
