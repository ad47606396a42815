"""In what a run differs from the published configuration of its model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mien.evaluation.compare import ARITHMETIC
from mien.evaluation.facts import INITIALIZATIONS
from mien.recipe import Recipe, load_recipe
from mien.runs import Run
from mien.study.suites import find_recipe

IN_WORDS = {
    "model.name": "model {} (published {})",
    "model.input_size": "input {} px (published {})",
    "model.weights": "{} (published {})",
    "training.epochs": "{} epochs (published {})",
    "data.protocol": "protocol {} (published {})",
}
"""Settings that a reader asks for first, in this order; others are named by their key."""


@dataclass(frozen=True)
class Deviation:
    """A setting that is not as published.

    Attributes:
        key: such as ``model.input_size``.
        words: both values, for a page.
    """

    key: str
    words: str

    @property
    def is_main(self) -> bool:
        """Whether it stands in the comparison table, not only below it."""
        return self.key in IN_WORDS


def deviations(run: Run, report: Mapping[str, Any], published: Mapping[str, Any]) -> tuple[Deviation, ...]:
    """Settings that are not as published, the main ones first.

    Args:
        run: its ``recipe.toml``, where it is there, is compared with ``recipes/published/<recipe>.toml``.
        report: says what was really done, such as the epochs until an early end.
        published: the row of the published table, with ``input_size`` and ``epochs``.
    """
    done = {
        "data.protocol": report["protocol"],
        "model.name": report["model"],
        "model.input_size": report["input_size"],
        "model.weights": report["initialization"],
        "training.epochs": report["epochs"],
    }
    ours = {**_run_settings(run), **done}
    theirs = {
        **flat_settings(load_recipe(find_recipe(f"published/{report['recipe']}"))),
        "model.input_size": published["input_size"],
        "training.epochs": published["epochs"],
    }
    keys = (*IN_WORDS, *sorted(ours.keys() - IN_WORDS.keys()))
    return tuple(_deviation(key, ours[key], theirs[key]) for key in keys if ours[key] != theirs[key])


def _deviation(key: str, ours: Any, theirs: Any) -> Deviation:
    if key == "model.weights":
        ours, theirs = (INITIALIZATIONS.get(value, value) for value in (ours, theirs))
    return Deviation(key, IN_WORDS.get(key, f"{key} {{}} (published {{}})").format(_said(ours), _said(theirs)))


def _said(value: Any) -> str:
    return "default" if value is None else str(value)


def _run_settings(run: Run) -> dict[str, Any]:
    return flat_settings(load_recipe(run.recipe_path)) if run.recipe_path.exists() else {}


def flat_settings(recipe: Recipe) -> dict[str, Any]:
    """``{"model.input_size": 128, ...}`` without the name, the seed and what only changes the speed."""
    return {
        f"{section}.{key}": value
        for section, values in recipe.model_dump(exclude={"name", "seed"}).items()
        for key, value in values.items()
        if key not in ARITHMETIC
    }
