"""Stored predictions side by side: metrics with intervals, and every pair tested. No network is needed.

What belongs together is kept together: runs of one recipe that differ in the seed alone are one entry, and differences
between such entries are claims about recipes. Everything else is a claim about the files alone, and is called that.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import errors, runs
from mien.evaluation import significance
from mien.evaluation.majority import Majority, always, majority_class
from mien.evaluation.metrics import METRICS
from mien.evaluation.people import People, people_of
from mien.evaluation.predictions import Predictions, load_predictions, load_split_predictions
from mien.evaluation.robustness import RobustnessReport, load_robustness
from mien.runs.report import common_split

SIGNIFICANT = 0.05

ARITHMETIC = {"checkpoint_minutes", "channels_last", "compile", "cuda_graphs", "precision"}
"""Settings of ``training`` that change speed, not the experiment."""


@dataclass(frozen=True)
class Entry:
    """Predictions of one recipe or of one file.

    Attributes:
        name: in tables.
        seeds: of the runs, increasing; empty for a file.
        predictions: one for each seed, or the file's; on the same images in the order of their rows.
        robustness: of the first run that has such a report.
        most_frequent: class of what the first run was trained on, where that is known.
    """

    name: str
    seeds: tuple[int, ...]
    predictions: tuple[Predictions, ...]
    robustness: RobustnessReport | None = None
    most_frequent: str | None = None

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Which answers are correct: ``(k, N)``."""
        return np.stack([each.probabilities.argmax(1) == each.label for each in self.predictions])

    @cached_property
    def people(self) -> People | None:
        """Whom the images show, where the predictions tell that."""
        return people_of(self.predictions[0].group)

    @property
    def accuracy(self) -> float:
        """Mean over the seeds, in [0, 1]."""
        return float(self.correct.mean())

    @cached_property
    def metrics(self) -> Mapping[str, runs.Estimate]:
        """Name of a metric -> its mean over the seeds, with its interval: of the accuracy Wilson's, as everywhere.

        Others have the bootstrap interval of the first seed, moved to the mean, or none where there are too few people.
        All are by subject where that is told.
        """
        found: dict[str, runs.Estimate] = {}
        first, people = self.predictions[0], self.people
        bounds = significance.bootstrap_intervals(first.label, first.probabilities, people=people)
        for name, metric in METRICS.items():
            values = [metric(each.label, each.probabilities) for each in self.predictions]
            mean = float(np.mean(values))
            moved = None if name not in bounds else (bounds[name] + (mean - values[0])).tolist()
            found[name] = runs.Estimate(mean, None if moved is None else (moved[0], moved[1]))
        interval = significance.accuracy_interval(self.correct.mean(0), people)
        found["accuracy"] = runs.Estimate(self.accuracy, interval)
        return found


@dataclass(frozen=True)
class Pair:
    """Two entries, called by their names, the one with the higher accuracy first.

    Attributes:
        effect: accuracy of ``one`` minus that of ``other``.
        adjusted: p-value after Holm's correction over all pairs.
    """

    one: str
    other: str
    effect: significance.Effect
    adjusted: float

    @property
    def about_recipes(self) -> bool:
        """Whether several seeds stand behind it; else it speaks of the files alone."""
        return self.effect.seeds > 1

    @property
    def is_shown(self) -> bool:
        """Whether the two are distinguishable among all pairs of the comparison."""
        return self.adjusted < SIGNIFICANT and self.effect.is_shown


