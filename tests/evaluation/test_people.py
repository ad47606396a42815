"""Intervals and tests by subject: they hold with ten people, and are those of before where nobody tells subjects."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mien.errors import DataError
from mien.evaluation.compare import compare, comparison_rows, load_entries
from mien.evaluation.evaluate import measure
from mien.evaluation.metrics import confusion_matrix, macro_f1, wilson_interval
from mien.evaluation.people import MIN_PEOPLE, People, people_of
from mien.evaluation.predictions import Predictions, joined, load_predictions
from mien.evaluation.significance import (
    accuracy_interval,
    after_choosing,
    bootstrap_intervals,
    independent_images,
    people_effect,
    recipe_effect,
)
from mien.report.comparison_page import write_comparison_page
from mien.report.run_page import told_words
from mien.runs import Report, SplitResult, Subset
from mien.runs.report import parse_report

CLASSES = 3


def clustered(generator: np.random.Generator, people: int, images: int, spread: float) -> tuple[NDArray, ...]:
    """Labels, probabilities and people: each person is as hard to read as a normal draw says."""
    groups = np.repeat(np.arange(people), images)
    labels = generator.integers(0, CLASSES, len(groups))
    chance = 1 / (1 + np.exp(-(0.8 + spread * generator.normal(size=people)[groups])))
    correct = generator.random(len(groups)) < chance
    answers = np.where(correct, labels, (labels + generator.integers(1, CLASSES, len(groups))) % CLASSES)
    probabilities = np.full((len(groups), CLASSES), 0.2)
    probabilities[np.arange(len(groups)), answers] = 0.6
    return labels, probabilities, groups


def predictions(people: int = 10, images: int = 20, seed: int = 0, told: bool = True) -> Predictions:
    labels, probabilities, groups = clustered(np.random.default_rng(seed), people, images, 1.0)
    return Predictions(
        np.arange(len(labels), dtype=np.int32), labels.astype(np.int8), probabilities.astype(np.float32),
        ("a", "b", "c"), groups.astype(np.int32) if told else None,
    )  # fmt: skip


def test_unknown_people_are_their_own_and_one_tells_nothing() -> None:
    found = people_of(np.array([4, -1, 4, 7, -1], np.int32))
    assert found is not None
    assert found.count == 4
    assert found.of_image[0] == found.of_image[2]
    assert len(set(found.of_image.tolist())) == 4
    for groups in (None, np.full(3, -1, np.int32), np.zeros(3, np.int32), np.empty(0, np.int32)):
        assert people_of(groups) is None


def test_one_image_a_person_is_the_plain_variance() -> None:
    values = np.random.default_rng(0).random(30)
    people = People(np.arange(30), 30)
    assert people.variance(values) == pytest.approx(values.var(ddof=1) / 30)
    twice = People(np.repeat(np.arange(30), 2), 30)  # the same images again are worth nothing
    assert twice.variance(np.repeat(values, 2)) == pytest.approx(people.variance(values))
    correct = np.repeat(np.arange(30) < 20, 3)
    assert People(np.repeat(np.arange(30), 3), 30).effective_images(correct) == pytest.approx(29)
    assert People(np.repeat(np.arange(30), 3), 30).effective_images(np.ones(90, bool)) == 30


def test_quantiles_lie_further_out_with_few_people() -> None:
    low, high = People(np.arange(10), 10).bounds(0.95)
    assert low == pytest.approx(stats.norm.cdf(-stats.t.isf(0.025, 9) * np.sqrt(10 / 9)))
    assert (round(low, 4), low + high) == (0.0086, 1.0)
    assert People(np.arange(100_000), 100_000).bounds(0.95) == pytest.approx((0.025, 0.975), abs=1e-5)


def test_intervals_by_subject_hold_with_ten_people() -> None:
    """Coverage in 200 draws of ten people with 14 images: 95 % wanted, standard error 1.5 points."""
    generator = np.random.default_rng(3)
    labels, probabilities, _ = clustered(generator, 60_000, 2, 1.0)
    counts = confusion_matrix(labels, probabilities)
    accuracy, f1 = counts.trace() / len(labels), float(macro_f1(counts))
    held = dict.fromkeys(("people", "images", "f1", "f1 by images", "test", "percentile"), 0)
    for seed in range(200):
        labels, probabilities, groups = clustered(generator, 10, 14, 1.0)
        people, correct = people_of(groups), probabilities.argmax(1) == labels
        assert people is not None
        by_people = bootstrap_intervals(labels, probabilities, people=people, replicates=300, seed=seed)["macro_f1"]
        by_image = bootstrap_intervals(labels, probabilities, replicates=100, seed=seed)["macro_f1"]
        drawn = people.draws(300, np.random.default_rng(seed))
        percentile = np.quantile(drawn @ correct / drawn.sum(1), (0.025, 0.975))
        effect = people_effect(correct - accuracy, people)
        intervals = {
            "people": (accuracy_interval(correct, people), accuracy),
            "images": (accuracy_interval(correct), accuracy),
            "percentile": (percentile, accuracy),
            "f1": (by_people, f1),
            "f1 by images": (by_image, f1),
        }
        for name, ((low, high), truth) in intervals.items():
            held[name] += low <= truth <= high
        held["test"] += not effect.is_shown
    assert held["people"] >= 182 > held["percentile"]
    assert held["f1"] >= 176
    assert held["test"] >= 180
    assert max(held["images"], held["f1 by images"]) < 165


def test_recipes_are_compared_over_people_and_seeds() -> None:
    """Without a difference in truth, people who differ in it by chance make no effect."""
    generator = np.random.default_rng(5)
    shown = dict.fromkeys(("people", "images"), 0)
    people = People(np.repeat(np.arange(10), 20), 10)
    for seed in range(100):
        of_people = generator.normal(0, 0.1, 10)[people.of_image]
        contrast = generator.normal(of_people, 0.3, (3, 200))
        shown["people"] += recipe_effect(contrast, people=people).is_shown
        shown["images"] += recipe_effect(contrast, replicates=100, seed=seed).is_shown
    assert shown["people"] <= 10
    assert shown["images"] >= 20


def test_a_report_says_whose_chance_it_is() -> None:
    by_subject, by_image = (measure("validation", predictions(told=told))[0] for told in (True, False))
    assert (by_subject.subjects, by_image.subjects, by_image.effective_n) == (10, None, None)
    assert by_subject.effective_n is not None
    assert 10 < by_subject.effective_n < 200
    assert {name: each.value for name, each in by_subject.metrics.items()} == {
        name: each.value for name, each in by_image.metrics.items()
    }
    for name in ("accuracy", "macro_f1", "nll", "brier"):
        low, high = by_subject.metrics[name].ci95 or (0, 0)
        plain = by_image.metrics[name].ci95 or (0, 0)
        assert low < by_subject.metrics[name].value < high
        assert high - low > 1.3 * (plain[1] - plain[0])
    assert by_image.accuracy.ci95 == wilson_interval(round(200 * by_image.accuracy.value), 200)
    low, high = after_choosing(by_subject.accuracy.value, by_subject.effective_n, 1, 10)
    assert (low, high) == pytest.approx(by_subject.accuracy.ci95)
    wide = after_choosing(by_subject.accuracy.value, by_subject.effective_n, 8, 10)
    assert wide[1] - wide[0] > high - low
    report = Report(model="m", recipe="m", results=(by_subject,))
    again = parse_report(report.content(), "text").results[0]
    assert again == by_subject
    assert "subjects" not in Report(model="m", recipe="m", results=(by_image,)).to_json()


@pytest.mark.parametrize("people", [1, 4, 5])
def test_a_class_that_few_people_show_has_no_interval(people: int) -> None:
    found = predictions()
    label = found.label.copy()
    label[label == 2] = 0
    label[: 20 * people : 20] = 2  # an image of each of the first
    rates = measure("validation", Predictions(found.row, label, found.probabilities, found.classes, found.group))[0]
    for name in ("precision", "recall", "f1"):
        assert [each.ci95 is None for each in rates.classes[name]] == [False, False, people < MIN_PEOPLE]
        assert all(np.isfinite(each.ci95).all() for each in rates.classes[name] if each.ci95 is not None)
    report = Report(model="m", recipe="m", results=(rates,))
    assert parse_report(json.loads(report.to_json()), "text").results[0] == rates


@pytest.mark.parametrize("people", [2, 4, 5])
def test_few_people_give_the_accuracy_alone_an_interval(people: int, tmp_path: Path) -> None:
    found = predictions(people)
    (result,) = measure("validation", found)
    bounds = {name: each.ci95 for name, each in result.metrics.items()}
    low, high = bounds.pop("accuracy") or (0, 0)
    assert low < result.accuracy.value < high
    assert {each is None for each in bounds.values()} == {people < MIN_PEOPLE}
    assert {each.ci95 is None for rates in result.classes.values() for each in rates} == {people < MIN_PEOPLE}
    assert ("macro_f1_ci95" in Report(model="m", recipe="m", results=(result,)).to_json()) == (people >= MIN_PEOPLE)
    worth = independent_images(result)
    assert worth is not None
    assert wilson_interval(worth * result.accuracy.value, worth) == pytest.approx((low, high))
    assert worth < (result.effective_n or 0)
    found.save(tmp_path / "a.npz")
    split, entries = load_entries([tmp_path / "a.npz"])
    rows = json.loads(json.dumps(comparison_rows(split, entries, [])))
    assert (rows["entries"][0]["macro_f1"]["ci95"] is None) == (people < MIN_PEOPLE)
    assert rows["entries"][0]["accuracy"]["ci95"] == pytest.approx([low, high])
    page = write_comparison_page(tmp_path, split, entries, []).read_text(encoding="utf-8")
    assert f"draws of {people} people" in page


def test_from_the_worst_person_to_the_best_is_too_narrow_for_four() -> None:
    """Why there is no interval: even the widest one, of people's own means, holds the truth in 7 of 8 cases only."""
    means = np.random.default_rng(0).normal(size=(20_000, MIN_PEOPLE))
    held = {
        people: float(np.mean((means[:, :people].min(1) < 0) & (means[:, :people].max(1) > 0)))
        for people in range(2, MIN_PEOPLE + 1)
    }
    assert held == pytest.approx({people: 1 - 2 ** (1 - people) for people in held}, abs=0.015)
    assert held[MIN_PEOPLE - 1] < 0.9 < held[MIN_PEOPLE]


