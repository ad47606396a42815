"""``--grid KEY=VALUE,VALUE``: every combination of values as a recipe of its own, and how far each is trained."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from mien.errors import CallError
from mien.recipe import Recipe, load_recipe, option_key
from mien.study.suites import SuiteRow

MAX_TRIES = 64
"""More combinations are only tried when they are asked for by number."""

MAX_NAME = 120
"""Letters of a try's name, which is also that of a folder."""

Grid = Mapping[str, Sequence[str]]
"""Key of a recipe -> its values, as typed."""

_REFUSED = {
    "seed": "each combination gets the seeds 0, 1, ...; say how many with --seeds",
    "name": "a try's name is made of the recipe's and the values; leave it out",
    "extends": "a file says what it extends; give the values themselves",
}


def parse_grid(options: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of each key; commas inside of brackets belong to a value.

    Raises:
        CallError: not of this form, an empty value, a key twice, or one that is not to be searched.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for option in options:
        key, separator, text = (part.strip() for part in option.partition("="))
        if not separator or not key:
            raise CallError(f"--grid: expected KEY=VALUE,VALUE such as optimizer.lr=0.01,0.03, got {option!r}")
        if key in _REFUSED:
            raise CallError(f"--grid {key}: expected a key of model, optimizer or another part; {_REFUSED[key]}")
        if key.partition(".")[0] == "data":
            raise CallError(
                f"--grid {key}: expected tries on the same images, got a key that changes them;"
                " give it by --set, and each of its values a search of its own"
            )
        key = option_key(key)
        values = tuple(value.strip() for value in re.split(r",(?![^\[]*\])", text))
        if not all(values):
            raise CallError(f"--grid {option}: expected a value beside each comma, got none; take out what is too much")
        if key in grid:
            raise CallError(f"--grid {key}: expected each key once, got it twice; join its values with commas")
        grid[key] = values
    return grid


def grid_rows(
    row: SuiteRow, grid: Grid, *, max_tries: int = MAX_TRIES, known: Mapping[str, str] | None = None
) -> tuple[SuiteRow, ...]:
    """A row for each combination, the last key varying fastest, called ``<recipe>-<key>_<value>...``.

    ``known`` are the names of earlier tries by :func:`settings_sha256`: an equal combination keeps its name, so that it
    is neither trained nor counted twice.

    Raises:
        CallError: too many combinations, two that are equal, or a key that is also overridden.
        RecipeError: a key or value that no recipe has.
    """
    total = math.prod(len(values) for values in grid.values())
    if total > max_tries:
        raise CallError(
            f"expected {max_tries} combinations at most, got {total}; give fewer values, or say --max-tries {total}"
        )
    for key in (option_key(override.partition("=")[0]) for override in row.overrides):
        if key in grid:
            raise CallError(f"expected {key} in --grid or in --set, got it in both; take one out")
    found: dict[str, tuple[SuiteRow, str]] = {}
    for values in product(*grid.values()):
        chosen = tuple(f"{key}={value}" for key, value in zip(grid, values, strict=True))
        recipe, told = load_recipe(row.recipe, (*row.overrides, *chosen), "--grid"), " ".join(chosen)
        settings = settings_sha256(recipe)
        if settings in found:
            raise CallError(
                f"--grid: expected each value once, got {found[settings][1]} and {told}, which are equal; take one out"
            )
        name = (known or {}).get(settings) or try_name(recipe, tuple(grid))
        overrides = (*row.overrides, *chosen, f'name="{name}"')
        found[settings] = replace(row, name=name, overrides=overrides, minutes=None), told
    return tuple(each for each, _ in found.values())


def settings_sha256(recipe: Recipe) -> str:
    """Hash of all but a recipe's name and seed (hexadecimal)."""
    return recipe.model_copy(update={"name": "", "seed": 0}).sha256()


def try_name(recipe: Recipe, keys: Sequence[str]) -> str:
    """``compact_resnet-lr_0.003-mixup_0.2``; a hash follows where letters had to be replaced, or were too many."""
    flat = recipe.flat()
    told = {_short_key(key, flat): value_text(flat.get(key)) for key in keys}
    full = "-".join([recipe.name, *(f"{key}_{value}" for key, value in told.items())])
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", full)[:MAX_NAME]
    # The hash is of the text, not of the recipe, so that it stays when a version adds keys.
    return name if name == full else f"{name.strip('_')}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"


def _short_key(key: str, flat: Mapping[str, object]) -> str:
    """The last part of a key, with the part before it where another key of the recipe ends alike."""
    parts = key.split(".")
    ambiguous = sum(other.rpartition(".")[2] == parts[-1] for other in flat) > 1
    return ".".join(parts[-2:] if ambiguous else parts[-1:])


def value_text(value: object) -> str:
    """A setting as names and pages write it: ``0.0003``, ``true``, ``none``, ``32_64``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple | list):
        return "_".join(map(value_text, value))
    return "none" if value is None else str(value)


def rungs(tries: int, epochs: int) -> tuple[tuple[int, int], ...]:
    """Successive halving: how many tries are trained until which epoch, of which the better half goes on.

    Source: Jamieson, Talwalkar 2016, arXiv:1502.07943.
    Deviations: each rung is twice as long as the one before, in whole epochs, instead of rounds of equal cost.
    """
    rounds = max(1, math.ceil(math.log2(tries)))
    lengths = sorted({math.ceil(epochs / 2**behind) for behind in range(rounds)})
    return tuple((math.ceil(tries / 2**number), length) for number, length in enumerate(lengths))


def better_half(accuracies: Mapping[str, float]) -> list[str]:
    """Names of the better half, the larger one of an odd number, in their order; of equal tries the first go on."""
    best = sorted(accuracies, key=lambda name: -accuracies[name])[: math.ceil(len(accuracies) / 2)]
    return [name for name in accuracies if name in best]
