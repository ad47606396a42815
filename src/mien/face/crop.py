"""Box or points -> square grey face: the one preprocessing of pictures, for training data and for recognition alike.

The crop by points, in full, so that it can be written again in another language (``tests/face/crops.npz`` holds faces
to compare with, docs/decisions/0027 says why). All arithmetic is in double precision; ``x + iy`` is a place in the
picture, whose pixel (column, row) covers ``column`` to ``column + 1``.

1. Frame: the similarity ``w = t z + s``, without reflection, that brings the five points ``z`` nearest to
   ``REFERENCE / 48 = w`` (least squares): with both freed of their means, ``t = sum(conj(z) w) / sum(|z|^2)``. The
   frame's side is ``1 / t``, its corner the place that comes to ``w = 0``.
2. Samples: each of the S x S pixels is the mean of n x n bilinear samples at equal distances, n the frame's side over
   S, rounded up, ``MAX_SAMPLES`` at most. Outside the picture its nearest pixel counts.
3. Grey is ``(9798 R + 19235 G + 3735 B + 2^14) >> 15`` (ITU-R BT.601) of each pixel before it is sampled; a mean is
   rounded to the nearest whole number, halves up.

Source: Umeyama 1991, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns", IEEE TPAMI 13,
in the plane.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import MediaError
from mien.face import images
from mien.face.result import Box, Points

FACE_SIZE = 48
"""Side of a face in FER-2013, in pixels."""

EYES = (0.22, 0.46)
MOUTH = (0.62, 0.88)
"""Bands of FER-2013's frame as fractions of its height, from the top: where eyes and mouth lie in most faces."""

REFERENCE = ((14.6, 18.2), (32.7, 18.2), (23.6, 28.2), (16.5, 36.6), (31.1, 36.6))
"""Where FER-2013 shows the eyes, the nose and the corners of the mouth, from left to right, in pixels of its 48:
medians over the Training pictures of what YuNet finds."""

MAX_SAMPLES = 32
"""Bilinear samples along a pixel's side, at most: faces above 1,536 pixels are sampled more thinly."""

BLOCK = 2**18  # samples that are in memory together

LUMA, LUMA_BITS = (9798, 19235, 3735), 15
"""Weights of red, green and blue, in units of ``2^-LUMA_BITS``."""


@dataclass(frozen=True)
class Framing:
    """How a detector's box lies in the frame that FER-2013's pictures have."""

    scale: float  # side of the frame over the square root of the box's area
    right: float = 0.0  # from the box's centre to the frame's, in widths of the box
    down: float = 0.0  # likewise, in heights of the box

    def frame(self, box: tuple[int, int, int, int]) -> Box:
        """The square that a picture of FER-2013 would show of the face in ``box``, in whole pixels."""
        x, y, width, height = box
        side = max(1, round(self.scale * math.sqrt(max(width, 1) * max(height, 1))))
        left = x + width * (0.5 + self.right) - side / 2
        top = y + height * (0.5 + self.down) - side / 2
        return Box(round(left), round(top), side, side)


