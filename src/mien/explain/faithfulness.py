"""Whether a map explains anything: does it depend on the weights, and do the pixels that it ranks first matter?

Sources:
    Randomised weights: Adebayo et al. 2018, arXiv:1810.03292, the model parameter randomisation test.
    Deletion and insertion: Petsiuk, Das, Saenko 2018, arXiv:1806.07421.
Deviations: the weights are randomised all at once, by building the network again; maps are compared by Spearman's rank
correlation. Removed pixels become the face's mean grey, and inserted ones appear in a face that is blurred until its
expression is gone. Instead of other methods, random maps as coarse as the method's own are what a map has to beat.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mien.errors import import_extra
from mien.explain.saliency import Classes, Faces, Maps, Method
from mien.models import FaceClassifier, create_classifier
from mien.recipe import ModelSettings

SIMILAR = 0.5
"""Mean rank correlation with the maps of randomised networks from which on a map says too little about the weights."""
TWINS = 3
"""Randomised networks."""
RANDOM_MAPS = 19
"""The smallest number with which beating all of them is significant at 5 %: p = 1 / 20."""
STEPS = 8
"""Equal parts in which pixels are removed or inserted."""
BLUR = 6 / 48
"""Standard deviation of the blur, as a fraction of the face's side: brows and mouth are gone."""
SIGNIFICANT = 0.05
"""The maximum p of a map that is better than random ones."""

Probability = Callable[[Faces], NDArray[np.float32]]
"""Faces ``(N, S, S)`` -> probabilities ``(N, K)``."""


@dataclass(frozen=True)
class Curve:
    """A class's probability as pixels are removed or inserted in the order of a map, mean over the faces.

    Attributes:
        values: ``(STEPS + 1,)``.
        random: ``(R, STEPS + 1)``, likewise in the orders of R random maps.
        rising: whether a higher curve is the better one, as it is of insertion.
    """

    values: NDArray[np.float64]
    random: NDArray[np.float64]
    rising: bool

    @property
    def area(self) -> float:
        """Area under the curve, in [0, 1]."""
        return float(_areas(self.values[None])[0])

    @property
    def random_areas(self) -> NDArray[np.float64]:
        """Areas under the random maps' curves, ``(R,)``."""
        return _areas(self.random)

    @property
    def p_value(self) -> float:
        """Permutation p-value: fraction of random maps (this one included) that score at least as well."""
        as_good = self.random_areas >= self.area if self.rising else self.random_areas <= self.area
        return float((1 + as_good.sum()) / (1 + len(as_good)))

    @property
    def passes(self) -> bool:
        """Whether the map is better than random ones."""
        return self.p_value <= SIGNIFICANT


@dataclass(frozen=True)
class Checks:
    """What a method's maps are worth on ``n`` faces.

    Attributes:
        similarity: mean rank correlation with the maps of randomised networks, in [-1, 1].
        deletion: as pixels are removed, the most important first.
        insertion: as they are inserted into a blurred face.
        untrained: maps of the randomised networks, ``(TWINS * N, S, S)``.
    """

    n: int
    similarity: float
    deletion: Curve
    insertion: Curve
    untrained: Maps

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of the checks that the maps fail."""
        passed = {
            "randomised weights": self.similarity < SIMILAR,
            "deletion": self.deletion.passes,
            "insertion": self.insertion.passes,
        }
        return tuple(name for name, fine in passed.items() if not fine)

    @property
    def verdict(self) -> str:
        """``passes`` or ``fails``."""
        return "fails" if self.failures else "passes"


def check(
    methods: Sequence[Method],
    classifier: FaceClassifier,
    twins: Sequence[FaceClassifier],
    faces: Faces,
    classes: Classes,
    probability: Probability,
) -> dict[str, Checks]:
    """Put every method to the test on faces ``(N, S, S)``, of which ``classes`` are explained.

    ``twins`` are the network with other weights, by :func:`randomised`; ``probability`` is the network's.

    Returns:
        name of the method -> what it is worth.
    """
    found, of_random = {}, {}
    for method in methods:
        if method.side not in of_random:  # the random maps are as coarse as the method's
            orders = [random_maps(method.side, len(faces), faces.shape[1], seed) for seed in range(RANDOM_MAPS)]
            of_random[method.side] = removal_curves(orders, faces, classes, probability)
        maps = method.explain(classifier, faces, classes)
        untrained = [method.explain(twin, faces, classes) for twin in twins]
        (deletion,), (insertion,) = removal_curves([maps], faces, classes, probability)
        random_deletion, random_insertion = of_random[method.side]
        found[method.name] = Checks(
            n=len(faces),
            similarity=float(np.mean([similarity(maps, other) for other in untrained])),
            deletion=Curve(deletion, random_deletion, rising=False),
            insertion=Curve(insertion, random_insertion, rising=True),
            untrained=np.concatenate(untrained),
        )
    return found


def randomised(
    settings: ModelSettings, votes: int = 0, num_classes: int = 7, count: int = TWINS
) -> list[FaceClassifier]:
    """Networks as they are before any training, one for each seed from 0 on; the caller's random numbers stay."""
    twins = []
    with torch.random.fork_rng():
        for seed in range(count):
            torch.manual_seed(seed)
            twins.append(create_classifier(settings, num_classes, votes=votes, load_weights=False).eval())
    return twins


