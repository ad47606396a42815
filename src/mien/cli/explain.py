"""``mien explain``."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mien.cli._pictures import named_files
from mien.cli._shared import (
    Accelerator,
    LabelMap,
    NoPictures,
    SkipBad,
    SkipUnmapped,
    check_accelerator,
    command_line,
    messages,
    read_data,
)
from mien.cli.predict import Detector
from mien.errors import CallError, import_extra, look_up

if TYPE_CHECKING:
    from mien.data import FaceSamples, Split
    from mien.evaluation.explanation import Explanation
    from mien.evaluation.places import Share
    from mien.runs import Run


def explain(
    model: Annotated[Path, typer.Option("--model", metavar="RUN", help="A run directory.")],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH...]", help="Pictures, folders of them, or patterns.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SPEC", help="Instead of pictures: average over each emotion's faces."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Which faces of --data (default validation); a look at a test split is noted."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write explain.html, explain.json and figures.")
    ] = None,
    detector: Detector = None,
    accelerator: Accelerator = "auto",
    skip_bad: SkipBad = False,
    skip_unmapped: SkipUnmapped = False,
    label_map: LabelMap = None,
    no_pictures: NoPictures = False,
) -> None:
    """Show which places of a face speak for each emotion, and put these maps to the test."""
    from mien.data import Split
    from mien.runs import load_run

    if bool(paths) == (data is not None):
        raise CallError("expected pictures or --data SPEC, and one of them only: mien explain photo.jpg --model RUN")
    if model.suffix == ".onnx":
        raise CallError(f"maps need gradients, which an ONNX file has not; give the run that {model.name} came from")
    if paths and split is not None:
        raise CallError("--split chooses among the faces of --data; pictures have none")
    chosen = look_up({member.value: member for member in Split}, split or Split.VALIDATION, "split")
    accelerator = check_accelerator(accelerator)
    run = load_run(model)
    for module in ("torch", "pytorch_grad_cam"):
        import_extra(module, "train")
    if data is not None:
        samples = read_data(data, skip_bad, skip_unmapped, label_map)
        explanation = _of_split(run, samples, chosen, accelerator)
    else:
        explanation = _of_pictures(run, [file.path for file in named_files(paths or [])], detector, accelerator)
    _show(explanation, out, pictures=not no_pictures)
    failed = [picture.error for picture in explanation.pictures if picture.error is not None]
    for error in failed:
        messages.print(f"mien: {error}", markup=False)
    if failed:
        raise typer.Exit(1)


def _of_split(run: "Run", samples: "FaceSamples", split: "Split", accelerator: str) -> "Explanation":
    from mien.evaluation.explain import explain_split

    with messages.status("making maps and putting them to the test"):
        return explain_split(run, samples, split, command=command_line(), accelerator=accelerator)


def _of_pictures(run: "Run", paths: Sequence[str], detector: str | None, accelerator: str) -> "Explanation":
    from mien.evaluation.explain import explain_pictures
    from mien.face.detect import create_detector

    finder = create_detector(detector)
    with messages.status("making maps and putting them to the test"):
        return explain_pictures(run, paths, finder, accelerator=accelerator)


def _show(explanation: "Explanation", out: Path | None, *, pictures: bool) -> None:
    from mien.evaluation.explain_page import write_explanation
    from mien.evaluation.explain_words import explanation_rows

    if sys.stdout.isatty():
        _print(explanation)
    else:
        typer.echo(json.dumps(explanation_rows(explanation)))
    if out is not None:
        messages.print(f"{write_explanation(out, explanation, pictures=pictures)}", markup=False)


def _print(explanation: "Explanation") -> None:
    from mien.evaluation.explain_words import answer_words, verdict_words

    console = Console(highlight=False)
    console.print(_split_table(explanation) if explanation.split else _face_table(explanation))
    for found in explanation.findings:
        if found.checks.failures:
            console.print(verdict_words(found), style="yellow")
    for paragraph in answer_words(explanation):
        console.print(paragraph)


def _split_table(explanation: "Explanation") -> Table:
    table = _table("Share of the maps in a band of the face", "maps", "emotion", "faces", "eyes", "mouth")

    def add(title: str, emotion: str, faces: int, shares: "Mapping[str, Share]") -> None:
        table.add_row(title, emotion, f"{faces:,}", *(f"{shares[band].value:.0%}" for band in ("eyes", "mouth")))

    for found in explanation.findings:
        if found.method.name == "grad_cam":  # what an attention module weighs does not depend on the emotion
            for average in found.averages:
                add(found.method.title, average.emotion.value, average.n, average.shares)
        add(found.method.title, "all", sum(average.n for average in found.averages), found.shares)
    return table


def _face_table(explanation: "Explanation") -> Table:
    from mien.evaluation.explain_words import face_shares
    from mien.face.result import shown_path

    table = _table("Share of Grad-CAM's map in a band of the face", "picture", "emotion", "sure", "eyes", "mouth")
    for picture in explanation.pictures:
        for face in picture.faces:
            shares = face_shares(face)[face.emotion.value]
            numbers = (face.probabilities.max(), shares["eyes"], shares["mouth"])
            table.add_row(shown_path(picture.path), face.emotion.value, *(f"{number:.0%}" for number in numbers))
    return table


def _table(title: str, *columns: str) -> Table:
    """With names in the first two columns and numbers in the others."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=number > 0)
    return table
