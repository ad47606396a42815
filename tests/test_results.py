"""What is published under ``results/`` is what its predictions say."""

import json
from pathlib import Path

import numpy as np
import pytest

from mien.data import read_samples, unseen_rows
from mien.data.samples import Split
from mien.evaluation import load_predictions
from mien.evaluation.results import UNSEEN, figures
from mien.recipe import load_recipe
from tests.conftest import SHARED

RESULTS = Path(__file__).resolve().parents[1] / "results"
REPORTS = sorted(RESULTS.rglob("report.json"))


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_every_figure_follows_from_the_predictions(path: Path) -> None:
    report = json.loads(path.read_text())
    if report["model"] == "ensemble":
        assert set(report["members"]) <= {other.name for other in path.parents[1].iterdir()}
    else:
        assert load_recipe(path.parent / "recipe.toml").sha256() == report["recipe_sha256"]
    for split in Split:
        if split.value not in report["results"]:
            continue
        stated = report["results"][split]
        for name, value in figures(load_predictions(path.parent / "predictions" / f"{split}.npz")).items():
            np.testing.assert_allclose(stated[name], value, atol=1e-9, err_msg=f"{split} {name}")
        if report.get("row_source") == "index" and split + UNSEEN in report["results"]:
            predictions = load_predictions(path.parent / "predictions" / f"{split}.npz")
            unseen = predictions.subset(unseen_rows(predictions.row))
            accuracy = np.mean(unseen.probabilities.argmax(1) == unseen.label)
            assert report["results"][split + UNSEEN]["n"] == len(unseen)
            assert report["results"][split + UNSEEN]["accuracy"] == pytest.approx(accuracy)


ENSEMBLES = [path for path in REPORTS if json.loads(path.read_text())["model"] == "ensemble"]


@pytest.mark.parametrize("path", ENSEMBLES, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("split", ["validation", "private_test"])
def test_an_ensemble_says_what_its_members_say_on_average(path: Path, split: str) -> None:
    names = json.loads(path.read_text())["members"]
    members = [load_predictions(path.parents[1] / name / "predictions" / f"{split}.npz") for name in names]
    ours = load_predictions(path.parent / "predictions" / f"{split}.npz")
    assert all((each.row == ours.row).all() for each in members)
    mean = np.mean([each.probabilities for each in members], axis=0)
    assert (mean.argmax(1) == ours.probabilities.argmax(1)).all()


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_every_look_at_test_pictures_is_noted(path: Path) -> None:
    report = json.loads(path.read_text())
    looked = {split for split in report["results"] if split.endswith("_test")}
    looks = path.parent / "looks.jsonl"
    noted = {json.loads(line)["split"] for line in looks.read_text().splitlines()} if looks.exists() else set()
    assert looked <= noted


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "fer2013").exists(), reason="FER-2013 is not beside the project")
@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_rows_and_labels_are_fer2013s(path: Path) -> None:
    samples = read_samples(f"fer2013:{SHARED / 'fer2013'}")
    report = json.loads(path.read_text())
    assert report["data_sha256"] == samples.content_sha256()
    label_of_row = dict(zip(samples.rows.tolist(), samples.labels.tolist(), strict=True))
    for stored in (path.parent / "predictions").glob("*.npz"):
        predictions = load_predictions(stored)
        assert [label_of_row[row] for row in predictions.row.tolist()] == predictions.label.tolist()
    assert np.isclose(report["results"]["validation"]["n"], 3589)
