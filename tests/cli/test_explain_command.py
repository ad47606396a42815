"""``mien explain``: exit codes, what stands on stdout, and what is written."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.conftest import small_recipe
from tests.fake_runs import read_page

from mien.cli import main
from mien.data import FaceSamples
from mien.explain import explain
from mien.models import create_classifier
from mien.recipe import to_toml
from mien.runs import Run
from mien.runs.checkpoint import Checkpoint, save_checkpoint


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for a busy core cost such small batches ten times the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the weights of a seed, as if they had been trained."""
    monkeypatch.setattr(explain, "MAX_CHECKED", 7)
    made, recipe = (
        Run(tmp_path / "run"),
        small_recipe(model={"name": "compact_resnet", "widths": [8, 8], "depths": [1, 1]}),
    )
    torch.manual_seed(0)
    save_checkpoint(made.best_checkpoint, Checkpoint(recipe, create_classifier(recipe.model).state_dict()))
    made.recipe_path.write_text(to_toml(recipe))
    return made.path


@pytest.fixture
def face(tmp_path: Path, drawn: FaceSamples) -> Path:
    path = tmp_path / "photo of $one.png"
    Image.fromarray(drawn.images[0]).save(path)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mien", "explain", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--model"),
        (["--model", "RUN"], 2, "one of them"),
        (["FACE", "--data", "synthetic:70", "--model", "RUN"], 2, "one of them"),
        (["FACE", "--model", "nowhere"], 2, "no run at nowhere"),
        (["FACE", "--model", "base.onnx"], 2, "gradients"),
        (["FACE", "--model", "."], 1, "holds no run"),
        (["nowhere.jpg", "--model", "RUN"], 2, "nowhere.jpg"),
        (["FACE", "--model", "RUN", "--detector", "eyes"], 2, "eyes"),
        (["FACE", "--model", "RUN", "--accelerator", "tpu"], 2, "cuda"),
        (["--data", "synthetic:70", "--model", "RUN", "--split", "validaton"], 2, "Did you mean 'validation'"),
        (["FACE", "--model", "RUN", "--split", "validation"], 2, "with --data only"),
        (["FACE", "--model", "RUN", "--format", "csv"], 2, "'csv'"),
        (["--data", "synthetic:7", "--model", "RUN"], 2, "at least 70"),
    ],
)
def test_wrong_calls_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    run: Path,
    face: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"RUN": str(run), "FACE": str(face)}
    assert call(monkeypatch, *(named.get(argument, argument) for argument in arguments)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_pictures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path, face: Path
) -> None:
    out = tmp_path / "out"
    assert call(monkeypatch, face, "--model", run, "--detector", "none", "--out", out, "--format", "json") == 0
    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert rows == json.loads((out / "explain.json").read_text())
    assert rows["pictures"][0]["path"] == str(face)
    assert rows["methods"][0]["verdict"] in ("passes", "fails")
    assert str(out / "explain.html") in shown.err
    page = read_page(out / "explain.html")
    assert "photo of $one.png" in page.text
    assert (out / "figures" / "000_photo of $one.png").is_file()


def test_a_bad_picture_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path, face: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    assert call(monkeypatch, bad, face, "--model", run, "--detector", "none", "--format", "json") == 1
    shown = capsys.readouterr()
    first, second = json.loads(shown.out)["pictures"]
    assert first["error"] in shown.err
    assert len(second["faces"]) == 1


def test_averages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, run: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--data", "synthetic:70", "--model", run, "--split", "training", "--out", out, "--no-pictures")
    assert call(monkeypatch, *arguments, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert (rows["data"], rows["split"], rows["n"]) == ("synthetic", "training", 56)
    assert sum(found["n"] for found in rows["methods"][0]["emotions"].values()) == rows["right"] > 0
    assert "on drawn faces" in read_page(out / "explain.html").text
    assert not (run / "looks.jsonl").exists()
    assert call(monkeypatch, "--data", "synthetic:70", "--model", run, "--split", "private_test") == 0
    assert "mien explain" in json.loads((run / "looks.jsonl").read_text())["command"]


@pytest.mark.parametrize("terminal", [True, False])
def test_tables_on_a_terminal_and_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path, face: Path, terminal: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "160")
    assert call(monkeypatch, face, "--model", run, "--detector", "none") == 0
    shown = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).split())
    assert "picture class confidence eyes mouth" in shown
    assert "maps verdict faces likeness deletion insertion" in shown
    assert re.search(r"Grad-CAM (passes|fails) 1 ", shown)
