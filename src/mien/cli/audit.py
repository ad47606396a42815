"""``mien audit``."""

from pathlib import Path
from typing import Annotated

from rich.console import Group
from rich.table import Table
from typer import Option

from mien.cli import shared
from mien.data import FaceSamples, votes_on
from mien.data import audit as auditing
from mien.data.ferplus import emotion_votes
from mien.errors import import_extra
from mien.evaluation import label_issues
from mien.files import check_folder
from mien.report import audit_page
from mien.report import format as formats

SHOWN = 20
"""Doubtful labels in the table, at most; the JSON and the page have all."""


def audit(
    data: shared.Data,
    reading: shared.SetReading,
    votes: Annotated[Path | None, Option(metavar="FILE", help="FER+'s fer2013new.csv.")] = None,
    predictions: Annotated[
        list[Path] | None,
        Option(
            "--predictions",
            metavar="RUN|NPZ",
            help="A run that held a part of Training out (data.fold), or its predictions; give as many as there are.",
        ),
    ] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Write audit.html, with pictures, and audit.json.")] = None,
    no_pictures: shared.NoPictures = False,
    kind: shared.Format = "table",
) -> None:
    """Find copies, leaks between splits, contradictory labels, empty pictures and doubtful labels."""
    check_folder(out)
    if out is not None:
        import_extra("jinja2", "report")  # before the work, not after it
    if predictions:
        import_extra("pydantic", "train")  # reads the runs' recipes
    samples = reading.read(data)
    of_rows = None if votes is None else votes_on(samples, votes)
    doubted = label_issues.label_issues(label_issues.out_of_sample(samples, predictions)) if predictions else None
    found = auditing.audit(samples, of_rows, shared.showing_progress("compared"))
    tables = [
        _faults_table(samples, found),
        _faces_table(samples, found),
        *([] if doubted is None else [_issue_table(doubted)]),
    ]
    shared.print_answer(audit_page.audit_content(samples, found, doubted), Group(*tables), kind)
    if out is not None:
        chosen = None if of_rows is None else emotion_votes(of_rows)
        page = audit_page.write_audit_page(out, samples, found, chosen, doubted, pictures=not no_pictures)
        shared.messages.print(str(page))


def _faults_table(samples: FaceSamples, found: auditing.Audit) -> Table:
    title = f"Audit of {formats.count(len(samples))} images of {formats.data_title(samples.name)}"
    table = shared.create_table(title, ["found"], ["number", "of"])
    titles = audit_page.split_titles(samples)
    sizes = {split: sum(counts.values()) for split, counts in found.counts.items()}
    for (split, other), (number, same) in auditing.leaks(samples, found.groups).items():
        if number:
            name = f"{titles[split]}: identical image in {titles[other]}"
            table.add_row(name, f"{number:,}", f"{sizes[split]:,}")
            table.add_row("  of these with the same label", f"{same:,}", f"{number:,}")
    for (split, other), number in auditing.shared_subjects(samples).items():
        table.add_row(f"subjects in {titles[split]} and in {titles[other]}", f"{number:,}")
    table.add_row("redundant images (copies)", f"{found.redundant:,}", f"{len(samples):,}")
    table.add_row("groups of copies with different labels", f"{len(found.contradictory):,}", f"{len(found.groups):,}")
    across, or_more = auditing.near_across(samples, found.near), "" if found.has_all_near else " or more"
    table.add_row("pairs of near copies in two splits", f"{len(across):,}{or_more}")
    table.add_row("pairs of near copies within a split", f"{len(found.near) - len(across):,}{or_more}")
    table.add_row("empty images", f"{len(found.constant):,}", f"{len(samples):,}")
    for split, agreement in found.agreement.items():
        name = f"{titles[split]}: labels that FER+'s voters agree with"
        table.add_row(name, f"{agreement.agreeing:,}", f"{agreement.n:,}")
    return table


def _faces_table(samples: FaceSamples, found: auditing.Audit) -> Table:
    title = f"{formats.shown(samples.classes).capitalize()}s of each class"
    table = shared.create_table(title, ["split"], list(next(iter(found.counts.values()))))
    titles = audit_page.split_titles(samples)
    for split, counts in found.counts.items():
        table.add_row(titles[split], *(f"{number:,}" for number in counts.values()))
    return table


def _issue_table(issues: label_issues.LabelIssues) -> Table:
    title = f"Labels that networks disagree with, the first {min(SHOWN, len(issues.row))} of {len(issues.row):,}"
    table = shared.create_table(title, ["row", "label", "suggested"], ["probability of the label"])
    for issue in issues.rows()["found"][:SHOWN]:
        table.add_row(str(issue["row"]), issue["label"], issue["suggested"], f"{issue['score']:.1%}")
    return table
