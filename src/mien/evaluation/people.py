"""By subject: what a figure is worth where several images show one person, so that people are what chance chose.

Three frames of one smile are hardly more than one. Where samples tell subjects, intervals answer how the figure would
differ with other people: images of one person are drawn together, and with few people Student's distribution stands for
the normal one. The plain percentile bootstrap over people is too narrow with few (``tests/evaluation/test_people.py``,
docs/decisions/0025).

Sources: Field, Welsh 2007, "Bootstrapping clustered data", doi:10.1111/j.1467-9868.2007.00593.x (drawing people);
Hesterberg 2015, doi:10.1080/00031305.2015.1089789 (:meth:`People.bounds`); Cameron, Miller 2015,
doi:10.3368/jhr.50.2.317 (:meth:`People.variance`); Franco, Little, Louis, Slud 2019, doi:10.1093/jssam/smy019
(Wilson's interval with an effective number of images).
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mien.evaluation.metrics import student

MIN_PEOPLE = 5
"""Draws of fewer people give no interval: at best it reaches from the worst of G people to the best, and so far that
holds in ``1 - 2**(1 - G)`` of cases, 50 % with two, 75 % with three, 88 % with four."""


@dataclass(frozen=True)
class People:
    """Whom each image shows: ``of_image`` int64 ``(N,)`` from 0 to ``count`` - 1; two people or more."""

    of_image: NDArray[np.int64]
    count: int

    def __getitem__(self, order: NDArray[np.int64]) -> "People":
        """The same images in another order."""
        return People(self.of_image[order], self.count)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a deviation that is estimated from these people."""
        return self.count - 1

    def draws(self, replicates: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """How often each image is drawn where whole people are, as many as there are: ``(R, N)``."""
        drawn = generator.multinomial(self.count, np.full(self.count, 1 / self.count), size=replicates)  # (R, G)
        return np.asarray(drawn[:, self.of_image], np.int64)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Quantiles of draws of people that hold so much: wider than the plain ones, the more the fewer people.

        Draws vary too little by ``sqrt((G - 1) / G)``, and their deviation is itself an estimate (Student).
        """
        low = NormalDist().cdf(-student(confidence, self.freedom) * (self.count / self.freedom) ** 0.5)
        return low, 1 - low

    @property
    def are_few(self) -> bool:
        """Whether draws of these people are worth no interval."""
        return self.count < MIN_PEOPLE

    def showing(self, labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
        """How many people show each class, ``(K,)``."""
        pairs = np.unique(labels.astype(np.int64) * self.count + self.of_image)
        return np.bincount(pairs // self.count, minlength=classes)

    def variance(self, values: NDArray[np.floating]) -> float:
        """Variance of the mean of ``values`` ``(N,)`` over other people: the ratio estimator's, cluster-robust."""
        residuals = np.bincount(self.of_image, values - np.mean(values), self.count)  # (G,)
        return float(self.count / self.freedom * (residuals**2).sum() / len(values) ** 2)

    def effective_images(self, correct: NDArray[np.floating] | NDArray[np.bool_]) -> float:
        """How many independent images would tell the accuracy as exactly; at most the images that there are.

        Where all answers are right or all wrong, nothing tells how alike a person's are: one image a person.
        """
        rate, variance = float(np.mean(correct)), self.variance(np.asarray(correct, np.float64))
        if variance == 0:
            return float(self.count)
        return min(float(len(correct)), rate * (1 - rate) / variance)


def people_of(groups: NDArray[np.integer] | None) -> People | None:
    """The people by ``FaceSamples.groups`` ``(N,)``: an image of an unknown one, -1, is one of its own.

    ``None`` without subjects, where all are unknown, and of a single person, who tells nothing of others.
    """
    if groups is None or not len(groups) or groups.max() < 0:
        return None
    numbers = groups.astype(np.int64)
    unknown = numbers < 0
    numbers[unknown] = numbers.max() + 1 + np.arange(np.count_nonzero(unknown))
    names, of_image = np.unique(numbers, return_inverse=True)
    return People(of_image, len(names)) if len(names) > 1 else None
