"""``mien explain``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from typer import Argument, Option

from mien.cli import inputs, shared
from mien.data import Split
from mien.data.layouts.raw import split_named
from mien.errors import CallError, import_extra
from mien.explain import explain as explaining
from mien.explain import regions
from mien.face.detect import create_detector
from mien.face.result import shown_path
from mien.files import check_folder
from mien.recipe import load_recipe
from mien.report import explain_page
from mien.runs import load_run


def explain(
    model: Annotated[Path, Option(metavar="RUN", help="A run directory.")],
    reading: shared.Reading,
    paths: Annotated[list[str] | None, Argument(metavar="[PATH...]", help="Pictures, folders or patterns.")] = None,
    data: Annotated[str | None, Option(metavar="SPEC", help="Instead of pictures: averages by emotion.")] = None,
    split: Annotated[str | None, Option(help="Faces of --data (default validation); a test split is noted.")] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Write explain.html, explain.json and figures.")] = None,
    detector: shared.Detector = None,
    accelerator: shared.Accelerator = "auto",
    no_pictures: shared.NoPictures = False,
    kind: shared.Format = "table",
) -> None:
    """Show which places of a face speak for each emotion, and put these maps to the test."""
    check_folder(out)
    chosen = _check(model, paths, data, split)
    run = load_run(model)
    import_extra("pytorch_grad_cam", "train")  # before the work, not after it
    status = shared.messages.status("making maps and testing them")
    if data is not None:
        stored = load_recipe(run.recipe_path).data
        samples, command = reading.read(data, stored, strict=False), shared.command_line()
        with status:
            explanation = explaining.explain_split(run, samples, chosen, command=command, accelerator=accelerator)
    else:
        files, finder = [file.path for file in inputs.named_files(paths or [])], create_detector(detector)
        with status:
            explanation = explaining.explain_pictures(run, files, finder, accelerator=accelerator)
    main_table = _split_table(explanation) if explanation.split else _face_table(explanation)
    text = Group(main_table, _check_table(explanation))
    shared.print_answer(explain_page.explanation_rows(explanation), text, kind)
    if out is not None:
        shared.messages.print(str(explain_page.write_explain_page(out, explanation, pictures=not no_pictures)))
    failed = [picture.error for picture in explanation.pictures if picture.error is not None]
    for error in failed:
        shared.print_error(error)
    if failed:
        raise typer.Exit(1)


def _check(model: Path, paths: list[str] | None, data: str | None, split: str | None) -> Split:
    """The split to explain, or ``CallError`` for a call that contradicts itself."""
    if bool(paths) == (data is not None):
        got = "both" if paths else "neither"
        raise CallError(
            f"expected pictures or --data SPEC, one of them, got {got}; try: mien explain photo.jpg --model RUN"
        )
    if model.suffix == ".onnx":
        raise CallError(
            f"expected a run, got {model.name}: an ONNX file has no gradients; give the run that it came from"
        )
    if paths and split is not None:
        raise CallError("expected --split with --data only, got it with pictures, which have no splits; leave it out")
    return split_named(split or Split.VALIDATION)


def _split_table(explanation: explaining.Explanation) -> Table:
    table = shared.create_table(
        "Fraction of the maps in a band of the face", ["maps", "class"], ["faces", *regions.BANDS]
    )

    def add(title: str, emotion: str, faces: int, bands: dict[str, regions.BandFraction]) -> None:
        table.add_row(title, emotion, f"{faces:,}", *(f"{band.value:.0%}" for band in bands.values()))

    for found in explanation.findings:
        if found.method.name == "grad_cam":  # an attention module's weights do not depend on the emotion
            for average in found.averages:
                add(found.method.title, average.emotion, average.n, average.bands)
        add(found.method.title, "all", sum(average.n for average in found.averages), found.bands)
    return table


def _face_table(explanation: explaining.Explanation) -> Table:
    title = "Fraction of Grad-CAM's map in a band of the face"
    table = shared.create_table(title, ["picture", "class"], ["confidence", *regions.BANDS])
    for picture in explanation.pictures:
        for face in picture.faces:
            numbers = face.probabilities.max(), *face.bands()[face.emotion].values()
            table.add_row(shown_path(picture.path), face.emotion, *(f"{number:.0%}" for number in numbers))
    return table


def _check_table(explanation: explaining.Explanation) -> Table:
    title = "Checks: likeness to maps of random weights (small is good), p of deletion and insertion"
    table = shared.create_table(title, ["maps", "verdict"], ["faces", "likeness", "deletion", "insertion"])
    for found in explanation.findings:
        checks = found.checks
        numbers = checks.similarity, checks.deletion.p_value, checks.insertion.p_value
        table.add_row(found.method.title, checks.verdict, f"{checks.n}", *(f"{number:z.2f}" for number in numbers))
    return table
