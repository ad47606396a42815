"""``mien video`` and ``mien webcam``."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from typer import Argument, Option

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

WINDOW = "mien (q ends)"
ENDING_KEYS = (ord("q"), 27)
"""``q`` and Escape."""


def check_finite(seconds: float) -> float:
    """``seconds``, or ``CallError`` for ``nan``, which is not below any limit."""
    if not math.isfinite(seconds):
        raise errors.CallError(f"expected a number of seconds, got --smoothing {seconds}; give one such as 0.5")
    return seconds


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
        Option(metavar="FILE", help="Annotated video without sound: .mp4 (players) or .webm (browsers)."),
    ] = None,
    rows: Annotated[
        Path | None, Option(metavar="FILE", help="A row per frame and face: .csv, .jsonl, .json, .parquet.")
    ] = None,
    figures: Annotated[
        Path | None, Option(metavar="DIR", help="Emotion over time, one SVG per track of a second or more.")
    ] = None,
    stride: Annotated[int, Option(metavar="N", min=1, help="Look at every N-th frame only.")] = 1,
    smoothing: Smoothing = 0.5,
    detector: shared.Detector = None,
    model: shared.Model = "base",
) -> None:
    """Follow every face through a video and name its emotion; without options, print a row per frame and face."""
    chosen = predict.choose_format(kind, rows, piped="csv")
    printed = chosen if kind is not None or not (out or figures) else None
    shared.check_no_url(file)
    if out is not None:
        face_video.check_video_name(out)
        if out.exists() and Path(file).exists() and out.samefile(file):
            raise errors.CallError(f"expected a new file as --out, got the video itself, {file}; choose another name")
    reader = face_video.VideoReader(file)
    recognizer = Recognizer(model, detector)
    classes = recognizer.network.classes
    frames = face_video.recognize_video(reader, recognizer, stride=stride, smoothing=smoothing)
    wanted = [_writing_rows(rows, printed, classes)] if rows or printed else []
    wanted += [face_video.writing_video(out, reader.rate / stride, classes)] if out else []
    wanted += [_drawing_figures(figures, smoothing)] if figures else []
    wanted += [_progress(reader, hidden=printed is not None and sys.stdout.isatty())]
    with contextlib.ExitStack() as opened:
        stopped = opened.enter_context(shared.catching_signals())
        uses = [opened.enter_context(use) for use in wanted]
        opened.enter_context(contextlib.closing(frames))
        for frame in frames:
            for use in uses:
                use(frame)
            signal_number = stopped()
            if signal_number is not None:
                raise errors.Interrupted(
                    f"stopped at {frame.time:.1f} s of the video; what was found until there is kept", signal_number
                )
    if smoothing:
        shared.messages.print(f"smoothed probabilities lag by {smoothing:g} s")


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


def webcam(
    camera: Annotated[int, Option(metavar="N", min=0, help="Which camera, from 0.")] = 0,
    smoothing: Smoothing = 0.5,
    detector: shared.Detector = None,
    model: shared.Model = "base",
) -> None:
    """Show the camera's picture with every face's emotion, live; q ends."""
    with _window() as show, _frames(camera) as frames, shared.catching_signals() as stopped:
        recognizer, follower = Recognizer(model, detector), face_video.FaceFollower(smoothing)
        drawing, begun = face_video.FrameDrawing(recognizer.network.classes), time.monotonic()
        for number, pixels in enumerate(frames):
            faces, now = recognizer.recognize(pixels).faces, time.monotonic() - begun
            frame = VideoFrame(number, now, follower.follow(faces, now), pixels)
            if not show(drawing.draw(frame)):
                return
            signal_number = stopped()
            if signal_number is not None:
                raise errors.Interrupted("stopped", signal_number)
    raise errors.MediaError(f"expected more pictures from camera {camera}, got none; is it still plugged in?")


@contextlib.contextmanager
def _window() -> Iterator[Callable[[NDArray[np.uint8]], bool]]:
    """A function that shows an RGB picture in a window, and says whether to go on; or ``MediaError``."""
    # OpenCV's windows end the process where there is no display, so this is asked first.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise errors.MediaError(
            "expected a screen, but DISPLAY and WAYLAND_DISPLAY are not set; record, then run mien video"
        )
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise errors.MediaError(
            "expected an OpenCV with windows, but opencv-python-headless, which mien brings, has none; run: pip"
            " uninstall opencv-python-headless; pip install opencv-python. Or record, then run mien video"
        ) from error

    def show(picture: NDArray[np.uint8]) -> bool:
        cv2.imshow(WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF not in ENDING_KEYS and cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) >= 1

    try:
        yield show
    finally:
        cv2.destroyAllWindows()


@contextlib.contextmanager
def _frames(camera: int) -> Iterator[Iterator[NDArray[np.uint8]]]:
    """A camera's pictures, uint8 ``(H, W, 3)``, RGB, until it gives no more; or ``MediaError``."""
    capture = cv2.VideoCapture(camera)
    if not capture.isOpened():
        raise errors.MediaError(
            f"expected a camera with number {camera}, but there is none that can be opened; plug one in, close other"
            " programs that use it, or choose another with --camera"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest that waits

    def pictures() -> Iterator[NDArray[np.uint8]]:
        while True:
            readable, bgr = capture.read()
            if not readable:
                return
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

    try:
        yield pictures()
    finally:
        capture.release()
