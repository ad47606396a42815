"""``mien video`` over several videos: a bad one is passed over, and a second call makes what is missing."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import typer

from mien import errors
from mien.cli import shared
from mien.cli.inputs import NamedFile, files_below, tell_of_passed
from mien.cli.video_outputs import (
    Making,
    Outputs,
    Use,
    drawing_figures,
    showing_progress,
    writing_rows_of,
    writing_table,
)
from mien.cli.watching import Job
from mien.face import video as face_video
from mien.face.recognizer import Recognizer
from mien.face.result import shown_path

ENDINGS = (
    ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
"""Files with these are taken from a folder; a file that is named is read whatever its ending."""


def watch_all(arguments: Sequence[str], job: Job, outputs: Outputs, kind: str | None) -> None:
    """Recognize every video. ``kind`` is the format of a folder of tables; ``None``: all go into one table.

    Ends the command with 1 where a video could not be read, or was damaged.
    """
    out = outputs.out.resolve() if outputs.out is not None else None
    if out is not None and any(out.is_relative_to(Path(each).resolve()) for each in arguments if Path(each).is_dir()):
        raise errors.CallError(f"expected an --out outside the folder of the videos, got {outputs.out}; name another")
    files = list(video_files(arguments))
    folder = _Folder(files, outputs, job, kind)
    failed = done = 0
    with contextlib.ExitStack() as opened:
        if kind is None and (outputs.rows or outputs.printed):
            printed, classes = None if outputs.rows else outputs.printed, job.recognizer().network.classes
            folder.table = opened.enter_context(writing_table(outputs.rows, printed, classes, several=True))
        for file in files:
            if folder.is_done(file):
                done += 1
                continue
            try:
                job.watch(file.path, partial(folder.wanted, file))
            except (errors.MediaError, errors.MissingPathError) as error:
                failed += 1
                shared.print_error(str(error))
    if done:
        shared.messages.print(f"{done:,} of {len(files):,} videos were done before")
    if failed:
        shared.print_error(f"{failed:,} of {len(files):,} videos could not be read, or are damaged")
        raise typer.Exit(1)


def video_files(arguments: Sequence[str]) -> Iterator[NamedFile]:
    """Files, and the videos of folders and their folders, in order of name; what is left out is counted on stderr.

    Names are those below the folder that was given, with their endings. Raises ``CallError`` for a URL, and
    ``MissingPathError`` where there is no file or no video.
    """
    passed: Counter[str] = Counter()
    for argument in arguments:
        shared.check_no_url(argument)
        if not Path(argument).is_dir():
            yield NamedFile(argument, Path(argument).name)
            continue
        found = files_below(argument, ENDINGS, passed)
        if not found:
            raise errors.MissingPathError(f"expected a video in {argument}, got none of {' '.join(ENDINGS)}")
        yield from (NamedFile(path, name) for path, name in found)
    tell_of_passed(passed)


class _Folder:
    """Where the results of each video go."""

    def __init__(self, files: Sequence[NamedFile], outputs: Outputs, job: Job, kind: str | None) -> None:
        self._outputs, self._job, self._kind = outputs, job, kind
        self._ending = outputs.out.suffix if outputs.out is not None else ""
        self.table: Callable[[str], Use] | None = None
        names = Counter(file.name for file in files)
        twice = [name for name, count in names.items() if count > 1]
        if twice and (kind or outputs.out or outputs.figures):
            raise errors.CallError(
                f"expected videos of different names, got {twice[0]} from two folders; name the folder above both"
            )
        if outputs.out is not None and outputs.out.suffix:
            raise errors.CallError(f"expected a folder as --out of several videos, got {outputs.out}; name one")

    def targets(self, file: NamedFile) -> dict[str, Path]:
        """The files that a video's results become."""
        found = {}
        if self._kind is not None and self._outputs.rows is not None:
            found["rows"] = self._outputs.rows / f"{file.name}.{self._kind}"
        if self._outputs.out is not None:
            found["out"] = self._outputs.out / f"{file.name}.mp4"
        return found

    def is_done(self, file: NamedFile) -> bool:
        """Whether all of them are there, whole, and not older than the video."""
        targets = self.targets(file).values()
        with contextlib.suppress(OSError):
            changed = os.stat(file.path).st_mtime
            return self.table is None and bool(targets) and all(each.stat().st_mtime >= changed for each in targets)
        return False

    def wanted(self, file: NamedFile, reader: face_video.VideoReader, recognizer: Recognizer) -> list[Making]:
        """What is made of one video."""
        classes, targets = recognizer.network.classes, self.targets(file)
        made: list[Making] = []
        if self.table is not None:
            made.append(contextlib.nullcontext(self.table(shown_path(file.name) or file.name)))
        if "rows" in targets:
            made.append(writing_rows_of(targets["rows"], self._kind, classes))
        if "out" in targets:
            made.append(face_video.writing_video(targets["out"], reader.rate, classes, reader))
        if self._outputs.figures is not None:
            made.append(drawing_figures(self._outputs.figures / file.name, self._job.smoothing))
        return [*made, showing_progress(reader, hidden=self._outputs.printed is not None)]
