"""``mien ensemble``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.cli._shared import command_line


def ensemble(
    members: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories, or folders of mien evaluate --out.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for predictions, report and page.")],
) -> None:
    """Average what several runs predict, and print the figures as JSON; every test split they hold is looked at."""
    from mien.evaluation.ensemble import write_ensemble
    from mien.evaluation.report import write_report
    from mien.runs import Run

    results = write_ensemble(members, out, command=command_line())
    write_report(Run(out), pictures=False)
    typer.echo(json.dumps(results, indent=2))
