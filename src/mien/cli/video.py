"""``mien video``."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from typer import Argument, CallbackParam, Option

from mien import errors
from mien.cli import predict, shared
from mien.face import video as face_video
from mien.face.recognizer import Recognizer
from mien.face.result import VideoFrame, video_columns
from mien.face.writers import writing_rows

Use = Callable[[VideoFrame], None]
"""Writes, draws or shows a frame."""

SECONDS_BETWEEN_LINES = 30.0
"""Between lines of progress, where it does not go to a terminal."""

SHIFTED_SECONDS = 0.02
"""By how much the first picture may come after or before the first sound untold: a frame of sound."""


def check_finite(option: CallbackParam, number: float | None) -> float | None:
    """The number, or ``CallError`` for ``nan``, which is not below any limit."""
    if number is not None and not math.isfinite(number):
        raise errors.CallError(f"expected a number, got {option.opts[0]} {number}; give one such as 0.5")
    return number


Smoothing = Annotated[
    float,
    Option(
        "--smoothing",
        metavar="SECONDS",
        min=0.0,
        callback=check_finite,
        help="Time constant of the smoothed probabilities, by which they lag behind the face; 0: none.",
    ),
]


def video(
    file: Annotated[str, Argument(metavar="FILE", help="A video.")],
    kind: Annotated[str | None, predict.format_option(piped="csv")] = None,
    out: Annotated[
        Path | None,
        Option(metavar="FILE", help="Annotated video with the original sound: .mp4 (H.264) or .webm (VP9)."),
    ] = None,
    rows: Annotated[
        Path | None, Option(metavar="FILE", help="A row per frame and face: .csv, .jsonl, .json, .parquet.")
    ] = None,
    figures: Annotated[
        Path | None, Option(metavar="DIR", help="Emotion over time, one SVG per track of a second or more.")
    ] = None,
    stride: Annotated[int, Option(metavar="N", min=1, help="Look at every N-th frame only.")] = 1,
    fps: Annotated[
        float | None, Option(metavar="N", callback=check_finite, help="Look at N frames a second, by their times.")
    ] = None,
    start: Annotated[
        float, Option("--from", metavar="T", min=0.0, callback=check_finite, help="Begin at T seconds.")
    ] = 0.0,
    end: Annotated[float | None, Option("--to", metavar="T", callback=check_finite, help="End at T seconds.")] = None,
    stream: Annotated[int | None, Option(metavar="N", min=0, help="Which of several picture streams, from 0.")] = None,
    smoothing: Smoothing = 0.5,
    detector: shared.Detector = None,
    model: shared.Model = "base",
) -> None:
    """Follow every face through a video and name its emotion; without options, print a row per frame and face."""
    chosen = predict.choose_format(kind, rows, piped="csv")
    printed = chosen if kind is not None or not (out or figures) else None
    choice = _choice(stride, fps, start, end)
    shared.check_no_url(file)
    if out is not None:
        face_video.check_video_name(out)
        if out.exists() and Path(file).exists() and out.samefile(file):
            raise errors.CallError(f"expected a new file as --out, got the video itself, {file}; choose another name")
    with face_video.VideoReader(file, stream=stream) as reader:
        _tell_of(reader, chosen=stream is not None)
        recognizer = Recognizer(model, detector)
        classes = recognizer.network.classes
        frames = face_video.recognize_video(reader, recognizer, smoothing=smoothing, **choice._asdict())
        wanted = [_writing_rows(rows, printed, classes)] if rows or printed else []
        wanted += [face_video.writing_video(out, reader.rate / stride, classes, reader)] if out else []
        wanted += [_drawing_figures(figures, smoothing)] if figures else []
        wanted += [_progress(reader, hidden=printed is not None and sys.stdout.isatty())]
        _use(frames, wanted)
    if smoothing:
        shared.messages.print(f"smoothed probabilities lag by {smoothing:g} s")


def _choice(stride: int, fps: float | None, start: float, end: float | None) -> face_video.Choice:
    """Which frames are looked at; ``CallError`` where the options contradict one another."""
    if fps is not None and stride > 1:
        raise errors.CallError("expected --stride or --fps, got both; leave one out")
    choice = face_video.Choice(stride, fps, start, math.inf if end is None else end)
    try:
        choice.check()
    except ValueError as error:
        raise errors.CallError(f"{error}; see --fps, --from and --to") from error
    return choice


def _tell_of(reader: face_video.VideoReader, chosen: bool) -> None:
    """What a reader of the rows should know of the file."""
    if reader.streams > 1 and not chosen:
        shared.messages.print(f"{reader.streams} picture streams; the main one is read; choose another with --stream")
    offset = reader.sound_offset
    if offset is not None and abs(offset) >= SHIFTED_SECONDS:
        order = "after" if offset > 0 else "before"
        shared.messages.print(
            f"the first picture comes {abs(offset):.3f} s {order} the first sound; times count from the first picture"
        )


def _use(frames: Generator[VideoFrame, None, None], wanted: Sequence[contextlib.AbstractContextManager[Use]]) -> None:
    """Hand every frame on. What a damaged file gives is kept as a whole result, before the ``MediaError``."""
    damage: errors.MediaError | None = None
    with contextlib.ExitStack() as opened:
        stopped = opened.enter_context(shared.catching_signals())
        uses = [opened.enter_context(use) for use in wanted]
        opened.enter_context(contextlib.closing(frames))
        try:
            for frame in frames:
                for use in uses:
                    use(frame)
                signal_number = stopped()
                if signal_number is not None:
                    raise errors.Interrupted(
                        f"stopped at {frame.time:.1f} s of the video; what was found until there is kept", signal_number
                    )
        except errors.MediaError as error:
            damage = error
    if damage is not None:
        raise damage


@contextlib.contextmanager
def _writing_rows(path: Path | None, kind: str | None, classes: tuple[str, ...]) -> Iterator[Use]:
    if kind == "table":
        table = predict.FaceTable()

        def show(frame: VideoFrame) -> None:
            for tracked in frame.faces:
                table.add(f"{frame.time:.2f} s, track {tracked.track}", [tracked.steadied()])
            if not frame.faces:
                table.add(f"{frame.time:.2f} s", [])

        yield show
        return
    with writing_rows(path or sys.stdout.buffer, video_columns(classes), kind) as write_row:

        def write(frame: VideoFrame) -> None:
            for row in frame.to_rows(classes):
                write_row(row)

        yield write


@contextlib.contextmanager
def _drawing_figures(folder: Path, smoothing: float) -> Iterator[Use]:
    with contextlib.closing(face_video.TrackPlots(folder, smoothing)) as figures:
        yield figures.add


@contextlib.contextmanager
def _progress(reader: face_video.VideoReader, hidden: bool) -> Iterator[Use]:
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
