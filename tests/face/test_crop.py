import cmath
import math

import cv2
import numpy as np
import pytest
from tests.face.crops import CASES, PATH, turned_points

from mien.data import draw_faces
from mien.errors import MediaError
from mien.face.crop import FACE_SIZE, REFERENCE, as_grey, crop_face, face_frame, points_frame
from mien.face.result import Box, Points


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def test_grey_picture_of_the_right_size_is_unchanged() -> None:
    picture = noise(48, 48)
    assert (crop_face(picture) == picture).all()
    assert (crop_face(np.repeat(picture[..., None], 3, axis=2)) == picture).all()
    assert (crop_face(noise(30, 30), size=30) == noise(30, 30)).all()


def test_result_is_a_copy() -> None:
    picture = noise(48, 48)
    before = picture.copy()
    crop_face(picture)[:] = 0
    assert (picture == before).all()


@pytest.mark.parametrize("shape", [(48, 48), (200, 100), (31, 77, 3), (1, 1), (5, 400, 3)])
@pytest.mark.parametrize("size", [1, 48, 224])
def test_shapes(shape: tuple[int, ...], size: int) -> None:
    face = crop_face(noise(*shape), size=size)
    assert face.shape == (size, size)
    assert face.dtype == np.uint8
    assert face.flags.c_contiguous


def test_box_inside_the_picture() -> None:
    picture = noise(100, 120)
    assert (crop_face(picture, (10, 20, 48, 48)) == picture[20:68, 10:58]).all()


@pytest.mark.parametrize(
    ("box", "top", "left", "side"),
    [((10, 20, 30, 48), 20, 1, 48), ((10, 20, 48, 30), 11, 10, 48), ((10, 20, 47, 48), 20, 10, 48)],
)
def test_box_grows_to_a_square_around_its_centre(
    box: tuple[int, int, int, int], top: int, left: int, side: int
) -> None:
    picture = noise(100, 120)
    assert (crop_face(picture, box) == picture[top : top + side, left : left + side]).all()


def test_edge_is_repeated_outside_the_picture() -> None:
    picture = noise(40, 40)
    expected = np.pad(picture, ((4, 4), (4, 4)), mode="edge")
    assert (crop_face(picture, (-4, -4, 48, 48)) == expected).all()
    tall = noise(48, 20)
    assert (crop_face(tall) == np.pad(tall, ((0, 0), (14, 14)), mode="edge")).all()


def test_shrinking_averages_areas() -> None:
    picture = noise(96, 96)
    blocks = picture.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(crop_face(picture) - blocks).max() <= 0.5


def test_enlarging_is_bilinear() -> None:
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1))
    face = crop_face(ramp)
    assert (np.diff(face[0].astype(int)) >= 0).all()
    assert (face == cv2.resize(ramp, (48, 48), interpolation=cv2.INTER_LINEAR)).all()


def test_colours_become_luma() -> None:
    colours = np.zeros((48, 48, 3), np.uint8)
    for channel, luma in enumerate((76, 150, 29)):  # 0.299 R + 0.587 G + 0.114 B
        picture = colours.copy()
        picture[..., channel] = 255
        assert (crop_face(picture) == luma).all()


def test_views_need_not_be_contiguous() -> None:
    picture = noise(96, 96, 3)
    assert (crop_face(picture[::-1, ::2]) == crop_face(picture[::-1, ::2].copy())).all()


