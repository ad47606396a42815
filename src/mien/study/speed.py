"""Speed against accuracy: the networks in the package, and other tools as far as they were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mien.errors import import_extra
from mien.evaluation.metrics import wilson_interval
from mien.evaluation.svg import INK, MEASURED, PUBLISHED, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Measured:
    """A network or a tool; rates in [0, 1].

    Attributes:
        title: its name.
        accuracy: on PrivateTest, one view.
        interval: its 95 % interval.
        speed: faces a second on two cores, the least and the most that was measured; ``None`` where nobody did.
        is_ours: whether it is in the package.
    """

    title: str
    accuracy: float
    interval: tuple[float, float]
    speed: tuple[float, float] | None
    is_ours: bool = False


def _other(title: str, accuracy: float, pictures: int, speed: tuple[float, float] | None) -> Measured:
    return Measured(title, accuracy, wilson_interval(round(accuracy * pictures), pictures), speed)


OTHERS = (_other("fer", 0.655, 3589, (1200, 1800)), _other("face-api, first 1,500 pictures", 0.587, 1500, None))
"""Measured by us on PrivateTest before this project began; their predictions and versions were not kept."""


def of_card(title: str, card: Mapping[str, Any]) -> Measured:
    """A network in the package, by the card beside it."""
    found, speed = card["results"]["private_test"], card["faces_per_second"]
    return Measured(title, found["accuracy"], tuple(found["accuracy_ci95"]), (speed, speed), is_ours=True)


def speed_figure(entries: Sequence[Measured]) -> "Figure":
    """Accuracy by faces per second, with intervals; what has no known speed is a level line."""
    speeds = [speed for entry in entries if entry.speed is not None for speed in entry.speed]
    rates = [rate for entry in entries for rate in entry.interval]
    margin = 0.1 * (max(rates) - min(rates))
    with styled():
        size = {"figsize": (6.4, 3.6), "layout": "constrained"}
        figure: Figure = import_extra("matplotlib.figure", "report").Figure(**size)
        figure.set_label("Accuracy on PrivateTest by faces per second on two cores")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set(xlim=(min(speeds) / 2.5, 2.5 * max(speeds)), ylim=(min(rates) - margin, max(rates) + margin))
        axes.set(xlabel="faces per second on two cores", ylabel="accuracy on PrivateTest, one view")
        ticker = import_extra("matplotlib.ticker", "report")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda speed, _: f"{speed:,.0f}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.yaxis.set_major_locator(ticker.MaxNLocator(steps=(1, 2, 5, 10)))
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid()
        for entry in entries:
            _draw(axes, entry)
    return figure


def _draw(axes: "Axes", entry: Measured) -> None:
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
