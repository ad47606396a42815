"""Every recipe with every seed into a folder of its own; finished ones are not done again."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Split
from mien.errors import Interrupted, RunExistsError
from mien.evaluation.report import write_report
from mien.evaluation.results import evaluate_run
from mien.recipe import Recipe, load_recipe
from mien.runs import Run, write_text
from mien.study.page import write_index
from mien.study.published import PUBLISHED
from mien.training import Progress, check_inputs, fit, is_first_process


def run_study(
    recipes: Sequence[Recipe],
    samples: FaceSamples,
    out: Path,
    *,
    final: bool = False,
    pictures: bool = True,
    devices: int = 1,
    accelerator: str = "auto",
    command: str = "",
    votes: NDArray[np.uint8] | None = None,
    show: Callable[[Run, Progress], None] | None = None,
    stop_signal: Callable[[], int | None] = lambda: None,
) -> dict[str, Any]:
    """Train, evaluate and compare every recipe, with a page of each; an interrupted study goes on where it was.

    Args:
        recipes: one per run, the seeds told apart.
        samples: labelled faces for all of them.
        out: the study directory.
        final: also predict the test splits, which is noted in each run's ``looks.jsonl``.
        pictures: show faces of the data set on the pages.
        devices: processes on this machine.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        command: the command line, for the reports.
        votes: FER+'s votes on the samples, as ``training.fit`` takes them.
        show: called now and then with the run and its progress.
        stop_signal: the number of a signal that asks to stop, or ``None``.

    Returns:
        the content of ``study.json``: ``published``, and the runs' reports as ``rows``, of which processes other than
        the first have none.

    Raises:
        Interrupted: ``stop_signal`` asked for it; between two rows, or within one that is being trained.
        RunExistsError: ``out`` holds a run of the same name and another recipe, or on other data.
        RecipeError, MissingPathError: a run that is still to be trained lacks votes or the file of an earlier one.
        DataError: the samples lack a split that is asked for.
    """
    if final:  # now, and not after hours of training
        samples.split(Split.PUBLISHED_TEST)
    reports: list[dict[str, Any]] = []
    study: dict[str, Any] = {"published": PUBLISHED, "command": command, "rows": reports}
    runs = [Run(out / run_name(recipe)) for recipe in recipes]
    for recipe, run in zip(recipes, runs, strict=True):  # before the first of them is trained, which can take hours
        if run.report_path.exists():
            _check_same(run, recipe, samples)
        else:
            check_inputs(recipe, votes, expected=out)
    for recipe, run in zip(recipes, runs, strict=True):
        if not run.report_path.exists():
            fit(
                recipe,
                samples,
                run.path,
                resume=True,
                devices=devices,
                accelerator=accelerator,
                command=command,
                votes=votes,
                show=None if show is None else _showing(show, run),
                stop_signal=stop_signal,
            )
        if is_first_process():  # the others help in training, and wait for it in the next row
            if final and Split.PUBLISHED_TEST not in run.report()["results"]:
                evaluate_run(run, samples, Split.PUBLISHED_TEST, command=command, accelerator=accelerator, votes=votes)
            write_report(run, samples, pictures=pictures)
            reports.append(run.report())
            write_text(out / "study.json", json.dumps(study, indent=2) + "\n")
        if (signal_number := stop_signal()) is not None:
            raise Interrupted(f"stopped; finished runs are in {out}", signal_number)
    if is_first_process():
        write_index(out, study, samples, pictures=pictures)
    return study


def run_name(recipe: Recipe) -> str:
    """Name of a run's folder in a study: ``<recipe>-s<seed>``."""
    return f"{recipe.name}-s{recipe.seed}"


def _showing(show: Callable[[Run, Progress], None], run: Run) -> Callable[[Progress], None]:
    return lambda progress: show(run, progress)


def _check_same(run: Run, recipe: Recipe, samples: FaceSamples) -> None:
    if load_recipe(run.recipe_path) != recipe:
        raise RunExistsError(f"{run.path} holds a finished run of another recipe; choose another --out")
    if run.report()["data_sha256"] != samples.content_sha256():
        raise RunExistsError(f"{run.path} holds a finished run on other data; choose another --out")
