"""``train``, ``evaluate`` and ``study`` write pages, and with ``--no-pictures`` no face stands on them."""

import sys
from pathlib import Path

import pytest
from tests.conftest import small_recipe
from tests.fake_runs import read_page

from mien.cli import main
from mien.recipe import to_toml

DATA = ("--data", "synthetic:210", "--accelerator", "cpu")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["mien", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0


def test_no_pictures_leaves_every_face_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(to_toml(small_recipe(training={"epochs": 1})))
    study, run = tmp_path / "study", tmp_path / "study" / "small-s0"
    report, index = run / "report.html", study / "index.html"

    call(monkeypatch, "train", recipe, *DATA, "--out", run, "--no-pictures")
    assert str(report) in capsys.readouterr().out
    assert not read_page(report).faces
    call(monkeypatch, "study", recipe, *DATA, "--out", study)  # finds the run finished
    assert str(index) in capsys.readouterr().err
    assert read_page(report).faces
    assert read_page(index).faces
    call(monkeypatch, "evaluate", run, *DATA, "--split", "private_test", "--no-pictures")
    assert not read_page(report).faces
    assert "21 PrivateTest images" in read_page(report).text
    call(monkeypatch, "study", recipe, *DATA, "--out", study, "--no-pictures")
    assert not read_page(index).faces + read_page(report).faces
    assert "small-s0/report.html" in read_page(index).values("href")
