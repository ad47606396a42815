"""``mien report``."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mien.cli import shared
from mien.cli.study import comparison_text
from mien.files import check_folder
from mien.report.study_page import write_comparison
from mien.study.comparison import compare_runs
from mien.study.folder import collect


def report(
    paths: Annotated[list[Path], Argument(metavar="RUN...", help="Finished runs, or folders that hold some.")],
    reading: shared.Reading,
    out: Annotated[Path, Option(metavar="DIR", help="Folder of the page, index.html.")],
    data: Annotated[str | None, Option(metavar="SPEC", help="The runs' data set, to show its faces.")] = None,
    no_pictures: shared.NoPictures = False,
    kind: shared.Format = "table",
) -> None:
    """Write a study's page over any finished runs: the comparison, curves, confusion and single predictions."""
    check_folder(out)  # before the work, not after it
    found = collect(paths, out)
    rows = compare_runs(found.runs)
    samples = None if data is None else reading.read(data)
    for each in found.left_out:
        shared.messages.print(f"{each.row} is left out: {each.reason}")
    page = write_comparison(
        out, rows, samples, command=shared.command_line(), pictures=not no_pictures, left_out=found.left_out,
        is_study=False,
    )  # fmt: skip
    content = {"rows": [each.content() for row in rows for each in row.reports]}
    shared.print_answer(content, comparison_text(rows), kind)
    shared.messages.print(str(page))
