"""YuNet's own files, as its authors and OpenCV Zoo publish them, run by ONNX Runtime.

Source: Wu, Peng, Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20;
https://github.com/ShiqiYu/libfacedetection.train; weights of OpenCV Zoo (MIT), ``face_detection_yunet_2023mar.onnx``.

Deviations: scores are looked at before boxes are decoded, and suppression is ours. A file of a fixed size, as OpenCV
Zoo's of 640 x 640, is shown each picture in that field, at its upper left.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.face.detect import base
from mien.face.detect.graph import read_network, run_network
from mien.files import RemoteFile, fetch

STRIDES = (8, 16, 32)
VALUES = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""Outputs of each stride -> numbers for each of its cells."""

OUTPUTS = tuple(f"{name}_{stride}" for stride in STRIDES for name in VALUES)

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


class YuNet:
    """Detector ``yunet``. Arguments as :func:`mien.face.detect.create_detector`."""

    name = "yunet"
    framing = base.FRAMING

    def __init__(self, threshold: float = base.THRESHOLD, model: Path | None = None, side: int = base.SIDE) -> None:
        self.threshold = base.check_threshold(threshold)
        self._path = fetch(WEIGHTS, OFFLINE) if model is None else model
        self._session = read_network(self._path, OFFLINE)
        self._field = self._check()
        self.side = min(base.check_side(side), *(self._field or (side,)))
        self.identity = base.identity_of(self._path, self.threshold, self.side)

    def detect(self, picture: NDArray[np.uint8]) -> list[base.Detection]:
        """As :class:`mien.face.detect.FaceDetector`."""
        seen = base.searched(picture, self.side)  # (h, w, 3)
        height, width = self._field or tuple(-(-length // 32) * 32 for length in seen.shape[:2])
        field = np.zeros((1, 3, height, width), np.float32)
        field[0, :, : seen.shape[0], : seen.shape[1]] = seen[..., ::-1].transpose(2, 0, 1)  # it was trained on BGR
        candidates = decode(self._run(field), height, width, self.threshold)
        return base.found_faces(candidates, self.threshold, picture, seen)

    def _run(self, field: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The numbers of each cell of a field ``(1, 3, h, w)``: output -> ``(cells, numbers)``."""
        feed = {self._session.get_inputs()[0].name: field}
        found = run_network(self._session, OUTPUTS, feed, self._path, OFFLINE)
        height, width = field.shape[2:]
        shapes = {
            f"{name}_{stride}": (1, (height // stride) * (width // stride), numbers)
            for stride in STRIDES
            for name, numbers in VALUES.items()
        }
        got = {name: each.shape for name, each in zip(OUTPUTS, found, strict=True)}
        if got != shapes:
            raise errors.ModelError(f"{self._path}: expected a YuNet network with {shapes}, got {got}; {OFFLINE}")
        return {name: each[0] for name, each in zip(OUTPUTS, found, strict=True)}

    def _check(self) -> tuple[int, int] | None:
        """Height and width that the file states, or ``None``; a ``ModelError``, if this is no YuNet."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(shape) != 4:
            got = [(each.name, each.type, each.shape) for each in inputs]
            raise errors.ModelError(f"{self._path}: expected a YuNet network, got inputs {got}; {OFFLINE}")
        fixed = all(isinstance(length, int) for length in shape[2:])
        height, width = shape[2:] if fixed else (64, 64)
        if height % 32 or width % 32 or not 32 <= height <= base.MAX_SIDE or not 32 <= width <= base.MAX_SIDE:
            raise errors.ModelError(f"{self._path}: expected sides of 32 pixels each, got {shape}; {OFFLINE}")
        self._run(np.zeros((1, 3, height, width), np.float32))
        return (height, width) if fixed else None


def decode(found: dict[str, NDArray[np.float32]], height: int, width: int, threshold: float) -> base.Candidates:
    """Boxes, points and scores of the cells that reach a threshold, from the outputs for one field."""
    parts = []
    with np.errstate(over="ignore", invalid="ignore"):
        for stride in STRIDES:
            cls, obj, bbox, kps = (found[f"{name}_{stride}"] for name in VALUES)  # (cells, numbers)
            scores = np.sqrt(cls[:, 0].clip(0, 1) * obj[:, 0].clip(0, 1))
            cells = np.flatnonzero(scores >= threshold)
            corners = np.stack([cells % (width // stride), cells // (width // stride)], 1)  # (n, 2): column, row
            sizes = np.exp(bbox[cells, 2:]) * stride
            boxes = np.concatenate([(corners + bbox[cells, :2]) * stride - sizes / 2, sizes], 1)
            points = (corners[:, None] + kps[cells].reshape(-1, 5, 2)) * stride
            parts.append((boxes, points, scores[cells]))
    return base.Candidates(*(np.concatenate(each).astype(np.float32) for each in zip(*parts, strict=True)))
