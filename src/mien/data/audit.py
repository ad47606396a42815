"""What is wrong with labelled faces: copies, leaks between splits, contradictory, empty and doubtful pictures.

Everything here follows from pixels, labels and FER+'s votes; no network is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import copies
from mien.data.ferplus import emotion_votes
from mien.data.samples import UNLABELLED, FaceSamples, Usage
from mien.emotions import EMOTIONS


@dataclass(frozen=True)
class Agreement:
    """How the labels of some faces fit FER+'s votes."""

    n: int  # faces with a label
    agreeing: int  # faces whose label has the most votes; of equals the first in the order of EMOTIONS counts
    unvoted: int  # faces whose label got no vote at all
    by_label: dict[str, tuple[int, int]]  # emotion -> (faces, agreeing)


@dataclass(frozen=True)
class Audit:
    """What was found. Indices are those of the samples."""

    counts: dict[str, dict[str, int]]  # split -> class -> faces
    groups: list[NDArray[np.int64]]  # indices of pictures that are identical to the last pixel, each group sorted
    contradictory: list[NDArray[np.int64]]  # those groups whose labels differ
    near: list[copies.NearPair]  # pairs that are almost the same, identical ones left out
    constant: NDArray[np.int64]  # indices of pictures that vary by less than a grey level
    agreement: dict[str, Agreement]  # split -> how its labels fit FER+'s votes; empty without votes

    @property
    def has_all_near(self) -> bool:
        """Whether the search for near copies went on to the end."""
        return len(self.near) < copies.NEAR_LIMIT

    @property
    def redundant(self) -> int:
        """Pictures that could go without one being lost."""
        return sum(len(group) - 1 for group in self.groups)


def audit(
    samples: FaceSamples,
    votes: NDArray[np.uint8] | None = None,
    show: Callable[[int, int], None] = lambda done, count: None,
) -> Audit:
    """Look for everything that makes a metric on these faces worth less than it seems.

    ``votes`` are FER+'s on each of them, uint8 ``(N, 10)``, from ``votes_on``; ``show`` is called as by
    ``copies.near_pairs``.
    """
    groups = copies.identical_groups(samples.images)
    constant = copies.constant_pictures(samples.images)
    return Audit(
        counts={
            split: {
                str(name): int(((samples.usages == usage) & (samples.labels == label)).sum())
                for label, name in enumerate(samples.classes)
            }
            for split, usage in _splits(samples).items()
        },
        groups=groups,
        contradictory=[group for group in groups if len(set(samples.labels[group].tolist())) > 1],
        near=copies.near_pairs(samples.images, groups, constant, show),
        constant=constant,
        agreement={} if votes is None else _agreements(samples, emotion_votes(votes)),
    )


