"""Emotion over time as SVG, one plot per track, in constant memory however long the video is."""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import files
from mien.emotions import EMOTIONS
from mien.errors import OutputError
from mien.face.draw import Rgb, colors_of
from mien.face.result import VideoFrame
from mien.face.video.tracks import LOST_SECONDS

BINS, FIRST_BIN_SECONDS = 800, 1 / 64
"""Moments, at most, that are remembered of a track, and their first width; it doubles when a track outgrows them."""

MIN_SECONDS = 1.0  # shorter tracks get no plot
WIDTH, HEIGHT = 800, 240
LEFT, RIGHT, ABOVE, BELOW = 80, 130, 50, 66
"""Plot and margins, in pixels."""
LEGEND_LINE, LETTER, MAX_NAME = 32, 9, 30
"""Height of a line of the legend and width of a letter, in pixels; letters of a name."""
MAX_TICKS = 8


class TrackSeries:
    """Mean probabilities of a track in up to ``BINS`` equal spans of time."""

    def __init__(self, start: float, classes: tuple[str, ...] = EMOTIONS) -> None:
        self.start = self.last = start
        self.classes = classes
        self.bin_seconds = FIRST_BIN_SECONDS
        self._sums = np.zeros((BINS, len(classes)))
        self._counts = np.zeros(BINS)

    def add(self, probabilities: Sequence[float], time: float) -> None:
        """The track's probabilities at a time in seconds, which does not come before the last one's."""
        while (time - self.start) / self.bin_seconds >= BINS:  # join every two bins, which makes room for as many again
            for values in (self._sums, self._counts):
                joined = values.reshape(BINS // 2, 2, *values.shape[1:]).sum(axis=1)
                values[: BINS // 2], values[BINS // 2 :] = joined, 0
            self.bin_seconds *= 2
        number = int((time - self.start) / self.bin_seconds)
        self._sums[number] += probabilities
        self._counts[number] += 1
        self.last = time

    def means(self) -> NDArray[np.float64]:
        """``(n, K)`` from the start to the last moment; a bin without a frame repeats the one before."""
        used = int((self.last - self.start) / self.bin_seconds) + 1
        seen = np.flatnonzero(self._counts[:used])
        means = self._sums[seen] / self._counts[seen, None]  # (seen, K)
        return means[np.searchsorted(seen, np.arange(used), side="right") - 1]


class TrackPlots:
    """Writes ``track-0001.svg`` and so on into a folder, each when its track has ended."""

    def __init__(self, folder: Path, smoothing: float) -> None:
        """``smoothing``, in seconds, stands in the titles. Raises as :meth:`add`, where the folder cannot be made."""
        self._folder, self._lag = folder, f", smoothed over {smoothing:g} s" if smoothing else ""
        self._open: dict[int, TrackSeries] = {}
        with files.saying_what_fails(folder, OutputError):
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, frame: VideoFrame) -> None:
        """Note a frame's faces, frames in their order. An ``OutputError`` says that a plot cannot be written."""
        for face in frame.faces:
            if face.track not in self._open:
                self._open[face.track] = TrackSeries(frame.time, tuple(face.smoothed))
            self._open[face.track].add(list(face.smoothed.values()), frame.time)
        for track in [track for track, series in self._open.items() if frame.time - series.last > LOST_SECONDS]:
            self._write(track, self._open.pop(track))

    def close(self) -> None:
        """Write the plots of the tracks that have not ended. Raises as :meth:`add`."""
        while self._open:
            self._write(*self._open.popitem())

    def _write(self, track: int, series: TrackSeries) -> None:
        if series.last - series.start >= MIN_SECONDS:
            with files.writing(self._folder / f"track-{track:04d}.svg") as file:
                shown = "emotion" if series.classes == EMOTIONS else "classes"
                file.write(plot_svg(series, f"Track {track}: {shown} over time{self._lag}").encode())


def plot_svg(series: TrackSeries, title: str) -> str:
    """The probabilities of a track, stacked in the classes' order, over the video's time in seconds."""
    means, title = series.means(), html.escape(title)
    end = series.start + len(means) * series.bin_seconds
    marks = [((second - series.start) / (end - series.start) * WIDTH, second) for second in ticks(series.start, end)]
    names = [name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…" for name in series.classes]
    right = max(RIGHT, 50 + LETTER * max(map(len, names)))
    below = max(BELOW, LEGEND_LINE * len(names) - HEIGHT)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-LEFT} {-ABOVE} {LEFT + WIDTH + right}'
        f' {ABOVE + HEIGHT + below}" font-family="sans-serif" font-size="15">',
        f'<title>{title}</title><rect x="{-LEFT}" y="{-ABOVE}" width="100%" height="100%" fill="white"/>',
        f'<text y="-20" font-size="20">{title}</text>',
        *_areas(means, names, colors_of(series.classes)),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="black"/>',
        *(_tick(-6, HEIGHT * (1 - part / 100), 6, 0, f"{part} %", "end", -10, 5) for part in (0, 50, 100)),
        *(_tick(x, HEIGHT, 0, 6, f"{second:g}", "middle", 0, 22) for x, second in marks),
        f'<text x="{WIDTH / 2}" y="{HEIGHT + 50}" text-anchor="middle">time in the video (seconds)</text>',
        f'<text transform="translate(-62 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">probability</text>',
        "</svg>\n",
    ])  # fmt: skip


def _areas(means: NDArray[np.float64], names: Sequence[str], colors: Sequence[Rgb]) -> Iterator[str]:
    """Each class from the bottom to its ceiling, the top one first, so that others cover its rest; and a legend."""
    x = np.linspace(0, WIDTH, len(means) + 1)[1:]  # where each bin ends
    ceilings = np.minimum(np.cumsum(means, axis=1), 1)
    ceilings[:, -1] = 1
    for line, (name, color) in enumerate(zip(reversed(names), reversed(colors), strict=True)):
        heights = HEIGHT * (1 - ceilings[:, len(names) - 1 - line])
        steps = "".join(f"V{top:.1f}H{right:.1f}" for top, right in zip(heights, x, strict=True))
        fill = "#{:02x}{:02x}{:02x}".format(*color)
        yield f'<path fill="{fill}" d="M0 {HEIGHT}{steps}V{HEIGHT}Z"/>'
        y = LEGEND_LINE * line
        yield f'<rect x="{WIDTH + 16}" y="{4 + y}" width="17" height="17" fill="{fill}" stroke="black"/>'
        yield f'<text x="{WIDTH + 42}" y="{18 + y}">{html.escape(name)}</text>'


def _tick(x: float, y: float, right: float, down: float, text: str, anchor: str, text_x: int, text_y: int) -> str:
    line = f'<path d="M{x:.1f} {y:.1f}l{right} {down}" stroke="black"/>'
    return f'{line}<text x="{x + text_x + right:.1f}" y="{y + text_y:.1f}" text-anchor="{anchor}">{text}</text>'


def ticks(start: float, end: float) -> list[float]:
    """Round numbers from ``start`` to ``end``, at most ``MAX_TICKS`` and at least two wherever the span allows."""
    smallest = (end - start) / (MAX_TICKS - 1)
    power = 10.0 ** np.floor(np.log10(smallest))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= smallest)
    first = int(np.ceil(start / step))
    return [round(number * step, 6) for number in range(first, int(np.floor(end / step)) + 1)]
