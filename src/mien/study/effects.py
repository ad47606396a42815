"""What single settings changed: rows of a study that are equal in all else, put against each other.

Rows that differ in one setting give its effect. Four rows that cross two settings also give each setting's effect
averaged over the other, and their interaction: whether the two do more together than apart.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

from mien.errors import MienError
from mien.evaluation.compare import SIGNIFICANT, Entry, effect_of, load_entries
from mien.evaluation.significance import Effect, holm
from mien.evaluation.wording import plural
from mien.models import MODELS
from mien.recipe import load_recipe
from mien.study.comparison import ComparedRow
from mien.study.deviations import flat_settings

BASELINES = ("none", "scratch")
"""Values that others are put against, as are 0, false and what is not set; without one, the first row's."""

Table = Mapping[str, Mapping[str, Any]]
"""Recipe -> its settings."""


@dataclass(frozen=True)
class SettingEffect:
    """What one setting changed, or two together.

    Attributes:
        keys: of the recipe, such as ``("model.attention",)``; two for an interaction.
        words: ``cbam against none``.
        within: what the rows share, ``compact_resnet``.
        effect: difference of accuracies; of two such differences in an interaction.
        adjusted: p-value after Holm's correction over the effects of the same keys.
        recipes: whose accuracies it is made of.
    """

    keys: tuple[str, ...]
    words: str
    within: str
    effect: Effect
    adjusted: float
    recipes: frozenset[str]

    @property
    def is_main(self) -> bool:
        """Whether it is the effect of one setting, averaged over another."""
        return len(self.keys) == 1 and len(self.recipes) == 4

    @property
    def is_shown(self) -> bool:
        """Whether the effect is distinguishable from none among all effects of the same setting."""
        return self.adjusted < SIGNIFICANT and self.effect.is_shown

    @property
    def verdict(self) -> str:
        """``yes``, ``these files only`` of single trainings, or ``no``."""
        if not self.is_shown:
            return "no"
        return "yes" if self.effect.seeds > 1 else "these files only"


@dataclass(frozen=True)
class _Contrast:
    """A sum of accuracies to be measured: ``cells`` gives each recipe's weight; the rest as in the effect."""

    keys: tuple[str, ...]
    words: str
    within: str
    cells: Mapping[str, float]


def entries_of(rows: Sequence[ComparedRow]) -> dict[str, Entry] | None:
    """The stored predictions of every row by recipe, or ``None`` without them, a recipe, or equal pictures.

    So too where the runs of a row differ in more than the seed.
    """
    if not all(run.recipe_path.is_file() for row in rows for run in row.runs):
        return None
    runs = [run.path for row in rows for run in row.runs]
    try:
        entries = {entry.name: entry for entry in load_entries(runs, rows[0].split)[1]}
    except MienError:
        return None
    return entries if entries.keys() == {str(row.report["recipe"]) for row in rows} else None


def setting_effects(rows: Sequence[ComparedRow], entries: Mapping[str, Entry]) -> list[SettingEffect]:
    """Every effect that the rows of a study can show, in the order of its rows."""
    settings = {str(row.report["recipe"]): _settings(row) for row in rows}
    contrasts = [*_crossed(settings), *_single(settings)]
    effects = [effect_of([(weight, entries[name]) for name, weight in each.cells.items()]) for each in contrasts]
    found: list[SettingEffect] = []
    for keys in dict.fromkeys(each.keys for each in contrasts):
        family = [pair for pair in zip(contrasts, effects, strict=True) if pair[0].keys == keys]
        adjusted = holm([effect.p_value for _, effect in family])
        found += [
            SettingEffect(keys, each.words, each.within, effect, p_value, frozenset(each.cells))
            for (each, effect), p_value in zip(family, adjusted, strict=True)
        ]
    return found


