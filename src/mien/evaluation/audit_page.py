"""An audit of labelled faces as ``audit.json`` and one page, ``audit.html``: the answer, tables, contact sheets."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Split
from mien.data.audit import Audit, audit_rows, leaks
from mien.data.samples import Usage
from mien.emotions import EMOTIONS
from mien.evaluation.label_issues import LabelIssues
from mien.evaluation.pages import render_page
from mien.evaluation.pictures import png_address
from mien.evaluation.wording import SPLIT_TITLES, count, percent, plural, sentences
from mien.runs import write_text

SHOWN = 28
"""Groups of pictures, at most, on a contact sheet."""

CLEAR_VOTES = 8
"""Of ten voters, who agree on another emotion than the label: then the label is worth a look."""


@dataclass(frozen=True)
class SheetPicture:
    """A picture on a contact sheet; ``picture`` is a ``data:`` address, or ``None`` where none is to be shown."""

    row: int
    split: str
    label: str
    picture: str | None


@dataclass(frozen=True)
class Sheet:
    """Groups of pictures that belong together.

    Attributes:
        title: what they are.
        caption: how many there are, how these were chosen, what to see.
        groups: the pictures, and words on each group.
    """

    title: str
    caption: str
    groups: tuple[tuple[tuple[SheetPicture, ...], str], ...]


def write_audit(
    out: Path,
    samples: FaceSamples,
    found: Audit,
    votes: NDArray[np.uint8] | None = None,
    issues: LabelIssues | None = None,
    *,
    pictures: bool = True,
) -> Path:
    """Write ``audit.json`` and ``audit.html``.

    Args:
        out: folder.
        samples: what was looked at.
        found: in it, by ``data.audit.audit``.
        votes: uint8 ``(N, 7)``, FER+'s votes on the emotions, by ``data.ferplus.emotion_votes``.
        issues: labels that networks disagree with, by ``label_issues``.
        pictures: show faces; without, row numbers stand in their place.

    Returns:
        path of ``audit.html``.

    Raises:
        RunError: ``out`` cannot be written.
        MissingExtraError: jinja2 is not installed.
    """
    content = audit_content(samples, found, issues)
    write_text(out / "audit.json", json.dumps(content, indent=1) + "\n")
    values = {
        "data": samples.name,
        "answer": audit_words(samples, found, issues),
        "content": content,
        "emotions": [emotion.value for emotion in EMOTIONS],
        "sheets": [sheet for sheet in contact_sheets(samples, found, votes, issues, pictures=pictures) if sheet.groups],
    }
    page = out / "audit.html"
    write_text(page, render_page("audit.html.j2", values))
    return page


def audit_content(samples: FaceSamples, found: Audit, issues: LabelIssues | None = None) -> dict[str, Any]:
    """The audit as JSON values, ``label_issues`` among them where networks were asked."""
    return {**audit_rows(samples, found), **({} if issues is None else {"label_issues": issues.rows()})}


def audit_words(samples: FaceSamples, found: Audit, issues: LabelIssues | None = None) -> list[str]:
    """What the audit found, in sentences: first what matters most for a test figure."""
    leaked = leaks(samples, found.groups)
    sizes = {split: sum(counts.values()) for split, counts in found.counts.items()}
    seen = [
        f"{count(leaked[split, 'training'][0])} of {count(sizes[split])} {SPLIT_TITLES.get(split, split)} pictures"
        f" ({percent(leaked[split, 'training'][0] / sizes[split])}) stand in Training,"
        f" {count(leaked[split, 'training'][1])} of them with the same label."
        for split in (Split.PRIVATE_TEST, Split.PUBLIC_TEST, "test")
        if (split, "training") in leaked and sizes[split]
    ]
    copies = (
        f"{plural(found.redundant, 'picture')} of {count(len(samples))} could go without one being lost: there are"
        f" {plural(len(found.groups), 'group')} of identical pictures, and in {count(len(found.contradictory))} of them"
        " the labels contradict each other."
    )
    rest = (
        f"{plural(len(found.near), 'pair')} of different pictures are almost the same;"
        f" {plural(len(found.constant), 'picture')} show nothing."
    )
    agreed = [
        f"FER+'s ten voters agree with {percent(agreement.agreeing / agreement.n)} of the labels of"
        f" {SPLIT_TITLES.get(split, split)}; {percent(agreement.unvoted / agreement.n)} got none of their votes."
        for split, agreement in found.agreement.items()
        if split != "public_test"
    ]
    doubted = "" if issues is None else (
        f"Networks that had not learnt from these pictures confidently disagree with {count(len(issues.row))} of"
        f" {count(issues.n)} labels of Training ({percent(len(issues.row) / issues.n)}); they agree with"
        f" {percent(issues.accuracy)}."
    )  # fmt: skip
    return [text for text in (sentences(*seen), copies, rest, sentences(*agreed), doubted) if text]


def contact_sheets(
    samples: FaceSamples,
    found: Audit,
    votes: NDArray[np.uint8] | None,
    issues: LabelIssues | None = None,
    *,
    pictures: bool = True,
) -> list[Sheet]:
    """Leaks, contradictions, near copies, empty pictures, and labels that the voters or the networks reject."""

    def shown(positions: Iterable[int]) -> tuple[SheetPicture, ...]:
        return tuple(_sheet_picture(samples, int(at), pictures) for at in positions)

    def sheet(title: str, caption: str, groups: Sequence[tuple[Sequence[int] | NDArray[np.int64], str]]) -> Sheet:
        first = f" The first {count(SHOWN)} of {count(len(groups))}." if len(groups) > SHOWN else ""
        return Sheet(title, caption + first, tuple((shown(group), words) for group, words in groups[:SHOWN]))

    tests = (Usage.PUBLIC_TEST, Usage.PRIVATE_TEST, Usage.TEST)
    leaked = [
        group for group in found.groups
        if Usage.TRAINING in samples.usages[group] and np.isin(samples.usages[group], tests).any()
    ]  # fmt: skip
    near = [((pair.first, pair.second), _near_words(pair.correlation, pair.mirrored)) for pair in found.near]
    return [
        sheet(
            "Test pictures that stand in Training",
            "Identical to the last pixel. A network that has learnt its training pictures by heart knows them.",
            [(group, "") for group in leaked],
        ),
        sheet(
            "The same picture with different labels",
            "No network can be right about all of these.",
            [(group, "") for group in found.contradictory],
        ),
        sheet("Almost the same", "Different pictures whose pixels correlate by 0.98 or more.", near),
        sheet(
            "Pictures that show nothing",
            "Their grey levels vary by less than one.",
            [((at,), "") for at in found.constant.tolist()],
        ),
        sheet(
            "Labels that the voters reject",
            f"{CLEAR_VOTES} or more of FER+'s ten voters agree on another emotion, and none chose the label.",
            [] if votes is None else _rejected(samples, votes),
        ),
        sheet(
            "Labels that networks confidently disagree with",
            "By networks that had not learnt from these pictures, the least likely labels first. A network can be wrong"
            f" as well: they are worth a look, no more.{_voters_side(samples, votes, issues)}",
            [] if issues is None else _doubted(samples, issues),
        ),
    ]


def _near_words(correlation: float, mirrored: bool) -> str:
    return f"{correlation:.3f}{', mirrored' if mirrored else ''}"


def _rejected(samples: FaceSamples, votes: NDArray[np.uint8]) -> list[tuple[tuple[int, ...], str]]:
    """Positions and the voters' answer, the clearest first, then by row."""
    labelled = np.flatnonzero(samples.labels >= 0)
    of_label = votes[labelled, samples.labels[labelled]]
    largest = votes[labelled].max(1)
    chosen = labelled[(of_label == 0) & (largest >= CLEAR_VOTES)]
    order = chosen[np.argsort(-votes[chosen].max(1).astype(int), kind="stable")]
    return [((int(at),), f"{votes[at].max()} votes for {EMOTIONS[votes[at].argmax()].value}") for at in order]


