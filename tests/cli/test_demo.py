"""``make demo``: its recipes, and the drawn group that the recognizer finds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mien import Recognizer
from mien.emotions import EMOTIONS
from mien.recipe import load_recipe
from mien.study import load_suite
from tools import draw_scene

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipes_of_the_demo_differ_in_the_network_alone() -> None:
    recipes = [load_recipe(row.recipe) for row in load_suite("smoke").rows]
    assert {recipe.model.name for recipe in recipes} == {"attention_cnn", "baseline_cnn", "compact_resnet"}
    assert len({recipe.model.model_dump_json() for recipe in recipes}) == 4
    assert len({(recipe.training, recipe.augmentation, recipe.schedule, recipe.data) for recipe in recipes}) == 1


def test_every_face_of_the_drawn_group_is_found_and_most_are_named(tmp_path: Path) -> None:
    file = tmp_path / "new" / "scene.png"
    subprocess.run([sys.executable, ROOT / "tools" / "draw_scene.py", file], check=True, timeout=120)
    picture = Image.open(file)
    np.testing.assert_array_equal(picture, draw_scene.draw_scene())
    faces = Recognizer().recognize(file).faces
    assert len(faces) == len(EMOTIONS)
    found = {}
    for face in faces:
        box = face.box
        (index,) = [
            number
            for number, (x, y) in enumerate(draw_scene.PLACES)
            if box.x < x < box.x + box.width and box.y < y < box.y + box.height
        ]
        found[EMOTIONS[index]] = face.emotion
    assert len(found) == len(EMOTIONS)
    assert sum(drawn is named for drawn, named in found.items()) >= 5


def test_the_last_lines_name_what_the_demo_wrote() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--old-file=install", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    scene, annotated = "build/demo/scene.png", "build/demo/annotated"
    assert [line for line in shown if "mien predict" in line and scene in line and annotated in line]
    assert f"{annotated}/scene.png" in shown[-2]
    assert "build/demo/study/index.html" in shown[-1]