def _settings(row: ComparedRow) -> dict[str, Any]:
    """Of the row's recipe, with the attention that its network has by itself spelled out."""
    recipe = load_recipe(row.runs[0].recipe_path)
    settings = flat_settings(recipe)
    if settings["model.attention"] is None:
        constructor = MODELS.get(recipe.model.name)
        own = None if constructor is None else inspect.signature(constructor).parameters.get("attention")
        settings["model.attention"] = "none" if own is None else own.default
    # Teachers and their share are one decision, and where their files lay is none.
    share, teachers = settings.pop("training.teacher_weight"), settings["training.teachers"]
    settings["training.teachers"] = f"{plural(len(teachers), 'teacher')}, share {share}" if teachers else "none"
    # A file stands for the weights that the report names, wherever it lay.
    return {**settings, "model.weights": row.report["initialization"]}


def _single(settings: Table) -> list[_Contrast]:
    """Rows that differ from a baseline in one setting."""
    found: dict[tuple[str, ...], list[_Contrast]] = {}
    for mine in settings.values():
        for key in mine:
            alike = [name for name, theirs in settings.items() if _differing([mine, theirs]) in ((), (key,))]
            values = {name: settings[name][key] for name in alike}
            if len(set(values.values())) < 2:
                continue
            baseline = next((name for name in alike if _is_baseline(values[name])), alike[0])
            within = str(mine["model.name"])
            found[key, *alike] = [
                _Contrast((key,), _against(values[name], values[baseline]), within, {name: 1, baseline: -1})
                for name in alike
                if values[name] != values[baseline]  # a row may have been trained again elsewhere
            ]
    return _told_apart([contrast for contrasts in found.values() for contrast in contrasts], settings)


def _told_apart(contrasts: Sequence[_Contrast], settings: Table) -> list[_Contrast]:
    """Those that would read alike also name the settings in which their rows differ."""
    said = []
    for each in contrasts:
        alike = [other for other in contrasts if _reads_as(other) == _reads_as(each)]
        rows = [settings[next(iter(other.cells))] for other in alike]
        mine = settings[next(iter(each.cells))]
        more = [f"{key} {_said(mine[key])}" for key in _differing(rows)]
        said.append(replace(each, within=", ".join([each.within, *more])))
    return said


def _reads_as(contrast: _Contrast) -> tuple[tuple[str, ...], str, str]:
    return contrast.keys, contrast.words, contrast.within


def _crossed(settings: Table) -> list[_Contrast]:
    """Four rows that cross two values of one setting with two of another."""
    found = []
    for names in combinations(settings, 4):
        keys = _differing([settings[name] for name in names])
        if len(keys) != 2:
            continue
        cells = {(settings[name][keys[0]], settings[name][keys[1]]): name for name in names}
        first, second = (
            sorted(dict.fromkeys(values), key=_is_baseline, reverse=True) for values in zip(*cells, strict=True)
        )
        if len(cells) == len(first) * len(second) == 4:
            square = [cells[pair] for pair in product(first, second)]
            found += _of_square(keys, first, second, square, str(settings[names[0]]["model.name"]))
    return found


def _of_square(
    keys: tuple[str, ...], first: Sequence[Any], second: Sequence[Any], square: Sequence[str], within: str
) -> list[_Contrast]:
    """Both main effects and the interaction; ``square`` is neither, the second alone, the first alone, both."""
    neither, of_second, of_first, both = square
    return [
        _Contrast(
            (keys[0],),
            _against(first[1], first[0]),
            f"{within}, averaged over {keys[1]}",
            {both: 0.5, of_first: 0.5, of_second: -0.5, neither: -0.5},
        ),
        _Contrast(
            (keys[1],),
            _against(second[1], second[0]),
            f"{within}, averaged over {keys[0]}",
            {both: 0.5, of_second: 0.5, of_first: -0.5, neither: -0.5},
        ),
        _Contrast(
            keys,
            f"{first[1]} and {second[1]} together, beyond the sum of both",
            within,
            {both: 1, neither: 1, of_first: -1, of_second: -1},
        ),
    ]


def _differing(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Keys that do not have one value throughout."""
    return tuple(sorted(key for key in settings[0] if any(each[key] != settings[0][key] for each in settings)))


def _against(value: Any, baseline: Any) -> str:
    return f"{_said(value)} against {_said(baseline)}"


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


def _is_baseline(value: Any) -> bool:
    return not value or value in BASELINES
