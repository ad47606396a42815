"""CONTRIBUTING's six changes, applied to a copy of the package as they are written, work in every command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.data import draw_faces

ROOT = Path(__file__).parents[1]

# One process calls every command, since importing PyTorch is most of the time that each would take.
COMMANDS = """
import sys
from mien.cli import main

def mien(*arguments):
    sys.argv = ["mien", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)

data = ["--data", "arrays:faces.npz"]
small = ["--set", "data.protocol=published", "--set", "training.epochs=1", "--no-pictures", "--accelerator", "cpu"]
mien("train", "controlled/pooled_cnn", *data, "--out", "model", *small, "--set", "model.options.width=8")
mien("train", "controlled/attention_cnn", *data, "--out", "block", *small,
     "--set", "model.options.attention=spatial_squeeze")
mien("evaluate", "model", *data, "--no-pictures")
mien("compare", "model", "block", "--out", "comparison")
mien("explain", "face.png", "--model", "block", "--detector", "middle", "--out", "explanation")
mien("export", "model", "--out", "model.onnx")
mien("export", "block", "--out", "block.onnx")
mien("predict", "face.png", "--model", "block.onnx", "--detector", "middle", "--out", "found.json")
"""


def changes() -> list[tuple[str, list[tuple[list[str], list[str]]]]]:
    """File -> hunks, each of context lines and of the lines that follow them."""
    found: list[tuple[str, list[tuple[list[str], list[str]]]]] = []
    for block in re.findall(r"^```diff\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S):
        for line in block.splitlines():
            if line.startswith("+++ "):
                found.append((line.removeprefix("+++ "), [([], [])]))
            elif line.startswith("@@"):
                found[-1][1].append(([], []))
            elif line.startswith("+"):
                found[-1][1][-1][1].append(line[1:])
            else:
                found[-1][1][-1][0].append(line[1:])
    return found


def apply(root: Path) -> None:
    """Write new files, and add lines to old ones: an import before the first of ours, others behind their context."""
    for name, hunks in changes():
        path = root / name
        if not path.exists():
            path.write_text("\n".join(hunks[0][1]) + "\n")
            continue
        for context, added in hunks:
            text, lines = path.read_text(), "\n".join(added) + "\n"
            if context:
                before = "\n".join(context) + "\n"
                assert text.count(before) == 1, f"{name}: expected these lines once: {before}"
                path.write_text(text.replace(before, before + lines))
            else:
                path.write_text(re.sub("^from mien", lines + "from mien", text, count=1, flags=re.M))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the six changes, and a folder ``work`` with what the commands need."""
    root = tmp_path_factory.mktemp("changed")
    for folder in ("src", "tests", "recipes", "suites"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    apply(root)
    (work := root / "work").mkdir()
    faces = draw_faces(140, seed=5)
    np.savez(work / "faces.npz", images=faces.images, labels=faces.labels)
    Image.fromarray(draw_faces(1, seed=2, size=96).images[0]).save(work / "face.png")
    return root


def run(copy: Path, folder: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy / folder, env=environment, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_there_is_one_change_of_each_kind() -> None:
    tables = [name for name, hunks in changes() if any(context for context, _ in hunks)]
    assert len(tables) == len(set(tables)) == 6
    for name, hunks in changes():
        if name in tables:
            assert [len(added) for _, added in hunks] == [1, 1], f"{name}: an import and a line of the table"


def test_every_command_takes_them(copy: Path) -> None:
    printed = run(copy, "work", "-c", COMMANDS)
    work = copy / "work"
    assert "top-2 accuracy" in printed
    for name in ("model", "block"):
        found = json.loads((work / name / "report.json").read_text())["results"]["validation"]
        assert found["accuracy"] <= found["top2_accuracy"] <= 1
        assert found["top2_accuracy_ci95"][0] <= found["top2_accuracy"] <= found["top2_accuracy_ci95"][1]
        assert "Confusions of" in (work / name / "confusions.html").read_text()
    report = json.loads((work / "model" / "report.json").read_text())
    assert (report["model"], report["data"], report["row_source"]) == ("pooled_cnn", "faces", "file")
    assert "width = 8" in (work / "model" / "recipe.toml").read_text()
    compared = json.loads((work / "comparison" / "compare.json").read_text())
    assert all("top2_accuracy" in entry for entry in compared["entries"])
    assert "top-2 accuracy" in (work / "comparison" / "compare.html").read_text()
    methods = json.loads((work / "explanation" / "explain.json").read_text())["methods"]
    assert any("attention" in method["name"] for method in methods)
    [picture] = json.loads((work / "found.json").read_text())
    assert [face["box"] for face in picture["faces"]] == [{"x": 24, "y": 24, "width": 48, "height": 48}]


def test_the_contract_tests_run_over_them(copy: Path) -> None:
    names = "pooled_cnn or spatial_squeeze or middle or top2"
    tests = ["tests/models", "tests/face/test_detect.py", "tests/evaluation/test_metrics.py"]
    printed = run(copy, ".", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", names)
    assert int(re.findall(r"(\d+) passed", printed)[0]) >= 4, printed
