"""``mien data``: how faces are read, and which file a row is."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.layouts import encode, write_files

from mien.cli import main


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    names = [
        f"{split}/{name}/p{i % 2}_{i}.png" for split in ("train", "val") for name in ("off", "on") for i in range(3)
    ]
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return write_files(tmp_path / "lamps", {name: encode(picture) for name in names})


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mien", "data", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_it_tells_size_splits_classes_and_subjects(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = ("--set", "data.size=64", "--set", "data.color=true", "--set", r"data.group=(p\d)_")
    assert call(monkeypatch, f"folder:{tree}", *stored, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["size"], found["color"], found["subjects"]) == (12, 64, True, 2)
    assert found["splits"] == {"train": {"off": 3, "on": 3}, "val": {"off": 3, "on": 3}}
    assert found["classes"] == ["off", "on"]
    assert call(monkeypatch, f"folder:{tree}") == 0
    assert "48 x 48 pixels, grey" in capsys.readouterr().out


def test_a_row_is_a_file(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, f"folder:{tree}", "--rows", "8,0", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"row": 8, "split": "val", "label": "off", "file": "val/off/p1_1.png"},
        {"row": 0, "split": "train", "label": "off", "file": "train/off/p0_0.png"},
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rows", "12"], 1, "expected a row that was read, from 0 to 11, got 12"),
        (["--rows", "one"], 2, "numbers with commas"),
        (["--set", "data.sise=64"], 2, "Did you mean 'size'"),
        (["--set", "data.group=(x)"], 1, "no match in 12 paths such as"),
        (["--set", "training.epochs=3"], 2, "unknown key 'training'"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], code: int, message: str,
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call(monkeypatch, f"folder:{tree}", *arguments) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["synthetic:3", "synthetic:abc", "synthetic:9999999999"])
def test_a_number_of_drawn_faces_that_cannot_be_is_a_wrong_call(
    spec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, spec) == 2
    assert "expected" in capsys.readouterr().err
