"""Pictures of faces as a photograph shows them: enlarged, turned, somewhere in a field of grey."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIELD, GREY = 512, 128
"""Side of a scene in pixels, and its level around the picture."""

SIDE = 192
"""Of the picture in a scene, in pixels, unless another is asked for."""


@dataclass(frozen=True)
class Scene:
    """A picture in a field of grey. Places are ``(x, y)`` in pixels, and the first pixel reaches from 0 to 1.

    Attributes:
        pixels: uint8 ``(FIELD, FIELD)``, or ``(FIELD, FIELD, 3)`` of a picture in colour.
        matrix: float64 ``(2, 3)``, which maps places ``(x, y, 1)`` of the picture to those of the scene.
    """

    pixels: NDArray[np.uint8]
    matrix: NDArray[np.float64]

    def to_scene(self, places: NDArray[np.floating]) -> NDArray[np.float64]:
        """Places in the picture -> places in the scene, ``(..., 2)``."""
        return places @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_picture(self, places: NDArray[np.floating]) -> NDArray[np.float64]:
        """Places in the scene -> places in the picture, ``(..., 2)``."""
        return (places - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T


def compose_scene(picture: NDArray[np.uint8], row: int, angle: float = 0.0, side: int = SIDE, seed: int = 0) -> Scene:
    """A picture ``(S, S)`` or ``(S, S, 3)``, enlarged bilinearly to ``side`` and turned, wholly in the field.

    Args:
        picture: of a face.
        row: its number in the data; with ``seed`` and ``side`` it decides the place, which is the same for all angles.
        angle: by which it is turned, clockwise, in degrees.
        side: in pixels, at most 362 (then even its diagonal fits).
        seed: of the place.

    Raises:
        ValueError: ``side`` is too large, or below 1.
    """
    room = FIELD - side * math.sqrt(2)
    if side < 1 or room < 0:
        raise ValueError(f"expected a side of 1 to {int(FIELD / math.sqrt(2))}, got {side}")
    # In whole pixels from edge to edge, so that an upright picture is only enlarged.
    margin = math.ceil((FIELD - room - side) / 2)
    corner = np.random.default_rng((seed, row, side)).integers(margin, FIELD - side - margin, 2, endpoint=True)
    turn, half = math.radians(angle), side / 2
    cosine, sine = math.cos(turn), math.sin(turn)
    linear = side / len(picture) * np.array([[cosine, -sine], [sine, cosine]])  # (2, 2)
    offset = corner + half - linear @ np.full(2, len(picture) / 2)
    scene = Scene(np.full((FIELD, FIELD, *picture.shape[2:]), GREY, np.uint8), np.column_stack([linear, offset]))
    _paint(scene, picture)
    return scene


def _paint(scene: Scene, picture: NDArray[np.uint8]) -> None:
    """Sample the picture at the centres of the scene's pixels that it covers; its edges are repeated for half a pixel.

    Source: bilinear interpolation as OpenCV's and Pillow's, with pixels' centres at halves.
    """
    size = len(picture)
    corners = scene.to_scene(np.array([[0, 0], [size, 0], [0, size], [size, size]]))
    left, top = np.floor(corners.min(0) + 1e-6).astype(int)
    right, bottom = np.ceil(corners.max(0) - 1e-6).astype(int)
    x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)  # (h, w) each
    places = scene.to_picture(np.stack([x, y], axis=-1))  # (h, w, 2)
    inside = ((places >= 0) & (places <= size)).all(-1)  # (h, w)
    column, row = np.clip(places[inside] - 0.5, 0, size - 1).T  # (n,) each
    x0, y0 = np.minimum(column.astype(int), size - 2), np.minimum(row.astype(int), size - 2)
    values = picture.reshape(size, size, -1).astype(np.float64)  # (S, S, C)
    right_part, lower_part = (column - x0)[:, None], (row - y0)[:, None]
    upper = values[y0, x0] * (1 - right_part) + values[y0, x0 + 1] * right_part  # (n, C)
    lower = values[y0 + 1, x0] * (1 - right_part) + values[y0 + 1, x0 + 1] * right_part
    sampled = np.round(upper * (1 - lower_part) + lower * lower_part).astype(np.uint8)
    area = scene.pixels[top:bottom, left:right]  # a view
    area[inside] = sampled if picture.ndim == 3 else sampled[:, 0]
