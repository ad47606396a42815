"""Exit codes and messages, through the real entry point."""

import json
import sys
from pathlib import Path

import pytest
from tests.conftest import small_recipe
from tests.data.layouts import tree_files, write_files

from mien.cli import main
from mien.data import FaceSamples
from mien.evaluation import load_predictions
from mien.recipe import to_toml

DATA = ("--data", "synthetic:210", "--accelerator", "cpu")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mien", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(to_toml(small_recipe(training={"epochs": 1})))
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "Missing argument"),
        (["nothing"], 2, "No such command"),
        (["train", "nowhere.toml", *DATA, "--out", "x"], 2, "published/baseline_cnn"),
        (["train", "smoke/baseline_cnn", *DATA, "--out", "x", "--set", "training.epoch=1"], 2, "Did you mean 'epochs'"),
        (["train", "smoke/baseline_cnn", *DATA, "--out", "x", "--set", "model.name=baseline_cn"], 2, "baseline_cnn"),
        (["train", "smoke/baseline_cnn", "--data", "/nowhere", "--out", "x"], 2, "/nowhere"),
        (["train", "smoke/baseline_cnn", "--data", "synthetic:x", "--out", "x"], 2, "synthetic"),
        (["train", "smoke/baseline_cnn", "--data", "synthetic:210", "--out", "x", "--accelerator", "tpu"], 2, "cuda"),
        (["train", "release/base", *DATA, "--out", "x"], 2, "--votes"),
        (["train", "release/base", *DATA, "--out", "x", "--votes", "none.csv"], 2, "none.csv"),
        (["study", *DATA, "--out", "x"], 2, "--suite"),
        (["study", "--suite", "publishd", *DATA, "--out", "x"], 2, "Did you mean 'published'"),
        (["study", "smoke/baseline_cnn", *DATA, "--out", "x", "--set", "seed=5"], 2, "--seeds"),
        (["train", "smoke/baseline_cnn", *DATA, "--out", "x", "--set", "training.clip_norm=inf"], 2, "finite"),
        (["train", "smoke/baseline_cnn", *DATA, "--out", "x", "--set", "model.weights=/dev/null.ckpt"], 2, "null.ckpt"),
        (["audit", "--data", "synthetic:9999999999"], 1, "at most 1,000,000"),
        (["audit", "--data", "~nobody-here/x"], 2, "no data at"),
        (["evaluate", "nowhere", "--data", "synthetic:210"], 2, "no run at nowhere"),
        (["evaluate", ".", "--data", "synthetic:210"], 1, "holds no run"),
    ],
)
def test_wrong_calls_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("arguments", [["--debug", "audit"], ["audit", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert call(monkeypatch, *arguments, "--data", "/nowhere") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("mien: no data at /nowhere")


def test_what_is_left_out_is_counted_and_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, drawn: FaceSamples
) -> None:
    files = tree_files(drawn)
    broken = sorted(files)[:3]
    write_files(tmp_path / "faces", {**files, **dict.fromkeys(broken, b"no picture")})
    write_files(tmp_path / "faces", {f"train/contempt/{i}.png": files[broken[0]] for i in range(30)})
    options = ("--data", f"folder:{tmp_path / 'faces'}", "--skip-bad", "--skip-unmapped")
    assert call(monkeypatch, "audit", *options, "--out", tmp_path / "audit") == 0
    shown = capsys.readouterr()
    assert "left out 33 of 240 pictures:" in shown.err
    assert [name in shown.err for name in broken] == [True] * 3
    assert shown.err.count("which is no emotion") == 17
    assert "and 13 more" in shown.err
    listed = json.loads((tmp_path / "audit" / "audit.json").read_text())["skipped"]
    assert listed == json.loads(shown.out)["skipped"]
    assert all(any(name in line for line in listed) for name in broken)
    assert broken[0] in (tmp_path / "audit" / "audit.html").read_text()


def test_audit_asks_networks_that_held_the_pictures_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, recipe: Path
) -> None:
    runs = [tmp_path / f"fold{fold}" for fold in (0, 3)]
    for fold, run in zip((0, 3), runs, strict=True):
        assert call(monkeypatch, "train", recipe, *DATA, "--out", run, "--set", f"data.fold={fold}") == 0
    capsys.readouterr()
    audit = ("audit", "--data", "synthetic:210", "--predictions", runs[0])
    assert call(monkeypatch, *audit, "--predictions", runs[1] / "predictions" / "validation.npz") == 0
    found = json.loads(capsys.readouterr().out)["label_issues"]
    held_out = [len(load_predictions(run / "predictions" / "validation.npz")) for run in runs]
    assert found["n"] == sum(held_out) == pytest.approx(2 * 168 / 5, abs=2)
    assert all(issue.keys() == {"row", "label", "suggested", "score"} for issue in found["found"])
    assert call(monkeypatch, *audit, "--out", tmp_path / "audit") == 0
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["label_issues"]["n"] == held_out[0]
    assert call(monkeypatch, "train", recipe, *DATA, "--out", tmp_path / "contest") == 0
    capsys.readouterr()
    assert call(monkeypatch, *audit, "--predictions", tmp_path / "contest") == 1
    shown = capsys.readouterr()
    assert "expected pictures of Training" in shown.err
    assert shown.out == ""


def test_train_evaluate_and_study(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    recipe: Path,
) -> None:
    run = tmp_path / "run"
    assert call(monkeypatch, "train", recipe, *DATA, "--out", run) == 0
    assert call(monkeypatch, "train", recipe, *DATA, "--out", run) == 2
    assert "--resume" in capsys.readouterr().err
    assert call(monkeypatch, "evaluate", run, *DATA, "--split", "private_test", "--views", "10") == 0
    results = json.loads(capsys.readouterr().out)
    stored = load_predictions(run / "predictions" / "private_test.npz")
    assert results["private_test"]["accuracy"] == (stored.probabilities.argmax(1) == stored.label).mean()
    assert results["private_test"]["views"] == 10
    assert call(monkeypatch, "evaluate", run, *DATA, "--split", "private") == 2
    assert call(monkeypatch, "evaluate", run, *DATA, "--votes", "none.csv") == 2
    capsys.readouterr()
    assert call(monkeypatch, "evaluate", run, *DATA, "--robustness") == 0
    assert json.loads(capsys.readouterr().out)["robustness"] == json.loads((run / "robustness.json").read_text())
    assert "Worse pictures" in (run / "report.html").read_text()
    assert call(monkeypatch, "evaluate", run, *DATA, "--robustness", "--split", "private_test") == 2

    study = tmp_path / "study"
    arguments = ("study", recipe, *DATA, "--out", study, "--seeds", "2", "--final")
    assert call(monkeypatch, *arguments) == 0
    written = json.loads((study / "study.json").read_text())
    assert [(row["recipe"], row["seed"]) for row in written["rows"]] == [("small", 0), ("small", 1)]
    assert all("published_test_unseen" in row["results"] for row in written["rows"])
    checkpoint = study / "small-s1" / "checkpoints" / "best.ckpt"
    before = checkpoint.stat().st_mtime_ns
    assert call(monkeypatch, *arguments) == 0  # finished: nothing is trained again
    assert checkpoint.stat().st_mtime_ns == before
    assert len((study / "small-s1" / "looks.jsonl").read_text().splitlines()) == 3
    assert call(monkeypatch, *arguments, "--set", "optimizer.lr=0.1") == 2
