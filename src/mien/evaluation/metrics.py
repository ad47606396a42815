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


def class_rates(counts: NDArray[np.number]) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F1 of each class by confusion counts: ``(..., K, K)`` -> ``(..., K)`` each.

    Precision is 0 where a class is never predicted, recall where it has no faces, F1 where it has neither.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    predicted, labelled = counts.sum(-2), counts.sum(-1)
    return {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, labelled),
        "f1": _ratio(2 * right, predicted + labelled),
    }


def mean_f1(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean F1 of the classes that are met or predicted, by confusion counts: ``(..., K, K)`` -> ``(...)``."""
    met = counts.sum(-2) + counts.sum(-1) > 0
    return _ratio(class_rates(counts)["f1"].sum(-1), met.sum(-1))  # F1 is 0 where a class is not met


def macro_f1(labels: Labels, probabilities: Probabilities) -> float:
    """Mean of the F1 of the classes that are met or predicted, each counting alike."""
    return float(mean_f1(confusion_matrix(labels, probabilities)))


def ece(labels: Labels, probabilities: Probabilities, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the top label, in [0, 1].

    Bins of equal mass; absolute gaps between mean confidence and accuracy, weighted by the bin's faces.
    Sources: Naeini, Cooper, Hauskrecht 2015 (definition); Nguyen, O'Connor 2015, arXiv:1508.05154 (equal mass).
    """
    order = np.argsort(probabilities.max(1), kind="stable")
    confidence = probabilities.max(1).astype(np.float64)[order]
    return float(binned_gap(confidence - (probabilities.argmax(1) == labels)[order], bins))


def binned_gap(gaps: NDArray[np.float64], bins: int = ECE_BINS) -> NDArray[np.float64]:
    """ECE by each face's confidence minus its being right (0, 1), in the order of confidence: ``(..., N) -> (...)``."""
    count = gaps.shape[-1]
    bins = min(bins, count)
    places = np.arange(bins)
    starts = places * (count // bins) + np.minimum(places, count % bins)  # the first bins take what is left over
    error: NDArray[np.float64] = abs(np.add.reduceat(gaps, starts, axis=-1)).sum(-1) / count
    return error


def nll(labels: Labels, probabilities: Probabilities) -> float:
    """Mean negative log-likelihood of the label, in nats."""
    return float(nll_of_each(labels, probabilities).sum() / len(labels))


def nll_of_each(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Negative log-likelihood of each label, in nats: ``(N,)``."""
    return -_log(probabilities[np.arange(len(labels)), labels])


def brier(labels: Labels, probabilities: Probabilities) -> float:
    """Mean squared distance between probabilities and the label's one-hot vector, in [0, 2] (Brier 1950)."""
    return float(brier_of_each(labels, probabilities).sum() / len(labels))


def brier_of_each(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Squared distance between each face's probabilities and its label's one-hot vector, in [0, 2]: ``(N,)``."""
    target = np.eye(probabilities.shape[1])[labels]
    distance: NDArray[np.float64] = ((probabilities.astype(np.float64) - target) ** 2).sum(1)
    return distance


def cross_entropy_of_each(shares: Probabilities, probabilities: Probabilities) -> NDArray[np.float64]:
    """Cross-entropy of each face's probabilities against wanted shares ``(N, K)``, in nats: ``(N,)``."""
    entropy: NDArray[np.float64] = -(shares * _log(probabilities)).sum(1)
    return entropy


def kl_divergence_of_each(shares: Probabilities, probabilities: Probabilities) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of each face's probabilities from wanted shares ``(N, K)``, in nats: ``(N,)``.

    It is the cross-entropy without what no prediction can avoid, the shares' own entropy (Kullback, Leibler 1951).
    """
    return cross_entropy_of_each(shares, probabilities) - cross_entropy_of_each(shares, shares)


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


def _ratio(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = numerator / np.maximum(denominator, 1)
    return ratio


def _log(probabilities: Probabilities) -> NDArray[np.float64]:
    """Natural logarithm, finite where a probability is 0."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
