"""An audit of labelled faces as ``audit.json`` and one page, ``audit.html``: the answer, tables, contact sheets."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples
from mien.data.audit import Audit, audit_rows, near_across
from mien.data.copies import NearPair
from mien.data.samples import Usage
from mien.emotions import EMOTIONS
from mien.evaluation.label_issues import LabelIssues
from mien.files import write_text
from mien.report.evidence import face_address
from mien.report.format import split_title
from mien.report.html import render_page

MAX_GROUPS = 28
"""Groups of pictures on a contact sheet."""

MAX_COPIES = 12
"""Pictures of a group."""

CLEAR_VOTES = 8
"""Voters of ten who must agree on another emotion for a label to count as rejected."""


@dataclass(frozen=True)
class SheetPicture:
    """A picture on a contact sheet; ``picture`` is its ``data:`` address, if it is to be shown."""

    row: int
    split: str
    label: str
    picture: str | None
    file: str | None = None


@dataclass(frozen=True)
class Found:
    """Pictures that belong together, by their indices in the samples, and what is known of them.

    A pair that is almost the same has a ``correlation``. ``emotion`` is preferred to the label by voters, with so many
    ``votes``, or by networks, which give the label the probability ``score``.
    """

    indices: tuple[int, ...]
    correlation: float | None = None
    mirrored: bool = False
    emotion: str | None = None
    votes: int | None = None
    score: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A contact sheet of the first of ``total`` groups that were found; ``kind`` is named in :func:`contact_sheets`."""

    kind: str
    total: int
    groups: tuple[tuple[tuple[SheetPicture, ...], Found], ...]


def write_audit_page(
    out: Path,
    samples: FaceSamples,
    found: Audit,
    votes: NDArray[np.uint8] | None = None,
    issues: LabelIssues | None = None,
    *,
    pictures: bool = True,
) -> Path:
    """Write ``audit.json`` and ``audit.html``, and return the page's path.

    Args:
        out: folder.
        samples: what was looked at.
        found: in it, by ``data.audit.audit``.
        votes: uint8 ``(N, 7)``, FER+'s votes on the emotions, by ``data.ferplus.emotion_votes``.
        issues: labels that networks disagree with, by ``label_issues``.
        pictures: show faces; without, row numbers stand in their place.

    Raises:
        RunError: ``out`` cannot be written.
        MissingExtraError: jinja2 is not installed.
    """
    content = audit_content(samples, found, issues)
    write_text(out / "audit.json", json.dumps(content, indent=1) + "\n")
    values = {
        "content": content,
        "titles": split_titles(samples),
        "classes": samples.classes,
        "issues": issues,
        "preferred": _preferred_by_voters(samples, votes, issues),
        "clear_votes": CLEAR_VOTES,
        "sheets": contact_sheets(samples, found, votes, issues, pictures=pictures),
    }
    page = out / "audit.html"
    write_text(page, render_page("audit.html.j2", values))
    return page


def audit_content(samples: FaceSamples, found: Audit, issues: LabelIssues | None = None) -> dict[str, object]:
    """The audit as JSON values, ``label_issues`` among them where networks were asked."""
    return {**audit_rows(samples, found), **({} if issues is None else {"label_issues": issues.rows()})}


def contact_sheets(
    samples: FaceSamples,
    found: Audit,
    votes: NDArray[np.uint8] | None,
    issues: LabelIssues | None = None,
    *,
    pictures: bool = True,
) -> list[Sheet]:
    """Leaks, contradictions, near copies, empty pictures, and labels that voters or networks reject; none is empty."""
    across = set(near_across(samples, found.near))
    everything = {
        "leaks": [Found(tuple(group.tolist())) for group in found.groups if _is_leak(samples.usages[group])],
        "contradictions": [Found(tuple(group.tolist())) for group in found.contradictory],
        "near_across": [_near(pair) for pair in found.near if pair in across],
        "near_within": [_near(pair) for pair in found.near if pair not in across],
        "empty": [Found((at,)) for at in found.constant.tolist()],
        "rejected": [] if votes is None else _rejected_by_voters(samples, votes),
        "doubted": [] if issues is None else _doubted_by_networks(samples, issues),
    }
    show = _pictures_of(samples, pictures)
    return [
        Sheet(kind, len(groups), tuple((show(group.indices[:MAX_COPIES]), group) for group in groups[:MAX_GROUPS]))
        for kind, groups in everything.items()
        if groups
    ]


def split_titles(samples: FaceSamples) -> dict[str, str]:
    """Name of each split in the audit's content -> what the data call it."""
    return {usage.name.lower(): split_title(samples.split_name(usage)) for usage in Usage}


def _near(pair: NearPair) -> Found:
    return Found((pair.first, pair.second), pair.correlation, pair.mirrored)


def _is_leak(usages: NDArray[np.int8]) -> bool:
    tests = (Usage.PUBLIC_TEST, Usage.PRIVATE_TEST, Usage.TEST)
    return Usage.TRAINING in usages and bool(np.isin(usages, tests).any())


def _rejected_by_voters(samples: FaceSamples, votes: NDArray[np.uint8]) -> list[Found]:
    """Labels without a vote where the voters agree on another emotion: the clearest first, then by row."""
    labelled = np.flatnonzero(samples.labels >= 0)
    of_label = votes[labelled, samples.labels[labelled]]
    chosen = labelled[(of_label == 0) & (votes[labelled].max(1) >= CLEAR_VOTES)]
    order = chosen[np.argsort(-votes[chosen].max(1).astype(int), kind="stable")]
    return [Found((int(at),), emotion=EMOTIONS[votes[at].argmax()].value, votes=int(votes[at].max())) for at in order]


def _doubted_by_networks(samples: FaceSamples, issues: LabelIssues) -> list[Found]:
    """In the order of the issues."""
    indices = np.searchsorted(samples.rows, issues.row).tolist()
    columns = zip(indices, issues.suggested.tolist(), issues.score.tolist(), strict=True)
    return [Found((at,), emotion=issues.classes[other], score=score) for at, other, score in columns]


def _preferred_by_voters(
    samples: FaceSamples, votes: NDArray[np.uint8] | None, issues: LabelIssues | None
) -> tuple[float, float] | None:
    """How often FER+'s voters prefer another emotion than the label: among the issues, and in all of Training."""
    if votes is None or issues is None or not len(issues.row):
        return None
    differs = (votes.argmax(1) != samples.labels) & (samples.usages == Usage.TRAINING)
    doubted = differs[np.searchsorted(samples.rows, issues.row)]
    return float(doubted.mean()), float(differs[samples.usages == Usage.TRAINING].mean())


def _pictures_of(samples: FaceSamples, pictures: bool) -> Callable[[Iterable[int]], tuple[SheetPicture, ...]]:
    def picture(at: int) -> SheetPicture:
        label = int(samples.labels[at])
        return SheetPicture(
            row=int(samples.rows[at]),
            split=split_title(samples.split_name(Usage(samples.usages[at]))),
            label=samples.classes[label] if label >= 0 else "no label",
            picture=face_address(samples.images[at]) if pictures else None,
            file=None if samples.paths is None else samples.paths[at],
        )

    return lambda indices: tuple(map(picture, indices))
