"""What every detector gives."""

from collections.abc import Iterable
from typing import NamedTuple

from mien.errors import CallError
from mien.face.result import Box


class Detection(NamedTuple):
    """A face that was found, and the confidence that it is one: 0 to 1, on the detector's own scale."""

    box: Box
    confidence: float


def sorted_detections(found: Iterable[tuple[Box | None, float]]) -> list[Detection]:
    """The boxes that lie in the picture, the most confident first; equal ones keep their order."""
    detections = [Detection(box, min(confidence, 1.0)) for box, confidence in found if box is not None]
    return sorted(detections, key=lambda detection: -detection.confidence)


def check_threshold(threshold: float) -> float:
    """``threshold``, if it is one.

    Raises:
        CallError: it is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise CallError(f"expected a detection threshold of 0 to 1, came {threshold}")
    return threshold
