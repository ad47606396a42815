"""Faces in a field of grey."""

import numpy as np
import pytest
from PIL import Image

from mien.data import scenes
from mien.data.synthetic import draw_faces


@pytest.fixture(scope="module")
def face():
    return draw_faces(7).images[3]


def test_an_upright_picture_is_enlarged_as_other_libraries_do(face):
    scene = scenes.compose_scene(face, row=5)
    x, y = (round(each) for each in scene.matrix[:, 2])
    inside = scene.pixels[y : y + 192, x : x + 192]
    expected = np.asarray(Image.fromarray(face).resize((192, 192), Image.Resampling.BILINEAR))
    assert np.abs(inside.astype(int) - expected).max() <= 1
    around = scene.pixels.copy()
    around[y : y + 192, x : x + 192] = scenes.GREY
    assert (around == scenes.GREY).all()


@pytest.mark.parametrize("angle", [0, 30, -45, 200])
def test_places_go_there_and_back_and_the_picture_fits(face, angle):
    scene = scenes.compose_scene(face, row=11, angle=angle)
    corners = np.array([[0, 0], [48, 0], [48, 48], [0, 48], [14.6, 18.2]])
    there = scene.to_scene(corners)
    assert there.min() >= 0
    assert there.max() <= scenes.FIELD
    assert scene.to_picture(there) == pytest.approx(corners)
    assert np.linalg.norm(there[1] - there[0]) == pytest.approx(192)


def test_a_quarter_turn_is_clockwise_and_about_the_same_place(face):
    upright, turned = scenes.compose_scene(face, row=2), scenes.compose_scene(face, row=2, angle=90)
    x, y = (round(each) for each in upright.matrix[:, 2])
    inside = (slice(y, y + 192), slice(x, x + 192))
    difference = np.rot90(upright.pixels[inside], -1).astype(int) - turned.pixels[inside]
    assert np.abs(difference).max() <= 1


def test_row_side_and_seed_decide_the_place(face):
    places = {
        tuple(scenes.compose_scene(face, row, side=side, seed=seed).matrix.ravel())
        for row, side, seed in [(0, 192, 0), (1, 192, 0), (0, 96, 0), (0, 192, 1), (0, 192, 0)]
    }
    assert len(places) == 4


def test_pictures_in_colour_keep_it(face):
    colour = np.stack([face, face // 2, face // 4], axis=-1)
    scene = scenes.compose_scene(colour, row=0, angle=17)
    assert scene.pixels.shape == (512, 512, 3)
    assert (scene.pixels[..., 0] == scenes.compose_scene(face, row=0, angle=17).pixels).all()


def test_a_side_that_does_not_fit_is_refused(face):
    with pytest.raises(ValueError, match="1 to 362, got 400"):
        scenes.compose_scene(face, row=0, side=400)