def _doubted(samples: FaceSamples, issues: LabelIssues) -> list[tuple[tuple[int, ...], str]]:
    """Positions and the networks' answer, in the order of the issues."""
    places = np.searchsorted(samples.rows, issues.row).tolist()
    columns = (places, issues.label.tolist(), issues.suggested.tolist(), issues.score.tolist())
    return [
        ((at,), f"rather {EMOTIONS[other]}; {EMOTIONS[label]} {percent(score)}")
        for at, label, other, score in zip(*columns, strict=True)
    ]


def _voters_side(samples: FaceSamples, votes: NDArray[np.uint8] | None, issues: LabelIssues | None) -> str:
    """How often FER+'s voters prefer another emotion than the label as well: a witness that saw no network."""
    if votes is None or issues is None or not len(issues.row):
        return ""
    differs = (votes.argmax(1) != samples.labels) & (samples.usages == Usage.TRAINING)
    doubted = differs[np.searchsorted(samples.rows, issues.row)]
    return (
        f" FER+'s voters prefer another emotion in {percent(float(doubted.mean()))} of them, and in"
        f" {percent(float(differs[samples.usages == Usage.TRAINING].mean()))} of all pictures of Training."
    )


def _sheet_picture(samples: FaceSamples, at: int, pictures: bool) -> SheetPicture:
    label = int(samples.labels[at])
    split = Usage(samples.usages[at]).name.lower()
    return SheetPicture(
        row=int(samples.rows[at]),
        split=SPLIT_TITLES.get(split, split),
        label=EMOTIONS[label].value if label >= 0 else "no label",
        picture=png_address(samples.images[at]) if pictures else None,
    )