@pytest.mark.parametrize(
    "picture",
    [
        noise(48, 48).astype(np.float32),
        noise(48, 48).astype(np.uint16),
        noise(48),
        noise(48, 48, 4),
        noise(48, 48, 1),
        noise(2, 48, 48, 3),
        np.zeros((0, 48), np.uint8),
    ],
)
def test_other_arrays_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"expected a uint8 picture.*read_image"):
        crop_face(picture)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0, 0, 0, 10), "at least 1 x 1"),
        ((0, 0, 10, -1), "at least 1 x 1"),
        ((48, 0, 10, 10), "lies outside"),
        ((-10, -10, 10, 20), "lies outside"),
        ((0, 0, 20_000, 20_000), "at most 100,000,000 pixels"),
    ],
)
def test_boxes_that_hold_no_face(box: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        crop_face(noise(48, 48), box)


def test_size_must_be_positive() -> None:
    with pytest.raises(MediaError, match="at least 1 pixel"):
        crop_face(noise(48, 48), size=0)


# By points

UPRIGHT: Points = tuple(REFERENCE)


def moved(points: Points, turn: complex, shift: complex) -> Points:
    places = [turn * complex(*each) + shift for each in points]
    return tuple((each.real, each.imag) for each in places)


def crop_by_hand(picture: np.ndarray, points: Points, size: int, rows: range) -> np.ndarray:
    """The definition at the top of ``crop.py``, number by number, in some rows: what another language would do."""
    seen, known = [complex(*each) for each in points], [complex(*each) / 48 for each in REFERENCE]
    of_seen, of_known = sum(seen) / 5, sum(known) / 5
    pairs = [(z - of_seen, w - of_known) for z, w in zip(seen, known, strict=True)]
    side = sum(abs(z) ** 2 for z, _ in pairs) / sum(z.conjugate() * w for z, w in pairs)
    corner = of_seen - side * of_known
    height, width = picture.shape[:2]
    samples = min(max(1, math.ceil(abs(side) / size - 1e-9)), 32)

    def grey(column: int, row: int) -> int:
        pixel = picture[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
        if picture.ndim == 2:
            return int(pixel)
        red, green, blue = (int(each) for each in pixel)
        return (9798 * red + 19235 * green + 3735 * blue + 2**14) >> 15

    def sample(place: complex) -> float:
        x, y = place.real - 0.5, place.imag - 0.5
        column, row = math.floor(x), math.floor(y)
        right, low = x - column, y - row
        above = (1 - right) * grey(column, row) + right * grey(column + 1, row)
        below = (1 - right) * grey(column, row + 1) + right * grey(column + 1, row + 1)
        return (1 - low) * above + low * below

    face = np.zeros((size, size), np.uint8)
    for row in rows:
        for column in range(size):
            total = 0.0
            for down in range(samples):
                for across in range(samples):
                    step = complex(column * samples + across + 0.5, row * samples + down + 0.5) / (size * samples)
                    total += sample(corner + side * step)
            face[row, column] = math.floor(total / samples**2 + 0.5)
    return face


def test_stored_crops_are_those_of_the_definition() -> None:
    stored = np.load(PATH)
    assert len(stored) == 3 * len(CASES)
    for number, (picture, points, size) in enumerate(CASES):
        assert (stored[f"picture_{number}"] == picture).all()
        assert (stored[f"points_{number}"] == np.array(points)).all()
        face = crop_face(picture, size=size, points=points)
        assert (face == stored[f"crop_{number}"]).all()
        rows = range(number, size, 9)
        difference = np.abs(crop_by_hand(picture, points, size, rows).astype(int) - face)[rows]
        assert difference.max() <= 1
        assert (difference > 0).sum() <= 1


def test_a_face_in_its_place_comes_back_bit_for_bit() -> None:
    for size in (48, 30):
        face = noise(size, size)
        points = moved(UPRIGHT, size / 48, 0)
        assert (crop_face(face, size=size, points=points) == face).all()
        assert (crop_face(np.repeat(face[..., None], 3, axis=2), size=size, points=points) == face).all()
        colours = noise(size, size, 3)
        assert (crop_face(colours, size=size, points=points, color=True) == colours).all()


@pytest.mark.parametrize("roll", [0, 17, 90, -135])
def test_a_turned_face_comes_upright(roll: float) -> None:
    face = draw_faces(10, seed=1).images[1]
    turn = cmath.rect(4, math.radians(roll))
    centre = 200 + 200j - turn * (24 + 24j)
    matrix = np.array([[turn.real, -turn.imag, centre.real - 0.5], [turn.imag, turn.real, centre.imag - 0.5]])
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5)
    picture = cv2.warpAffine(face, matrix, (400, 400), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    points = moved(UPRIGHT, turn, centre)
    assert points_frame(points).roll == pytest.approx(roll)
    upright = crop_face(picture, points=points).astype(int)
    assert np.abs(upright - face).mean() < 5  # blurred by two interpolations
    wrong = crop_face(picture, points=moved(points, 1, 8)).astype(int)
    assert np.abs(wrong - face).mean() > 2 * np.abs(upright - face).mean()


def test_the_frame_is_the_nearest_similarity_without_reflection() -> None:
    points = turned_points(96, 25, 1.0, 4.0, 7)
    frame = points_frame(points)

    def misfit(corner: complex, side: complex) -> float:
        return sum(
            abs((complex(*z) - corner) / side - complex(*w) / 48) ** 2 for z, w in zip(points, REFERENCE, strict=True)
        )

    best = misfit(frame.corner, frame.side)
    for step in (0.3, -0.3, 0.3j, -0.3j):
        assert misfit(frame.corner + step, frame.side) > best
        assert misfit(frame.corner, frame.side + step) > best
    mirrored = tuple((-x, y) for x, y in UPRIGHT)
    left_to_right = tuple(mirrored[number] for number in (1, 0, 2, 4, 3))
    assert abs(points_frame(left_to_right).roll) < 1


def test_shrinking_by_points_averages_areas() -> None:
    picture = noise(96, 96)
    blocks = picture.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(crop_face(picture, points=moved(UPRIGHT, 2, 0)) - blocks).max() <= 0.5
    large = noise(2400, 2400)  # above MAX_SAMPLES, and in several blocks
    blocks = large.reshape(48, 50, 48, 50).mean(axis=(1, 3))
    assert np.abs(crop_face(large, points=moved(UPRIGHT, 50, 0)) - blocks).max() < 8


def test_luma_is_that_of_opencv() -> None:
    colours = noise(300, 200, 3)
    assert (as_grey(colours) == cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)).all()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (((1.0, 1.0),) * 5, "face of 1 to 100,000,000 pixels"),
        (UPRIGHT[:4], "expected five points"),
        (((math.nan, 0.0), *UPRIGHT[1:]), "expected five points"),
        (tuple((1e9 * x, 1e9 * y) for x, y in UPRIGHT), "face of 1 to 100,000,000 pixels"),
        (moved(UPRIGHT, 1, 100), "outside"),
        (moved(UPRIGHT, 1, -60j), "outside"),
    ],
)
def test_points_that_make_no_face(points: Points, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        crop_face(noise(48, 48), points=points)


def test_frames_tell_their_place() -> None:
    frame = face_frame((10, 20, 30, 40))
    assert (frame.corner, frame.side, frame.roll) == (5 + 20j, 40, 0)
    assert frame.bounds() == Box(5, 20, 40, 40)
    assert frame.fraction_inside(25, 60) == 0.5
    turned = points_frame(moved(UPRIGHT, 1 + 1j, 0))  # a square on its corner, of 48 * sqrt(2)
    assert turned.bounds() == Box(-48, 0, 96, 96)
    assert turned.fraction_inside(1000, 1000) == pytest.approx(0.5, abs=0.02)
    assert FACE_SIZE == 48
