"""The tries of a search -> the one that is chosen on validation, and what its accuracy is worth after choosing.

Every try in the study's folder counts, that of an earlier call and one that was stopped early too: each could have been
the one that looked best by chance. The interval allows for the choice among the tries and not for that of the epoch
within each, which is made on the same images where the best epoch's weights are kept: then it is a little too high.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from mien.data import Split
from mien.errors import RunExistsError
from mien.evaluation import compare as comparisons
from mien.evaluation.significance import LEVEL, interval_of
from mien.recipe import Recipe, load_recipe
from mien.runs import MetricRow, Report, Run, SplitResult
from mien.runs.report import common_split, is_test
from mien.study.folder import SearchRecord, search_record
from mien.study.grid import settings_sha256


@dataclass(frozen=True)
class TriedRun:
    """One training of a try: its report where it was trained to the end, and the rows of its epochs."""

    run: Run
    report: Report | None
    metrics: tuple[MetricRow, ...]

    @property
    def curve(self) -> tuple[float, ...]:
        """Validation accuracy by epoch."""
        return self._values("validation", "accuracy")

    @property
    def validated(self) -> float | None:
        """Validation accuracy of the weights that were kept, where it was trained to the end."""
        result = None if self.report is None else self.report.result(Split.VALIDATION)
        return None if result is None else result.accuracy.value

    def seconds(self, pictures: int) -> float:
        """Of training; where that is not over, of so many ``pictures`` an epoch at the speed of each."""
        if self.report is not None and self.report.train_seconds is not None:
            return self.report.train_seconds
        return sum(pictures / speed for speed in self._values("training", "pictures_per_second"))

    def _values(self, split: str, name: str) -> tuple[float, ...]:
        rows = [row for row in self.metrics if (row.split, row.name) == (split, name)]
        return tuple(row.value for row in sorted(rows, key=lambda row: row.epoch))


@dataclass(frozen=True)
class Try:
    """One combination of settings: the recipe of its first seed, and its runs, those that were stopped early too."""

    recipe: Recipe
    tried: tuple[TriedRun, ...]

    @property
    def name(self) -> str:
        """The recipe's."""
        return self.recipe.name

    @property
    def runs(self) -> tuple[Run, ...]:
        """By seed."""
        return tuple(each.run for each in self.tried)

    @property
    def reports(self) -> tuple[Report, ...]:
        """Of the runs that were trained to the end."""
        return tuple(each.report for each in self.tried if each.report is not None)

    @property
    def is_finished(self) -> bool:
        """Whether all its runs were trained to the end."""
        return len(self.reports) == len(self.tried)

    @property
    def epochs(self) -> int:
        """Epochs that all runs have done."""
        return min(len(each.curve) for each in self.tried)

    @property
    def accuracy(self) -> float | None:
        """On validation, mean over the seeds: of the weights that were kept, or the highest until it was stopped."""
        if self.is_finished:
            return fmean(accuracy for each in self.tried if (accuracy := each.validated) is not None)
        return self.accuracy_after(self.epochs)

    def accuracy_after(self, epochs: int) -> float | None:
        """The highest validation accuracy within so many epochs, mean over the seeds.

        ``None`` before the first epoch, or where a run broke off before so many.
        """
        if epochs == 0 or not all(each.report or len(each.curve) >= epochs for each in self.tried):
            return None
        found = [max(each.curve[:epochs], default=each.validated) for each in self.tried]
        known = [accuracy for accuracy in found if accuracy is not None]
        return fmean(known) if len(known) == len(found) else None

    @cached_property
    def looks(self) -> int:
        """How often its runs were evaluated on test images, all splits of one evaluation together."""
        return sum(len({(look.when, look.command) for look in run.looks()}) for run in self.runs)

    @cached_property
    def results(self) -> list[SplitResult]:
        """On validation, of the seeds that were trained to the end."""
        return [found for report in self.reports if (found := report.result(Split.VALIDATION)) is not None]

    @cached_property
    def test(self) -> tuple[str, int, float] | None:
        """Split, number of images and accuracy on test images, mean over the seeds; ``None`` where one was not tested.

        Of several splits the most final, without images that were validated on.
        """
        split = common_split(self.reports) if self.reports else ""
        results = [result for report in self.reports if (result := report.result(split)) is not None]
        if not is_test(split) or not self.is_finished:
            return None
        return split, results[0].n, fmean(result.accuracy.value for result in results)


