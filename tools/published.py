"""Runs under ``results/``: how a finished run comes there, and what several of them say together."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mien.errors import RunError
from mien.evaluation.compare import Entry, load_entries
from mien.evaluation.predictions import HALVES
from mien.files import write_text
from mien.recipe import load_recipe
from mien.runs import Report, Run, SplitResult, Subset, load_report, load_run
from mien.study.comparison import ComparedRow
from mien.study.effects import SettingEffect, setting_effects

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
ASSETS = ROOT / "src" / "mien" / "face" / "assets"

KEPT = ("recipe.toml", "report.json", "metrics.jsonl", "looks.jsonl", "robustness.json")
"""Weights, optimizer state and pages stay behind: pages can show faces, and follow from what is kept."""


@dataclass(frozen=True)
class PublishedRun:
    """A run below the folder of results.

    Attributes:
        study: name of the folder that it lies in.
        run: its directory.
        report: its ``report.json``.
    """

    study: str
    run: Run
    report: Report

    @property
    def name(self) -> str:
        """``study/run``."""
        return f"{self.study}/{self.run.path.name}"

    @cached_property
    def result(self) -> SplitResult:
        """The most final one: test images before validation."""
        return self.report.headline()

    @property
    def unseen(self) -> SplitResult | None:
        """The same on test images without an identical copy in Training."""
        return self.report.result(self.result.split, Subset.UNSEEN)

    @property
    def commands(self) -> list[str]:
        """Commands that trained it and that looked at its test images, in this order, each once."""
        return list(dict.fromkeys([str(self.report.command), *(look.command for look in self.run.looks())]))


def published_runs(results: Path = RESULTS) -> list[PublishedRun]:
    """Every run ``results/<study>/<run>``, by name."""
    folders = sorted((path.parent for path in results.glob("*/*/report.json")), key=lambda path: path.parts)
    return [PublishedRun(folder.parent.name, Run(folder), Run(folder).load_report()) for folder in folders]


def shipped() -> dict[str, Report]:
    """Name -> card of every network in the package."""
    return {path.stem: load_report(path) for path in sorted(ASSETS.glob("*.json"))}


def study_reports(study: Path) -> list[Report]:
    """Reports of the runs ``<recipe>-s<seed>`` in a folder: the rows of a study."""
    reports = [(path.parent.name, load_report(path)) for path in sorted(study.glob("*/report.json"))]
    return [report for name, report in reports if name == f"{report.recipe}-s{report.seed}"]


def anonymous(text: str) -> str:
    """Commands without the places of files on the machine where they ran; names below the project stay.

    Text of JSON or TOML stays readable as such: a quote in it may be escaped.
    """
    text = re.sub(r"--votes [^ \"'\\]+", "--votes fer2013new.csv", text)
    text = re.sub(r"(?<=\")[.~]{0,2}/(?!/)[^\"\\]*(?=\\?\")", "PATH", text)  # in double quotes, with spaces in it
    text = re.sub(r"'([^' \"]*[:=])?[.~]{0,2}/[^'\"]*'", r"'\1PATH'", text)  # in single quotes
    return re.sub(r"(?<=[ :='\"])[.~]{0,2}/(?!/)[^ \"'\\]*", "PATH", text)


def publish_run(run: Run, study: Path) -> Run:
    """Copy a finished run into the folder of a study: no paths, weights or pages, and no prediction twice.

    What stood there under its name is replaced.

    Raises:
        MissingPathError: there is no such run.
        RunError: it is not finished.
    """
    load_run(run.path).load_report()
    target = Run(study / run.path.name)
    kept = {name: (run.path / name).read_text(encoding="utf-8") for name in KEPT if (run.path / name).exists()}
    shutil.rmtree(target.path, ignore_errors=True)
    for name, text in kept.items():
        write_text(target.path / name, anonymous(text))
    if run.recipe_path.exists() and target.recipe_path.read_bytes() != run.recipe_path.read_bytes():
        # Without its paths the recipe has another hash.
        report = replace(target.load_report(), recipe_sha256=load_recipe(target.recipe_path).sha256())
        report.save(target.report_path)
    target.predictions_path("any").parent.mkdir()
    for path in sorted(run.predictions_path("any").parent.glob("*.npz")):
        halves = [path.with_name(f"{half}.npz") for half in HALVES.get(path.stem, ())]
        if not halves or not all(half.exists() for half in halves):
            shutil.copy(path, target.predictions_path(path.stem))
    return target


def single_effects(runs: Sequence[PublishedRun]) -> list[tuple[str, SettingEffect]]:
    """What single settings changed, over all studies of one protocol and one data set, and on which split.

    Exported files and ensembles are left out: the runs that they were made of are there.
    """
    families: dict[tuple[str, ...], list[PublishedRun]] = {}
    for each in runs:
        if each.report.sha256 is None and each.run.recipe_path.is_file():
            images = str(each.result.n)
            key = (each.result.split, images, str(each.report.protocol), str(each.report.data_sha256))
            families.setdefault(key, []).append(each)
    return [
        (split, found)
        for (split, *_), family in families.items()
        for found in setting_effects(*rows_and_entries(family, split))
    ]


def rows_and_entries(family: Sequence[PublishedRun], split: str) -> tuple[list[ComparedRow], dict[str, Entry]]:
    """Recipes are told apart by study too, since two studies may train one under different settings.

    Raises:
        RunError: the seeds of a row differ in more.
    """
    by_recipe: dict[str, list[PublishedRun]] = {}
    for each in sorted(family, key=lambda each: each.report.seed or 0):
        by_recipe.setdefault(f"{each.study}/{each.report.recipe}", []).append(each)
    rows, entries = [], {}
    for name, seeds in by_recipe.items():
        reports = tuple(replace(each.report, recipe=name) for each in seeds)
        rows.append(ComparedRow(name, tuple(each.run for each in seeds), reports, split))
        entries[name], *others = load_entries([each.run.path for each in seeds], split)[1]
        if others:
            raise RunError(f"{name}: expected seeds of equal settings, got others; publish them under another name")
    return rows, entries
