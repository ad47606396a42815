import cv2
import numpy as np
import pytest

from mien.errors import MediaError
from mien.face.crop import crop_face


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
