"""``mien evaluate``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.cli._shared import (
    Accelerator,
    Data,
    LabelMap,
    NoPictures,
    SkipBad,
    SkipUnmapped,
    check_accelerator,
    command_line,
)


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    data: Data,
    split: Annotated[str, typer.Option("--split", help="Which faces; every look at a test split is noted.")] = (
        "validation"
    ),
    views: Annotated[int, typer.Option("--views", metavar="1|2|10", help="Views of each face, averaged.")] = 1,
    accelerator: Accelerator = "auto",
    skip_bad: SkipBad = False,
    skip_unmapped: SkipUnmapped = False,
    label_map: LabelMap = None,
    no_pictures: NoPictures = False,
) -> None:
    """Predict a split with a trained run; store the predictions and print the figures as JSON."""
    from mien.data import ReadOptions, Split, read_samples
    from mien.errors import CallError, look_up
    from mien.evaluation.predict import VIEWS
    from mien.evaluation.report import write_report
    from mien.evaluation.results import evaluate_run
    from mien.runs import load_run

    chosen = look_up({member.value: member for member in Split}, split, "split")
    if views not in VIEWS:
        raise CallError(f"--views must be 1, 2 or 10; {views} came")
    loaded = load_run(run)
    samples = read_samples(data, ReadOptions(skip_bad, skip_unmapped, label_map))
    results = evaluate_run(
        loaded, samples, chosen, views=views, command=command_line(), accelerator=check_accelerator(accelerator)
    )
    write_report(loaded, samples, pictures=not no_pictures)
    typer.echo(json.dumps(results, indent=2))
