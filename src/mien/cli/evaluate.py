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
    Votes,
    check_accelerator,
    command_line,
    read_data,
)


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|MODEL", help="A run directory, a file of mien export, or the name of a network in the package."
        ),
    ],
    data: Data,
    split: Annotated[str, typer.Option("--split", help="Which faces; every look at a test split is noted.")] = (
        "validation"
    ),
    views: Annotated[int, typer.Option("--views", metavar="1|2|10", help="Views of each face, averaged.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for predictions and report; by default the run's own, of a file none."),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Also say what is left of it as pictures get worse in eleven ways."),
    ] = False,
    votes: Votes = None,
    accelerator: Accelerator = "auto",
    skip_bad: SkipBad = False,
    skip_unmapped: SkipUnmapped = False,
    label_map: LabelMap = None,
    no_pictures: NoPictures = False,
) -> None:
    """Predict a split with a trained run or an exported file, and print the figures as JSON."""
    from mien.data import Split, votes_on
    from mien.errors import CallError, look_up
    from mien.evaluation.network import evaluate_network, network_robustness
    from mien.evaluation.predict import VIEWS
    from mien.evaluation.report import write_report
    from mien.evaluation.results import evaluate_run, run_robustness
    from mien.face.network import EmotionNetwork, shipped_models
    from mien.runs import Run, load_run

    chosen = look_up({member.value: member for member in Split}, split, "split")
    if robustness and chosen is not Split.VALIDATION:
        raise CallError(f"--robustness is for validation, since choices may follow from it; --split {split} came")
    if views not in VIEWS:
        raise CallError(f"--views must be 1, 2 or 10; {views} came")
    accelerator = check_accelerator(accelerator)
    if model.suffix == ".onnx" or model.is_file() or (str(model) in shipped_models() and not model.is_dir()):
        if accelerator == "cuda":
            raise CallError("--accelerator cuda is for runs; an ONNX file is computed on the processor: leave it out")
        network = EmotionNetwork(model)
        samples = read_data(data, skip_bad, skip_unmapped, label_map)
        of_rows = None if votes is None else votes_on(samples, votes)
        results = evaluate_network(
            network, samples, chosen, views=views, out=out, command=command_line(), votes=of_rows
        )
        if robustness:
            results["robustness"] = network_robustness(network, samples, out=out)
    else:
        run = load_run(model)
        samples = read_data(data, skip_bad, skip_unmapped, label_map)
        of_rows = None if votes is None else votes_on(samples, votes)
        results = evaluate_run(
            run, samples, chosen, views=views, command=command_line(), accelerator=accelerator, out=out, votes=of_rows
        )
        if robustness:
            results["robustness"] = run_robustness(run, samples, accelerator=accelerator, out=out)
        write_report(run if out is None else Run(out), samples, pictures=not no_pictures)
    typer.echo(json.dumps(results, indent=2))
