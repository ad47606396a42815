"""Emotion over time, one PNG per track, in constant memory however long the video is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mien.emotions import EMOTIONS
from mien.errors import OutputError
from mien.face.draw import COLORS, stacked
from mien.face.result import VideoFrame
from mien.face.video.tracks import LOST_SECONDS

COLUMNS = 800
"""Of a figure, in pixels: the most moments that are remembered of a track."""

FIRST_COLUMN_SECONDS = 1 / 64
"""Of a column, until a track is longer than ``COLUMNS`` of them; then it doubles, and so on."""

SHORTEST_SECONDS = 1.0
"""Tracks that are shorter get no figure."""

PLOT_HEIGHT = 240
LEFT, RIGHT, ABOVE, BELOW = 80, 130, 50, 66
"""Margins, in pixels."""

TICKS = 8
"""Marks on the time axis, at most."""


class TrackSeries:
    """Mean probabilities of a track in up to ``COLUMNS`` equal spans of time."""

    def __init__(self, start: float) -> None:
        self.start = self.last = start
        self.column_seconds = FIRST_COLUMN_SECONDS
        self._sums = np.zeros((COLUMNS, len(EMOTIONS)))
        self._counts = np.zeros(COLUMNS)

    def add(self, probabilities: Sequence[float], time: float) -> None:
        """The track's probabilities at a time in seconds, which does not come before the last one's."""
        while (time - self.start) / self.column_seconds >= COLUMNS:
            self._halve()
        column = int((time - self.start) / self.column_seconds)
        self._sums[column] += probabilities
        self._counts[column] += 1
        self.last = time

    def columns(self) -> NDArray[np.float64]:
        """``(n, 7)`` from the start to the last moment; where there was no frame, the one before stands."""
        used = int((self.last - self.start) / self.column_seconds) + 1
        seen = np.flatnonzero(self._counts[:used])
        means = self._sums[seen] / self._counts[seen, None]  # (seen, 7)
        return means[np.searchsorted(seen, np.arange(used), side="right") - 1]

    def _halve(self) -> None:
        """Join every two columns, which makes room for as many again."""
        for values in (self._sums, self._counts):
            joined = values.reshape(COLUMNS // 2, 2, *values.shape[1:]).sum(axis=1)
            values[: COLUMNS // 2], values[COLUMNS // 2 :] = joined, 0
        self.column_seconds *= 2


class TrackFigures:
    """Writes ``track-0001.png`` and so on into a folder, each when its track has ended."""

    def __init__(self, folder: Path, smoothing: float) -> None:
        """``smoothing``, in seconds, is told in the figures.

        Raises:
            OutputError: the folder cannot be made.
        """
        self._folder, self._smoothing = folder, smoothing
        self._open: dict[int, TrackSeries] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error

    def add(self, frame: VideoFrame) -> None:
        """Note a frame's faces; frames come in their order.

        Raises:
            OutputError: a figure cannot be written.
        """
        for face in frame.faces:
            if face.track not in self._open:
                self._open[face.track] = TrackSeries(frame.time)
            self._open[face.track].add(list(face.smoothed.values()), frame.time)
        for track in [track for track, series in self._open.items() if frame.time - series.last > LOST_SECONDS]:
            self._write(track, self._open.pop(track))

    def close(self) -> None:
        """Write the figures of the tracks that have not ended.

        Raises:
            OutputError: one cannot be written.
        """
        while self._open:
            self._write(*self._open.popitem())

    def _write(self, track: int, series: TrackSeries) -> None:
        if series.last - series.start < SHORTEST_SECONDS:
            return
        path = self._folder / f"track-{track:04d}.png"
        lag = f", smoothed over {self._smoothing:g} s" if self._smoothing else ""
        try:
            draw_figure(series, f"Track {track}: emotion over time{lag}").save(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}; free some space") from error


def draw_figure(series: TrackSeries, title: str) -> Image.Image:
    """The probabilities of a track, stacked, over the video's time in seconds."""
    canvas = Image.new("RGB", (LEFT + COLUMNS + RIGHT, ABOVE + PLOT_HEIGHT + BELOW), "white")
    draw = ImageDraw.Draw(canvas)
    plot = Image.fromarray(stacked(series.columns(), PLOT_HEIGHT))
    canvas.paste(plot.resize((COLUMNS, PLOT_HEIGHT), Image.Resampling.NEAREST), (LEFT, ABOVE))
    draw.rectangle((LEFT - 1, ABOVE - 1, LEFT + COLUMNS, ABOVE + PLOT_HEIGHT), outline="black")
    draw.text((LEFT, ABOVE / 2), title, "black", ImageFont.load_default(20), anchor="lm")
    _draw_axes(canvas, draw, series)
    _draw_legend(draw)
    return canvas


def _draw_axes(canvas: Image.Image, draw: ImageDraw.ImageDraw, series: TrackSeries) -> None:
    font = ImageFont.load_default(15)
    for percent in (0, 50, 100):
        y = ABOVE + PLOT_HEIGHT * (1 - percent / 100)
        draw.line((LEFT - 6, y, LEFT - 1, y), fill="black")
        draw.text((LEFT - 10, y), f"{percent} %", "black", font, anchor="rm")
    end = series.start + len(series.columns()) * series.column_seconds
    for second in ticks(series.start, end):
        x = LEFT + COLUMNS * (second - series.start) / (end - series.start)
        draw.line((x, ABOVE + PLOT_HEIGHT, x, ABOVE + PLOT_HEIGHT + 6), fill="black")
        draw.text((x, ABOVE + PLOT_HEIGHT + 10), f"{second:g}", "black", font, anchor="mt")
    bottom = canvas.height - 8
    draw.text((LEFT + COLUMNS / 2, bottom), "time in the video (seconds)", "black", font, anchor="mb")
    upright = Image.new("L", (PLOT_HEIGHT, 20))
    ImageDraw.Draw(upright).text((PLOT_HEIGHT / 2, 10), "probability", 255, font, anchor="mm")
    upright = upright.transpose(Image.Transpose.ROTATE_90)
    canvas.paste("black", (4, ABOVE), upright)


def _draw_legend(draw: ImageDraw.ImageDraw) -> None:
    """From top to bottom as in the stack."""
    font = ImageFont.load_default(15)
    for line, (emotion, color) in enumerate(reversed(COLORS.items())):
        x, y = LEFT + COLUMNS + 16, ABOVE + 4 + 32 * line
        draw.rectangle((x, y, x + 17, y + 17), fill=color, outline="black")
        draw.text((x + 26, y + 9), emotion.value, "black", font, anchor="lm")


def ticks(start: float, end: float) -> list[float]:
    """Round numbers from ``start`` to ``end``, at most ``TICKS`` and at least two wherever the span allows."""
    least = (end - start) / (TICKS - 1)
    power = 10.0 ** np.floor(np.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
    first = int(np.ceil(start / step))
    return [round(number * step, 6) for number in range(first, int(np.floor(end / step)) + 1)]
