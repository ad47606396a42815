"""What single settings changed: rows of a study that are equal in all else, put against each other.

Rows that differ in one setting give its effect. Four rows that cross two settings also give each setting's effect
averaged over the other, and their interaction: whether the two do more together than apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

from mien.errors import MienError
from mien.evaluation import compare, significance
from mien.recipe import ModelSettings, load_recipe
from mien.study.comparison import ComparedRow
from mien.study.published import flat_settings

BASELINES = ("none", "scratch")
"""Values that others are put against, as are 0, false and what is not set; without one, the first row's."""

Settings = Mapping[str, Any]
"""Key of a recipe, such as ``model.attention`` -> value."""

Table = Mapping[str, Settings]
"""Recipe -> its settings."""


@dataclass(frozen=True)
class Contrast:
    """Which rows are put against each other, and what they differ in.

    Attributes:
        keys: of the recipe, such as ``("model.attention",)``; two for an interaction.
        values: the value and the one that it is put against; of an interaction both values that come together.
        model: that the rows share.
        averaged_over: the other setting of a main effect.
        fixed: settings and values that tell this contrast from others with the same values.
        weights: recipe -> weight of its accuracy in the sum that is the effect.
    """

    keys: tuple[str, ...]
    values: tuple[Any, Any]
    model: str
    weights: Mapping[str, float]
    averaged_over: str | None = None
    fixed: tuple[tuple[str, Any], ...] = ()

    @property
    def recipes(self) -> frozenset[str]:
        """Recipes whose accuracies the effect is made of."""
        return frozenset(self.weights)

    @property
    def is_interaction(self) -> bool:
        """Whether it is what two settings do together, beyond the sum of both."""
        return len(self.keys) == 2

    def reads_as(self, other: "Contrast") -> bool:
        """Whether nothing but ``fixed`` tells it from another."""
        return replace(self, fixed=(), weights={}) == replace(other, fixed=(), weights={})


@dataclass(frozen=True)
class SettingEffect:
    """What one setting changed, or two together: a difference of accuracies, of such differences in an interaction.

    ``adjusted`` is its p-value after Holm's correction over the effects of the same keys. ``epochs`` are those of the
    trainings behind it, from the shortest to the longest: more of them may give another effect.
    """

    contrast: Contrast
    effect: significance.Effect
    adjusted: float
    epochs: tuple[int, ...] = ()

    @property
    def is_shown(self) -> bool:
        """Whether the effect is distinguishable from none among all effects of the same setting."""
        return self.adjusted < compare.SIGNIFICANT and self.effect.is_shown


@dataclass(frozen=True)
class NearPair:
    """Two rows that differ in a setting, by their titles, and in the fewest others: key -> the value of each.

    Those of one network come first.
    """

    titles: tuple[str, str]
    others: Mapping[str, tuple[Any, Any]]


def nearest_pair(rows: Sequence[ComparedRow], key: str) -> NearPair | None:
    """The rows that come nearest to differing in ``key`` alone; ``None`` where all are alike in it."""
    settings = {row.title: _settings(row) for row in rows}
    found = []
    for one, other in combinations(settings, 2):
        mine, theirs = settings[one], settings[other]
        if mine.get(key) != theirs.get(key):
            keys = [each for each in _differing([mine, theirs]) if each != key]
            found.append(NearPair((one, other), {each: (mine.get(each), theirs.get(each)) for each in keys}))
    return min(found, key=lambda pair: ("model.name" in pair.others, len(pair.others)), default=None)


def entries_of(rows: Sequence[ComparedRow]) -> dict[str, compare.Entry] | None:
    """The stored predictions of every row by recipe, or ``None`` without them, a recipe, or equal images.

    So too where the runs of a row differ in more than the seed.
    """
    if not all(run.recipe_path.is_file() for row in rows for run in row.runs):
        return None
    runs = [run.path for row in rows for run in row.runs]
    try:
        entries = {entry.name: entry for entry in compare.load_entries(runs, rows[0].split)[1]}
    except MienError:
        return None
    return entries if entries.keys() == {row.name for row in rows} else None


def setting_effects(rows: Sequence[ComparedRow], entries: Mapping[str, compare.Entry]) -> list[SettingEffect]:
    """Every effect that the rows of a study can show, in the order of its rows."""
    settings = {row.name: _settings(row) for row in rows}
    epochs = {row.name: set(row.epochs) for row in rows}
    contrasts = [*_crossed(settings), *_single(settings)]
    effects = [
        compare.effect_of([(weight, entries[name]) for name, weight in each.weights.items()]) for each in contrasts
    ]
    found: list[SettingEffect] = []
    for keys in dict.fromkeys(each.keys for each in contrasts):
        family = [pair for pair in zip(contrasts, effects, strict=True) if pair[0].keys == keys]
        adjusted = significance.holm([effect.p_value for _, effect in family])
        found += [
            SettingEffect(
                contrast, effect, p_value, tuple(sorted(set.union(*(epochs[name] for name in contrast.recipes))))
            )
            for (contrast, effect), p_value in zip(family, adjusted, strict=True)
        ]
    return found


