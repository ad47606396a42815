"""Intervals that cover the truth as often as they say, and tests that agree with independent implementations."""

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from mien.errors import DataError
from mien.evaluation.metrics import METRICS, Metric, class_rates, confusion_matrix, wilson_interval
from mien.evaluation.significance import (
    _draws,
    after_choosing,
    bootstrap_intervals,
    holm,
    mcnemar,
    paired_bootstrap,
    recipe_effect,
)

Generator = np.random.Generator


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


def split_of(generator: Generator, n: int, sharpness: float = 1.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """``n`` images, always as many of each class; the confidences are true at ``sharpness`` 1, too high above."""
    labels = np.repeat(np.arange(7), np.array([14, 4, 14, 25, 17, 11, 15]) * n // 100)
    logits = generator.normal(size=(len(labels), 7)) + 1.5 * np.eye(7)[labels]
    posterior = np.log(np.bincount(labels) / n) + 1.5 * logits
    exponentials = np.exp(sharpness * posterior)
    return labels, exponentials / exponentials.sum(1, keepdims=True)


def test_intervals_are_those_of_a_plain_loop_over_the_same_draws() -> None:
    labels, probabilities = split_of(np.random.default_rng(0), 300)
    order = np.argsort(probabilities.max(1), kind="stable")
    labels, probabilities = labels[order], probabilities[order]
    loss = np.random.default_rng(1).random(len(labels))
    values: dict[str, list[NDArray[np.float64]]] = {}
    for times in _draws(labels, 80, np.random.default_rng(7)):
        drawn = np.repeat(np.arange(len(labels)), times)
        assert np.bincount(labels[drawn]).tolist() == np.bincount(labels).tolist()  # as many of each class
        rates = class_rates(confusion_matrix(labels[drawn], probabilities[drawn]))
        of_draw = {name: metric(labels[drawn], probabilities[drawn]) for name, metric in METRICS.items()}
        for name, value in {**of_draw, **rates, "loss": loss[drawn].mean()}.items():
            values.setdefault(name, []).append(np.asarray(value))
    found = bootstrap_intervals(labels, probabilities, {"loss": loss}, replicates=80, seed=7)
    assert found.keys() == values.keys()
    for name in found.keys() - {"ece"}:
        np.testing.assert_allclose(found[name], np.quantile(values[name], [0.025, 0.975], axis=0).T, atol=1e-12)
    low, high = np.quantile(values["ece"], [0.025, 0.975])
    ece = METRICS["ece"](labels, probabilities)
    assert found["ece"][0] in (0.0, pytest.approx(max(2 * ece - high, 0.0)))
    assert found["ece"][1] == pytest.approx(max(2 * ece - low, ece))


def test_intervals_are_seeded() -> None:
    labels, probabilities = split_of(np.random.default_rng(0), 300)
    one, same, other = (bootstrap_intervals(labels, probabilities, replicates=250, seed=seed) for seed in (7, 7, 8))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not any(np.array_equal(one[name], other[name]) for name in METRICS)


def test_a_metric_needs_no_more_than_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = split_of(np.random.default_rng(0), 300)
    fast = bootstrap_intervals(labels, probabilities, replicates=150)
    for name in ("accuracy", "macro_f1", "nll", "brier"):
        monkeypatch.setitem(METRICS, name, Metric(name, METRICS[name]))
    monkeypatch.setitem(METRICS, "confidence", Metric("confidence", lambda _, found: float(found.max(1).mean())))
    plain = bootstrap_intervals(labels, probabilities, replicates=150)
    assert plain.keys() == fast.keys() | {"confidence"}
    for name, bounds in fast.items():
        np.testing.assert_allclose(plain[name], bounds, atol=1e-12, err_msg=name)
    low, high = plain["confidence"]
    assert low < probabilities.max(1).mean() < high


def test_few_images_have_intervals_too() -> None:
    probabilities = np.full((3, 7), 1 / 7)
    found = bootstrap_intervals(np.array([0, 0, 4]), probabilities, replicates=20)
    assert found["accuracy"].tolist() == [2 / 3, 2 / 3]  # all are taken for the first class
    assert found["recall"][4].tolist() == [0.0, 0.0]


def coverage(names: list[str], sharpness: float, n: int, trials: int, replicates: int) -> dict[str, float]:
    """How often the intervals of ``n`` images hold what 400,000 show; ``wilson`` is the accuracy's other interval."""
    generator, inside = np.random.default_rng(1), dict[str, list[bool]]()
    truth = {name: METRICS[name](*split_of(generator, 400_000, sharpness)) for name in names}
    if sharpness == 1:  # what is left of ECE is chance
        assert truth.get("ece", 0) < 0.005
        truth["ece"] = 0.0
    for seed in range(trials):
        labels, probabilities = split_of(generator, n, sharpness)
        bounds = bootstrap_intervals(labels, probabilities, replicates=replicates, seed=seed)
        bounds["wilson"] = np.array(wilson_interval(int((probabilities.argmax(1) == labels).sum()), len(labels)))
        for name, value in {**truth, "wilson": truth.get("accuracy", 0)}.items():
            inside.setdefault(name, []).append(bounds[name][0] <= value <= bounds[name][1])
    return {name: float(np.mean(hits)) for name, hits in inside.items()}


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    found = coverage(["accuracy", "macro_f1", "nll", "brier"], sharpness=1.2, n=1000, trials=500, replicates=500)
    for name in ("accuracy", "macro_f1", "nll", "brier"):
        assert 0.93 <= found[name] <= 0.97, name
    assert 0.93 <= found["wilson"] <= 0.985  # it allows for other numbers of each class


@pytest.mark.parametrize(("sharpness", "low", "high"), [(1.0, 0.95, 1.0), (1.2, 0.85, 0.97), (1.5, 0.84, 0.95)])
def test_eces_interval_covers_the_truth_in_about_nine_of_ten_cases(sharpness: float, low: float, high: float) -> None:
    assert low <= coverage(["ece"], sharpness, n=500, trials=200, replicates=150)["ece"] <= high


def test_percentiles_of_ece_would_always_miss_what_is_small() -> None:
    generator = np.random.default_rng(2)
    for _ in range(10):
        labels, probabilities = split_of(generator, 500)
        draws = [generator.integers(0, len(labels), len(labels)) for _ in range(100)]
        low = np.quantile([METRICS["ece"](labels[drawn], probabilities[drawn]) for drawn in draws], 0.025)
        assert low > 0.02  # the truth is 0
        assert bootstrap_intervals(labels, probabilities, replicates=100)["ece"][0] < 0.02


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
    """Correct answers of two recipes on the same images, minus each other: ``(seeds, n)``."""
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
    with pytest.raises(DataError, match="expected two seeds"):
        recipe_effect(np.zeros((1, 100)))
    assert not recipe_effect(np.zeros((2, 100))).is_shown


@pytest.mark.parametrize("alike", [0.0, 0.8])
@pytest.mark.parametrize("tries", [1, 4, 16])
def test_the_interval_of_the_best_of_equal_tries_holds_the_truth(tries: int, alike: float) -> None:
    """All tries are equally good; ``alike`` is the fraction of images on which they all answer alike."""
    generator, n, truth, studies = np.random.default_rng(tries), 3589, 0.7, 20_000
    shared = generator.binomial(round(alike * n), truth, (studies, 1))
    own = generator.binomial(n - round(alike * n), truth, (studies, tries))
    best, times = np.unique((shared + own).max(1), return_counts=True)
    corrected = [after_choosing(value / n, n, tries) for value in best.tolist()]
    plain = [wilson_interval(value, n) for value in best.tolist()]
    covered, uncorrected = (
        sum(count for (low, high), count in zip(bounds, times.tolist(), strict=True) if low <= truth <= high) / studies
        for bounds in (corrected, plain)
    )
    assert 0.945 <= covered <= (0.955 if tries == 1 else 0.995)
    if tries == 1:
        assert corrected == plain
    if tries == 16 and not alike:
        assert uncorrected < 0.7  # which is what the correction is for


def test_the_interval_after_choosing_is_the_wider_the_more_tries() -> None:
    widths = [high - low for low, high in (after_choosing(0.6, 500, tries) for tries in (1, 2, 4, 16, 64))]
    assert widths == sorted(widths)
    assert widths[3] == pytest.approx(2 * 2.955 * (0.6 * 0.4 / 500) ** 0.5, rel=0.02)  # z at 1 - 0.05 / 32
