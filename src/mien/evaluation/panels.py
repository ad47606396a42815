"""The figures of a run, each with a caption that says what to see in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.emotions import EMOTIONS
from mien.evaluation import figures
from mien.evaluation.calibration import risk_coverage
from mien.evaluation.predict import Predictions, load_predictions
from mien.evaluation.robustness import CORRUPTIONS, stored_card, weakest
from mien.evaluation.svg import save_svg, standalone_svg
from mien.evaluation.wording import SPACE, bounds, count, fixed, is_test, percent, points, sentences, split_plural
from mien.runs import Run, write_text

Results = Mapping[str, Any]
"""Figures of one split, as they stand under ``results`` in ``report.json``."""

WIDE_GAP = 0.05
"""Training above validation accuracy by this much is called overfitting."""


@dataclass(frozen=True)
class Panel:
    """A figure on a page.

    Attributes:
        name: of its file in ``figures/``, without ``.svg``.
        title: what it is.
        caption: what to see in it, plain text.
        svg: as ``save_svg`` gives it.
    """

    name: str
    title: str
    caption: str
    svg: str


def write_figures(folder: Path, panels: Sequence[Panel]) -> None:
    """Write each figure as ``folder/figures/<name>.svg``, readable by itself."""
    for panel in panels:
        write_text(folder / "figures" / f"{panel.name}.svg", standalone_svg(panel.svg))


def run_panels(run: Run, report: Mapping[str, Any], split: str) -> list[Panel]:
    """Learning curves, confusion matrix, figures per class and calibration; what has not been stored is left out."""
    metrics, predictions = run.metrics(), stored_predictions(run, split)
    return [
        *([curves_panel(metrics, report)] if metrics else []),
        confusion_panel(report, split),
        per_class_panel(report, split),
        *([reliability_panel(predictions, report, split)] if predictions is not None else []),
        *([abstention_panel(predictions, report, split)] if predictions is not None else []),
        *([robustness_panel(card)] if (card := stored_card(run.path)) is not None else []),
    ]


def stored_predictions(run: Run, split: str) -> Predictions | None:
    """The split's predictions, or ``None`` where they are not stored."""
    path = run.predictions_path(split)
    return load_predictions(path) if path.exists() else None


