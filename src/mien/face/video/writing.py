"""Pictures with times -> a video file, checked after it was written. It has no sound: OpenCV writes none."""

import contextlib
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import CallError, MediaError, OutputError
from mien.face.result import VideoFrame, shown_path
from mien.face.video.drawing import FrameDrawing
from mien.face.video.reading import VideoReader, not_utf8

CODECS = {".mp4": "mp4v", ".webm": "VP90"}
"""Ending -> codec: MPEG-4 Part 2 for desktop players, VP9 for browsers. OpenCV's wheel writes no H.264."""

LEAST_RATE, MOST_RATE = 1.0, 60.0
"""Frames per second."""

LONGEST_STILL = 60.0
"""Seconds, at most, for which a picture stands; longer gaps, as damaged times make them, are shortened."""

FRAMES_BEHIND = 4
"""Frames that wait to be drawn and encoded."""

_STDERR = threading.Lock()
"""The process has one stderr, and may write several videos."""


def check_video_name(path: Path) -> None:
    """Refuse a name that does not end as in ``CODECS``, or is no UTF-8: OpenCV crashes on those.

    Raises:
        CallError: it is such a name.
    """
    if path.suffix.lower() not in CODECS:
        raise CallError(f"expected the name of a video that ends in {' or '.join(CODECS)}, came {path.name!r}")
    if not_utf8(path):
        raise CallError(f"expected a name in UTF-8, which OpenCV needs, came {shown_path(os.fspath(path))}")


@contextlib.contextmanager
def writing_video(path: Path, rate: float) -> Iterator[Callable[[VideoFrame], None]]:
    """An annotated video of the frames that are given to the function, drawn and encoded in a thread of their own.

    The rate is constant, so frames are repeated or left out where the video's own rate varies. The file appears under
    its name at the end, and also where the block ends in an error or an interruption: it then shows the frames so far.

    Args:
        path: ends in ``.mp4`` or ``.webm``.
        rate: frames per second, brought between ``LEAST_RATE`` and ``MOST_RATE``.

    Yields:
        a function that adds a frame.

    Raises:
        CallError: another ending, or a name that is no UTF-8.
        OutputError: the file cannot be written, or cannot be read again.
    """
    check_video_name(path)
    with _temporary(path) as temporary, ThreadPoolExecutor(1, thread_name_prefix="mien-encode") as pool:
        # OpenCV keeps three digits of a rate, so that with more the file's clock would go wrong within hours.
        rate = round(min(max(rate, LEAST_RATE), MOST_RATE), 2)
        drawing, file = FrameDrawing(), _VideoFile(temporary, path, rate)
        behind: deque[Future[None]] = deque()

        def add(frame: VideoFrame) -> None:
            behind.append(pool.submit(lambda: file.write(drawing.draw(frame), frame.time)))
            if len(behind) > FRAMES_BEHIND:
                behind.popleft().result()

        try:
            yield add
        finally:
            while behind:
                behind.popleft().result()
            file.close()


class _VideoFile:
    """A file of constant rate that takes pictures with times."""

    def __init__(self, temporary: Path, path: Path, rate: float) -> None:
        self._temporary, self._path, self._rate = temporary, path, rate
        self._encoder: Any = None
        self._last: NDArray[np.uint8] | None = None
        self._start = 0.0
        self._written = 0

    def write(self, picture: NDArray[np.uint8], time: float) -> None:
        """Add an RGB picture ``(h, w, 3)`` that is shown from ``time``, in seconds, until the next one."""
        bgr = np.asarray(cv2.cvtColor(_even(picture), cv2.COLOR_RGB2BGR), np.uint8)  # (h, w, 3)
        if self._encoder is None:
            self._encoder = self._opened(bgr.shape[1], bgr.shape[0])
            self._start = time
        place = round((time - self._start) * self._rate)
        longest = self._written - 1 + round(LONGEST_STILL * self._rate)
        if place > longest:
            self._start += (place - longest) / self._rate
            place = longest
        while self._written < place:
            self._encode(self._last)
        if self._written == place:
            self._encode(bgr)
        self._last = bgr

    def close(self) -> None:
        """Finish the file, see that it holds what was written, and give it its name. Without a frame there is none."""
        if self._encoder is None:
            return
        self._encoder.release()
        try:
            with VideoReader(self._temporary) as again:
                readable = any(True for _ in again.read())
                frames = round((again.seconds or 0) * self._rate)
        except MediaError as error:
            raise self._failed() from error
        if not readable or abs(frames - self._written) > 1:
            raise self._failed()
        try:
            os.chmod(self._temporary, 0o644)
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def _encode(self, bgr: NDArray[np.uint8] | None) -> None:
        self._encoder.write(bgr)
        self._written += 1

    def _opened(self, width: int, height: int) -> Any:
        code = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        with _without_stderr():
            encoder = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self._rate, (width, height))
        if not encoder.isOpened():
            raise self._failed()
        return encoder

    def _failed(self) -> OutputError:
        return OutputError(
            f"cannot write {self._path}: OpenCV {cv2.__version__} gave no video that can be read again;"
            " free some space, or choose another place or format"
        )


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A file beside ``path`` with the same ending, which is gone afterwards if it did not get another name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix.lower())
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep OpenCV from telling on stderr, past its own log, that WebM files have no tag for a codec: they need none."""
    with _STDERR:  # a second thread would take this one's nothing for what was there before
        before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            os.close(nothing)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; free some space, or choose another place")


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With a last column or row repeated, where there is an odd number: codecs halve the colours' resolution."""
    height, width = picture.shape[:2]
    return (
        np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else picture
    )
