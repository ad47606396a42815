"""The benchmarks run and print their table; nothing here looks at the times."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_peak_memory_is_that_of_the_command() -> None:
    helper = ROOT / "benchmarks" / "peak_memory.py"
    command = [sys.executable, "-c", "bytearray(200_000_000); raise SystemExit(3)"]
    ballast = bytearray(400_000_000)  # what measures is larger than what is measured
    run = subprocess.run([sys.executable, str(helper), *command], capture_output=True, text=True, timeout=60)
    assert len(ballast) > 0
    assert run.returncode == 3
    assert 200e6 < int(run.stdout) < 300e6
