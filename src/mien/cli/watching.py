"""What ``mien video`` and ``mien webcam`` share: which frames are looked at, and how a video is gone through."""

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Annotated

from typer import CallbackParam, Option

from mien import errors
from mien.cli import shared
from mien.cli.video_outputs import Making
from mien.face import video as face_video
from mien.face.recognizer import Recognizer
from mien.face.result import VideoFrame

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


@dataclass(frozen=True)
class Looking:
    """Which frames are looked at. A command with a parameter of this type has an option for each field."""

    stride: Annotated[int, Option(metavar="N", min=1, help="Look at every N-th frame only.")] = 1
    fps: Annotated[
        float | None, Option(metavar="N", callback=check_finite, help="Look at N frames a second, by their times.")
    ] = None
    start: Annotated[
        float, Option("--from", metavar="T", min=0.0, callback=check_finite, help="Begin at T seconds.")
    ] = 0.0
    end: Annotated[float | None, Option("--to", metavar="T", callback=check_finite, help="End at T seconds.")] = None
    stream: Annotated[int | None, Option(metavar="N", min=0, help="Which of several picture streams, from 0.")] = None

    def choice(self) -> face_video.Choice:
        """Raises ``CallError`` where the options contradict one another."""
        if self.fps is not None and self.stride > 1:
            raise errors.CallError("expected --stride or --fps, got both; leave one out")
        end = math.inf if self.end is None else self.end
        choice = face_video.Choice(self.stride, self.fps, self.start, end)
        try:
            choice.check()
        except ValueError as error:
            raise errors.CallError(f"{error}; see --fps, --from and --to") from error
        return choice


@dataclass(frozen=True)
class Job:
    """How each video is looked at."""

    choice: face_video.Choice
    stream: int | None
    smoothing: float
    recognizer: Callable[[], Recognizer]  # loaded when a first video could be opened

    def watch(self, path: str, wanted: Callable[[face_video.VideoReader, Recognizer], Sequence[Making]]) -> None:
        """Recognize a video for what is ``wanted``; raises as ``face.video``, damage after all else is done."""
        with face_video.VideoReader(path, stream=self.stream) as reader:
            _tell_of(reader, chosen=self.stream is not None)
            recognizer = self.recognizer()
            frames = face_video.recognize_video(reader, recognizer, smoothing=self.smoothing, **self.choice._asdict())
            _use(frames, wanted(reader, recognizer))


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


def _use(frames: Generator[VideoFrame, None, None], wanted: Sequence[Making]) -> None:
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
