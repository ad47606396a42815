"""``mien study --plan``: the runs of a study before any of them is trained, as tables and as data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table

from mien.cli import shared
from mien.models import create_classifier
from mien.recipe import Recipe
from mien.report import format as formats
from mien.study.suites import Budget, PlannedRow, Suite


@dataclass(frozen=True)
class Plan:
    """The runs that a call of ``study`` would train."""

    suite: Suite | None
    budget_name: str | None
    runs: tuple[PlannedRow, ...]

    @property
    def budget(self) -> Budget | None:
        """That was asked for."""
        return None if self.suite is None or self.budget_name is None else self.suite.budgets[self.budget_name]

    @property
    def minutes(self) -> float | None:
        """Of training on the budget's hardware, where they are known of every run."""
        known = [run.row.minutes for run in self.runs if run.row.minutes is not None]
        return sum(known) if len(known) == len(self.runs) else None

    def content(self) -> dict[str, Any]:
        """As data."""
        budget = None if self.budget is None else {"name": self.budget_name, **self.budget.model_dump()}
        parameters = self._parameters()
        return {
            "suite": None if self.suite is None else self.suite.name,
            "budget": budget,
            "minutes": self.minutes,
            "rows": [_run_content(run, parameters[run.row.name]) for run in self.runs],
        }

    def text(self) -> RenderableType:
        """To read: the runs, what differs from their recipe files, and the time."""
        return Group(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        yield self._table()
        if any(run.differences for run in self.runs):
            yield self._differences()
        if self.budget is not None:
            yield f"Budget {self.budget_name}: {self.budget.about}"
            total = "not known for these settings" if self.minutes is None else f"about {self.minutes:.0f} minutes"
            yield f"Training: {total}, {self.budget.source} on {self.budget.hardware}."

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
                formats.fixed(run.row.minutes, 1),
                run.recipe.model.weights,
                ", ".join(run.row.overrides) or formats.DASH,
            )
        return table

    def _differences(self) -> Table:
        named = "the recipes" if self.suite is None else f"the {self.suite.name} configuration"
        table = shared.create_table(f"What differs from {named}", ["recipe", "setting", "here", "there"], [])
        for run in self.runs:
            for found in run.differences if run.seed == 0 else ():
                table.add_row(run.recipe.name, found.key, formats.setting(found.ours), formats.setting(found.published))
        return table

    def _parameters(self) -> dict[str, int]:
        """Row -> number of its network's parameters, for seven classes."""
        return {run.row.name: _count(run.recipe) for run in self.runs if run.seed == 0}


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
        "differences": [{"key": each.key, "here": each.ours, "there": each.published} for each in run.differences],
    }


def _count(recipe: Recipe) -> int:
    with torch.random.fork_rng(devices=[]):
        classifier = create_classifier(recipe.model, votes=recipe.votes_outputs(), load_weights=False)
    return sum(parameter.numel() for parameter in classifier.parameters())
