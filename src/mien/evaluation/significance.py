"""What a metric and a difference are worth: intervals, tests of two files, and claims about recipes.

Two levels are kept apart. Two prediction files on the same images can be compared without doubt about the files
(:func:`mcnemar`, :func:`paired_bootstrap`), but that says nothing about their recipes: trained again with another seed,
either would give another file. A claim about recipes (:func:`recipe_effect`) needs several seeds of each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError, import_extra
from mien.evaluation import metrics
from mien.evaluation.metrics import METRICS
from mien.evaluation.people import MIN_PEOPLE, People
from mien.runs import SplitResult

REPLICATES = 1000
LEVEL = 0.95
NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Standard deviations of a normal distribution between its middle and the end of a 95 % interval: 1.96."""

BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)

BLOCK = 100
"""Replicates at a time: of 28,709 images they take some 100 MB."""

Correct = NDArray[np.bool_]
"""Which answers are correct, ``(N,)``."""

Values = dict[str, NDArray[np.float64]]
"""Name -> a value of each draw ``(R,)``, or of each draw and class ``(R, K)``."""


@dataclass(frozen=True)
class Effect:
    """A difference of the accuracies on ``n`` images, in [-1, 1], with its 95 % interval and p-value of none.

    ``seeds`` trainings of each recipe stand behind it; 1 speaks of two files only. ``subjects`` are the people whose
    choice is the chance of images, where that is by subject.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    seeds: int
    n: int
    subjects: int | None = None

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out that there is no difference."""
        return not self.interval[0] <= 0 <= self.interval[1]


