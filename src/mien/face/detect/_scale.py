"""The size at which a detector looks at a picture, and the way back."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face.result import Box

SMALL_SIDE = 192
"""Smaller pictures are enlarged to it: of FER-2013's own 48x48 pictures a detector then finds 98 %, before 76 %."""

MOST_ENLARGED = 4.0
"""Factor, at most: faces of fewer than a dozen pixels show nothing anyway."""


LONGEST = 16_384
"""Of a side, in pixels, at most: libfacedetection's coordinates have 16 bits, and on strips of millions it crashes."""


def area_factor(width: int, height: int, pixels: int) -> float:
    """The factor that brings a picture to at most ``pixels`` and ``LONGEST``; small ones grow as far as these allow."""
    most = min(math.sqrt(pixels / (width * height)), LONGEST / max(width, height))
    return min(most, max(1.0, min(SMALL_SIDE / min(width, height), MOST_ENLARGED)))


def square_factor(width: int, height: int, side: int) -> float:
    """The factor that brings a picture into a square of ``side``; small ones grow, as far as the square allows."""
    return min(side / max(width, height), max(1.0, min(SMALL_SIDE / min(width, height), MOST_ENLARGED)))


def scaled_rgb(picture: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """A picture ``(H, W)`` or ``(H, W, 3)`` at another size, ``(h, w, 3)``, without loss of what a detector sees."""
    height, width = picture.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size != (width, height):
        # Bilinear sampling passes no pixel over until it halves the picture, and is ten times as fast as averaging.
        method = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=method), np.uint8)
    return np.ascontiguousarray(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2))


def box_in(
    picture: NDArray[np.uint8], scaled: NDArray[np.uint8], x: float, y: float, width: float, height: float
) -> Box | None:
    """A box found in ``scaled``, in whole pixels of ``picture``; ``None`` where it does not overlap it."""
    right, down = picture.shape[1] / scaled.shape[1], picture.shape[0] / scaled.shape[0]
    box = Box(round(x * right), round(y * down), max(1, round(width * right)), max(1, round(height * down)))
    return box if width > 0 and height > 0 and box.share_inside(picture.shape[1], picture.shape[0]) > 0 else None
