"""Suites: files that say which recipes are compared, with which settings, and what fits into a budget of time.

A setting is ``key=value``, for every row whose network knows the key, or ``ROW:key=value`` for the row of that name.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from mien.errors import CallError, MissingPathError, RecipeError, UnknownNameError, look_up, unknown_name
from mien.models import option_names
from mien.recipe import (
    BASE,
    CHECKPOINT,
    Recipe,
    Settings,
    brought,
    brought_folder,
    explain,
    find_recipe,
    load_recipe,
    option_key,
)
from mien.study.published import Deviation, differences

LENGTH, PARTNER = "training.epochs", "schedule.restart_epochs"
"""A training's length, and what has to fit it where the learning rate restarts."""

Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Budget(Settings):
    """Settings with which a suite fits into some time, which is told of named hardware."""

    about: str
    set: Texts = ()
    hardware: str
    source: Literal["measured", "estimated"]  # where the minutes come from
    minutes: dict[str, Annotated[float, Field(strict=False, gt=0)]]  # row -> training with one seed, on that hardware


class SuiteFile(Settings):
    """What stands in a suite's file."""

    about: str
    rows: Annotated[Texts, Field(min_length=1)]  # names of recipes, paths from this file, or patterns of either
    set: Texts = ()
    seeds: int = Field(default=1, ge=1)
    budgets: dict[str, Budget] = Field(default_factory=dict)


@dataclass(frozen=True)
class SuiteRow:
    """A recipe in a study, and what is changed in it.

    Attributes:
        name: the recipe's, by which settings name the row.
        overrides: ``key=value``, in order, as ``load_recipe`` takes them.
        unknown: settings for all rows that this one's network does not know.
        minutes: of training with one seed, where the budget says it and nothing was changed since.
    """

    name: str
    recipe: Path
    overrides: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    minutes: float | None = None

    @property
    def settings(self) -> tuple[str, ...]:
        """The overrides that hold: of a key that is set more than once, the last."""
        return tuple({_key(each): each for each in self.overrides}.values())


@dataclass(frozen=True)
class Suite:
    """Rows to compare. ``budgets`` are by name, ``seeds`` the number of runs of each row."""

    name: str
    about: str
    rows: tuple[SuiteRow, ...]
    seeds: int = 1
    budgets: Mapping[str, Budget] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedRow:
    """One run of a study: its recipe, seed included, its row, and in what it differs from the row's recipe file."""

    recipe: Recipe
    row: SuiteRow
    differences: tuple[Deviation, ...]

    @property
    def seed(self) -> int:
        """The recipe's."""
        return self.recipe.seed


def load_suite(name_or_path: str | Path) -> Suite:
    """A suite that mien brings, by name, or one in a TOML file.

    Raises:
        MissingPathError, UnknownNameError: neither; lists the names.
        RecipeError: a file that is no suite, or with a setting that no row takes.
    """
    suites = brought("suites")
    path = suites.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        if path.suffix != ".toml":
            raise unknown_name(suites, str(name_or_path), "suite")
        raise MissingPathError(f"no suite at {path}; mien brings: {', '.join(suites)}")
    content = _read(path)
    paths = [found for entry in content.rows for found in find_recipes(entry, path.parent)]
    rows = add_settings(rows_of(paths), content.set, source=f"{path}: set")
    for name, budget in content.budgets.items():
        for row in budget.minutes.keys() - {row.name for row in rows}:
            raise RecipeError(f"{path}: budgets.{name}.minutes: {unknown_name([row.name for row in rows], row, 'row')}")
    return Suite(path.stem, content.about, rows, content.seeds, content.budgets)


def _read(path: Path) -> SuiteFile:
    try:
        return SuiteFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: not a TOML suite: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"{path}: {explain(error, SuiteFile)}") from error


