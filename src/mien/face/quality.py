"""Is a face large, light, sharp and whole enough for its emotion to be relied on?

Six aspects are measured on what the network sees, and each is set against a scale: at its middle, a network of ours
had lost ten points of accuracy on PublicTest pictures with this one corruption; at its upper end, about two.
The worst aspect is the quality. Measured with ``benchmarks/quality.py``; see ``docs/decisions/0005-face-quality.md``.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face.crop import FACE_SIZE, Framing, crop_face, face_square

RELIABLE = 0.5  # minimum quality of a face whose emotion may be relied on
WHITE = 250  # grey level from which a pixel counts as overexposed


class Quality(NamedTuple):
    """The score of the worst aspect, 0 to 1, and the aspects worse than ``RELIABLE``, which are keys of ``SCALES``."""

    value: float
    reasons: tuple[str, ...]


class Scale(NamedTuple):
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


def face_quality(
    picture: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    framing: Framing | None = None,
    crop: NDArray[np.uint8] | None = None,
) -> Quality:
    """The quality of the face in a box of a picture; arguments and errors as for ``crop_face``.

    ``crop`` is the face where the caller has cropped it: it is used if it is ``(48, 48)``.
    """
    scores = {name: SCALES[name].score(value) for name, value in measure_face(picture, box, framing, crop).items()}
    return Quality(min(scores.values()), tuple(name for name, score in scores.items() if score < RELIABLE))


def measure_face(
    picture: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    framing: Framing | None = None,
    crop: NDArray[np.uint8] | None = None,
) -> dict[str, float]:
    """The aspects of a face, each the better the larger. Arguments as :func:`face_quality`.

    ``small``: side of the face's square, in pixels of the picture. Of its 48x48 crop: ``dark``: mean grey level;
    ``overexposed``: fraction of pixels that are not; ``low contrast``: standard deviation of the grey levels;
    ``blurred``: standard deviation of the Laplacian over that of the grey levels, which does not depend on the
    contrast. ``cut off``: fraction of the square that lies in the picture.
    """
    if crop is None or crop.shape != (FACE_SIZE, FACE_SIZE):
        crop = crop_face(picture, box, FACE_SIZE, framing)
    square = face_square(box, framing)
    contrast = float(crop.std())
    edges = cv2.Laplacian(crop, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)
    return {
        "small": float(square.width),
        "dark": float(crop.mean()),
        "overexposed": float((crop < WHITE).mean()),
        "low contrast": contrast,
        "blurred": float(edges.std()) / max(contrast, 1.0),
        "cut off": square.fraction_inside(picture.shape[1], picture.shape[0]),
    }
