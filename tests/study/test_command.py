"""``mien study`` prints what its page says: the same split, the same numbers, in a pipe too."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fake_runs import Page, fake_run, plain, read_page

from mien.cli import main
from mien.cli import study as command
from mien.cli.train import training_progress
from mien.data import FaceSamples
from mien.errors import Interrupted
from mien.runs import Run
from mien.training import Progress

SPLITS = ("validation", "public_test", "private_test", "published_test")


@pytest.fixture
def finished(tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Runs in the place of those that a study would train; of one recipe there are two seeds."""
    runs = [
        fake_run(tmp_path / f"{name}-s{seed}", drawn, splits=SPLITS, recipe=name, seed=seed, most_frequent="sad")
        for name, seed in (("plain", 0), ("plain", 1), ("other", 0))
    ]
    (tmp_path / "study.json").write_text(json.dumps({"rows": [run.load_report().content() for run in runs]}))
    monkeypatch.setattr(command, "run_study", lambda *arguments, **options: iter(runs))
    return runs


def call(monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> None:
    arguments = ["study", "smoke/baseline_cnn", "--data", "synthetic:210", "--out", str(out), "--final", *more]
    monkeypatch.setattr(sys, "argv", ["mien", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0


def page_row(page: Page, title: str) -> list[str]:
    return next(row for row in page.rows if row and row[0] == title)


def test_the_table_says_what_the_page_says(
    finished: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, tmp_path)
    lines = plain(capsys.readouterr().out.replace("\n", "\n|")).split("|")
    page = read_page(tmp_path / "index.html")
    private = finished[0].load_report().result("private_test")
    assert private is not None
    assert f"{private.n} PrivateTest" in lines[0]
    assert f"{private.n} PrivateTest" in page.text
    for title in ("plain", "other"):
        (line,) = (line.split() for line in lines if line.split()[:1] == [title])
        accuracy, interval, unseen = page_row(page, title)[1:4]
        words = " ".join(line)
        assert accuracy.replace(" n = 2", "") in words
        assert interval in words
        assert unseen in words
    (line,) = (line.split() for line in lines if line.split()[:2] == ["always", "sad"])
    assert page_row(page, "always sad")[1:4] == [" ".join(line[3:5]), " ".join(line[5:7]), " ".join(line[7:9])]
    assert line[3] == f"{100 * sum(private.confusion[4]) / private.n:.1f}"
    assert (finished[2].path / "report.html").is_file()


def test_an_interrupted_study_names_the_rows_that_are_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: object, **options: object) -> Iterator[Run]:
        raise Interrupted("stopped", 2)
        yield

    monkeypatch.setattr(command, "run_study", stopped)
    recipes = ["smoke/baseline_cnn", "smoke/attention_cnn"]
    monkeypatch.setattr(sys, "argv", ["mien", "study", *recipes, "--data", "synthetic:210", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading synthetic:210"
    assert lines[1] == "not finished: 2 of 2 rows, baseline_cnn-s0, attention_cnn-s0"


def test_a_log_has_a_line_at_least_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with training_progress() as show:
        for step in range(1, 11):
            now[0] += 9
            show("big", Progress(0, 2, step, 10, 1.5, 0.25, 0.1, 20, 600, 0.5, 0.5))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(", ")[0] for line in lines] == [
        "big step 4 of 10", "big step 8 of 10", "big epoch 1/2: loss 1.500",
    ]  # fmt: skip


def test_json_is_printed_where_it_is_asked_for(
    finished: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, tmp_path, "--format", "json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["recipe"] for row in rows] == ["plain", "plain", "other"]


def test_only_pages_whose_results_are_newer_are_written_and_the_study_once(
    finished: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, tmp_path)
    written: list[str] = []
    run_page, study_page = command.write_run_page, command.write_study_page

    def note_run(run: Run, *others: object, **more: object) -> Path:
        written.append(run.path.name)
        return run_page(run, *others, **more)

    def note_study(*given: object, **more: object) -> Path:
        written.append("study")
        return study_page(*given, **more)

    monkeypatch.setattr(command, "write_run_page", note_run)
    monkeypatch.setattr(command, "write_study_page", note_study)
    call(monkeypatch, tmp_path)
    assert written == ["study"]
    finished[1].report_path.touch()
    call(monkeypatch, tmp_path)
    assert written[1:] == ["plain-s1", "study", "study"]  # after the row that was new, and for the row behind it
    call(monkeypatch, tmp_path, "--no-pictures")
    assert written[4:] == ["plain-s0", "study", "plain-s1", "study", "other-s0", "study"]
    assert all("data:image/png" not in (run.path / "report.html").read_text(encoding="utf-8") for run in finished)


def test_a_study_page_that_another_process_outdates_is_written_again(
    finished: list[Run], tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[int] = []
    study_page = command.write_study_page

    def with_another(out: Path, reports: list[object], *_: object, **more: object) -> Path:
        if not titles:  # another process finishes a row meanwhile
            third = fake_run(tmp_path / "third-s0", drawn, splits=SPLITS, recipe="third", seed=0)
            runs = [*finished, third]
            (tmp_path / "study.json").write_text(json.dumps({"rows": [run.load_report().content() for run in runs]}))
        titles.append(len(reports))
        return study_page(out, reports, *_, **more)

    monkeypatch.setattr(command, "write_study_page", with_another)
    call(monkeypatch, tmp_path)
    assert titles[:2] == [3, 4]
    assert "third" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_why_a_study_with_test_results_is_compared_on_validation_is_told(
    finished: list[Run], tmp_path: Path, drawn: FaceSamples,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    added = fake_run(tmp_path / "added-s0", drawn, splits=("validation",), recipe="added", seed=0)
    runs = [*finished, added]
    (tmp_path / "study.json").write_text(json.dumps({"rows": [run.load_report().content() for run in runs]}))
    call(monkeypatch, tmp_path)
    assert "compared on validation, since added-s0 has no results on test images" in plain(capsys.readouterr().err)
