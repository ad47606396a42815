"""Published runs -> pages in Markdown: figures and how they were made, and what single settings changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import RunError
from mien.evaluation.compare import Entry, load_entries
from mien.evaluation.facts import INITIALIZATIONS, Report, looks
from mien.evaluation.pages import render_page
from mien.evaluation.wording import energy, headline_split, is_test, split_title, unseen_of, views_of
from mien.runs import Run
from mien.study.comparison import ComparedRow
from mien.study.effects import SettingEffect, setting_effects

SPEED = "speed.svg"
"""The figure of speed against accuracy in the folder of results."""


@dataclass(frozen=True)
class PublishedRun:
    """A run below the folder of results.

    Attributes:
        study: name of the folder that it lies in.
        run: its directory.
        report: content of its ``report.json``.
    """

    study: str
    run: Run
    report: Report

    @property
    def name(self) -> str:
        """``study/run``."""
        return f"{self.study}/{self.run.path.name}"

    @property
    def split(self) -> str:
        """The most final one that it has figures of."""
        return headline_split(self.report)

    @property
    def views(self) -> int:
        """Of each face at test time that its figures on ``split`` are averages over."""
        return views_of(self.report, self.split)

    @property
    def test(self) -> dict[str, Any] | None:
        """Figures of its test pictures, if it has any."""
        return self.report["results"][self.split] if is_test(self.split) else None

    @property
    def unseen(self) -> dict[str, Any] | None:
        """Of those without an identical copy in Training."""
        return unseen_of(self.report, self.split)

    @property
    def commands(self) -> list[str]:
        """That trained it and that looked at its test pictures, in this order, each once."""
        return list(dict.fromkeys([self.report["command"], *(look["command"] for look in looks(self.run))]))


def published_runs(results: Path) -> list[PublishedRun]:
    """Every run ``results/<study>/<run>``, by name."""
    folders = sorted((path.parent for path in results.glob("*/*/report.json")), key=lambda path: path.parts)
    return [PublishedRun(folder.parent.name, Run(folder), Run(folder).report()) for folder in folders]


def results_pages(results: Path, *, notes: str = "", ablation_notes: str = "") -> dict[str, str]:
    """``README.md``, every run below ``results``, and ``ablations.md``, what single settings changed, in Markdown.

    Args:
        results: holds ``<study>/<run>/`` with reports, predictions and pages.
        notes: Markdown that stands below the tables of the first.
        ablation_notes: likewise of the second.

    Raises:
        RunError: a report is damaged.
        MissingExtraError: jinja2 is not installed.
    """
    runs = published_runs(results)
    values = {
        "runs": runs,
        "studies": [path.parent.name for path in sorted(results.glob("*/index.html"))],
        "effects": single_effects(runs),
        "initializations": INITIALIZATIONS,
        "split_title": split_title,
        "energy": energy,
        "has_speed": (results / SPEED).exists(),
    }
    packages = ("mien.study", "mien.evaluation")
    return {
        "README.md": render_page("results.md.j2", {**values, "notes": notes}, packages=packages),
        "ablations.md": render_page("ablations.md.j2", {**values, "notes": ablation_notes}, packages=packages),
    }


def single_effects(runs: Sequence[PublishedRun]) -> list[tuple[str, SettingEffect]]:
    """What single settings changed, over all studies of one protocol and one data set, and on which pictures.

    Exported files and ensembles are left out: the runs that they were made of are there.
    """
    families: dict[tuple[str, ...], list[PublishedRun]] = {}
    for each in runs:
        if "sha256" not in each.report and each.run.recipe_path.is_file():
            pictures = str(each.report["results"][each.split]["n"])
            key = (each.split, pictures, each.report["protocol"], each.report["data_sha256"])
            families.setdefault(key, []).append(each)
    return [
        (split, found) for (split, *_), family in families.items() for found in setting_effects(*_rows(family, split))
    ]


def _rows(family: Sequence[PublishedRun], split: str) -> tuple[list[ComparedRow], dict[str, Entry]]:
    """Recipes are told apart by study too, since two studies may train one under different settings."""
    by_recipe: dict[str, list[PublishedRun]] = {}
    for each in sorted(family, key=lambda each: int(each.report["seed"])):
        by_recipe.setdefault(f"{each.study}/{each.report['recipe']}", []).append(each)
    rows, entries = [], {}
    for name, seeds in by_recipe.items():
        reports = tuple({**each.report, "recipe": name} for each in seeds)
        rows.append(ComparedRow(name, tuple(each.run for each in seeds), reports, split))
        entries[name], *others = load_entries([each.run.path for each in seeds], split)[1]
        if others:
            raise RunError(f"the seeds of {name} differ in other settings too; publish them under another name")
    return rows, entries
