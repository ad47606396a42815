"""Box -> square grey face: the one preprocessing of pictures, for training data and for recognition alike."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MediaError
from mien.face.pictures import MAX_PIXELS

FACE_SIZE = 48
"""Side of a face in FER-2013, in pixels."""


def crop_face(
    picture: NDArray[np.uint8], box: tuple[int, int, int, int] | None = None, size: int = FACE_SIZE
) -> NDArray[np.uint8]:
    """The face in a box as a grey square: ``(H, W)`` or ``(H, W, 3)`` -> ``(size, size)``, uint8.

    The box grows to a square around its centre (odd differences go right and down); where the square leaves the
    picture, the picture's edge is repeated. Grey is ITU-R BT.601 luma, exact where R = G = B. Shrinking averages
    areas, enlarging is bilinear, and a grey picture of the right size comes back bit for bit.

    Args:
        picture: grey, or RGB.
        box: ``(x, y, width, height)`` in pixels; may leave the picture in part. ``None`` is the whole picture.
        size: side of the result in pixels.

    Raises:
        MediaError: not such a picture, or a box that is empty, wholly outside or above ``MAX_PIXELS``.
    """
    _check_picture(picture)
    if size < 1:
        raise MediaError(f"a face's side must be at least 1 pixel; {size} came")
    height, width = picture.shape[:2]
    square = _square(picture, (0, 0, width, height) if box is None else box)
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY) if square.ndim == 3 else square  # (H, W, 3) -> (H, W)
    side = grey.shape[0]
    if side != size:
        grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    return np.asarray(grey, dtype=np.uint8)


def _check_picture(picture: NDArray[np.uint8]) -> None:
    shape = picture.shape
    if picture.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
        raise MediaError(
            f"expected a uint8 picture (H, W) or (H, W, 3), came {picture.dtype} {shape};"
            " read pictures with mien.face.pictures.read_picture"
        )


def _square(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The square around a box, ``(S, S)`` or ``(S, S, 3)``, a copy."""
    x, y, width, height = box
    picture_height, picture_width = picture.shape[:2]
    if width < 1 or height < 1:
        raise MediaError(f"expected a box of at least 1 x 1 pixel, came {width} x {height}")
    if x >= picture_width or y >= picture_height or x + width <= 0 or y + height <= 0:
        raise MediaError(f"the box {box} lies outside the picture, which is {picture_width} x {picture_height}")
    side = max(width, height)
    if side * side > MAX_PIXELS:
        raise MediaError(f"expected a box of at most {MAX_PIXELS:,} pixels, came a square of side {side}")
    rows = np.arange(side) + y - (side - height) // 2
    columns = np.arange(side) + x - (side - width) // 2
    # Indices beyond the picture are clipped to its edge, which repeats the edge.
    square: NDArray[np.uint8] = picture[np.ix_(rows.clip(0, picture_height - 1), columns.clip(0, picture_width - 1))]
    return square
