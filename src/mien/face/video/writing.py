"""Pictures with times -> a video file with the original's sound, checked after it was written."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame as AvFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from mien import errors, files
from mien.emotions import EMOTIONS
from mien.face.result import VideoFrame, shown_path
from mien.face.video.drawing import FrameDrawing
from mien.face.video.reading import HIGHEST_RATE, VideoReader
from mien.face.video.sound import Sound, sound_of


class Format(NamedTuple):
    """How one kind of file is written.

    ``clock`` is the number of ticks in a second; sound in one of ``sounds`` is copied, other sound is written anew in
    the first of them.
    """

    codec: str
    options: dict[str, str]
    container: dict[str, str]
    clock: int
    sounds: tuple[str, ...]
    sound_encoder: str


FORMATS = {
    ".mp4": Format(
        "libx264", {"preset": "veryfast", "crf": "20"}, {"movflags": "+faststart"}, 90_000, ("aac", "mp3"), "aac"
    ),
    ".webm": Format(
        "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0", "row-mt": "1"}, {}, 1_000,
        ("opus", "vorbis"), "libopus",
    ),
}  # fmt: skip
"""Ending -> format: H.264 and AAC for players and browsers, the index first, so that it plays while it loads; VP9 and
Opus for browsers."""

LEAST_RATE = 1.0  # frames per second, in the head of a file; each frame has its own time

FRAMES_BEHIND = 4  # that wait to be drawn and encoded


def check_video_name(path: Path) -> None:
    """A ``CallError`` for a name that does not end as in ``FORMATS``, or is no UTF-8, which FFmpeg needs."""
    if path.suffix.lower() not in FORMATS:
        raise errors.CallError(f"expected the name of a video that ends in {' or '.join(FORMATS)}, got {path.name!r}")
    if shown_path(os.path.abspath(path)) != os.path.abspath(path):
        raise errors.CallError(f"expected a name in UTF-8, which FFmpeg needs, got {shown_path(os.fspath(path))}")


@contextlib.contextmanager
def writing_video(
    path: Path, rate: float, classes: tuple[str, ...] = EMOTIONS, original: VideoReader | None = None
) -> Iterator[Callable[[VideoFrame], None]]:
    """An annotated video of the frames that are given to the function, drawn and encoded in a thread of their own.

    Each frame is shown at its own time, the first one at 0. The sound is that of ``original``, where it is a file,
    from the first to the last frame. The file appears under its name at the end. Where the block ends in an error or an
    interruption, the frames so far lie beside it, as ``mien.files.writing`` says, if these can all be drawn, encoded
    and read again. ``rate``, in frames per second, is what the file states; ``classes`` are the
    network's.

    Raises:
        CallError: as :func:`check_video_name`.
        OutputError: the file cannot be written, or cannot be read again.
    """
    check_video_name(path)
    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(files.writing(path, partial=True))
        drawing, file = FrameDrawing(classes), _VideoFile(stream, path, rate, original)
        opened.callback(lambda: None if file.is_closed else os.truncate(stream.name, 0))  # when the encoder has let go
        pool = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="mien-encode"))
        behind: deque[Future[None]] = deque()

        def add(frame: VideoFrame) -> None:
            behind.append(pool.submit(lambda: file.write(drawing.draw(frame), frame.time)))
            if len(behind) > FRAMES_BEHIND:
                behind.popleft().result()

        try:
            yield add
        finally:
            try:
                while behind:
                    behind.popleft().result()
                file.close()
            except BaseException:
                pool.submit(file.release)  # in the encoder's thread, which may still write
                raise


def count_frames(name: str) -> int:
    """The frames in a video file, without decoding them."""
    with av.open(name) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


class _VideoFile:
    """A file that takes pictures with times; it is written beside ``path``, at the stream's name."""

    def __init__(self, stream: IO[bytes], path: Path, rate: float, original: VideoReader | None) -> None:
        self._name, self._path, self._original = stream.name, path, original
        self._format = FORMATS[path.suffix.lower()]
        self._rate = Fraction(min(max(rate, LEAST_RATE), HIGHEST_RATE)).limit_denominator(1001)
        self._container: Any = None
        self._stream: Any = None
        self._sound: Sound | None = None
        self._opened = contextlib.ExitStack()
        self._start = 0.0
        self._last = -1  # tick of the picture before
        self._written = 0
        self.is_closed = False  # as a file that can be read

    def write(self, picture: NDArray[np.uint8], time: float) -> None:
        """Add an RGB picture ``(h, w, 3)`` that is shown from ``time``, in seconds, until the next one."""
        height, width = picture.shape[:2]
        # Codecs halve the colours' resolution, so that the last column or row is repeated where their number is odd.
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with self._saying_what_fails():
            if self._stream is None:
                self._open(even.shape[1], even.shape[0], time)
            frame = AvFrame.from_ndarray(even).reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            self._last = max(self._last + 1, round((time - self._start) * self._format.clock))
            frame.pts, frame.time_base = self._last, Fraction(1, self._format.clock)
            self._encode(frame)
            self._written += 1
            if self._sound is not None:
                self._sound.write_until(time - self._start)

    def close(self) -> None:
        """Finish the file and see that it holds what was written. Without a frame it stays empty."""
        if self._stream is None:
            self.is_closed = True
            return
        with self._saying_what_fails():
            self._encode(None)
            if self._sound is not None:
                self._sound.write_until(self._last / self._format.clock + 1 / self._rate)
                self._sound.finish()
            self.release()
            if count_frames(self._name) != self._written:
                raise self._failed()
        self.is_closed = True

    def release(self) -> None:
        """Let go of the encoder and the original, as often as you like."""
        self._opened.close()

    def _encode(self, frame: AvFrame | None) -> None:
        self._container.mux(self._stream.encode(frame))

    def _open(self, width: int, height: int, time: float) -> None:
        self._start = time
        self._container = self._opened.enter_context(av.open(self._name, "w", options=self._format.container))
        stream: Any = self._container.add_stream(self._format.codec, self._rate, options=self._format.options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, self._format.clock)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream
        if self._original is not None:
            sounds, encoder = self._format.sounds, self._format.sound_encoder
            self._sound = self._opened.enter_context(sound_of(self._original, self._container, sounds, encoder, time))

    @contextlib.contextmanager
    def _saying_what_fails(self) -> Iterator[None]:
        """Errors of FFmpeg as ``OutputError``; those of the system, such as a full disk, pass."""
        try:
            yield
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror) from error
            raise self._failed() from error

    def _failed(self) -> errors.OutputError:
        return errors.OutputError(
            f"cannot write {self._path}: FFmpeg gave no video that can be read again; free some space, or choose"
            " another place or format"
        )