def similarity(one: Maps, other: Maps) -> NDArray[np.float64]:
    """Spearman's rank correlation of the pixels of maps, ``(N, S, S)`` each: ``(N,)``; 0 where a map is constant."""
    stats = import_extra("scipy.stats", "report")

    def ranks(maps: Maps) -> NDArray[np.float64]:
        ranked = stats.rankdata(maps.reshape(len(maps), -1), axis=1)  # (N, S * S)
        centred = ranked - ranked.mean(1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0))

    return np.asarray((ranks(one) * ranks(other)).sum(1))


def removal_curves(
    orders: Sequence[Maps], faces: Faces, classes: Classes, probability: Probability
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean probability of the classes as pixels go and come: deletion and insertion, ``(R, STEPS + 1)`` each.

    ``orders`` are R times maps of the faces, ``(N, S, S)``; ties are broken at random.
    """
    size, each = faces.shape[1], np.arange(len(faces))
    grey = faces.mean((1, 2), keepdims=True).round().astype(np.uint8)
    blurred = np.stack([cv2.GaussianBlur(face, (0, 0), BLUR * size, borderType=cv2.BORDER_REPLICATE) for face in faces])
    cuts = np.arange(STEPS + 1) * (size * size / STEPS)

    def mean_of(shown: NDArray[np.uint8]) -> NDArray[np.float64]:
        """``(STEPS + 1, N, S, S[, 3]) -> (STEPS + 1,)``, in one batch."""
        probabilities = probability(shown.reshape(-1, *faces.shape[1:])).reshape(*shown.shape[:2], -1)
        return np.asarray(probabilities[:, each, classes].mean(1, dtype=np.float64))

    deletion, insertion = [], []
    for seed, maps in enumerate(orders):
        first = _ranks(maps, seed) < cuts[:, None, None, None]  # (STEPS + 1, N, S, S)
        first = first.reshape(*first.shape, *(1 for _ in faces.shape[3:]))  # all colours of a pixel go together
        deletion.append(mean_of(np.where(first, grey, faces)))
        insertion.append(mean_of(np.where(first, faces, blurred)))
    return np.stack(deletion), np.stack(insertion)


def random_maps(side: int, count: int, size: int, seed: int) -> Maps:
    """Maps of ``side`` x ``side`` independent cells, enlarged as the methods' maps are: ``(count, size, size)``."""
    coarse = np.random.default_rng(seed).random((count, side, side), dtype=np.float32)
    return np.stack([cv2.resize(each, (size, size), interpolation=cv2.INTER_LINEAR) for each in coarse])


def _ranks(maps: Maps, seed: int) -> NDArray[np.int64]:
    """Each pixel's rank in its map, from 0, the highest first: int64 ``(N, S, S)``."""
    flat = maps.reshape(len(maps), -1)
    ties = np.random.default_rng(seed).random(flat.shape)
    order = np.lexsort((ties, -flat), axis=1)  # (N, S * S)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks.reshape(maps.shape)


def _areas(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas under curves over [0, 1], by trapezoids: ``(R, STEPS + 1) -> (R,)``."""
    return np.asarray((curves[:, 1:] + curves[:, :-1]).mean(1) / 2)
