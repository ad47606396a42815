"""Identical pictures, and those that are almost the same: all are found, and few of the N * N pairs are compared.

Standardized to mean 0 and length 1, pictures that correlate by 0.98 are points at a distance of 0.2, and they are no
farther apart in a part of their coordinates. So the lowest frequencies of the cosine transform, which give perceptual
hashes their bits (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"), rule pairs out
without losing one; a mirrored picture has the same frequencies with other signs. A k-d tree (Bentley 1975, CACM 18(9))
passes over most pairs unseen, and only those that are left are compared pixel by pixel. Pictures that hardly have low
frequencies, which is noise, are all compared.

In colour, a picture is the pixels of all three colours, each about its own mean: a tint over all of it changes nothing,
and the same shape in another colour is another picture.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.pictures import blocks, pictures_at
from mien.data.samples import picture_hashes

NEAR_CORRELATION = 0.98
"""Correlation of two pictures, one of them mirrored or not, from which they count as nearly the same."""

NEAR_LIMIT = 1_000_000
"""Pairs, at most: many pictures that are all alike have more than anyone can look at, or than memory holds."""

SQUARED_RADIUS = 2 - 2 * NEAR_CORRELATION + 1e-4
"""Largest squared distance of two such pictures, with room for the rounding of float32."""

SIDE = 8
"""Frequencies in each direction that are kept of a picture."""

SEARCHED = 12
"""Frequencies in which the tree is made: those in which the pictures differ most."""

LEAF = 256
"""Pictures, at most, that the tree no longer divides: fewer are compared in vain, but each step costs more."""

BLOCK_VALUES = 1 << 18
"""Values of pixels that are looked at together: 1 MB as float32, which a processor's cache holds."""

BLOCK_DISTANCES = 1 << 18
"""Pairs whose distances are computed together: 64 MB of frequencies, should all of them be near."""

COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32) / np.sqrt([[3], [2], [6]], dtype=np.float32)
"""Orthonormal: grey, and what is left of red, green and blue, which differs less between pictures."""

MIN_DEVIATION = 1.0  # grey levels; a picture that varies less shows nothing

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class NearPair:
    """Indices of two different pictures that show almost the same, ``first`` < ``second``.

    ``correlation`` is that of their pixels, in [-1, 1], where ``mirrored`` with one of them turned over.
    """

    first: int
    second: int
    correlation: float
    mirrored: bool


def identical_groups(images: NDArray[np.uint8]) -> list[Indices]:
    """Indices of pictures ``(N, S, S[, 3])`` equal to the last pixel, group by group in order of appearance."""
    _, member_of, sizes = np.unique(picture_hashes(images), return_inverse=True, return_counts=True)
    groups = np.split(np.argsort(member_of, kind="stable"), np.cumsum(sizes)[:-1])
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def near_pairs(
    images: NDArray[np.uint8],
    groups: Sequence[Indices],
    constant: Indices,
    show: Callable[[int, int], None] = lambda done, count: None,
    limit: int = NEAR_LIMIT,
) -> list[NearPair]:
    """Pairs of pictures whose correlation, mirrored or not, is ``NEAR_CORRELATION`` or more.

    Args:
        images: uint8 ``(N, S, S)`` or ``(N, S, S, 3)``; may be memory-mapped.
        groups: by ``identical_groups``. One picture of each is compared, and its pairs hold for all.
        constant: indices of the pictures that show nothing and correlate with nothing.
        show: called now and then with the numbers of pictures that were compared with all others and that there are.
        limit: of pairs; the search ends where it has found so many.

    Returns:
        the pairs in order of ``first``, ``second`` and ``mirrored``; no two pictures of one group.
    """
    again = [group[1:] for group in groups]
    kept = np.setdiff1d(np.arange(len(images)), np.concatenate([constant, *again]))
    copies = {int(group[0]): group.tolist() for group in groups}

    def found() -> Iterator[NearPair]:
        for done, pairs in _alike(images, kept):
            for one, other, correlation, mirrored in zip(*(column.tolist() for column in pairs), strict=True):
                for two in product(copies.get(one, [one]), copies.get(other, [other])):
                    yield NearPair(min(two), max(two), correlation, mirrored)
            show(done, len(kept))

    return sorted(islice(found(), limit), key=lambda pair: (pair.first, pair.second, pair.mirrored))


