"""Box -> square grey face: the one preprocessing of pictures, for training data and for recognition alike."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MediaError
from mien.face import images
from mien.face.result import Box

FACE_SIZE = 48
"""Side of a face in FER-2013, in pixels."""

EYES = (0.22, 0.46)
MOUTH = (0.62, 0.88)
"""Bands of FER-2013's frame as fractions of its height, from the top: where eyes and mouth lie in most faces."""


@dataclass(frozen=True)
class Framing:
    """How a detector's box lies in the frame that FER-2013's pictures have."""

    scale: float  # side of the frame over the square root of the box's area
    right: float = 0.0  # from the box's centre to the frame's, in widths of the box
    down: float = 0.0  # likewise, in heights of the box

    def frame(self, box: tuple[int, int, int, int]) -> Box:
        """The square that a picture of FER-2013 would show of the face in ``box``, in whole pixels."""
        x, y, width, height = box
        side = max(1, round(self.scale * math.sqrt(max(width, 1) * max(height, 1))))
        left = x + width * (0.5 + self.right) - side / 2
        top = y + height * (0.5 + self.down) - side / 2
        return Box(round(left), round(top), side, side)


def face_square(box: tuple[int, int, int, int], framing: Framing | None = None) -> Box:
    """The square of the picture that ``crop_face`` shows.

    Without a framing the box grows to a square around its centre (odd differences go right and down).

    Raises:
        MediaError: the box is empty, or the square is above ``MAX_PIXELS``.
    """
    x, y, width, height = box
    if width < 1 or height < 1:
        raise MediaError(f"expected a box of at least 1 x 1 pixel, got {width} x {height}")
    side = max(width, height)
    grown = Box(x - (side - width) // 2, y - (side - height) // 2, side, side)
    square = grown if framing is None else framing.frame(box)
    if square.width * square.height > images.MAX_PIXELS:
        raise MediaError(f"expected a box of at most {images.MAX_PIXELS:,} pixels, got a square of side {square.width}")
    return square


def crop_face(
    picture: NDArray[np.uint8],
    box: tuple[int, int, int, int] | None = None,
    size: int = FACE_SIZE,
    framing: Framing | None = None,
    *,
    color: bool = False,
) -> NDArray[np.uint8]:
    """The face in a box as a grey square: ``(H, W)`` or ``(H, W, 3)`` -> ``(size, size)``, uint8.

    With ``color`` it is RGB, ``(size, size, 3)``, where a grey picture has three equal channels.

    The square is :func:`face_square`; where it leaves the picture, the picture's edge is repeated. Grey is ITU-R
    BT.601 luma, exact where R = G = B. Shrinking averages areas, enlarging is bilinear, and a grey picture of the
    right size comes back bit for bit. ``framing`` is that of the detector that found the box, which is
    ``(x, y, width, height)`` in pixels and may leave the picture in part; ``None`` is the whole picture.

    Raises:
        MediaError: not such a picture, or a box that is empty, wholly outside or above ``MAX_PIXELS``.
    """
    images.check_image(picture)
    if size < 1:
        raise MediaError(f"expected a face's side of at least 1 pixel, got {size}")
    height, width = picture.shape[:2]
    box = (0, 0, width, height) if box is None else box
    square = face_square(box, framing)
    if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
        raise MediaError(f"expected a box in the picture of {width} x {height}, got {tuple(box)}, which lies outside")
    face = _cut(picture, square, color)  # (H, W) or (H, W, 3) -> (S, S) or (S, S, 3)
    side = face.shape[0]
    if side != size:
        method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        face = np.asarray(cv2.resize(face, (size, size), interpolation=method), np.uint8)
    return face


def _cut(picture: NDArray[np.uint8], square: Box, color: bool) -> NDArray[np.uint8]:
    """What a picture shows in a square: ``(S, S)``, or in color ``(S, S, 3)``; a copy."""
    columns, left, right = _span(square.x, square.width, picture.shape[1])
    rows, above, below = _span(square.y, square.height, picture.shape[0])
    inside = np.ascontiguousarray(picture[rows, columns])
    if color != (inside.ndim == 3):
        inside = np.asarray(cv2.cvtColor(inside, cv2.COLOR_GRAY2RGB if color else cv2.COLOR_RGB2GRAY), np.uint8)
    return np.asarray(cv2.copyMakeBorder(inside, above, below, left, right, cv2.BORDER_REPLICATE), np.uint8)


def _span(start: int, length: int, size: int) -> tuple[slice, int, int]:
    """The pixels 0 to ``size`` that a side of the square covers, at least one, and how many are missing at each end."""
    first, end = min(max(start, 0), size - 1), max(min(start + length, size), 1)
    before = min(max(-start, 0), length - 1)
    return slice(first, end), before, length - before - (end - first)
