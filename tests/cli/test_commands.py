"""Exit codes and messages, through the real entry point."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import small_recipe
from tests.data.layouts import tree_files, write_files
from tests.fake_runs import read_page

from mien.cli import main
from mien.cli.app import COMMANDS
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
        (["trian"], 2, "Did you mean 'train'"),
        (["train", "nowhere.toml", *DATA, "--out", "x"], 2, "published/baseline_cnn"),
        (["train", "published/baselin_cnn", *DATA, "--out", "x"], 2, "Did you mean 'published/baseline_cnn'?"),
        (["train", "smoke/baseline_cnn", *DATA, "--out", "x", "--set", "resnet50:seed=1"], 2, "unknown row 'resnet50'"),
        (["train", "smoke/attention_cnn", *DATA, "--out", "x", "--set", "model.batch_norm=false"], 2, "--set model.b"),
        (["train", "smoke/baseline_cnn", *DATA, "--out", "x", "--protocol", "contst"], 2, "Did you mean 'contest'"),
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
        (["audit", "--data", "synthetic:9999999999"], 2, "at most 1,000,000"),
        (["audit", "--data", "~nobody-here/x"], 2, "no such path"),
        (["evaluate", "nowhere", "--data", "synthetic:210"], 2, "no run at nowhere"),
        (["evaluate", ".", "--data", "synthetic:210"], 1, "holds no run"),
        (["evaluate", "nano", "--data", "synthetic:210", "--split", "tests"], 2, "Did you mean 'test'"),
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
    assert lines[-1].startswith("mien: /nowhere: expected data")


@pytest.mark.parametrize("arguments", [["--quiet", "audit"], ["audit", "--quiet"]])
def test_quiet_keeps_errors_and_drops_notes_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    assert call(monkeypatch, *arguments, "--data", "/nowhere") == 2
    assert capsys.readouterr().err.startswith("mien: /nowhere: expected data")
    assert call(monkeypatch, *arguments, "--data", "synthetic:70", "--out", tmp_path) == 0
    shown = capsys.readouterr()
    assert shown.out
    assert shown.err == ""
    assert call(monkeypatch, "audit", "--data", "synthetic:70", "--out", tmp_path) == 0
    shown = capsys.readouterr()
    assert str(tmp_path) in shown.out + shown.err  # a later call in the same process speaks again


def test_help_imports_no_command() -> None:
    program = (
        "import sys\n"
        "from mien.cli import main\n"
        "sys.argv = ['mien', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as ended:\n    assert ended.code == 0\n"
        "loaded = {name for name in sys.modules if name.startswith('mien')}\n"
        "heavy = sys.modules.keys() & {'cv2', 'numpy', 'onnxruntime', 'pydantic', 'torch', 'rich.markdown'}\n"
        "sys.exit(f'{sorted(loaded)} {sorted(heavy)}')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    rooms = ["cli", "cli.app", "cli.output", "cli.shared", "emotions", "errors", "files"]
    known = ["mien", *(f"mien.{room}" for room in rooms)]
    assert ended.stderr.strip() == f"{known} []"
    listed = ended.stdout.partition("Commands:")[2].splitlines()[1:]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert [line.split(maxsplit=1)[1] for line in listed] == [command.help for command in COMMANDS.values()]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert call(monkeypatch, name, "--help") == 0
    shown = capsys.readouterr().out
    assert f"mien {name}" in shown
    assert "--debug" in shown
    assert "--quiet" in shown


@pytest.mark.parametrize(("name", "extra"), [("audit", "report"), ("train", "train")])
def test_a_command_whose_packages_are_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, extra: str
) -> None:
    def missing(module: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")

    with monkeypatch.context() as patched:
        patched.setattr(importlib, "import_module", missing)
        assert call(patched, name) == 1
    assert f'elsewhere is not installed; run: pip install "mien[{extra}]"' in capsys.readouterr().err


def test_what_is_left_out_is_counted_and_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, drawn: FaceSamples
) -> None:
    files = tree_files(drawn)
    broken = sorted(files)[:3]
    write_files(tmp_path / "faces", {**files, **dict.fromkeys(broken, b"no picture")})
    write_files(tmp_path / "faces", {f"train/contempt/{i}.png": files[broken[0]] for i in range(30)})
    options = ("--data", f"folder:{tmp_path / 'faces'}", "--skip-bad", "--skip-unmapped")
    assert call(monkeypatch, "audit", *options, "--out", tmp_path / "audit", "--format", "json") == 0
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
    second = runs[1] / "predictions" / "validation.npz"
    assert call(monkeypatch, *audit, "--predictions", second) == 0
    table = capsys.readouterr().out
    assert "probability of the label" in table
    assert len(table) < 10_000  # also in a pipe
    assert call(monkeypatch, *audit, "--predictions", second, "--format", "json") == 0
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
    assert "expected images of Training" in shown.err
    assert shown.out == ""


def run_accuracy(run: Path) -> float:
    accuracy: float = json.loads((run / "report.json").read_text())["results"]["validation"]["accuracy"]
    return accuracy


def test_train_evaluate_and_study(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    recipe: Path,
) -> None:
    run = tmp_path / "run"
    assert call(monkeypatch, "train", recipe, *DATA, "--out", run) == 0
    shown = capsys.readouterr()
    assert f"validation accuracy {run_accuracy(run):.1%}" in shown.out
    assert str(run / "report.html") in shown.out
    assert "epoch 1/1" in shown.err
    arguments = ("train", recipe, *DATA, "--out", tmp_path / "again", "--format", "json", "--quiet")
    assert call(monkeypatch, *arguments) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((tmp_path / "again" / "report.json").read_text())
    assert shown.err == ""
    assert call(monkeypatch, "train", recipe, *DATA, "--out", run) == 2
    assert "--resume" in capsys.readouterr().err
    evaluate = ("evaluate", run, *DATA)
    assert call(monkeypatch, *evaluate, "--split", "private_test", "--views", "10", "--format", "json") == 0
    results = json.loads(capsys.readouterr().out)
    stored = load_predictions(run / "predictions" / "private_test.npz")
    assert results["private_test"]["accuracy"] == (stored.probabilities.argmax(1) == stored.label).mean()
    assert results["private_test"]["views"] == 10
    assert call(monkeypatch, *evaluate) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Validation" in line]
    assert f"{100 * run_accuracy(run):.1f}\N{NO-BREAK SPACE}%" in line
    assert call(monkeypatch, "evaluate", run, *DATA, "--split", "private") == 2
    assert call(monkeypatch, "evaluate", run, *DATA, "--votes", "none.csv") == 2
    capsys.readouterr()
    assert call(monkeypatch, *evaluate, "--robustness", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["robustness"] == json.loads((run / "robustness.json").read_text())
    assert (run / "figures" / "robustness.svg").read_text() in read_page(run / "report.html").plots
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


@pytest.mark.parametrize(("alias", "name"), [("val", "validation"), ("test", "published_test"), ("train", "training")])
def test_splits_may_be_called_as_folders_are(
    alias: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call_to = ("evaluate", "nano", "--data", "synthetic:70", "--accelerator", "cpu", "--format", "json", "--split")
    assert call(monkeypatch, *call_to, alias) == 0
    assert name in json.loads(capsys.readouterr().out)
