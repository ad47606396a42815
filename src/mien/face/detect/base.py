"""What detectors share: their result, and the size at which they look at a picture. And the one that does not look."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import CallError
from mien.face.crop import Framing
from mien.face.images import check_image
from mien.face.result import Box

FRAMING = Framing(scale=1.05)
"""How the YuNet family's boxes lie, fitted on Training pictures: ``docs/decisions/0004-framing.md``."""

THRESHOLD = 0.6
"""Chosen on Training pictures and natural photographs: ``docs/decisions/0004-framing.md``."""

MIN_SIDE = 192
"""Smaller pictures are enlarged to it: of FER-2013's own 48x48 pictures a detector then finds 98 %, before 76 %."""
MAX_ENLARGEMENT = 4.0  # faces of fewer than a dozen pixels show nothing anyway

MAX_SIDE = 16_384
"""Pixels: libfacedetection's coordinates have 16 bits, and on strips of millions it crashes."""


class Detection(NamedTuple):
    """A face that was found, and the confidence that it is one: 0 to 1, on the detector's own scale."""

    box: Box
    confidence: float


class WholePicture:
    """Detector ``none``: the picture is a face, as in FER-2013 and in folders of crops."""

    name = "none"
    framing = None

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """As :class:`mien.face.detect.FaceDetector`: one face, the whole picture, with confidence 1."""
        check_image(picture)
        height, width = picture.shape[:2]
        return [Detection(Box(0, 0, width, height), 1.0)]


def sorted_detections(found: Iterable[tuple[Box | None, float]]) -> list[Detection]:
    """The boxes that lie in the picture, the most confident first; equal ones keep their order."""
    detections = [Detection(box, min(confidence, 1.0)) for box, confidence in found if box is not None]
    return sorted(detections, key=lambda detection: -detection.confidence)


def check_threshold(threshold: float) -> float:
    """``threshold``, or a ``CallError`` where it is not in [0, 1]."""
    if not 0 <= threshold <= 1:
        raise CallError(f"expected a detection threshold of 0 to 1, got {threshold}")
    return threshold


def scale_factor(width: int, height: int, side: int = MAX_SIDE, pixels: float = math.inf) -> float:
    """The factor that brings a picture to at most ``side`` and ``pixels``; small ones grow as far as these allow."""
    highest = min(math.sqrt(pixels / (width * height)), side / max(width, height))
    return min(highest, max(1.0, min(MIN_SIDE / min(width, height), MAX_ENLARGEMENT)))


def scaled_rgb(picture: NDArray[np.uint8], side: int = MAX_SIDE, pixels: float = math.inf) -> NDArray[np.uint8]:
    """A picture ``(H, W)`` or ``(H, W, 3)`` at the size of :func:`scale_factor`: ``(h, w, 3)``.

    Raises:
        MediaError: it is no such picture.
    """
    check_image(picture)
    height, width = picture.shape[:2]
    factor = scale_factor(width, height, side, pixels)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size != (width, height):
        # Bilinear sampling skips no pixel until it halves the picture, and is ten times as fast as averaging.
        method = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=method), np.uint8)
    return np.ascontiguousarray(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2))


def box_in(
    picture: NDArray[np.uint8], scaled: NDArray[np.uint8], x: float, y: float, width: float, height: float
) -> Box | None:
    """A box found in ``scaled``, in whole pixels of ``picture``; ``None`` where it does not overlap it."""
    right, down = picture.shape[1] / scaled.shape[1], picture.shape[0] / scaled.shape[0]
    box = Box(round(x * right), round(y * down), max(1, round(width * right)), max(1, round(height * down)))
    return box if width > 0 and height > 0 and box.fraction_inside(picture.shape[1], picture.shape[0]) > 0 else None
