"""What a confidence means: one number that makes confidences true, and how sure an answer must be to be given.

Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, temperature scaling; El-Yaniv, Wiener 2010, JMLR 11, the
risk-coverage curve.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.errors import import_extra
from mien.evaluation.metrics import Labels, Probabilities

TEMPERATURES = (0.05, 20.0)

LEAST_ANSWERS = 50
"""Below so many answers an accuracy says too little to choose a threshold by."""


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature that gives validation logits ``(N, K)`` the least negative log-likelihood.

    The problem is convex in the logarithm's inverse, so a bounded search finds the minimum in 0.05 to 20.
    """
    logits = logits.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]  # (N,)

    def mean_nll(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        scaled = logits * scale
        largest = scaled.max(1)
        log_sum = np.log(np.exp(scaled - largest[:, None]).sum(1)) + largest
        return float((log_sum - of_label * scale).mean())

    optimize = import_extra("scipy.optimize", "report")
    found = optimize.minimize_scalar(mean_nll, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Abstention:
    """Answers are given from this confidence on.

    Attributes:
        threshold: least confidence of an answer, in [0, 1].
        accuracy: of the answers given, where it was chosen.
        coverage: share of the faces that get an answer there.
    """

    threshold: float
    accuracy: float
    coverage: float


def risk_coverage(labels: Labels, probabilities: Probabilities) -> tuple[NDArray[np.float64], ...]:
    """Confidence, coverage and risk as ever less confident answers are given: ``(M,)`` each, by different confidences.

    Equal confidences are given together, so that every point is one that a threshold can reach.

    Args:
        labels: ``(N,)``.
        probabilities: ``(N, K)``.

    Returns:
        confidence, decreasing; share of the faces answered; share of these answers that is wrong.
    """
    confidence = probabilities.max(1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    wrong = (probabilities.argmax(1) != labels)[order]
    given = np.arange(1, len(labels) + 1)
    last = np.append(np.diff(confidence[order]) != 0, True)
    return confidence[order][last], (given / len(labels))[last], (wrong.cumsum() / given)[last]


def abstention(labels: Labels, probabilities: Probabilities, accuracy: float) -> Abstention | None:
    """The threshold that gives the most answers of which a share of ``accuracy`` is right, or ``None`` if none does.

    Args:
        labels: ``(N,)``.
        probabilities: ``(N, K)``, of faces on which nothing else is to be measured.
        accuracy: wanted, in [0, 1].
    """
    confidence, coverage, risk = risk_coverage(labels, probabilities)
    enough = coverage * len(labels) >= min(LEAST_ANSWERS, len(labels))
    reached = np.flatnonzero((1 - risk >= accuracy) & enough)
    if not len(reached):
        return None
    at = reached[-1]
    return Abstention(float(confidence[at]), float(1 - risk[at]), float(coverage[at]))
