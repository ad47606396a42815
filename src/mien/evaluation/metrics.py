"""Metrics: pure functions of labels and probabilities, and ``METRICS``, the one table of them.

A metric of your own is one file with a function and one line in ``METRICS``: ``"mine": Metric("my metric", mine)``. It
gets its value and a bootstrap interval in every new ``report.json`` and in ``compare.json``, and a column in the tables
of ``mien evaluate`` and ``mien compare`` and on the run's page; so does one outside of the package by ``--metric
module:Name``. What a confidence means stands here too: temperature scaling, and selective prediction by a threshold of
confidence.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mien import extensions
from mien.errors import CallError, first_line, import_extra

Labels = NDArray[np.integer]
Probabilities = NDArray[np.floating]
Counts = NDArray[np.number]
"""Confusion counts ``(..., K, K)``: the row is the label, the column the predicted class."""

ECE_BINS = 15

TEMPERATURES = (0.05, 20.0)

MIN_ANSWERS = 50
"""Below so many answers an accuracy says too little to choose a threshold by."""


@dataclass(frozen=True)
class Metric:
    """A line of ``METRICS``, given in one of four ways; the last three make its bootstrap fast.

    Attributes:
        title: in tables.
        function: labels ``(N,)`` and probabilities ``(N, K)`` -> value; computed on each of 1,000 draws of images.
        of_counts: the value by confusion counts, ``(..., K, K) -> (...)``.
        of_each: a loss of each image ``(N,)``, whose mean is the value.
        of_gaps: a calibration error by :func:`calibration_gaps`, ``(..., N) -> (...)``. Chance makes it too high, and
            its interval allows for that.
        percent: whether tables show it in percent.
        lower_is_better: whether a lower value is better.
    """

    title: str
    function: Callable[[Labels, Probabilities], float] | None = None
    of_counts: Callable[[Counts], NDArray[np.float64]] | None = None
    of_each: Callable[[Labels, Probabilities], NDArray[np.float64]] | None = None
    of_gaps: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    percent: bool = False
    lower_is_better: bool = False

    def __call__(self, labels: Labels, probabilities: Probabilities) -> float:
        """The value."""
        if self.of_counts is not None:
            return float(self.of_counts(confusion_matrix(labels, probabilities)))
        if self.of_each is not None:
            return float(self.of_each(labels, probabilities).sum() / len(labels))
        if self.of_gaps is not None:
            return float(self.of_gaps(calibration_gaps(labels, probabilities)))
        if self.function is not None:
            return float(self.function(labels, probabilities))
        raise ValueError(f"expected function, of_counts, of_each or of_gaps for {self.title}, got none of them")


def confusion_matrix(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Counts ``(K, K)``: the row is the label, the column the predicted class."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(counts: Counts) -> NDArray[np.float64]:
    """Fraction of images whose label has the highest probability, the first of equals: ``(..., K, K) -> (...)``."""
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def class_rates(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F1 of each class by confusion counts: ``(..., K, K)`` -> ``(..., K)`` each.

    Precision is 0 where a class is never predicted, recall where it has no faces, F1 where it has neither.
    """
    correct = np.diagonal(counts, axis1=-2, axis2=-1)
    predicted, labelled = counts.sum(-2), counts.sum(-1)
    return {
        "precision": _ratio(correct, predicted),
        "recall": _ratio(correct, labelled),
        "f1": _ratio(2 * correct, predicted + labelled),
    }


def macro_f1(counts: Counts) -> NDArray[np.float64]:
    """Mean F1 of the classes that have faces, each with the same weight: ``(..., K, K) -> (...)``.

    Deviations: scikit-learn also counts classes that are only predicted, with an F1 of 0. Here such answers lower the
    recall of the classes whose faces they were given to, and nothing else.
    """
    present = counts.sum(-1) > 0
    return _ratio(class_rates(counts)["f1"].sum(-1), present.sum(-1))  # F1 is 0 where a class has no faces


