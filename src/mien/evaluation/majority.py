"""The most frequent class of Training as the only answer: what every accuracy is to be read against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.data.index import TRAINING_ROWS, load_index
from mien.emotions import EMOTIONS
from mien.evaluation import metrics
from mien.evaluation.significance import LEVEL, mcnemar_of_counts
from mien.runs import Estimate, Report, SplitResult


@dataclass(frozen=True)
class Majority:
    """A class, and what answering always with it reaches on some images; the accuracy has Wilson's interval.

    ``of_training``: it is Training's most frequent class; else, where that is not known, these images' own.
    """

    name: str
    accuracy: Estimate
    macro_f1: Estimate
    of_training: bool = True


def majority_class(report: Report) -> str | None:
    """The most frequent class of what a network was trained on, or ``None`` where that is not known."""
    name = report.most_frequent
    if name is None and "fer2013" in (report.trained_on, report.data):
        name = EMOTIONS[np.bincount(load_index().labels[:TRAINING_ROWS]).argmax()].value
    return name if name in report.classes else None


def always(name: str | None, totals: NDArray[np.int64], classes: Sequence[str]) -> Majority:
    """A class as the answer to ``totals`` ``(K,)`` images of each class; ``None`` is their own most frequent one."""
    answer = int(totals.argmax()) if name is None else classes.index(name)
    counts = np.zeros((len(classes), len(classes)), np.int64)
    counts[:, answer] = totals
    return Majority(
        str(classes[answer]),
        Estimate(float(metrics.accuracy(counts)), metrics.wilson_interval(int(totals[answer]), int(totals.sum()))),
        Estimate(float(metrics.macro_f1(counts))),
        of_training=name is not None,
    )


def better_than_always(name: str, counts: Sequence[NDArray[np.int64]], classes: Sequence[str]) -> float:
    """p-value of answers being no better than always ``name``, by McNemar's test on the same images; 1 if they are not.

    ``counts`` are the confusion matrices ``(K, K)`` of one run, or of several seeds on the same images, whose mean is
    tested as if it were of one.
    """
    at, mean = classes.index(name), np.mean(counts, axis=0)
    correct, always_correct = mean.trace() - mean[at, at], mean[at].sum() - mean[at, at]  # where the other is wrong
    return mcnemar_of_counts(round(correct), round(always_correct)) if correct > always_correct else 1.0


def unbeaten(report: Report, result: SplitResult) -> Majority | None:
    """What always answering with Training's most frequent class reaches, if a network is not shown to be better.

    ``None`` where it is shown, at 95 %, or where that class is not known.
    """
    name = majority_class(report)
    if name is None or better_than_always(name, [result.counts], report.classes) < 1 - LEVEL:
        return None
    return always(name, result.counts.sum(1), report.classes)
