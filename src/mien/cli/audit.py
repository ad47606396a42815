"""``mien audit``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mien.cli._shared import Data, LabelMap, NoPictures, SkipBad, SkipUnmapped, messages, read_data
from mien.errors import import_extra

if TYPE_CHECKING:
    from mien.data import FaceSamples
    from mien.data.audit import Audit
    from mien.evaluation.label_issues import LabelIssues

SHOWN = 20
"""Doubtful labels, at most, in the table on a terminal; the JSON and the file have all."""


def audit(
    data: Data,
    votes: Annotated[Path | None, typer.Option("--votes", metavar="FILE", help="FER+'s fer2013new.csv.")] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            "--predictions",
            metavar="RUN|NPZ",
            help="A run that held a part of Training out (data.fold), or its predictions; give as many as there are.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write audit.html, with the pictures, and audit.json.")
    ] = None,
    skip_bad: SkipBad = False,
    skip_unmapped: SkipUnmapped = False,
    label_map: LabelMap = None,
    no_pictures: NoPictures = False,
) -> None:
    """Find copies, leaks between splits, contradictory labels, empty pictures and doubtful labels."""
    if out is not None:
        import_extra("jinja2", "report")  # before the work, not after it
    if predictions:
        import_extra("pydantic", "train")  # reads the runs' recipes
    from mien.data import votes_on
    from mien.data.audit import audit as look
    from mien.data.ferplus import emotion_votes
    from mien.evaluation.audit_page import audit_content, write_audit
    from mien.evaluation.label_issues import label_issues, out_of_sample

    samples = read_data(data, skip_bad, skip_unmapped, label_map)
    of_rows = None if votes is None else votes_on(samples, votes)
    issues = label_issues(out_of_sample(samples, predictions)) if predictions else None
    found = look(samples, of_rows)
    if sys.stdout.isatty():
        _print(samples, found, issues)
    else:
        typer.echo(json.dumps(audit_content(samples, found, issues)))
    if out is not None:
        chosen = None if of_rows is None else emotion_votes(of_rows)
        page = write_audit(out, samples, found, chosen, issues, pictures=not no_pictures)
        messages.print(f"{page}", markup=False)


def _print(samples: "FaceSamples", found: "Audit", issues: "LabelIssues | None") -> None:
    from mien.evaluation.audit_page import audit_words

    console = Console(highlight=False)
    for paragraph in audit_words(samples, found, issues):
        console.print(paragraph)
    table = Table(title="Faces", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("split", no_wrap=True)
    for emotion in next(iter(found.counts.values())):
        table.add_column(emotion, justify="right", no_wrap=True)
    for split, counts in found.counts.items():
        table.add_row(split, *(f"{number:,}" for number in counts.values()))
    console.print(table)
    if issues is not None:
        console.print(_issue_table(issues))


def _issue_table(issues: "LabelIssues") -> Table:
    """The labels that are the least likely."""
    title = f"Labels that networks disagree with, the first {SHOWN} of {len(issues.row):,}"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("row", justify="right", no_wrap=True)
    for column in ("label", "suggested"):
        table.add_column(column, no_wrap=True)
    table.add_column("probability of the label", justify="right", no_wrap=True)
    for issue in issues.rows()["found"][:SHOWN]:
        table.add_row(str(issue["row"]), issue["label"], issue["suggested"], f"{issue['score']:.1%}")
    return table
