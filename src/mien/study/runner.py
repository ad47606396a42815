"""Every recipe with every seed into a folder of its own; finished ones are not done again."""

import contextlib
import json
import shlex
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mien import training
from mien.data import FaceSamples, Split
from mien.errors import CallError, Interrupted, RunBusyError, RunExistsError
from mien.evaluation.evaluate import evaluate_and_store
from mien.evaluation.predictor import RunPredictor
from mien.models import check_takes_faces, create_classifier
from mien.recipe import Recipe, load_recipe
from mien.runs import Run, locked
from mien.study.folder import gather, write_study

POLL_SECONDS = 0.5
"""Between two looks at rows that other processes train."""


def run_study(
    recipes: Sequence[Recipe],
    samples: FaceSamples,
    out: Path,
    *,
    final: bool = False,
    votes: NDArray[np.uint8] | None = None,
    devices: int = 1,
    accelerator: str = "auto",
    show: Callable[[Run, training.Progress], None] | None = None,
    say: Callable[[str], object] = lambda _: None,
    stop_signal: Callable[[], int | None] = lambda: None,
    command: str = "",
) -> Iterator[Run]:
    """Train and evaluate every recipe; an interrupted study goes on where it was, and several share their rows.

    There is one recipe per run, the seeds told apart. A row that another process trains is left to it, and waited for
    at the end. After each run ``study.json`` in the folder ``out`` holds the reports so far, and those of other
    finished rows that the folder holds. ``final`` also predicts the test splits, which is noted in each run's
    ``looks.jsonl``; ``show`` is called with the run and its progress, ``say`` with what else there is to tell; the
    other options are those of ``training.fit``.

    Yields:
        each finished run, in the first process alone; the others help in training.

    Raises:
        Interrupted: ``stop_signal`` asked for it; between two rows, or within one that is being trained.
        CallError: rows that cannot be compared, or that build on each other in a circle.
        RunExistsError: ``out`` holds a run of the same name and another recipe, or on other data.
        RecipeError, MissingPathError: a run that is still to be trained lacks votes or the file of an earlier one.
        DataError: the samples lack a split that is asked for.
    """
    runs = {Run(out / f"{recipe.name}-s{recipe.seed}"): recipe for recipe in recipes}
    _check(runs, samples, out, votes, final=final)  # now, and not after hours of training
    with contextlib.closing(_turns(runs, out, final, devices, accelerator, stop_signal, say)) as turns:
        for run in turns:
            if training.agree(not run.report_path.exists(), devices, accelerator):
                training.fit(
                    runs[run],
                    samples,
                    run.path,
                    resume=True,
                    devices=devices,
                    accelerator=accelerator,
                    command=command,
                    votes=votes,
                    show=None if show is None else partial(show, run),
                    stop_signal=stop_signal,
                )
            if not training.is_first_process():
                continue
            if not _is_done(run, final):
                predictor = RunPredictor(run, accelerator)
                evaluate_and_store(predictor, samples, Split.PUBLISHED_TEST, command=command, votes=votes)
            _check_finished(run, runs[run], samples)  # another process may have trained it
            with locked(out, wait=True):
                write_study(out, gather(out, list(runs)), command)
            yield run


def _turns(
    runs: Mapping[Run, Recipe],
    out: Path,
    final: bool,
    devices: int,
    accelerator: str,
    stop_signal: Callable[[], int | None],
    say: Callable[[str], object],
) -> Generator[Run]:
    """Every row once, the same in all processes of this call: done, or locked for it until the next is asked for."""
    pending, has_waited = list(runs), False
    while pending:
        with contextlib.ExitStack() as locks:
            signal_number = stop_signal()
            chooses = training.is_first_process() and signal_number is None
            name = _take(pending, runs, final, locks) if chooses else None
            name, signal_number = training.agree((name, signal_number), devices, accelerator)
            if signal_number is not None:
                raise Interrupted(f"stopped; finished runs are in {out}", signal_number)
            if name is not None:
                run = next(each for each in pending if each.path.name == name)
                pending.remove(run)
                yield run
                continue
        if not has_waited:
            say(f"waiting for rows that another process trains: {', '.join(run.path.name for run in pending)}")
        has_waited = True
        time.sleep(POLL_SECONDS)


