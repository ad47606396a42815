"""``mien audit``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mien.cli._shared import Data, LabelMap, NoPictures, SkipBad, SkipUnmapped, messages
from mien.errors import import_extra

if TYPE_CHECKING:
    from mien.data import FaceSamples
    from mien.data.audit import Audit


def audit(
    data: Data,
    votes: Annotated[Path | None, typer.Option("--votes", metavar="FILE", help="FER+'s fer2013new.csv.")] = None,
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
    from mien.data import ReadOptions, read_samples, votes_on
    from mien.data.audit import audit as look
    from mien.data.audit import audit_rows
    from mien.data.ferplus import emotion_votes
    from mien.evaluation.audit_page import write_audit

    samples = read_samples(data, ReadOptions(skip_bad, skip_unmapped, label_map))
    of_rows = None if votes is None else votes_on(samples, votes)
    found = look(samples, of_rows)
    if sys.stdout.isatty():
        _print(samples, found)
    else:
        typer.echo(json.dumps(audit_rows(samples, found)))
    if out is not None:
        chosen = None if of_rows is None else emotion_votes(of_rows)
        messages.print(f"{write_audit(out, samples, found, chosen, pictures=not no_pictures)}", markup=False)


def _print(samples: "FaceSamples", found: "Audit") -> None:
    from mien.evaluation.audit_page import audit_words

    console = Console(highlight=False)
    for paragraph in audit_words(samples, found):
        console.print(paragraph)
    table = Table(title="Faces", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("split", no_wrap=True)
    for emotion in next(iter(found.counts.values())):
        table.add_column(emotion, justify="right", no_wrap=True)
    for split, counts in found.counts.items():
        table.add_row(split, *(f"{number:,}" for number in counts.values()))
    console.print(table)
