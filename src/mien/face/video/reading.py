"""A video -> upright RGB frames with their presentation times, one after the other."""

import math
import os
import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, Self

import av.error
import numpy as np
from av.video.frame import VideoFrame as AvFrame
from numpy.typing import NDArray

from mien import errors
from mien.face.images import MAX_PIXELS, check_image
from mien.face.result import shown_path
from mien.face.video.damage import Damage
from mien.face.video.decoding import Decoded, Decoder
from mien.face.video.pixels import ASPECTS, Deinterlacer, Turn, Upright, turn_of

USUAL_RATE, HIGHEST_RATE = 30.0, 240.0
"""Frames per second of a file that does not say, and those that are believed at most; some files state a clock's."""

GAP_FRAMES = 1.5  # distance in usual ones beyond which a frame is missing, where data are
RHYTHM = 25  # frames whose distances give the usual one
REORDERED = 16  # frames, at most, by which the order of decoding runs ahead of what is shown


class RawFrame(NamedTuple):
    """A frame: its number from 0, its time in seconds after the first, and its pixels, uint8 ``(H, W, 3)``, RGB."""

    number: int
    time: float
    pixels: NDArray[np.uint8]
    damaged: bool = False


class Choice(NamedTuple):
    """Which frames to look at: every ``stride``-th, or ``fps`` of them a second, from ``start`` to ``end`` seconds."""

    stride: int = 1
    fps: float | None = None
    start: float = 0.0
    end: float = math.inf

    def check(self) -> None:
        """Raise ``ValueError`` for a choice that nothing can fulfil."""
        if self.stride < 1:
            raise ValueError(f"expected a stride of at least 1, got {self.stride}")
        if self.fps is not None and not (self.fps > 0 and math.isfinite(self.fps)):
            raise ValueError(f"expected fps above 0, got {self.fps}")
        if not 0 <= self.start < self.end:
            raise ValueError(f"expected a start of 0 or later, and an end after it, got {self.start} and {self.end}")


ALL = Choice()


class Chooser:
    """Applies a :class:`Choice` to frames in their order."""

    def __init__(self, choice: Choice) -> None:
        self._choice, self._next = choice, 0

    def takes(self, number: int, time: float) -> bool:
        """Whether a frame is looked at: with ``fps`` the first one at or after each moment n / fps."""
        stride, fps, start, end = self._choice
        if not start <= time < end or number % stride:
            return False
        if fps is None:
            return True
        moment = math.floor(time * fps + 1e-6)
        if moment < self._next:
            return False
        self._next = moment + 1
        return True


class Frames(Protocol):
    """What :func:`mien.face.video.recognize_video` reads. ``largest`` is a frame's size in bytes, about."""

    largest: int

    def read(self, choice: Choice) -> Iterator[RawFrame]:
        """The chosen frames."""

    def check_end(self) -> None:
        """Raise ``MediaError`` where something was wrong."""

    def close(self) -> None:
        """Let go of the source."""


class _Place(NamedTuple):
    number: int
    time: float
    damaged: bool
    turn: Turn
    aspect: Fraction