def curves_panel(metrics: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> Panel:
    """Learning curves; the kept epoch is marked where it was chosen on validation."""
    best_epoch = report.get("best_epoch") if report.get("weights") == "best" else None
    svg = save_svg(figures.learning_curves(metrics, best_epoch))
    return Panel("learning_curves", "Learning curves", _curves_caption(metrics, best_epoch, report), svg)


def _curves_caption(metrics: Sequence[Mapping[str, Any]], best_epoch: int | None, report: Mapping[str, Any]) -> str:
    training, validation = _accuracies(metrics, "training"), _accuracies(metrics, "validation")
    if not validation:
        return "Training by epoch."
    last = max(validation)
    kept = ""
    if best_epoch in validation:
        best = percent(validation[best_epoch])
        kept = f"Validation accuracy is best in epoch {best_epoch} (dotted), {best}; its weights are kept."
    ends = f"The last epoch ends at {percent(validation[last])} on validation."
    if last in training:
        ends = f"{ends[:-1]} and {percent(training[last])} on training{_gap_words(training[last] - validation[last])}"
    rounded = report.get("precision") == "bfloat16"
    return sentences(
        kept,
        ends,
        "Training accuracy is taken while training, under the recipe's augmentation and dropout, which lower it.",
        "These figures are in bfloat16, as in training; all others are in float32." if rounded else "",
    )


def _gap_words(gap: float) -> str:
    if gap > WIDE_GAP:
        return f": {points(gap)} apart, so the network knows its training faces better than new ones."
    return "; no gap that would speak of overfitting."


def _accuracies(metrics: Sequence[Mapping[str, Any]], split: str) -> dict[int, float]:
    """Epoch, counted from 1 -> accuracy."""
    return {row["epoch"] + 1: row["value"] for row in metrics if (row["split"], row["name"]) == (split, "accuracy")}


def confusion_panel(report: Mapping[str, Any], split: str) -> Panel:
    """What the faces of each label were taken for."""
    found = report["results"][split]
    svg = save_svg(figures.confusion(found["confusion"]))
    return Panel(f"confusion_{split}", f"Confusion on {_pictures(found, split)}", _confusion_caption(found), svg)


def _confusion_caption(found: Results) -> str:
    counts = np.array(found["confusion"])
    rates = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(rates, 0)
    order = np.argsort(-rates, axis=None, kind="stable")[:3]
    named = [
        f"{EMOTIONS[line]} taken for {EMOTIONS[column]} ({percent(rates[line, column], 0)})"
        for line, column in (divmod(int(place), len(counts)) for place in order)
        if rates[line, column] > 0
    ]
    mistakes = f"The largest shares of mistakes: {', '.join(named)}." if named else "There is no mistake."
    return f"Each line shows what the faces of one label were taken for; right answers are framed. {mistakes}"


def per_class_panel(report: Mapping[str, Any], split: str) -> Panel:
    """Precision, recall and F1 of each emotion."""
    found = report["results"][split]
    svg = save_svg(figures.per_class(found["precision"], found["recall"], found["f1"]))
    return Panel(f"per_class_{split}", f"Each emotion on {_pictures(found, split)}", _per_class_caption(found), svg)


def _per_class_caption(found: Results) -> str:
    f1, counts = found["f1"], np.array(found["confusion"])
    labelled, predicted = counts.sum(1), counts.sum(0)  # (7,), (7,)
    met = np.flatnonzero(labelled + predicted).tolist()  # those that the macro-F1 is the mean of
    best, worst = max(met, key=lambda at: f1[at]), min(met, key=lambda at: f1[at])
    never = [EMOTIONS[at].value for at in np.flatnonzero((labelled > 0) & (predicted == 0))]
    macro_f1 = sentences(fixed(found["macro_f1"]), bounds(found.get("macro_f1_ci95")))
    return sentences(
        f"{EMOTIONS[best].capitalize()} is recognized best (F1 {fixed(f1[best], 2)}), {EMOTIONS[worst]} least"
        f" ({fixed(f1[worst], 2)}); the mean over the emotions is the macro-F1, {macro_f1}.",
        f"Never predicted: {', '.join(never)}." if never else "",
        "Precision: how often the answer is right; recall: how many of the emotion's faces are found.",
    )


def _pictures(found: Results, split: str) -> str:
    return f"{count(found['n'])} {split_plural(split, short=True)}"


def reliability_panel(predictions: Predictions, report: Mapping[str, Any], split: str) -> Panel:
    """Whether confidences mean what they say."""
    found = report["results"][split]
    svg = save_svg(figures.reliability(predictions.label, predictions.probabilities))
    ece = sentences(percent(found["ece"]), bounds(found.get("ece_ci95"), digits=1, scale=100))
    before = found.get("ece_uncalibrated")
    fitted = "" if before is None else f"; {percent(before)} before the temperature {report['temperature']:.2f}"
    caption = sentences(
        f"Each point is a fifteenth of the faces. On the dashed line a confidence of 70{SPACE}% is right in 70{SPACE}%"
        " of cases; below it the network is too sure, above it too modest.",
        f"Mean distance (ECE): {ece}{fitted}.",
        "" if is_test(split) else "The temperature was fitted on these very pictures, which flatters it.",
    )
    return Panel(f"reliability_{split}", "Calibration", caption, svg)


def abstention_panel(predictions: Predictions, report: Mapping[str, Any], split: str) -> Panel:
    """What it gains to leave the least confident answers out."""
    confidence, coverage, risk = risk_coverage(predictions.label, predictions.probabilities)
    svg = save_svg(figures.risk_by_coverage(coverage, risk))
    half = int(np.searchsorted(coverage, 0.5))
    caption = (
        f"Answers are given from the most confident on. Of all of them {percent(float(risk[-1]))} are wrong, of the"
        f" surest half, from a confidence of {percent(float(confidence[half]), 0)} on, {percent(float(risk[half]))}."
        " Confidences that mean nothing would draw a level line (dashed)."
    )
    return Panel(f"abstention_{split}", "Leaving the doubtful ones out", caption, svg)


def robustness_panel(card: Mapping[str, Any]) -> Panel:
    """How accuracy falls as pictures get worse."""
    worst = weakest(card)
    titles = {name: corruption.title for name, corruption in CORRUPTIONS.items()}
    caption = (
        f"{count(card['n'])} validation pictures, {percent(card['clean'])} as they are; severities after ImageNet-C."
        f" On average {percent(card['relative'], 0)} of that is left; {titles[worst].lower()} costs most"
        f" ({percent(card['corruptions'][worst]['relative'], 0)} left)."
    )
    return Panel("robustness", "Worse pictures", caption, save_svg(figures.robustness(card, titles)))


def robustness_compared_panel(cards: Mapping[str, Mapping[str, Any]]) -> Panel:
    """What several networks keep of their accuracy as pictures get worse.

    Args:
        cards: name of a network -> its robustness card; two or more.
    """
    titles = {name: corruption.title for name, corruption in CORRUPTIONS.items()}
    ranked = sorted(cards, key=lambda name: -(cards[name]["relative"] or 0.0))
    best, last = (f"{name} ({percent(cards[name]['relative'] or 0.0, 0)})" for name in (ranked[0], ranked[-1]))
    caption = (
        "The share of its own accuracy, in percent, that each network keeps on validation pictures made worse, averaged"
        f" over five severities; the most in each line is bold. On average {best} keeps most, {last} least. These are"
        " single networks: how much another seed would move a cell is not known."
    )
    svg = save_svg(figures.robustness_compared(cards, titles))
    return Panel("robustness_compared", "Worse pictures", caption, svg)
