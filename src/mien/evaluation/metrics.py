"""Pure functions of labels and probabilities. Counts are added up first and divided once."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Probabilities = NDArray[np.floating]

ECE_BINS = 15


def confusion_matrix(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Counts ``(K, K)``: the line is the label, the column the predicted class."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Share of faces whose label has the highest probability; the first of equals counts."""
    return float(np.count_nonzero(probabilities.argmax(1) == labels) / len(labels))


def precision(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Per class, the share of its predictions that are right: ``(K,)``; 0 where it is never predicted."""
    counts = confusion_matrix(labels, probabilities)
    return _ratio(counts.diagonal(), counts.sum(0))


def recall(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Per class, the share of its faces that are found: ``(K,)``; 0 where there are none."""
    counts = confusion_matrix(labels, probabilities)
    return _ratio(counts.diagonal(), counts.sum(1))


def f1(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Per class, the harmonic mean of precision and recall: ``(K,)``; 0 where a class is neither met nor predicted."""
    counts = confusion_matrix(labels, probabilities)
    return _ratio(2 * counts.diagonal(), counts.sum(0) + counts.sum(1))


def macro_f1(labels: Labels, probabilities: Probabilities) -> float:
    """Mean of the F1 of the classes that are met or predicted, each counting alike."""
    counts = confusion_matrix(labels, probabilities)
    met = counts.sum(0) + counts.sum(1) > 0
    return float(f1(labels, probabilities)[met].mean())


def ece(labels: Labels, probabilities: Probabilities, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the top label, in [0, 1].

    Bins of equal mass; absolute gaps between mean confidence and accuracy, weighted by the bin's faces.
    Sources: Naeini, Cooper, Hauskrecht 2015 (definition); Nguyen, O'Connor 2015, arXiv:1508.05154 (equal mass).
    """
    order = np.argsort(probabilities.max(1), kind="stable")
    confidence = probabilities.max(1).astype(np.float64)[order]
    correct = (probabilities.argmax(1) == labels).astype(np.float64)[order]
    gaps = [abs(part.sum()) for part in np.array_split(confidence - correct, bins)]
    return float(sum(gaps) / len(labels))


def nll(labels: Labels, probabilities: Probabilities) -> float:
    """Mean negative log-likelihood of the label, in nats."""
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).sum() / len(labels))


def brier(labels: Labels, probabilities: Probabilities) -> float:
    """Mean squared distance between probabilities and the label's one-hot vector, in [0, 2] (Brier 1950)."""
    target = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities.astype(np.float64) - target) ** 2).sum() / len(labels))


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a share (Wilson 1927).

    Raises:
        ValueError: no trials.
    """
    if trials <= 0:
        raise ValueError(f"an interval needs at least one trial; {trials} came")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * ((share * (1 - share) + z * z / (4 * trials)) / trials) ** 0.5
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


METRICS: dict[str, Callable[[Labels, Probabilities], float]] = {
    "accuracy": accuracy,
    "brier": brier,
    "ece": ece,
    "macro_f1": macro_f1,
    "nll": nll,
}
"""Name in reports -> function of labels ``(N,)`` and probabilities ``(N, K)``."""


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return numerator / np.maximum(denominator, 1)
