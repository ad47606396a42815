"""Is a face large, light, sharp and whole enough for its emotion to be relied on?

Six aspects are measured on what the network sees, and each is set against a scale: at its middle, a network of ours
had lost ten points of accuracy on PublicTest pictures that were spoilt in this one way; at its upper end, about two.
The worst aspect is the quality. Measured with ``benchmarks/quality.py``; see ``docs/decisions/0005-face-quality.md``.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face.crop import FACE_SIZE, Framing, crop_face, face_square
from mien.face.pictures import check_picture

RELIABLE = 0.5
"""Least quality of a face whose emotion may be relied on."""

WHITE = 250
"""Grey level from which a pixel counts as overexposed."""


@dataclass(frozen=True)
class Quality:
    """Attributes:
    value: 0 to 1, the score of the worst aspect.
    reasons: the aspects that are worse than ``RELIABLE``: keys of ``SCALES``.
    """

    value: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """An aspect's values at the scores 0, 0.5 and 1, increasing; linear between them."""

    useless: float
    doubtful: float
    good: float

    def score(self, value: float) -> float:
        """0 to 1."""
        return float(np.interp(value, (self.useless, self.doubtful, self.good), (0.0, RELIABLE, 1.0)))


SCALES: dict[str, Scale] = {
    "small": Scale(8, 20, 40),
    "dark": Scale(13, 32, 65),
    "overexposed": Scale(0.0, 0.42, 0.9),
    "low contrast": Scale(5, 15, 32),
    "blurred": Scale(0.06, 0.2, 0.35),
    "cut off": Scale(0.0, 0.66, 0.9),
}
"""What can be wrong with a face -> the scale of what :func:`measure_face` gives under the same name."""


def face_quality(picture: NDArray[np.uint8], box: tuple[int, int, int, int], framing: Framing | None = None) -> Quality:
    """The quality of the face in a box of a picture, grey ``(H, W)`` or RGB ``(H, W, 3)``. Arguments as ``crop_face``.

    Raises:
        MediaError: not such a picture, or a box that holds nothing of it.
    """
    scores = {name: SCALES[name].score(value) for name, value in measure_face(picture, box, framing).items()}
    return Quality(min(scores.values()), tuple(name for name, score in scores.items() if score < RELIABLE))


def measure_face(
    picture: NDArray[np.uint8], box: tuple[int, int, int, int], framing: Framing | None = None
) -> dict[str, float]:
    """The aspects of a face, each the better the larger.

    Returns:
        ``small``: side of the face's square, in pixels of the picture. Of its 48x48 crop: ``dark``: mean grey level;
        ``overexposed``: share of pixels that are not; ``low contrast``: standard deviation of the grey levels;
        ``blurred``: standard deviation of the Laplacian over that of the grey levels, which does not depend on the
        contrast. ``cut off``: share of the square that lies in the picture.
    """
    check_picture(picture)
    square = face_square(box, framing)
    height, width = picture.shape[:2]
    face = crop_face(picture, box, FACE_SIZE, framing)
    contrast = float(face.std())
    edges = cv2.Laplacian(face, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)
    return {
        "small": float(square.width),
        "dark": float(face.mean()),
        "overexposed": float((face < WHITE).mean()),
        "low contrast": contrast,
        "blurred": float(edges.std()) / max(contrast, 1.0),
        "cut off": square.share_inside(width, height),
    }
