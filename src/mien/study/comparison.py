"""The reports of a study -> one row for each recipe, its seeds together."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import RunError
from mien.evaluation.facts import Report
from mien.evaluation.metrics import wilson_interval
from mien.evaluation.wording import common_split, unseen_of, views_of
from mien.runs import Run
from mien.study.deviations import Deviation, deviations


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds of a recipe.

    Attributes:
        mean: over the seeds.
        deviation: standard deviation (n - 1) between them, or ``None`` of a single one.
    """

    mean: float
    deviation: float | None = None


@dataclass(frozen=True)
class ComparedRow:
    """One recipe of a study.

    Attributes:
        title: of the published model, or the recipe's name.
        runs: the run directories, by seed.
        reports: of the runs, in the same order.
        split: that all rows of the study are compared on.
        published: the published row of this recipe, or ``None``.
        deviations: in what the runs differ from it.
    """

    title: str
    runs: tuple[Run, ...]
    reports: tuple[Report, ...]
    split: str
    published: Mapping[str, Any] | None = None
    deviations: tuple[Deviation, ...] = ()

    @property
    def report(self) -> Report:
        """Of the first seed, for what all seeds share."""
        return self.reports[0]

    @property
    def count(self) -> int:
        """Number of pictures that the figures are measured on."""
        return int(self.report["results"][self.split]["n"])

    @property
    def views(self) -> int:
        """Views of each face at test time that the figures are averages over."""
        return views_of(self.report, self.split)

    @property
    def accuracy(self) -> Spread:
        """Over the seeds, in [0, 1]."""
        return self.spread("accuracy")

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of each seed."""
        return tuple(report["results"][self.split]["accuracy"] for report in self.reports)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean accuracy for the chance choice of pictures, not of seeds."""
        return wilson_interval(round(self.accuracy.mean * self.count), self.count)

    @property
    def unseen(self) -> Spread | None:
        """Accuracy on pictures without an identical copy in Training, where it is known of every seed."""
        found = [unseen_of(report, self.split) for report in self.reports]
        known = [figures["accuracy"] for figures in found if figures is not None]
        return spread(known) if len(known) == len(found) else None

    @property
    def is_transfer_lost(self) -> bool:
        """Whether the published model began with pretrained weights and this one did not."""
        return any(found.key == "model.weights" for found in self.deviations) and (
            self.report.get("initialization") == "scratch"
        )

    @property
    def place(self) -> str:
        """Where the first seed was trained: the machine, and what of it where that is not the processor."""
        machine, device = self.report["machine"], self.report["device"]
        return machine if device == "cpu" else f"{device}, {machine}"

    def spread(self, name: str) -> Spread:
        """A figure of ``results`` over the seeds."""
        return spread([report["results"][self.split][name] for report in self.reports])

    def mean(self, name: str) -> float:
        """Mean over the seeds of a number of the report, such as ``train_seconds``."""
        return statistics.fmean(report[name] for report in self.reports)


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of one value or more."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def compare(folder: Path, study: Mapping[str, Any]) -> list[ComparedRow]:
    """The rows of a study in the order of its recipes.

    Published figures belong to FER-2013: rows of other data have none.

    Raises:
        RunError: the study has no row, or its rows share no split.
    """
    if not study["rows"]:
        raise RunError("the study holds no finished run; train one first: mien study ... --out DIR")
    split = common_split(study["rows"])
    by_recipe: dict[str, list[Report]] = {}
    for report in study["rows"]:
        by_recipe.setdefault(report["recipe"], []).append(report)
    return [_row(folder, reports, split, study["published"]["rows"]) for reports in by_recipe.values()]


def _row(folder: Path, reports: list[Report], split: str, table: Mapping[str, Any]) -> ComparedRow:
    reports = sorted(reports, key=lambda report: int(report["seed"]))
    name = reports[0]["recipe"]
    published = table.get(name) if reports[0]["data"] == "fer2013" else None
    runs = tuple(Run(folder / f"{name}-s{report['seed']}") for report in reports)
    if published is None:
        return ComparedRow(name, runs, tuple(reports), split)
    found = deviations(runs[0], reports[0], published)
    return ComparedRow(str(published["title"]), runs, tuple(reports), split, published, found)