@dataclass(frozen=True)
class Search:
    """What was tried in a folder, and what is chosen of it.

    Attributes:
        recipe: name of the one that all tries vary.
        keys: that differ, or were given in a grid.
        seeds: of each try; one with fewer finished runs is not chosen.
        tries: in the order of their values.
        looks_before: evaluations on test images that were made before the last tries began.
    """

    recipe: str
    keys: tuple[str, ...]
    seeds: int
    tries: tuple[Try, ...]
    looks_before: int = 0

    @cached_property
    def candidates(self) -> tuple[Try, ...]:
        """Tries that can be chosen: trained to the end, with every seed."""
        return tuple(each for each in self.tries if each.is_finished and len(each.runs) >= self.seeds)

    @cached_property
    def chosen(self) -> Try | None:
        """The candidate with the highest validation accuracy, the first of equal ones."""
        return max(self.candidates, key=lambda each: each.accuracy or 0.0, default=None)

    @property
    def trainings(self) -> int:
        """Runs of all tries."""
        return sum(len(each.runs) for each in self.tries)

    @property
    def stopped(self) -> tuple[Try, ...]:
        """Tries that were begun and not trained to the end."""
        return tuple(each for each in self.tries if not each.is_finished)

    @cached_property
    def n(self) -> int:
        """Validation images; 0 before a try has been trained to the end."""
        return next((result.n for each in self.tries for result in each.results), 0)

    @property
    def epoch_chosen(self) -> bool:
        """Whether a try's epoch was chosen on the validation images too, for which :meth:`interval` does not allow."""
        return any(each.recipe.training.weights == "best" for each in self.tries)

    def interval(self, found: Try) -> tuple[float, float] | None:
        """Interval of a try's validation accuracy, of all tries together (``significance.interval_of``).

        It does not allow for the choice of the epoch (:attr:`epoch_chosen`), nor for that of a stopped try's best one.
        """
        of_tries = [*found.results, *(result for each in self.tries for result in each.results)]
        if found.accuracy is None or not of_tries:  # a try that was stopped has an accuracy, and the others' images
            return None
        return interval_of(of_tries[0], found.accuracy, len(self.tries))

    @cached_property
    def level(self) -> Mapping[str, bool]:
        """Candidate but the chosen one -> whether the two cannot be told apart on the same validation images.

        Every pair of candidates is tested and adjusted (Holm), since any could have come first: McNemar's test with one
        seed, over seeds and images with several (``evaluation.significance``).
        """
        if self.chosen is None or len(self.candidates) < 2:
            return {}
        paths = [run.path for each in self.candidates for run in each.runs]
        pairs = comparisons.compare(comparisons.load_entries(paths, Split.VALIDATION)[1])
        told = {name: pair.is_shown for pair in pairs for name in (pair.one, pair.other)
                if self.chosen.name in (pair.one, pair.other) and name != self.chosen.name}  # fmt: skip
        return {name: not is_shown for name, is_shown in told.items()}

    def values(self, found: Try) -> tuple[object, ...]:
        """A try's value of each key."""
        flat = found.recipe.flat()
        return tuple(flat.get(key) for key in self.keys)

    def seconds(self, found: Try) -> float:
        """Of a try's training, its seeds together."""
        pictures = next((report.training_rows or 0 for each in self.tries for report in each.reports), 0)
        return sum(each.seconds(pictures) for each in found.tried)

    def shows(self, recipe: str) -> bool:
        """Whether pages tell all of a recipe: it is chosen, or no try; of other tries their own pages do."""
        return (self.chosen is not None and recipe == self.chosen.name) or all(
            recipe != each.name for each in self.tries
        )

    def record(self) -> SearchRecord:
        """What :func:`read_search` finds the search again by, under ``search`` in ``study.json``."""
        return SearchRecord(self.recipe, self.keys, self.seeds, self.looks_before)

    def content(self) -> dict[str, object]:
        """The record, and all that was found, once the search is over."""
        return {
            **self.record().content(),
            "chosen": None if self.chosen is None else self.chosen.name,
            "split": Split.VALIDATION.value,
            "n": self.n,
            "number_of_tries": len(self.tries),
            "confidence": LEVEL,
            "intervals": "simultaneous over all tries",
            "intervals_allow_for_choice_of_epoch": not self.epoch_chosen,
            "tries": [self._try_content(each) for each in self.tries],
        }

    def _try_content(self, found: Try) -> dict[str, object]:
        return {
            "name": found.name,
            "values": dict(zip(self.keys, self.values(found), strict=True)),
            "runs": [run.path.name for run in found.runs],
            "epochs": found.epochs,
            "finished": found.is_finished,
            "accuracy": found.accuracy,
            "ci95": self.interval(found),
            "train_seconds": self.seconds(found),
            "chosen": found == self.chosen,
            "level_with_chosen": self.level.get(found.name),
            "looks": found.looks,
        }


