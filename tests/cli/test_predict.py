"""``mien predict``, ``models`` and ``doctor``, through the real entry point."""

import csv
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.face.tiny_network import LABELS, band, write_network

from mien.cli import main
from mien.face.images import read_image


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mien", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them below a folder, and a file that is no picture."""
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    for name, emotion in (("a.png", "happy"), ("b.jpg", "sad"), ("trip/a.png", "fear")):
        Image.fromarray(band(emotion)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_json_goes_to_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    assert call(monkeypatch, "predict", folder, *options) == 0
    pictures = json.loads(capfd.readouterr().out)
    assert [Path(picture["path"]).relative_to(folder).as_posix() for picture in pictures] == [
        "a.png",
        "b.jpg",
        "trip/a.png",
    ]
    assert [picture["faces"][0]["emotion"] for picture in pictures] == ["happy", "sad", "fear"]
    assert pictures[0]["faces"][0]["box"] == {"x": 0, "y": 0, "width": 48, "height": 48}
    assert list(pictures[0]["faces"][0]["probabilities"]) == LABELS
    assert pictures[0]["error"] is None


def test_every_format_holds_the_same(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    import pyarrow.parquet

    outputs = {}
    for kind in ("csv", "jsonl", "table"):
        assert call(monkeypatch, "predict", folder, "--format", kind, *options) == 0
        outputs[kind] = capfd.readouterr().out
    rows = list(csv.DictReader(io.StringIO(outputs["csv"])))
    assert [row["emotion"] for row in rows] == ["happy", "sad", "fear"]
    assert [json.loads(line)["faces"][0]["emotion"] for line in outputs["jsonl"].splitlines()] == [
        "happy",
        "sad",
        "fear",
    ]
    lines = outputs["table"].splitlines()
    assert [word for line in lines for word in line.split() if word in LABELS][::2] == ["happy", "sad", "fear"]
    for ending in ("json", "jsonl", "csv", "parquet"):
        assert call(monkeypatch, "predict", folder, "--out", tmp_path / "out" / f"rows.{ending}", *options) == 0
    assert capfd.readouterr().out == ""
    assert (tmp_path / "out" / "rows.csv").read_text() == outputs["csv"]
    table = pyarrow.parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    assert [row["emotion"] for row in table] == ["happy", "sad", "fear"]
    assert list(table[0]) == list(rows[0])


def test_a_bad_file_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    assert call(monkeypatch, "predict", folder, folder / "notes.txt", *options) == 1
    shown = capfd.readouterr()
    assert [picture["error"] is None for picture in json.loads(shown.out)] == [True, False, True, False]
    assert "b.jpg" in shown.err
    assert "2 of 4 files could not be read" in shown.err
    assert "Traceback" not in shown.err


def test_crops_are_what_the_network_saw_and_names_do_not_collide(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "crops"
    assert call(monkeypatch, "predict", folder / "a.png", folder / "trip", folder, "--crops", out, *options) == 0
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert names == ["a-0-2.png", "a-0-3.png", "a-0.png", "b-0.png", "trip/a-0.png"]
    np.testing.assert_array_equal(read_image(out / "a-0.png")[..., 0], band("happy"))
    np.testing.assert_array_equal(read_image(out / "a-0-2.png")[..., 0], band("fear"))


def test_annotated_pictures_are_written(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert call(monkeypatch, "predict", folder, "--annotated", tmp_path / "drawn", *options) == 0
    drawn = sorted(path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*"))
    assert drawn == ["a.png", "b.jpg", "trip/a.png"]
    assert (read_image(tmp_path / "drawn" / "a.png").std(axis=2) > 0).any()


def test_a_picture_is_never_drawn_over(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    for inside in (folder, folder / "trip"):
        before = {path: path.read_bytes() for path in inside.iterdir() if path.is_file()}
        assert call(monkeypatch, "predict", inside, *options, "--annotated", inside) == 2
        assert "that of the input" in capfd.readouterr().err
        assert {path: path.read_bytes() for path in inside.iterdir() if path.is_file()} == before


def test_patterns_and_odd_names(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/\xff [x].png")
    Image.fromarray(band("angry")).save(odd)
    os.symlink(folder, folder / "trip" / "round")
    os.symlink(folder / "nowhere.png", folder / "trip" / "broken.png")
    assert call(monkeypatch, "predict", folder / "**" / "*.png", odd, *options) == 1
    pictures = json.loads(capfd.readouterr().out)
    emotions = [picture["faces"][0]["emotion"] if picture["faces"] else None for picture in pictures]
    assert emotions.count("angry") == 2
    assert emotions.count(None) == 1
    assert call(monkeypatch, "predict", folder, *options) == 1  # the broken link; the circle is not followed
    assert len(json.loads(capfd.readouterr().out)) == 5


def test_folders_that_cannot_be_looked_into_are_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:  # root, who runs some tests, may look into every folder
        if str(path).endswith("trip"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert call(monkeypatch, "predict", folder, *options) == 1
    shown = capfd.readouterr()
    assert [picture["error"] is None for picture in json.loads(shown.out)] == [True, True, False]
    assert "trip: expected a readable picture file" in shown.err


def test_files_that_lead_nowhere_or_wait_for_ever_are_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    assert call(monkeypatch, "predict", folder, folder / "loop.png", folder / "pipe.png", *options) == 1
    shown = capfd.readouterr()
    assert [picture["error"] is None for picture in json.loads(shown.out)] == [
        *2 * [True],
        *2 * [False],
        True,
        *2 * [False],
    ]
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict"], 2, "Missing argument"),
        (["predict", "https://example.org/a.jpg"], 2, "URL https://example.org"),
        (["predict", "nowhere.jpg"], 2, "expected a file or folder, got nowhere.jpg"),
        (["predict", "*.jpg"], 2, "got *.jpg, which no file matches"),
        (["predict", "."], 2, "expected a picture in ."),
        (["predict", "face.PNG", "--format", "yaml"], 2, "unknown format 'yaml'"),
        (["predict", "face.PNG", "--format", "csv", "--out", "x.json"], 2, "got csv and x.json"),
        (["predict", "face.PNG", "--format", "table", "--out", "x.json"], 2, "got table and x.json"),
        (["predict", "face.PNG", "--out", "x.xlsx"], 2, ".parquet"),
        (["predict", "face.PNG", "--detector", "haar"], 2, "libfacedetection"),
        (["predict", "face.PNG", "--model", "nowhere.onnx"], 2, "no model at nowhere.onnx"),
        (["predict", "face.PNG", "--model", "face.PNG"], 1, "expected an ONNX network"),
        (["models", "--format", "csv"], 2, "unknown format"),
    ],
)
def test_wrong_calls_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    if "." in arguments:
        monkeypatch.chdir(tmp_path / "empty")
    else:
        monkeypatch.chdir(tmp_path)
        Image.fromarray(band("happy")).save("face.PNG")
        write_network(Path("base.onnx"))
        if "--model" not in arguments:
            monkeypatch.setattr("mien.face.network.ASSETS", tmp_path)
    assert call(monkeypatch, *arguments) == code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_an_output_folder_that_cannot_be_made_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    assert call(monkeypatch, "predict", folder, "--crops", folder / "a.png" / "crops", *options) in (1, 2)
    assert "a.png" in capfd.readouterr().err


def test_the_format_of_the_file_may_be_said_twice(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    out = folder / "rows.json"
    assert call(monkeypatch, "predict", folder, "--format", "json", "--out", out, *options) == 0
    assert [len(picture["faces"]) for picture in json.loads(out.read_text())] == [1, 1, 1]
    assert capfd.readouterr().out == ""


def test_quiet_leaves_errors_alone_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    arguments = ("predict", folder, folder / "notes.txt", *options)
    assert call(monkeypatch, *arguments, "--quiet") == 1
    shown = capfd.readouterr()
    assert len(json.loads(shown.out)) == 4
    assert [line.startswith("mien: ") for line in shown.err.splitlines()] == [True, True]
    assert "notes.txt" in shown.err


def full_card(network: Path) -> dict[str, object]:
    """What stands beside a network in the package."""
    found = {"n": 2, "accuracy": 0.7, "macro_f1": 0.6, "nll": 0.9, "ece": 0.02, "accuracy_ci95": [0.68, 0.72]}
    return {
        "model": "tiny",
        "recipe": "tiny",
        "results": {
            "private_test": {**found, "confusion": [[2]]},
            "private_test_unseen": {**found, "accuracy": 0.69, "confusion": [[2]]},
        },
        "bytes": 11_000_000,
        "faces_per_second": 1234.5,
        "license": "Apache-2.0",
        "sha256": hashlib.sha256(network.read_bytes()).hexdigest(),
    }


def test_models_and_doctor_are_read_in_a_pipe_and_are_data_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("mien.face.network.ASSETS", tmp_path)
    assert call(monkeypatch, "doctor") == 1
    assert "models" in capsys.readouterr().out
    card = full_card(write_network(tmp_path / "base.onnx"))
    (tmp_path / "base.json").write_text(json.dumps(card))
    assert call(monkeypatch, "models") == 0
    shown = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("base", "70.0 %", "68.0\N{EN DASH}72.0 %", "69.0 %", "2.0 %", "11.0 MB", "1,234", "Apache-2.0"):
        assert words in shown
    assert len(shown.splitlines()) < 10
    assert call(monkeypatch, "models", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "base", **card}]
    assert call(monkeypatch, "doctor") == 0
    shown = capsys.readouterr().out
    assert "model base" in shown
    assert "detector" in shown
    assert call(monkeypatch, "doctor", "--format", "json") == 0
    findings = json.loads(capsys.readouterr().out)
    assert {"mien", "packages", "telemetry", "model base", "cache", "GPU"} < {finding["name"] for finding in findings}
    assert not any(finding["broken"] for finding in findings)


@pytest.mark.parametrize("command", [["predict", "--out"], ["video", "--rows"]])
def test_the_ending_of_the_output_is_looked_at_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for room in ("predict", "video"):
        monkeypatch.setattr(f"mien.cli.{room}.Recognizer", lambda *_, **__: pytest.fail("asked for a detector"))
    name, option = command
    assert call(monkeypatch, name, tmp_path / "a.png", option, tmp_path / "x.xlsx") == 2
    assert ".parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "detector", "is_hinted"), [((48, 48), None, True), ((48, 60), None, False), ((48, 48), "none", False)]
)
def test_small_squares_without_a_face_may_be_faces_cut_out_already(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    size: tuple[int, int],
    detector: str | None,
    is_hinted: bool,
) -> None:
    Image.new("L", size, 128).save(tmp_path / "blank.png")
    options = [] if detector is None else ["--detector", detector]
    assert call(monkeypatch, "predict", tmp_path / "blank.png", *options) == 0
    assert ("add --detector none" in capfd.readouterr().err) == is_hinted
