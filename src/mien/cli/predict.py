"""``mien predict``."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import track
from rich.text import Text

from mien.cli._pictures import NamedFile, OutputNames, named_files
from mien.cli._shared import messages
from mien.errors import CallError, look_up

if TYPE_CHECKING:
    from mien.face.result import Face, Picture

FORMATS = ("table", "json", "jsonl", "csv")

Detector = Annotated[
    str | None,
    typer.Option("--detector", metavar="libfacedetection|yunet|none", help="What finds faces; none: all is one face."),
]
Model = Annotated[str, typer.Option("--model", metavar="NAME|FILE", help="A network of the package, or an ONNX file.")]


class Use(Protocol):
    """What is done with each picture."""

    def __call__(self, file: NamedFile, picture: "Picture") -> None:
        """Write or show it."""


def predict(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Pictures, folders of them, or patterns.")],
    kind: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(FORMATS), help="On stdout; table on a terminal, json in a pipe."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Into a file instead: .json, .jsonl, .csv, .parquet.")
    ] = None,
    annotated: Annotated[
        Path | None, typer.Option("--annotated", metavar="DIR", help="Pictures with boxes and emotions.")
    ] = None,
    crops: Annotated[
        Path | None, typer.Option("--crops", metavar="DIR", help="The faces as the network saw them.")
    ] = None,
    detector: Detector = None,
    model: Model = "base",
    abstain: Annotated[
        float | None,
        typer.Option("--abstain", metavar="ACCURACY", help="Answer only where so large a share of answers is right."),
    ] = None,
) -> None:
    """Name the emotion of every face in pictures."""
    from mien.face.recognizer import Recognizer

    if kind is not None:
        look_up(dict.fromkeys(FORMATS), kind, "format")
        if out is not None:
            raise CallError("--format is for the screen, and the ending of --out names its own; give one of them")
    files = named_files(paths)
    recognizer = Recognizer(model, detector, min_accuracy=abstain)
    failed = 0
    with contextlib.ExitStack() as opened:
        uses = [opened.enter_context(_output(kind, out, abstaining=abstain is not None))]
        sources = {os.path.realpath(file.path) for file in files}
        uses += [_annotating(annotated, sources)] if annotated is not None else []
        uses += [_cropping(crops, sources)] if crops is not None else []
        pictures = recognizer.stream(file.path for file in files)
        shown = track(
            zip(files, pictures, strict=True),
            description="",
            total=len(files),
            console=messages,
            transient=True,
            disable=not messages.is_terminal or len(files) == 1 or (out is None and sys.stdout.isatty()),
        )
        for file, picture in shown:
            if picture.error is not None:
                failed += 1
                messages.print(f"mien: {picture.error}", markup=False)
            for use in uses:
                use(file, picture)
    if failed:
        messages.print(f"mien: {failed} of {len(files)} files could not be read", markup=False)
        raise typer.Exit(1)


@contextlib.contextmanager
def _output(kind: str | None, out: Path | None, *, abstaining: bool) -> Iterator[Use]:
    from mien.face.rows import writing_pictures

    chosen = kind or ("table" if sys.stdout.isatty() else "json")
    if out is None and chosen == "table":
        yield _Table(Console(highlight=False))
        return
    target = out if out is not None else sys.stdout.buffer
    with writing_pictures(target, None if out is not None else chosen, abstaining=abstaining) as write:
        yield lambda file, picture: write(picture)


class _Table:
    """A line per face, printed as it comes: bars, the runner-up, and what is wrong with the face."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def __call__(self, file: NamedFile, picture: "Picture") -> None:
        from mien.face.result import shown_path

        name = shown_path(picture.path) or ""
        if picture.error is not None:
            self._print(name, Text("cannot be read", style="red"))
        elif not picture.faces:
            self._print(name, Text("no face", style="dim"))
        for face in picture.faces:
            self._print(name, _line(face))

    def _print(self, name: str, what: Text) -> None:
        width = max(12, min(40, self._console.width - 58))
        shown = "" if name == self._last else name
        self._last = name
        if len(shown) > width:
            shown = f"…{shown[1 - width :]}"
        self._console.print(Text(f"{shown:<{width}}  ").append_text(what), soft_wrap=True)


def _line(face: "Face") -> Text:
    from mien.face.draw import COLORS

    ranked = sorted(face.probabilities.items(), key=lambda item: -item[1])
    style = f"rgb({','.join(map(str, COLORS[face.emotion]))})"
    blocks = round(16 * face.confidence)
    line = Text(f"{'?' if face.abstained else face.emotion.value:<9}").append("█" * blocks, style=style)
    line.append("░" * (16 - blocks), style="dim").append(f" {100 * face.confidence:3.0f} %")
    line.append(f"  then {ranked[1][0].value} {100 * ranked[1][1]:.0f} %", style="dim")
    return line.append(f"  {', '.join(face.reasons)}", style="yellow") if face.reasons else line


def _annotating(folder: Path, sources: set[str]) -> Use:
    from PIL import Image

    from mien.face.draw import annotate
    from mien.face.pictures import read_picture

    names = OutputNames(folder)

    def write(file: NamedFile, picture: "Picture") -> None:
        if picture.error is None:
            ending = ".jpg" if file.path.lower().endswith((".jpg", ".jpeg")) else ".png"
            drawn = Image.fromarray(annotate(read_picture(file.path), picture.faces))
            _saved(names.place(file.name), ending, sources, lambda path: drawn.save(path, quality=92))

    return write


def _cropping(folder: Path, sources: set[str]) -> Use:
    from PIL import Image

    names = OutputNames(folder)

    def write(file: NamedFile, picture: "Picture") -> None:
        for number, face in enumerate(picture.faces):
            crop = Image.fromarray(face.crop)
            _saved(names.place(f"{file.name}-{number}"), ".png", sources, crop.save)

    return write


def _saved(place: Path, ending: str, sources: set[str], save: Callable[[Path], None]) -> None:
    """Write a picture beside no other; never over one of ``sources``, the pictures that are looked at."""
    from mien.errors import OutputError

    path = place.with_name(place.name + ending)
    if os.path.realpath(path) in sources:
        raise CallError(f"this would overwrite a picture that is looked at, {path}; choose another folder")
    try:
        save(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; free some space") from error
