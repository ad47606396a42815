"""What is published under ``results/`` is what its predictions say, and nothing that follows from them."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mien.data import read_samples, unseen_rows
from mien.evaluation.evaluate import measure
from mien.evaluation.predictions import Predictions, load_predictions, load_split_predictions, prediction_files
from mien.recipe import load_recipe
from mien.runs import Run, Subset
from tests.conftest import SHARED
from tests.fake_runs import content

RESULTS = Path(__file__).resolve().parents[1] / "results"
REPORTS = sorted(RESULTS.rglob("report.json"))
RUNS = [Run(path.parent) for path in REPORTS]
CROSS = [run for run in RUNS if run.path.is_relative_to(RESULTS / "cross")]
"""Looks of networks of the package at other data sets; the others are runs on FER-2013."""
SOURCES = {
    "recipe.toml", "report.json", "metrics.jsonl", "looks.jsonl", "robustness.json", "explain.json",
    "validation.npz", "public_test.npz", "private_test.npz",
}  # fmt: skip
"""Files of a run that cannot be computed again; of FER-2013's ``published_test`` there are the two halves."""

LARGEST = 22_000_000
"""Bytes that all results may have."""


def name_of(run: Run) -> str:
    return f"{run.path.parent.name}/{run.path.name}"


def test_nothing_is_committed_that_follows_from_other_files() -> None:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "results"],
        cwd=RESULTS.parent, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    names = [Path(name) for name in listed.split("\0") if name and (RESULTS.parent / name).exists()]
    if not names:
        pytest.skip("this is no git checkout")
    top = {name.name for name in names if len(name.parts) == 2}
    assert top == {"README.md", "ablations.md", "notes.md", "ablation_notes.md", "cross.md"}
    is_other = {name: name.parts[1] == "cross" for name in names}
    assert {name.name for name in names if len(name.parts) > 2 and not is_other[name]} <= SOURCES
    assert {name.name for name in names if is_other[name]} <= {"report.json", "looks.jsonl", "published_test.npz"}
    assert sum((RESULTS.parent / name).stat().st_size for name in names) < LARGEST


@pytest.mark.parametrize("run", RUNS, ids=name_of)
def test_every_number_follows_from_the_predictions(run: Run) -> None:
    report = run.load_report()
    if run in CROSS:
        assert {line["model_sha256"] for line in map(json.loads, (run.path / "looks.jsonl").open())} == {report.sha256}
    elif report.members:
        assert set(report.members) <= {other.name for other in run.path.parent.iterdir()}
    else:
        assert load_recipe(run.recipe_path).sha256() == report.recipe_sha256
    stated = json.loads(run.report_path.read_text())["results"]
    assert report.splits
    for split in report.splits:
        predictions = load_split_predictions(run, split)
        for name, value in content(measure(split, predictions)[0]).items():
            np.testing.assert_allclose(stated[split][name], value, atol=1e-9, err_msg=f"{split} {name}")
        if (present := report.result(split, Subset.PRESENT)) is not None:
            assert present.accuracy == measure(split, predictions, present_only=True)[-1].accuracy
        found = report.result(split, Subset.UNSEEN)
        if report.row_source == "index" and found is not None:
            unseen = predictions.subset(unseen_rows(predictions.row))
            assert found.n == len(unseen)
            assert found.accuracy.value == pytest.approx(np.mean(unseen.probabilities.argmax(1) == unseen.label))


def sha256_of_saved(predictions: Predictions, folder: Path) -> str:
    predictions.save(folder / "again.npz")
    return hashlib.sha256((folder / "again.npz").read_bytes()).hexdigest()


@pytest.mark.parametrize("run", [run for run in RUNS if run.looks()], ids=name_of)
def test_predictions_that_were_looked_at_again_are_those_that_are_here(run: Run, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (run.path / "looks.jsonl").read_text().splitlines()]
    noted = {(line["split"], line["predictions_sha256"]) for line in lines if "predictions_sha256" in line}
    for split, sha256 in noted:
        (file, *more) = prediction_files(run, split)
        if not more:
            assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
        elif sha256_of_saved(load_predictions(file), tmp_path) == hashlib.sha256(file.read_bytes()).hexdigest():
            # This zlib writes what the one of that time wrote, so the two halves together have the hash of the whole.
            assert sha256_of_saved(load_split_predictions(run, split), tmp_path) == sha256


@pytest.mark.parametrize("run", [run for run in RUNS if run.load_report().members], ids=name_of)
@pytest.mark.parametrize("split", ["validation", "private_test"])
def test_an_ensemble_says_what_its_members_say_on_average(run: Run, split: str) -> None:
    names = run.load_report().members or ()
    members = [load_split_predictions(Run(run.path.parent / name), split) for name in names]
    ours = load_split_predictions(run, split)
    assert all((each.row == ours.row).all() for each in members)
    mean = np.mean([each.probabilities for each in members], axis=0)
    assert (mean.argmax(1) == ours.probabilities.argmax(1)).all()


@pytest.mark.parametrize("run", RUNS, ids=name_of)
def test_every_look_at_test_images_is_noted(run: Run) -> None:
    looked = {found.split for found in run.load_report().results if found.is_test}
    assert looked <= {look.split for look in run.looks()}


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "fer2013").exists(), reason="FER-2013 is not beside the project")
@pytest.mark.parametrize("run", [run for run in RUNS if run not in CROSS], ids=name_of)
def test_rows_and_labels_are_fer2013s(run: Run) -> None:
    samples = read_samples(f"fer2013:{SHARED / 'fer2013'}")
    report = run.load_report()
    assert report.data_sha256 == samples.content_sha256()
    label_of_row = dict(zip(samples.rows.tolist(), samples.labels.tolist(), strict=True))
    for stored in (run.path / "predictions").glob("*.npz"):
        predictions = load_predictions(stored)
        assert [label_of_row[row] for row in predictions.row.tolist()] == predictions.label.tolist()
    validation = report.result("validation")
    assert validation is not None
    assert validation.n == 3589
