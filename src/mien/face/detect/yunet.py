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

from mien import errors
from mien.face.detect import base
from mien.face.runtime import create_session
from mien.files import RemoteFile, fetch

SIDE = 640  # of the square that the network sees, in pixels
OVERLAP, MAX_BOXES = 0.3, 5000
"""Intersection over union above which the less confident of two boxes is dropped; as in OpenCV Zoo's demonstration."""

WEIGHTS = RemoteFile(
    name="face_detection_yunet_2023mar.onnx",
    url="https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
    "face_detection_yunet_2023mar.onnx",
    sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    size=232_589,
    license="MIT",
)

OFFLINE = (
    f"fetch {WEIGHTS.name} of OpenCV Zoo elsewhere and give --detector yunet:FILE, give --detector none if every"
    " picture is one face, or use a Python up to 3.13 on x86-64, where mien needs no download"
)

OUTPUTS = {
    f"{name}_{stride}": size * (SIDE // stride) ** 2
    for name, size in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items()
    for stride in (8, 16, 32)
}
"""Outputs that ``FaceDetectorYN`` reads without looking -> how many numbers each must hold."""


class YuNet:
    """Detector ``yunet``. Arguments as :func:`mien.face.detect.create_detector`."""

    name = "yunet"
    framing = base.FRAMING

    def __init__(self, threshold: float = base.THRESHOLD, model: Path | None = None) -> None:
        self.threshold = base.check_threshold(threshold)
        self._net = _load(fetch(WEIGHTS, OFFLINE) if model is None else model, threshold)
        self._lock = threading.Lock()  # OpenCV's networks hold their activations

    def detect(self, picture: NDArray[np.uint8]) -> list[base.Detection]:
        """As :class:`mien.face.detect.FaceDetector`."""
        seen = base.scaled_rgb(picture, SIDE)  # (h, w, 3)
        square = np.zeros((SIDE, SIDE, 3), np.uint8)
        square[: seen.shape[0], : seen.shape[1]] = seen[..., ::-1]  # it was trained on BGR
        with self._lock:
            _, found = self._net.detect(square)
        rows = [] if found is None else found.tolist()  # (n, 15): x, y, width, height, landmarks, score
        return base.sorted_detections((base.box_in(picture, seen, *row[:4]), row[14]) for row in rows)


def _load(path: Path, threshold: float) -> Any:
    """OpenCV's detector with the network of a file, if OpenCV would read nothing past the end of its outputs."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise errors.MissingPathError(f"{path}: expected a YuNet file, but there is none; {OFFLINE}") from error
    except OSError as error:
        raise errors.ModelError(f"{path}: expected a readable YuNet file, got {error.strerror}; {OFFLINE}") from error
    try:
        session = create_session(content, threads=1)
        values = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, SIDE, SIDE), np.float32)})
    except Exception as error:  # its exceptions have no common base
        raise errors.ModelError(
            f"{path}: expected a YuNet network for {SIDE} x {SIDE} pixels, got {errors.first_line(error)}; {OFFLINE}"
        ) from error
    found = {output.name: value.size for output, value in zip(session.get_outputs(), values, strict=True)}
    if found != OUTPUTS:
        raise errors.ModelError(f"{path}: expected a YuNet network with the outputs {OUTPUTS}, got {found}; {OFFLINE}")
    buffers = np.frombuffer(content, np.uint8), np.empty(0, np.uint8)
    try:
        return cv2.FaceDetectorYN.create("onnx", *buffers, (SIDE, SIDE), threshold, OVERLAP, MAX_BOXES)
    except cv2.error as error:
        raise errors.ModelError(
            f"{path}: OpenCV {cv2.__version__} cannot read this network ({error.err}); {OFFLINE}"
        ) from error