class Frame(NamedTuple):
    """The square of the picture that a crop shows, perhaps turned, in complex numbers ``x + iy``."""

    corner: complex  # what the crop's upper left corner shows
    side: complex  # from there to its upper right corner

    @property
    def roll(self) -> float:
        """By how many degrees the face is turned in the picture, clockwise; -180 to 180."""
        return math.degrees(math.atan2(self.side.imag, self.side.real))

    def places(self, across: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.complex128]:
        """The places at fractions of the side: ``(n,), (m,) -> (m, n)``."""
        places: NDArray[np.complex128] = self.corner + self.side * (across + 1j * down[:, None])
        return places

    def bounds(self) -> Box:
        """The smallest upright box around it, in whole pixels."""
        corners = self.places(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
        left, top = (math.floor(each.min() + 1e-9) for each in (corners.real, corners.imag))
        right, bottom = (math.ceil(each.max() - 1e-9) for each in (corners.real, corners.imag))
        return Box(left, top, right - left, bottom - top)

    def fraction_inside(self, width: int, height: int) -> float:
        """Fraction of the square's area that lies in a picture of this size; of a turned one by 48 x 48 points."""
        if not self.side.imag:
            return self.bounds().fraction_inside(width, height)
        centres = (np.arange(FACE_SIZE) + 0.5) / FACE_SIZE
        places = self.places(centres, centres)
        inside = (places.real >= 0) & (places.real < width) & (places.imag >= 0) & (places.imag < height)
        return float(inside.mean())


def face_frame(box: tuple[int, int, int, int], framing: Framing | None = None, points: Points | None = None) -> Frame:
    """What ``crop_face`` shows: :func:`points_frame`, or without points :func:`face_square`, and raises as these do."""
    if points is not None:
        return points_frame(points)
    x, y, side, _ = face_square(box, framing)
    return Frame(complex(x, y), complex(side))


def points_frame(points: Points) -> Frame:
    """The frame that shows five points where FER-2013 has them: ``REFERENCE``.

    Raises:
        MediaError: not five finite points, or points that tell no size.
    """
    found = np.asarray(points, np.float64)
    if found.shape != (5, 2) or not np.isfinite(found).all():
        raise MediaError(f"expected five points (x, y), finite: eyes, nose, corners of the mouth; got {points}")
    corner, side = (complex(each) for each in fit_frames(found))
    if not 1 <= abs(side) ** 2 <= images.MAX_PIXELS:
        raise MediaError(f"expected the points of a face of 1 to {images.MAX_PIXELS:,} pixels, got {points}")
    return Frame(corner, side)


def fit_frames(points: NDArray[np.float64]) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Corner and side of the frames of faces ``(..., 5, 2)``: ``(...)`` each; no numbers where points tell no size."""
    seen, known = points @ (1, 1j), np.array(REFERENCE) @ (1, 1j) / FACE_SIZE  # (..., 5), (5,)
    mean, from_known = seen.mean(-1, keepdims=True), known - known.mean()
    from_mean = seen - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        side = (np.abs(from_mean) ** 2).sum(-1) / (from_mean.conj() * from_known).sum(-1)
        return mean[..., 0] - side * known.mean(), side


def face_square(box: tuple[int, int, int, int], framing: Framing | None = None) -> Box:
    """The square of the picture that ``crop_face`` shows.

    Without a framing the box grows to a square around its centre (odd differences go right and down).

    Raises:
        MediaError: the box is empty, or the square is above ``MAX_PIXELS``.
    """
    x, y, width, height = box
    if width < 1 or height < 1:
        raise MediaError(f"expected a box of at least 1 x 1 pixel, got {width} x {height}")
    side = max(width, height)
    grown = Box(x - (side - width) // 2, y - (side - height) // 2, side, side)
    square = grown if framing is None else framing.frame(box)
    if square.width * square.height > images.MAX_PIXELS:
        raise MediaError(f"expected a box of at most {images.MAX_PIXELS:,} pixels, got a square of side {square.width}")
    return square


def crop_face(
    picture: NDArray[np.uint8],
    box: tuple[int, int, int, int] | None = None,
    size: int = FACE_SIZE,
    framing: Framing | None = None,
    *,
    points: Points | None = None,
    color: bool = False,
) -> NDArray[np.uint8]:
    """The face in a box as a grey square: ``(H, W)`` or ``(H, W, 3)`` -> ``(size, size)``, uint8.

    With ``points``, which are those of :func:`points_frame`, the face comes upright in the frame that they give, as the
    top of this file says, and the box is not looked at.

    With ``color`` it is RGB, ``(size, size, 3)``, where a grey picture has three equal channels.

    The square is :func:`face_square`; where it leaves the picture, the picture's edge is repeated. Grey is ITU-R
    BT.601 luma, exact where R = G = B. Shrinking averages areas, enlarging is bilinear, and a grey picture of the
    right size comes back bit for bit. ``framing`` is that of the detector that found the box, which is
    ``(x, y, width, height)`` in pixels and may leave the picture in part; ``None`` is the whole picture.

    Raises:
        MediaError: not such a picture, or a box or frame that is empty, wholly outside or above ``MAX_PIXELS``.
    """
    images.check_image(picture)
    if size < 1:
        raise MediaError(f"expected a face's side of at least 1 pixel, got {size}")
    if points is not None:
        return _sampled(picture, points_frame(points), size, color)
    height, width = picture.shape[:2]
    box = (0, 0, width, height) if box is None else box
    square = face_square(box, framing)
    if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
        raise MediaError(f"expected a box in the picture of {width} x {height}, got {tuple(box)}, which lies outside")
    face = _cut(picture, square, color)  # (H, W) or (H, W, 3) -> (S, S) or (S, S, 3)
    side = face.shape[0]
    if side != size:
        method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        face = np.asarray(cv2.resize(face, (size, size), interpolation=method), np.uint8)
    return face


def _sampled(picture: NDArray[np.uint8], frame: Frame, size: int, color: bool) -> NDArray[np.uint8]:
    """What a picture shows in a frame: ``(S, S)``, or in color ``(S, S, 3)``."""
    height, width = picture.shape[:2]
    bounds = frame.bounds()
    right, bottom = bounds.x + bounds.width, bounds.y + bounds.height
    if bounds.x >= width or bounds.y >= height or right <= 0 or bottom <= 0:
        raise MediaError(
            f"expected points in the picture of {width} x {height}, got a face at {tuple(bounds)}, outside"
        )
    x, y = max(0, bounds.x - 1), max(0, bounds.y - 1)
    part = picture[y : bottom + 1, x : right + 1]
    pixels = as_color(part) if color else as_grey(part)
    samples = min(max(1, math.ceil(abs(frame.side) / size - 1e-9)), MAX_SAMPLES)  # n
    steps = (np.arange(size * samples) + 0.5) / (size * samples)  # (S n,)
    rows = samples * max(1, BLOCK // (size * samples**2))
    face = np.empty((size, size, *pixels.shape[2:]), np.uint8)
    for start in range(0, size * samples, rows):
        places = frame.places(steps, steps[start : start + rows]) - complex(x + 0.5, y + 0.5)
        values = bilinear(pixels, places).reshape(-1, samples, size, samples, *pixels.shape[2:])
        face[start // samples : (start + rows) // samples] = np.floor(values.mean((1, 3)) + 0.5)
    return face


def bilinear(pixels: NDArray[Any], places: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Values between pixels, the edge repeated: ``(H, W[, C]), (m, n) -> (m, n[, C])``.

    The middle of the pixel in a column and a row is the place ``column + i row``.
    """
    height, width = pixels.shape[:2]
    across, down = np.floor(places.real), np.floor(places.imag)
    right, low = places.real - across, places.imag - down  # 0 to 1
    if pixels.ndim == 3:
        right, low = right[..., None], low[..., None]
    columns = [np.clip(across + step, 0, width - 1).astype(np.intp) for step in (0, 1)]
    rows = [np.clip(down + step, 0, height - 1).astype(np.intp) * width for step in (0, 1)]
    flat = pixels.reshape(height * width, *pixels.shape[2:])
    above, below = ((1 - right) * flat[row + columns[0]] + right * flat[row + columns[1]] for row in rows)
    mixed: NDArray[np.float64] = (1 - low) * above + low * below
    return mixed


def as_grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R BT.601 luma, exact where R = G = B: ``(H, W[, 3]) -> (H, W)``."""
    if picture.ndim == 2:
        return picture
    red, green, blue = (picture[..., channel] * np.uint32(weight) for channel, weight in enumerate(LUMA))
    half = np.uint32(1 << LUMA_BITS - 1)
    return np.asarray((red + green + blue + half) >> np.uint32(LUMA_BITS), np.uint8)


def as_color(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(H, W[, 3]) -> (H, W, 3)``."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _cut(picture: NDArray[np.uint8], square: Box, color: bool) -> NDArray[np.uint8]:
    """What a picture shows in a square: ``(S, S)``, or in color ``(S, S, 3)``; a copy."""
    columns, left, right = _span(square.x, square.width, picture.shape[1])
    rows, above, below = _span(square.y, square.height, picture.shape[0])
    inside = np.ascontiguousarray(picture[rows, columns])
    if color != (inside.ndim == 3):
        inside = np.asarray(cv2.cvtColor(inside, cv2.COLOR_GRAY2RGB if color else cv2.COLOR_RGB2GRAY), np.uint8)
    return np.asarray(cv2.copyMakeBorder(inside, above, below, left, right, cv2.BORDER_REPLICATE), np.uint8)


def _span(start: int, length: int, size: int) -> tuple[slice, int, int]:
    """The pixels 0 to ``size`` that a side of the square covers, at least one, and how many are missing at each end."""
    first, end = min(max(start, 0), size - 1), max(min(start + length, size), 1)
    before = min(max(-start, 0), length - 1)
    return slice(first, end), before, length - before - (end - first)
