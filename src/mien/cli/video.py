"""``mien video``."""

import sys
from functools import cache
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mien import errors
from mien.cli import predict, shared, videos
from mien.cli.video_outputs import Making, Outputs, drawing_figures, showing_progress, writing_rows_of
from mien.cli.watching import Job, Looking, Smoothing
from mien.face import video as face_video
from mien.face.recognizer import Recognizer


def video(
    inputs: Annotated[list[str], Argument(metavar="FILE...|FOLDER", help="Videos, or folders of them.")],
    looking: Looking,
    kind: Annotated[str | None, predict.format_option(piped="csv")] = None,
    out: Annotated[
        Path | None,
        Option(metavar="FILE|DIR", help="Annotated video with the original sound: .mp4 (H.264) or .webm (VP9)."),
    ] = None,
    rows: Annotated[
        Path | None,
        Option(metavar="FILE|DIR", help="A row per frame and face: .csv, .jsonl, .json, .parquet; a DIR of such."),
    ] = None,
    figures: Annotated[
        Path | None, Option(metavar="DIR", help="Emotion over time, one SVG per track of a second or more.")
    ] = None,
    smoothing: Smoothing = 0.5,
    detector: shared.Detector = None,
    model: shared.Model = "base",
) -> None:
    """Follow every face through videos and name its emotion; without options, print a row per frame and face.

    A folder as --rows gets a table of each video; a second call makes those that are missing.
    """
    several = len(inputs) > 1 or Path(inputs[0]).is_dir() or (rows is not None and rows.is_dir())
    folder = several and rows is not None and not rows.suffix
    chosen = predict.choose_format(kind, None if folder else rows, piped="csv")
    printed = chosen if rows is None and (kind is not None or not (out or figures)) else None
    job = Job(looking.choice(), looking.stream, smoothing, cache(lambda: Recognizer(model, detector)))
    if several:
        videos.watch_all(inputs, job, Outputs(rows, out, figures, printed), (kind or "csv") if folder else None)
    else:
        _watch_one(inputs[0], job, Outputs(rows, out, figures, printed))
    if smoothing:
        shared.messages.print(f"smoothed probabilities lag by {smoothing:g} s")


def _watch_one(file: str, job: Job, outputs: Outputs) -> None:
    shared.check_no_url(file)
    rows, out, figures = outputs.rows, outputs.out, outputs.figures
    if out is not None:
        face_video.check_video_name(out)
        if out.exists() and Path(file).exists() and out.samefile(file):
            raise errors.CallError(f"expected a new file as --out, got the video itself, {file}; choose another name")

    def wanted(reader: face_video.VideoReader, recognizer: Recognizer) -> list[Making]:
        classes = recognizer.network.classes
        made = [writing_rows_of(rows, outputs.printed, classes)] if rows or outputs.printed else []
        made += [face_video.writing_video(out, reader.rate, classes, reader)] if out else []
        made += [drawing_figures(figures, job.smoothing)] if figures else []
        hidden = outputs.printed is not None and sys.stdout.isatty()
        return [*made, showing_progress(reader, hidden=hidden)]

    job.watch(file, wanted)
