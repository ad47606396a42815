"""Scene accuracy: what is counted, and how far a frame moves."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fake_runs import FakePredictor

from mien.cli import main
from mien.data import FaceSamples, Split
from mien.data.scenes import Scene
from mien.errors import DataError
from mien.evaluation import scenes
from mien.evaluation.metrics import wilson_interval
from mien.face.crop import REFERENCE, Framing, points_frame
from mien.face.detect import DETECTORS, Detection
from mien.face.result import Box, Points

UPRIGHT: Points = tuple(REFERENCE)


class Knowing:
    """A detector that is told where faces are: their points lie where those of FER-2013 do."""

    name = "knowing"
    framing = Framing(1.0)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, points: bool, every: int = 1) -> None:
        self.points, self.every = points, every
        self.scenes: dict[int, Scene] = {}
        inner = scenes.compose_scene

        def composed(*given: object) -> Scene:
            scene = inner(*given)  # type: ignore[arg-type]
            self.scenes[id(scene.pixels)] = scene
            return scene

        monkeypatch.setattr(scenes, "compose_scene", composed)

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        scene = self.scenes[id(picture)]
        places = scene.to_scene(np.array(UPRIGHT))
        middle = scene.to_scene(np.array([24.0, 24.0]))
        box = Box(round(middle[0] - 96), round(middle[1] - 96), 192, 192)
        beside = Detection(Box(0, 0, 5, 5), 0.95)  # in the corner is never a face
        if len(self.scenes) % self.every:
            return [beside]
        return [beside, Detection(box, 0.9, tuple(map(tuple, places.tolist())) if self.points else None)]


def nearest(drawn: FaceSamples) -> FakePredictor:
    """A network that answers with the label of the drawn face that looks most like the one it is given."""
    known = drawn.images.reshape(len(drawn.images), -1).astype(np.float32)

    def answer(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen = faces.reshape(len(faces), -1).astype(np.float32)
        distances = ((seen[:, None] - known[None]) ** 2).sum(2)
        return np.eye(7, dtype=np.float32)[drawn.labels[distances.argmin(1)]]

    return FakePredictor(answer)


@pytest.mark.parametrize("angle", [0.0, 30.0, -90.0])
def test_by_points_turned_faces_are_named_as_upright_ones(
    drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch, angle: float
) -> None:
    (found,) = scenes.measure_scenes(
        nearest(drawn), drawn, Split.VALIDATION, Knowing(monkeypatch, points=True), [angle]
    )
    assert (found.detector, found.split, found.angle, found.scenes) == ("knowing", "validation", angle, 21)
    assert (found.found, found.accuracy, found.accuracy_given) == (1, 1, 1)
    assert found.accuracy_ci95 == wilson_interval(21, 21)
    assert 0 <= found.changed < 0.5


def test_by_boxes_they_are_not(drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    upright, turned = scenes.measure_scenes(
        nearest(drawn), drawn, Split.VALIDATION, Knowing(monkeypatch, points=False), [0, 90]
    )
    assert upright.accuracy == 1
    assert turned.accuracy < 0.7


def test_faces_that_are_not_found_count_as_that_alone(drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "cores", lambda: 1)  # in order
    detector = Knowing(monkeypatch, points=True, every=3)
    (found,) = scenes.measure_scenes(nearest(drawn), drawn, Split.VALIDATION, detector, [0], count=9)
    assert (found.scenes, found.found, found.accuracy) == (9, pytest.approx(1 / 3), 1)
    with pytest.raises(DataError, match=r"expected faces that the detector knowing finds .* got none of 9"):
        scenes.measure_scenes(
            nearest(drawn), drawn, Split.VALIDATION, Knowing(monkeypatch, points=True, every=99), count=9
        )


@pytest.mark.parametrize("points", [None, UPRIGHT])
def test_a_moved_frame_overlaps_by_nine_tenths(points: Points | None) -> None:
    if points is not None:
        points = tuple((1000 + 40 * x, 1000 + 40 * y) for x, y in points)
    before = Detection(Box(1000, 1000, 1920, 1920), 0.9, points)
    seen = set()
    for row in range(20):
        after = scenes.moved(before, row)
        assert after == scenes.moved(before, row)
        frames = [each.box if points is None else points_frame(each.points).bounds() for each in (before, after)]  # type: ignore[arg-type]
        assert overlap(*frames) == pytest.approx(0.9, abs=0.002)
        seen.add(after.box)
    assert len(seen) == 20
    assert {box.width > 1920 for box in seen} == {True, False}


def overlap(one: Box, other: Box) -> float:
    ends = [
        min(a + size, b + side) - max(a, b)
        for a, size, b, side in zip(one[:2], one[2:], other[:2], other[2:], strict=True)
    ]
    common = ends[0] * ends[1]
    return common / (one.width * one.height + other.width * other.height - common)


def test_the_command_measures_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mien", "evaluate", "nano", "--data", "synthetic:70", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    monkeypatch.setitem(DETECTORS, "middle", MiddleOfPictures)
    out = tmp_path / "out"
    more = ("--detector", "middle", "--angle", "0", "--angle", "30")
    assert call("--scenes", *more, "--format", "json", "--out", str(out)) == 0
    found = json.loads(capsys.readouterr().out)["scenes"]
    assert [(each["detector"], each["angle"], each["scenes"]) for each in found] == [
        ("middle", 0.0, 7), ("middle", 30.0, 7),
    ]  # fmt: skip
    assert all(0 < each["found"] < 1 for each in found)  # the middle of a picture is on some of the faces
    assert json.loads((out / "scenes.json").read_text(encoding="utf-8")) == found
    assert call("--scenes", "--detector", "middle") == 0
    assert "0 degrees" in capsys.readouterr().out
    assert call(*more) == 2
    assert "--scenes" in capsys.readouterr().err
    assert call("--scenes", "--detector", "nowhere.onnx") == 2


class MiddleOfPictures:
    """Finds a face in the middle of every picture."""

    name, framing = "middle", Framing(1.0)

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        height, width = picture.shape[:2]
        return [Detection(Box(width // 4, height // 4, width // 2, height // 2), 1.0)]


def test_what_is_stored(tmp_path: Path) -> None:
    result = scenes.SceneResult("d", "validation", 30.0, 10, 0.9, 0.5, (0.4, 0.6), 0.7, 0.1)
    scenes.save_scenes(tmp_path, [result])
    (stored,) = json.loads((tmp_path / "scenes.json").read_text(encoding="utf-8"))
    assert stored == {
        "detector": "d", "split": "validation", "angle": 30.0, "scenes": 10, "found": 0.9, "accuracy": 0.5,
        "accuracy_ci95": [0.4, 0.6], "accuracy_given": 0.7, "changed": 0.1,
    }  # fmt: skip
