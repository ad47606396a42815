"""``mien train``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mien.cli._shared import (
    Accelerator,
    Data,
    Devices,
    LabelMap,
    NoPictures,
    Overrides,
    SkipBad,
    SkipUnmapped,
    Votes,
    catching_signals,
    check_accelerator,
    command_line,
    messages,
    read_data,
    showing_progress,
)
from mien.errors import Interrupted, import_extra


def train(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that mien brings.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The run directory.")],
    overrides: Overrides = None,
    votes: Votes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run directory stands.")] = False,
    devices: Devices = 1,
    accelerator: Accelerator = "auto",
    skip_bad: SkipBad = False,
    skip_unmapped: SkipUnmapped = False,
    label_map: LabelMap = None,
    no_pictures: NoPictures = False,
) -> None:
    """Train one recipe and store its weights, validation predictions and report."""
    import_extra("pydantic", "train")
    from mien.data import votes_on
    from mien.evaluation.report import write_report
    from mien.recipe import load_recipe
    from mien.study import find_recipe
    from mien.training import fit, is_first_process

    values = load_recipe(find_recipe(recipe), overrides or ())
    accelerator = check_accelerator(accelerator)
    samples = read_data(data, skip_bad, skip_unmapped, label_map)
    with catching_signals() as stop_signal, showing_progress() as show:
        try:
            run = fit(
                values,
                samples,
                out,
                resume=resume,
                devices=devices,
                accelerator=accelerator,
                command=command_line(),
                votes=None if votes is None else votes_on(samples, votes),
                show=lambda progress: show(values.name, progress),
                stop_signal=stop_signal,
            )
        except Interrupted as stopped:
            again = sys.argv[1:] if resume else [*sys.argv[1:], "--resume"]
            raise Interrupted(f"{stopped}; go on with: {shlex.join(['mien', *again])}", stopped.signal_number) from None
    if not is_first_process():
        return
    page = write_report(run, samples, pictures=not no_pictures)
    found = run.report()["results"]["validation"]
    low, high = found["accuracy_ci95"]
    messages.print(f"validation accuracy {found['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}); {page}")
