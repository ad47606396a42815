"""The same pictures with FER+'s labels: who is left out, what is measured, and that nothing looks in secret."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, f1_score
from tests.conftest import SHARED, small_recipe
from tests.fake_runs import fake_predictions, fake_run

from mien.data import FaceSamples, Split, read_samples, read_votes, unseen_rows, votes_on
from mien.data.ferplus import emotion_shares, emotion_votes, majority_labels
from mien.data.samples import RowSource
from mien.emotions import EMOTIONS, VOTE_COLUMNS
from mien.errors import DataError
from mien.evaluation import load_predictions
from mien.evaluation.network import evaluate_network
from mien.evaluation.predict import uncalibrated
from mien.evaluation.results import evaluate_run, evaluate_split, ferplus_figures, figures, renew
from mien.evaluation.wording import headline_split, is_test, split_title
from mien.face.network import ASSETS, EmotionNetwork
from mien.training import fit

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


def test_the_figures_are_those_of_independent_implementations(drawn: FaceSamples) -> None:
    found_in = fake_predictions(drawn, "training", "contest", 0, 1.5)
    votes = some_votes(len(found_in))
    votes[:3] = votes_of(NF=10)
    found = ferplus_figures(found_in, votes)
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
    with pytest.raises(DataError, match="at least one"):
        ferplus_figures(found_in, np.zeros_like(votes))


def test_every_split_has_its_view_and_its_names(drawn: FaceSamples) -> None:
    votes, positions = some_votes(len(drawn)), drawn.split(Split.PUBLISHED_TEST)
    stored = fake_predictions(drawn, "published_test", "contest", 0, 1.5)
    _, results = evaluate_split(
        lambda _positions: (stored, None), drawn, Split.PUBLISHED_TEST, positions, views=2, votes=votes
    )
    names = {f"{split}{view}" for split in ("public_test", "private_test", "published_test")
             for view in ("", "_unseen", "_ferplus")}  # fmt: skip
    assert results.keys() == names
    together = results["published_test_ferplus"]
    parts = [results[f"{split}_ferplus"] for split in ("public_test", "private_test")]
    for name in ("n", "left_out", "tied"):
        assert together[name] == sum(part[name] for part in parts)
    assert together["views"] == 2
    of_nobody = np.zeros_like(votes)
    _, without = evaluate_split(
        lambda _positions: (stored, None), drawn, Split.PUBLISHED_TEST, positions, votes=of_nobody
    )
    assert without.keys() == {name for name in names if not name.endswith("_ferplus")}

    assert split_title("private_test_ferplus") == "PrivateTest, FER+ labels"
    assert is_test("private_test_ferplus")
    assert not is_test("validation_ferplus")
    report = {"protocol": "contest", "results": dict.fromkeys(["private_test_ferplus", "validation"])}
    assert headline_split(report) == "validation"


def test_a_run_has_the_view_of_what_it_was_given_votes_for(tmp_path: Path, drawn: FaceSamples) -> None:
    votes = some_votes(len(drawn))
    run = fit(small_recipe(training={"epochs": 1}), drawn, tmp_path / "run", accelerator="cpu", votes=votes)
    assert run.report()["results"].keys() == {"validation", "validation_ferplus"}
    assert not (run.path / "looks.jsonl").exists()
    evaluate_run(run, drawn, Split.PRIVATE_TEST, accelerator="cpu", votes=votes, command="with votes")
    assert "private_test_ferplus" in run.report()["results"]
    looks = [json.loads(line)["command"] for line in (run.path / "looks.jsonl").read_text().splitlines()]
    assert looks == ["with votes"]
    # Predictions that took the place of others leave none of their figures behind.
    evaluate_run(run, drawn, Split.PRIVATE_TEST, accelerator="cpu", views=2)
    assert run.report()["results"].keys() == {"validation", "validation_ferplus", "private_test", "private_test_unseen"}


def of_fer2013(drawn: FaceSamples) -> FaceSamples:
    """The drawn faces, as if they stood in the last rows of FER-2013."""
    return dataclasses.replace(drawn, rows=drawn.rows + 35_600, row_source=RowSource.INDEX)


def test_a_report_is_renewed_from_its_predictions_alone(tmp_path: Path, drawn: FaceSamples) -> None:
    known = of_fer2013(drawn)
    run = fake_run(tmp_path, known, splits=("validation", "private_test"), row_source="index")
    whole = run.report()
    stored = load_predictions(run.predictions_path("private_test"))
    unseen = figures(stored.subset(unseen_rows(stored.row)))
    old = {name: {key: value for key, value in found.items() if key == "accuracy_ci95" or not key.endswith("_ci95")}
           for name, found in whole["results"].items()}  # fmt: skip
    old["private_test"] |= {"ece": 0.9, "views": 10}
    run.write_report({**whole, "results": {**old, "elsewhere": {"n": 3}}})

    results = renew(run)
    assert results == run.report()["results"]
    validation = load_predictions(run.predictions_path("validation"))
    before = figures(validation, uncalibrated(validation.probabilities, whole["temperature"]))
    assert results["validation"] == {**whole["results"]["validation"], **before}
    assert before["nll_uncalibrated"] != before["nll"]
    assert results["private_test"] == {**whole["results"]["private_test"], "views": 10}  # several views: that stays
    assert results["private_test_unseen"] == {**old["private_test_unseen"], **unseen}
    assert results["elsewhere"] == {"n": 3}
    assert not (run.path / "looks.jsonl").exists()

    votes = np.repeat(some_votes(1), 35_887, axis=0)
    votes[stored.row[:4]] = votes_of(NF=10)
    with_votes = renew(run, votes, command="mien renew")
    assert with_votes["private_test_ferplus"] == {**ferplus_figures(stored, votes[stored.row]), "views": 10}
    assert with_votes["private_test_ferplus"]["left_out"] == 4
    look, *more = [json.loads(line) for line in (run.path / "looks.jsonl").read_text().splitlines()]
    assert (look["split"], look["command"], more) == ("private_test", "mien renew", [])
    assert "predictions_sha256" in look


def test_votes_are_on_fer2013_only(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn, splits=("private_test",))
    before = run.report()
    with pytest.raises(DataError, match="rows of FER-2013"):
        renew(run, np.zeros((35_887, 10), np.uint8))
    assert renew(run)["private_test_unseen"] == before["results"]["private_test_unseen"]  # copies are not known


@pytest.mark.shared
@pytest.mark.skipif(not FER2013.exists(), reason="FER-2013 is not beside the project")
def test_the_real_pictures() -> None:
    samples, votes = read_samples(f"fer2013:{FER2013}"), read_votes(VOTES)
    for split in (Split.PUBLIC_TEST, Split.PRIVATE_TEST):
        positions = samples.split(split)
        assert (samples.unseen(positions) == unseen_rows(samples.rows[positions])).all()
    labels = majority_labels(votes)
    private = samples.rows[samples.split(Split.PRIVATE_TEST)]
    assert (labels[private] < 0).sum() == 70
    network = EmotionNetwork(sorted(ASSETS.glob("*.onnx"))[0])
    results = evaluate_network(network, samples, Split.VALIDATION, votes=votes_on(samples, VOTES))
    assert results["validation_ferplus"]["n"] == 3589 - results["validation_ferplus"]["left_out"]
    assert 0 < results["validation_ferplus"]["left_out"] < 100
    assert results["validation_ferplus"]["accuracy"] == pytest.approx(results["validation"]["accuracy"], abs=0.05)
