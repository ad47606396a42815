"""Rows of FER-2013 by their pictures: the shipped index holds hashes and labels, and no pixels.

``assets/fer2013_index.npz`` is written by ``tools.build_index``: ``picture_hashes`` uint64 ``(35887,)`` as
``mien.data.samples.picture_hashes`` makes them, ``labels`` int8 ``(35887,)``, both in the row order of the original
``fer2013.csv`` (Goodfellow et al. 2013, arXiv:1307.0414).
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from mien.data.samples import UNLABELLED, Split, Usage

TRAINING_ROWS, PUBLIC_TEST_ROWS, PRIVATE_TEST_ROWS = 28_709, 3_589, 3_589
ROWS = TRAINING_ROWS + PUBLIC_TEST_ROWS + PRIVATE_TEST_ROWS
"""Rows of ``fer2013.csv``: Training, then PublicTest, then PrivateTest."""

NOT_FOUND, SURPLUS = -1, -2
"""Instead of a row: no row has this picture; every row with it is taken by another copy."""

USAGES_OF_SPLIT: dict[Split | None, tuple[Usage, ...]] = {
    Split.TRAINING: (Usage.TRAINING,),
    Split.VALIDATION: (Usage.PUBLIC_TEST, Usage.PRIVATE_TEST),
    Split.PUBLIC_TEST: (Usage.PUBLIC_TEST,),
    Split.PRIVATE_TEST: (Usage.PRIVATE_TEST,),
    Split.PUBLISHED_TEST: (Usage.PUBLIC_TEST, Usage.PRIVATE_TEST),
    None: (Usage.TRAINING, Usage.PUBLIC_TEST, Usage.PRIVATE_TEST),
}
"""Usages that agree with what a layout tells of a picture."""


@dataclass(frozen=True)
class PictureIndex:
    """Hash and label of each row: uint64 and int8, ``(35887,)``."""

    picture_hashes: NDArray[np.uint64]
    labels: NDArray[np.int8]


@functools.cache
def load_index() -> PictureIndex:
    """The index that is shipped with the package."""
    asset = resources.files("mien.data") / "assets" / "fer2013_index.npz"
    with asset.open("rb") as stream, np.load(stream) as arrays:
        return PictureIndex(arrays["picture_hashes"], arrays["labels"])


def usages_of_rows(rows: NDArray[np.int32]) -> NDArray[np.int8]:
    """Usage of each row of ``fer2013.csv``: ``(N,) -> (N,)``."""
    ends = np.cumsum([TRAINING_ROWS, PUBLIC_TEST_ROWS])
    return np.searchsorted(ends, rows, side="right").astype(np.int8)


def unseen_rows(rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which rows of ``fer2013.csv`` have no identical copy in Training, by the shipped index: ``(N,) -> (N,)``."""
    hashes = load_index().picture_hashes
    return ~np.isin(hashes[rows], hashes[:TRAINING_ROWS])


def find_rows(
    hashes: NDArray[np.uint64],
    labels: NDArray[np.int8],
    splits: Sequence[Split | None],
    index: PictureIndex | None = None,
) -> NDArray[np.int32]:
    """Row of each picture: int32 ``(N,)``, each row at most once, or ``NOT_FOUND`` or ``SURPLUS``.

    Rows with the same picture are given in turns: to pictures of the same split and label, then of the same
    split, then of the same label, then to the rest; in each turn in order. So a folder that holds the test pictures
    alone gets no rows of Training, relabelled copies keep their rows, and pictures that somebody moved to another
    split get the row, and with it the usage, that they have in FER-2013. A label ``-1`` and a split ``None`` agree with
    every row. ``index`` is by default the shipped one.
    """
    index = load_index() if index is None else index
    usages = usages_of_rows(np.arange(len(index.labels), dtype=np.int32))
    free: dict[int, list[int]] = defaultdict(list)
    for row, value in enumerate(index.picture_hashes.tolist()):
        free[value].append(row)
    keys = hashes.tolist()
    found = np.array([SURPLUS if key in free else NOT_FOUND for key in keys], dtype=np.int32)

    for by_split, by_label in ((True, True), (True, False), (False, True), (False, False)):
        for picture in np.flatnonzero(found == SURPLUS).tolist():
            for row in free[keys[picture]]:
                same_split = usages[row] in USAGES_OF_SPLIT[splits[picture]]
                same_label = labels[picture] in (UNLABELLED, index.labels[row])
                if (same_split or not by_split) and (same_label or not by_label):
                    free[keys[picture]].remove(row)
                    found[picture] = row
                    break
    return found