def constant_pictures(images: NDArray[np.uint8]) -> Indices:
    """Indices of the pictures ``(N, S, S[, 3])`` whose grey levels vary by less than ``MIN_DEVIATION``."""
    deviations = [grey(block[part]).std((1, 2)) for block in blocks(images) for part in _parts(block, len(block))]
    return np.flatnonzero(np.concatenate([[], *deviations]) < MIN_DEVIATION)


def grey(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels ``(N, S, S)`` of grey or RGB pictures: luma of ITU-R BT.601."""
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    levels = images.astype(np.float32)
    return levels if images.ndim == 3 else (levels.reshape(-1, 3) @ luma).reshape(images.shape[:3])


def _parts(images: NDArray[np.uint8], count: int) -> Iterator[slice]:
    """Parts of ``count`` pictures that are small enough to be looked at together."""
    size = max(1, BLOCK_VALUES // math.prod(images.shape[1:]))
    return (slice(start, start + size) for start in range(0, count, size))


def _alike(images: NDArray[np.uint8], kept: Indices) -> Iterator[tuple[int, tuple[NDArray[Any], ...]]]:
    """How many pictures are done, and some near pairs: indices of both, correlations, and whether mirrored."""
    if len(kept) == 0:
        return
    frequencies, signs = _frequencies(images, kept)
    tree = _Tree(frequencies, signs)
    for one, other in tree.candidates():
        mirrored = other >= len(kept)
        apart = frequencies[one] - frequencies[other % len(kept)] * np.where(mirrored[:, None], signs, 1)  # (P, F)
        close = _squares(apart) <= SQUARED_RADIUS
        one, other, mirrored = one[close], other[close], mirrored[close]
        correlations = _correlations(images, kept, one, other)
        near = correlations >= NEAR_CORRELATION
        yield tree.done, (kept[one[near]], kept[other[near] % len(kept)], correlations[near], mirrored[near])


def _correlations(images: NDArray[np.uint8], kept: Indices, one: Indices, other: Indices) -> NDArray[np.float32]:
    """Of the pixels of each pair ``(P,)`` of kept pictures, the other one mirrored where it is counted from K on.

    Each picture is read once and the pairs come from one product: of a thousand noisy blanks all pairs are asked for.
    """
    ones, row = np.unique(one, return_inverse=True)
    others, column = np.unique(other, return_inverse=True)
    vectors = _vectors(_standardized(pictures_at(images, kept[ones])))  # (O, S * S * C)
    found = np.empty(len(one), np.float32)
    for block in _parts(images, len(others)):
        some = others[block]
        pictures = _standardized(pictures_at(images, kept[some % len(kept)]))
        pictures[some >= len(kept)] = pictures[some >= len(kept)][:, :, ::-1]
        table = vectors @ _vectors(pictures).T  # (O, B)
        inside = (column >= block.start) & (column < block.stop)
        found[inside] = table[row[inside], column[inside] - block.start]
    return found


def _standardized(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(N, S, S[, 3])`` -> ``(N, S, S, C)``, each colour of mean 0 and each picture of length 1.

    The products of such pictures are correlations.
    """
    count, size, _, colours = (*pictures.shape, 1)[:4]
    lines = pictures.astype(np.float32).reshape(count, size, size * colours)
    means = lines.mean(1).reshape(count, size, colours).mean(1)  # (N, C)
    lines -= np.tile(means, size)[:, None]  # whole lines at once: an axis of three colours is slow
    lengths = np.sqrt(_squares(_vectors(lines)))
    lines /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None, None]
    return lines.reshape(count, size, size, colours)