def _settings(row: ComparedRow) -> Settings:
    """The row's recipe, with the attention that its network has by default spelled out."""
    recipe = load_recipe(row.runs[0].recipe_path)
    settings = flat_settings(recipe)
    settings["model.attention"] = _attention(recipe.model)
    # Teachers and their weight are one decision, and where their files lay is none.
    weight, teachers = settings.pop("training.teacher_weight"), recipe.training.teachers
    settings["training.teachers"] = f"{len(teachers)}, weight {weight}" if teachers else "none"
    # A file stands for the weights that the report names, wherever it lay.
    tagged = recipe.model.weights if recipe.model.weights.startswith("imagenet:") else row.report.initialization
    return {**settings, "model.weights": tagged}


def _attention(model: ModelSettings) -> object:
    """By the resolved recipe; ``default`` where a run is from before the model's own values stood in its recipe."""
    return {**model.defaults, **model.options}.get("attention", "none" if model.defaults else "default")


def _single(settings: Table) -> list[Contrast]:
    """Rows that differ from a baseline in one setting."""
    found: dict[tuple[str, ...], list[Contrast]] = {}
    for mine in settings.values():
        for key in mine:
            alike = [name for name, theirs in settings.items() if _differing([mine, theirs]) in ((), (key,))]
            values = {name: settings[name].get(key) for name in alike}
            if all(value == mine[key] for value in values.values()):
                continue
            baseline = next((name for name in alike if _is_baseline(values[name])), alike[0])
            found[key, *alike] = [
                Contrast((key,), (values[name], values[baseline]), mine["model.name"], {name: 1, baseline: -1})
                for name in alike
                if values[name] != values[baseline]  # a row may have been trained again elsewhere
            ]
    return _told_apart([contrast for contrasts in found.values() for contrast in contrasts], settings)


def _told_apart(contrasts: Sequence[Contrast], settings: Table) -> list[Contrast]:
    """Those that would read alike also name the settings in which their rows differ."""
    said = []
    for each in contrasts:
        rows = [settings[next(iter(other.weights))] for other in contrasts if other.reads_as(each)]
        mine = settings[next(iter(each.weights))]
        said.append(replace(each, fixed=tuple((key, mine.get(key)) for key in _differing(rows))))
    return said


def _crossed(settings: Table) -> list[Contrast]:
    """Four rows that cross two values of one setting with two of another."""
    found = []
    for names in combinations(settings, 4):
        keys = _differing([settings[name] for name in names])
        if len(keys) != 2:
            continue
        cells = {(settings[name].get(keys[0]), settings[name].get(keys[1])): name for name in names}
        first, second = (
            sorted(dict.fromkeys(values), key=_is_baseline, reverse=True) for values in zip(*cells, strict=True)
        )
        if len(cells) == len(first) * len(second) == 4:
            square = [cells[pair] for pair in product(first, second)]
            found += _square(keys, first, second, square, settings[names[0]]["model.name"])
    return found


def _square(
    keys: tuple[str, ...], first: Sequence[Any], second: Sequence[Any], square: Sequence[str], model: str
) -> list[Contrast]:
    """Both main effects and the interaction; ``square`` is neither, the second alone, the first alone, both."""
    neither, of_second, of_first, both = square
    halves = (0.5, 0.5, -0.5, -0.5)
    by_first = dict(zip((both, of_first, of_second, neither), halves, strict=True))
    by_second = dict(zip((both, of_second, of_first, neither), halves, strict=True))
    beyond = {both: 1, neither: 1, of_first: -1, of_second: -1}
    return [
        Contrast((keys[0],), (first[1], first[0]), model, by_first, averaged_over=keys[1]),
        Contrast((keys[1],), (second[1], second[0]), model, by_second, averaged_over=keys[0]),
        Contrast(keys, (first[1], second[1]), model, beyond),
    ]


def _differing(settings: Sequence[Settings]) -> tuple[str, ...]:
    """Keys that do not have one value throughout."""
    keys = {key for each in settings for key in each}
    return tuple(sorted(key for key in keys if any(each.get(key) != settings[0].get(key) for each in settings)))


def _is_baseline(value: Any) -> bool:
    return not value or value in BASELINES
