"""``mien predict``."""

import contextlib
import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from rich.text import Text
from typer import Argument, Option

from mien import errors, files
from mien.cli import shared
from mien.cli.inputs import NamedFile, named_files
from mien.face import draw, result
from mien.face.images import has_pages
from mien.face.recognizer import Recognizer
from mien.face.writers import check_ending, writing_pictures

MAX_CROP_SIDE = 256
"""Pixels; square pictures up to this size without a face in them may be faces that were cut out already."""

FORMATS = ("table", "json", "jsonl", "csv")

KINDS = {".jpg": "JPEG", ".png": "PNG"}
"""Ending of a picture that is written -> its format."""

Use = Callable[[NamedFile, result.Picture], None]
"""Writes or shows a picture."""


def format_option(piped: str) -> Any:
    """``--format`` of a command that writes rows; ``piped`` is its default in a pipe."""
    return Option("--format", metavar="|".join(FORMATS), help=f"On stdout; table on a terminal, {piped} in a pipe.")


def predict(
    paths: Annotated[list[str], Argument(metavar="PATH...", help="Pictures, folders or patterns; -: stdin.")],
    kind: Annotated[str | None, format_option(piped="json")] = None,
    out: Annotated[Path | None, Option(metavar="FILE", help="Into a file: .json, .jsonl, .csv, .parquet.")] = None,
    annotated: Annotated[Path | None, Option(metavar="DIR", help="Pictures with boxes and emotions.")] = None,
    crops: Annotated[Path | None, Option(metavar="DIR", help="The faces as the network saw them.")] = None,
    detector: shared.Detector = None,
    model: shared.Model = "base",
    abstain: Annotated[
        float | None, Option(metavar="ACCURACY", help="Answer only where this fraction of answers is correct.")
    ] = None,
    pages: Annotated[bool, Option("--pages", help="Every page of a TIFF and frame of an animation.")] = False,
) -> None:
    """Name the emotion of every face in pictures."""
    chosen = choose_format(kind, out, piped="json")
    named = named_files(paths)
    recognizer = Recognizer(model, detector, min_accuracy=abstain)
    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as opened:
        output = _output(chosen, out, recognizer.network.classes, abstaining=abstain is not None, pages=pages)
        uses = [opened.enter_context(output)]
        sources = {os.path.realpath(file.path) for file in named}
        uses += [PictureFolder(annotated, sources).annotate] if annotated is not None else []
        uses += [PictureFolder(crops, sources).crop] if crops is not None else []
        shown = track(
            _pictures(recognizer, named, pages=pages),
            description="",
            total=None if pages else len(named),
            console=shared.messages,
            transient=True,
            disable=not shared.messages.is_terminal or len(named) == 1 or (out is None and sys.stdout.isatty()),
        )
        for file, picture in shown:
            if picture.error is not None:
                shared.print_error(picture.error)
            counts["failed"] += picture.error is not None
            counts["paged"] += not pages and picture.error is None and has_pages(file.source())
            counts["crops"] += detector != "none" and may_be_crop(picture)
            for use in uses:
                use(file, picture)
    _tell(counts, len(named))


def _tell(counts: Mapping[str, int], count: int) -> None:
    """What a reader of the results should know; ends the command with 1 where a file could not be read."""
    if counts["crops"]:
        _hint_at_crops(counts["crops"], count)
    if counts["paged"]:
        shared.messages.print(f"{counts['paged']} of {count} files have several pages; the first was read; add --pages")
    if counts["failed"]:
        shared.print_error(f"{counts['failed']} of {count} files could not be read")
        raise typer.Exit(1)


def _pictures(
    recognizer: Recognizer, files: Sequence[NamedFile], *, pages: bool
) -> Iterator[tuple[NamedFile, result.Picture]]:
    """Each picture with its faces: in batches from files, one after the other from stdin or from ``pages``."""
    if not pages and all(file.content is None for file in files):
        yield from zip(files, recognizer.stream(file.path for file in files), strict=True)
        return
    for file in files:
        number = 0
        try:
            for number, page in enumerate(file.pages() if pages else [file], 1):
                faces = recognizer.recognize(page.read())
                yield page, replace(faces, path=file.path, page=number if pages else None)
        except (errors.MediaError, errors.MissingPathError) as error:
            yield file, result.Picture(file.path, error=str(error), page=number + 1 if pages else None)


def may_be_crop(picture: result.Picture) -> bool:
    """Whether a picture in which no face was found has the size and shape of a face that was cut out."""
    if picture.faces or picture.width is None or picture.height is None:
        return False
    return picture.width == picture.height <= MAX_CROP_SIDE


