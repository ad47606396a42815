"""Pictures with times -> a video file, checked after it was written. It has no sound: OpenCV writes none."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien import errors, files
from mien.emotions import EMOTIONS
from mien.face.result import VideoFrame, shown_path
from mien.face.video.drawing import FrameDrawing
from mien.face.video.reading import VideoReader, not_utf8

CODECS = {".mp4": "mp4v", ".webm": "VP90"}
"""Ending -> codec: MPEG-4 Part 2 for desktop players, VP9 for browsers. OpenCV's wheel writes no H.264."""

MIN_RATE, MAX_RATE = 1.0, 60.0  # frames per second

MAX_STILL_SECONDS = 60.0
"""For how long a picture may stand; longer gaps, as damaged times make them, are shortened."""

FRAMES_BEHIND = 4  # that wait to be drawn and encoded

_STDERR = threading.Lock()  # the process has one stderr, and may write several videos


def check_video_name(path: Path) -> None:
    """A ``CallError`` for a name that does not end as in ``CODECS``, or is no UTF-8: OpenCV crashes on those."""
    if path.suffix.lower() not in CODECS:
        raise errors.CallError(f"expected the name of a video that ends in {' or '.join(CODECS)}, got {path.name!r}")
    if not_utf8(path):
        raise errors.CallError(f"expected a name in UTF-8, which OpenCV needs, got {shown_path(os.fspath(path))}")


@contextlib.contextmanager
def writing_video(
    path: Path, rate: float, classes: tuple[str, ...] = EMOTIONS
) -> Iterator[Callable[[VideoFrame], None]]:
    """An annotated video of the frames that are given to the function, drawn and encoded in a thread of their own.

    The rate is constant, so frames are repeated or left out where the video's own rate varies. The file appears under
    its name at the end, and also where the block ends in an error or an interruption: it then shows the frames so far.
    Where these cannot all be drawn, encoded and read again, what stood there still stands.
    ``rate``, in frames per second, is brought between ``MIN_RATE`` and ``MAX_RATE``; ``classes`` are the network's.

    Raises:
        CallError: as :func:`check_video_name`.
        OutputError: the file cannot be written, or cannot be read again.
    """
    check_video_name(path)
    # OpenCV keeps three digits of a rate, so that with more the file's clock would go wrong within hours.
    rate = round(min(max(rate, MIN_RATE), MAX_RATE), 2)
    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(files.writing(path, empty=False))
        pool = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="mien-encode"))
        drawing, file = FrameDrawing(classes), _VideoFile(stream, path, rate)
        behind: deque[Future[None]] = deque()

        def add(frame: VideoFrame) -> None:
            behind.append(pool.submit(lambda: file.write(drawing.draw(frame), frame.time)))
            if len(behind) > FRAMES_BEHIND:
                behind.popleft().result()

        try:
            yield add
        finally:
            with opened.pop_all():  # the file takes its name unless this fails, whatever the block ended in
                try:
                    while behind:
                        behind.popleft().result()
                    file.close()
                except BaseException:
                    pool.submit(file.release)  # in the encoder's thread, which may still write
                    raise


class _VideoFile:
    """A file of constant rate that takes pictures with times; it is written beside ``path``, at the stream's name."""

    def __init__(self, stream: IO[bytes], path: Path, rate: float) -> None:
        self._name, self._path, self._rate = stream.name, path, rate
        self._encoder: Any = None
        self._last: NDArray[np.uint8] | None = None
        self._start = 0.0
        self._written = 0

    def write(self, picture: NDArray[np.uint8], time: float) -> None:
        """Add an RGB picture ``(h, w, 3)`` that is shown from ``time``, in seconds, until the next one."""
        height, width = picture.shape[:2]
        # Codecs halve the colours' resolution, so that the last column or row is repeated where their number is odd.
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        bgr = np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2BGR), np.uint8)  # (h, w, 3)
        if self._encoder is None:
            self._encoder, self._start = self._opened(bgr.shape[1], bgr.shape[0]), time
        place = round((time - self._start) * self._rate)
        longest = self._written - 1 + round(MAX_STILL_SECONDS * self._rate)
        if place > longest:
            self._start += (place - longest) / self._rate
            place = longest
        while self._written < place:
            self._encode(self._last)
        if self._written == place:
            self._encode(bgr)
        self._last = bgr

    def close(self) -> None:
        """Finish the file and see that it holds what was written. Without a frame it stays empty."""
        if self._encoder is None:
            return
        self.release()
        try:
            with VideoReader(self._name) as again:
                readable = any(True for _ in again.read())
                frames = round((again.seconds or 0) * self._rate)
        except errors.MediaError as error:
            raise self._failed() from error
        if not readable or abs(frames - self._written) > 1:
            raise self._failed()

    def release(self) -> None:
        """Let go of the encoder, as often as you like."""
        if self._encoder is not None:
            self._encoder.release()

    def _encode(self, bgr: NDArray[np.uint8] | None) -> None:
        self._encoder.write(bgr)
        self._written += 1

    def _opened(self, width: int, height: int) -> Any:
        code = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        with _without_stderr():
            encoder = cv2.VideoWriter(self._name, cv2.CAP_FFMPEG, code, self._rate, (width, height))
        if not encoder.isOpened():
            raise self._failed()
        return encoder

    def _failed(self) -> errors.OutputError:
        return errors.OutputError(
            f"cannot write {self._path}: OpenCV {cv2.__version__} gave no video that can be read again;"
            " free some space, or choose another place or format"
        )


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
