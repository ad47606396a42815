"""A run directory -> ``figures/``, its page ``report.html`` and its ``model_card.md``.

Sources of the card: Mitchell et al. 2019, arXiv:1810.03993, for what it says; Hugging Face, hub-docs/modelcard.md, for
its header, from which their hub makes filters and a table of results.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.evaluation import robustness
from mien.evaluation.majority import unbeaten
from mien.evaluation.metrics import risk_coverage
from mien.evaluation.significance import independent_images
from mien.files import write_text
from mien.report import plots
from mien.report.evidence import Evidence, read_evidence, run_facts, sample_groups
from mien.report.format import shown
from mien.report.html import render_page, render_sentences
from mien.runs import MetricRow, Report, Run, SplitResult
from mien.runs.report import NO_LICENSE

FACE_ADDRESS = 'src="data:image/png'
"""How a face stands on a page; plots are SVG."""
MAX_GAP = 0.05
"""Training above validation accuracy by more than this is called overfitting."""
FEW_STEPS = 10
"""Steps of an epoch; with fewer a network hardly learns in the epochs of a usual recipe."""
MAX_CONFUSIONS = 3
"""Confusions that a caption names."""


def write_run_page(run: Run, samples: FaceSamples | None = None, *, pictures: bool = True) -> Path:
    """Write plots and ``PAGES`` of a finished run from what it has stored; equal runs give equal bytes.

    Without ``samples``, the data set, or without ``pictures``, row numbers stand in the place of faces, with
    the names of files where the data have them.

    Returns:
        path of ``report.html``.

    Raises:
        RunError: the run is not finished, has no results, has a damaged recipe, or cannot be written.
        DataError: stored predictions or ``robustness.json`` are damaged.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    evidence = read_evidence(run, data=samples)
    drawn = run_plots(evidence)
    validation = evidence.report.result("validation")
    if validation is not None and validation is not evidence.result:
        drawn.append(confusion_plot(validation, evidence.report.classes))
    plots.write_plots(run.path, drawn)
    for name, page in PAGES.items():
        write_text(run.path / name, page(evidence, drawn, samples if pictures else None))
    return run.path / "report.html"


def is_current(run: Run, *, pictures: bool) -> bool:
    """Whether a run's pages are there, younger than its results, and with faces as ``pictures`` says."""
    pages = [run.path / name for name in PAGES]
    if not all(page.exists() for page in pages):
        return False
    names = ("*.json", "*.jsonl", "recipe.toml", "predictions/*.npz")
    newest = max(path.stat().st_mtime_ns for name in names for path in run.path.glob(name))
    if min(page.stat().st_mtime_ns for page in pages) < newest:
        return False
    return (FACE_ADDRESS in (run.path / "report.html").read_text(encoding="utf-8")) is pictures


def seen_words(report: Report, *, elsewhere: bool) -> list[str]:
    """For the terminal: how many of the images of each split the network learnt from; ``elsewhere``: on other data."""
    lines = render_sentences("seen.txt.j2", {"report": report, "elsewhere": elsewhere})
    return [line for line in lines if line]


def chance_words(report: Report) -> list[str]:
    """For the terminal: that a network is not shown to be better than always the same answer, and what may be why."""
    values = {"unbeaten": unbeaten(report, report.headline()), "few": few_steps(report)}
    return [line for line in render_sentences("chance.txt.j2", values) if line]