def find_recipes(entry: str, beside: Path) -> list[Path]:
    """The recipe of a name or path, or all of a pattern such as ``controlled/*`` in order of name.

    Raises:
        MissingPathError: there is none.
    """
    if "*" not in entry:
        return [find_recipe(entry, beside)]
    for found in (beside.glob(entry), brought_folder("recipes").glob(f"{entry}.toml")):
        if files := sorted(path for path in found if path.is_file() and not path.name.startswith(BASE)):
            return files
    raise MissingPathError(f"expected recipes, got {entry!r}, which no file in {beside} and no name matches")


def rows_of(recipes: Iterable[Path]) -> tuple[SuiteRow, ...]:
    """A row for each recipe file, called by the recipe's name.

    Raises:
        CallError: two of one name.
    """
    rows = tuple(SuiteRow(load_recipe(path).name, path) for path in recipes)
    check_names(rows)
    return rows


def check_names(rows: Sequence[SuiteRow]) -> None:
    """Raise ``CallError`` for two rows of one name."""
    first: dict[str, SuiteRow] = {}
    for row in rows:
        other = first.setdefault(row.name, row)
        if other is not row:
            raise CallError(
                f"expected recipes of different names, got two called {row.name}: {other.recipe} and {row.recipe};"
                ' write another name = "..." at the top of one'
            )


def within(suite: Suite, budget: str) -> tuple[SuiteRow, ...]:
    """The rows of a suite with the settings of one of its budgets.

    Raises:
        CallError: the suite has no budgets.
        UnknownNameError: it has others; lists them.
    """
    if not suite.budgets:
        having = [
            f"{each.name} ({', '.join(each.budgets)})" for each in map(load_suite, brought("suites")) if each.budgets
        ]
        raise CallError(
            f"expected a suite with budgets, got {suite.name}, which has none; leave out --budget, or take"
            f" {' or '.join(having)}"
        )
    chosen = look_up(suite.budgets, budget, f"{suite.name} budget")
    rows = add_settings(suite.rows, chosen.set, source=f"{suite.name}: budgets.{budget}.set")
    return tuple(replace(row, minutes=chosen.minutes.get(row.name)) for row in rows)


def add_settings(rows: Sequence[SuiteRow], settings: Sequence[str], source: str = "--set") -> tuple[SuiteRow, ...]:
    """The rows with further settings, each in the rows that it is for; ``source`` names them in errors.

    Raises:
        UnknownNameError: a row that is not there; lists the rows and the nearest.
        RecipeError: a setting that no row knows, or that does not fit.
    """
    split = [split_setting(setting) for setting in settings]
    mine = {row.name: [override for name, override in split if name in (None, row.name)] for row in rows}
    models = {row.name: _model_name(row, mine[row.name]) for row in rows}
    for setting, (name, override) in zip(settings, split, strict=True):
        if name is not None and name not in mine:
            raise UnknownNameError(f"{source} {setting}: {unknown_name(mine, name, 'row')}")
        asked = {models[row.name] for row in rows if name in (None, row.name)}
        if not any(_knows(model, override) for model in asked):
            known = {option for model in asked for option in option_names(model)}
            kind = f"{' or '.join(sorted(asked))} option"
            raise RecipeError(f"{source} {setting}: {unknown_name(known, str(_option(override)), kind)}")
    return tuple(_with(row, models[row.name], mine[row.name], source) for row in rows)


@dataclass(frozen=True)
class KeptPartner:
    """A setting that a suite or budget chose for the length of rows, which was then changed.

    ``changed`` and ``kept`` are ``key=value``, and ``original`` is what the recipes say instead of ``kept``.
    """

    rows: tuple[str, ...]
    changed: str
    kept: str
    original: str


