"""Numbers -> drawings: pure, without files, and without matplotlib's global state.

Every function returns a matplotlib ``Figure`` about as wide as half a page; :meth:`Plot.of` turns it into SVG, with the
numbers that its caption tells. Matplotlib is imported when something is drawn.

Lines and letters are drawn in one colour, which the SVG names ``currentColor``: dark on a light page, light on a dark
one. The other colours are mid-tones that keep a contrast of 3 : 1 or more on both, and differ for colour-blind
readers; areas are translucent instead of pale.

To add a plot to the page of a run: a function here, a line in ``run_page.PLOTS``, and a macro with its caption in
``templates/captions.html.j2``.
"""

import base64
import contextlib
import io
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import import_extra
from mien.evaluation.metrics import ECE_BINS, Labels, Probabilities, wilson_interval
from mien.evaluation.robustness import RobustnessReport
from mien.files import write_text
from mien.report.format import shown
from mien.runs import MetricRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""Stands for ``currentColor`` until the figure is saved."""
MEASURED = "#3f87c9"
"""Blue: measured on images that were not trained on."""
TRAINING = "#cf861d"
"""Amber: measured on the images that are trained on."""
PUBLISHED = "#c4539a"
"""Purple: what somebody else reported."""

STYLE: dict[str, object] = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "grid.color", "text.color"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.linewidth", "grid.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine measures letters alike
    "font.size": 8.5,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "mien",
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}

_PAGE_STYLE = """<style>
:root { color: #1b1f24; background: #ffffff; }
@media (prefers-color-scheme: dark) { :root { color: #e4e7ea; background: #14171a; } }
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif !important; }
</style>"""
"""The colours of a page, light and dark, in the SVG itself: a browser keeps an embedded image apart from its page."""

WIDTH = 4.8
"""Inches, of every figure but wide ones, so that letters are equally large in all of them."""
MAX_COUNTED, CELL = 12, 0.2
"""Classes of a confusion matrix whose cells have room for numbers of faces; inches of a cell where there are more."""
MAX_NAME, MAX_CLASS_NAME, MAX_LEVEL = 42, 20, 8
"""Letters of a model's name, of a class's, and of one that stands level above a column."""
MAX_MARKED = 40
"""Epochs that are marked on a curve one by one."""
MAX_OPACITY = 0.75
"""Opacity of a full cell; more would hide its numbers."""


@dataclass(frozen=True)
class Plot:
    """A drawing on a page, ``figures/<name>.svg``, and the ``numbers`` that its caption tells.

    ``kind`` is the macro in ``captions.html.j2`` that shows it; ``alt`` is for readers who do not see it; ``wide``
    needs the width of the page.
    """

    name: str
    kind: str
    svg: str
    alt: str
    numbers: Mapping[str, object] = field(default_factory=dict)
    wide: bool = False

    @classmethod
    def of(cls, figure: "Figure", kind: str, name: str = "", **numbers: object) -> "Plot":
        """A figure and the numbers of its caption; the file is called by the kind unless ``name`` says otherwise."""
        wide = bool(figure.get_figwidth() > WIDTH)
        return cls(name or kind, kind, save_svg(figure), str(figure.get_label()), numbers, wide)

    @property
    def address(self) -> str:
        """``data:`` address of the SVG, for an ``<img>``."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def write_plots(folder: Path, plots: Sequence[Plot]) -> None:
    """Write each plot as ``folder/figures/<name>.svg``."""
    for plot in plots:
        write_text(folder / "figures" / f"{plot.name}.svg", plot.svg)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The figures' style within the block; the caller's settings stand again after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with import_extra("matplotlib", "report").rc_context(STYLE):
        yield


def save_svg(figure: "Figure") -> str:
    """A figure as an SVG file that is readable by itself, on light and on dark; equal figures give equal text.

    The figure's label (``figure.set_label``) becomes its description for readers who do not see it.
    """
    buffer = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # Names of classes in letters that its font lacks: they are only measured by it, and the page has others.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(_NO_METADATA))
    text = re.sub(r"<[^>]+>", lambda tag: _shorter(tag[0]), buffer.getvalue().decode())
    label = escape(str(figure.get_label()))
    return re.sub(
        r'.*?<svg[^>]*(viewBox="[^"]*")[^>]*>',
        lambda tag: f'<svg {_NAMESPACES} {tag[1]} role="img" aria-label="{label}">\n{_PAGE_STYLE}',
        text,
        count=1,
        flags=re.DOTALL,
    )


def _shorter(tag: str) -> str:
    """A tag in the page's ink, with coordinates to a hundredth of a point."""
    tag = tag.replace(INK, "currentColor")
    return re.sub(r"-?\d+\.\d{3,}(?!px)", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag)


_NO_METADATA = ("Date", "Creator", "Format", "Type")
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def learning_curves(rows: Sequence[MetricRow], best_epoch: int | None = None) -> "Figure":
    """Accuracy, loss and learning rate by epoch, of training and validation; other rows are passed over.

    ``best_epoch``, counted from 1, gets a dotted line: its weights were kept. Of a single epoch, at whose end the rate
    says nothing of it, that is left out.
    """
    last = max(row.epoch for row in rows) + 1
    ratios = [3, 3] if last == 1 else [3, 3, 1]
    with styled():
        figure = new_figure(sum(ratios) * 0.7, "Learning curves: accuracy, loss and learning rate by epoch")
        panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
        accuracy, loss = panels[:2]
        for axes, name in ((accuracy, "accuracy"), (loss, "loss")):
            for split, colour in (("training", TRAINING), ("validation", MEASURED)):
                _curve(axes, rows, split, name, color=colour, label=split)
            axes.set_ylabel(name)
        legend_above(accuracy, ncols=2)
        as_percent(accuracy.yaxis)
        for rate in panels[2:]:
            _curve(rate, rows, "training", "lr", color=INK, linewidth=1.0, alpha=0.7)
            highest = max((row.value for row in rows if row.name == "lr"), default=0.0)
            rate.set(ylim=(0, 1.1 * highest or 1), yticks=[0, highest], yticklabels=["0", f"{highest:.2g}"])
            rate.set(ylabel="learning\nrate")
        panels[-1].set(xlabel="epoch", xlim=(0.5, last + 0.5))
        panels[-1].xaxis.set_major_locator(
            import_extra("matplotlib.ticker", "report").MaxNLocator(integer=True, min_n_ticks=1)
        )
        for axes in panels:
            axes.grid(axis="y")
            if best_epoch is not None:
                axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", alpha=0.8)
        figure.align_ylabels(list(panels))
    return figure


def _curve(axes: "Axes", rows: Sequence[MetricRow], split: str, name: str, **style: Any) -> None:
    points = sorted((row.epoch + 1, row.value) for row in rows if (row.split, row.name) == (split, name))
    # Without points, a line of a single epoch would be none at all.
    axes.plot(*zip(*points, strict=True), marker="o" if len(points) <= MAX_MARKED else "", markersize=2.6, **style)


def confusion(counts: Sequence[Sequence[int]] | NDArray[np.integer], classes: Sequence[str] = EMOTIONS) -> "Figure":
    """Confusion matrix ``(K, K)``, labels in rows: in a cell the fraction of the row's faces, below it their number.

    Of more than ``MAX_COUNTED`` classes it is larger, and has the fractions alone.
    """
    table = np.asarray(counts)
    rates = table / np.maximum(table.sum(1, keepdims=True), 1)  # (K, K)
    dense, what = len(table) > MAX_COUNTED, f"{shown(classes)}s"
    side = max(WIDTH, CELL * len(table) + 1.5) if dense else WIDTH
    with styled():
        figure = new_figure(side - 0.1, "Confusion matrix: labels in rows, predictions in columns", side)
        axes = figure.subplots()
        for line, column in np.argwhere(np.broadcast_to(table.sum(1, keepdims=True), table.shape)).tolist():
            _cell(axes, line, column, float(rates[line, column]), int(table[line, column]), dense)
        names = [shortened(name) for name in classes]
        labelled = [
            f"{name} ({faces})" if dense else f"{name}\n{faces}"
            for name, faces in zip(
                names, (f"{total:,}" if total else f"no {what}" for total in table.sum(1)), strict=True
            )
        ]
        _as_table(axes, labelled, names)
        axes.set(xlabel="predicted", ylabel=f"label and its number of {what}", aspect="equal")
    return figure


def _cell(axes: "Axes", line: int, column: int, rate: float, count: int, dense: bool) -> None:
    rectangle = import_extra("matplotlib.patches", "report").Rectangle
    axes.add_patch(
        rectangle((column - 0.47, line - 0.47), 0.94, 0.94, linewidth=0, facecolor=MEASURED, alpha=MAX_OPACITY * rate)
    )
    if line == column:
        frame = {"fill": False, "edgecolor": INK, "linewidth": 0.7, "alpha": 0.55}
        axes.add_patch(rectangle((column - 0.47, line - 0.47), 0.94, 0.94, **frame))
    faint = 1.0 if count else 0.35
    if dense:
        if count:
            axes.text(column, line, f"{100 * rate:.0f}", ha="center", va="center", fontsize=6)
        return
    axes.text(column, line - 0.12, f"{100 * rate:.0f} %", ha="center", va="center", alpha=faint)
    axes.text(column, line + 0.24, f"{count:,}", ha="center", va="center", fontsize=6.5, alpha=0.75 * faint)


def per_class(
    precision: Sequence[float],
    recall: Sequence[float],
    f1: Sequence[float],
    classes: Sequence[str] = EMOTIONS,
    present: Collection[int] | None = None,
) -> "Figure":
    """Precision, recall and F1 of each class ``(K,)`` as bars; the F1 is also written out.

    ``present`` are the classes that have faces; by default all.
    """
    lines = np.arange(len(f1))
    with styled():
        figure = new_figure(max(3.9, 0.32 * len(f1) + 1.2), "Precision, recall and F1 of each class")
        axes = figure.subplots()
        bars = (("precision", precision, 0.4), ("recall", recall, 0.7), ("F1", f1, 1.0))
        for number, (name, values, alpha) in enumerate(bars):
            axes.barh(lines + 0.26 * (number - 1), values, 0.24, color=MEASURED, alpha=alpha, linewidth=0, label=name)
        for line, value in enumerate(f1):
            text = f"{value:.2f}" if present is None or line in present else f"no {shown(classes)}s"
            axes.text(value + 0.01, line + 0.27, text, va="center", fontsize=7)
        axes.set_yticks(lines, [shortened(name) for name in classes], parse_math=False)
        axes.set(xlim=(0, 1), ylim=(len(f1) - 0.5, -0.5))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        legend_above(axes, ncols=3)
    return figure


def reliability(labels: Labels, probabilities: Probabilities, bins: int = ECE_BINS) -> "Figure":
    """Accuracy by confidence in bins of equal mass, as the ECE counts them, above the spread of confidences.

    Labels are ``(N,)``, probabilities ``(N, K)``.
    """
    confidence = probabilities.max(1).astype(np.float64)
    correct = probabilities.argmax(1) == labels
    with styled():
        figure = new_figure(4.4, "Reliability: accuracy by confidence")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        above.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
        points = np.array(_bins(confidence, correct, bins))  # (bins, 4)
        errors = np.abs(points[:, 2:].T - points[:, 1])  # (2, bins)
        look = {"fmt": "o-", "color": MEASURED, "markersize": 4, "elinewidth": 1, "clip_on": False}
        above.errorbar(points[:, 0], points[:, 1], errors, **look)
        above.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction correct")
        above.grid()
        below.hist(confidence, bins=np.linspace(0, 1, 41), color=MEASURED, alpha=0.6, linewidth=0)
        below.set(xlabel="confidence", ylabel="faces")
        for axis in (above.xaxis, above.yaxis):
            as_percent(axis)
        figure.align_ylabels()
    return figure


def _bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int) -> list[tuple[float, ...]]:
    """Mean confidence, accuracy and its 95 % interval of each bin, from the least confident on."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    means = [(float(confidence[part].mean()), float(correct[part].mean())) for part in parts]
    intervals = [wilson_interval(int(correct[part].sum()), len(part)) for part in parts]
    return [(*mean, *interval) for mean, interval in zip(means, intervals, strict=True)]


def risk_coverage(coverage: NDArray[np.float64], risk: NDArray[np.float64]) -> "Figure":
    """Risk (fraction of wrong answers) by coverage (fraction of faces answered), ``(M,)`` each."""
    with styled():
        figure = new_figure(3.2, "Risk and coverage: wrong answers by the fraction of faces answered")
        axes = figure.subplots()
        axes.plot(coverage, risk, color=MEASURED)
        axes.axhline(risk[-1], color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="coverage: faces answered", ylabel="risk: answers that are wrong")
        axes.grid()
        for axis in (axes.xaxis, axes.yaxis):
            as_percent(axis)
    return figure


def robustness(report: RobustnessReport, titles: Mapping[str, str]) -> "Figure":
    """Accuracy at every severity of every corruption; the fuller a cell, the more of the clean accuracy is left.

    ``titles`` are those of the corruptions by their names.
    """
    found = report["corruptions"]
    with styled():
        figure = new_figure(0.34 * len(found) + 0.75, "Robustness: accuracy under corruptions of five severities")
        axes = figure.subplots()
        for line, corruption in enumerate(found.values()):
            for column, rate in enumerate(corruption["accuracy"]):
                left = rate / report["clean"] if report["clean"] else 0.0
                _filled(axes, line, column, left, f"{100 * rate:.1f} %")
        _as_table(axes, [titles[name] for name in found], ["1", "2", "3", "4", "5"])
        axes.set_xlabel("severity")
    return figure


def robustness_compared(reports: Mapping[str, RobustnessReport], titles: Mapping[str, str]) -> "Figure":
    """The part of its clean accuracy that each network keeps under each corruption; the best of a row is bold."""
    left = np.array(
        [[report["corruptions"][name]["relative"] or 0.0 for report in reports.values()] for name in titles]
    )  # (corruptions, networks)
    table = np.vstack([left, left.mean(0)])
    with styled():
        figure = new_figure(0.3 * len(table) + 1.3, "Robustness: what each network keeps of its accuracy")
        axes = figure.subplots()
        for (line, column), fraction in np.ndenumerate(table):
            weight = "bold" if round(100 * fraction) == round(100 * table[line].max()) else "normal"
            _filled(axes, line, column, float(fraction), f"{100 * fraction:.0f}", fontweight=weight)
        _as_table(axes, [*titles.values(), "mean"], list(reports))
        axes.axhline(len(left) - 0.5, color=INK, linewidth=0.8)
    return figure


def _filled(axes: "Axes", line: int, column: int, fraction: float, text: str, **style: Any) -> None:
    """A cell, the fuller the larger the fraction."""
    rectangle = import_extra("matplotlib.patches", "report").Rectangle
    look = {"linewidth": 0, "facecolor": MEASURED, "alpha": MAX_OPACITY * min(1.0, fraction)}
    axes.add_patch(rectangle((column - 0.48, line - 0.46), 0.96, 0.92, **look))
    axes.text(column, line, text, ha="center", va="center", **style)


def _as_table(axes: "Axes", lines: Sequence[str], columns: Sequence[str]) -> None:
    """Names to the left and above, those above slanted where they are long, and no frame."""
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(lines) - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), columns, parse_math=False)
    for label in axes.get_xticklabels() if max(map(len, columns)) > MAX_LEVEL else ():
        label.set(rotation=40, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(lines)), lines, parse_math=False)
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def shortened(name: str, maximum: int = MAX_CLASS_NAME) -> str:
    """A name, cut where it has more letters."""
    return str(name) if len(name) <= maximum else f"{name[:maximum]}…"


def legend_above(axes: "Axes", *entries: Any, **style: Any) -> None:
    """The legend above the axes, from the left on; by default of what was drawn with a label."""
    axes.legend(*entries, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, **style)


def new_figure(height: float, label: str, width: float = WIDTH) -> "Figure":
    """An empty figure, of the common width by default; ``label`` describes it for readers who do not see it."""
    figure: Figure = import_extra("matplotlib.figure", "report").Figure(figsize=(width, height), layout="constrained")
    figure.set_label(label)
    return figure


def as_percent(axis: Any) -> None:
    """Write rates in [0, 1] as percentages."""
    formatter = import_extra("matplotlib.ticker", "report").FuncFormatter
    axis.set_major_formatter(formatter(lambda rate, _: f"{round(100 * rate, 6):g} %"))