def calibration_gaps(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Confidence minus correctness (0 or 1) of each image, in the order of confidence: ``(N,)``."""
    order = np.argsort(probabilities.max(1), kind="stable")
    confidence = probabilities.max(1).astype(np.float64)
    gaps: NDArray[np.float64] = (confidence - (probabilities.argmax(1) == labels))[order]
    return gaps


def ece(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error of the top label, in [0, 1], by :func:`calibration_gaps`: ``(..., N) -> (...)``.

    Bins of equal mass; absolute gaps between mean confidence and accuracy, weighted by the bin's images.
    Sources: Naeini, Cooper, Hauskrecht 2015 (definition); Nguyen, O'Connor 2015, arXiv:1508.05154 (equal mass).
    """
    count = gaps.shape[-1]
    bins = min(ECE_BINS, count)
    numbers = np.arange(bins)
    starts = numbers * (count // bins) + np.minimum(numbers, count % bins)  # the first bins take what is left over
    error: NDArray[np.float64] = abs(np.add.reduceat(gaps, starts, axis=-1)).sum(-1) / count
    return error


def nll(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Negative log-likelihood of each label, in nats: ``(N,)``."""
    return -_log(probabilities[np.arange(len(labels)), labels])


def brier(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Squared distance between each image's probabilities and its label's one-hot vector, in [0, 2]: ``(N,)``.

    Source: Brier 1950.
    """
    target = np.eye(probabilities.shape[1])[labels]
    distance: NDArray[np.float64] = ((probabilities.astype(np.float64) - target) ** 2).sum(1)
    return distance


def cross_entropy(targets: Probabilities, probabilities: Probabilities) -> NDArray[np.float64]:
    """Cross-entropy of each face's probabilities against soft targets ``(N, K)``, in nats: ``(N,)``."""
    entropy: NDArray[np.float64] = -(targets * _log(probabilities)).sum(1)
    return entropy


def kl_divergence(targets: Probabilities, probabilities: Probabilities) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of each face's probabilities from soft targets ``(N, K)``, in nats: ``(N,)``.

    It is the cross-entropy without what no prediction can avoid, the targets' own entropy (Kullback, Leibler 1951).
    """
    return cross_entropy(targets, probabilities) - cross_entropy(targets, targets)


def wilson_interval(
    successes: float, trials: float, confidence: float = 0.95, freedom: int | None = None
) -> tuple[float, float]:
    """Confidence interval of a fraction (Wilson 1927); a mean over seeds need not be a whole number of successes.

    With Student's quantile where the number of trials is an estimate with so many degrees of ``freedom``.

    Raises:
        ValueError: no trials.
    """
    if trials <= 0:
        raise ValueError(f"expected at least one trial for an interval, got {trials}")
    z = NormalDist().inv_cdf((1 + confidence) / 2) if freedom is None else student(confidence, freedom)
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * ((rate * (1 - rate) + z * z / (4 * trials)) / trials) ** 0.5
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def student(confidence: float, freedom: int) -> float:
    """Deviations of Student's distribution between its middle and the end of an interval."""
    return float(import_extra("scipy.stats", "report").t.isf((1 - confidence) / 2, freedom))


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature in 0.05 to 20 that gives validation logits ``(N, K)`` the lowest negative log-likelihood.

    The problem is convex in the logarithm's inverse, so that a bounded search finds the minimum.

    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599.
    """
    logits = logits.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]  # (N,)

    def mean_nll(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        scaled = logits * scale
        maximum = scaled.max(1)
        log_sum = np.log(np.exp(scaled - maximum[:, None]).sum(1)) + maximum
        return float((log_sum - of_label * scale).mean())

    optimize = import_extra("scipy.optimize", "report")
    found = optimize.minimize_scalar(mean_nll, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Abstention:
    """Answers are given from a confidence of ``threshold`` on; so chosen, ``coverage`` of the faces get one.

    ``accuracy`` is that of these answers; all in [0, 1].
    """

    threshold: float
    accuracy: float
    coverage: float


def risk_coverage(labels: Labels, probabilities: Probabilities) -> tuple[NDArray[np.float64], ...]:
    """The risk-coverage curve of ``(N,)`` and ``(N, K)``: confidence (decreasing), coverage and risk, ``(M,)`` each.

    Coverage is the fraction of the faces that are answered, risk the fraction of these answers that is wrong. Equal
    confidences are given together, so that every point is one that a threshold can reach.

    Source: El-Yaniv, Wiener 2010, JMLR 11.
    """
    confidence = probabilities.max(1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    wrong = (probabilities.argmax(1) != labels)[order]
    given = np.arange(1, len(labels) + 1)
    last = np.append(np.diff(confidence[order]) != 0, True)
    return confidence[order][last], (given / len(labels))[last], (wrong.cumsum() / given)[last]


def abstention(labels: Labels, probabilities: Probabilities, accuracy: float) -> Abstention | None:
    """The threshold that gives the most answers with a fraction of ``accuracy`` correct, or ``None`` if none does.

    Labels ``(N,)`` and probabilities ``(N, K)`` are those of faces on which nothing else is to be measured.
    """
    confidence, coverage, risk = risk_coverage(labels, probabilities)
    enough = coverage * len(labels) >= min(MIN_ANSWERS, len(labels))
    reached = np.flatnonzero((1 - risk >= accuracy) & enough)
    if not len(reached):
        return None
    at = reached[-1]
    return Abstention(float(confidence[at]), float(1 - risk[at]), float(coverage[at]))


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", of_counts=accuracy, percent=True),
    "macro_f1": Metric("macro-F1", of_counts=macro_f1),
    "ece": Metric("ECE", of_gaps=ece, percent=True, lower_is_better=True),
    "nll": Metric("NLL", of_each=nll, lower_is_better=True),
    "brier": Metric("Brier", of_each=brier, lower_is_better=True),
}
"""Name in reports -> metric, in the order of the columns of tables."""


@contextmanager
def added(names: Iterable[str]) -> Iterator[None]:
    """``METRICS`` also has metrics that stand outside of the package, each called ``module:Name``, while this lasts.

    Raises:
        UnknownNameError: no such module, or a module without this name.
        CallError: it is no metric, or fails on two images.
    """
    found = {name: _outside(name) for name in names if name not in METRICS}
    METRICS.update(found)
    try:
        yield
    finally:
        for name in found:
            del METRICS[name]


def _outside(name: str) -> Metric:
    """The ``Metric``, or the function of labels and probabilities, that ``module:Name`` names; tried on two images."""
    expected = "a function of labels (N,) and probabilities (N, K) that gives a number, or a Metric"
    found = extensions.look_up(METRICS, name, "metric", expected=expected)
    metric = found if isinstance(found, Metric) else Metric(metric_title(name), found)
    try:
        metric(np.arange(2), np.eye(2))
    except Exception as error:  # whatever somebody's code raises
        raise CallError(
            f"metric {name!r}: expected {expected}, got {type(error).__name__} for two images: {first_line(error)}"
        ) from error
    return metric


def metric_title(name: str) -> str:
    """What tables call a metric; of one that is in no table what its name says: ``mine:top_two`` is ``top two``."""
    return METRICS[name].title if name in METRICS else name.rpartition(":")[2].replace("_", " ")


def _ratio(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = numerator / np.maximum(denominator, 1)
    return ratio


def _log(probabilities: Probabilities) -> NDArray[np.float64]:
    """Natural logarithm, finite where a probability is 0."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
