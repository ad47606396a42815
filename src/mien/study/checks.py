"""What would end a row of a study later, said of all rows before the first is trained."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from mien import training
from mien.data import FaceSamples, Split
from mien.errors import CallError, RunExistsError, WeightsUnavailableError
from mien.recipe import Recipe, load_recipe
from mien.runs import Run
from mien.runs.report import common_split, is_test
from mien.study.folder import LeftOut
from mien.study.same_images import told_apart, validated_on
from mien.training.room import Need


def check_rows(
    runs: Mapping[Run, Recipe], given: training.Circumstances, *, final: bool, skip_unavailable: bool
) -> list[LeftOut]:
    """Make every refusal; the rows that are left out, which are none without ``skip_unavailable``.

    Errors are those of ``run_study``.
    """
    if final:
        given.samples.split(Split.PUBLISHED_TEST)
    _check_images(runs, given.samples, final)
    _check_order(runs)
    for run, recipe in runs.items():
        if run.report_path.exists():
            check_finished(run, recipe, given.samples)
        elif run.last_checkpoint.exists():
            _check_same_recipe(run, recipe, "unfinished")
    unfinished = {run: recipe for run, recipe in runs.items() if not run.report_path.exists()}
    if not training.is_first_process(given.devices):
        return []  # the others follow the first, which leaves out what is to be left out
    checked = _check_each(unfinished, given)
    reasons = _with_dependents(unfinished, {run: each for run, each in checked.items() if isinstance(each, str)})
    if reasons and (not skip_unavailable or len(reasons) == len(runs)):
        raise _unavailable(unfinished, reasons)
    training.check_disk({run: need for run, need in checked.items() if isinstance(need, Need) and run not in reasons})
    return [LeftOut(run.path.name, reason) for run, reason in reasons.items()]


def _check_images(runs: Mapping[Run, Recipe], samples: FaceSamples, final: bool) -> None:
    """Refuse rows that would be compared on different images."""
    reports = [run.load_report() for run in runs if run.report_path.exists()]
    if final or (len(reports) == len(runs) and is_test(common_split(reports))):
        return
    splits = dict.fromkeys(recipe.data for recipe in runs.values())
    if len(splits) == 1:
        return
    images = {data: validated_on(data, samples) for data in splits}
    told = told_apart((run.path.name, images[recipe.data]) for run, recipe in runs.items())
    if told is not None:
        raise CallError(
            f"expected rows that validate on the same images, got {told}; choose one kind, or compare on the test"
            " images with --final"
        )


def _check_each(runs: Mapping[Run, Recipe], given: training.Circumstances) -> dict[Run, Need | str]:
    """What each run needs, or why its weights cannot be had; runs that differ in the seed alone are asked once."""
    awaited = {run.best_checkpoint.resolve() for run in runs}
    of_names: dict[str, Need | str] = {}
    for recipe in runs.values():
        if recipe.name in of_names:
            continue
        try:
            of_names[recipe.name] = training.check_recipe(recipe, given, awaited, row=recipe.name)
        except WeightsUnavailableError as error:
            of_names[recipe.name] = str(error)
        training.check_networks(recipe, given.samples.classes, awaited)
    return {run: of_names[recipe.name] for run, recipe in runs.items()}


def _with_dependents(runs: Mapping[Run, Recipe], reasons: Mapping[Run, str]) -> dict[Run, str]:
    """The same, with the runs that build on one of them."""
    found = dict(reasons)
    while more := {
        run: f"it builds on {need.path.name}"
        for run in runs
        for need in needs(runs, run)
        if need in found and run not in found
    }:
        found |= more
    return found


def _unavailable(runs: Mapping[Run, Recipe], reasons: Mapping[Run, str]) -> WeightsUnavailableError:
    by_row = {runs[run].name: reason for run, reason in reasons.items()}
    told = "; ".join(f"{row}: {reason}" for row, reason in by_row.items())
    rows = f"{len(by_row)} row{'s' if len(by_row) > 1 else ''}"
    return WeightsUnavailableError(
        f"expected the first weights of every row, got none for {rows}. {told}. Or leave out what cannot be had, with"
        " --skip-unavailable"
    )


def needs(runs: Mapping[Run, Recipe], run: Run) -> list[Run]:
    """The rows that one begins from or learns from."""
    model, teachers = runs[run].model, runs[run].training.teachers
    named = {Path(name).resolve() for name in (model.weights, *teachers)}
    return [other for other in runs if other.best_checkpoint.resolve() in named]


def _check_order(runs: Mapping[Run, Recipe]) -> None:
    """Refuse rows of which each waits for another."""
    left = list(runs)
    while ready := [run for run in left if not any(need in left for need in needs(runs, run))]:
        left = [run for run in left if run not in ready]
    if left:
        names = ", ".join(run.path.name for run in left)
        raise CallError(f"expected rows that build on earlier ones, got a circle: {names}; take one out")


def check_finished(run: Run, recipe: Recipe, samples: FaceSamples) -> None:
    """Refuse a finished run that is not of this recipe or not of these data."""
    _check_same_recipe(run, recipe, "finished")
    if run.load_report().data_sha256 != samples.content_sha256():
        raise RunExistsError(
            f"{run.path}: expected a run on {samples.name}, got a finished one on other data; choose another --out"
        )


def _check_same_recipe(run: Run, recipe: Recipe, state: str) -> None:
    """Refuse a run of another recipe; says how it can be a row."""
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
