"""``mien study --plan``: the runs of a study before any of them is trained, as tables and as data."""

import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table

from mien.cli import shared
from mien.models import create_classifier
from mien.recipe import ModelSettings, Recipe
from mien.report import format as formats
from mien.report.html import render_sentences
from mien.study.halving import SearchSpace, check_halving
from mien.study.published import Deviation
from mien.study.search import find_tries
from mien.study.suites import Budget, PlannedRow, Suite, missing_settings


@dataclass(frozen=True)
class PlannedSearch:
    """How many tries are trained until which epoch, each with so many seeds, and an epoch's seconds where known."""

    rungs: tuple[tuple[int, int], ...]
    seeds: int
    full_epochs: int  # of all tries, without halving
    seconds_per_epoch: float | None = None

    @property
    def epochs(self) -> int:
        """Of all trainings together."""
        lengths = [0, *(length for _, length in self.rungs)]
        each = zip(self.rungs, lengths, strict=False)
        return self.seeds * sum(tries * (length - before) for (tries, length), before in each)

    @property
    def minutes(self) -> float | None:
        """Of all trainings together."""
        return None if self.seconds_per_epoch is None else self.epochs * self.seconds_per_epoch / 60


def plan_search(runs: Sequence[PlannedRow], search: SearchSpace, halving: bool, out: Path | None) -> PlannedSearch:
    """What a search trains; an epoch's seconds are the mean of earlier tries in ``out``.

    Raises:
        CallError: as ``check_halving``.
    """
    recipes = [run.recipe for run in runs]
    seeds = len({recipe.seed for recipe in recipes})
    tries, total = len(recipes) // seeds, sum(recipe.training.epochs for recipe in recipes)
    rungs = check_halving(recipes) if halving else ((tries, total // len(recipes)),)
    earlier = () if out is None else find_tries(out, search.base)
    reports = [report for each in earlier for report in each.reports if report.train_seconds and report.epochs]
    speeds = [(report.train_seconds or 0) / (report.epochs or 1) for report in reports]
    return PlannedSearch(rungs, seeds, total, statistics.fmean(speeds) if speeds else None)


@dataclass(frozen=True)
class Plan:
    """The runs that a call of ``study`` would train."""

    suite: Suite | None
    budget_name: str | None
    runs: tuple[PlannedRow, ...]
    search: PlannedSearch | None = None

    @property
    def budget(self) -> Budget | None:
        """That was asked for."""
        return None if self.suite is None or self.budget_name is None else self.suite.budgets[self.budget_name]

    @property
    def minutes(self) -> float:
        """Of training on the budget's hardware, of the runs of which they are known."""
        return sum(run.row.minutes for run in self.runs if run.row.minutes is not None)

    @property
    def untimed(self) -> list[str]:
        """Names of the rows of which no minutes are known."""
        return list(dict.fromkeys(run.row.name for run in self.runs if run.row.minutes is None))

    @property
    def beside(self) -> list[PlannedRow]:
        """Rows that are none of the suite's, to which its settings and its budget do not apply."""
        if self.suite is None:
            return []
        return [run for run in self.runs if run.row.recipe not in self._files and run.seed == 0]

    @property
    def _files(self) -> set[Path]:
        """Of the suite's rows, which a search calls otherwise."""
        return set() if self.suite is None else {row.recipe for row in self.suite.rows}

    def missing(self, beside: PlannedRow) -> list[str]:
        """The suite's row most like a row beside it, then the options with which that one is trained as it is."""
        found = missing_settings(beside.row, [run.row for run in self.runs if run.row.recipe in self._files])
        return [found.like, *(f"--set {shlex.quote(f'{beside.row.name}:{each}')}" for each in found.settings)]

    def content(self) -> dict[str, Any]:
        """As data."""
        budget = None if self.budget is None else {"name": self.budget_name, **self.budget.model_dump()}
        parameters = self._parameters()
        return {
            "suite": None if self.suite is None else self.suite.name,
            "budget": budget,
            "minutes": None if self.untimed else self.minutes,
            "known_minutes": self.minutes,
            "untimed": self.untimed,
            "beside": [run.row.name for run in self.beside],
            "search": None if self.search is None else self._search_content(self.search),
            "rows": [_run_content(run, parameters[run.row.name]) for run in self.runs],
        }

    def _search_content(self, search: PlannedSearch) -> dict[str, Any]:
        return {
            "tries": search.rungs[0][0],
            "seeds": search.seeds,
            "rungs": [{"tries": tries, "epochs": epochs} for tries, epochs in search.rungs],
            "epochs": search.epochs,
            "minutes": search.minutes,
        }

    def text(self) -> RenderableType:
        """To read: the runs, what differs from their recipe files, and the time."""
        return Group(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        yield self._table()
        if any(run.differences for run in self.runs):
            yield self._differences()
        yield from sentences("plan.txt.j2", {"plan": self})

    def _table(self) -> Table:
        numbers = ["seed", "px", "epochs", "parameters", "minutes"]
        table, parameters = shared.create_table(None, ["recipe"], numbers), self._parameters()
        table.add_column("begins with", no_wrap=True)
        table.add_column("settings")
        for run in self.runs:
            table.add_row(
                run.recipe.name,
                str(run.seed),
                str(run.recipe.model.input_size),
                str(run.recipe.training.epochs),
                formats.short(parameters[run.row.name]),
                formats.fixed(self._minutes(run), 1),
                run.recipe.model.weights,
                ", ".join(each for each in run.row.settings if not each.startswith("name=")) or formats.DASH,
            )
        return table

    def _minutes(self, run: PlannedRow) -> float | None:
        """Of one training, to its end."""
        seconds = None if self.search is None else self.search.seconds_per_epoch
        return run.row.minutes if seconds is None else run.recipe.training.epochs * seconds / 60

    def _differences(self) -> Table:
        named = "the recipes" if self.suite is None else f"the {self.suite.name} configuration"
        table = shared.create_table(f"What differs from {named}", ["recipe", "setting", "here", "there"], [])
        for run in self.runs:
            for found in run.differences if run.seed == 0 else ():
                table.add_row(
                    run.recipe.name, _key(found), formats.setting(found.ours), formats.setting(found.published)
                )
        return table

    def _parameters(self) -> dict[str, int]:
        """Row -> number of its network's parameters, for seven classes."""
        return {run.row.name: _count(run.recipe) for run in self.runs if run.seed == 0}


def sentences(template: str, values: Mapping[str, object]) -> list[str]:
    """Those of a template that say something."""
    return [line for line in render_sentences(template, values) if line.strip()]


def _key(found: Deviation) -> str:
    """The key as ``--set`` takes it, one spelling for options everywhere in a plan."""
    table, _, name = found.key.partition(".")
    return f"model.options.{name}" if table == "model" and name not in ModelSettings.model_fields else found.key


def _run_content(run: PlannedRow, parameters: int) -> dict[str, Any]:
    return {
        "recipe": run.recipe.name,
        "file": str(run.row.recipe),
        "recipe_sha256": run.recipe.sha256(),
        "seed": run.seed,
        "model": run.recipe.model.name,
        "input_size": run.recipe.model.input_size,
        "weights": run.recipe.model.weights,
        "epochs": run.recipe.training.epochs,
        "parameters": parameters,
        "minutes": run.row.minutes,
        "overrides": run.row.overrides,
        "unknown": run.row.unknown,
        "differences": [{"key": _key(each), "here": each.ours, "there": each.published} for each in run.differences],
    }


def _count(recipe: Recipe) -> int:
    with torch.random.fork_rng(devices=[]):
        classifier = create_classifier(recipe.model, votes=recipe.votes_outputs(), load_weights=False)
    return sum(parameter.numel() for parameter in classifier.parameters())