def bootstrap_intervals(
    labels: metrics.Labels,
    probabilities: metrics.Probabilities,
    losses: Mapping[str, NDArray[np.float64]] | None = None,
    *,
    people: People | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """95 % intervals of every metric and of each class's precision, recall and F1, from the same draws of images.

    Images are resampled within each label: the numbers of each class count as given, and an interval speaks of other
    images in the same numbers. All are percentile intervals, but for those of calibration errors
    (:func:`_calibration_interval`).

    Source: Efron, Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.

    Given ``people``, these are drawn with all their images, whatever their labels, and the quantiles lie further out
    (:meth:`People.bounds`); a draw without any face of a class tells nothing of this class. Of fewer than
    ``MIN_PEOPLE`` there is no interval, and of a class that fewer show it is NaN.

    ``losses`` has losses of each image ``(N,)``, whose means get intervals too.

    Returns:
        name -> low and high ``(2,)``; for ``precision``, ``recall`` and ``f1`` those of each class, ``(K, 2)``.
    """
    if people is not None and people.are_few:
        return {}
    order = np.argsort(probabilities.max(1), kind="stable")  # calibration errors want the order of confidence
    labels, probabilities = labels[order], probabilities[order]
    people, bounds = (None, BOUNDS) if people is None else (people[order], people.bounds(LEVEL))
    terms = {name: metric.of_each(labels, probabilities) for name, metric in METRICS.items() if metric.of_each}
    terms |= {name: values[order] for name, values in (losses or {}).items()}
    confidence = probabilities.max(1).astype(np.float64)
    errors = {name: metric.of_gaps for name, metric in METRICS.items() if metric.of_gaps}
    generator = np.random.default_rng(seed)
    resampled: list[Values] = []
    calibrated: list[Values] = []
    for start in range(0, replicates, BLOCK):
        count = min(BLOCK, replicates - start)
        drawn = _draws(labels, count, generator) if people is None else people.draws(count, generator)  # (R, N)
        resampled.append(_resampled(labels, probabilities, terms, drawn))
        gaps = confidence - (generator.random(drawn.shape) < confidence)  # of a network with true confidences
        calibrated.append({name: of_gaps(gaps) for name, of_gaps in errors.items()})
    values, by_chance = _joined(resampled), _joined(calibrated)
    quantile = np.quantile if people is None else np.nanquantile
    intervals = {name: quantile(each, bounds, axis=0).T for name, each in values.items()}
    if people is not None:
        alone = people.showing(labels, probabilities.shape[1]) < MIN_PEOPLE
        for name in ("precision", "recall", "f1"):
            intervals[name][alone] = np.nan
    for name, each in by_chance.items():
        intervals[name] = _calibration_interval(METRICS[name](labels, probabilities), values[name], each, bounds)
    return intervals


def _resampled(
    labels: metrics.Labels,
    probabilities: metrics.Probabilities,
    terms: Mapping[str, NDArray[np.float64]],
    drawn: NDArray[np.int64],
) -> Values:
    """Metrics, mean losses and class rates of images that are ``drawn`` so often, ``(R, N)``.

    The images are in the order of confidence; ``terms`` has losses of each, ``(N,)``.
    """
    classes, predicted = probabilities.shape[1], probabilities.argmax(1)
    cells = np.eye(classes**2)[classes * labels.astype(np.int64) + predicted]  # (N, K * K)
    sums = drawn @ np.column_stack([cells, *terms.values()])
    counts, totals = np.split(sums, [classes**2], axis=1)
    counts = counts.reshape(-1, classes, classes)
    images = [np.repeat(np.arange(len(labels)), times) for times in drawn]
    gaps = metrics.calibration_gaps(labels, probabilities)  # (N,)
    found = {name: metric.of_counts(counts) for name, metric in METRICS.items() if metric.of_counts}
    is_missing = (counts.sum(-1) == 0) & np.isin(np.arange(classes), labels)  # (R, K)
    found |= {name: np.where(is_missing, np.nan, rates) for name, rates in metrics.class_rates(counts).items()}
    found |= dict(zip(terms, totals.T / drawn.sum(1), strict=True))
    is_even = len({len(at) for at in images}) == 1  # people may have different numbers of images
    for name, metric in METRICS.items():
        if metric.of_gaps and is_even:
            found[name] = metric.of_gaps(gaps[np.stack(images)])
        elif metric.of_gaps:
            found[name] = np.array([metric.of_gaps(gaps[at]) for at in images])
    for name, metric in METRICS.items():
        if metric.function is not None:
            found[name] = np.array([metric.function(labels[at], probabilities[at]) for at in images])
    return found


def _joined(blocks: Sequence[Values]) -> Values:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _draws(labels: metrics.Labels, replicates: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """How often each image is drawn, where each label's images are drawn from that label's: ``(R, N)``."""
    counts = np.empty((replicates, len(labels)), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn = generator.integers(0, len(members), (replicates, len(members)))
        cells = drawn + len(members) * np.arange(replicates)[:, None]
        counts[:, members] = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape)
    return counts


def _calibration_interval(
    estimate: float, resampled: NDArray[np.float64], calibrated: NDArray[np.float64], bounds: tuple[float, float]
) -> NDArray[np.float64]:
    """The interval ``(2,)`` of a calibration error, by those of drawn images and of answers drawn from confidences.

    Chance alone makes gaps between confidence and accuracy, so the estimate is too high, that of a draw is higher
    still, and a percentile interval can miss the truth always. This is the basic interval, mirrored at the estimate,
    which takes that excess off. It reaches down to 0 where a network with true confidences could have given the
    estimate as well, and always holds the estimate. Measured, that of ECE covers the ECE of unlimited images in about
    9 of 10 cases instead of 95 of 100 (tests/evaluation/test_significance.py).

    Sources: Davison, Hinkley 1997, "Bootstrap Methods and their Application", 5.2 (basic); Broecker, Smith 2007,
    doi:10.1175/WAF993.1 (draws of a network whose confidences are true).
    """
    low, high = np.quantile(resampled, bounds)
    minimum = 0.0 if estimate <= np.quantile(calibrated, BOUNDS[1]) else max(2 * estimate - high, 0.0)
    return np.array([minimum, max(2 * estimate - low, estimate)])


def accuracy_interval(correct: NDArray[np.floating] | Correct, people: People | None = None) -> tuple[float, float]:
    """95 % interval of the mean of answers' correctness ``(N,)``, of one file or a mean over seeds.

    Wilson's; by subject with :meth:`People.effective_images` and Student's quantile.
    """
    if people is None:
        return metrics.wilson_interval(float(np.sum(correct)), len(correct))
    worth = people.effective_images(correct)
    return metrics.wilson_interval(float(np.mean(correct)) * worth, worth, LEVEL, people.freedom)


def after_choosing(accuracy: float, n: float, tries: int, subjects: int | None = None) -> tuple[float, float]:
    """95 % interval of an accuracy on ``n`` images that still holds when it is the best of so many ``tries``.

    Wilson's at ``1 - 0.05 / tries``: the intervals of all tries hold together in 95 % of cases (Bonferroni), and so
    that of any one that is chosen by looking at them. It speaks of the chance choice of images. With one try it is the
    plain interval; tries that answer alike, as they mostly do, make it wider than need be. By subject ``n`` is the
    effective number of images, from so many ``subjects``.

    Sources: Dunn 1961, doi:10.1080/01621459.1961.10482090; Berk, Brown, Buja, Zhang, Zhao 2013, "Valid post-selection
    inference", doi:10.1214/12-AOS1077, on why simultaneous intervals are honest after any choice.
    """
    freedom = None if subjects is None else subjects - 1
    return metrics.wilson_interval(accuracy * n, n, 1 - (1 - LEVEL) / tries, freedom)


def interval_of(result: SplitResult, accuracy: float, tries: int = 1) -> tuple[float, float]:
    """:func:`after_choosing` of a mean ``accuracy`` on the images of ``result``, by subject where that is."""
    return after_choosing(accuracy, result.effective_n or result.n, tries, result.subjects)


def independent_images(result: SplitResult) -> float | None:
    """How many independent images would give the accuracy of ``result`` the very interval that its people give it.

    ``None`` where intervals are not by subject. With few people these are far fewer than ``effective_n``, for which
    Student's quantile is taken: Wilson's interval depends on the square of the quantile over the number alone.
    """
    if result.subjects is None or result.effective_n is None:
        return None
    return result.effective_n * (NORMAL / student(result.subjects - 1)) ** 2


def mcnemar(one: Correct, other: Correct) -> float:
    """p-value of two files being correct equally often on the same images: exact, from those where they differ.

    Source: McNemar 1947; the exact binomial form.
    """
    return mcnemar_of_counts(int(np.sum(one & ~other)), int(np.sum(~one & other)))


def mcnemar_of_counts(only_one: int, only_other: int) -> float:
    """The same from the numbers of images that only one, or only the other, is correct about."""
    if only_one + only_other == 0:
        return 1.0
    stats = import_extra("scipy.stats", "report")
    return float(stats.binomtest(only_one, only_one + only_other, 0.5).pvalue)


def paired_bootstrap(one: Correct, other: Correct, *, replicates: int = 10_000, seed: int = 0) -> Effect:
    """Difference of two files' accuracies on the same images, with a percentile interval and McNemar's p-value.

    Images where both are correct or both wrong change nothing, so the counts of the three kinds of image are resampled
    instead of each image.
    """
    ahead, behind = int(np.sum(one & ~other)), int(np.sum(~one & other))
    n = len(one)
    interval, _ = _resampled_mean(np.array([1, -1, 0]), np.array([ahead, behind, n - ahead - behind]), replicates, seed)
    return Effect((ahead - behind) / n, interval, mcnemar(one, other), 1, n)


def picture_effect(contrast: NDArray[np.floating], *, replicates: int = 10_000, seed: int = 0) -> Effect:
    """A weighted sum of several files' answers over resampled images: as :func:`paired_bootstrap`, of more than two.

    ``contrast`` is each image's sum ``(N,)``, such as ``(correct_a - correct_b) - (correct_c - correct_d)``, an
    interaction. The p-value is that of a normal distribution with the bootstrap's deviation.
    """
    values, counts = np.unique(contrast, return_counts=True)
    interval, deviation = _resampled_mean(values, counts, replicates, seed)
    difference = float(np.mean(contrast))
    stats = import_extra("scipy.stats", "report")
    p_value = 2 * stats.norm.sf(abs(difference) / deviation) if len(values) > 1 else float(difference == 0)
    return Effect(difference, interval, float(p_value), 1, len(contrast))


def people_effect(contrast: NDArray[np.floating], people: People) -> Effect:
    """The same sum ``(N,)`` over people, whose images are drawn together: Student's interval and test of their means.

    Source: Cameron, Miller 2015, doi:10.3368/jhr.50.2.317: a cluster-robust deviation with ``G - 1`` degrees of
    freedom, which holds with few people too.
    """
    difference, deviation = float(np.mean(contrast)), people.variance(contrast) ** 0.5
    width = metrics.student(LEVEL, people.freedom) * deviation
    stats = import_extra("scipy.stats", "report")
    p_value = 2 * stats.t.sf(abs(difference) / deviation, people.freedom) if deviation else float(difference == 0)
    interval = (difference - width, difference + width)
    return Effect(difference, interval, float(p_value), 1, len(contrast), people.count)


def _resampled_mean(
    values: NDArray[np.number], counts: NDArray[np.int64], replicates: int, seed: int
) -> tuple[tuple[float, float], float]:
    """Interval and deviation of the mean over resampled images, where ``counts`` images have each of the ``values``."""
    n = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=replicates)  # (R, V)
    means = np.asarray(drawn @ values / n, np.float64)
    low, high = np.quantile(means, BOUNDS)
    return (float(low), float(high)), float(means.std(ddof=1))


def recipe_effect(
    contrast: NDArray[np.floating], *, people: People | None = None, replicates: int = REPLICATES, seed: int = 0
) -> Effect:
    """A claim about recipes: a mean over seeds and images, with both kinds of chance in its interval.

    The margin is ``sqrt(z**2 * V + t**2 * W)``: V is the variance over images, by a paired bootstrap of seed-averaged
    values, with a normal quantile; W is the variance of the seeds' means beyond that, with Student's at ``k - 1``
    degrees of freedom. The chance of single answers is in both, so ``(k - 1) / k`` of it is taken off W; the rest makes
    up for W being cut off at zero. In simulations (the tests hold some) the interval covers the truth in 94 to 98 % of
    cases, the more the less the seeds vary. By subject V is the variance over ``people``, with Student's quantile.

    Sources: Bouthillier et al. 2021, arXiv:2103.03098, on both kinds of chance; Graybill, Wang 1980, JASA 75, on
    margins of sums of variances.

    ``contrast`` is ``(k, N)``, for k seeds: correct answers of one recipe minus those of the other with the same seed,
    or any other sum of cells, such as an interaction.

    Raises:
        DataError: fewer than two seeds.
    """
    contrast = np.asarray(contrast, dtype=np.float64)
    seeds, n = contrast.shape
    if seeds < 2:
        raise DataError(f"expected two seeds of each recipe or more, got {seeds}; compare the files instead")
    of_images, of_seeds = contrast.mean(0), contrast.mean(1)  # (N,), (k,)
    difference = float(contrast.mean())
    residual = contrast - of_images - of_seeds[:, None] + difference
    single = float((residual**2).sum() / ((seeds - 1) * (n - 1))) / (seeds * n)
    by_image = _variance_over_images(of_images, replicates, seed) if people is None else people.variance(of_images)
    by_seed = max(0.0, float(of_seeds.var(ddof=1)) / seeds - single * (seeds - 1) / seeds)
    stats = import_extra("scipy.stats", "report")

    def margin(p_value: float) -> float:
        of_chance = stats.norm if people is None else stats.t(people.freedom)
        normal, student = of_chance.isf(p_value / 2), stats.t.isf(p_value / 2, seeds - 1)
        return float((normal**2 * by_image + student**2 * by_seed) ** 0.5)

    width = margin(1 - LEVEL)
    interval = (difference - width, difference + width)
    p_value, subjects = _p_value(margin, abs(difference)), None if people is None else people.count
    return Effect(difference, interval, p_value, seeds, n, subjects)


def _variance_over_images(values: NDArray[np.float64], replicates: int, seed: int) -> float:
    """Variance of the mean over draws of as many images."""
    generator, n = np.random.default_rng(seed), len(values)
    return float(np.var([float(values[generator.integers(0, n, n)].mean()) for _ in range(replicates)], ddof=1))


def student(freedom: int) -> float:
    """The same of Student's distribution, for a deviation that was estimated with so many degrees of freedom."""
    return metrics.student(LEVEL, freedom)


def _p_value(margin: Callable[[float], float], distance: float) -> float:
    """The p-value whose margin just reaches ``distance``: the interval's own, so that the two never disagree."""
    minimum = 1e-12
    if margin(minimum) <= distance:
        return 1.0 if distance == 0 else minimum
    optimize = import_extra("scipy.optimize", "report")
    return float(optimize.brentq(lambda p_value: margin(p_value) - distance, minimum, 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family, adjusted so that 5 % of families hold any false claim (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    maximum = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        maximum = max(maximum, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = maximum
    return adjusted
