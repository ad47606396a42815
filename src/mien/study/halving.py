"""A search: every combination is trained on validation alone; with halving, only the better half goes on each time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mien import training
from mien.data import FaceSamples, Split
from mien.errors import CallError, TrainingError
from mien.files import write_text
from mien.recipe import Recipe, to_toml
from mien.runs import Run, locked
from mien.study import search as searches
from mien.study.folder import write_search
from mien.study.grid import better_half, rungs

CHOSEN = "chosen.toml"
"""The recipe that is chosen, in the study's folder."""


@dataclass(frozen=True)
class SearchSpace:
    """The name of the recipe that a search varies, and the keys of its grid."""

    base: str
    keys: tuple[str, ...]


class TrainRows(Protocol):
    """``run_study`` with all but these of its arguments given."""

    def __call__(
        self,
        recipes: Sequence[Recipe],
        *,
        final: bool = False,
        until_epoch: int | None = None,
        failed: Callable[[Run, TrainingError], object] | None = None,
    ) -> Iterator[Run]:
        """Train rows, each to the end or until an epoch."""
        ...


def run_search(
    recipes: Sequence[Recipe],
    train: TrainRows,
    samples: FaceSamples,
    out: Path,
    *,
    search: SearchSpace,
    halving: bool = False,
    final: bool = False,
    say: Callable[[str], object] = lambda _: None,
    stop_signal: Callable[[], int | None] = lambda: None,
) -> Iterator[Run]:
    """Train every combination, choose on validation, and leave ``chosen.toml`` and the search in ``study.json``.

    An interrupted search goes on where it was, since all is decided by what the runs have stored. A try that diverges
    counts and is not chosen. ``final`` evaluates the chosen combination on the test images, and no other.

    Args:
        recipes: of all combinations and seeds, by ``grid_rows``.
        train: trains them.
        samples: labelled faces.
        out: the study directory; tries of earlier calls in it count.
        search: what the tries vary.
        halving: stop the worse half at each of ``rungs``.
        final: also look at the test images.
        say: is told what else there is to tell.
        stop_signal: as of ``run_study``.

    Yields:
        as ``run_study`` does; the chosen one again after it was tested.

    Raises:
        CallError: ``halving`` of tries whose epochs differ, or end by the clock.
        RunExistsError: ``out`` holds another search, or tries on other images, or as ``run_study``.
        DataError: there are no test images for ``final``.
        TrainingError: no try could be trained to the end.
        Interrupted: ``stop_signal`` asked for it.
    """
    if final:
        samples.split(Split.PUBLISHED_TEST)  # refused now, and not after the search
    base = search.base
    searches.check_alike(out, recipes[0], base, samples.content_sha256())
    seeds = max(recipe.seed for recipe in recipes) + 1
    summarize = partial(searches.summarize, out, base, search.keys, seeds, _looks_before(out, base, recipes, say))
    by_name = _by_name(recipes)
    train = partial(train, failed=lambda run, error: say(f"{run.path.name} counts as a try without a result: {error}"))
    if halving:
        by_name = _halved(by_name, train, out, base)
    for run in train(_rows(by_name)):
        _write(out, summarize().record().content(), stop_signal)  # for the page of the study so far
        yield run
    chosen = summarize().chosen
    if chosen is None:
        raise TrainingError(f"{out}: expected a try that was trained to the end, got none; search other values")
    if final:
        for run in train([chosen.recipe.model_copy(update={"seed": seed}) for seed in range(seeds)], final=True):
            yield run
    if training.is_first_process():
        _write(out, summarize().content(), stop_signal)
        write_text(out / CHOSEN, to_toml(chosen.recipe))


def _halved(by_name: dict[str, list[Recipe]], train: TrainRows, out: Path, base: str) -> dict[str, list[Recipe]]:
    """The tries that go on to the end: at each rung but the last all that are left are trained so far, then halved."""
    for _, epochs in check_halving(_rows(by_name))[:-1]:
        for _ in train(_rows(by_name), until_epoch=epochs):
            pass  # finished by an earlier call
        by_name = _better_half(by_name, searches.find_tries(out, base), epochs)
    return by_name


def _by_name(recipes: Sequence[Recipe]) -> dict[str, list[Recipe]]:
    found: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        found.setdefault(recipe.name, []).append(recipe)
    return found


def _rows(by_name: Mapping[str, Sequence[Recipe]]) -> list[Recipe]:
    return [recipe for of_name in by_name.values() for recipe in of_name]


def check_halving(recipes: Sequence[Recipe]) -> tuple[tuple[int, int], ...]:
    """The rungs of these tries, see ``grid.rungs``.

    Raises:
        CallError: their epochs differ, or they end by the clock.
    """
    lengths = sorted({recipe.training.epochs for recipe in recipes})
    if len(lengths) > 1:
        raise CallError(f"--halving: expected tries of equal length, got {lengths} epochs; leave out training.epochs")
    if any(recipe.training.minutes is not None for recipe in recipes):
        raise CallError("--halving: expected epochs to count, got training.minutes; set it to none, or leave it out")
    return rungs(len(_by_name(recipes)), lengths[0])


def _better_half(
    by_name: Mapping[str, list[Recipe]], tries: Sequence[searches.Try], epochs: int
) -> dict[str, list[Recipe]]:
    found = {each.name: each.accuracy_after(epochs) or 0.0 for each in tries}
    return {name: by_name[name] for name in better_half({name: found.get(name, 0.0) for name in by_name})}


def _looks_before(out: Path, base: str, recipes: Sequence[Recipe], say: Callable[[str], object]) -> int:
    """Evaluations on test images before the latest call that had something to train."""
    tries, earlier = searches.find_tries(out, base), searches.read_search(out)
    finished = {(each.name, report.seed) for each in tries for report in each.reports}
    if all((recipe.name, recipe.seed) in finished for recipe in recipes):
        return 0 if earlier is None else earlier.looks_before
    looks = sum(each.looks for each in tries)
    if looks:
        say(f"the test images were looked at before: {looks} look{'s' if looks > 1 else ''}; new tries are not blind")
    return looks


def _write(out: Path, content: Mapping[str, object], stop_signal: Callable[[], int | None]) -> None:
    if training.is_first_process():
        with locked(out, wait=True, stop_signal=stop_signal):
            write_search(out, content)
