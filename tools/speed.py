"""Speed against accuracy: the networks in the package, and other tools as far as they were measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from mien.evaluation.metrics import wilson_interval
from mien.report.plots import INK, MEASURED, PUBLISHED, styled
from mien.runs import Report


@dataclass(frozen=True)
class Measured:
    """A network or a tool; rates in [0, 1].

    Attributes:
        title: its name.
        accuracy: on PrivateTest, one view.
        interval: its 95 % interval.
        speed: faces a second on two cores, min and max of what was measured; ``None`` where nobody did.
        is_ours: whether it is in the package.
    """

    title: str
    accuracy: float
    interval: tuple[float, float]
    speed: tuple[float, float] | None
    is_ours: bool = False


def _other(title: str, accuracy: float, images: int, speed: tuple[float, float] | None) -> Measured:
    return Measured(title, accuracy, wilson_interval(round(accuracy * images), images), speed)


OTHERS = (_other("fer", 0.655, 3589, (1200, 1800)), _other("face-api, first 1,500 pictures", 0.587, 1500, None))
"""Measured by us on PrivateTest before this project began; their predictions and versions were not kept."""


def of_card(title: str, card: Report) -> Measured:
    """A network in the package, by the card beside it."""
    found, speed = card.result("private_test"), card.faces_per_second
    if found is None or found.accuracy.ci95 is None or speed is None:
        raise ValueError(f"{title}: expected a card with PrivateTest and a speed; ship the network again")
    return Measured(title, found.accuracy.value, found.accuracy.ci95, (speed, speed), is_ours=True)


def speed_plot(entries: Sequence[Measured]) -> Figure:
    """Accuracy by faces per second, with intervals; what has no known speed is a level line."""
    speeds = [speed for entry in entries if entry.speed is not None for speed in entry.speed]
    rates = [rate for entry in entries for rate in entry.interval]
    margin = 0.1 * (max(rates) - min(rates))
    with styled():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        figure.set_label("Accuracy on PrivateTest by faces per second on two cores")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set(xlim=(min(speeds) / 2.5, 2.5 * max(speeds)), ylim=(min(rates) - margin, max(rates) + margin))
        axes.set(xlabel="faces per second on two cores", ylabel="accuracy on PrivateTest, one view")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda speed, _: f"{speed:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid()
        for entry in entries:
            _draw(axes, entry)
    return figure


def _draw(axes: Axes, entry: Measured) -> None:
    colour = MEASURED if entry.is_ours else PUBLISHED
    words = f"{'mien, ' if entry.is_ours else ''}{entry.title}  {100 * entry.accuracy:.1f} %"
    beside: dict[str, Any] = {"xytext": (8, 4), "textcoords": "offset points", "color": INK, "parse_math": False}
    if entry.speed is None:
        axes.axhspan(*entry.interval, color=colour, alpha=0.12, linewidth=0)
        axes.axhline(entry.accuracy, color=colour, linestyle="--")
        left = axes.get_xlim()[0]
        axes.annotate(f"{words}, speed not measured", (left, entry.accuracy), **beside)
        return
    low, high = entry.speed
    middle = (low * high) ** 0.5
    reach = [[entry.accuracy - entry.interval[0]], [entry.interval[1] - entry.accuracy]]
    axes.plot(entry.speed, (entry.accuracy, entry.accuracy), color=colour, linewidth=5, solid_capstyle="butt")
    axes.errorbar(middle, entry.accuracy, reach, fmt="o" if low == high else "", color=colour, markersize=7)
    axes.annotate(words, (high, entry.accuracy), fontweight="bold" if entry.is_ours else "normal", **beside)
