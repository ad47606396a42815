"""Which faces are held out of Training: whole groups of copies or subjects, the classes in proportion."""

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError

NEARBY = 50
"""How far from the number that cannot be held out another one is looked for."""


def stratified_holdout(
    labels: NDArray[np.int8], groups: NDArray[np.uint64], count: int, seed: int = 0
) -> NDArray[np.bool_]:
    """Exactly ``count`` of ``N`` faces, 0 < count < N: bool ``(N,)``, true where held out.

    The classes are in proportion, and faces with equal ``groups`` on one side.

    Raises:
        DataError: ``count`` is out of range, or groups of copies do not add up to it; names the nearest that works.
    """
    _check_count(labels, count)
    held_out = _filled(labels, groups, count, seed)
    if held_out is not None:
        return held_out
    others = (count + step * sign for step in range(1, NEARBY) for sign in (-1, 1))
    possible = (each for each in others if 0 < each < len(labels) and _filled(labels, groups, each, seed) is not None)
    near = next(possible, None)
    remedy = "" if near is None else f"hold out {near} (--set data.validation_rows={near}), or "
    raise DataError(
        f"expected {count} faces that can be held out, got groups of identical pictures, which stay on one side, that"
        f" do not add up to it in each class; {remedy}take copies away, which mien audit lists"
    )


def _filled(labels: NDArray[np.int8], groups: NDArray[np.uint64], count: int, seed: int) -> NDArray[np.bool_] | None:
    """The faces that are held out, ``(N,)``, or ``None`` where the groups do not add up to ``count``."""
    classes = int(labels.max()) + 1
    quota = _proportional(np.bincount(labels, minlength=classes), count)
    members = _members(groups)
    held_out = np.zeros(len(labels), dtype=np.bool_)
    for group in np.random.default_rng(seed).permutation(len(members)):
        wanted = np.bincount(labels[members[group]], minlength=classes)
        if (wanted <= quota).all():
            held_out[members[group]] = True
            quota = quota - wanted
    return None if quota.any() else held_out


def grouped_holdout(
    labels: NDArray[np.int8], groups: NDArray[np.uint64], count: int, seed: int = 0
) -> NDArray[np.bool_]:
    """About ``count`` of ``N`` faces, whole ``groups`` at a time, the classes in proportion: bool ``(N,)``.

    Groups are looked at in random order, and each is taken that brings the numbers of the classes nearer to what is
    wanted; if none does, the one that comes nearest.

    Raises:
        DataError: ``count`` is out of range, or there is a single group.
    """
    _check_count(labels, count)
    members = _members(groups)
    if len(members) < 2:
        raise DataError("expected at least 2 subjects to hold one out, got 1; leave data.group out, or correct it")
    classes = int(labels.max()) + 1
    counts = np.stack([np.bincount(labels[each], minlength=classes) for each in members])  # (G, K)
    lacking = _proportional(counts.sum(0), count)
    taken: list[int] = []
    for group in np.random.default_rng(seed).permutation(len(members)).tolist():
        after = lacking - counts[group]
        if (after**2).sum() < (lacking**2).sum() and len(taken) < len(members) - 1:
            taken.append(group)
            lacking = after
    taken = taken or [int(((lacking - counts) ** 2).sum(1).argmin())]
    held_out = np.zeros(len(labels), dtype=np.bool_)
    held_out[np.concatenate([members[group] for group in taken])] = True
    return held_out


def joined(hashes: NDArray[np.uint64], subjects: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Numbers of the groups of faces that are linked by equal pictures or by a subject, ``-1`` aside: ``(N,)``.

    A picture that stands under two subjects makes one group of both.
    """
    links = np.unique(hashes, return_inverse=True)[1], subjects
    group = links[0].astype(np.int64)
    while True:  # the smallest number goes round by pictures and subjects in turns, until nothing changes
        before = group.copy()
        for link in links:
            known = link >= 0
            smallest = np.full(int(link.max()) + 2, len(group), np.int64)
            np.minimum.at(smallest, link[known], group[known])
            group[known] = smallest[link[known]]
        if (group == before).all():
            return group.astype(np.uint64)


def stratified_folds(
    labels: NDArray[np.int8], groups: NDArray[np.uint64], count: int, seed: int = 0
) -> NDArray[np.int64]:
    """The fold, 0 to ``count - 1``, of each of ``N`` faces: int64 ``(N,)``.

    The classes are in proportion, and faces with equal ``groups`` in one fold. The largest groups are dealt out first,
    each to the fold that lacks most of its classes; the single faces then make the folds equal, as far as possible.

    Raises:
        DataError: there are fewer groups than folds.
    """
    members = _members(groups)
    if len(members) < count:
        raise DataError(f"expected at least {count} different pictures, got {len(members)}; lower data.folds")
    order = np.random.default_rng(seed).permutation(len(members))
    largest_first = sorted(order.tolist(), key=lambda group: -len(members[group]))
    classes = int(labels.max()) + 1
    lacking = np.tile(np.bincount(labels, minlength=classes) / count, (count, 1))  # (folds, K)
    fold_of = np.empty(len(labels), dtype=np.int64)
    for group in largest_first:
        wanted = np.bincount(labels[members[group]], minlength=classes)
        fold = np.lexsort((-lacking.sum(1), -lacking @ wanted))[0]  # of equals the emptiest
        fold_of[members[group]] = fold
        lacking[fold] -= wanted
    return fold_of


def _check_count(labels: NDArray[np.int8], count: int) -> None:
    if not 0 < count < len(labels):
        raise DataError(f"expected validation_rows of 1 to {len(labels) - 1} for {len(labels)} faces, got {count}")


def _members(groups: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Indices of the faces of each group."""
    _, member_of = np.unique(groups, return_inverse=True)
    return np.split(np.argsort(member_of, kind="stable"), np.cumsum(np.bincount(member_of))[:-1])


def _proportional(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """``total`` divided in proportion to ``counts``, by largest remainders."""
    exact = counts * (total / counts.sum())
    quota: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    largest = np.argsort(-(exact - quota), kind="stable")[: total - int(quota.sum())]
    quota[largest] += 1
    return quota