class VideoReader:
    """A video that is read once, from its beginning. Use it in a ``with`` statement, or close it.

    Times are the container's: those of a variable frame rate too. Where a frame has none, or one that is not after
    the last frame's, it comes one frame's length after that. Frames are shown as a player shows them: upright, with
    square pixels, without the combs of interlaced fields, HDR in the range of an ordinary screen
    (:mod:`mien.face.video.pixels`). A size that changes on the way changes that of the frames.

    Attributes:
        name: of the file, for messages.
        width, height: of the first frame, in pixels.
        rate: frames per second, on average; where the rate varies, a guess outside MP4.
        seconds: length as the file states it, or ``None``.
        streams: number of picture streams in the file.
        sound_offset: by how many seconds the first picture comes after the first sound; ``None`` without sound.
        largest: bytes of a frame, about.
    """

    def __init__(self, source: Path | str | IO[bytes], *, stream: int | None = None) -> None:
        """Open a video: a path, or a binary file that is open for reading; it is read up to its first frame.

        ``stream`` is the number of the picture stream, from 0; by default the one that FFmpeg takes for the main one.

        Raises:
            MissingPathError: there is no such file.
            MediaError: it holds no video, cannot be opened, or has frames above ``MAX_PIXELS``.
            CallError: it has no such ``stream``.
        """
        given: Any = source
        self._own = None if hasattr(given, "read") else _open_file(Path(given))
        file: IO[bytes] = self._own or given
        self.path = None if self._own is None else Path(given)
        self.name = shown_path(os.fspath(self.path)) if self.path else str(getattr(source, "name", "the video"))
        try:
            self._decoder = Decoder(file, str(self.name), stream)
        except BaseException:
            self._release()
            raise
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        context, video = self._decoder.stream.codec_context, self._decoder.stream
        if context.width * context.height > MAX_PIXELS:
            raise errors.MediaError(
                f"{self.name}: expected frames of at most {MAX_PIXELS:,} pixels,"
                f" got {context.width} x {context.height}; shrink it"
            )
        rate = float(video.average_rate or video.guessed_rate or 0)
        self.rate = rate if 0 < rate <= HIGHEST_RATE else USUAL_RATE
        self.seconds, self.streams = self._decoder.seconds, self._decoder.streams
        self._frames = self._decoder.frames()
        self._first = next(self._frames, None)
        if self._first is None:
            codec = context.codec.long_name
            raise errors.MediaError(
                f"{self.name}: expected a video, got a file without frames that can be decoded ({codec});"
                " check it in a player"
            )
        self._stated_aspect = video.sample_aspect_ratio, context.sample_aspect_ratio
        first, aspect, turn = self._first.frame, self._aspect(), turn_of(self._first.frame)
        self.width, self.height = round(first.width * aspect), first.height
        if turn.swap:
            self.width, self.height = self.height, self.width
        self.largest = 3 * self.width * self.height
        earlier = [time for time in self._decoder.holes if self._first.time is not None and time < self._first.time]
        self._origin = min([*earlier, self._first.time or 0.0])
        sound = self._decoder.origin_of_sound
        self.sound_offset = None if sound is None or self._first.time is None else self._first.time - sound

    @property
    def damage(self) -> Damage:
        """What was found damaged so far."""
        return self._decoder.damage

    @property
    def origin(self) -> float:
        """The time of the first frame on the file's own clock, in seconds."""
        return self._origin

    def _aspect(self) -> Fraction:
        """Width of a pixel over its height: the container's, until the pictures themselves state another."""
        container, before = self._stated_aspect
        now = self._decoder.stream.codec_context.sample_aspect_ratio
        aspect = Fraction((now if now and now != before else container) or now or 1)
        return aspect if ASPECTS[0] <= aspect <= ASPECTS[1] else Fraction(1)

    def read(self, choice: Choice = ALL) -> Iterator[RawFrame]:
        """The chosen frames, as far as the file can be read; :meth:`check_end` says what was damaged."""
        chooser, upright, fields = Chooser(choice), Upright(), Deinterlacer[_Place]()

        def chosen(frames: Iterator[tuple[AvFrame, _Place]]) -> Iterator[RawFrame]:
            for frame, (number, time, damaged, turn, aspect) in frames:
                if chooser.takes(number, time):
                    try:
                        yield RawFrame(number, time, upright.pixels(frame, aspect, turn), damaged)
                    except av.error.FFmpegError:  # damage has given it a form that cannot be
                        self.damage.lost += 1

        for decoded, place in self._placed():
            if place.time >= choice.end:
                break
            yield from chosen(fields.push(decoded.frame, place))
        yield from chosen(fields.flush())

    def _placed(self) -> Iterator[tuple[Decoded, _Place]]:
        """Every frame with its number and time; damage and gaps are noted."""
        number, last, shown_for = 0, -math.inf, 0.0
        distances: deque[float] = deque(maxlen=RHYTHM)
        decoded = self._first
        while decoded is not None:
            number += decoded.lost
            time = (decoded.time if decoded.time is not None else -math.inf) - self._origin
            usual = statistics.median(distances) if distances else 1 / self.rate
            if not time > last:
                time = last + usual if last >= 0 else 0.0
            if last >= 0 and not self._gap(last, time, max(usual, shown_for)):
                distances.append(time - last)
            if decoded.damaged:
                self.damage.add(time, time + usual, 1)
            stream = self._decoder.stream
            shown_for = float((decoded.frame.duration or 0) * (stream.time_base or 0))
            yield decoded, _Place(number, time, decoded.damaged, turn_of(decoded.frame), self._aspect())
            number, last = number + 1, time
            decoded = next(self._frames, None)

    def _gap(self, last: float, time: float, usual: float) -> bool:
        """Whether frames are missing between two, which is noted: they lie far apart, and data there are damaged."""
        around = REORDERED * usual
        spoilt = any(last - around < hole - self._origin < time + around for hole in self._decoder.holes)
        if not (spoilt and time - last > GAP_FRAMES * usual):
            return False
        self.damage.add(last + usual, time, 0)
        return True

    def check_end(self) -> None:
        """Raise ``MediaError`` that tells the damage of what was read, where there is any."""
        if self.damage:
            raise errors.MediaError(f"{self.name}: {self.damage.told()}; rows go on behind it; copy the file again")

    def close(self) -> None:
        """Let go of the file; one that was given open stays so."""
        self._decoder.close()
        self._release()

    def _release(self) -> None:
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GivenFrames:
    """Frames of one's own, ``(time, pixels)``, such as a camera's: seconds, and uint8 ``(H, W, 3)``, RGB, or grey."""

    largest = 3 * 1920 * 1080

    def __init__(self, pairs: Iterable[object]) -> None:
        self._pairs = iter(pairs)

    def read(self, choice: Choice) -> Iterator[RawFrame]:
        """The chosen frames; a ``MediaError`` says what is wrong with a pair."""
        chooser, last = Chooser(choice), -math.inf
        for number, pair in enumerate(self._pairs):
            given: Any
            pixels: Any
            try:
                given, pixels = pair  # type: ignore[misc]
                time = float(given)
            except (TypeError, ValueError) as error:
                raise errors.MediaError(
                    f"expected pairs of a time in seconds and pixels, got {type(pair).__name__} as frame {number}"
                ) from error
            if not (isinstance(pixels, np.ndarray) and last < time < math.inf):
                found = f"the time {time} after {last}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
                raise errors.MediaError(
                    f"expected a later time than the last frame's and an array of pixels, got {found} as frame {number}"
                )
            check_image(pixels)
            last = time
            if chooser.takes(number, time):
                yield RawFrame(number, time, pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1))

    def check_end(self) -> None:
        """Nothing is known of an end."""

    def close(self) -> None:
        """Let a generator end what it holds."""
        close = getattr(self._pairs, "close", None)
        if close is not None:
            close()


def _open_file(path: Path) -> IO[bytes]:
    name = shown_path(os.fspath(path))
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            found = "a folder; name a file in it" if path.is_dir() else "a pipe or device; save it as a file"
            raise errors.MediaError(f"{name}: expected a video file, got {found}")
        file = path.open("rb")
        if os.fstat(file.fileno()).st_size == 0:
            file.close()
            raise errors.MediaError(f"{name}: expected a whole video, got an empty file; copy it again")
        return file
    except FileNotFoundError as error:
        raise errors.MissingPathError(f"{name}: expected a video, but there is no such file; check the path") from error
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise errors.MediaError(
            f"{name}: expected a readable video file, got {reason}; check its permissions"
        ) from error
