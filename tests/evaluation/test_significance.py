"""Intervals that cover the truth as often as they say, and tests that agree with independent implementations."""

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from mien.errors import DataError
from mien.evaluation.metrics import METRICS
from mien.evaluation.significance import bootstrap_interval, holm, mcnemar, paired_bootstrap, recipe_effect

Generator = np.random.Generator


def drawn(generator: Generator, n: int, skill: float = 2.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and probabilities of a network of some skill."""
    labels = generator.integers(0, 7, n)
    logits = generator.normal(size=(n, 7)) + skill * np.eye(7)[labels]
    exponentials = np.exp(logits)
    return labels, exponentials / exponentials.sum(1, keepdims=True)


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (5, 9), (40, 61), (300, 250)])
def test_mcnemar_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    one = np.array([True] * counts[0] + [False] * counts[1] + [True] * 50 + [False] * 20)
    other = np.array([False] * counts[0] + [True] * counts[1] + [True] * 50 + [False] * 20)
    reference = reference_mcnemar([[50, counts[0]], [counts[1], 20]], exact=True).pvalue
    assert mcnemar(one, other) == pytest.approx(min(reference, 1.0), abs=1e-9)


def test_holm_is_that_of_statsmodels() -> None:
    p_values = np.random.default_rng(0).uniform(0, 0.2, 12)
    np.testing.assert_allclose(holm(p_values.tolist()), multipletests(p_values, method="holm")[1], atol=1e-12)
    assert holm([]) == []


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "nll"])
def test_bootstrap_intervals_cover_the_truth(name: str) -> None:
    generator, metric = np.random.default_rng(1), METRICS[name]
    truth = metric(*drawn(generator, 200_000))
    inside = []
    for seed in range(200):
        low, high = bootstrap_interval(metric, *drawn(generator, 300), replicates=100, seed=seed)
        inside.append(low <= truth <= high)
    assert 0.90 <= np.mean(inside) <= 0.99  # 95 % plus or minus three standard errors of 200 trials


def test_bootstrap_is_seeded_and_stratified() -> None:
    labels, probabilities = drawn(np.random.default_rng(2), 200)
    labels[:199] = 3  # a class of a single face is in every replicate, or the metric would fail
    counts = set()

    def metric(drawn_labels: NDArray[np.integer], _probabilities: NDArray[np.floating]) -> float:
        counts.add(int((drawn_labels == 3).sum()))
        return float(METRICS["accuracy"](drawn_labels, _probabilities))

    one = bootstrap_interval(metric, labels, probabilities, replicates=50, seed=7)
    assert one == bootstrap_interval(metric, labels, probabilities, replicates=50, seed=7)
    assert one != bootstrap_interval(metric, labels, probabilities, replicates=50, seed=8)
    assert counts == {int((labels == 3).sum())}


def test_two_files_are_told_apart_or_not() -> None:
    generator = np.random.default_rng(3)
    one = generator.random(3000) < 0.7
    better = one | (generator.random(3000) < 0.1)
    effect = paired_bootstrap(better, one)
    assert effect.difference == pytest.approx(better.mean() - one.mean())
    assert effect.is_shown
    assert effect.p_value < 1e-6
    same = paired_bootstrap(one, one)
    assert (same.difference, same.interval, same.p_value, same.is_shown) == (0.0, (0.0, 0.0), 1.0, False)


def test_paired_bootstrap_covers_the_truth() -> None:
    generator = np.random.default_rng(4)
    inside = []
    for seed in range(300):
        easy = generator.random(600)
        one, other = generator.random(600) < 0.4 + 0.5 * easy, generator.random(600) < 0.37 + 0.5 * easy
        low, high = paired_bootstrap(one, other, replicates=500, seed=seed).interval
        inside.append(low <= 0.03 <= high)
    assert 0.91 <= np.mean(inside) <= 0.985


def recipe_runs(generator: Generator, seeds: int, n: int, gain: float, spread: float) -> NDArray[np.float64]:
    """Right answers of two recipes on the same pictures, minus each other: ``(seeds, n)``."""
    easy = generator.uniform(0.3, 0.95, n)
    rows = []
    for _ in range(seeds):
        one = generator.random(n) < easy + gain + generator.normal(0, spread)
        other = generator.random(n) < easy + generator.normal(0, spread)
        rows.append(one.astype(float) - other)
    return np.array(rows)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.012), (5, 0.006)])
def test_claims_about_recipes_cover_the_truth(seeds: int, spread: float) -> None:
    generator = np.random.default_rng(5)
    inside = []
    for _ in range(400):
        effect = recipe_effect(recipe_runs(generator, seeds, 1000, 0.02, spread), replicates=100)
        inside.append(effect.interval[0] <= 0.02 <= effect.interval[1])
    assert 0.92 <= np.mean(inside) <= 0.985


def test_recipes_that_differ_by_seed_noise_alone_are_seldom_called_different() -> None:
    generator = np.random.default_rng(6)
    called = [
        recipe_effect(recipe_runs(generator, 3, 800, 0.0, spread), replicates=100).is_shown
        for spread in (0.0, 0.004, 0.02)
        for _ in range(200)
    ]
    assert np.mean(called) <= 0.06


def test_a_claim_and_its_interval_agree_with_the_p_value() -> None:
    generator = np.random.default_rng(7)
    for gain in (0.0, 0.02, 0.1):
        effect = recipe_effect(recipe_runs(generator, 4, 2000, gain, 0.004))
        assert effect.is_shown == (effect.p_value < 0.05)
        assert (effect.seeds, effect.n) == (4, 2000)
    assert effect.is_shown  # ten points are


def test_single_runs_support_no_claim_about_recipes() -> None:
    with pytest.raises(DataError, match="two seeds"):
        recipe_effect(np.zeros((1, 100)))
    assert not recipe_effect(np.zeros((2, 100))).is_shown