def leaks(samples: FaceSamples, groups: Sequence[NDArray[np.int64]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Pictures of one split that stand in another: (split, other) -> (pictures, of these with the same label there).

    A picture whose copies in the other split contradict each other counts as the same where one of them agrees.
    """
    splits = _splits(samples)
    members, group_of = _members(groups)
    usages = samples.usages[members]
    label_of = group_of * (len(samples.classes) + 1) + samples.labels[members] + 1  # a number per group and label
    found = {}
    for one, other in (pair for both in combinations(splits, 2) for pair in (both, both[::-1])):
        mine, theirs = usages == splits[one], usages == splits[other]
        pictures, same = (int((mine & np.isin(each, each[theirs])).sum()) for each in (group_of, label_of))
        found[one, other] = (pictures, same)
    return found


def near_across(samples: FaceSamples, near: Sequence[copies.NearPair]) -> list[copies.NearPair]:
    """Near copies in two splits, which make results on one of them better than they are."""
    return [pair for pair in near if samples.usages[pair.first] != samples.usages[pair.second]]


def copied(samples: FaceSamples, groups: Sequence[NDArray[np.int64]]) -> dict[str, int]:
    """Split -> its pictures that have an identical copy in any other split."""
    members, group_of = _members(groups)
    found = {}
    for split, usage in _splits(samples).items():
        mine = samples.usages[members] == usage
        found[split] = int((mine & np.isin(group_of, group_of[~mine])).sum())
    return found


def shared_subjects(samples: FaceSamples) -> dict[tuple[str, str], int]:
    """Two splits -> subjects that stand in both; none where subjects are unknown."""
    names = {usage: name for name, usage in _splits(samples).items()}
    found = samples.subjects_in_two_splits()
    return {(names[one], names[other]): number for (one, other), number in found.items()}


def _members(groups: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the pictures of all groups, and the number of the group of each."""
    members = np.concatenate([np.empty(0, np.int64), *groups])
    return members, np.repeat(np.arange(len(groups)), [len(group) for group in groups])


def _splits(samples: FaceSamples) -> dict[str, Usage]:
    """Name -> usage of the splits that hold pictures."""
    return {Usage(usage).name.lower(): Usage(usage) for usage in np.unique(samples.usages)}


def _agreements(samples: FaceSamples, votes: NDArray[np.uint8]) -> dict[str, Agreement]:
    """Split -> agreement of its labels with the votes ``(N, 7)``."""
    found = {}
    for split, usage in _splits(samples).items():
        chosen = np.flatnonzero((samples.usages == usage) & (samples.labels != UNLABELLED))
        labels = samples.labels[chosen]
        agrees = votes[chosen].argmax(1) == labels
        if len(chosen):
            found[split] = Agreement(
                n=len(chosen),
                agreeing=int(agrees.sum()),
                unvoted=int((votes[chosen, labels] == 0).sum()),
                by_label={
                    emotion.value: (int((labels == label).sum()), int((agrees & (labels == label)).sum()))
                    for label, emotion in enumerate(EMOTIONS)
                },
            )
    return found


def _near_row(samples: FaceSamples, pair: copies.NearPair) -> Mapping[str, Any]:
    both = (pair.first, pair.second)
    return {
        "rows": [int(samples.rows[at]) for at in both],
        "splits": [Usage(samples.usages[at]).name.lower() for at in both],
        "correlation": round(pair.correlation, 4),
        "mirrored": pair.mirrored,
    }


def audit_rows(samples: FaceSamples, found: Audit) -> Mapping[str, Any]:
    """The audit as JSON values, with row numbers of the data set instead of indices."""
    rows = samples.rows
    return {
        "data": samples.name,
        "data_sha256": samples.content_sha256(),
        "row_source": samples.row_source.value,
        "n": len(samples),
        "skipped": list(samples.skipped),
        "counts": found.counts,
        "redundant": found.redundant,
        "identical_groups": [rows[group].tolist() for group in found.groups],
        "contradictory_groups": [rows[group].tolist() for group in found.contradictory],
        "copied": copied(samples, found.groups),
        "leaks": [
            {"split": one, "also_in": other, "pictures": pictures, "same_label": same}
            for (one, other), (pictures, same) in leaks(samples, found.groups).items()
        ],
        "shared_subjects": [
            {"splits": list(pair), "subjects": number} for pair, number in shared_subjects(samples).items()
        ],
        "has_all_near_duplicates": found.has_all_near,
        "near_duplicates_across_splits": len(near_across(samples, found.near)),
        "near_duplicates": [_near_row(samples, pair) for pair in found.near],
        "near_constant": rows[found.constant].tolist(),
        "ferplus": {
            split: {
                "n": agreement.n,
                "agreement": agreement.agreeing / agreement.n,
                "label_without_vote": agreement.unvoted / agreement.n,
                "by_label": {
                    emotion: {"n": n, "agreement": agreeing / n if n else None}
                    for emotion, (n, agreeing) in agreement.by_label.items()
                },
            }
            for split, agreement in found.agreement.items()
        },
    }
