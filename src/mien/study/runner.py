"""Every recipe with every seed into a folder of its own; finished ones are not done again."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mien import training
from mien.data import FaceSamples, Split
from mien.errors import Interrupted, RunExistsError
from mien.evaluation.evaluate import evaluate_and_store
from mien.evaluation.predictor import RunPredictor
from mien.files import write_text
from mien.models import create_classifier
from mien.recipe import Recipe, load_recipe
from mien.runs import Report, Run
from mien.study.published import PUBLISHED


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
    stop_signal: Callable[[], int | None] = lambda: None,
    command: str = "",
) -> Iterator[Run]:
    """Train and evaluate every recipe, one after the other; an interrupted study goes on where it was.

    There is one recipe per run, the seeds told apart. After each run ``study.json`` in the folder ``out`` holds the
    reports so far. ``final`` also predicts the test splits, which is noted in each run's ``looks.jsonl``; ``show`` is
    called with the run and its progress; the other options are those of ``training.fit``.

    Yields:
        each finished run, in the first process alone; the others help in training.

    Raises:
        Interrupted: ``stop_signal`` asked for it; between two rows, or within one that is being trained.
        RunExistsError: ``out`` holds a run of the same name and another recipe, or on other data.
        RecipeError, MissingPathError: a run that is still to be trained lacks votes or the file of an earlier one.
        DataError: the samples lack a split that is asked for.
    """
    runs = {Run(out / f"{recipe.name}-s{recipe.seed}"): recipe for recipe in recipes}
    _check(runs, samples, out, votes, final=final)  # now, and not after hours of training
    reports: list[Report] = []
    for run, recipe in runs.items():
        if not run.report_path.exists():
            training.fit(
                recipe,
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
        if training.is_first_process():
            if final and run.load_report().result(Split.PUBLISHED_TEST) is None:
                predictor = RunPredictor(run, accelerator)
                evaluate_and_store(predictor, samples, Split.PUBLISHED_TEST, command=command, votes=votes)
            reports.append(run.load_report())
            write_text(out / "study.json", _study_json(reports, command))
            yield run
        if (signal_number := stop_signal()) is not None:
            raise Interrupted(f"stopped; finished runs are in {out}", signal_number)


def _study_json(reports: Sequence[Report], command: str) -> str:
    rows = [report.content() for report in reports]
    return json.dumps({"published": PUBLISHED, "command": command, "rows": rows}, indent=2) + "\n"


def _check(
    runs: Mapping[Run, Recipe], samples: FaceSamples, out: Path, votes: NDArray[np.uint8] | None, *, final: bool
) -> None:
    """Refuse what would end a row later."""
    if final:
        samples.split(Split.PUBLISHED_TEST)
    for run, recipe in runs.items():
        if not run.report_path.exists():
            training.check_inputs(recipe.model, recipe.training, votes, expected=out)
            with torch.random.fork_rng(devices=[]):
                create_classifier(recipe.model, load_weights=False)  # its name and its options
        elif load_recipe(run.recipe_path) != recipe:
            raise RunExistsError(
                f"{run.path}: expected the recipe {recipe.name}, got a finished run of another; choose another --out"
            )
        elif run.load_report().data_sha256 != samples.content_sha256():
            raise RunExistsError(
                f"{run.path}: expected a run on {samples.name}, got a finished one on other data; choose another --out"
            )
