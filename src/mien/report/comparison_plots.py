"""Drawings of several models or tries side by side: as those of ``plots``, pure and without files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mien.report.plots import (
    INK,
    MAX_NAME,
    MEASURED,
    PUBLISHED,
    TRAINING,
    as_percent,
    legend_above,
    new_figure,
    shortened,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Compared:
    """A line of the comparison: mean accuracy, its 95 % interval, what was published, and each of several seeds' own.

    Rates are in [0, 1]; ``comparable`` says whether it was measured in the published configuration.
    """

    title: str
    accuracy: float
    interval: tuple[float, float]
    published: float | None = None
    comparable: bool = True
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class TriedPoint:
    """A try of a search: its place among the ``values`` of the first key, its value of the second, its accuracy."""

    place: int
    line: str
    accuracy: float
    interval: tuple[float, float]
    is_finished: bool
    is_chosen: bool


def comparison(entries: Sequence[Compared]) -> "Figure":
    """Accuracy of several models with 95 % intervals, beside what was published for them."""
    values = [value for entry in entries for value in (*entry.interval, *entry.seeds)]
    values += [entry.published for entry in entries if entry.published is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = max(0.08 * (high - low), 0.01)
    with styled():
        figure = new_figure(0.48 * len(entries) + 0.85, "Accuracy of the models with 95 % intervals")
        axes = figure.subplots()
        for line, entry in enumerate(entries):
            _compared(axes, line, entry)
        axes.set(xlim=(max(0.0, low - margin), min(1.0, high + margin)), ylim=(len(entries) - 0.5, -0.7))
        axes.set_xlabel("accuracy")
        as_percent(axes.xaxis)
        axes.set_yticks([])
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        handles, names = axes.get_legend_handles_labels()
        named = dict(zip(names, handles, strict=True))
        legend_above(axes, list(named.values()), list(named), ncols=2, fontsize=7.5)
    return figure


def _compared(axes: "Axes", line: int, entry: Compared) -> None:
    """One model: its name and accuracy, and below them the interval."""
    title = shortened(entry.title, MAX_NAME)
    beside, percent = axes.get_yaxis_transform(), f"{100 * entry.accuracy:.1f} %"
    # A dollar sign in a recipe's name is no mathematics.
    axes.text(0, line - 0.33, title, transform=beside, va="center", parse_math=False)
    axes.text(1, line - 0.33, percent, transform=beside, va="center", ha="right", fontweight="bold")
    axes.plot(entry.interval, (line, line), color=MEASURED, linewidth=2, solid_capstyle="butt")
    axes.plot(entry.accuracy, line, "o", color=MEASURED, markersize=6, label="measured, 95 % interval")
    for accuracy in entry.seeds:
        axes.plot(accuracy, line, "|", color=INK, markersize=7, alpha=0.8, label="single seeds")
    if entry.published is not None:
        fill = PUBLISHED if entry.comparable else "none"
        label = "published" if entry.comparable else "published, other configuration"
        axes.plot(entry.published, line, "D", color=PUBLISHED, markerfacecolor=fill, markersize=5, label=label)


LINES = tuple(zip((MEASURED, TRAINING, PUBLISHED, INK) * 2, "osD^vP<>", strict=True))
"""Colour and marker of each line of a search."""


def search(points: Sequence[TriedPoint], key: str, values: Sequence[str]) -> "Figure":
    """Validation accuracy by the values of a key, a line for each value of another; stopped tries are hollow."""
    lines = list(dict.fromkeys(point.line for point in points))
    with styled():
        figure = new_figure(3.2, f"Validation accuracy by {key}, with intervals")
        axes = figure.subplots()
        for number, (line, (colour, marker)) in enumerate(zip(lines, LINES, strict=False)):
            shift = 0.12 * (number - (len(lines) - 1) / 2)  # else intervals would hide each other
            mine = [(point.place + shift, point) for point in points if point.line == line]
            finished = [(x, point.accuracy) for x, point in mine if point.is_finished]
            axes.plot(*zip(*finished, strict=True), color=colour, linewidth=1, alpha=0.6) if finished else None
            axes.plot([], [], marker, color=colour, markersize=5, label=line or "trained to the end")
            for x, point in mine:
                fill = colour if point.is_finished else "none"
                axes.plot((x, x), point.interval, color=colour, linewidth=1.2)
                axes.plot(x, point.accuracy, marker, color=colour, markerfacecolor=fill, markersize=5)
                if point.is_chosen:
                    axes.plot(x, point.accuracy, "o", color=INK, markerfacecolor="none", markersize=11, label="chosen")
        if not all(point.is_finished for point in points):
            axes.plot([], [], "o", color=INK, markerfacecolor="none", markersize=5, label="stopped early")
        axes.set_xticks(range(len(values)), values, parse_math=False)
        axes.set(xlim=(-0.5, len(values) - 0.5), xlabel=key, ylabel="validation accuracy")
        axes.grid(axis="y")
        as_percent(axes.yaxis)
        legend_above(axes, ncols=2, fontsize=7.5)
    return figure