def find_tries(folder: Path, recipe: str) -> tuple[Try, ...]:
    """Every try in a folder: the runs whose recipe is called ``recipe``, or ``recipe-...``, by their settings.

    Raises:
        RunError: a run is damaged.
    """
    by_name: dict[str, list[tuple[Recipe, Run]]] = {}
    for path in sorted(folder.glob("*/recipe.toml")):
        found = load_recipe(path)
        if found.name == recipe or found.name.startswith(f"{recipe}-"):
            by_name.setdefault(found.name, []).append((found, Run(path.parent)))
    return tuple(_read_try(sorted(of_name, key=lambda pair: pair[0].seed)) for of_name in by_name.values())


def _read_try(found: Sequence[tuple[Recipe, Run]]) -> Try:
    tried = [
        TriedRun(run, run.load_report() if run.report_path.exists() else None, tuple(run.load_metrics()))
        for _, run in found
    ]
    return Try(found[0][0], tuple(tried))


def known_names(tries: Sequence[Try]) -> dict[str, str]:
    """Hash of a try's settings -> its name, for ``grid_rows``."""
    return {settings_sha256(each.recipe): each.name for each in tries}


def check_alike(folder: Path, recipe: Recipe, base: str, data_sha256: str) -> None:
    """Refuse a folder that holds another search, or tries on other validation images.

    Raises:
        RunExistsError: it does.
        RunError: it is damaged.
    """
    before = search_record(folder)
    if before is not None and before.recipe != base:
        raise RunExistsError(f"{folder}: expected a search of {base}, got one of {before.recipe}; choose another --out")
    for each in find_tries(folder, base):
        of_other_data = any(report.data_sha256 != data_sha256 for report in each.reports)
        if of_other_data or each.recipe.data != recipe.data:
            what = "data" if of_other_data else "splits"
            raise RunExistsError(
                f"{each.runs[0].path}: expected tries on the same validation images, got one of other {what};"
                " choose another --out"
            )


def summarize(folder: Path, recipe: str, keys: Sequence[str], seeds: int, looks_before: int = 0) -> Search:
    """The search of a folder as it stands; ``keys`` are those of the grid, others that differ are added."""
    tries = find_tries(folder, recipe)
    flats = [each.recipe.flat() for each in tries]
    differing = [key for key in dict.fromkeys(key for flat in flats for key in flat)
                 if key not in ("name", "seed") and len({repr(flat.get(key)) for flat in flats}) > 1]  # fmt: skip
    search = Search(recipe, tuple(dict.fromkeys((*keys, *differing))), seeds, tries, looks_before)
    ordered = sorted(tries, key=lambda each: [_order(value) for value in search.values(each)])
    return Search(recipe, search.keys, seeds, tuple(ordered), looks_before)


def _order(value: object) -> tuple[bool, float, str]:
    """Numbers by size, then texts."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if isinstance(value, int | float) else 0.0, str(value)


def read_search(folder: Path) -> Search | None:
    """The search whose record stands in a folder's ``study.json``, as its runs stand now; ``None`` without one.

    Raises:
        RunError: the file is damaged.
    """
    record = search_record(folder)
    if record is None:
        return None
    return summarize(folder, record.recipe, record.keys, record.seeds, record.looks_before)
