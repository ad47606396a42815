"""The same pictures with FER+'s labels: who is left out, what is measured, and that nothing looks in secret."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, f1_score
from tests.conftest import SHARED, small_recipe
from tests.fake_runs import FakePredictor, content, fake_predictions, fake_run

from mien.data import FaceSamples, Split, read_samples, read_votes, unseen_rows, votes_on
from mien.data.ferplus import emotion_shares, emotion_votes, majority_labels
from mien.data.samples import RowSource
from mien.emotions import EMOTIONS, VOTE_COLUMNS
from mien.errors import DataError
from mien.evaluation import load_predictions
from mien.evaluation.evaluate import evaluate, evaluate_and_store, measure
from mien.evaluation.predictor import OnnxPredictor, RunPredictor, uncalibrated
from mien.face.network import ASSETS, EmotionNetwork
from mien.runs import Estimate, Run, SplitResult, Subset
from mien.runs.learnt import training_of
from mien.training import fit
from tools.renew import renew

FER2013, VOTES = SHARED / "fer2013", SHARED / "fer2013" / "ferplus_fer2013new.csv"
NEUTRAL, SURPRISE, ANGRY = (EMOTIONS.index(name) for name in ("neutral", "surprise", "angry"))


def votes_of(**counts: int) -> list[int]:
    return [counts.get(column, 0) for column in VOTE_COLUMNS]


@pytest.mark.parametrize(
    ("counts", "label"),
    [
        ({"surprise": 6, "fear": 4}, SURPRISE),
        ({"neutral": 5, "anger": 5}, ANGRY),  # the first of equals, in the order of EMOTIONS
        ({"neutral": 5, "contempt": 5}, NEUTRAL),
        ({"neutral": 4, "contempt": 6}, -1),
        ({"neutral": 3, "anger": 3, "unknown": 4}, -1),
        ({"NF": 10}, -1),
        ({"contempt": 10}, -1),
        ({}, -1),
    ],
)
def test_who_has_a_label(counts: dict[str, int], label: int) -> None:
    votes = np.array([votes_of(**counts)], np.uint8)
    assert majority_labels(votes).tolist() == [label]
    shares = emotion_shares(votes)[0]
    assert shares.sum() == (1 if emotion_votes(votes).any() else 0)


def some_votes(count: int) -> NDArray[np.uint8]:
    return (
        np.random.default_rng(0)
        .multinomial(10, [0.3, 0.2, 0.1, 0.1, 0.1, 0.04, 0.04, 0.04, 0.04, 0.04], count)
        .astype(np.uint8)
    )


def test_the_metrics_are_those_of_independent_implementations(drawn: FaceSamples) -> None:
    found_in = fake_predictions(drawn, "training", "contest", 0, 1.5)
    votes = some_votes(len(found_in))
    votes[:3] = votes_of(NF=10)
    found = content(measure("training", found_in, votes=votes)[1])
    emotions, other = (
        emotion_votes(votes),
        votes[:, [VOTE_COLUMNS.index(name) for name in ("contempt", "unknown", "NF")]],
    )
    kept = emotions.max(1) >= np.maximum(other.max(1), 1)
    labels, probabilities = emotions[kept].argmax(1), found_in.probabilities[kept].astype(float)
    predicted = probabilities.argmax(1)
    assert (found["n"], found["left_out"]) == (kept.sum(), (~kept).sum())
    assert found["left_out"] >= 3
    assert found["tied"] == sum(sorted(row)[-1] == sorted(row)[-2] for row in emotions[kept].tolist())
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    shares = emotions[kept] / emotions[kept].sum(1, keepdims=True)
    divergence = entropy(shares, probabilities, axis=1).mean()
    assert found["kl_divergence"] == pytest.approx(divergence, abs=1e-6)  # probabilities are stored in float32
    assert found["cross_entropy"] == pytest.approx(divergence + entropy(shares, axis=1).mean(), abs=1e-6)
    for name in ("accuracy", "macro_f1", "ece", "cross_entropy", "kl_divergence"):
        low, high = found[f"{name}_ci95"]
        assert low <= found[name] <= high, name
    assert len(measure("training", found_in, votes=np.zeros_like(votes))) == 1  # nobody has a label


def test_every_split_has_its_view_and_its_names(drawn: FaceSamples) -> None:
    votes = some_votes(len(drawn))
    network = FakePredictor(lambda _: fake_predictions(drawn, "published_test", "contest", 0, 1.5).probabilities)
    evaluation = evaluate(network, drawn, Split.PUBLISHED_TEST, views=2, votes=votes)
    splits = ("published_test", "public_test", "private_test")
    assert list(evaluation.predictions) == list(splits)
    assert [(each.split, each.subset) for each in evaluation.report.results] == [
        (split, subset) for split in splits for subset in (Subset.ALL, Subset.UNSEEN, Subset.FERPLUS)
    ]
    together, *parts = (evaluation.report.result(split, Subset.FERPLUS) for split in splits)
    assert together is not None
    for name in ("n", "left_out", "tied"):
        assert getattr(together, name) == sum(getattr(part, name) for part in parts)
    assert {each.views for each in evaluation.report.results} == {2}
    without = evaluate(network, drawn, Split.PUBLISHED_TEST, votes=np.zeros_like(votes))
    assert Subset.FERPLUS not in {each.subset for each in without.report.results}


def test_a_result_is_written_in_the_order_of_earlier_reports(drawn: FaceSamples) -> None:
    stored = fake_predictions(drawn, "training", "contest", 0, 1.5)
    found = measure("training", stored, uncalibrated=stored.probabilities, votes=some_votes(len(stored)), views=2)
    values, rates = ["accuracy", "brier", "ece", "macro_f1", "nll"], ["precision", "recall", "f1"]
    intervals = [f"{name}_ci95" for name in ("accuracy", "macro_f1", *rates, "nll", "brier")]
    assert [list(content(each)) for each in found] == [
        ["n", *values, "ece_uncalibrated", "nll_uncalibrated", *rates, *intervals, "ece_ci95", "confusion", "views"],
        ["n", *values, "cross_entropy", "kl_divergence", *rates, *intervals, "cross_entropy_ci95", "kl_divergence_ci95",
         "ece_ci95", "confusion", "left_out", "tied", "views"],
    ]  # fmt: skip


def keys(run: Run) -> list[str]:
    return [each.key for each in run.load_report().results]


def test_a_run_has_the_view_of_what_it_was_given_votes_for(tmp_path: Path, drawn: FaceSamples) -> None:
    votes = some_votes(len(drawn))
    run = fit(small_recipe(training={"epochs": 1}), drawn, tmp_path / "run", accelerator="cpu", votes=votes)
    assert keys(run) == ["validation", "validation_ferplus"]
    assert run.looks() == []
    network = RunPredictor(run, "cpu")
    evaluate_and_store(network, drawn, Split.PRIVATE_TEST, votes=votes, command="with votes")
    assert "private_test_ferplus" in keys(run)
    assert [look.command for look in run.looks()] == ["with votes"]
    # Predictions that took the place of others leave none of their results behind.
    evaluate_and_store(network, drawn, Split.PRIVATE_TEST, views=2)
    assert keys(run) == ["validation", "validation_ferplus", "private_test", "private_test_unseen"]


def of_fer2013(drawn: FaceSamples) -> FaceSamples:
    """The drawn faces, as if they stood in the last rows of FER-2013."""
    return dataclasses.replace(drawn, rows=drawn.rows + 35_600, row_source=RowSource.INDEX)


def without_intervals(found: SplitResult) -> SplitResult:
    """An older result: nothing but the accuracy has an interval."""
    metrics = {name: each if name == "accuracy" else Estimate(each.value) for name, each in found.metrics.items()}
    classes = {name: tuple(Estimate(each.value) for each in rates) for name, rates in found.classes.items()}
    return dataclasses.replace(found, metrics=metrics, classes=classes)


def test_a_report_is_renewed_from_its_predictions_alone(tmp_path: Path, drawn: FaceSamples) -> None:
    known = of_fer2013(drawn)
    run = fake_run(tmp_path, known, splits=("validation", "private_test"), row_source="index")
    whole = run.load_report()
    stored = load_predictions(run.predictions_path("private_test"))
    validation, private, _ = map(without_intervals, whole.results)
    private = dataclasses.replace(
        private, metrics={**private.metrics, "ece": Estimate(0.9)}, views=10, order=(*private.order, "views")
    )
    elsewhere = dataclasses.replace(validation, split="public_test")
    unseen = dataclasses.replace(without_intervals(whole.results[2]), metrics={"accuracy": Estimate(0.9)})
    dataclasses.replace(whole, results=(validation, private, unseen, elsewhere)).save(run.report_path)

    renewed = renew(run)
    assert renewed == run.load_report()
    predictions = load_predictions(run.predictions_path("validation"))
    before = uncalibrated(predictions.probabilities, whole.temperature or 1.0)
    (expected,) = measure("validation", predictions, uncalibrated=before)
    assert renewed.result("validation") == expected
    assert expected.metrics["nll_uncalibrated"] != expected.metrics["nll"]
    _, fresh = measure("private_test", stored, unseen=unseen_rows(stored.row))
    # What was measured before the temperature of several views stays.
    assert renewed.result("private_test") == dataclasses.replace(whole.results[1], views=10)
    assert renewed.result("private_test", Subset.UNSEEN) == fresh
    assert renewed.result("public_test") == elsewhere  # nothing is stored
    assert run.looks() == []

    votes = np.repeat(some_votes(1), 35_887, axis=0)
    votes[stored.row[:4]] = votes_of(NF=10)
    found = renew(run, votes, command="mien renew").result("private_test", Subset.FERPLUS)
    assert found == measure("private_test", stored, votes=votes[stored.row], views=10)[1]
    assert found.left_out == 4
    (look,) = run.looks()
    assert (look.split, look.command) == ("private_test", "mien renew")
    assert "predictions_sha256" in (run.path / "looks.jsonl").read_text()


def test_a_renewed_report_keeps_the_order_of_its_keys(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, splits=("validation", "private_test"))
    whole = run.load_report()
    shuffled = [dataclasses.replace(each, order=tuple(reversed(each.order))) for each in whole.results]
    dataclasses.replace(whole, results=tuple(shuffled)).save(run.report_path)
    before = run.report_path.read_text()
    renew(run)
    assert [line.split(":")[0] for line in run.report_path.read_text().splitlines() if ":" in line] == [
        line.split(":")[0] for line in before.splitlines() if ":" in line
    ]


def test_votes_are_on_fer2013_only(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, splits=("private_test",))
    before = run.load_report()
    with pytest.raises(DataError, match="rows of FER-2013"):
        renew(run, np.zeros((35_887, 10), np.uint8))
    unseen = Subset.UNSEEN  # copies are not known
    assert renew(run).result("private_test", unseen) == before.result("private_test", unseen)


@pytest.mark.shared
@pytest.mark.skipif(not FER2013.exists(), reason="FER-2013 is not beside the project")
def test_the_real_pictures() -> None:
    samples, votes = read_samples(f"fer2013:{FER2013}"), read_votes(VOTES)
    for split in (Split.PUBLIC_TEST, Split.PRIVATE_TEST):
        positions = samples.split(split)
        assert (training_of(samples).holds(samples, positions) != unseen_rows(samples.rows[positions])).all()
    labels = majority_labels(votes)
    private = samples.rows[samples.split(Split.PRIVATE_TEST)]
    assert (labels[private] < 0).sum() == 70
    network = OnnxPredictor(EmotionNetwork(sorted(ASSETS.glob("*.onnx"))[0]))
    whole, voted = evaluate(network, samples, Split.VALIDATION, votes=votes_on(samples, VOTES)).report.results
    assert voted.left_out is not None
    assert voted.n == 3589 - voted.left_out
    assert 0 < voted.left_out < 100
    assert voted.accuracy.value == pytest.approx(whole.accuracy.value, abs=0.05)
