"""Stored probabilities of several runs averaged."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.fake_runs import fake_run

from mien.data import FaceSamples, read_samples
from mien.errors import CallError, DataError, RunError, RunExistsError
from mien.evaluation.compare import load_entries
from mien.evaluation.ensemble import average, write_ensemble
from mien.evaluation.predictions import Predictions, load_predictions
from mien.report.run_page import write_run_page
from mien.runs import Report, Run

SPLITS = ("validation", "private_test")


@pytest.fixture(scope="module")
def faces() -> FaceSamples:
    return read_samples("synthetic:1400")


@pytest.fixture
def members(tmp_path: Path, faces: FaceSamples) -> list[Path]:
    return [fake_run(tmp_path / f"member-s{seed}", faces, splits=SPLITS, seed=seed).path for seed in range(5)]


def accuracy_of(report: Report, split: str) -> float:
    result = report.result(split)
    assert result is not None
    return result.accuracy.value


def test_probabilities_are_averaged_and_made_true_on_validation(members: list[Path], tmp_path: Path) -> None:
    report = write_ensemble(members, tmp_path / "all", command="mien ensemble ...")
    ensemble = Run(tmp_path / "all")
    assert ensemble.load_report() == report
    for split in SPLITS:
        stored = [load_predictions(Run(path).predictions_path(split)) for path in members]
        mean = np.mean([each.probabilities for each in stored], axis=0)
        found = load_predictions(ensemble.predictions_path(split))
        assert (found.probabilities.argmax(1) == mean.argmax(1)).all()
        accuracy = accuracy_of(report, split)
        assert accuracy == np.mean(mean.argmax(1) == found.label)
        assert accuracy > max(accuracy_of(Run(path).load_report(), split) for path in members)
    # The members' noise cancels out, so their average is less sure than it may be.
    assert report.temperature is not None
    assert report.temperature < 0.9
    (validation,) = (each for each in report.results if each.split == "validation")
    assert validation.metrics["nll"].value < validation.metrics["nll_uncalibrated"].value


def test_the_report_says_who_stands_behind_it(members: list[Path], tmp_path: Path) -> None:
    write_ensemble(members, tmp_path / "all", command="mien ensemble ...")
    report = json.loads((tmp_path / "all" / "report.json").read_text())
    assert report["members"] == [path.name for path in members]
    assert report["parameters"] == 5 * 94122
    made = ["model", "recipe", "members", "temperature", "command", "mien_version"]
    first, *others = [json.loads((path / "report.json").read_text()) for path in members]
    alike = [key for key in first if key in report and all(each.get(key) == first[key] for each in others)]
    expected = dict.fromkeys([*alike, "parameters", "macs", "train_seconds", *made, "results"])
    assert list(report) == [key for key in expected if key in report]
    assert report["data_sha256"] == "ab12"
    assert not report.keys() & {"seed", "recipe_sha256", "best_epoch", "pictures_per_second", "teachers_sha256"}
    assert [look.split for look in Run(tmp_path / "all").looks()] == ["private_test"]
    page = write_run_page(Run(tmp_path / "all"), pictures=False).read_text()
    assert "averages over 5\N{NO-BREAK SPACE}networks" in page
    assert "An ensemble of 5 networks" in (tmp_path / "all" / "model_card.md").read_text()


def test_it_stands_beside_its_members(members: list[Path], tmp_path: Path) -> None:
    write_ensemble(members, tmp_path / "all")
    split, entries = load_entries([tmp_path / "all", *members])
    assert split == "private_test"
    assert {entry.name: entry.seeds for entry in entries} == {"small": (0, 1, 2, 3, 4), str(tmp_path / "all"): ()}


def test_the_same_again_is_allowed_and_another_is_not(members: list[Path], tmp_path: Path) -> None:
    assert write_ensemble(members, tmp_path / "all") == write_ensemble(members, tmp_path / "all")
    with pytest.raises(RunExistsError):
        write_ensemble(members[:3], tmp_path / "all")


def test_what_does_not_belong_together_is_refused(members: list[Path], tmp_path: Path, faces: FaceSamples) -> None:
    def other(name: str, **changes: object) -> Path:
        return fake_run(tmp_path / name, faces, **{"splits": SPLITS, "seed": 9, **changes}).path  # type: ignore[arg-type]

    with pytest.raises(CallError, match="expected two runs or more"):
        write_ensemble(members[:1], tmp_path / "all")
    with pytest.raises(CallError, match="twice"):
        write_ensemble([members[0], members[0]], tmp_path / "all")
    with pytest.raises(DataError, match="expected members with the same data"):
        write_ensemble([members[0], other("data", data_sha256="cd34")], tmp_path / "all")
    with pytest.raises(DataError, match="the same protocol"):
        write_ensemble([members[0], other("protocol", protocol="published")], tmp_path / "all")
    with pytest.raises(RunError, match="validation"):
        write_ensemble([members[0], other("final", splits=("private_test",))], tmp_path / "all")
    ten = other("ten")
    report = Run(ten).load_report()
    of_ten = [dataclasses.replace(each, views=10, order=()) for each in report.results]
    report.with_results(of_ten).save(Run(ten).report_path)
    with pytest.raises(DataError, match="the same views of validation"):
        write_ensemble([members[0], ten], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_the_average_is_of_probabilities() -> None:
    row, label = np.arange(2, dtype=np.int32), np.zeros(2, dtype=np.int8)
    one, other = (np.eye(7, dtype=np.float32)[[at, 3]] for at in (0, 1))
    mean = average([Predictions(row, label, one), Predictions(row, label, other)]).probabilities
    assert mean.tolist() == [[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]]


def test_the_command_needs_no_torch(members: list[Path], tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from mien.cli import main; main()"
    options = ["--out", str(tmp_path / "all"), "--format", "json"]
    call = [sys.executable, "-c", code, "ensemble", *map(str, members[:2]), *options]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == set(SPLITS)
    assert (tmp_path / "all" / "report.html").exists()
