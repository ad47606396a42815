"""A decoded frame -> RGB as a viewer sees it: whole lines, square pixels, upright, in the range of an ordinary screen.

Sources: ISO/IEC 14496-12, 8.3.2 (the display matrix); ITU-R BT.2100-3, tables 4 and 5 (PQ and HLG); ITU-R BT.2408-7
(reference white at 203 cd/m2); ITU-R BT.2087 (BT.2020 primaries to BT.709).
"""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import av.error
import av.filter
import numpy as np
from av.video.frame import VideoFrame as AvFrame
from av.video.reformatter import Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray

T = TypeVar("T")

ASPECTS = Fraction(1, 10), Fraction(10)
"""Pixels narrower or wider than this are a damaged statement, and are taken for square."""

SPACES = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
"""A frame's matrix of colours (ITU-T H.273, table 4) -> the scaler's."""

STANDARD_LINES = 576
"""Frames that state no matrix are taken for BT.601 up to so many lines, as players do, and for BT.709 above."""

WHITE, KNEE, PEAK = 203.0, 0.75, 1000.0
"""Diffuse white in cd/m2; the part of it up to which light is kept; the brightness of the screen that HLG is made for.
"""

BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])

STEPS = 4096  # of the tables by which light is coded again


class Turn(NamedTuple):
    """How a frame comes upright: swap its axes first, then mirror."""

    swap: bool
    left_right: bool
    up_down: bool


class Upright:
    """Turns the frames of one stream into pixels. Keeps FFmpeg's scaler between them."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def pixels(self, frame: AvFrame, aspect: Fraction, turn: Turn) -> NDArray[np.uint8]:
        """uint8 ``(H, W, 3)``, RGB. ``aspect`` is a pixel's width over its height; the width is scaled by it."""
        width = max(1, round(frame.width * aspect))
        bright = frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
        space = Colorspace.BT2020 if bright else SPACES.get(frame.colorspace)
        if space is None:  # not stated, or by damage
            space = Colorspace.ITU709 if frame.height > STANDARD_LINES else Colorspace.ITU601
        shown = self._scaler.reformat(
            frame, width, frame.height, "rgb48le" if bright else "rgb24", src_colorspace=space, interpolation="BICUBIC"
        )
        array: Any = shown.to_ndarray()
        return turned(in_range(array, frame.color_trc) if bright else array, turn)


def turn_of(frame: AvFrame) -> Turn:
    """From the display matrix; angles between are taken for the nearest quarter turn."""
    stated: Any = frame.side_data.get("DISPLAYMATRIX")
    if stated is None or len(bytes(stated)) < 36:
        return Turn(False, False, False)
    a, b, _, c, d = (int(each) for each in np.frombuffer(bytes(stated), "=i4", 5))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


def turned(pixels: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """Pixels ``(H, W, 3)`` the right way up."""
    if turn.swap:
        pixels = pixels.transpose(1, 0, 2)
    if turn.left_right:
        pixels = pixels[:, ::-1]
    if turn.up_down:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def in_range(coded: NDArray[np.uint16], curve: int) -> NDArray[np.uint8]:
    """HLG or PQ of 16 bits, BT.2020, ``(H, W, 3)`` -> sRGB of 8 bits.

    Light in units of diffuse white (203 cd/m2) is brought to BT.709's primaries. Up to three quarters of white it stays
    as it is, so that faces look as in an ordinary recording; above, the largest channel m becomes
    ``1 - exp(-(m - 0.75) / 0.25) / 4``, and the others keep their ratio to it.
    """
    light = _light(curve)[coded]  # (H, W, 3), float32
    if curve == ColorTrc.ARIB_STD_B67:  # the screen's own curve (BT.2100, OOTF), which depends on the luminance
        luminance = np.maximum(light @ BT2020_LUMINANCE.astype(np.float32), 1e-6)
        light *= (PEAK / WHITE) * luminance[..., None] ** np.float32(0.2)
    light = np.maximum(light @ BT2020_TO_BT709.T.astype(np.float32), 0)
    most = light.max(axis=-1)
    held = np.where(most > KNEE, 1 - (1 - KNEE) * np.exp(-(np.maximum(most, KNEE) - KNEE) / (1 - KNEE)), most)
    light *= (held / np.maximum(most, 1e-6))[..., None]
    steps = np.rint(light * (STEPS - 1)).astype(np.intp).clip(0, STEPS - 1)
    return np.asarray(_srgb()[steps], np.uint8)


@cache
def _light(curve: int) -> NDArray[np.float32]:
    """Code of 16 bits -> light: for PQ in units of diffuse white, for HLG the scene's, 0 to 1."""
    code = np.linspace(0, 1, 65536)
    if curve == ColorTrc.SMPTE2084:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = code ** (1 / m2)
        return np.asarray(10000 / WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1), np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.asarray(np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12), np.float32)


@cache
def _srgb() -> NDArray[np.uint8]:
    """Light in ``STEPS`` steps from 0 to 1 -> code of 8 bits (IEC 61966-2-1)."""
    light = np.linspace(0, 1, STEPS)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * coded), np.uint8)


class Deinterlacer(Generic[T]):
    """Frames that consist of two fields -> whole frames, one for one, by FFmpeg's bwdif; others pass unchanged.

    What goes with a frame comes with it again, one frame later once there was an interlaced one.
    """

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[object, ...] = ()
        self._inside: deque[T] = deque()
        self._pushed = 0

    def push(self, frame: AvFrame, given: T) -> Iterator[tuple[AvFrame, T]]:
        """The frames that are finished by this one."""
        kind = frame.width, frame.height, frame.format.name
        if self._graph is not None and kind != self._kind:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame, given
                return
            self._graph, self._kind = _weaving(frame), kind
        frame.pts, frame.time_base = self._pushed, Fraction(1, 25)  # the true time goes with what is given
        self._pushed += 1
        self._inside.append(given)
        self._graph.push(frame)
        yield from self._pulled()

    def flush(self) -> Iterator[tuple[AvFrame, T]]:
        """The frames that are still inside."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pulled()
            self._graph = None

    def _pulled(self) -> Iterator[tuple[AvFrame, T]]:
        while self._graph is not None and self._inside:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield frame, self._inside.popleft()


def _weaving(frame: AvFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph
