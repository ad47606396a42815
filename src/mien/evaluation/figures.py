"""Numbers -> figures: pure, without files, and without matplotlib's global state.

Every function returns a matplotlib ``Figure`` about as wide as half a page; ``save_svg`` turns it into SVG. Matplotlib
is imported when a figure is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import import_extra
from mien.evaluation.metrics import ECE_BINS, Labels, Probabilities, wilson_interval
from mien.evaluation.svg import INK, MEASURED, PUBLISHED, TRAINING, save_svg, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Compared",
    "comparison",
    "confusion",
    "learning_curves",
    "per_class",
    "reliability",
    "risk_by_coverage",
    "robustness",
    "robustness_compared",
    "save_svg",
]

WIDTH = 4.8
"""Inches, of every figure, so that letters are equally large in all of them."""
LONGEST_NAME = 42
MARKED = 40
"""The most epochs that are marked on a curve one by one."""
STRONGEST = 0.75
"""Opacity of a full cell; more would hide its numbers."""


@dataclass(frozen=True)
class Compared:
    """A line of the comparison; rates in [0, 1].

    Attributes:
        title: the model's.
        accuracy: measured, the mean of several seeds.
        interval: its 95 % interval.
        published: what was reported for it, or ``None``.
        comparable: whether it was measured in the published configuration.
        seeds: accuracy of each run where there are several.
    """

    title: str
    accuracy: float
    interval: tuple[float, float]
    published: float | None = None
    comparable: bool = True
    seeds: tuple[float, ...] = ()


def learning_curves(rows: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> "Figure":
    """Accuracy, loss and learning rate by epoch, of training and validation.

    Args:
        rows: of ``metrics.jsonl``: ``epoch`` from 0, ``split``, ``name``, ``value``; other names are passed over.
        best_epoch: the epoch whose weights were kept, counted from 1; gets a dotted line.
    """
    with styled():
        figure = _figure(4.8, "Learning curves: accuracy, loss and learning rate by epoch")
        accuracy, loss, rate = panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1])
        for axes, name in ((accuracy, "accuracy"), (loss, "loss")):
            for split, colour in (("training", TRAINING), ("validation", MEASURED)):
                _curve(axes, rows, split, name, color=colour, label=split)
            axes.set_ylabel(name)
        accuracy.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
        _as_percent(accuracy.yaxis)
        _curve(rate, rows, "training", "lr", color=INK, linewidth=1.0, alpha=0.7)
        highest = max((row["value"] for row in rows if row["name"] == "lr"), default=0.0)
        # The rate of a single epoch that anneals to its end is zero.
        rate.set(ylim=(0, 1.1 * highest or 1), yticks=[0, highest], yticklabels=["0", f"{highest:.2g}"])
        rate.set(ylabel="learning\nrate", xlabel="epoch", xlim=(0.5, max(row["epoch"] for row in rows) + 1.5))
        rate.xaxis.set_major_locator(_ticker().MaxNLocator(integer=True, min_n_ticks=1))
        for axes in panels:
            axes.grid(axis="y")
            if best_epoch is not None:
                axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", alpha=0.8)
        figure.align_ylabels(list(panels))
    return figure


def _curve(axes: "Axes", rows: Sequence[Mapping[str, Any]], split: str, name: str, **style: Any) -> None:
    points = sorted((row["epoch"] + 1, row["value"]) for row in rows if (row["split"], row["name"]) == (split, name))
    # Without points, a line of a single epoch would be none at all.
    axes.plot(*zip(*points, strict=True), marker="o" if len(points) <= MARKED else "", markersize=2.6, **style)


def confusion(counts: Sequence[Sequence[int]] | NDArray[np.integer]) -> "Figure":
    """Confusion matrix: in each cell the share of the line's faces, and their number below it.

    Args:
        counts: ``(7, 7)``; the line is the label, the column the prediction.
    """
    table = np.asarray(counts)
    rates = table / np.maximum(table.sum(1, keepdims=True), 1)  # (7, 7)
    size = len(table)
    with styled():
        figure = _figure(WIDTH - 0.1, "Confusion matrix: labels in lines, predictions in columns")
        axes = figure.subplots()
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
        for line, column in np.ndindex(table.shape):
            _cell(axes, line, column, float(rates[line, column]), int(table[line, column]))
        names = [emotion.value for emotion in EMOTIONS]
        axes.set_xticks(range(size), names, rotation=40, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(size), [f"{name}\n{total:,}" for name, total in zip(names, table.sum(1), strict=True)])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set(xlabel="predicted", ylabel="label and its number of faces")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def _cell(axes: "Axes", line: int, column: int, rate: float, count: int) -> None:
    rectangle = import_extra("matplotlib.patches", "report").Rectangle
    right = line == column
    axes.add_patch(
        rectangle((column - 0.47, line - 0.47), 0.94, 0.94, linewidth=0, facecolor=MEASURED, alpha=STRONGEST * rate)
    )
    if right:
        frame = {"fill": False, "edgecolor": INK, "linewidth": 0.7, "alpha": 0.55}
        axes.add_patch(rectangle((column - 0.47, line - 0.47), 0.94, 0.94, **frame))
    faint = 1.0 if count else 0.35
    axes.text(column, line - 0.12, f"{100 * rate:.0f} %", ha="center", va="center", alpha=faint)
    axes.text(column, line + 0.24, f"{count:,}", ha="center", va="center", fontsize=6.5, alpha=0.75 * faint)


def per_class(precision: Sequence[float], recall: Sequence[float], f1: Sequence[float]) -> "Figure":
    """Precision, recall and F1 of each class ``(7,)`` as bars; the F1 is also written out."""
    lines = np.arange(len(f1))
    with styled():
        figure = _figure(3.9, "Precision, recall and F1 of each emotion")
        axes = figure.subplots()
        for place, (name, values, alpha) in enumerate(
            (("precision", precision, 0.4), ("recall", recall, 0.7), ("F1", f1, 1.0))
        ):
            axes.barh(lines + 0.26 * (place - 1), values, 0.24, color=MEASURED, alpha=alpha, linewidth=0, label=name)
        for line, value in enumerate(f1):
            axes.text(value + 0.01, line + 0.27, f"{value:.2f}", va="center", fontsize=7)
        axes.set_yticks(lines, [emotion.value for emotion in EMOTIONS])
        axes.set(xlim=(0, 1), ylim=(len(f1) - 0.5, -0.5))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1)
    return figure


def reliability(labels: Labels, probabilities: Probabilities, bins: int = ECE_BINS) -> "Figure":
    """Accuracy by confidence in bins of equal mass, as the ECE counts them, above the spread of confidences.

    Args:
        labels: ``(N,)``.
        probabilities: ``(N, 7)``.
        bins: how many; fewer where there are fewer faces.
    """
    confidence = probabilities.max(1).astype(np.float64)
    correct = probabilities.argmax(1) == labels
    with styled():
        figure = _figure(4.4, "Reliability: accuracy by confidence")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        above.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
        points = np.array(_bins(confidence, correct, bins))  # (bins, 4)
        errors = np.abs(points[:, 2:].T - points[:, 1])  # (2, bins)
        above.errorbar(
            points[:, 0], points[:, 1], errors, fmt="o-", color=MEASURED, markersize=4, elinewidth=1, clip_on=False
        )
        above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
        above.grid()
        below.hist(confidence, bins=np.linspace(0, 1, 41), color=MEASURED, alpha=0.6, linewidth=0)
        below.set(xlabel="confidence", ylabel="faces")
        for axis in (above.xaxis, above.yaxis):
            _as_percent(axis)
        figure.align_ylabels()
    return figure


def _bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int) -> list[tuple[float, ...]]:
    """Mean confidence, accuracy and its 95 % interval of each bin, from the least confident on."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        (
            float(confidence[part].mean()),
            float(correct[part].mean()),
            *wilson_interval(int(correct[part].sum()), len(part)),
        )
        for part in parts
    ]


def risk_by_coverage(coverage: NDArray[np.float64], risk: NDArray[np.float64]) -> "Figure":
    """Share of wrong answers by the share of faces that are answered, ``(M,)`` each, the surest first."""
    with styled():
        figure = _figure(3.2, "Wrong answers by the share of faces that are answered")
        axes = figure.subplots()
        axes.plot(coverage, risk, color=MEASURED)
        axes.axhline(risk[-1], color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="faces that get an answer", ylabel="answers that are wrong")
        axes.grid()
        for axis in (axes.xaxis, axes.yaxis):
            _as_percent(axis)
    return figure


def robustness(card: Mapping[str, Any], titles: Mapping[str, str]) -> "Figure":
    """Accuracy at every severity of every corruption, the fuller the cell the more of the clean accuracy is left.

    Args:
        card: by ``robustness.robustness_card``.
        titles: name of a corruption -> words.
    """
    found = card["corruptions"]
    with styled():
        figure = _figure(0.34 * len(found) + 0.75, "Accuracy as pictures get worse")
        axes = figure.subplots()
        for line, corruption in enumerate(found.values()):
            for column, rate in enumerate(corruption["accuracy"]):
                left = rate / card["clean"] if card["clean"] else 0.0
                _share(axes, line, column, left, f"{100 * rate:.1f} %")
        _as_table(axes, [titles[name] for name in found], ["1", "2", "3", "4", "5"])
        axes.set_xlabel("severity")
    return figure


