"""What is wrong with labelled faces: copies, leaks between splits, contradictory, empty and doubtful pictures.

Everything here follows from pixels, labels and FER+'s votes; no network is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.ferplus import emotion_votes
from mien.data.samples import UNLABELLED, FaceSamples, Usage, picture_hashes
from mien.emotions import EMOTIONS

SCREEN_SIDE = 16
"""Pixels to which pictures are reduced for a first, cheap comparison of all pairs."""

SCREEN_CORRELATION, NEAR_CORRELATION = 0.95, 0.98
"""Normalised correlation of the reduced and of the full pictures from which two count as nearly the same."""

MIN_DEVIATION = 1.0  # grey levels; a picture that varies less shows nothing

BLOCK = 1024
"""Pictures compared with all others at a time: 1024 x 35,887 correlations are 150 MB."""


@dataclass(frozen=True)
class NearPair:
    """Indices of two different pictures that show almost the same, ``first`` < ``second``.

    ``correlation`` is that of their pixels, in [-1, 1], where ``mirrored`` with one of them turned over.
    """

    first: int
    second: int
    correlation: float
    mirrored: bool


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

    counts: dict[str, dict[str, int]]  # split -> emotion -> faces
    groups: list[NDArray[np.int64]]  # indices of pictures that are identical to the last pixel, each group sorted
    contradictory: list[NDArray[np.int64]]  # those groups whose labels differ
    near: list[NearPair]  # pairs that are almost the same, identical ones left out
    constant: NDArray[np.int64]  # indices of pictures that vary by less than a grey level
    agreement: dict[str, Agreement]  # split -> how its labels fit FER+'s votes; empty without votes

    @property
    def redundant(self) -> int:
        """Pictures that could go without one being lost."""
        return sum(len(group) - 1 for group in self.groups)


def audit(samples: FaceSamples, votes: NDArray[np.uint8] | None = None) -> Audit:
    """Look for everything that makes a metric on these faces worth less than it seems.

    ``votes`` are FER+'s on each of them, uint8 ``(N, 10)``, from ``votes_on``.
    """
    groups = identical_groups(samples.images)
    constant = np.flatnonzero(np.array([image.std() for image in samples.images]) < MIN_DEVIATION)
    return Audit(
        counts={
            split: {
                emotion.value: int(((samples.usages == usage) & (samples.labels == label)).sum())
                for label, emotion in enumerate(EMOTIONS)
            }
            for split, usage in _splits(samples).items()
        },
        groups=groups,
        contradictory=[group for group in groups if len(set(samples.labels[group].tolist())) > 1],
        near=near_pairs(samples.images, constant),
        constant=constant,
        agreement={} if votes is None else _agreements(samples, emotion_votes(votes)),
    )


def leaks(samples: FaceSamples, groups: Sequence[NDArray[np.int64]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Pictures of one split that stand in another: (split, other) -> (pictures, of these with the same label there).

    A picture whose copies in the other split contradict each other counts as the same where one of them agrees.
    """
    found: dict[tuple[str, str], tuple[int, int]] = {}
    splits = _splits(samples)
    for one, other in (pair for both in combinations(splits, 2) for pair in (both, both[::-1])):
        pictures = same = 0
        for group in groups:
            usages, labels = samples.usages[group], samples.labels[group]
            elsewhere = set(labels[usages == splits[other]].tolist())
            if elsewhere:
                mine = labels[usages == splits[one]].tolist()
                pictures += len(mine)
                same += sum(label in elsewhere for label in mine)
        found[one, other] = (pictures, same)
    return found


def copied(samples: FaceSamples, groups: Sequence[NDArray[np.int64]]) -> dict[str, int]:
    """Split -> its pictures that have an identical copy in any other split."""
    found = dict.fromkeys(_splits(samples), 0)
    for group in groups:
        usages = samples.usages[group]
        if len(set(usages.tolist())) > 1:
            for usage in usages:
                found[Usage(usage).name.lower()] += 1
    return found


def _splits(samples: FaceSamples) -> dict[str, Usage]:
    """Name -> usage of the splits that hold pictures."""
    return {Usage(usage).name.lower(): Usage(usage) for usage in np.unique(samples.usages)}


def identical_groups(images: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Indices of pictures ``(N, S, S)`` that are equal to the last pixel, group by group in order of appearance."""
    _, member_of, sizes = np.unique(picture_hashes(images), return_inverse=True, return_counts=True)
    groups = np.split(np.argsort(member_of, kind="stable"), np.cumsum(sizes)[:-1])
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def near_pairs(images: NDArray[np.uint8], constant: NDArray[np.int64] | None = None) -> list[NearPair]:
    """Pairs of different pictures ``(N, S, S)`` whose correlation, mirrored or not, is ``NEAR_CORRELATION`` or more.

    All pairs are screened at ``SCREEN_SIDE`` pixels, where two such pictures correlate as well. ``constant`` are the
    indices of pictures that show nothing and correlate with nothing.
    """
    kept = np.setdiff1d(np.arange(len(images)), [] if constant is None else constant)
    if len(kept) == 0:
        return []
    shown = images[kept]
    small = np.stack([cv2.resize(image, (SCREEN_SIDE, SCREEN_SIDE), interpolation=cv2.INTER_AREA) for image in shown])
    full = _standardized(shown)
    pairs = []
    for mirrored in (False, True):
        turned = full.reshape(shown.shape)[..., ::-1].reshape(full.shape) if mirrored else full
        for first, second in _screened(small, mirrored):
            correlations = np.einsum("np,np->n", turned[first], full[second])
            for at in np.flatnonzero(correlations >= NEAR_CORRELATION):
                one, other = int(kept[first[at]]), int(kept[second[at]])
                if mirrored or not np.array_equal(images[one], images[other]):
                    pairs.append(NearPair(one, other, float(correlations[at]), mirrored))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second, pair.mirrored))


def _screened(small: NDArray[np.uint8], mirrored: bool) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices of the pairs that pass the screen, block by block; the first is always the smaller."""
    vectors = _standardized(small)
    turned = _standardized(small[..., ::-1]) if mirrored else vectors
    for start in range(0, len(vectors), BLOCK):
        correlations = turned[start : start + BLOCK] @ vectors[start:].T  # (B, N - start)
        first, second = np.nonzero(correlations >= SCREEN_CORRELATION)
        later = second > first
        yield first[later] + start, second[later] + start


def _standardized(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures ``(N, S, S)`` as vectors ``(N, S * S)`` of mean 0 and length 1; their products are correlations."""
    vectors = images.reshape(len(images), -1).astype(np.float32)
    vectors -= vectors.mean(1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    standardized: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return standardized


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
        "near_duplicates": [
            {
                "rows": [int(rows[pair.first]), int(rows[pair.second])],
                "correlation": round(pair.correlation, 4),
                "mirrored": pair.mirrored,
            }
            for pair in found.near
        ],
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