def few_steps(report: Report) -> tuple[int, int, int] | None:
    """Steps of an epoch, training images and batch size, where the steps are fewer than ``FEW_STEPS``."""
    images, batch = report.training_rows, report.batch_size
    if not images or not batch or images > batch * (FEW_STEPS - 1):
        return None
    return -(-images // batch), images, batch


def told_words(report: Report) -> list[str]:
    """For the terminal: classes that the images of a split lack, and people, where intervals are by subject."""
    return [line for line in render_sentences("told.txt.j2", {"report": report, "worth": independent_images}) if line]


def run_page(evidence: Evidence, drawn: Sequence[plots.Plot], samples: FaceSamples | None) -> str:
    """The page of a run: the answer, the evidence, the facts."""
    predictions = evidence.predictions
    values = {
        "evidence": evidence,
        "classes": evidence.report.classes,
        "facts": run_facts(evidence.report),
        "unbeaten": unbeaten(evidence.report, evidence.result),
        "groups": [] if predictions is None else sample_groups(predictions, samples, data=evidence.data),
        "plots": drawn,
    }
    return render_page("run.html.j2", values)


def model_card(evidence: Evidence, drawn: Sequence[plots.Plot], samples: FaceSamples | None) -> str:
    """The card as Markdown, with Hugging Face's header."""
    license = evidence.report.stated_license
    values = {
        "name": evidence.run.path.resolve().name,
        "evidence": evidence,
        "license": None if license == NO_LICENSE else license,
        "classes": evidence.report.classes,
        "names_emotions": shown(evidence.report.classes) == "face",
        "training": evidence.run.settings().get("training", {}),
        "facts": [line for _, lines in run_facts(evidence.report) for line in lines],
        "corruptions": robustness.CORRUPTIONS,
        "weakest": None if evidence.robustness is None else robustness.weakest(evidence.robustness),
    }
    # Sentences that have nothing to say leave empty lines.
    return re.sub(r"\n{3,}", "\n\n", render_page("model_card.md.j2", values))


Page = Callable[[Evidence, Sequence[plots.Plot], FaceSamples | None], str]
"""What the run has stored, its plots, and the faces that may be shown -> text."""

PAGES: dict[str, Page] = {
    "report.html": run_page,
    "model_card.md": model_card,
}
"""File in the run directory -> page."""


def run_plots(evidence: Evidence) -> list[plots.Plot]:
    """Every plot of ``PLOTS`` for which the run has stored what it takes."""
    return [plot for draw in PLOTS if (plot := draw(evidence)) is not None]


def curves_plot(evidence: Evidence) -> plots.Plot | None:
    """Learning curves; the kept epoch is marked where it was chosen on validation."""
    if not evidence.metrics:
        return None
    report = evidence.report
    best = report.best_epoch if report.weights == "best" else None  # counts from 1
    training, validation = (_accuracies(evidence.metrics, split) for split in ("training", "validation"))
    last = max(validation, default=None)
    ends = None if last is None else (validation[last], training.get(last))
    result = report.result("validation")
    return plots.Plot.of(
        plots.learning_curves(evidence.metrics, best),
        "learning_curves",
        epochs=max(row.epoch for row in evidence.metrics) + 1,
        kept=None if best not in validation else (best, validation[best]),
        ends=ends,
        overfits=ends is not None and ends[1] is not None and ends[1] - ends[0] > MAX_GAP,
        unbeaten=None if result is None else unbeaten(report, result),
        few=few_steps(report),
        precision=report.precision,
    )


def _accuracies(metrics: Sequence[MetricRow], split: str) -> dict[int, float]:
    """Epoch, counted from 1 -> accuracy."""
    return {row.epoch + 1: row.value for row in metrics if (row.split, row.name) == (split, "accuracy")}


def confusion_plot(result: SplitResult, classes: Sequence[str] = EMOTIONS) -> plots.Plot:
    """What the faces of each label were taken for."""
    counts = result.counts  # (K, K)
    rates = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(rates, 0)
    order = np.argsort(-rates, axis=None, kind="stable")[:MAX_CONFUSIONS]
    confusions = [
        (classes[label], classes[predicted], float(rates[label, predicted]))
        for label, predicted in (divmod(int(at), len(counts)) for at in order)
        if rates[label, predicted] > 0
    ]
    figure = plots.confusion(counts, classes)
    return plots.Plot.of(
        figure, "confusion", f"confusion_{result.split}", result=result, confusions=confusions, shown=shown(classes)
    )


def per_class_plot(result: SplitResult, classes: Sequence[str] = EMOTIONS) -> plots.Plot:
    """Precision, recall and F1 of each class."""
    precision, recall, f1 = ([each.value for each in result.classes[name]] for name in ("precision", "recall", "f1"))
    labelled, predicted = result.counts.sum(1), result.counts.sum(0)  # (K,), (K,)
    present = np.flatnonzero(labelled).tolist()  # those that the macro-F1 is the mean of
    best, worst = (sorted(present, key=lambda at: sign * f1[at]) for sign in (-1, 1))
    return plots.Plot.of(
        plots.per_class(precision, recall, f1, classes, present),
        "per_class",
        f"per_class_{result.split}",
        result=result,
        best=_level(best, f1, classes),
        worst=_level(worst, f1, classes),
        shown=shown(classes),
        never=[classes[at] for at in np.flatnonzero((labelled > 0) & (predicted == 0)).tolist()],
    )


def _level(order: Sequence[int], f1: Sequence[float], classes: Sequence[str]) -> tuple[list[str], float]:
    """The first class in an ``order``, all that have the same F1, and this F1."""
    return [classes[at] for at in order if f1[at] == f1[order[0]]], f1[order[0]]


def reliability_plot(evidence: Evidence) -> plots.Plot | None:
    """Accuracy by confidence: whether confidences mean what they say."""
    result, predictions = evidence.result, evidence.predictions
    if predictions is None:
        return None
    figure = plots.reliability(predictions.label, predictions.probabilities)
    name, temperature = f"reliability_{result.split}", evidence.report.temperature
    what = shown(evidence.report.classes)
    return plots.Plot.of(figure, "reliability", name, result=result, temperature=temperature, shown=what)


def risk_coverage_plot(evidence: Evidence) -> plots.Plot | None:
    """Selective prediction: what it gains to leave the least confident answers out."""
    if evidence.predictions is None:
        return None
    confidence, coverage, risk = risk_coverage(evidence.predictions.label, evidence.predictions.probabilities)
    half = int(np.searchsorted(coverage, 0.5))
    return plots.Plot.of(
        plots.risk_coverage(coverage, risk),
        "risk_coverage",
        f"abstention_{evidence.result.split}",
        risk=float(risk[-1]),
        half_risk=float(risk[half]),
        half_confidence=float(confidence[half]),
    )


def robustness_plot(evidence: Evidence) -> plots.Plot | None:
    """How accuracy falls under corruptions."""
    found = evidence.robustness
    if found is None:
        return None
    worst = robustness.weakest(found)
    titles = {name: corruption.title for name, corruption in robustness.CORRUPTIONS.items()}
    figure = plots.robustness(found, titles)
    kept = found["corruptions"][worst]["relative"]
    return plots.Plot.of(figure, "robustness", found=found, weakest=titles[worst], weakest_kept=kept)


def robustness_compared_plot(found: Mapping[str, robustness.RobustnessReport]) -> plots.Plot:
    """What several networks keep of their accuracy under corruptions: name -> robustness report of two or more."""
    titles = {name: corruption.title for name, corruption in robustness.CORRUPTIONS.items()}
    ranked = sorted(found, key=lambda name: -(found[name]["relative"] or 0.0))
    best, worst = ((name, found[name]["relative"] or 0.0) for name in (ranked[0], ranked[-1]))
    return plots.Plot.of(plots.robustness_compared(found, titles), "robustness_compared", best=best, worst=worst)


PLOTS: tuple[Callable[[Evidence], plots.Plot | None], ...] = (
    curves_plot,
    lambda evidence: confusion_plot(evidence.result, evidence.report.classes),
    lambda evidence: per_class_plot(evidence.result, evidence.report.classes),
    reliability_plot,
    risk_coverage_plot,
    robustness_plot,
)
"""Plots of a run's page, in order; each gives ``None`` where the run has not stored what it takes."""
