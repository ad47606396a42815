"""A video -> one :class:`mien.face.result.VideoFrame` after the other, in constant memory."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.face.recognizer import Recognizer
from mien.face.result import VideoFrame
from mien.face.video import tracks
from mien.face.video.reading import RawFrame, VideoReader

WAITING_BYTES, MAX_WAITING = 64 * 2**20, 32
"""Bytes and frames, at most, that wait until their faces fill a batch; with more the progress would stand still."""


def recognize_video(
    video: VideoReader | Path | str,
    recognizer: Recognizer | None = None,
    *,
    stride: int = 1,
    smoothing: float = tracks.SMOOTHING_SECONDS,
) -> Generator[VideoFrame, None, None]:
    """The faces of every frame of a video, with tracks and smoothed emotions.

    The file is opened at once, and read while the frames are taken: decoding, the search for faces (in threads) and
    batches over the faces of several frames overlap, and no more than ``WAITING_BYTES`` of frames wait. Closing the
    generator early ends its threads. Frames without a face come too.

    Args:
        video: a file, or a reader of your own that has not been read; it is closed at the end.
        recognizer: by default a new one.
        stride: look at every n-th frame only.
        smoothing: time constant in seconds, by which ``TrackedFace.smoothed`` lags; 0 smooths nothing.

    Raises:
        MissingPathError: there is no such file.
        MediaError: it holds no pictures; or, after the last frame that could be read, it is cut off or damaged.
        ValueError: ``stride`` below 1, or ``smoothing`` below 0.

    Example:
        >>> from mien import recognize_video  # doctest: +SKIP
        >>> for frame in recognize_video("clip.mp4"):  # doctest: +SKIP
        ...     print(frame.time, [(face.track, face.face.emotion) for face in frame.faces])
    """
    if stride < 1:
        raise ValueError(f"expected a stride of at least 1, got {stride}")
    follower = tracks.FaceFollower(smoothing)
    reader = video if isinstance(video, VideoReader) else VideoReader(video)
    return _recognized(reader, recognizer or Recognizer(), stride, follower)


def _recognized(
    reader: VideoReader, recognizer: Recognizer, stride: int, follower: tracks.FaceFollower
) -> Generator[VideoFrame, None, None]:
    waiting: deque[RawFrame] = deque()

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for frame in reader.read(stride):
            waiting.append(frame)
            yield frame.pixels

    ahead = max(1, min(MAX_WAITING, WAITING_BYTES // (3 * reader.width * reader.height)))
    with reader, contextlib.closing(recognizer.stream(pictures(), ahead=ahead)) as found:
        for picture in found:
            number, time, pixels = waiting.popleft()
            yield VideoFrame(number, time, follower.follow(picture.faces, time), pixels)
        reader.check_end()
