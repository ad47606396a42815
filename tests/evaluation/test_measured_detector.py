"""Overlaps, suppression, and what an evaluation counts."""

import numpy as np
import pytest
from tests.detection_tables import png

from mien.data import draw_faces
from mien.data.detection import DetectionSamples, FacePicture, Faces
from mien.data.synthetic import read_synthetic
from mien.evaluation import detection
from mien.evaluation.detection import Found
from tools.ship_detector import LEAST_THRESHOLD, choose_threshold

POINTS = np.array([(2, 3), (6, 3), (4, 5), (2, 8), (6, 8)], np.float32)


def found(boxes: list[tuple[float, ...]], scores: list[float], shift: float = 0.0) -> Found:
    placed = np.array(boxes, np.float32).reshape(-1, 4)
    points = placed[:, None, :2] + POINTS * 10 + shift
    return Found(placed, points.astype(np.float32), np.array(scores, np.float32))


def picture(*boxes: tuple[float, ...], name: str = "a") -> FacePicture:
    placed = np.array(boxes, np.float32).reshape(-1, 4)
    faces = Faces.of(placed, placed[:, None, :2] + POINTS * 10)
    return FacePicture("set", name, name, png(np.zeros((200, 200), np.uint8)), faces)


def test_overlap_is_intersection_over_union() -> None:
    one, other = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 10, 10], [20, 20, 5, 5], [0, 0, 10, 10]])
    assert detection.overlaps(one, other) == pytest.approx(np.array([[1 / 3, 0, 1]]))


def test_the_less_confident_of_two_is_dropped() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 10, 10], [7, 0, 10, 10], [50, 50, 10, 10]])
    assert detection.suppress(boxes, np.array([0.6, 0.9, 0.8, 0.05]), 0.1).tolist() == [1, 2]


def test_an_evaluation_counts_faces_by_size_false_boxes_and_points() -> None:
    answers = {
        "a": found([(10, 10, 80, 80), (150, 150, 30, 30)], [0.9, 0.7], shift=3.0),
        "b": found([(100, 100, 30, 20)], [0.55]),
        "c": found([], []),
    }
    pictures = [picture((10, 10, 80, 80), name="a"), picture((100, 100, 30, 30), name="b"), picture(name="c")]
    asked = iter(["a", "b", "c"])
    measured = detection.measure(lambda _: answers[next(asked)], pictures)
    rows = measured.rows(0.5)
    assert rows["recall_0.5_48"] == 1.0
    assert rows["recall_0.5_24"] == 1.0  # 20 of 30 px are two thirds
    assert rows["false_per_100"] == pytest.approx(100 / 3)
    assert "recall_0.5_12" not in rows
    assert measured.recall(24, 48, 0.5, 0.6) == 0.0  # not confident enough
    assert measured.recall(24, 48, 0.7, 0.5) == 0.0  # not close enough
    # The eyes are 40 px apart, and all points of the first face 3 px to the right and down.
    assert measured.point_errors.tolist() == pytest.approx([np.hypot(3, 3) / 40, 0.0])


def test_faces_are_found_in_scenes_by_the_middle_of_a_box() -> None:
    """A detector that boxes what is not grey finds every face, one that boxes the corner none."""
    samples = read_synthetic(70)

    def sharp(scene: np.ndarray) -> Found:
        rows, columns = np.nonzero(scene != 128)
        x, y = float(columns.min()), float(rows.min())
        box = (x, y, float(columns.max()) - x + 1, float(rows.max()) - y + 1)
        return found([box, (0, 0, 9, 9)], [0.9, 0.8])

    rows = detection.measure_scenes(sharp, samples, np.arange(3), 0.5)
    assert (rows["found_192"], rows["found_96"], rows["found_48"]) == (1, 1, 1)
    assert rows["false_per_100_48"] == 100
    assert detection.measure_scenes(lambda _: found([(0, 0, 9, 9)], [0.9]), samples, np.arange(2), 0.5)["found_48"] == 0
    assert draw_faces(1).images.shape == (1, 48, 48)


def test_the_shipped_threshold_lets_one_and_a_half_false_boxes_pass_in_a_hundred() -> None:
    pictures = tuple(picture(name=f"empty {index}") for index in range(1100))
    samples = DetectionSamples(pictures, "0")
    held_out = len(samples.part(held_out=True))
    assert held_out == 214
    scores = iter([0.9, 0.875, 0.8125, 0.75, 0.625, *[0.5] * held_out])
    threshold = choose_threshold(lambda _: found([(0, 0, 20, 20)], [next(scores)]), samples)
    assert threshold == 0.76  # of 214 three may pass, and so the fourth may not
    assert choose_threshold(lambda _: found([], []), samples) == LEAST_THRESHOLD
