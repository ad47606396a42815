"""What detectors share: their result, and the size at which they look at a picture. And the one that does not look."""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.errors import CallError, MediaError
from mien.face.crop import Framing, points_frame
from mien.face.images import check_image
from mien.face.result import Box, Points

FRAMING = Framing(scale=1.05)
"""How the YuNet family's boxes lie, fitted on Training pictures: ``docs/decisions/0004-framing.md``."""

THRESHOLD = 0.6
"""Chosen on Training pictures and natural photographs: ``docs/decisions/0004-framing.md``."""

MIN_SIDE = 192
"""Smaller pictures are enlarged to it: of FER-2013's own 48x48 pictures a detector then finds 98 %, before 76 %."""
MAX_ENLARGEMENT = 4.0  # faces of fewer than a dozen pixels show nothing anyway

MAX_SIDE = 16_384
"""Pixels: libfacedetection's coordinates have 16 bits, and on strips of millions it crashes."""


SIDE = 640
"""Pixels of the longer side at which networks search a picture: of a larger one, faces from a fortieth of its longer
side up are found, 16 pixels in the picture that is searched."""

OVERLAP, MOST = 0.3, 1000
"""Intersection over union above which the less confident of two boxes is dropped, and how many are looked at."""


class Detection(NamedTuple):
    """A face that was found, and the confidence that it is one: 0 to 1, on the detector's own scale.

    With its ``points`` it is cropped upright; without, by its box.
    """

    box: Box
    confidence: float
    points: Points | None = None


class Candidates(NamedTuple):
    """What a network gives of one picture, in pixels of the picture that it was shown."""

    boxes: NDArray[np.float32]  # (K, 4): x, y, width, height
    points: NDArray[np.float32]  # (K, 5, 2)
    scores: NDArray[np.float32]  # (K,), 0 to 1


class WholePicture:
    """Detector ``none``: the picture is a face, as in FER-2013 and in folders of crops."""

    name = "none"
    framing = None

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """As :class:`mien.face.detect.FaceDetector`: one face, the whole picture, with confidence 1."""
        check_image(picture)
        height, width = picture.shape[:2]
        return [Detection(Box(0, 0, width, height), 1.0)]


def sorted_detections(found: Iterable[tuple[Box | None, float, Points | None]]) -> list[Detection]:
    """The boxes that lie in the picture, the most confident first; equal ones keep their order."""
    detections = [Detection(box, min(confidence, 1.0), points) for box, confidence, points in found if box is not None]
    return sorted(detections, key=lambda detection: -detection.confidence)


def check_threshold(threshold: float) -> float:
    """``threshold``, or a ``CallError`` where it is not in [0, 1]."""
    if not 0 <= threshold <= 1:
        raise CallError(f"expected a detection threshold of 0 to 1, got {threshold}")
    return threshold


def check_side(side: int) -> int:
    """``side``, or a ``CallError`` where a network cannot search at it."""
    if not 32 <= side <= MAX_SIDE:
        raise CallError(f"expected a side of 32 to {MAX_SIDE:,} pixels, got {side}")
    return side


def identity_of(model: Path, threshold: float, side: int) -> str:
    """What tells a detector, and so what it finds in a picture, from all others: a hash (hexadecimal)."""
    return hashlib.sha256(model.read_bytes() + f" {threshold} {side}".encode()).hexdigest()


def found_faces(
    candidates: Candidates, threshold: float, picture: NDArray[np.uint8], seen: NDArray[np.uint8]
) -> list[Detection]:
    """The faces among what a network gives of ``seen``, in pixels of ``picture``, whose copy that is.

    What is no number or larger than the picture four times over is no face.
    """
    boxes, points, scores = candidates
    largest = 4 * max(seen.shape)
    with np.errstate(invalid="ignore"):
        sizes, corners = boxes[:, 2:], np.abs(boxes[:, :2])
        likely = (scores >= threshold) & ((sizes > 0) & (sizes <= largest) & (corners <= largest)).all(1)
    order = np.flatnonzero(likely)
    order = order[np.argsort(-scores[order], kind="stable")][:MOST]
    kept = order[suppressed(boxes[order].astype(np.float64))]
    right, down = picture.shape[1] / seen.shape[1], picture.shape[0] / seen.shape[0]
    detections = []
    for box, confidence, places in zip(boxes[kept].tolist(), scores[kept].tolist(), points[kept], strict=True):
        place = box_in(picture, seen, *box)
        scaled = tuple((x * right, y * down) for x, y in places.tolist())
        detections.append((place, confidence, None if place is None else _points_of(place, scaled)))
    return sorted_detections(detections)


def suppressed(boxes: NDArray[np.float64]) -> list[int]:
    """Which boxes ``(K, 4)``, the most confident first, overlap no earlier one that stays by more than ``OVERLAP``."""
    ends, areas = boxes[:, :2] + boxes[:, 2:], boxes[:, 2] * boxes[:, 3]
    left = np.ones(len(boxes), np.bool_)
    kept = []
    for number in range(len(boxes)):
        if left[number]:
            kept.append(number)
            common = np.minimum(ends, ends[number]) - np.maximum(boxes[:, :2], boxes[number, :2])
            overlap = common.clip(0).prod(1)
            left &= overlap <= OVERLAP * (areas + areas[number] - overlap)
    return kept


def _points_of(box: Box, points: Points) -> Points | None:
    """The points, if they make a face about the box: its centre in the box, its side within a factor of three."""
    try:
        frame = points_frame(points)
    except MediaError:
        return None
    centre = frame.corner + frame.side * (1 + 1j) / 2
    inside = box.x <= centre.real <= box.x + box.width and box.y <= centre.imag <= box.y + box.height
    return points if inside and 1 / 3 <= abs(frame.side) / math.sqrt(box.width * box.height) <= 3 else None


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


def searched(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """:func:`scaled_rgb` by Pillow, whose triangle filter grows with the step, so that no pixel is skipped."""
    check_image(picture)
    height, width = picture.shape[:2]
    factor = scale_factor(width, height, side)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size != (width, height):
        whole = Image.fromarray(np.ascontiguousarray(picture))
        picture = np.asarray(whole.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    return np.ascontiguousarray(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2))


def box_in(
    picture: NDArray[np.uint8], scaled: NDArray[np.uint8], x: float, y: float, width: float, height: float
) -> Box | None:
    """A box found in ``scaled``, in whole pixels of ``picture``; ``None`` where it does not overlap it."""
    right, down = picture.shape[1] / scaled.shape[1], picture.shape[0] / scaled.shape[0]
    box = Box(round(x * right), round(y * down), max(1, round(width * right)), max(1, round(height * down)))
    return box if width > 0 and height > 0 and box.fraction_inside(picture.shape[1], picture.shape[0]) > 0 else None
