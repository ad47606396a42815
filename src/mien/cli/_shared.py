"""What several commands do: options in common, signals, progress and the command line as text."""

import contextlib
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from mien.data import FaceSamples
    from mien.training import Progress as TrainingProgress

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Messages go to stderr; data go to stdout."""

Data = Annotated[
    str, typer.Option("--data", metavar="SPEC", help="synthetic[:N], fer2013:PATH, folder:PATH or a path.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=v", help="Override a recipe's value.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and count them.")]
SkipUnmapped = Annotated[bool, typer.Option("--skip-unmapped", help="Leave out classes that are no emotion.")]
LabelMap = Annotated[Path | None, typer.Option("--label-map", help="TOML file: name or number of a class -> emotion.")]
Votes = Annotated[
    Path | None, typer.Option("--votes", metavar="FILE", help="FER+'s fer2013new.csv: its labels beside FER-2013's.")
]
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Pages show row numbers instead of faces.")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="Processes on this machine.")]
Accelerator = Annotated[str, typer.Option("--accelerator", metavar="auto|cpu|cuda", help="Where to compute.")]

ACCELERATORS = ("auto", "cpu", "cuda")

STDERR = 2
"""The file descriptor."""

LISTED = 20
"""Pictures left out, at most, that are named on the screen."""


def check_accelerator(name: str) -> str:
    """``name``, if it is one of ``ACCELERATORS``.

    Raises:
        UnknownNameError: it is not.
    """
    from mien.errors import look_up

    return look_up(dict.fromkeys(ACCELERATORS, name), name, "accelerator")


def read_data(spec: str, skip_bad: bool, skip_unmapped: bool, label_map: Path | None) -> "FaceSamples":
    """The labelled faces that ``--data`` names, after a word on stderr about those that were left out on request.

    Raises:
        CallError, MissingPathError, DataError: as ``data.read_samples``.
    """
    from mien.data import ReadOptions, read_samples

    samples = read_samples(spec, ReadOptions(skip_bad, skip_unmapped, label_map))
    if samples.skipped:
        messages.print(f"left out {len(samples.skipped):,} of {len(samples) + len(samples.skipped):,} pictures:")
        for reason in samples.skipped[:LISTED]:
            messages.print(f"  {reason}", markup=False)
        if len(samples.skipped) > LISTED:
            messages.print(f"  and {len(samples.skipped) - LISTED:,} more; mien audit --out DIR lists them all")
    return samples


def command_line() -> str:
    """The call as it was typed."""
    return shlex.join(["mien", *sys.argv[1:]])


@contextlib.contextmanager
def catching_signals() -> Iterator[Callable[[], int | None]]:
    """Note Ctrl-C and SIGTERM instead of dying at once; a second Ctrl-C ends the program where it is.

    Yields:
        a function that gives the number of the signal that came, or ``None``.
    """
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)
        # Straight to the file: a stream refuses to be entered again when the signal comes in the middle of a print.
        with contextlib.suppress(OSError):
            os.write(STDERR, b"stopping after this step ...\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def showing_progress() -> "Iterator[Callable[[str, TrainingProgress], None]]":
    """A bar with live numbers on a terminal, one line per epoch elsewhere.

    Yields:
        a function of a run's name and its progress.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it reports the precision on every start
    if messages.is_terminal:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"), TimeRemainingColumn(),
            console=messages,
        ) as bars:  # fmt: skip
            tasks = {}

            def show_bar(name: str, progress: "TrainingProgress") -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=progress.epochs * progress.steps, numbers="")
                done = progress.epoch * progress.steps + progress.step
                bars.update(tasks[name], completed=done, numbers=_numbers(progress))

            yield show_bar
    else:
        yield _print_epochs


def _print_epochs(name: str, progress: "TrainingProgress") -> None:
    if progress.step == progress.steps:
        left = f"{progress.seconds_left / 60:.0f} min left"
        messages.print(f"{name} {_numbers(progress)}, {left}", markup=False)


def _numbers(progress: "TrainingProgress") -> str:
    validated = "" if progress.validation_accuracy is None else f", validation {progress.validation_accuracy:.1%}"
    return (
        f"epoch {progress.epoch + 1}/{progress.epochs}: loss {progress.loss:.3f}, training {progress.accuracy:.1%}"
        f"{validated}, {progress.pictures_per_second:.0f} pictures/s"
    )
