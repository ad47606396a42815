"""``tools.cross`` on drawn faces in CK+48's layout: one look of each network, written down, and the table of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.data import FaceSamples
from mien.errors import CallError, DataError
from mien.evaluation.evaluate import measure
from mien.evaluation.predictions import load_split_predictions
from mien.runs import Subset
from tests.data.test_other_sets import ck_files, write_folder
from tools import cross

NETWORK = "nano"


@pytest.fixture
def ck48(drawn: FaceSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(cross.SETS, "ck48", cross.OtherSet("CK+48", 54, 3))
    return write_folder(tmp_path / "CK+48", ck_files(drawn))


def test_a_network_looks_once_and_that_is_written_down(ck48: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "cross"
    samples = cross.read_set("ck48", str(ck48))
    assert len(samples.skipped) == 9  # contempt
    run = cross.look("ck48", samples, NETWORK, folder)
    assert run.path == folder / "ck48" / NETWORK
    (look,) = run.looks()
    assert (look.split, look.command) == ("published_test", f"python -m tools.cross ck48=PATH --network {NETWORK}")
    files = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert files - {".lock"} == {"report.json", "looks.jsonl", "predictions/published_test.npz"}
    assert str(tmp_path) not in run.report_path.read_text()
    report = run.load_report()
    assert (report.skipped, report.sha256) == (9, look.sha256)
    stored = load_split_predictions(run, "published_test")
    whole, present = measure("published_test", stored, present_only=True)
    found = report.result("published_test")
    assert found is not None
    assert (found.n, found.subjects, found.accuracy) == (54, 3, whole.accuracy)
    assert found.absent(report.classes) == ("neutral",)
    again = report.result("published_test", Subset.PRESENT)
    assert again is not None
    assert again.accuracy == present.accuracy
    assert again.accuracy.value >= found.accuracy.value - np.finfo(float).eps
    with pytest.raises(CallError, match="expected a first look at"):
        cross.look("ck48", samples, NETWORK, folder)
    lines = [json.loads(line) for line in (run.path / "looks.jsonl").read_text().splitlines()]
    assert len(lines) == 1
    (run.path / "looks.jsonl").write_text(json.dumps({**lines[0], "model_sha256": "0" * 64}) + "\n")
    with pytest.raises(CallError, match="git mv"):
        cross.look("ck48", samples, NETWORK, folder)
    text = cross.page(folder)
    assert f"[`{NETWORK}`](cross/ck48/{NETWORK}) | CK+48 | 54 | 3 |" in text
    assert f"**{100 * found.accuracy.value:.1f}" in text
    assert "no face |" in text
    recalls = next(line for line in text.splitlines() if line.startswith(f"| `{NETWORK}`"))
    assert recalls.count("|") == 10


def test_another_copy_of_a_set_is_refused(ck48: Path) -> None:
    next(ck48.rglob("*.png")).unlink()
    with pytest.raises(DataError, match="expected the 54 faces of 3 people of CK"):
        cross.read_set("ck48", str(ck48))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ck49=x"], "Did you mean 'ck48'"),
        (["ck48=x", "--network", "nana"], "Did you mean 'nano'"),
        (["jaffe=none"], "no such path"),
    ],
)
def test_wrong_calls_end_in_one_line(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tools.cross", *words])
    with pytest.raises(SystemExit, match=message):
        cross.main()


def test_published_figures_stand_there_with_their_sources() -> None:
    text = cross.page(Path("nowhere/cross"))
    for figure in cross.PUBLISHED:
        assert (
            f"| {figure.trained_on} | {figure.tested_on} | {figure.model} | {figure.percent} | {figure.source} |"
            in text
        )
