"""What ``mien train`` does, and what ``mien study`` shares with it."""

import contextlib
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mien import training
from mien.cli import detection, shared
from mien.cli.laboratory import TrainOptions
from mien.data import votes_on
from mien.detector_recipe import is_detector_recipe
from mien.errors import CallError, Interrupted
from mien.recipe import find_recipe, load_recipe
from mien.report.run_page import chance_words, write_run_page
from mien.study.suites import SuiteRow, add_settings, rows_of

LOG_SECONDS = 30
"""At most between two lines about an epoch in a log."""


def settings_in(rows: Sequence[SuiteRow], options: TrainOptions) -> tuple[SuiteRow, ...]:
    """The rows with the values of ``--set`` and ``--protocol``; raises as ``add_settings``."""
    rows = add_settings(rows, options.overrides or ())
    return add_settings(rows, [f"data.protocol={options.protocol}"] if options.protocol else (), source="--protocol")


def train(
    recipe: str, data: str, reading: shared.Reading, options: TrainOptions, out: Path, resume: bool, kind: str
) -> None:
    """The command, see ``cli.laboratory``."""
    path = find_recipe(recipe)
    again = [] if resume else ["--resume"]
    if is_detector_recipe(path):
        if options.devices != 1 or options.votes is not None or options.protocol is not None:
            raise CallError("expected a face detector without --devices, --votes and --protocol; leave them out")
        with telling_how_to_go_on(again), shared.catching_signals() as stop_signal:
            detection.train(
                path, options.overrides or (), data, out,
                resume=resume, accelerator=options.accelerator, kind=kind, stop_signal=stop_signal,
            )  # fmt: skip
        return
    (row,) = settings_in(rows_of([path]), options)
    values = load_recipe(row.recipe, row.overrides)
    shared.messages.print(f"reading {data}")
    samples = reading.read(data, values.data)
    with telling_how_to_go_on(again), shared.catching_signals() as stop_signal, training_progress() as show:
        run = training.fit(
            values,
            samples,
            out,
            resume=resume,
            devices=options.devices,
            accelerator=options.accelerator,
            command=shared.command_line(),
            votes=None if options.votes is None else votes_on(samples, options.votes),
            show=lambda progress: show(values.name, progress),
            stop_signal=stop_signal,
            show_pictures=shared.showing_work(),
        )
    if not training.is_first_process():
        return
    page = write_run_page(run, samples, pictures=not options.no_pictures)
    report = run.load_report()
    found = report.headline()
    answer = f"{found.split} accuracy {found.accuracy.value:.1%}"
    if found.accuracy.ci95 is not None:
        answer += " (95 % interval {:.1%} to {:.1%})".format(*found.accuracy.ci95)
    shared.print_answer(report.content(), f"{answer}; {page}", kind)
    for line in chance_words(report):
        shared.messages.print(line)


@contextlib.contextmanager
def telling_how_to_go_on(more: Sequence[str] = ()) -> Iterator[None]:
    """Who interrupts the block is told the call that goes on: the same with ``more`` options."""
    try:
        yield
    except Interrupted as stopped:
        call = shlex.join(["mien", *sys.argv[1:], *more])
        raise Interrupted(f"{stopped}; go on with: {call}", stopped.signal_number) from None


@contextlib.contextmanager
def training_progress() -> Iterator[Callable[[str, training.Progress], None]]:
    """A function of a run's name and its progress: a bar with live numbers on a terminal, lines elsewhere."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it reports the precision on every start
    if not shared.messages.is_terminal:
        yield _printing_steps()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
    with Progress(*columns, TimeRemainingColumn(), console=shared.messages) as bars:
        tasks = {}

        def show_bar(name: str, progress: training.Progress) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=progress.epochs * progress.steps, numbers="")
            done = progress.epoch * progress.steps + progress.step
            bars.update(tasks[name], completed=done, numbers=numbers(progress))

        yield show_bar


def _printing_steps() -> Callable[[str, training.Progress], None]:
    """A function that prints a line for every epoch, and for a step where none came for ``LOG_SECONDS``."""
    last = time.monotonic()

    def show(name: str, progress: training.Progress) -> None:
        nonlocal last
        is_epoch, now = progress.step == progress.steps, time.monotonic()
        if is_epoch or now - last >= LOG_SECONDS:
            last = now
            step = "" if is_epoch else f"step {progress.step:,} of {progress.steps:,}, "
            shared.messages.print(f"{name} {step}{numbers(progress)}, {progress.seconds_left / 60:.0f} min left")

    return show


def numbers(progress: training.Progress) -> str:
    """Where a training stands, in one line."""
    validated = "" if progress.validation_accuracy is None else f", validation {progress.validation_accuracy:.1%}"
    return (
        f"epoch {progress.epoch + 1}/{progress.epochs}: loss {progress.loss:.3f}, training {progress.accuracy:.1%}"
        f"{validated}, {progress.pictures_per_second:.0f} pictures/s"
    )
