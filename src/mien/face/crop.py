"""Box -> square grey face: the one preprocessing of pictures, for training data and for recognition alike."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MediaError
from mien.face.pictures import MAX_PIXELS, check_picture
from mien.face.result import Box

FACE_SIZE = 48
"""Side of a face in FER-2013, in pixels."""


@dataclass(frozen=True)
class Framing:
    """How a detector's box lies in the frame that FER-2013's pictures have.

    Attributes:
        scale: side of the frame over the square root of the box's area.
        right: from the box's centre to the frame's, in widths of the box.
        down: likewise, in heights of the box.
    """

    scale: float
    right: float = 0.0
    down: float = 0.0

    def frame(self, box: tuple[int, int, int, int]) -> Box:
        """The square that a picture of FER-2013 would show of the face in ``box``, in whole pixels."""
        x, y, width, height = box
        side = max(1, round(self.scale * math.sqrt(max(width, 1) * max(height, 1))))
        left = x + width * (0.5 + self.right) - side / 2
        top = y + height * (0.5 + self.down) - side / 2
        return Box(round(left), round(top), side, side)


FRAMINGS: dict[str, Framing | None] = {
    "libfacedetection": Framing(scale=1.105),
    "yunet": Framing(scale=1.105),
    "none": None,
}
"""Detector -> framing. Measured on FER-2013's Training pictures: ``docs/decisions/0004-framing.md``."""


def face_square(box: tuple[int, int, int, int], framing: Framing | None = None) -> Box:
    """The square of the picture that ``crop_face`` shows.

    Without a framing the box grows to a square around its centre (odd differences go right and down).

    Raises:
        MediaError: the box is empty, or the square is above ``MAX_PIXELS``.
    """
    x, y, width, height = box
    if width < 1 or height < 1:
        raise MediaError(f"expected a box of at least 1 x 1 pixel, came {width} x {height}")
    side = max(width, height)
    square = Box(x - (side - width) // 2, y - (side - height) // 2, side, side)
    if framing is not None:
        square = framing.frame(box)
    if square.width * square.height > MAX_PIXELS:
        raise MediaError(f"expected a box of at most {MAX_PIXELS:,} pixels, came a square of side {square.width}")
    return square


def crop_face(
    picture: NDArray[np.uint8],
    box: tuple[int, int, int, int] | None = None,
    size: int = FACE_SIZE,
    framing: Framing | None = None,
) -> NDArray[np.uint8]:
    """The face in a box as a grey square: ``(H, W)`` or ``(H, W, 3)`` -> ``(size, size)``, uint8.

    The square is :func:`face_square`; where it leaves the picture, the picture's edge is repeated. Grey is ITU-R
    BT.601 luma, exact where R = G = B. Shrinking averages areas, enlarging is bilinear, and a grey picture of the
    right size comes back bit for bit.

    Args:
        picture: grey, or RGB.
        box: ``(x, y, width, height)`` in pixels; may leave the picture in part. ``None`` is the whole picture.
        size: side of the result in pixels.
        framing: of the detector that found the box, from ``FRAMINGS``.

    Raises:
        MediaError: not such a picture, or a box that is empty, wholly outside or above ``MAX_PIXELS``.
    """
    check_picture(picture)
    if size < 1:
        raise MediaError(f"a face's side must be at least 1 pixel; {size} came")
    height, width = picture.shape[:2]
    box = (0, 0, width, height) if box is None else box
    square = face_square(box, framing)
    if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
        raise MediaError(f"the box {tuple(box)} lies outside the picture, which is {width} x {height}")
    pixels = _pixels(picture, square)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels  # (H, W, 3) -> (H, W)
    side = grey.shape[0]
    if side != size:
        grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    return np.asarray(grey, dtype=np.uint8)


def _pixels(picture: NDArray[np.uint8], square: Box) -> NDArray[np.uint8]:
    """What a picture shows in a square, ``(S, S)`` or ``(S, S, 3)``, a copy."""
    height, width = picture.shape[:2]
    x, y, side, _ = square
    if x >= 0 and y >= 0 and x + side <= width and y + side <= height:
        return picture[y : y + side, x : x + side].copy()
    # Indices beyond the picture are clipped to its edge, which repeats the edge.
    rows, columns = np.arange(side) + y, np.arange(side) + x
    pixels: NDArray[np.uint8] = picture[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    return pixels
