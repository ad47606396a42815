"""The five files of docs/extending.md, as they are written and outside of the package, work in every command."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.data import draw_faces
from mien.emotions import EMOTIONS

DOCS = Path(__file__).parents[1] / "docs" / "extending.md"

# One process calls every command, as a user would in the folder of these files, and none of them twice.
COMMANDS = """
import sys
from mien.cli import main

def mien(*arguments, code=0):
    sys.argv = ["mien", *arguments]
    try:
        main()
        found = 0
    except SystemExit as end:
        found = end.code or 0
    assert found == code, (arguments, found)

data, metric = ["--data", "mydata:read_list:faces.csv"], ["--metric", "mymetric:balanced"]
small = ["--set", "data.protocol=published", "--set", "training.epochs=1", "--no-pictures", "--accelerator", "cpu"]
recipe = "controlled/attention_cnn"
mien("train", "mine.toml", *data, "--out", "model", *small, *metric)
mien("train", recipe, *data, "--out", "block", *small, "--set", "model.options.attention=myattention:Eca")
mien("evaluate", "block", *data, *metric, "--no-pictures")
mien("compare", "model", "block", "--out", "comparison", *metric)
mien("explain", "face.png", "--model", "model", "--detector", "mydetector:Middle", "--out", "explanation")
mien("export", "model", "--out", "model.onnx")
mien("export", "block", "--out", "block.onnx")
mien("predict", "face.png", "--model", "model.onnx", "--detector", "mydetector:Middle", "--out", "found.json")
from mien.evaluation import METRICS
assert "mymetric:balanced" not in METRICS
"""

# In another folder, where the modules are not.
ELSEWHERE = """
import sys
from mien.cli import main

for number, arguments in enumerate(CALLS):
    sys.argv = ["mien", *arguments]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    print("rc", number, code)
assert "mynet" not in sys.modules
"""


def files() -> dict[str, str]:
    found = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    return dict(found)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the five files, a list of faces, a photo, and all that the commands wrote."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in files().items():
        (folder / name).write_text(text)
    faces = draw_faces(140, seed=5)
    with (folder / "faces.csv").open("w", newline="") as file:
        for row, (image, label) in enumerate(zip(faces.images, faces.labels, strict=True)):
            Image.fromarray(image).save(folder / f"{row}.png")
            csv.writer(file).writerow([f"{row}.png", EMOTIONS[label].value])
    Image.fromarray(draw_faces(1, seed=2, size=96).images[0]).save(folder / "face.png")
    (folder / "mine.toml").write_text('extends = "smoke/_base"\n[model]\nname = "mynet:Net"\noptions.width = 8\n')
    done = run(folder, COMMANDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder / "stdout").write_text(done.stdout)
    return folder


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    (folder / "call.py").write_text(script)
    # As the console script is called: the current folder is not on Python's path.
    return subprocess.run(
        [sys.executable, "-P", "call.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=600,
    )  # fmt: skip


def test_there_is_a_short_file_of_each_kind() -> None:
    assert set(files()) == {"mynet.py", "myattention.py", "mymetric.py", "mydata.py", "mydetector.py"}
    assert all(len(text.splitlines()) < 25 for text in files().values())


def test_every_command_takes_them(work: Path) -> None:
    assert "balanced accuracy" in (work / "stdout").read_text()
    report = json.loads((work / "model" / "report.json").read_text())
    assert (report["model"], report["recipe"], report["data"]) == ("mynet:Net", "mine", "mylist")
    for name in ("model", "block"):
        found = json.loads((work / name / "report.json").read_text())["results"]["validation"]
        low, high = found["mymetric:balanced_ci95"]
        assert low <= found["mymetric:balanced"] <= high
        assert found["mymetric:balanced"] == pytest.approx(np.mean(found["recall"]), abs=1e-9)
        for page in ("report.html", "model_card.md"):
            assert "balanced accuracy" in (work / name / page).read_text()
    assert "width = 8" in (work / "model" / "recipe.toml").read_text()
    assert 'attention = "myattention:Eca"' in (work / "block" / "recipe.toml").read_text()
    compared = json.loads((work / "comparison" / "compare.json").read_text())
    assert all("mymetric:balanced" in entry for entry in compared["entries"])
    assert "balanced accuracy" in (work / "comparison" / "compare.html").read_text()
    [picture] = json.loads((work / "found.json").read_text())
    assert [face["box"] for face in picture["faces"]] == [{"x": 24, "y": 24, "width": 48, "height": 48}]


def test_elsewhere_the_missing_module_is_named_and_an_onnx_file_needs_none(work: Path, tmp_path: Path) -> None:
    calls = [
        ["evaluate", str(work / "model"), "--data", "synthetic:140", "--no-pictures", "--accelerator", "cpu"],
        ["export", str(work / "model"), "--out", "again.onnx"],
        ["predict", str(work / "face.png"), "--model", str(work / "model.onnx"), "--detector", "none"],
        ["evaluate", str(work / "model.onnx"), "--data", "synthetic:140"],
        ["predict", str(work / "face.png"), "--detector", "mydetector:Middle"],
        ["evaluate", str(work / "model.onnx"), "--data", "synthetic:140", "--metric", "mymetric:balanced"],
        ["audit", "--data", f"mydata:read_list:{work / 'faces.csv'}", "--out", "audit"],
    ]
    done = run(tmp_path, f"CALLS = {calls!r}\n{ELSEWHERE}")
    assert done.returncode == 0, done.stderr[-3000:]
    codes = re.findall(r"^rc \d+ (\d+)$", done.stdout, re.M)
    assert codes == ["2", "2", "0", "0", "2", "2", "2"]
    for name in (
        "model 'mynet:Net'",
        "detector 'mydetector:Middle'",
        "metric 'mymetric:balanced'",
        "data 'mydata:read_list'",
    ):
        assert f"{name}: expected a Python module {name.split(chr(39))[1].partition(':')[0]}, got none" in done.stderr
    assert "Traceback" not in done.stderr