def robustness_compared(cards: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> "Figure":
    """What several networks keep of their own clean accuracy under each corruption; the most of a line is bold.

    Args:
        cards: name of a network -> by ``robustness.robustness_card``.
        titles: name of a corruption -> words.
    """
    left = np.array(
        [[card["corruptions"][name]["relative"] or 0.0 for card in cards.values()] for name in titles]
    )  # (corruptions, networks)
    table = np.vstack([left, left.mean(0)])
    with styled():
        figure = _figure(0.3 * len(table) + 1.3, "What each network keeps of its accuracy as pictures get worse")
        axes = figure.subplots()
        for (line, column), share in np.ndenumerate(table):
            weight = "bold" if round(100 * share) == round(100 * table[line].max()) else "normal"
            _share(axes, line, column, float(share), f"{100 * share:.0f}", fontweight=weight)
        _as_table(axes, [*titles.values(), "mean"], list(cards))
        axes.axhline(len(left) - 0.5, color=INK, linewidth=0.8)
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="left", rotation_mode="anchor", parse_math=False)
    return figure


def _share(axes: "Axes", line: int, column: int, share: float, words: str, **style: Any) -> None:
    """A cell that is the fuller the larger the share."""
    rectangle = import_extra("matplotlib.patches", "report").Rectangle
    look = {"linewidth": 0, "facecolor": MEASURED, "alpha": STRONGEST * min(1.0, share)}
    axes.add_patch(rectangle((column - 0.48, line - 0.46), 0.96, 0.92, **look))
    axes.text(column, line, words, ha="center", va="center", **style)


def _as_table(axes: "Axes", lines: Sequence[str], columns: Sequence[str]) -> None:
    """Names to the left and above, and no frame."""
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(lines) - 0.5, -0.5))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(lines)), lines)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def comparison(entries: Sequence[Compared]) -> "Figure":
    """Accuracy of several models with 95 % intervals, beside what was published for them."""
    values = [value for entry in entries for value in (*entry.interval, *entry.seeds)]
    values += [entry.published for entry in entries if entry.published is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = max(0.08 * (high - low), 0.01)
    with styled():
        figure = _figure(0.48 * len(entries) + 0.85, "Accuracy of the models with 95 % intervals")
        axes = figure.subplots()
        for line, entry in enumerate(entries):
            _compared(axes, line, entry)
        axes.set(xlim=(max(0.0, low - margin), min(1.0, high + margin)), ylim=(len(entries) - 0.5, -0.7))
        axes.set_xlabel("accuracy")
        _as_percent(axes.xaxis)
        axes.set_yticks([])
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        handles, names = axes.get_legend_handles_labels()
        named = dict(zip(names, handles, strict=True))
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
        axes.legend(named.values(), named.keys(), ncols=2, fontsize=7.5, **place)
    return figure


def _compared(axes: "Axes", line: int, entry: Compared) -> None:
    """One model: its name and accuracy, and below them the interval."""
    title = entry.title if len(entry.title) <= LONGEST_NAME else f"{entry.title[:LONGEST_NAME]}…"
    # A dollar sign in a recipe's name is no mathematics.
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "parse_math": False}
    axes.text(0, line - 0.33, title, **beside)
    axes.text(1, line - 0.33, f"{100 * entry.accuracy:.1f} %", ha="right", fontweight="bold", **beside)
    axes.plot(entry.interval, (line, line), color=MEASURED, linewidth=2, solid_capstyle="butt")
    axes.plot(entry.accuracy, line, "o", color=MEASURED, markersize=6, label="measured, 95 % interval")
    for accuracy in entry.seeds:
        axes.plot(accuracy, line, "|", color=INK, markersize=7, alpha=0.8, label="single seeds")
    if entry.published is not None:
        fill = PUBLISHED if entry.comparable else "none"
        label = "published" if entry.comparable else "published, other configuration"
        axes.plot(entry.published, line, "D", color=PUBLISHED, markerfacecolor=fill, markersize=5, label=label)


def _figure(height: float, label: str) -> "Figure":
    figure: Figure = import_extra("matplotlib.figure", "report").Figure(figsize=(WIDTH, height), layout="constrained")
    figure.set_label(label)
    return figure


def _as_percent(axis: Any) -> None:
    axis.set_major_formatter(_ticker().FuncFormatter(lambda rate, _: f"{round(100 * rate, 6):g} %"))


def _ticker() -> Any:
    return import_extra("matplotlib.ticker", "report")
