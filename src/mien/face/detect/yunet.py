"""YuNet by OpenCV's ``FaceDetectorYN``: where libfacedetection has no wheel, or with a model file of your own.

Source: Wu, Peng, Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20; weights
of OpenCV Zoo (MIT), ``face_detection_yunet_2023mar.onnx``.

Deviations: the picture is laid into a square of 640 pixels, the size that the file states, so that OpenCV prepares
the network once. The framing is libfacedetection's, which has the same training and box. Not run by us with the real
weights, which could not be fetched where mien was written: the tests run OpenCV's decoding over a drawn network of
the same form.
"""

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MissingPathError, ModelError
from mien.face.cache import RemoteFile, fetch
from mien.face.crop import FRAMINGS
from mien.face.detect._detection import Detection, check_threshold, sorted_detections
from mien.face.detect._scale import box_in, scaled_rgb, square_factor
from mien.face.pictures import check_picture
from mien.face.runtime import create_session

SIDE = 640
"""Of the square that the network sees, in pixels."""

THRESHOLD = 0.6
OVERLAP = 0.3
"""Of two boxes, above which the less confident one is dropped; as in OpenCV Zoo's own demonstration."""

MOST_BOXES = 5000

WEIGHTS = RemoteFile(
    name="face_detection_yunet_2023mar.onnx",
    url="https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
    "face_detection_yunet_2023mar.onnx",
    sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    size=232_589,
    license="MIT",
)

OFFLINE = f"fetch {WEIGHTS.name} of OpenCV Zoo elsewhere and name the detector yunet:FILE"

OUTPUTS = {
    f"{name}_{stride}": size * (SIDE // stride) ** 2
    for name, size in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items()
    for stride in (8, 16, 32)
}
"""Outputs that ``FaceDetectorYN`` reads without looking -> how many numbers each must hold."""


class YuNet:
    """Detector ``yunet``. Arguments as :func:`mien.face.detect.create_detector`."""

    name = "yunet"
    framing = FRAMINGS["yunet"]

    def __init__(self, threshold: float = THRESHOLD, model: Path | None = None) -> None:
        self.threshold = check_threshold(threshold)
        self._net = _load(fetch(WEIGHTS, OFFLINE) if model is None else model, threshold)
        self._lock = threading.Lock()  # OpenCV's networks hold their activations

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """As :class:`mien.face.detect.FaceDetector`."""
        check_picture(picture)
        height, width = picture.shape[:2]
        seen = scaled_rgb(picture, square_factor(width, height, SIDE))  # (h, w, 3)
        square = np.zeros((SIDE, SIDE, 3), np.uint8)
        square[: seen.shape[0], : seen.shape[1]] = seen[..., ::-1]  # it was trained on BGR
        with self._lock:
            _, found = self._net.detect(square)
        rows = [] if found is None else found.tolist()  # (n, 15): x, y, width, height, landmarks, score
        return sorted_detections((box_in(picture, seen, *row[:4]), row[14]) for row in rows)


def _load(path: Path, threshold: float) -> Any:
    """OpenCV's detector with the network of a file.

    Raises:
        MissingPathError: there is no such file.
        ModelError: it holds no such network.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingPathError(f"{path}: expected a YuNet file, but there is none; {OFFLINE}") from error
    except OSError as error:
        raise ModelError(f"{path}: expected a readable YuNet file, came {error.strerror}; {OFFLINE}") from error
    _check_graph(content, path)
    buffer = np.frombuffer(content, np.uint8)
    try:
        return cv2.FaceDetectorYN.create(
            "onnx", buffer, np.empty(0, np.uint8), (SIDE, SIDE), threshold, OVERLAP, MOST_BOXES
        )
    except cv2.error as error:
        raise ModelError(
            f"{path}: OpenCV {cv2.__version__} cannot read this network ({error.err}); {OFFLINE}"
        ) from error


def _check_graph(content: bytes, path: Path) -> None:
    """Refuse a foreign network: OpenCV would read past the end of its outputs."""
    try:
        session = create_session(content, threads=1)
        values = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, SIDE, SIDE), np.float32)})
    except Exception as error:  # its exceptions have no common base
        raise ModelError(
            f"{path}: expected a YuNet network for {SIDE} x {SIDE} pixels, came {_first_line(error)}; {OFFLINE}"
        ) from error
    came = {output.name: value.size for output, value in zip(session.get_outputs(), values, strict=True)}
    if came != OUTPUTS:
        raise ModelError(f"{path}: expected a YuNet network with the outputs {OUTPUTS}, came {came}; {OFFLINE}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
