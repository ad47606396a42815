"""Planted label errors are found, and only by networks that could not have learnt them by heart."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import small_recipe
from tests.fake_runs import read_page

from mien.data import FaceSamples, Split
from mien.data.audit import audit
from mien.data.samples import Usage
from mien.data.synthetic import read_synthetic
from mien.emotions import EMOTIONS
from mien.errors import DataError, MissingPathError, RunError
from mien.evaluation import Predictions, load_predictions
from mien.evaluation.label_issues import LabelIssues, label_issues, out_of_sample
from mien.evaluation.predictor import probabilities_of
from mien.recipe import Recipe
from mien.report.audit_page import write_audit_page
from mien.runs import Report, Run
from mien.runs.checkpoint import create_run

FOLDS = 5
PLANTED = 50


def seen_by_a_network(labels: NDArray[np.int8], skill: float = 3.0) -> NDArray[np.float32]:
    """What a network that is correct about nine in ten of true ``labels`` says: ``(N, 7)``."""
    logits = np.random.default_rng(len(labels)).normal(size=(len(labels), 7)) + skill * np.eye(7)[labels]
    return probabilities_of(1.5 * logits[None].astype(np.float32))


def stored_run(path: Path, recipe: Recipe, samples: FaceSamples, probabilities: NDArray[np.float32]) -> Run:
    """A finished run of a recipe, with ``probabilities`` ``(N, 7)`` of all samples to predict its validation with."""
    run = create_run(path, recipe)
    at = samples.split_for(Split.VALIDATION, recipe.data)
    Predictions(samples.rows[at], samples.labels[at], probabilities[at]).save(run.predictions_path("validation"))
    hashes = {"recipe_sha256": recipe.sha256(), "data_sha256": samples.content_sha256()}
    Report(model=recipe.model.name, recipe=recipe.name, **hashes).save(run.report_path)  # type: ignore[arg-type]
    return run


@pytest.fixture(scope="module")
def faces() -> FaceSamples:
    """700 drawn faces; some stand in Training several times."""
    drawn = read_synthetic(700)
    images, training = drawn.images.copy(), np.flatnonzero(drawn.usages == Usage.TRAINING)
    images[training[:60]] = images[training[np.arange(60) // 3 * 3]]
    return dataclasses.replace(drawn, images=images)


@pytest.fixture(scope="module")
def planted(faces: FaceSamples) -> NDArray[np.int64]:
    """Positions whose labels are made wrong."""
    training = np.flatnonzero(faces.usages == Usage.TRAINING)
    return np.sort(np.random.default_rng(1).choice(training, PLANTED, replace=False))


@pytest.fixture(scope="module")
def mislabelled(faces: FaceSamples, planted: NDArray[np.int64]) -> FaceSamples:
    labels = faces.labels.copy()
    labels[planted] = (labels[planted] + np.random.default_rng(2).integers(1, 7, PLANTED)) % 7
    return dataclasses.replace(faces, labels=labels)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, faces: FaceSamples, mislabelled: FaceSamples) -> list[Run]:
    """A run of each fold, whose network sees the true emotions."""
    folder, probabilities = tmp_path_factory.mktemp("folds"), seen_by_a_network(faces.labels)
    return [
        stored_run(folder / f"fold{fold}", small_recipe(data={"fold": fold}), mislabelled, probabilities)
        for fold in range(FOLDS)
    ]


@pytest.fixture(scope="module")
def issues(mislabelled: FaceSamples, runs: list[Run]) -> LabelIssues:
    return label_issues(out_of_sample(mislabelled, [run.path for run in runs]))


def test_most_planted_errors_are_found_and_most_that_is_found_was_planted(
    faces: FaceSamples, mislabelled: FaceSamples, planted: NDArray[np.int64], issues: LabelIssues
) -> None:
    assert issues.n == np.sum(faces.usages == Usage.TRAINING)
    assert 0.8 < issues.accuracy < 0.9  # about nine in ten of the labels that are right
    rows = faces.rows[planted]
    found = np.isin(rows, issues.row)
    assert found.mean() > 0.75
    assert np.isin(issues.row, rows).mean() > 0.7
    assert np.isin(issues.row[: PLANTED // 2], rows).mean() > 0.9  # the least likely first
    assert (np.diff(issues.score) >= 0).all()
    places = np.searchsorted(faces.rows, issues.row)
    assert (issues.label == mislabelled.labels[places]).all()
    assert (issues.suggested != issues.label).all()
    right = np.isin(issues.row, rows)
    assert (issues.suggested == faces.labels[places])[right].mean() > 0.85


def test_folds_are_of_equal_size_and_keep_identical_pictures_together(mislabelled: FaceSamples) -> None:
    parts = [mislabelled.split_for(Split.VALIDATION, small_recipe(data={"fold": fold}).data) for fold in range(FOLDS)]
    training = mislabelled.split(Split.TRAINING)
    assert np.sort(np.concatenate(parts)).tolist() == training.tolist()
    assert {len(part) for part in parts} == {len(training) // FOLDS}
    pictures = [{mislabelled.images[at].tobytes() for at in part} for part in parts]
    assert sum(map(len, pictures)) == len(set.union(*pictures)) < len(training)
    for fold, part in enumerate(parts):
        counts = np.bincount(mislabelled.labels[part], minlength=7)
        assert abs(counts - np.bincount(mislabelled.labels[training], minlength=7) / FOLDS).max() <= 1
        settings = small_recipe(data={"fold": fold}).data
        assert (np.union1d(mislabelled.split_for(Split.TRAINING, settings), part) == training).all()
        # The splits that nothing is trained or chosen on stay what they are.
        assert (mislabelled.split_for(Split.PUBLIC_TEST, settings) == mislabelled.split(Split.PUBLIC_TEST)).all()


def test_some_folds_or_a_held_out_part_do_as_well(
    tmp_path: Path, faces: FaceSamples, mislabelled: FaceSamples, runs: list[Run]
) -> None:
    file = runs[1].predictions_path("validation")
    some = out_of_sample(mislabelled, [runs[0].path, file])
    assert len(some) == 2 * np.sum(faces.usages == Usage.TRAINING) // FOLDS
    recipe = small_recipe(data={"protocol": "published"})
    run = stored_run(tmp_path / "published", recipe, mislabelled, seen_by_a_network(faces.labels))
    predictions = out_of_sample(mislabelled, [run.path])
    assert 0 < len(label_issues(predictions).row) < len(predictions) == np.sum(faces.usages == Usage.TRAINING) // 8


def change_report(run: Run, **changes: str) -> None:
    dataclasses.replace(run.load_report(), **changes).save(run.report_path)


def test_what_was_learnt_or_may_have_been_is_refused(
    tmp_path: Path, faces: FaceSamples, mislabelled: FaceSamples, runs: list[Run]
) -> None:
    probabilities = seen_by_a_network(faces.labels)

    def run_of(name: str, **sections: object) -> Run:
        return stored_run(tmp_path / name, small_recipe(**sections), mislabelled, probabilities)

    in_sample = run_of("in-sample", data={"fold": 0})
    load_predictions(runs[1].predictions_path("validation")).save(in_sample.predictions_path("validation"))
    lone = tmp_path / "lone.npz"
    load_predictions(runs[0].predictions_path("validation")).save(lone)
    other_data, other_recipe = run_of("other-data", data={"fold": 0}), run_of("other-recipe", data={"fold": 0})
    change_report(other_data, data_sha256="ab" * 32)
    change_report(other_recipe, recipe_sha256="ab" * 32)
    weights = {"name": "attention_cnn", "input_size": 24}
    later = {"model": {**weights, "weights": str(run_of("first", data={"fold": 1}).best_checkpoint)}}
    taught = {"training": {"teachers": [str(runs[1].best_checkpoint)], "teacher_weight": 0.5}}
    refused = [
        (in_sample.path, DataError, r"in-sample was not trained on, got 112 of 112 .*\(first row \d+\)"),
        (lone, DataError, "without its run"),
        (other_data.path, DataError, "expected data with content hash abab"),
        (other_recipe.path, DataError, "expected the recipe.toml of its report.json"),
        (run_of("contest").path, DataError, "expected images of Training"),
        (run_of("later", data={"fold": 0}, **later).path, DataError, "first was not trained on"),
        (run_of("taught", data={"fold": 0}, **taught).path, DataError, "fold1 was not trained on"),
        (run_of("file", data={"fold": 0}, model={**weights, "weights": "some.pth"}).path, DataError, "some.pth"),
        (run_of("gone", data={"fold": 0}, model={**weights, "weights": "gone/checkpoints/best.ckpt"}).path,
         MissingPathError, "no run at gone"),
        (tmp_path, RunError, "holds no run"),
        (tmp_path / "none.npz", MissingPathError, "none.npz"),
    ]  # fmt: skip
    for path, error, words in refused:
        with pytest.raises(error, match=words):
            out_of_sample(mislabelled, [path])
    with pytest.raises(DataError, match="got 112 twice"):
        out_of_sample(mislabelled, [runs[0].path, runs[1].path, runs[0].path])
    with pytest.raises(DataError, match="expected rows and labels of these data"):
        out_of_sample(faces, [runs[0].path])  # the labels are others


def test_earlier_runs_of_the_same_fold_may_take_part(tmp_path: Path, mislabelled: FaceSamples, runs: list[Run]) -> None:
    weights = {"name": "attention_cnn", "input_size": 24, "weights": str(runs[2].best_checkpoint)}
    recipe = small_recipe(data={"fold": 2}, model=weights)
    run = stored_run(tmp_path / "run", recipe, mislabelled, seen_by_a_network(mislabelled.labels))
    assert len(out_of_sample(mislabelled, [run.path])) == 112


def test_they_stand_in_the_json_and_on_the_page(
    tmp_path: Path, mislabelled: FaceSamples, planted: NDArray[np.int64], issues: LabelIssues
) -> None:
    votes = np.zeros((len(mislabelled), 7), np.uint8)
    votes[np.arange(len(votes)), mislabelled.labels] = 10
    votes[planted] = votes[planted][:, ::-1]  # angry and neutral change places, and so on
    found = audit(mislabelled)
    page = read_page(write_audit_page(tmp_path, mislabelled, found, votes, issues))
    content = json.loads((tmp_path / "audit.json").read_text())["label_issues"]
    assert (content["n"], len(content["found"])) == (issues.n, len(issues.row))
    first = content["found"][0]
    label, suggested = EMOTIONS[issues.label[0]], EMOTIONS[issues.suggested[0]]
    assert (first["row"], first["label"], first["suggested"]) == (issues.row[0], label, suggested)
    assert first["score"] == pytest.approx(issues.score[0], abs=1e-6)
    assert f"{100 * len(issues.row) / 560:.1f} % {len(issues.row)} of 560" in page.text
    assert f"agree with {100 * content['accuracy']:.1f} %" in page.text
    remark = f"suggested: {suggested}; probability of the label {100 * issues.score[0]:.1f} %"
    assert remark in page.text
    differs = votes.argmax(1) != mislabelled.labels
    doubted = differs[np.searchsorted(mislabelled.rows, issues.row)]
    assert (
        f"another emotion in {100 * doubted.mean():.1f} % of them, and in {100 * differs.sum() / 560:.1f} %"
        in page.text
    )
    assert f"row {issues.row[0]}" in page.text
    without = read_page(write_audit_page(tmp_path / "rows", mislabelled, found, votes, issues, pictures=False))
    assert not without.faces
    assert [str(issues.row[0]), "Training", label, remark] in without.rows
    assert "doubted" not in read_page(write_audit_page(tmp_path / "none", mislabelled, found)).values("id")
