"""A video -> one :class:`mien.face.result.VideoFrame` after the other, in constant memory."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.face.recognizer import Recognizer
from mien.face.result import VideoFrame
from mien.face.video import tracks
from mien.face.video.reading import Choice, Frames, GivenFrames, RawFrame, VideoReader

WAITING_BYTES, MAX_WAITING = 64 * 2**20, 32
"""Bytes and frames, at most, that wait until their faces fill a batch; with more the progress would stand still."""

DECODED_AHEAD = 4  # frames, at most, that are decoded and not yet searched

Video = VideoReader | Path | str | IO[bytes] | Iterable[tuple[float, NDArray[np.uint8]]]


def recognize_video(
    video: Video,
    recognizer: Recognizer | None = None,
    *,
    stride: int = 1,
    fps: float | None = None,
    start: float = 0.0,
    end: float = float("inf"),
    smoothing: float = tracks.SMOOTHING_SECONDS,
) -> Generator[VideoFrame, None, None]:
    """The faces of every frame of a video, with tracks and smoothed emotions.

    The file is opened at once, and read while the frames are taken: decoding in one thread, the search for faces (in
    threads) and batches over the faces of several frames overlap, and no more than ``WAITING_BYTES`` of frames wait.
    Closing the generator early ends its threads. Frames without a face come too; damaged ones are marked so.

    Args:
        video: a path, or a binary file that is open for reading; ``(time, pixels)`` pairs in their order, times in
            seconds, pixels uint8 ``(H, W, 3)``, RGB, or grey; or a reader of your own that has not been read. Readers
            and generators are closed at the end.
        recognizer: by default a new one.
        stride: look at every n-th frame only.
        fps: look at so many frames a second at most, chosen by their times.
        start: look at the frames from this time on, in seconds.
        end: look at the frames before this time.
        smoothing: time constant in seconds, by which ``TrackedFace.smoothed`` lags; 0 smooths nothing.

    Raises:
        MissingPathError: there is no such file.
        MediaError: it holds no pictures, or is none of these; or, after the last frame that could be read, it is
            damaged.
        ValueError: ``stride`` below 1, ``fps`` or ``smoothing`` below 0, or an ``end`` that is not after ``start``.

    Example:
        >>> from mien import recognize_video  # doctest: +SKIP
        >>> for frame in recognize_video("clip.mp4"):  # doctest: +SKIP
        ...     print(frame.time, [(face.track, face.face.emotion) for face in frame.faces])
    """
    choice = Choice(stride, fps, start, end)
    choice.check()
    follower = tracks.FaceFollower(smoothing)
    frames = _frames_of(video)
    return _recognized(frames, recognizer or Recognizer(), choice, follower)


def _frames_of(video: Any) -> Frames:
    if isinstance(video, VideoReader):
        return video
    if isinstance(video, str | Path) or (hasattr(video, "read") and hasattr(video, "seek")):
        return VideoReader(video)
    if isinstance(video, Iterable) and not isinstance(video, np.ndarray | bytes | dict):
        return GivenFrames(video)
    raise errors.MediaError(
        "expected a path, a binary file that is open, or pairs of a time in seconds and RGB pixels,"
        f" got {type(video).__name__}; of a camera, give (time, pixels) pairs"
    )


def _recognized(
    frames: Frames, recognizer: Recognizer, choice: Choice, follower: tracks.FaceFollower
) -> Generator[VideoFrame, None, None]:
    waiting: deque[RawFrame] = deque()

    def pictures(decoded: Iterator[RawFrame]) -> Iterator[NDArray[np.uint8]]:
        for frame in decoded:
            waiting.append(frame)
            yield frame.pixels

    ahead = max(1, min(MAX_WAITING, WAITING_BYTES // max(1, frames.largest)))
    decoded_ahead = 0 if recognizer.threads == 1 else min(ahead, DECODED_AHEAD)
    with contextlib.closing(frames), _ahead(frames.read(choice), decoded_ahead) as decoded:
        with contextlib.closing(recognizer.stream(pictures(decoded), ahead=ahead)) as found:
            for picture in found:
                number, time, pixels, damaged = waiting.popleft()
                yield VideoFrame(number, time, follower.follow(picture.faces, time), pixels, damaged)
        frames.check_end()


@contextlib.contextmanager
def _ahead(frames: Iterator[RawFrame], most: int) -> Iterator[Iterator[RawFrame]]:
    """Frames that are decoded in a thread of their own, at most so many ahead; the thread ends with the block.

    With 0 they are decoded where they are taken.
    """
    if not most:
        yield frames
        return
    waiting: queue.Queue[RawFrame | BaseException | None] = queue.Queue(most)
    ended = threading.Event()

    def put(item: RawFrame | BaseException | None) -> bool:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return True
        return False

    def decode() -> None:
        try:
            for frame in frames:
                if not put(frame):
                    return
            put(None)
        except BaseException as error:  # it is raised again where the frames are taken
            put(error)

    def taken() -> Iterator[RawFrame]:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=decode, name="mien-decode", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        ended.set()
        thread.join()
