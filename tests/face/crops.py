"""Faces to compare crops with: ``python -m tests.face.crops`` writes ``crops.npz`` anew, where the definition changes.

``crops.npz`` holds, numbered: ``picture_N`` uint8 ``(H, W)`` or RGB ``(H, W, 3)``; ``points_N`` ``(5, 2)`` or ``box_N``
``(4,)``; and ``crop_N`` uint8 ``(S, S)``, which any implementation must give within one level. All faces are drawn.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.data import draw_faces
from mien.face.crop import FACE_SIZE, REFERENCE, crop_face
from mien.face.result import Points

PATH = Path(__file__).with_name("crops.npz")
Pixels = NDArray[np.uint8]


def drawn_picture(number: int, side: int, color: bool) -> Pixels:
    """A drawn face of ``side`` pixels at (40, 30) on a gradient: ``(H, W[, 3])``."""
    width, height = side + 70, side + 50
    field = np.add.outer(np.arange(height), np.arange(width)) * (200 / (width + height))
    picture = field.astype(np.uint8)
    face = Image.fromarray(draw_faces(10, seed=1).images[number]).resize((side, side), Image.Resampling.BILINEAR)
    picture[30 : 30 + side, 40 : 40 + side] = face
    return np.stack([picture, 255 - picture // 2, picture // 3], axis=2) if color else picture


def turned_points(side: int, roll: float, factor: float, noise: float, seed: int) -> Points:
    """Points of that face, turned about its middle, enlarged, and moved at random by ``noise`` pixels."""
    generator = np.random.default_rng(seed)
    known = (np.array(REFERENCE) / FACE_SIZE - 0.5) @ (1, 1j) * side * factor * np.exp(1j * np.radians(roll))
    places = known + complex(40 + side / 2, 30 + side / 2) + noise * generator.normal(size=(5, 2)) @ (1, 1j)
    return tuple((round(each.real, 2), round(each.imag, 2)) for each in places)


CASES: list[tuple[Pixels, Points, int]] = [
    (drawn_picture(1, 48, False), turned_points(48, 0, 1.0, 0.0, 0), 48),  # nothing changes
    (drawn_picture(2, 30, False), turned_points(30, 0, 1.0, 0.4, 1), 48),  # enlarged
    (drawn_picture(3, 96, False), turned_points(96, 25, 1.0, 1.0, 2), 48),
    (drawn_picture(4, 130, True), turned_points(130, -40, 1.1, 3.0, 3), 48),  # in colour, and shrunk
    (drawn_picture(5, 60, False), turned_points(60, 170, 1.9, 1.0, 4), 48),  # beyond the picture's edges
    (drawn_picture(6, 100, True), turned_points(100, 8, 0.8, 2.0, 5), 64),
]


if __name__ == "__main__":
    arrays: dict[str, NDArray[np.generic]] = {}
    for number, (picture, points, size) in enumerate(CASES):
        arrays[f"picture_{number}"] = picture
        arrays[f"points_{number}"] = np.array(points)
        arrays[f"crop_{number}"] = crop_face(picture, size=size, points=points)
    np.savez_compressed(PATH, **arrays)  # type: ignore[arg-type]