def _vectors(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    return pictures.reshape(len(pictures), math.prod(pictures.shape[1:]))


def _frequencies(images: NDArray[np.uint8], kept: Indices) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest coefficients of the orthonormal cosine transform, those that vary most first, and their signs.

    ``(N, S, S[, 3]) -> (K, F)`` for the ``K`` kept. Times the signs ``(F,)`` they are those of the mirrored pictures.
    """
    size, colours = images.shape[1], COLOURS if images.ndim == 4 else np.ones((1, 1), np.float32)
    rows = np.arange(min(SIDE, size))[:, None]
    transform = np.cos(np.pi * rows * (np.arange(size) + 0.5) / size) * math.sqrt(2 / size)  # (8, S)
    transform[0] /= math.sqrt(2)
    transform = transform.astype(np.float32)
    across = np.kron(transform, colours)  # (8 * C, S * C): of a line of pixels and their colours
    found = np.empty((len(kept), len(transform) * len(across)), np.float32)
    for block in _parts(images, len(kept)):
        pictures = _standardized(pictures_at(images, kept[block]))
        lines = pictures.reshape(len(pictures), size, -1)  # (B, S, S * C)
        found[block] = (transform @ lines @ across.T).reshape(len(pictures), -1)
    signs = np.tile(np.repeat(np.where(rows[:, 0] % 2, -1, 1), len(colours)), len(rows)).astype(np.float32)
    order = np.argsort(-found.var(0), kind="stable")[: SIDE**2]
    return found[:, order], signs[order]


class _Tree:
    """Points ``(N, F)``, each of which is compared with the points, and the mirrored points, that come after it."""

    def __init__(self, points: NDArray[np.float32], signs: NDArray[np.float32]) -> None:
        self.done, count = 0, len(points)  # points that were compared with all others
        self._points = np.ascontiguousarray(points[:, :SEARCHED])
        everything = np.concatenate([self._points, self._points * signs[:SEARCHED]])  # (2 N, 12), half of it turned
        self._columns = np.ascontiguousarray(everything.T)
        # Products of these rows are the negative halves of squared distances: -(|x|^2 + |y|^2 - 2 x y) / 2.
        halves, ones = -_squares(everything)[:, None] / 2, np.ones((len(everything), 1), np.float32)
        self._left = np.hstack([self._points, halves[:count], ones[:count]])
        self._right = np.hstack([everything, ones, halves])
        self._is_open = np.ones(len(everything), np.bool_)
        self._is_member = np.zeros(count, np.bool_)

    def candidates(self) -> Iterator[tuple[Indices, Indices]]:
        """Pairs within the radius: indices of the points, and of all points, from N on mirrored."""
        count, width = self._points.shape
        others = np.arange(len(self._right))
        gaps = np.zeros(len(others), np.float32)
        yield from self._visit(np.arange(count), others, gaps, np.full((2, width), [[-np.inf], [np.inf]], np.float32))

    def _visit(
        self, members: Indices, others: Indices, gaps: NDArray[np.float32], box: NDArray[np.float32]
    ) -> Iterator[tuple[Indices, Indices]]:
        """Compare the members of a box ``(2, F)`` with ``others``, whose squared distances from it are ``gaps``."""
        if len(members) <= LEAF:
            yield from self._compare(members, others)
            return
        points = self._points[members]
        axis = int(np.argmax(np.ptp(points, axis=0)))
        middle = len(members) // 2
        parts = np.argpartition(points[:, axis], middle)
        cut = points[parts[middle], axis]
        places = self._columns[axis][others]
        rest = gaps - _gap(places, *box[:, axis])
        for side, part in enumerate((parts[:middle], parts[middle:])):
            inner = box.copy()
            inner[1 - side, axis] = cut
            apart = rest + _gap(places, *inner[:, axis])
            near = (apart <= SQUARED_RADIUS) & self._is_open[others]
            yield from self._visit(members[part], others[near], apart[near], inner)

    def _compare(self, members: Indices, others: Indices) -> Iterator[tuple[Indices, Indices]]:
        self.done += len(members)
        points, count = self._left[members], len(self._points)
        self._is_member[members] = True
        step = BLOCK_DISTANCES // len(members)
        for start in range(0, len(others), step):
            some = others[start : start + step]
            one, other = np.divmod(np.flatnonzero(points @ self._right[some].T >= -SQUARED_RADIUS / 2), len(some))
            one, other = members[one], some[other]
            # Members find each other twice, and themselves turned over.
            once = (one < other % count) | ~self._is_member[other % count]
            yield one[once], other[once]
        self._is_member[members] = False
        self._is_open[members] = self._is_open[members + count] = False


def _gap(places: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distance of places from the range of ``low`` to ``high``."""
    outside = np.maximum(np.maximum(low - places, places - high), 0)
    squared: NDArray[np.float32] = outside * outside
    return squared


def _squares(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared lengths ``(N,)``."""
    squares: NDArray[np.float32] = np.einsum("nf,nf->n", points, points)
    return squares