def _take(pending: Sequence[Run], runs: Mapping[Run, Recipe], final: bool, locks: contextlib.ExitStack) -> str | None:
    """The name of the first run that is done, or is now locked for this process; ``None`` while others have all."""
    for run in pending:
        if _is_done(run, final):
            return run.path.name
        if all(need.report_path.exists() for need in _needs(runs, run)):
            with contextlib.suppress(RunBusyError):
                locks.enter_context(locked(run.path))
                return run.path.name
    return None


def _is_done(run: Run, final: bool) -> bool:
    return run.report_path.exists() and not (final and run.load_report().result(Split.PUBLISHED_TEST) is None)


def _needs(runs: Mapping[Run, Recipe], run: Run) -> list[Run]:
    """The rows of the study that one begins from or learns from."""
    model, teachers = runs[run].model, runs[run].training.teachers
    named = {Path(name).resolve() for name in (model.weights, *teachers)}
    return [other for other in runs if other.best_checkpoint.resolve() in named]


def _check(
    runs: Mapping[Run, Recipe], samples: FaceSamples, out: Path, votes: NDArray[np.uint8] | None, *, final: bool
) -> None:
    """Refuse what would end a row later."""
    if final:
        samples.split(Split.PUBLISHED_TEST)
    protocols = sorted({recipe.data.protocol for recipe in runs.values()})
    if len(protocols) > 1 and not final:
        raise CallError(
            f"expected rows of one protocol, got {' and '.join(protocols)}, which validate on other images; choose one,"
            " or compare on the test images with --final"
        )
    _check_order(runs)
    for run, recipe in runs.items():
        if run.report_path.exists():
            _check_finished(run, recipe, samples)
            continue
        training.check_inputs(recipe.model, recipe.training, votes, expected=out)
        with torch.random.fork_rng(devices=[]):
            classifier = create_classifier(recipe.model, load_weights=False)  # its name and its options
        check_takes_faces(classifier, recipe.model)
        if run.last_checkpoint.exists():
            _check_recipe(run, recipe, "unfinished")


def _check_order(runs: Mapping[Run, Recipe]) -> None:
    """Refuse rows of which each waits for another."""
    left = list(runs)
    while ready := [run for run in left if not any(need in left for need in _needs(runs, run))]:
        left = [run for run in left if run not in ready]
    if left:
        names = ", ".join(run.path.name for run in left)
        raise CallError(f"expected rows that build on earlier ones, got a circle: {names}; take one out")


def _check_finished(run: Run, recipe: Recipe, samples: FaceSamples) -> None:
    """Refuse a finished run that is not of this recipe or not of these data."""
    _check_recipe(run, recipe, "finished")
    if run.load_report().data_sha256 != samples.content_sha256():
        raise RunExistsError(
            f"{run.path}: expected a run on {samples.name}, got a finished one on other data; choose another --out"
        )


def _check_recipe(run: Run, recipe: Recipe, state: str) -> None:
    """Refuse a run of another recipe; says in what the two differ, and how the run can be a row."""
    there, here = load_recipe(run.recipe_path), recipe
    if there == here:
        return
    had, has = there.flat(), here.flat()
    changed = [key for key in dict.fromkeys((*had, *has)) if had.get(key) != has.get(key)]
    settings = " ".join(f"--set {shlex.quote(f'{recipe.name}:{key}={_text(had.get(key))}')}" for key in changed)
    raise RunExistsError(
        f"{run.path}: expected a run of the recipe {recipe.name}, got the {state} run of another with its name; to have"
        f" that one as this row add {settings}; to train yours choose another --out, or rename its file"
    )


def _text(value: object) -> str:
    """A setting as ``--set`` reads it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)
