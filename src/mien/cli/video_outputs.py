"""What ``mien video`` makes of frames: rows, annotated video, figures, and its progress."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mien.cli import predict, shared
from mien.face import video as face_video
from mien.face.result import VideoFrame, video_columns
from mien.face.writers import writing_rows

Use = Callable[[VideoFrame], None]
"""Writes, draws or shows a frame."""

Making = contextlib.AbstractContextManager[Use]

SECONDS_BETWEEN_LINES = 30.0
"""Between lines of progress, where it does not go to a terminal."""

VIDEO = {"video": str}
"""The last column of a table of several videos."""


@dataclass(frozen=True)
class Outputs:
    """Where the results go; with several videos, files are folders."""

    rows: Path | None
    out: Path | None
    figures: Path | None
    printed: str | None  # the format on stdout


@contextlib.contextmanager
def writing_table(
    path: Path | None, kind: str | None, classes: tuple[str, ...], *, several: bool = False
) -> Iterator[Callable[[str], Use]]:
    """A table in a file or on stdout: a function of a video's name that gives what writes its frames.

    ``kind`` is a format, for stdout also ``table``; ``several`` videos have their names in a last column.
    """
    if kind == "table":
        table = predict.FaceTable()
        yield lambda name: lambda frame: _show(table, f"{name} " if several else "", frame)
        return
    columns = {**video_columns(classes), **(VIDEO if several else {})}
    with writing_rows(path or sys.stdout.buffer, columns, kind) as write_row:

        def writing(name: str) -> Use:
            more = dict.fromkeys(VIDEO, name) if several else {}

            def write(frame: VideoFrame) -> None:
                for row in frame.to_rows(classes):
                    write_row({**row, **more})

            return write

        yield writing


@contextlib.contextmanager
def writing_rows_of(path: Path | None, kind: str | None, classes: tuple[str, ...]) -> Iterator[Use]:
    """The rows of one video."""
    with writing_table(path, kind, classes) as writing:
        yield writing("")


def _show(table: predict.FaceTable, name: str, frame: VideoFrame) -> None:
    for tracked in frame.faces:
        table.add(f"{name}{frame.time:.2f} s, track {tracked.track}", [tracked.steadied()])
    if not frame.faces:
        table.add(f"{name}{frame.time:.2f} s", [])


@contextlib.contextmanager
def drawing_figures(folder: Path, smoothing: float) -> Iterator[Use]:
    """Emotion over time, as ``face.video.TrackPlots``."""
    with contextlib.closing(face_video.TrackPlots(folder, smoothing)) as figures:
        yield figures.add


@contextlib.contextmanager
def showing_progress(reader: face_video.VideoReader, hidden: bool) -> Iterator[Use]:
    """How far the video has come and what time is left: a bar on a terminal, a line now and then elsewhere."""
    if not shared.messages.is_terminal:
        yield _lines(reader.seconds)
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[at]:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, console=shared.messages, transient=True, disable=hidden) as bars:
        task = bars.add_task("", total=reader.seconds, at=0.0)
        yield lambda frame: bars.update(task, completed=frame.time, at=frame.time)


def _lines(seconds: float | None) -> Use:
    """Prints the progress through so many seconds of video every ``SECONDS_BETWEEN_LINES``."""
    begun = printed = time.monotonic()

    def show(frame: VideoFrame) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed < SECONDS_BETWEEN_LINES or frame.time <= 0:
            return
        printed = now
        line = f"frame {frame.number}, {frame.time:.1f} s of the video"
        if seconds is not None:
            left = max(0.0, (seconds - frame.time) * (now - begun) / frame.time)
            line += f" of {seconds:.1f} s, {left / 60:.0f} min left"
        shared.messages.print(line)

    return show