def load_entries(paths: Sequence[Path], split: str | None = None) -> tuple[str, list[Entry]]:
    """Entries of run directories and prediction files, all on the same images.

    Args:
        paths: runs (folders with ``report.json`` and ``predictions/``) and npz files, ours or another tool's. Runs are
            called by their recipe; where runs of one recipe differ in more than the seed, by their folder, as is one
            without a seed (an ensemble).
        split: of the runs; by default the most final that all of them have, or the one whose images the files hold.

    Returns:
        name of the split, or ``file`` where there are only files, and the entries.

    Raises:
        CallError: two paths of the same name, two runs that differ in nothing, or no path.
        MissingPathError: no such path.
        RunError: a folder that holds no finished run, or a damaged one, or runs that share no split.
        DataError: a file that holds no predictions, or of other images or labels than the rest; or a damaged
            robustness report.
    """
    if not paths:
        raise errors.CallError("expected runs or npz files to compare, got none")
    files = [(str(path), load_predictions(path)) for path in paths if not path.is_dir()]
    named = named_runs([runs.load_run(path) for path in paths if path.is_dir()])
    chosen = split or (common_split([report for _, _, report in named]) if named else "file")
    stored: dict[str, dict[int | None, Predictions]] = {}
    robustness: dict[str, RobustnessReport] = {}
    most_frequent = {name: majority_class(report) for name, _, report in reversed(named)}
    for name, run, report in named:
        of_seeds = stored.setdefault(name, {})
        if report.seed in of_seeds:
            raise errors.CallError(
                f"expected each run once, got recipe {report.recipe} with seed {report.seed} twice: {run.path}"
            )
        of_seeds[report.seed] = load_split_predictions(run, chosen)
        if (found := load_robustness(run.path)) is not None:
            robustness.setdefault(name, found)
    for name, predictions in files:
        if name in stored:
            raise errors.CallError(f"expected each file once, got {name} twice")
        stored[name] = {None: predictions}
    entries = []
    for name, of_seeds in stored.items():
        seeds = tuple(sorted(seed for seed in of_seeds if seed is not None))
        in_order = [of_seeds[seed] for seed in seeds or (None,)]
        by_row = tuple(each.subset(np.argsort(each.row)) for each in in_order)
        entries.append(Entry(name, seeds, by_row, robustness.get(name), most_frequent.get(name)))
    _check_same_images(entries)
    return chosen, _sharing_groups(entries)


def _sharing_groups(entries: Sequence[Entry]) -> list[Entry]:
    """The same entries, all with the subjects that any of them tells: they are of the same images."""
    told = next((found.group for each in entries for found in each.predictions if found.group is not None), None)
    if told is None:
        return list(entries)
    return [
        replace(each, predictions=tuple(replace(found, group=told) for found in each.predictions)) for each in entries
    ]


def named_runs(found: Sequence[runs.Run]) -> list[tuple[str, runs.Run, runs.Report]]:
    """The runs, each with the name of its entry, which runs share that differ in the seed alone."""
    loaded = [(run, run.load_report()) for run in found]
    of_kind = [(run, report, _all_but_the_seed(run, report)) for run, report in loaded]
    kinds: dict[str, dict[str, list[Path]]] = {}
    for run, report, kind in of_kind:
        kinds.setdefault(report.recipe, {}).setdefault(kind, []).append(run.path)
    named: list[tuple[str, runs.Run, runs.Report]] = []
    for run, report, kind in of_kind:
        name, of_recipe = report.recipe, kinds[report.recipe]
        if report.seed is None or (len(of_recipe) > 1 and len(of_recipe[kind]) == 1):
            name = str(run.path)
        elif len(of_recipe) > 1:
            name = str(of_recipe[kind][0].parent / name)
        named.append((name, run, report))
    return named


def _all_but_the_seed(run: runs.Run, report: runs.Report) -> str:
    """Everything that makes answers differ, as text: settings, a file or a checkpoint, and how many views."""
    settings = run.settings()
    settings.pop("seed", None)
    settings["training"] = {key: value for key, value in settings.get("training", {}).items() if key not in ARITHMETIC}
    views = sorted({found.views for found in report.results})
    return json.dumps([settings, report.sha256 is not None, views], sort_keys=True)


def always_most_frequent(entries: Sequence[Entry]) -> Majority:
    """Training's most frequent class as the answer to these images; of files alone the images' own."""
    name = next((entry.most_frequent for entry in entries if entry.most_frequent is not None), None)
    first, people = entries[0].predictions[0], entries[0].people
    found = always(name, np.bincount(first.label, minlength=len(first.classes)), first.classes)
    if people is None:
        return found
    interval = significance.accuracy_interval(first.label == first.classes.index(found.name), people)
    return replace(found, accuracy=runs.Estimate(found.accuracy.value, interval))


