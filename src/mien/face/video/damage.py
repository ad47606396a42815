"""What shows that a video is damaged: FFmpeg's complaints while it reads, frames that it flags, gaps in time.

A damaged packet spoils its own frame and all that are predicted from it, up to the next key frame. FFmpeg flags the
first of these only, so the rest is found here, in the order of decoding. What a decoder takes for whole without a
complaint, such as a changed byte in a codec without checksums, cannot be found. See
``docs/decisions/0030-video-by-ffmpeg.md``.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import av
import av.logging

HARMLESS = re.compile(r"APP fields|SEI type|ICC profile|unref short failure|co located POCs|number of reference frames")
"""Complaints of decoders that leave the pixels as they are."""

LISTED, KEPT = 5, 1000
"""Spans, at most, that a message names, and that are remembered."""


class Listening:
    """FFmpeg's errors, which PyAV drops by default, and for the whole process; open while any video is read."""

    _lock: ClassVar = threading.Lock()
    _open: ClassVar[int] = 0
    _before: ClassVar[tuple[int | None, bool]] = (None, True)

    def __init__(self) -> None:
        self._listens = False

    def begin(self) -> None:
        """Have errors kept for :func:`complaints`, until ``end``."""
        cls = type(self)
        with cls._lock:
            if cls._open == 0:
                cls._before = av.logging.get_level(), av.logging.get_skip_repeated()
                if cls._before[0] is None:
                    av.logging.set_level(av.logging.ERROR)
                av.logging.set_skip_repeated(False)
            cls._open += not self._listens
            self._listens = True

    def end(self) -> None:
        """Leave PyAV as it was, when the last one ends; as often as you like."""
        cls = type(self)
        with cls._lock:
            cls._open -= self._listens
            if self._listens and cls._open == 0:
                av.logging.set_level(cls._before[0])
                av.logging.set_skip_repeated(cls._before[1])
            self._listens = False


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What FFmpeg complains of in this thread, in the block; the list is full when it has ended."""
    said: list[str] = []
    with av.logging.Capture() as logs:
        try:
            yield said
        finally:
            said += [text.strip() for level, _, text in logs if level <= av.logging.ERROR and not HARMLESS.search(text)]


@dataclass
class _Span:
    start: float  # seconds
    end: float
    frames: int  # damaged ones; 0 for a gap


@dataclass
class Damage:
    """The damage of one video, as far as it was read.

    Attributes:
        spoiled: packets, by their place in the order of decoding, that spoil what follows them; halves lie between.
        key: the last key frame that was shown whole; what was spoiled before it does no harm any more.
        lost: frames that could not be shown at all.
        torn: the container itself ends early or cannot be followed; why.
    """

    spoiled: list[float] = field(default_factory=list)
    key: int = -1
    lost: int = 0
    torn: str | None = None
    _spans: list[_Span] = field(default_factory=list)

    def spoil(self, packet: float) -> None:
        """Note a damaged packet, or a hole before the next one."""
        if packet not in self.spoiled:
            self.spoiled = sorted([*self.spoiled[-KEPT:], packet])

    def reaches(self, packet: int, key_frame: bool, flagged: bool) -> bool:
        """Whether the frame of a packet, the next one to be shown, is damaged; ``flagged``: says FFmpeg."""
        if flagged:
            self.spoil(packet)
        elif key_frame and packet not in self.spoiled:
            self.key = max(self.key, packet)
            self.spoiled = [each for each in self.spoiled if each > self.key]
        return any(each <= packet for each in self.spoiled)

    def add(self, start: float, end: float, frames: int) -> None:
        """Note damaged frames of a span in seconds, or with 0 frames a gap; spans come in their order."""
        last = self._spans[-1] if self._spans else None
        if last is not None and bool(last.frames) == bool(frames) and start <= last.end + 1e-3:
            last.end, last.frames = end, last.frames + frames
        elif len(self._spans) < KEPT:
            self._spans.append(_Span(start, end, frames))

    def __bool__(self) -> bool:
        return bool(self._spans or self.lost or self.torn)

    def told(self) -> str:
        """The damage in words, to follow the name of a file."""
        facts = [
            f"{each.start:.2f} to {each.end:.2f} s " + (f"damaged ({each.frames} frames)" if each.frames else "missing")
            for each in self._spans[:LISTED]
        ]
        if len(self._spans) > LISTED:
            facts.append(f"{len(self._spans) - LISTED} more spans damaged or missing")
        if self.lost:
            facts.append(f"{self.lost} frames lost")
        return "; ".join([*facts, *([self.torn] if self.torn else [])])
