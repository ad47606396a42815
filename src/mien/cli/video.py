"""``mien video``."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mien.cli._pictures import check_no_address
from mien.cli._shared import catching_signals, messages
from mien.cli.predict import Detector, Model
from mien.errors import CallError, Interrupted

if TYPE_CHECKING:
    from mien.face.result import VideoFrame
    from mien.face.video import VideoReader

Use = Callable[["VideoFrame"], None]

SECONDS_BETWEEN_LINES = 30.0
"""Of progress, where it does not go to a terminal."""


def check_finite(seconds: float) -> float:
    """``seconds``, if it is a number: ``nan`` is not below any limit.

    Raises:
        CallError: it is not.
    """
    if not math.isfinite(seconds):
        raise CallError(f"--smoothing must be a number of seconds; {seconds} came")
    return seconds


Smoothing = Annotated[
    float,
    typer.Option(
        "--smoothing",
        metavar="SECONDS",
        min=0.0,
        callback=check_finite,
        help="Time constant of the smoothed probabilities, by which they lag behind the face; 0: none.",
    ),
]


def video(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A video.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Annotated video without sound: .mp4 (players) or .webm (browsers)."
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option("--rows", metavar="FILE", help="A row per frame and face: .csv, .jsonl, .json, .parquet."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Emotion over time, one PNG per track of a second or more."),
    ] = None,
    stride: Annotated[int, typer.Option("--stride", metavar="N", min=1, help="Look at every N-th frame only.")] = 1,
    smoothing: Smoothing = 0.5,
    detector: Detector = None,
    model: Model = "base",
) -> None:
    """Follow every face through a video and name its emotion; without options, rows as CSV."""
    hush_libraries()
    from mien.face.recognizer import Recognizer
    from mien.face.video import VideoReader, recognize_video

    check_no_address(file)
    _check_names(Path(file), out)
    reader = VideoReader(file)
    frames = recognize_video(reader, Recognizer(model, detector), stride=stride, smoothing=smoothing)
    stdout_is_busy = not (out or rows or figures) and sys.stdout.isatty()
    with contextlib.ExitStack() as opened:
        stopped = opened.enter_context(catching_signals())
        uses = [opened.enter_context(use) for use in _uses(out, rows, figures, reader.rate / stride, smoothing)]
        uses.append(opened.enter_context(_progress(reader, stdout_is_busy)))
        opened.enter_context(contextlib.closing(frames))
        for frame in frames:
            for use in uses:
                use(frame)
            signal_number = stopped()
            if signal_number is not None:
                raise Interrupted(
                    f"stopped at {frame.time:.1f} s of the video; what was found until there is kept", signal_number
                )
    if smoothing:
        messages.print(f"smoothed probabilities lag by {smoothing:g} s", markup=False)


def hush_libraries() -> None:
    """Keep FFmpeg and OpenCV from talking on stderr; what goes wrong is told by us. Before OpenCV is imported."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")


def _check_names(file: Path, out: Path | None) -> None:
    from mien.face.video import check_video_name

    if out is None:
        return
    check_video_name(out)
    if out.exists() and file.exists() and out.samefile(file):
        raise CallError(f"--out would overwrite the video itself, {file}; choose another name")


def _uses(
    out: Path | None, rows: Path | None, figures: Path | None, rate: float, smoothing: float
) -> Iterator[contextlib.AbstractContextManager[Use]]:
    """What is done with each frame."""
    from mien.face.video import writing_video

    if rows is not None:
        yield _writing_rows(rows)
    elif out is None and figures is None:
        yield _writing_rows(None)
    if out is not None:
        yield writing_video(out, rate)
    if figures is not None:
        yield _drawing_figures(figures, smoothing)


@contextlib.contextmanager
def _writing_rows(path: Path | None) -> Iterator[Use]:
    from mien.face.result import VIDEO_COLUMNS
    from mien.face.rows import writing_rows

    target, kind = (sys.stdout.buffer, "csv") if path is None else (path, None)
    with writing_rows(target, VIDEO_COLUMNS, kind) as writer:

        def write(frame: "VideoFrame") -> None:
            for row in frame.to_rows():
                writer.write(row)

        yield write


@contextlib.contextmanager
def _drawing_figures(folder: Path, smoothing: float) -> Iterator[Use]:
    from mien.face.video import TrackFigures

    figures = TrackFigures(folder, smoothing)
    try:
        yield figures.add
    finally:
        figures.close()


@contextlib.contextmanager
def _progress(reader: "VideoReader", hidden: bool) -> Iterator[Use]:
    """How far the video has come and what time is left: a bar on a terminal, a line now and then elsewhere."""
    if not messages.is_terminal:
        yield _Lines(reader.seconds)
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[at]:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, console=messages, transient=True, disable=hidden) as bars:
        task = bars.add_task("", total=reader.seconds, at=0.0)
        yield lambda frame: bars.update(task, completed=frame.time, at=frame.time)


class _Lines:
    """Tells the progress every ``SECONDS_BETWEEN_LINES``."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._begun = self._told = time.monotonic()

    def __call__(self, frame: "VideoFrame") -> None:
        now = time.monotonic()
        if now - self._told < SECONDS_BETWEEN_LINES or frame.time <= 0:
            return
        self._told = now
        line = f"frame {frame.number}, {frame.time:.1f} s of the video"
        if self._seconds is not None:
            left = max(0.0, (self._seconds - frame.time) * (now - self._begun) / frame.time)
            line += f" of {self._seconds:.1f} s, {left / 60:.0f} min left"
        messages.print(line, markup=False)