def _check_same_images(entries: Sequence[Entry]) -> None:
    """Refuse to compare answers to different questions.

    Raises:
        DataError: classes, rows or labels differ; names the entry and a row.
    """
    first = entries[0].predictions[0]
    for entry, found in ((each, predictions) for each in entries for predictions in each.predictions):
        if found.classes != first.classes:
            raise errors.DataError(
                f"{entry.name}: expected the classes of {entries[0].name}, {', '.join(first.classes)}, got"
                f" {', '.join(found.classes)}; compare networks that name the same"
            )
        if not np.array_equal(found.row, first.row):
            more, fewer = np.setdiff1d(found.row, first.row), np.setdiff1d(first.row, found.row)
            examples = [*(f"row {row} is new" for row in more[:1]), *(f"row {row} is missing" for row in fewer[:1])]
            raise errors.DataError(
                f"{entry.name}: expected the {len(first)} rows of {entries[0].name}, got {len(found)}"
                f" ({len(more)} others, {len(fewer)} missing: {', '.join(examples)}); compare the same images"
            )
        if (found.label != first.label).any():
            raise errors.DataError(
                f"{entry.name}: expected the labels of {entries[0].name}, got others, first in row"
                f" {found.row[found.label != first.label][0]};"
                f" give labels as numbers in mien's order, 0 {first.classes[0]} to {len(first.classes) - 1}"
                f" {first.classes[-1]}"
            )


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, the highest accuracy first."""
    return sorted(entries, key=lambda entry: -entry.accuracy)


def compare(entries: Sequence[Entry]) -> list[Pair]:
    """Every pair of entries, the better first, with p-values adjusted over all of them."""
    pairs = list(combinations(ranked(entries), 2))
    effects = [effect_of([(1, one), (-1, other)]) for one, other in pairs]
    adjusted = significance.holm([effect.p_value for effect in effects])
    return [
        Pair(one.name, other.name, effect, p_value)
        for (one, other), effect, p_value in zip(pairs, effects, adjusted, strict=True)
    ]


def effect_of(parts: Sequence[tuple[float, Entry]]) -> significance.Effect:
    """A weighted sum of entries' accuracies: of recipes over the seeds that all share, where there are two or more.

    Else it is one of single files alone: those of a seed that all share, or each entry's first.
    """
    shared = sorted(set.intersection(*(set(entry.seeds) for _, entry in parts)))
    people = parts[0][1].people
    if len(shared) >= 2:
        contrast = np.sum([weight * _correct(entry, shared) for weight, entry in parts], axis=0)
        return significance.recipe_effect(contrast, people=people)
    files = [(weight, _correct(entry, shared)[0]) for weight, entry in parts]
    if people is not None:
        return significance.people_effect(np.sum([weight * correct for weight, correct in files], axis=0), people)
    if [weight for weight, _ in files] == [1, -1]:
        return significance.paired_bootstrap(files[0][1], files[1][1])
    return significance.picture_effect(np.sum([weight * correct for weight, correct in files], axis=0))


def _correct(entry: Entry, seeds: Sequence[int]) -> NDArray[np.bool_]:
    """Which answers of these seeds are correct, ``(k, N)``; of all of the entry's files where none is named."""
    return entry.correct[[entry.seeds.index(seed) for seed in seeds]] if seeds else entry.correct


def comparison_rows(split: str, entries: Sequence[Entry], pairs: Sequence[Pair]) -> dict[str, object]:
    """The comparison as JSON values, the best entry first; rates and differences are fractions."""
    majority, people = always_most_frequent(entries), entries[0].people
    return {
        "split": split,
        "n": len(entries[0].predictions[0]),
        **({} if people is None else {"subjects": people.count}),
        "entries": [
            {
                "name": entry.name,
                "seeds": list(entry.seeds),
                **{name: {"value": each.value, "ci95": each.ci95} for name, each in entry.metrics.items()},
            }
            for entry in ranked(entries)
        ],
        "always": {
            "class": majority.name,
            "of_training": majority.of_training,
            "accuracy": {"value": majority.accuracy.value, "ci95": majority.accuracy.ci95},
            "macro_f1": {"value": majority.macro_f1.value},
        },
        "pairs": [
            {
                "one": pair.one,
                "other": pair.other,
                "difference": pair.effect.difference,
                "ci95": list(pair.effect.interval),
                "p_value": pair.effect.p_value,
                "p_value_holm": pair.adjusted,
                "seeds": pair.effect.seeds,
                "about": "recipes" if pair.about_recipes else "these files only",
                "distinguishable": pair.is_shown,
            }
            for pair in pairs
        ],
    }
