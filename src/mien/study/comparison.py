"""The reports of a study -> one row for each recipe, its seeds together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mien.errors import CallError, RunError
from mien.evaluation.compare import named_runs
from mien.evaluation.majority import Majority, always, majority_class
from mien.evaluation.significance import interval_of
from mien.runs import Report, Run, SplitResult, Subset
from mien.runs.report import common_split, is_test
from mien.study.published import Deviation, PublishedRow, deviations, published_row
from mien.study.same_images import Images, images_of, told_apart
from mien.study.search import read_search


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of a metric over the seeds of a recipe; one seed has no deviation."""

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class ComparedRow:
    """One recipe of a study: its runs and their reports by seed, and the split that all rows are compared on.

    ``title`` is that of the published model, or the name; ``deviations`` tell in what the runs differ from the
    published row. ``tries`` are those of a search on these images, of which any could have come first.
    """

    title: str
    runs: tuple[Run, ...]
    reports: tuple[Report, ...]
    split: str
    published: PublishedRow | None = None
    deviations: tuple[Deviation, ...] = ()
    given_name: str | None = None  # where several rows share a recipe's name
    tries: int = 1

    @property
    def name(self) -> str:
        """The recipe's, or its folder's where the recipe's does not tell the row from others."""
        return self.given_name or self.report.recipe

    @property
    def report(self) -> Report:
        """Report of the first seed, for what all seeds share."""
        return self.reports[0]

    @property
    def results(self) -> tuple[SplitResult, ...]:
        """What each seed reached on the split."""
        return tuple(found for report in self.reports if (found := report.result(self.split)) is not None)

    @property
    def result(self) -> SplitResult:
        """What the first seed reached on the split."""
        return self.results[0]

    @property
    def accuracy(self) -> Spread:
        """Over the seeds, in [0, 1]."""
        return self.spread("accuracy")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean accuracy for the chance choice of images, not of seeds, of all tries together."""
        return interval_of(self.result, self.accuracy.mean, self.tries)

    @property
    def unseen(self) -> Spread | None:
        """Accuracy on images identical to none that the network learnt from, where it is known of every seed."""
        found = [report.result(self.split, Subset.UNSEEN) for report in self.reports]
        known = [each.accuracy.value for each in found if each is not None]
        return spread(known) if len(known) == len(found) else None

    @property
    def epochs(self) -> tuple[int, ...]:
        """How long its seeds were trained, the shortest first; one number where all are alike."""
        return tuple(sorted({report.epochs for report in self.reports if report.epochs is not None}))

    def always(self, subset: Subset = Subset.ALL) -> Majority | None:
        """What answering always with Training's most frequent class reaches, where that class is known."""
        name, found = majority_class(self.report), self.report.result(self.split, subset)
        if name is None or found is None:
            return None
        return always(name, found.counts.sum(1), self.report.classes)

    @property
    def place(self) -> str:
        """Where the first seed was trained: the machine, and what of it where that is not the processor."""
        machine, device = self.report.machine, self.report.device
        return str(machine) if device == "cpu" else f"{device}, {machine}"

    @property
    def train_seconds(self) -> float | None:
        """Seconds of training, mean over the seeds that know it."""
        known = [report.train_seconds for report in self.reports if report.train_seconds is not None]
        return statistics.fmean(known) if known else None

    def spread(self, metric: str) -> Spread:
        """A metric over the seeds."""
        return spread([found.metrics[metric].value for found in self.results])


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of one value or more."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def compare(folder: Path, reports: Sequence[Report]) -> list[ComparedRow]:
    """The rows of a study in the order of its recipes, from the reports of the runs ``<recipe>-s<seed>`` in a folder.

    Published numbers belong to FER-2013: rows of other data have none. On validation, the tries of a search have
    intervals that hold for all of them together.

    Raises:
        RunError: the study has no row, its rows share no split, or ``study.json`` is damaged.
    """
    if not reports:
        raise RunError("expected a study with a finished run, got none; train one first: mien study ... --out DIR")
    split = common_split(reports)
    by_recipe: dict[str, list[Report]] = {}
    for report in reports:
        by_recipe.setdefault(report.recipe, []).append(report)
    rows = [
        _row([(Run(folder / f"{name}-s{report.seed}"), report) for report in of_recipe], split)
        for name, of_recipe in by_recipe.items()
    ]
    search = None if is_test(split) else read_search(folder)
    tries = {} if search is None else {each.name: len(search.tries) for each in search.tries}
    return [replace(row, tries=tries.get(row.name, 1)) for row in rows]


def compare_runs(runs: Sequence[Run]) -> list[ComparedRow]:
    """Finished runs from anywhere, one row for those that differ in the seed alone.

    Raises:
        RunError: no run, or runs that share no split.
        CallError: a run of no training, runs of different data or different images, or the same training twice.
    """
    named = named_runs(runs)
    if not named:
        raise RunError("expected a finished run, got none; train one first: mien train RECIPE --data SPEC --out DIR")
    split = common_split([report for _, _, report in named])
    _check_alike([(run, report) for _, run, report in named], split)
    rows: dict[str, list[tuple[Run, Report]]] = {}
    for name, run, report in named:
        rows.setdefault(name, []).append((run, report))
    for found in rows.values():
        seeds = {report.seed: run for run, report in found}
        if len(seeds) < len(found):
            twice = next(run for run, report in found if seeds[report.seed] != run)
            raise CallError(f"expected each training once, got {twice.path} again elsewhere; leave one of the two out")
    return [_row(found, split, name) for name, found in rows.items()]


def _check_alike(found: Sequence[tuple[Run, Report]], split: str) -> None:
    """Refuse runs whose results answer different questions."""
    kinds: list[tuple[str, Images]] = []
    for run, report in found:
        images = images_of(report, split)
        if report.seed is None or report.input_size is None or images is None:
            raise CallError(
                f"{run.path}: expected a run of mien train, got an ensemble or an exported network; leave it out, or"
                " put it beside others with mien compare"
            )
        kinds.append((str(run.path), images))
    told = told_apart(kinds)
    if told is not None:
        raise CallError(f"expected runs on the same images, got {told}; make a page of each kind")


def _row(found: Sequence[tuple[Run, Report]], split: str, name: str | None = None) -> ComparedRow:
    found = sorted(found, key=lambda each: each[1].seed or 0)
    runs, reports = zip(*found, strict=True)
    recipe, known = reports[0].recipe, published_row(reports[0])
    given = None if name in (None, recipe) else name
    if known is None:
        return ComparedRow(given or recipe, runs, reports, split, given_name=given)
    title = known["title"] if given is None else f"{known['title']}, {given}"
    return ComparedRow(title, runs, reports, split, known, deviations(runs[0], reports[0]), given)
