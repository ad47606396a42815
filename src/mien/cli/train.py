"""``mien train`` and ``mien study``."""

import contextlib
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer import Argument, Option

from mien import training
from mien.cli import shared
from mien.data import votes_on
from mien.errors import CallError, Interrupted
from mien.recipe import Recipe, find_recipe, load_recipe
from mien.report import format as formats
from mien.report.run_page import write_run_page
from mien.report.study_page import write_study_page
from mien.runs import locked
from mien.study import SUITES, comparison, load_study, run_study, suite_recipes


@dataclass(frozen=True)
class TrainOptions:
    """What ``train`` and ``study`` both take: each field is an option of theirs (``app.spread``)."""

    overrides: Annotated[list[str] | None, Option("--set", metavar="a.b=v", help="Override a recipe's value.")] = None
    votes: shared.Votes = None
    devices: Annotated[int, Option(min=1, help="Processes on this machine.")] = 1
    accelerator: shared.Accelerator = "auto"
    no_pictures: shared.NoPictures = False


def train(
    recipe: Annotated[str, Argument(metavar="RECIPE", help="A TOML file, or the name of a recipe that mien brings.")],
    data: shared.Data,
    reading: shared.Reading,
    options: TrainOptions,
    out: Annotated[Path, Option(metavar="DIR", help="The run directory.")],
    resume: Annotated[bool, Option("--resume", help="Go on where the run directory stands.")] = False,
    kind: shared.Format = "table",
) -> None:
    """Train one recipe and store its weights, validation predictions and report."""
    values = load_recipe(find_recipe(recipe), options.overrides or ())
    samples = reading.read(data)
    again = [] if resume else ["--resume"]
    with _telling_how_to_go_on(again), shared.catching_signals() as stop_signal, _showing_progress() as show:
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


def study(
    data: shared.Data,
    reading: shared.Reading,
    options: TrainOptions,
    out: Annotated[Path, Option(help="The study directory.")],
    recipes: Annotated[list[str] | None, Argument(metavar="[RECIPE]...", help="TOML files or names.")] = None,
    suite: Annotated[
        str | None, Option(metavar="NAME", help="published, controlled, transfer, ablation or smoke.")
    ] = None,
    seeds: Annotated[int, Option(min=1, help="Runs of each recipe, seeds 0, 1, ...")] = 1,
    protocol: Annotated[str | None, Option(metavar="contest|published")] = None,
    final: Annotated[bool, Option("--final", help="Also look at the test splits; noted in looks.jsonl.")] = False,
    kind: shared.Format = "table",
) -> None:
    """Train and compare several recipes; run it again to go on where it was."""
    values = [*(options.overrides or ()), *([f"data.protocol={protocol}"] if protocol else [])]
    chosen = _recipes(recipes or [], suite, seeds, values)
    samples, command = reading.read(data), shared.command_line()
    with _telling_how_to_go_on(), shared.catching_signals() as stop_signal, _showing_progress() as show:
        for run in run_study(
            chosen,
            samples,
            out,
            final=final,
            devices=options.devices,
            accelerator=options.accelerator,
            command=command,
            votes=None if options.votes is None else votes_on(samples, options.votes),
            show=lambda run, progress: show(run.path.name, progress),
            say=shared.messages.print,
            stop_signal=stop_signal,
        ):
            write_run_page(run, samples, pictures=not options.no_pictures)
            with locked(out, wait=True):  # another process that shares the study writes the same page
                found = load_study(out)
                page = write_study_page(
                    out, found.reports, samples, command=command, pictures=not options.no_pictures,
                    left_out=found.left_out,
                )  # fmt: skip
    if training.is_first_process():
        content = json.loads((out / "study.json").read_text(encoding="utf-8"))
        shared.print_answer(content, _table(comparison.compare(out, found.reports)), kind)
        shared.messages.print(str(page))


def _recipes(names: list[str], suite: str | None, seeds: int, overrides: list[str]) -> list[Recipe]:
    if bool(names) == (suite is not None):
        got = "both" if names else "neither"
        raise CallError(f"expected recipes or a suite, got {got}; give recipes, or --suite {', '.join(SUITES)}")
    if any(override.partition("=")[0].strip() == "seed" for override in overrides):
        raise CallError(
            "expected a study's seeds 0, 1, ..., got --set seed; say how many with --seeds, or use mien train"
        )
    paths = suite_recipes(suite) if suite is not None else [find_recipe(name) for name in names]
    recipes = [load_recipe(path, [*overrides, f"seed={seed}"]) for path in paths for seed in range(seeds)]
    if len({(recipe.name, recipe.seed) for recipe in recipes}) < len(recipes):
        raise CallError("expected recipes of different names, got two of the same; rename one")
    return recipes


def _table(rows: Sequence[comparison.ComparedRow]) -> Table:
    """The comparison of the study's page in short, beside FER-2013's published accuracies."""
    first = rows[0].result
    title = f"Accuracy on {first.n:,} {formats.split_plural(first.split)}"
    numbers = ["seeds", "accuracy", "95 % interval", "unseen", "published", "F1", "minutes"]
    table = shared.create_table(title, ["model"], numbers)
    for row in rows:
        table.add_row(
            row.title,
            str(len(row.reports)),
            _rate(row.accuracy),
            formats.interval(row.interval),
            formats.DASH if row.unseen is None else _rate(row.unseen),
            formats.percent(row.published["accuracy"] if row.published and first.is_test else None),
            f"{row.spread('macro_f1').mean:.3f}",
            formats.fixed(None if row.train_seconds is None else row.train_seconds / 60, 1),
        )
    return table


def _rate(found: comparison.Spread) -> str:
    between_seeds = "" if found.deviation is None else f" ± {100 * found.deviation:.1f}"
    return formats.percent(found.mean) + between_seeds


@contextlib.contextmanager
def _telling_how_to_go_on(more: Sequence[str] = ()) -> Iterator[None]:
    """Who interrupts the block is told the call that goes on: the same with ``more`` options."""
    try:
        yield
    except Interrupted as stopped:
        call = shlex.join(["mien", *sys.argv[1:], *more])
        raise Interrupted(f"{stopped}; go on with: {call}", stopped.signal_number) from None


@contextlib.contextmanager
def _showing_progress() -> Iterator[Callable[[str, training.Progress], None]]:
    """A function of a run's name and its progress: a bar with live numbers on a terminal, a line an epoch elsewhere."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it reports the precision on every start
    if not shared.messages.is_terminal:
        yield _print_epochs
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
    with Progress(*columns, TimeRemainingColumn(), console=shared.messages) as bars:
        tasks = {}

        def show_bar(name: str, progress: training.Progress) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=progress.epochs * progress.steps, numbers="")
            done = progress.epoch * progress.steps + progress.step
            bars.update(tasks[name], completed=done, numbers=_numbers(progress))

        yield show_bar


def _print_epochs(name: str, progress: training.Progress) -> None:
    if progress.step == progress.steps:
        shared.messages.print(f"{name} {_numbers(progress)}, {progress.seconds_left / 60:.0f} min left")


def _numbers(progress: training.Progress) -> str:
    validated = "" if progress.validation_accuracy is None else f", validation {progress.validation_accuracy:.1%}"
    return (
        f"epoch {progress.epoch + 1}/{progress.epochs}: loss {progress.loss:.3f}, training {progress.accuracy:.1%}"
        f"{validated}, {progress.pictures_per_second:.0f} pictures/s"
    )