def _hint_at_crops(number: int, count: int) -> None:
    shared.messages.print(
        f"{number} of {count} pictures are small and square, and no face was found in them; if they are faces that were"
        " cut out already, add --detector none"
    )


def choose_format(kind: str | None, out: Path | None, piped: str) -> str | None:
    """What goes to stdout: ``--format``, or a table on a terminal and ``piped`` in a pipe; ``None`` with a file.

    Raises ``CallError`` for an unknown format, for another one than the file's, and for a file of an unknown one.
    """
    if kind is not None:
        errors.look_up(dict.fromkeys(FORMATS), kind, "format")
    if out is None:
        return kind or ("table" if sys.stdout.isatty() else piped)
    if kind not in (None, out.suffix[1:].lower()):
        raise errors.CallError(f"expected --format and --out to agree, got {kind} and {out}; leave --format out")
    check_ending(out)
    return None


@contextlib.contextmanager
def _output(kind: str | None, out: Path | None, classes: Sequence[str], **extra: bool) -> Iterator[Use]:
    if kind == "table":
        table = FaceTable()
        yield lambda file, picture: table.add(picture.shown_name(), picture.faces, picture.error)
        return
    with writing_pictures(out or sys.stdout.buffer, kind, classes, **extra) as write:
        yield lambda file, picture: write(picture)


class FaceTable:
    """A line per face, printed at once: bars, the runner-up, and what is wrong with the face."""

    def __init__(self) -> None:
        self._console = shared.PlainConsole()
        self._width = max(12, min(40, self._console.width - 58))
        self._last = ""

    def add(self, name: str, faces: Sequence[result.Face], error: str | None = None) -> None:
        """Print the faces of a picture or frame, or that there are none."""
        none = Text("no face", style="dim") if error is None else Text("cannot be read", style="red")
        for line in [_line(face) for face in faces] or [none]:
            shown = "" if name == self._last else shared.visible_name(name)
            self._last = name
            if len(shown) > self._width:
                shown = f"…{shown[1 - self._width :]}"
            self._console.print(Text(f"{shown:<{self._width}}  ").append_text(line), soft_wrap=True)


def _line(face: result.Face) -> Text:
    ranked = sorted(face.probabilities.items(), key=lambda item: -item[1])
    style = f"rgb({','.join(map(str, draw.face_color(face)))})"
    blocks = round(16 * face.confidence)
    width = max(9, *(len(name) + 1 for name in face.probabilities))
    line = Text(f"{'?' if face.abstained else face.emotion:<{width}}").append("█" * blocks, style=style)
    line.append("░" * (16 - blocks), style="dim").append(f" {100 * face.confidence:3.0f} %")
    line.append(f"  then {ranked[1][0]} {100 * ranked[1][1]:.0f} %", style="dim")
    return line.append(f"  {', '.join(face.reasons)}", style="yellow") if face.reasons else line


class PictureFolder:
    """Pictures in a folder under the names of inputs: ``a.png``, the next ``a-2.png``, ...; never over an input."""

    def __init__(self, folder: Path, sources: set[str]) -> None:
        self._folder = folder
        self._sources = sources
        self._taken: set[str] = set()

    def save(self, name: str, ending: str, pixels: NDArray[np.uint8]) -> None:
        """Write a picture; ``CallError`` for a wrong folder, ``OutputError`` where there is no room."""
        above, last = os.path.split(name)
        numbered = (files.fitting(last, f"-{number}{ending}") for number in itertools.count(2))
        names = (os.path.join(above, each) for each in itertools.chain([files.fitting(last, ending)], numbered))
        chosen = next(each for each in names if each not in self._taken)
        self._taken.add(chosen)
        path = self._folder / chosen
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            folder = errors.shorten(path.parent)
            raise errors.CallError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
        if os.path.realpath(path) in self._sources:
            raise errors.CallError(
                f"expected another folder for output, got that of the input {path}; choose a new one"
            )
        with files.writing(path) as stream:
            Image.fromarray(pixels).save(stream, KINDS[ending], quality=92)  # PNG has no quality and ignores it

    def annotate(self, file: NamedFile, picture: result.Picture) -> None:
        """Save a picture that could be read, with boxes and emotions."""
        if picture.error is None:
            ending = ".jpg" if file.path.lower().endswith((".jpg", ".jpeg")) else ".png"
            self.save(file.name, ending, draw.annotate(file.read(), picture.faces))

    def crop(self, file: NamedFile, picture: result.Picture) -> None:
        """Save each face as the network saw it."""
        for number, face in enumerate(picture.faces):
            self.save(f"{file.name}-{number}", ".png", face.crop)
