"""The reports of a study -> one row for each recipe, its seeds together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mien.errors import RunError
from mien.evaluation.metrics import wilson_interval
from mien.runs import Report, Run, SplitResult, Subset
from mien.runs.report import common_split
from mien.study.published import Deviation, PublishedRow, deviations, published_row


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of a metric over the seeds of a recipe; one seed has no deviation."""

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class ComparedRow:
    """One recipe of a study: its runs and their reports by seed, and the split that all rows are compared on.

    ``title`` is that of the published model, or the recipe's name; ``deviations`` tell in what the runs differ from the
    published row.
    """

    title: str
    runs: tuple[Run, ...]
    reports: tuple[Report, ...]
    split: str
    published: PublishedRow | None = None
    deviations: tuple[Deviation, ...] = ()

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
        """95 % interval of the mean accuracy for the chance choice of images, not of seeds (Wilson)."""
        return wilson_interval(round(self.accuracy.mean * self.result.n), self.result.n)

    @property
    def unseen(self) -> Spread | None:
        """Accuracy on images without an identical copy in Training, where it is known of every seed."""
        found = [report.result(self.split, Subset.UNSEEN) for report in self.reports]
        known = [each.accuracy.value for each in found if each is not None]
        return spread(known) if len(known) == len(found) else None

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

    Published numbers belong to FER-2013: rows of other data have none.

    Raises:
        RunError: the study has no row, or its rows share no split.
    """
    if not reports:
        raise RunError("expected a study with a finished run, got none; train one first: mien study ... --out DIR")
    split = common_split(reports)
    by_recipe: dict[str, list[Report]] = {}
    for report in reports:
        by_recipe.setdefault(report.recipe, []).append(report)
    return [_row(folder, of_recipe, split) for of_recipe in by_recipe.values()]


def _row(folder: Path, reports: Sequence[Report], split: str) -> ComparedRow:
    reports = sorted(reports, key=lambda report: report.seed or 0)
    name = reports[0].recipe
    runs = tuple(Run(folder / f"{name}-s{report.seed}") for report in reports)
    known = published_row(reports[0])
    if known is None:
        return ComparedRow(name, runs, tuple(reports), split)
    found = deviations(runs[0], reports[0])
    return ComparedRow(known["title"], runs, tuple(reports), split, known, found)
