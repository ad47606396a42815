"""Where on the face maps lie: in the eyes' and the mouth's band, and on boxes of drawn parts.

Source: the pointing game, Zhang et al. 2018, arXiv:1608.00507.
Deviations: a map may point at any of several boxes, and how often a random pixel would hit is stated with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.evaluation import significance
from mien.explain.saliency import Maps
from mien.face.crop import EYES, MOUTH

BANDS = {"eyes": EYES, "mouth": MOUTH}
"""Name -> top and bottom, as fractions of the face's height."""

TOLERANCE = 15 / 500
"""Fraction of the face's side by which a box grows on each side: Zhang et al. allow 15 pixels on about 500."""

Boxes = Sequence[NDArray[np.floating]]
"""For each part, its box in every face, ``(N, 4)``: x, y, width and height in pixels."""


@dataclass(frozen=True)
class BandFraction:
    """How much of some maps lies in a band of the face, mean over the faces; all in [0, 1].

    Attributes:
        interval: at 95 %, for the chance choice of faces; ``None`` for a single face.
        area: the band's fraction of the face: what uniform maps would have in it.
    """

    value: float
    interval: tuple[float, float] | None
    area: float

    @property
    def lean(self) -> str:
        """``more`` or ``less`` than its area, or ``even`` where the interval does not say."""
        low, high = (0.0, 1.0) if self.interval is None else self.interval
        return "more" if low > self.area else "less" if high < self.area else "even"


def fraction_in(band: tuple[float, float], maps: Maps) -> BandFraction:
    """How much of maps ``(N, S, S)``, N > 0, lies in a band; the interval is a percentile bootstrap over faces."""
    fractions, interval = band_fractions(maps, band), None
    if len(fractions) > 1:
        drawn = np.random.default_rng(0).integers(0, len(fractions), (significance.REPLICATES, len(fractions)))
        low, high = np.quantile(fractions[drawn].mean(1), significance.BOUNDS)
        interval = (float(low), float(high))
    return BandFraction(float(fractions.mean()), interval, band_area(band, maps.shape[-1]))


def band_fractions(maps: Maps, band: tuple[float, float]) -> NDArray[np.float64]:
    """How much of each map lies in a band of the face's height: ``(N,)`` in [0, 1].

    A map that is zero everywhere counts as uniform: it gets the band's fraction of the area.
    """
    size = maps.shape[-1]
    whole = maps.sum((1, 2), dtype=np.float64)
    inside = maps[:, slice(*_rows(band, size))].sum((1, 2), dtype=np.float64)
    no_preference = np.full(len(maps), band_area(band, size))
    return np.asarray(np.divide(inside, whole, out=no_preference, where=whole > 0))


def band_area(band: tuple[float, float], size: int) -> float:
    """The band's fraction of a face ``size`` pixels high, in whole rows."""
    top, bottom = _rows(band, size)
    return (bottom - top) / size


def pointing_game(maps: Maps, boxes: Boxes) -> NDArray[np.bool_]:
    """Whether the maximum of each map ``(N, S, S)`` lies in one of the face's boxes: bool ``(N,)``.

    A map of equal values points nowhere.
    """
    size = maps.shape[-1]
    peaks = maps.reshape(len(maps), -1).argmax(1)
    y, x = np.divmod(peaks, size)
    return np.asarray(_in_any(boxes, x + 0.5, y + 0.5, size) & (np.ptp(maps, axis=(1, 2)) > 0))


def pointing_chance(boxes: Boxes, size: int) -> float:
    """Fraction of the faces' pixels that lie in one of the boxes: how often a random pixel would hit."""
    y, x = np.mgrid[:size, :size].reshape(2, -1, 1) + 0.5  # (S * S, 1) each, against N boxes
    return float(_in_any(boxes, x, y, size).mean())


def _rows(band: tuple[float, float], size: int) -> tuple[int, int]:
    """The first row of a band, and the first below it."""
    return round(size * band[0]), round(size * band[1])


def _in_any(boxes: Boxes, x: NDArray[np.floating], y: NDArray[np.floating], size: int) -> NDArray[np.bool_]:
    """Whether points lie in one of the boxes of their face, each enlarged by the tolerance."""
    margin = TOLERANCE * size
    found = []
    for left, top, width, height in (box.T for box in boxes):
        across = (x >= left - margin) & (x <= left + width + margin)
        found.append(across & (y >= top - margin) & (y <= top + height + margin))
    return np.asarray(np.logical_or.reduce(found))
