"""Annotations: inside the picture, visible on every background, and changing nothing else."""

import numpy as np
import pytest

from mien.emotions import EMOTIONS, Emotion
from mien.face.draw import annotate, face_label
from mien.face.result import Box, Face


def face(box: Box, emotion: Emotion = Emotion.HAPPY, confidence: float = 0.93, **changes: object) -> Face:
    rest = (1 - confidence) / 6
    probabilities = {name: confidence if name is emotion else rest for name in EMOTIONS}
    return Face(box, 0.9, probabilities, np.zeros((48, 48), np.uint8), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (48, 48), (480, 640), (3000, 4000)])
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_faces_stand_out_on_pictures_of_every_size_and_shade(size: tuple[int, int], shade: int) -> None:
    height, width = size
    picture = np.full((height, width, 3), shade, np.uint8)
    box = Box(width // 4, height // 4, max(1, width // 2), max(1, height // 2))
    drawn = annotate(picture, [face(box)])
    factor = drawn.shape[0] // height
    assert drawn.shape == (factor * height, factor * width, 3)
    assert max(drawn.shape) >= 480
    assert (abs(drawn.astype(int) - shade).max(axis=2) > 60).any()
    assert (picture == shade).all()


@pytest.mark.parametrize(
    "box", [Box(-40, -40, 100, 100), Box(600, 440, 200, 200), Box(0, 0, 640, 480), Box(5, 5, 1, 1)]
)
def test_boxes_at_the_edge_keep_their_label_in_the_picture(box: Box) -> None:
    drawn = annotate(np.zeros((480, 640, 3), np.uint8), [face(box, Emotion.SURPRISE)])
    orange = (abs(drawn.astype(int) - (235, 120, 40)).max(axis=2) < 8).sum()
    assert orange > 500


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    together = [face(Box(100, 200, 60, 60)), face(Box(110, 200, 60, 60), Emotion.SAD)]
    drawn = annotate(np.zeros((480, 640, 3), np.uint8), together).astype(int)
    alone = [annotate(np.zeros((480, 640, 3), np.uint8), [each]).astype(int) for each in together]
    for color, single in zip(((240, 180, 30), (60, 120, 200)), alone, strict=True):
        shown = [(abs(picture - color).max(axis=2) < 8).sum() for picture in (drawn, single)]
        assert shown[0] > 0.8 * shown[1]


def test_outside_of_boxes_and_labels_nothing_changes() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    drawn = annotate(picture, [face(Box(200, 200, 100, 100))])
    assert (drawn[320:] == picture[320:]).all()
    assert (annotate(picture, []) == picture).all()


def test_doubt_is_written_out() -> None:
    assert face_label(face(Box(0, 0, 9, 9))) == "happy 93 %"
    assert face_label(face(Box(0, 0, 9, 9), quality=0.2, reasons=("dark",))) == "happy ? 93 %"
    assert face_label(face(Box(0, 0, 9, 9), abstained=True)) == "?"
