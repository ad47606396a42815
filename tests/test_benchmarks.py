"""The benchmarks run and print their table; nothing here looks at the times."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from benchmarks.framing import Look, fit_framing, judge_framing
from benchmarks.reference_graph import reference_macs, write_reference
from PIL import Image

from mien.data import draw_faces
from mien.face.crop import Framing
from mien.face.network import EmotionNetwork
from mien.face.result import Box

ROOT = Path(__file__).resolve().parents[1]


def test_the_training_benchmark_prints_its_table(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    options = ["--data", "synthetic:210", "--cases", "baseline_cnn", "--steps", "2", "--repeats", "1", "--json", found]
    command = [sys.executable, "-m", "benchmarks.training", *map(str, options)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    header, rule, row = [line.strip("|").split("|") for line in run.stdout.splitlines() if line.startswith("|")]
    assert len(header) == len(rule) == len(row)
    assert row[0].strip() == "`baseline_cnn`, 48 px"
    measured = json.loads(found.read_text())["cases"]["baseline_cnn"]
    assert len(measured["pictures_per_second"]) == len(measured["textbook_pictures_per_second"]) == 1
    assert 0 < measured["batch_share"] < 1


def test_an_unknown_case_is_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks.training", "--cases", "baseline"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert run.stdout == ""
    assert "baseline_cnn" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_recognition_benchmark_prints_its_table(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    options = [
        "--repeats",
        "1",
        "--pictures",
        "10",
        "--frames",
        "3",
        "--batches",
        "1",
        "--threads",
        "1",
        "--json",
        found,
    ]
    options += ["--parts", "start,network,detectors,video,pictures", "--int8", write_reference(tmp_path / "other.onnx")]
    command = [sys.executable, "-m", "benchmarks.recognition", *map(str, options)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    lines = [line.strip("|").split("|") for line in run.stdout.splitlines() if line.startswith("|")]
    assert {len(line) for line in lines} == {3}
    assert "(100% found)" in next(line[0] for line in lines if "640x480, one face" in line[0])
    measured = json.loads(found.read_text())
    assert set(measured["network"]["faces_per_second"]) == {"float32", "int8", "reference"}
    assert measured["start"]["predict"][0] > measured["start"]["python"][0]
    assert set(measured["pictures"]["by_count"]) == {"1", "10"}
    seconds = measured["detectors"]["processor_seconds"]
    assert {len(each) for each in seconds.values()} == {4}
    assert all(value > 0 for each in seconds.values() for value in each)
    assert measured["video"]["faces_found"] == {"640x480, one face": 3, "1280x720, three faces": 9}


def test_the_reference_graph_is_always_the_same_and_keeps_the_contract(tmp_path: Path) -> None:
    one, other = (write_reference(tmp_path / name).read_bytes() for name in ("one.onnx", "other.onnx"))
    assert one == other
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)
    probabilities = EmotionNetwork(tmp_path / "one.onnx", threads=1).probabilities(faces)
    assert probabilities.shape == (5, 7)
    assert probabilities.std(0).max() > 1e-3
    assert reference_macs() == 74_485_504


def test_a_framing_that_was_fitted_gives_the_true_places() -> None:
    """Boxes of any size and shape that lie in the same way in their faces."""
    truth, random = Framing(1.13, 0.02, -0.04), np.random.default_rng(0)
    looks = []
    for _ in range(60):
        place, shape = Box(*random.integers(0, 320, 2).tolist(), 192, 192), random.uniform(0.7, 0.9)
        height = place.width / truth.scale / np.sqrt(shape)
        width = shape * height
        x = place.x + place.width / 2 - width * (0.5 + truth.right)
        y = place.y + place.height / 2 - height * (0.5 + truth.down)
        box = Box(round(x), round(y), round(width), round(height))
        looks.append(Look(np.zeros((48, 48), np.uint8), np.zeros((512, 512), np.uint8), 0, place, box, 0.9, ()))
    fitted = {name: float(np.median(values)) for name, values in fit_framing(looks).items()}
    assert abs(fitted["scale"] - truth.scale) < 0.005
    assert abs(fitted["right"] - truth.right) < 0.005
    assert abs(fitted["down"] - truth.down) < 0.005
    side, right, down, overlap = judge_framing(truth, looks)
    assert np.abs(side - 1).max() < 0.02
    assert max(np.abs(right).max(), np.abs(down).max()) < 0.5
    assert overlap.min() > 0.96
    shifted = judge_framing(Framing(truth.scale, truth.right, truth.down + 0.1), looks)
    assert np.median(shifted[2] - down) > 4  # a tenth of the box's height, in 48ths of the face


def test_the_framing_benchmark_prints_its_tables(tmp_path: Path) -> None:
    model, photo = write_reference(tmp_path / "reference.onnx"), tmp_path / "photo.png"
    face = cv2.resize(draw_faces(10, seed=1).images[1], (192, 192))
    Image.fromarray(np.pad(face, 150, constant_values=128)).save(photo)
    parts = {"fit": ["--photo", f"{photo}:1"], "check": ["--model", str(model)], "scenes": ["--model", str(model)]}
    for part, more in parts.items():
        command = [sys.executable, "-m", "benchmarks.framing", part, "--data", "synthetic:210", "--count", "16", *more]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        tables = [line.count("|") for line in run.stdout.splitlines() if line.startswith("|")]
        if part == "fit":
            assert tables == 6 * [8] + 10 * [10]
            assert "photo: faces 0.9" in run.stdout
        elif part == "check":
            assert tables == 10 * [9]
            assert "not measured" not in run.stdout
        else:
            assert tables == 7 * [8]


def test_peak_memory_is_that_of_the_command() -> None:
    helper = ROOT / "benchmarks" / "peak_memory.py"
    command = [sys.executable, "-c", "bytearray(200_000_000); raise SystemExit(3)"]
    ballast = bytearray(400_000_000)  # what measures is larger than what is measured
    run = subprocess.run([sys.executable, str(helper), *command], capture_output=True, text=True, timeout=60)
    assert len(ballast) > 0
    assert run.returncode == 3
    assert 200e6 < int(run.stdout) < 300e6


def test_the_audit_benchmark_finds_the_same_pairs_as_all_pairs() -> None:
    command = [sys.executable, "-m", "benchmarks.audit", "--data", "synthetic:300", "--pictures", "900"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    row = [line.strip("|").split("|") for line in run.stdout.splitlines() if line.startswith("|")][-1]
    assert row[0].strip() == "900"
    assert row[1].strip().endswith(" s")


def test_the_benchmark_of_many_pictures_runs_every_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.scale_data", "--count", "420", "--minutes", "0.01"]
    run = subprocess.run(
        [*command, "--json", str(tmp_path / "scale.json")], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    measured = json.loads((tmp_path / "scale.json").read_text(encoding="utf-8"))["measured"]
    assert [each["name"] for each in measured] == [
        "first reading", "later reading", "training", "evaluation", "audit",
    ]  # fmt: skip
    assert all(0 < each["anonymous"] <= each["resident"] < 4 for each in measured)
    assert run.stdout.count("| < 4 GB") == 4
