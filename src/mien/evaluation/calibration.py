"""One number that makes confidences mean what they say.

Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, temperature scaling.
"""

import numpy as np
from numpy.typing import NDArray

from mien.errors import import_extra

TEMPERATURES = (0.05, 20.0)


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
