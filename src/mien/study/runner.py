"""Every recipe with every seed into a folder of its own; finished ones are not done again."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mien import training
from mien.data import FaceSamples, Split
from mien.errors import Interrupted, RunBusyError, TrainingError
from mien.evaluation.evaluate import evaluate_and_store
from mien.evaluation.predictor import RunPredictor
from mien.recipe import Recipe
from mien.runs import Run, locked
from mien.study import checks
from mien.study.folder import gather, write_study

T = TypeVar("T")

POLL_SECONDS = 0.5
"""Between two looks at rows that other processes train."""


def run_study(
    recipes: Sequence[Recipe],
    samples: FaceSamples,
    out: Path,
    *,
    final: bool = False,
    skip_unavailable: bool = False,
    until_epoch: int | None = None,
    failed: Callable[[Run, TrainingError], object] | None = None,
    votes: NDArray[np.uint8] | None = None,
    devices: int = 1,
    accelerator: str = "auto",
    show: Callable[[Run, training.Progress], None] | None = None,
    show_pictures: training.ShowPictures = lambda work, done, count: None,
    say: Callable[[str], object] = lambda _: None,
    stop_signal: Callable[[], int | None] = lambda: None,
    command: str = "",
) -> Iterator[Run]:
    """Train and evaluate every recipe; an interrupted study goes on where it was, and several share their rows.

    There is one recipe per run, the seeds told apart. A row that another process trains is left to it, and waited for
    at the end. After each run ``study.json`` in the folder ``out`` holds the reports so far, and those of other
    finished rows that the folder holds. What a row lacks is said before the first is trained; ``skip_unavailable``
    leaves out those whose weights cannot be had, and those that build on them. ``final`` also predicts the test splits,
    which is noted in each run's ``looks.jsonl``. ``until_epoch`` leaves rows unfinished after so many epochs, to be
    gone on with. A row whose training fails ends the study, or is handed to ``failed`` with its error, and the others
    go on. ``show`` is called with the run and its progress, ``say`` with what else there is to tell; the other options
    are those of ``training.fit``.

    Yields:
        each run that is finished, in the first process alone; the others help in training.

    Raises:
        Interrupted: ``stop_signal`` asked for it; between two rows, or within one that is being trained.
        CallError: rows that cannot be compared, or that build on each other in a circle.
        RunExistsError: ``out`` holds a run of the same name and another recipe, or on other data.
        WeightsUnavailableError: weights of rows cannot be had; names every such row.
        RoomError: a row needs more memory than there is, or all together more of the disk.
        RecipeError, ModelError, DataError, MissingPathError, UnknownNameError: a row cannot be trained; as ``fit``.
    """
    given = training.Circumstances(samples, votes, devices, accelerator)
    call = _Call(out, given, final, until_epoch, failed, show, show_pictures, say, stop_signal, command)
    runs = {Run(out / f"{recipe.name}-s{recipe.seed}"): recipe for recipe in recipes}
    left_out = checks.check_rows(runs, given, final=final, skip_unavailable=skip_unavailable)
    left_out = training.agree(left_out, devices, accelerator)
    runs = {run: recipe for run, recipe in runs.items() if run.path.name not in {each.row for each in left_out}}
    for each in left_out:
        say(f"{each.row} is left out: {each.reason}")
    with contextlib.closing(_turns(runs, call)) as turns:
        for run in turns:
            if training.is_first_process(devices) and not run.report_path.exists():
                going_on = ", going on" if run.last_checkpoint.exists() else ""
                say(f"row {list(runs).index(run) + 1} of {len(runs)}: {run.path.name}{going_on}")
            _train(run, runs[run], call)
            if training.is_first_process(devices) and run.report_path.exists():
                _evaluate(run, call)
                checks.check_finished(run, runs[run], samples)  # another process may have trained it
                with locked(out, wait=True, stop_signal=stop_signal):
                    write_study(out, gather(out, list(runs), left_out), command)
                yield run


@dataclass(frozen=True)
class _Call:
    """What all rows of a call share: arguments of ``run_study``."""

    out: Path
    given: training.Circumstances
    final: bool
    until_epoch: int | None
    failed: Callable[[Run, TrainingError], object] | None
    show: Callable[[Run, training.Progress], None] | None
    show_pictures: training.ShowPictures
    say: Callable[[str], object]
    stop_signal: Callable[[], int | None]
    command: str

    def agree(self, value: T) -> T:
        """What the first process says, in all processes."""
        return training.agree(value, self.given.devices, self.given.accelerator)


def _train(run: Run, recipe: Recipe, call: _Call) -> None:
    """Train a row that is not finished, to the end or until the call's epoch."""
    if call.agree(run.report_path.exists()):
        return
    try:
        training.fit(
            recipe,
            call.given.samples,
            run.path,
            resume=True,
            devices=call.given.devices,
            accelerator=call.given.accelerator,
            command=call.command,
            votes=call.given.votes,
            show=None if call.show is None else partial(call.show, run),
            stop_signal=call.stop_signal,
            until_epoch=call.until_epoch,
            show_pictures=call.show_pictures,
        )
    except TrainingError as error:
        if call.failed is None:
            raise
        call.failed(run, error)


def _evaluate(run: Run, call: _Call) -> None:
    """Look at the test images, where that is asked and was not done."""
    if not _is_done(run, call.final):
        call.say(f"predicting the test images of {run.path.name}")
        predictor = RunPredictor(run, call.given.accelerator)
        evaluate_and_store(
            predictor, call.given.samples, Split.PUBLISHED_TEST, command=call.command, votes=call.given.votes
        )


def _turns(runs: Mapping[Run, Recipe], call: _Call) -> Generator[Run]:
    """Every row once, the same in all processes of this call: done, or locked for it until the next is asked for."""
    pending, has_waited = list(runs), False
    while pending:
        with contextlib.ExitStack() as locks:
            signal_number = call.stop_signal()
            chooses = training.is_first_process(call.given.devices) and signal_number is None
            name = _take(pending, runs, call.final, locks) if chooses else None
            name, signal_number = call.agree((name, signal_number))
            if signal_number is not None:
                raise Interrupted(f"stopped; finished runs are in {call.out}", signal_number)
            if name is not None:
                run = next(each for each in pending if each.path.name == name)
                pending.remove(run)
                yield run
                continue
        if not has_waited:
            call.say(f"waiting for rows that another process trains: {', '.join(run.path.name for run in pending)}")
        has_waited = True
        time.sleep(POLL_SECONDS)


def _take(pending: Sequence[Run], runs: Mapping[Run, Recipe], final: bool, locks: contextlib.ExitStack) -> str | None:
    """The name of the first run that is done, or is now locked for this process; ``None`` while others have all."""
    for run in pending:
        if _is_done(run, final):
            return run.path.name
        if all(need.report_path.exists() for need in checks.needs(runs, run)):
            with contextlib.suppress(RunBusyError):
                locks.enter_context(locked(run.path))
                return run.path.name
    return None


def _is_done(run: Run, final: bool) -> bool:
    return run.report_path.exists() and not (final and run.load_report().result(Split.PUBLISHED_TEST) is None)
