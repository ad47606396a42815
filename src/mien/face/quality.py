"""Is a face large, light, sharp and whole enough for its emotion to be relied on?

Seven aspects are measured on what the network sees, and each is set against a scale: at its middle, a network of ours
had lost ten points of accuracy on PublicTest pictures with this one corruption; at its upper end, about two.
The worst aspect is the quality. Measured with ``benchmarks/quality.py``; see ``docs/decisions/0005-face-quality.md``
and, for ``turned``, ``0027-upright-crops.md``.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.face.crop import FACE_SIZE, Framing, crop_face, face_frame
from mien.face.result import Points

RELIABLE = 0.5  # minimum quality of a face whose emotion may be relied on
YAW_PER_ROLL = 0.5  # degrees to the side that cost as much as one of roll, which the crop takes back
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
    "turned": Scale(0.0, 55.0, 75.0),
}
"""What can be wrong with a face -> the scale of what :func:`measure_face` gives under the same name."""


def face_quality(
    picture: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    framing: Framing | None = None,
    crop: NDArray[np.uint8] | None = None,
    points: Points | None = None,
) -> Quality:
    """The quality of the face in a box of a picture; arguments and errors as for ``crop_face``.

    ``crop`` is the face where the caller has cropped it: it is used if it is ``(48, 48)``.
    """
    measured = measure_face(picture, box, framing, crop, points)
    scores = {name: SCALES[name].score(value) for name, value in measured.items()}
    return Quality(min(scores.values()), tuple(name for name, score in scores.items() if score < RELIABLE))


def measure_face(
    picture: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    framing: Framing | None = None,
    crop: NDArray[np.uint8] | None = None,
    points: Points | None = None,
) -> dict[str, float]:
    """The aspects of a face, each the better the larger. Arguments as :func:`face_quality`.

    ``small``: side of the face's square, in pixels of the picture. Of its 48x48 crop: ``dark``: mean grey level;
    ``overexposed``: fraction of pixels that are not; ``low contrast``: standard deviation of the grey levels;
    ``blurred``: standard deviation of the Laplacian over that of the grey levels, which does not depend on the
    contrast. ``cut off``: fraction of the square that lies in the picture. With points, ``turned``: 90 less the degrees
    of :func:`estimate_yaw`, or of so much roll as costs as much.
    """
    if crop is None or crop.shape != (FACE_SIZE, FACE_SIZE):
        crop = crop_face(picture, box, FACE_SIZE, framing, points=points)
    frame = face_frame(box, framing, points)
    contrast = float(crop.std())
    measured = {
        "small": abs(frame.side),
        "dark": float(crop.mean()),
        "overexposed": float((crop < WHITE).mean()),
        "low contrast": contrast,
        "blurred": float(_laplacian(crop).std()) / max(contrast, 1.0),
        "cut off": frame.fraction_inside(picture.shape[1], picture.shape[0]),
    }
    if points is not None:
        turned = max(abs(estimate_yaw(points)), abs(frame.roll) * YAW_PER_ROLL)
        measured["turned"] = max(0.0, 90 - turned)
    return measured


def estimate_yaw(points: Points) -> float:
    """By how many degrees a face looks to the right of the picture, -90 to 90, as its five points tell.

    The nose stands before the middle of the eyes by about half of their distance, so that it is the tangent of the yaw
    by which it lies beside the middle line, in units of half the distance between the left and the right points.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = np.asarray(points, np.float64) @ (1, 1j)
    left, right = (left_eye + left_mouth) / 2, (right_eye + right_mouth) / 2
    half, beside = (right - left) / 2, nose - (left + right) / 2
    along = (beside * half.conjugate()).real
    return math.degrees(math.atan2(along, abs(half) ** 2))


def _laplacian(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The four neighbours less four times the pixel, the edge repeated: ``(S, S) -> (S, S)``."""
    wide = np.pad(crop.astype(np.float32), 1, mode="edge")
    edges: NDArray[np.float32] = (
        wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * wide[1:-1, 1:-1]
    )
    return edges
