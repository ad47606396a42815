"""``mien report``: a study's page over finished runs, wherever they lie."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fake_runs import fake_run, read_page

from mien.cli import main
from mien.cli.audit import _faces_table
from mien.cli.evaluate import results_table
from mien.data import FaceSamples, audit
from mien.data.samples import Usage
from mien.errors import RunExistsError
from mien.evaluation.evaluate import check_free
from mien.recipe import find_recipe, load_recipe, to_toml
from mien.report.run_page import write_run_page
from mien.runs import Run

SPLITS = ("validation", "published_test")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mien", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def finished(path: Path, drawn: FaceSamples, *settings: str, **changes: Any) -> Run:
    run = fake_run(path, drawn, splits=SPLITS, **{"data_sha256": drawn.content_sha256(), **changes})
    run.recipe_path.write_text(to_toml(load_recipe(find_recipe("smoke/attention_cnn"), settings)))
    write_run_page(run, pictures=False)
    return run


def test_runs_from_several_folders_stand_on_one_page(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, page = tmp_path / "study", tmp_path / "pages" / "all"
    for seed in (0, 1):
        finished(study / f"small-s{seed}", drawn, seed=seed)
    longer = finished(tmp_path / "longer", drawn, "training.epochs=50", epochs=50, skill=3.0)
    fake_run(study / "both", drawn, seed=None)
    data = ("--data", "synthetic:210")
    assert call(monkeypatch, study, longer.path, study / "small-s0", *data, "--out", page, "--format", "json") == 0
    output = capsys.readouterr()
    assert [(row["recipe"], row["seed"]) for row in json.loads(output.out)["rows"]] == [
        ("small", 0), ("small", 1), ("small", 0),
    ]  # fmt: skip
    assert str(study / "both") in output.err  # an ensemble is told and left out
    read = read_page(page / "index.html")
    titles = [row[0] for row in read.rows]
    assert str(longer.path) in titles
    assert f"{study / 'small'}" in titles
    assert read.faces
    assert set(read.values("href")) >= {"../../longer/report.html", "../../study/small-s1/report.html"}
    assert len(read.plots) > 3


def test_what_makes_no_page_is_refused(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = finished(tmp_path / "one", drawn)
    elsewhere = finished(tmp_path / "elsewhere", drawn, data="other", data_sha256="cd34")
    other = finished(tmp_path / "other", drawn, seed=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    ensemble = fake_run(tmp_path / "ensemble", drawn, splits=SPLITS, seed=None)
    finished(tmp_path / "full" / "small-s0", drawn)
    for paths, out, code, words in (
        ([one.path, elsewhere.path], "page", 2, f"content hash cd34, 42 images of published_test: {elsewhere.path}"),
        ([one.path, tmp_path / "full"], "page", 2, "again elsewhere"),
        ([ensemble.path], "page", 2, "mien compare"),
        ([tmp_path / "empty"], "page", 1, "holds no finished run"),
        ([tmp_path / "gone"], "page", 2, "gone; check the path"),
        ([one.path], "file", 1, "is a file"),
        ([one.path, other.path], "full", 2, f"got {tmp_path / 'full' / 'small-s0'}; give these too"),
        ([elsewhere.path, "--data", "synthetic:210"], "page", 1, "give the runs' --data"),
    ):
        assert call(monkeypatch, *paths, "--out", tmp_path / out) == code, words
        assert words in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("command", ["compare", "audit", "explain"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:  # fmt: skip
    run = finished(tmp_path / "run", drawn)
    (tmp_path / "file").write_text("")
    of_data = ["--data", "synthetic:210"]
    arguments = {"compare": [run.path], "audit": of_data, "explain": [*of_data, "--model", run.path]}[command]
    monkeypatch.setattr(sys, "argv", ["mien", command, *map(str, arguments), "--out", str(tmp_path / "file" / "page")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    output = capsys.readouterr()
    assert f"{tmp_path / 'file'} is a file" in output.err
    assert not output.out


def test_tables_name_splits_as_the_data_do(tmp_path: Path, drawn: FaceSamples) -> None:
    report = fake_run(tmp_path, drawn, splits=SPLITS).load_report()
    assert list(results_table(report).columns[0].cells)[:2] == ["Validation", "PublicTest and PrivateTest"]
    called = dataclasses.replace(
        report, results=tuple(dataclasses.replace(each, called="test") for each in report.results)
    )
    assert set(results_table(called).columns[0].cells) == {"test", "test, unseen"}
    own = dataclasses.replace(drawn, split_names={usage: f"my {usage.name}" for usage in Usage})
    assert "my TRAINING" in _faces_table(own, audit.audit(own)).columns[0].cells


def test_other_data_need_a_folder_of_their_own(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fake_run(tmp_path, drawn)
    report = run.load_report()
    check_free(run, report, is_own=True)
    other = dataclasses.replace(report, data="folder:leak", data_sha256="cd34")
    with pytest.raises(RunExistsError, match=r"got folder:leak; .* add --out DIR"):
        check_free(run, other, is_own=True)
    with pytest.raises(RunExistsError, match="choose another --out"):
        check_free(run, other)
