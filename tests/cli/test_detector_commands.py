"""``mien train``, ``evaluate`` and ``export`` with a face detector, through the real entry point."""

import json
from pathlib import Path

import pytest
from tests.cli.test_export import call
from tests.detection_tables import write_tables
from tests.training.test_detector import PLAIN, SHORT, TINY


def test_a_detector_from_recipe_to_file(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_tables(tmp_path / "tables")
    data, run, file = f"detection:{tmp_path / 'tables'}", tmp_path / "run", tmp_path / "faces.onnx"
    settings = [part for each in [*TINY, *SHORT, *PLAIN, "training.epochs=1"] for part in ("--set", each)]
    train = ("train", "detector/faces", "--data", data, "--out", run, "--accelerator", "cpu", *settings)
    assert call(monkeypatch, *train) == 0
    assert "epoch 1: loss" in capsys.readouterr().err
    assert call(monkeypatch, *train, "--resume", "--format", "json") == 0
    capsys.readouterr()
    assert call(monkeypatch, "export", run, "--out", file, "--threshold", 0.01) == 0
    capsys.readouterr()
    found = {}
    for model in (run, file):
        out = tmp_path / f"of {model.name}"
        chosen = ("--threshold", 0.01, "--out", out, "--format", "json")
        assert call(monkeypatch, "evaluate", model, "--data", data, *chosen) == 0
        found[model.name] = json.loads(capsys.readouterr().out)["results"]
        assert json.loads((out / "detection.json").read_text())["results"] == found[model.name]
    assert set(found["run"]) == {"drawn", "noise"}
    assert found["run"]["drawn"]["recall_0.3_24"] == pytest.approx(found["faces.onnx"]["drawn"]["recall_0.3_24"])
    assert call(monkeypatch, "evaluate", file, "--data", "synthetic:70") == 0
    assert "found at 192" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--data", "synthetic:70"), 2, "expected --data detection:FOLDER"),
        (("--data", "detection:nowhere"), 2, "nowhere: expected a folder of Parquet tables"),
        (("--data", "detection:nowhere", "--devices", 2), 2, "leave them out"),
        (("--data", "detection:nowhere", "--set", "detector.width=3"), 2, "Did you mean 'widths'"),
    ],
)
def test_bad_calls(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], arguments, code, said) -> None:
    assert call(monkeypatch, "train", "detector/faces", "--out", tmp_path / "run", *arguments) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