def about(result: SplitResult) -> Report:
    return Report(model="m", recipe="m", labels=("a", "b", "c"), results=(result,))


def test_pages_say_why_few_people_have_no_interval() -> None:
    (few,), (more,) = (measure("validation", predictions(people)) for people in (2, 10))
    said = {each.subjects: " ".join(told_words(about(each))) for each in (few, more)}
    assert "2 people" in said[2]
    assert "1\N{NO-BREAK SPACE}independent image," in said[2]
    assert "Other metrics have none" in said[2]
    assert "Other metrics" not in said[10]


def test_people_are_stored_with_predictions(tmp_path: Path) -> None:
    found = predictions()
    found.save(tmp_path / "a.npz")
    again = load_predictions(tmp_path / "a.npz")
    assert again.group is not None
    assert found.group is not None
    assert (again.group == found.group).all()
    parts = [again.subset(np.arange(5)), again.subset(np.arange(200) >= 150)]
    both = joined(parts).group
    assert both is not None
    assert both.tolist() == [*[0] * 5, *np.repeat([7, 8, 9], [10, 20, 20]).tolist()]
    predictions(told=False).save(tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as arrays:
        assert "group" not in arrays
    with pytest.raises(DataError, match="group"):
        Predictions(found.row, found.label, found.probabilities, found.classes, found.group[:5])


def test_files_are_compared_over_people_where_one_tells_them(tmp_path: Path) -> None:
    """Another tool's file without subjects is compared by those of ours."""
    ours, theirs = predictions(), predictions(told=False)
    chosen = np.random.default_rng(1).random(200) < 0.3
    probabilities = theirs.probabilities.copy()
    probabilities[chosen] = probabilities[chosen][:, ::-1]
    ours.save(tmp_path / "ours.npz")
    Predictions(theirs.row, theirs.label, probabilities, theirs.classes).save(tmp_path / "theirs.npz")
    split, entries = load_entries([tmp_path / "ours.npz", tmp_path / "theirs.npz"])
    pairs = compare(entries)
    rows = comparison_rows(split, entries, pairs)
    assert rows["subjects"] == 10
    contrast = entries[0].correct[0].astype(int) - entries[1].correct[0]
    sums = np.array([contrast[ours.group == person].sum() / 20 for person in range(10)])
    expected = stats.ttest_1samp(sums, 0)
    effect = pairs[0].effect
    assert effect.subjects == 10
    assert effect.p_value == pytest.approx(expected.pvalue)
    assert sorted(np.abs(effect.interval)) == pytest.approx(sorted(np.abs(expected.confidence_interval())))


def test_answers_among_the_classes_present_are_measured_when_asked_for() -> None:
    probabilities = np.array([[0.5, 0.1, 0.4], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]], np.float32)
    found = Predictions(np.arange(4, dtype=np.int32), np.array([0, 1, 0, 1], np.int8), probabilities, ("a", "b", "c"))
    assert found.absent == ("c",)
    assert found.among_present().probabilities[:3] == pytest.approx(
        np.array([[5 / 6, 1 / 6, 0], [0.4, 0.6, 0], [1 / 3, 2 / 3, 0]])
    )
    assert found.among_present().probabilities[3].tolist() == [0.5, 0.5, 0]
    (whole,) = measure("published_test", found)
    again, present = measure("published_test", found, present_only=True)
    assert again == whole
    assert (whole.accuracy.value, whole.absent(found.classes), whole.of_absent) == (0.25, ("c",), 3)
    assert (present.key, present.subset, present.accuracy.value) == ("published_test_present", Subset.PRESENT, 0.5)
    assert parse_report(Report(model="m", recipe="m", results=(present,)).content(), "text").results[0] == present
    every = Predictions(found.row, np.array([0, 1, 2, 1], np.int8), probabilities, found.classes)
    assert len(measure("published_test", every, present_only=True)) == 1
