import cv2
import numpy as np
import pytest

from mien.data import draw_faces
from mien.errors import MediaError
from mien.face.crop import REFERENCE, Framing
from mien.face.quality import SCALES, Scale, estimate_yaw, face_quality, measure_face
from mien.face.result import Box, Points

SIDE = 192


def face(side: int = SIDE) -> np.ndarray:
    return cv2.resize(draw_faces(10, seed=1).images[1], (side, side), interpolation=cv2.INTER_AREA)


def textured(side: int = SIDE) -> np.ndarray:
    """A drawn face with the grain of a photograph."""
    grain = np.random.default_rng(0).normal(0, 12, (48, 48))
    return cv2.resize(np.clip(face(48) + grain, 0, 255).astype(np.uint8), (side, side))


def in_scene(square: np.ndarray, x: int = 100, y: int = 100, size: int = 400) -> tuple[np.ndarray, Box]:
    """The part of a square that lies in a grey scene, and its box."""
    side = len(square)
    scene = np.full((size + 2 * side, size + 2 * side), 128, np.uint8)
    scene[y + side : y + 2 * side, x + side : x + 2 * side] = square
    return scene[side:-side, side:-side], Box(x, y, side, side)


def test_a_good_face_has_nothing_wrong() -> None:
    for picture in (textured(), np.repeat(textured()[..., None], 3, axis=2)):
        quality = face_quality(picture, Box(0, 0, SIDE, SIDE))
        assert quality.value > 0.9
        assert quality.reasons == ()


@pytest.mark.parametrize(
    ("picture", "box", "reason"),
    [
        (*in_scene(textured(16)), "small"),
        ((textured() * 0.15).astype(np.uint8), Box(0, 0, SIDE, SIDE), "dark"),
        (np.clip(textured() * 4.0, 0, 255).astype(np.uint8), Box(0, 0, SIDE, SIDE), "overexposed"),
        ((textured() * 0.15 + 100).astype(np.uint8), Box(0, 0, SIDE, SIDE), "low contrast"),
        (cv2.GaussianBlur(textured(), (0, 0), 10), Box(0, 0, SIDE, SIDE), "blurred"),
        (*in_scene(textured(), -90, 100), "cut off"),
        (*in_scene(textured(), 100, 310), "cut off"),
        (*in_scene(textured(), 270, 270), "cut off"),
    ],
)
def test_what_is_wrong_is_said(picture: np.ndarray, box: Box, reason: str) -> None:
    quality = face_quality(picture, box)
    assert reason in quality.reasons
    assert quality.value < 0.5


def test_reasons_are_those_below_one_half_and_the_worst_counts() -> None:
    picture, box = in_scene(textured(16), -6)
    measured = measure_face(picture, box)
    assert list(measured) == [name for name in SCALES if name != "turned"]
    scores = {name: SCALES[name].score(value) for name, value in measured.items()}
    quality = face_quality(picture, box)
    assert quality.value == min(scores.values())
    assert quality.reasons == tuple(name for name in measured if scores[name] < 0.5)
    assert {"small", "cut off"} <= set(quality.reasons)


def test_measures() -> None:
    picture = np.zeros((100, 100), np.uint8)
    picture[:, 50:] = 255
    measured = measure_face(picture, Box(-10, 0, 50, 100))  # grows to a square from x = -35
    assert measured["small"] == 100
    assert measured["cut off"] == 0.65
    measured = measure_face(picture, Box(0, 0, 100, 100))
    assert measured["dark"] == pytest.approx(127.5, abs=1)
    assert measured["overexposed"] == pytest.approx(0.5, abs=0.02)
    assert measured["low contrast"] == pytest.approx(127.5, abs=1)
    assert measure_face(picture, Box(25, 25, 50, 50), Framing(2.0))["small"] == 100


def points_of(side: float, roll: float = 0.0, yaw: float = 0.0) -> Points:
    """Points in a square of ``side`` pixels from 100, turned about its middle, of a head that is turned to the right.

    The head is a plane with the nose before it, by half of the distance between the left and the right points.
    """
    left, right = ((REFERENCE[0][0] + REFERENCE[3][0]) / 2, (REFERENCE[1][0] + REFERENCE[4][0]) / 2)
    middle, half, angle = (left + right) / 2, (right - left) / 2, np.radians(yaw)
    depths = np.array([0, 0, half, 0, 0])
    across = (np.array(REFERENCE)[:, 0] - middle) * np.cos(angle) + depths * np.sin(angle) + middle
    across[2] = middle + half * np.sin(angle)
    places = (across + 1j * np.array(REFERENCE)[:, 1]) / 48 - (0.5 + 0.5j)
    turned = places * side * np.exp(1j * np.radians(roll)) + (100 + 100j) + (0.5 + 0.5j) * side
    return tuple((each.real, each.imag) for each in turned)


@pytest.mark.parametrize("yaw", [-60, -20, 0, 15, 45, 80])
@pytest.mark.parametrize("roll", [0, 35, -100])
def test_yaw_is_told_by_the_points_whatever_the_roll(yaw: float, roll: float) -> None:
    assert estimate_yaw(points_of(SIDE, roll, yaw)) == pytest.approx(yaw, abs=0.5)


@pytest.mark.parametrize(
    ("roll", "yaw", "is_turned"), [(0, 0, False), (40, 0, False), (80, 0, True), (0, 30, False), (0, -50, True)]
)
def test_a_face_may_be_turned(roll: float, yaw: float, is_turned: bool) -> None:
    picture, box = in_scene(textured(), 100, 100)
    points = points_of(SIDE, roll, yaw)
    quality = face_quality(picture, box, points=points)
    assert ("turned" in quality.reasons) == is_turned
    measured = measure_face(picture, box, points=points)
    assert list(measured) == list(SCALES)
    assert measured["turned"] == pytest.approx(90 - max(abs(yaw), abs(roll) / 2), abs=1.5)


def test_size_and_frame_are_those_of_the_points() -> None:
    picture, _ = in_scene(textured(), 100, 100)
    measured = measure_face(picture, Box(0, 0, 10, 10), points=points_of(SIDE))
    assert measured["small"] == pytest.approx(SIDE)
    assert measured["cut off"] == 1
    assert measure_face(picture[: 100 + SIDE // 2], Box(0, 0, 10, 10), points=points_of(SIDE))["cut off"] == 0.5


def test_contrast_does_not_count_as_sharpness() -> None:
    box = Box(0, 0, SIDE, SIDE)
    faint = np.round(textured() * 0.5 + 60).astype(np.uint8)
    assert measure_face(faint, box)["blurred"] == pytest.approx(measure_face(textured(), box)["blurred"], rel=0.05)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_pictures(level: int) -> None:
    quality = face_quality(np.full((64, 64), level, np.uint8), Box(0, 0, 64, 64))
    assert quality.value == 0
    assert {"low contrast", "blurred"} <= set(quality.reasons)
    assert ("dark" in quality.reasons) == (level == 0)
    assert ("overexposed" in quality.reasons) == (level == 255)


def test_scales() -> None:
    assert [Scale(10, 20, 40).score(value) for value in (0, 10, 15, 20, 30, 40, 99)] == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert all(scale.useless < scale.doubtful < scale.good for scale in SCALES.values())


def test_what_is_refused() -> None:
    with pytest.raises(MediaError, match="lies outside"):
        face_quality(textured(), Box(500, 500, 10, 10))
    with pytest.raises(MediaError, match="expected a uint8 picture"):
        face_quality(textured().astype(np.float32), Box(0, 0, 10, 10))
