"""A video file -> upright RGB frames with their presentation times, one after the other."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MediaError, MissingPathError
from mien.face.pictures import MAX_PIXELS
from mien.face.result import shown_path
from mien.face.video.container import Movie, read_movie

USUAL_RATE = 30.0
"""Frames per second of a file that does not say."""

HIGHEST_RATE = 240.0
"""Frames per second that are believed; where the rate varies, OpenCV may state the clock's, 1000 or 90000."""

MISSING_SECONDS, MISSING_SHARE = 1.0, 0.02
"""By how much pictures may end before the length that a file states: outside MP4 it is that of the sound, if longer."""


class RawFrame(NamedTuple):
    """A frame: its number from 0, its time in seconds after the first, and its pixels, uint8 ``(H, W, 3)``, RGB."""

    number: int
    time: float
    pixels: NDArray[np.uint8]


class VideoReader:
    """A video that is read once, from its beginning. Use it in a ``with`` statement, or close it.

    Times are the container's: those of a variable frame rate too. Where a frame has none, or one that is not after
    the last frame's, it comes one frame's length after that. Frames are turned upright by the file's own note.

    Attributes:
        path: of the file.
        rate: frames per second, on average; where the rate varies, a guess outside MP4.
        seconds: length as the file states it, or ``None``.
        width: of the upright frames, in pixels.
        height: likewise.
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
            raise MediaError(_why_not(self.path, movie))
        self._whole = movie is None or movie.whole
        self.seconds, self.rate = self._length(movie)
        self._end = 0.0
        if self.width * self.height > MAX_PIXELS:
            self.close()
            raise MediaError(
                f"{path}: expected frames of at most {MAX_PIXELS:,} pixels, came {self.width} x {self.height};"
                " shrink it"
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
            raise MediaError(f"{self.path}: expected a video, came a file without frames; check it in a player")
        if not self._whole:
            raise MediaError(
                f"{self.path}: the file is cut off; its pictures up to {self._end:.2f} s could be read; copy it anew"
            )
        if self.seconds is not None and self._end < self.seconds * (1 - MISSING_SHARE) - MISSING_SECONDS:
            raise MediaError(
                f"{self.path}: the file states {self.seconds:.2f} s, but its pictures end at {self._end:.2f} s;"
                " it is cut off or damaged; copy it anew"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def not_utf8(path: Path) -> bool:
    """The path holds bytes that are no UTF-8, on which OpenCV crashes."""
    return shown_path(os.path.abspath(path)) != os.path.abspath(path)


def _look_at(path: Path) -> Movie | None:
    """What an MP4 file says of itself, after what OpenCV would not bear is refused."""
    if not_utf8(path):
        raise MediaError(
            f"{shown_path(os.fspath(path))}: expected a name in UTF-8, which OpenCV needs; rename the file or folder"
        )
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            came = "a folder; name a file in it" if path.is_dir() else "a pipe or device; save it as a file"
            raise MediaError(f"{path}: expected a video file, came {came}")
        return read_movie(path)
    except FileNotFoundError as error:
        raise MissingPathError(f"{path}: expected a video, but there is no such file; check the path") from error
    except OSError as error:
        raise MediaError(
            f"{path}: expected a readable video file, came {error.strerror or error}; check its permissions"
        ) from error


def _why_not(path: Path, movie: Movie | None) -> str:
    if path.stat().st_size == 0:
        return f"{path}: expected a video, came an empty file; copy it anew"
    if movie is not None and not movie.indexed:
        return f"{path}: expected a whole video, came one without its index, which stands at the end; copy it anew"
    return f"{path}: expected a video that OpenCV can read, came something else; convert it to MP4 or WebM"