def kept_partners(before: Sequence[SuiteRow], after: Sequence[SuiteRow]) -> list[KeptPartner]:
    """Settings ``before`` that fitted a number of epochs which settings ``after`` have changed, and stay."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row, changed in zip(before, after, strict=True):
        earlier = {_key(each): each for each in row.overrides}
        added = {_key(each): each for each in changed.overrides[len(row.overrides) :]}
        recipe = load_recipe(row.recipe)
        if LENGTH in added and PARTNER in earlier and PARTNER not in added and recipe.schedule.name == "warm_restarts":
            original = f"{PARTNER}={recipe.schedule.restart_epochs}"
            found.setdefault((added[LENGTH], earlier[PARTNER], original), []).append(row.name)
    return [KeptPartner(tuple(rows), *told) for told, rows in found.items()]


@dataclass(frozen=True)
class MissingSettings:
    """What a row lacks of the ``settings``, ``key=value``, of the row that is most like it, called ``like``."""

    like: str
    settings: tuple[str, ...]


def missing_settings(row: SuiteRow, others: Sequence[SuiteRow]) -> MissingSettings:
    """What the nearest of ``others``, by their files, has set and this row has not, where its network knows it."""
    file = load_recipe(row.recipe)
    like = min(others, key=lambda other: len(differences(file, load_recipe(other.recipe))))
    before = load_recipe(row.recipe, row.overrides)
    known = [each for each in like.settings if _key(each) != "name" and _knows(before.model.name, each)]
    had, has = before.flat(), load_recipe(row.recipe, (*row.overrides, *known)).flat()
    return MissingSettings(like.name, tuple(each for each in known if had.get(_key(each)) != has.get(_key(each))))


def split_setting(setting: str) -> tuple[str | None, str]:
    """``ROW:key=value`` -> ``ROW`` and ``key=value``, the key as ``option_key`` spells it; without a row ``None``."""
    key, equals, value = setting.partition("=")
    row, colon, own = key.rpartition(":")
    return (row.strip() if colon else None), f"{option_key(own)}{equals}{value}"


def _with(row: SuiteRow, model: str, overrides: Sequence[str], source: str) -> SuiteRow:
    taken = tuple(override for override in overrides if _knows(model, override))
    unknown = tuple(override for override in overrides if override not in taken)
    before, after = (load_recipe(row.recipe, (*row.overrides, *more), source) for more in ((), taken))
    return replace(
        row,
        overrides=row.overrides + taken,
        unknown=row.unknown + unknown,
        minutes=row.minutes if before == after else None,
    )


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def _model_name(row: SuiteRow, overrides: Iterable[str]) -> str:
    """The network of a row, which an override may have replaced."""
    named = [each for each in (*row.overrides, *overrides) if _key(each) == "model.name"]
    return load_recipe(row.recipe, named).model.name


def _option(override: str) -> str | None:
    """The network's option that an override sets, ``weights`` where they are pretrained; ``None`` of any other key."""
    key, _, value = override.partition("=")
    table, _, name = option_key(key).rpartition(".")
    pretrained = table == "model" and name == "weights" and value.strip(" \"'") != "scratch" and CHECKPOINT not in value
    return name if table == "model.options" or pretrained else None


def _knows(model: str, override: str) -> bool:
    """Whether a network takes what an override sets: its options differ, every other key is every network's."""
    option = _option(override)
    return option is None or option in option_names(model)


def plan(rows: Sequence[SuiteRow], seeds: int = 1) -> list[PlannedRow]:
    """Every run of a study in the order in which they are trained: each row with the seeds 0, 1, ...

    Raises:
        CallError: two recipes of one name, or a setting of the seed.
    """
    check_names(rows)
    planned = []
    for row in rows:
        if any(_key(override) == "seed" for override in row.overrides):
            raise CallError(
                f"{row.name}: expected a study's seeds 0, 1, ..., got a setting of seed; say how many with --seeds, or"
                " use mien train"
            )
        reference = load_recipe(row.recipe)
        for seed in range(seeds):
            recipe = load_recipe(row.recipe, [*row.overrides, f"seed={seed}"])
            planned.append(PlannedRow(recipe, row, differences(recipe, reference)))
    if len({(each.recipe.name, each.seed) for each in planned}) < len(planned):
        raise CallError("expected recipes of different names, got two of the same; take --set name out, or set two")
    return planned
