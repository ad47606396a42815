"""Stored predictions side by side: figures with intervals, and every pair tested. No network is needed.

What belongs together is kept together: runs of one recipe that differ in the seed alone are one entry, and differences
between such entries are claims about recipes. Everything else is a claim about the files alone, and is called that.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import CallError, DataError
from mien.evaluation.facts import Report
from mien.evaluation.metrics import METRICS
from mien.evaluation.predict import Predictions, load_predictions
from mien.evaluation.robustness import stored_card
from mien.evaluation.significance import (
    Effect,
    bootstrap_intervals,
    holm,
    paired_bootstrap,
    picture_effect,
    recipe_effect,
)
from mien.evaluation.wording import SPACE, common_split, percent, spelled
from mien.runs import Run, load_run

SIGNIFICANT = 0.05

ARITHMETIC = {"checkpoint_minutes", "channels_last", "compile", "precision"}
"""Settings of ``training`` that change speed, not the experiment."""


@dataclass(frozen=True)
class Entry:
    """Predictions of one recipe or of one file.

    Attributes:
        name: on the page.
        seeds: of the runs, increasing; empty for a file.
        predictions: one for each seed, or the file's; on the same pictures in the order of their rows.
    """

    name: str
    seeds: tuple[int, ...]
    predictions: tuple[Predictions, ...]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right: ``(k, N)``."""
        return np.stack([each.probabilities.argmax(1) == each.label for each in self.predictions])

    def figures(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """Metric -> mean over the seeds, and the bootstrap interval of the first seed, moved to that mean."""
        found = {}
        bounds = bootstrap_intervals(self.predictions[0].label, self.predictions[0].probabilities)
        for name, metric in METRICS.items():
            values = [metric(each.label, each.probabilities) for each in self.predictions]
            low, high = bounds[name]
            moved = float(np.mean(values)) - values[0]
            found[name] = (float(np.mean(values)), (low + moved, high + moved))
        return found


@dataclass(frozen=True)
class Pair:
    """Two entries and their difference.

    Attributes:
        one: name of the entry with the higher accuracy.
        other: name of the other.
        effect: accuracy of ``one`` minus that of ``other``.
        adjusted: p-value after Holm's correction over all pairs.
    """

    one: str
    other: str
    effect: Effect
    adjusted: float

    @property
    def about_recipes(self) -> bool:
        """Whether several seeds stand behind it; else it speaks of the files alone."""
        return self.effect.seeds > 1

    @property
    def is_shown(self) -> bool:
        """Whether the two are distinguishable among all pairs of the comparison."""
        return self.adjusted < SIGNIFICANT and self.effect.is_shown

    def words(self) -> str:
        """``resnet against cnn: +1.2 points, 95 % interval +0.1 to +2.3, five seeds: shown``."""
        return f"{self.one} against {self.other}: {effect_words(self.effect, self.is_shown)}"


def effect_words(effect: Effect, is_shown: bool | None = None) -> str:
    """``+0.3 points, 95 % interval -0.9 to +1.5, five seeds: no effect shown``."""
    low, high = (f"{100 * bound:+.1f}" for bound in effect.interval)
    behind = f"{spelled(effect.seeds)} seeds" if effect.seeds > 1 else "one file each"
    shown = effect.is_shown if is_shown is None else is_shown
    verdict = ("shown" if effect.seeds > 1 else "shown for these files only") if shown else "no effect shown"
    return f"{100 * effect.difference:+.1f} points, 95{SPACE}% interval {low} to {high}, {behind}: {verdict}"


def load_entries(paths: Sequence[Path], split: str | None = None) -> tuple[str, list[Entry]]:
    """Entries of run directories and prediction files, all on the same pictures.

    Args:
        paths: runs (folders with ``report.json`` and ``predictions/``) and npz files, ours or another tool's. Runs are
            called by their recipe; where runs of one recipe differ in more than the seed, by their folder, as is one
            without a seed (an ensemble).
        split: of the runs; by default the most final that all of them have, or the one whose pictures the files hold.

    Returns:
        name of the split, or ``file`` where there are only files, and the entries.

    Raises:
        CallError: two paths of the same name, two runs that differ in nothing, or fewer than one path.
        MissingPathError: no such path.
        RunError: a folder that holds no finished run, or a damaged one, or runs that share no split.
        DataError: a file that holds no predictions, or of other pictures or labels than the rest.
    """
    if not paths:
        raise CallError("expected runs or npz files to compare, came none")
    files = [(str(path), load_predictions(path)) for path in paths if not path.is_dir()]
    runs = _named_runs(paths)
    chosen = split or (common_split([report for _, _, report in runs]) if runs else "file")
    entries: dict[str, tuple[list[int], list[Predictions]]] = {}
    for name, run, report in runs:
        predictions, seed = load_predictions(run.predictions_path(chosen)), report.get("seed")
        if seed is None:
            files.append((name, predictions))
            continue
        seeds, stored = entries.setdefault(name, ([], []))
        if seed in seeds:
            raise CallError(f"{run.path}: recipe {report['recipe']} with seed {seed} came twice")
        seeds.append(int(seed))
        stored.append(predictions)
    for name, predictions in files:
        if name in entries:
            raise CallError(f"{name} came twice")
        entries[name] = ([], [predictions])
    made = [_entry(name, seeds, stored) for name, (seeds, stored) in entries.items()]
    _check_same_pictures(made)
    return chosen, made


def load_cards(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Robustness cards by name of the entry, of its first run that has one.

    Raises:
        DataError: a card is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, run, _ in _named_runs(paths):
        if (card := stored_card(run.path)) is not None:
            found.setdefault(name, card)
    return found


def _named_runs(paths: Sequence[Path]) -> list[tuple[str, Run, Report]]:
    """The runs among the paths, each with the name of its entry, which runs share that differ in the seed alone."""
    runs = [load_run(path) for path in paths if path.is_dir()]
    found = [(run, report, _all_but_the_seed(run, report)) for run in runs for report in [run.report()]]
    kinds: dict[str, dict[str, list[Path]]] = {}
    for run, report, kind in found:
        kinds.setdefault(str(report["recipe"]), {}).setdefault(kind, []).append(run.path)
    named: list[tuple[str, Run, Report]] = []
    for run, report, kind in found:
        name = str(report["recipe"])
        of_recipe = kinds[name]
        if report.get("seed") is None or (len(of_recipe) > 1 and len(of_recipe[kind]) == 1):
            name = str(run.path)
        elif len(of_recipe) > 1:
            name = str(of_recipe[kind][0].parent / name)
        named.append((name, run, report))
    return named


def _all_but_the_seed(run: Run, report: Report) -> str:
    """Everything that makes answers differ, as text: settings, a file or a checkpoint, and how many views."""
    settings = run.settings()
    settings.pop("seed", None)
    settings["training"] = {key: value for key, value in settings.get("training", {}).items() if key not in ARITHMETIC}
    views = sorted({found.get("views", 1) for found in report["results"].values()})
    return json.dumps([settings, "sha256" in report, views], sort_keys=True)


def _entry(name: str, seeds: list[int], stored: list[Predictions]) -> Entry:
    """With predictions in the order of their rows, and seeds in theirs."""
    by_row = [_by_row(each) for each in stored]
    order = sorted(range(len(seeds)), key=lambda at: seeds[at]) or [0]
    return Entry(name, tuple(sorted(seeds)), tuple(by_row[at] for at in order))


def _by_row(predictions: Predictions) -> Predictions:
    order = np.argsort(predictions.row)
    return Predictions(predictions.row[order], predictions.label[order], predictions.probabilities[order])


def _check_same_pictures(entries: Sequence[Entry]) -> None:
    """Refuse to compare answers to different questions.

    Raises:
        DataError: rows or labels differ; names the entry and a row.
    """
    first = entries[0].predictions[0]
    for entry in entries:
        for predictions in entry.predictions:
            if len(predictions) != len(first) or (predictions.row != first.row).any():
                more, fewer = np.setdiff1d(predictions.row, first.row), np.setdiff1d(first.row, predictions.row)
                examples = [*(f"row {row} is new" for row in more[:1]), *(f"row {row} is missing" for row in fewer[:1])]
                raise DataError(
                    f"{entry.name}: expected the {len(first)} rows of {entries[0].name}, came {len(predictions)}"
                    f" ({len(more)} others, {len(fewer)} missing: {', '.join(examples)}); compare the same pictures"
                )
            if (predictions.label != first.label).any():
                row = int(predictions.row[predictions.label != first.label][0])
                raise DataError(
                    f"{entry.name}: its labels differ from those of {entries[0].name}, first in row {row};"
                    f" labels are numbers in mien's order, 0 angry to 6 neutral"
                )


def compare(entries: Sequence[Entry]) -> list[Pair]:
    """Every pair of entries, the better first, with p-values adjusted over all of them."""
    ranked = sorted(entries, key=lambda entry: -float(entry.right.mean()))
    pairs = [(one, other, effect_of([(1, one), (-1, other)])) for one, other in combinations(ranked, 2)]
    adjusted = holm([effect.p_value for _, _, effect in pairs])
    return [
        Pair(one.name, other.name, effect, p_value)
        for (one, other, effect), p_value in zip(pairs, adjusted, strict=True)
    ]


def effect_of(parts: Sequence[tuple[float, Entry]]) -> Effect:
    """A weighted sum of entries' accuracies: of recipes over the seeds that all share, where there are two or more.

    Else it is one of single files alone: those of a seed that all share, or each entry's first.
    """
    shared = sorted(set.intersection(*(set(entry.seeds) for _, entry in parts)))
    if len(shared) >= 2:
        return recipe_effect(np.sum([weight * _right(entry, shared) for weight, entry in parts], axis=0))
    files = [(weight, _right(entry, shared)[0]) for weight, entry in parts]
    if [weight for weight, _ in files] == [1, -1]:
        return paired_bootstrap(files[0][1], files[1][1])
    return picture_effect(np.sum([weight * right for weight, right in files], axis=0))


def _right(entry: Entry, seeds: Sequence[int]) -> NDArray[np.bool_]:
    """Which answers of these seeds are right, ``(k, N)``; of all of the entry's files where none is named."""
    return entry.right[[entry.seeds.index(seed) for seed in seeds]] if seeds else entry.right


def comparison_words(entries: Sequence[Entry], pairs: Sequence[Pair]) -> list[str]:
    """The comparison in sentences: who comes first, and from whom that is distinguishable."""
    ranked = sorted(entries, key=lambda entry: -float(entry.right.mean()))
    best = ranked[0]
    first = f"{best.name} is right about {percent(float(best.right.mean()))} of {len(best.predictions[0]):,} pictures."
    against = [pair for pair in pairs if pair.one == best.name]
    level = [pair.other for pair in against if not pair.is_shown]
    if not against:
        return [first]
    if not level:
        second = f"It is distinguishable from {'all others' if len(against) > 1 else 'the other'}."
    elif len(level) == len(against):
        second = f"It is not distinguishable from {'any other' if len(against) > 1 else 'the other'}."
    else:
        second = f"It is not distinguishable from {', '.join(level)}."
    return [f"{first} {second}", *(pair.words() + "." for pair in pairs)]


def comparison_rows(split: str, entries: Sequence[Entry], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The comparison as JSON values; rates and differences are fractions."""
    return {
        "split": split,
        "n": len(entries[0].predictions[0]),
        "entries": [
            {
                "name": entry.name,
                "seeds": list(entry.seeds),
                **{name: {"value": value, "ci95": list(bounds)} for name, (value, bounds) in entry.figures().items()},
            }
            for entry in sorted(entries, key=lambda entry: -float(entry.right.mean()))
        ],
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
