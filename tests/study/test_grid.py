"""A grid is combinations with names that stay, and what cannot be searched is refused with a remedy."""

from pathlib import Path

import pytest
from tests.conftest import small_recipe

from mien.errors import CallError, RecipeError
from mien.recipe import to_toml
from mien.study.grid import better_half, grid_rows, parse_grid, rungs, settings_sha256
from mien.study.suites import SuiteRow, plan


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(to_toml(small_recipe()))
    return path


def names(base: Path, *options: str, seeds: int = 1, max_tries: int = 64) -> list[str]:
    rows = grid_rows(SuiteRow("small", base), parse_grid(options), max_tries=max_tries)
    return [f"{each.recipe.name}-s{each.seed}" for each in plan(rows, seeds)]


def test_every_combination_has_a_readable_name_that_does_not_depend_on_how_a_value_was_typed(base: Path) -> None:
    assert names(base, "optimizer.lr=0.03, 3e-4", "augmentation.mixup=0,0.20") == [
        "small-lr_0.03-mixup_0-s0",
        "small-lr_0.03-mixup_0.2-s0",
        "small-lr_0.0003-mixup_0-s0",
        "small-lr_0.0003-mixup_0.2-s0",
    ]
    # Another key in the grid changes no other key's part; keys that several sections have are told by section.
    assert names(base, "optimizer.name=adam", "optimizer.lr=0.1", seeds=2) == [
        "small-optimizer.name_adam-lr_0.1-s0",
        "small-optimizer.name_adam-lr_0.1-s1",
    ]
    assert names(base, "model.dropout=0.1,none", "training.ema_decay=none")[0] == "small-dropout_0.1-ema_decay_none-s0"


def test_commas_in_brackets_belong_to_the_value(base: Path) -> None:
    grid = parse_grid(["model.options.widths=[32,64],[64]", "model.name=compact_resnet"])
    assert grid == {"model.options.widths": ("[32,64]", "[64]"), "model.name": ("compact_resnet",)}
    recipes = [each.recipe for each in plan(grid_rows(SuiteRow("small", base), grid))]
    assert [recipe.model.options["widths"] for recipe in recipes] == [(32, 64), (64,)]
    assert recipes[0].name == "small-widths_32_64-model.name_compact_resnet"


def test_letters_that_no_name_has_and_long_names_end_in_a_hash(base: Path) -> None:
    first, second = names(base, "model.weights=a/b.ckpt,a_b.ckpt")
    assert first.startswith("small-model.weights_a_b.ckpt-")
    assert second == "small-model.weights_a_b.ckpt-s0"
    first, second = names(base, f"model.weights={'x' * 300},{'x' * 299}")
    assert len(first) == len(second) < 140
    assert first != second


def test_an_equal_earlier_try_keeps_its_name(base: Path) -> None:
    row = SuiteRow("small", base)
    (earlier,) = plan(grid_rows(row, parse_grid(["optimizer.lr=0.1"])))
    known = {settings_sha256(earlier.recipe): earlier.recipe.name}
    now = grid_rows(row, parse_grid(["optimizer.lr=0.1", "augmentation.mixup=0,0.2"]), known=known)
    assert [each.recipe.name for each in plan(now)] == ["small-lr_0.1", "small-lr_0.1-mixup_0.2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["optimizer.lr"], "KEY=VALUE,VALUE"),
        (["=0.1"], "KEY=VALUE,VALUE"),
        (["optimizer.lr="], "a value beside each comma"),
        (["optimizer.lr=0.1,,0.2"], "a value beside each comma"),
        (["optimizer.lr=0.1", "optimizer.lr=0.2"], "each key once"),
        (["model.dropout=0.1", "model.options.dropout=0.2"], "each key once"),
        (["seed=0,1"], "--seeds"),
        (["name=a,b"], "leave it out"),
        (["data.protocol=contest,published"], "the same images"),
    ],
)
def test_what_is_no_grid_is_refused(options: list[str], words: str) -> None:
    with pytest.raises(CallError, match=words):
        parse_grid(options)


def test_equal_values_and_too_many_are_refused(base: Path) -> None:
    with pytest.raises(CallError, match=r"optimizer.lr=0.1 and optimizer.lr=1e-1, which are equal"):
        names(base, "optimizer.lr=0.1,1e-1")
    with pytest.raises(CallError, match=r"64 combinations at most, got 66; .* --max-tries 66"):
        names(base, "optimizer.lr=" + ",".join(f"0.{number}" for number in range(1, 67)))
    assert len(names(base, "optimizer.lr=0.1,0.2,0.3", max_tries=3)) == 3
    with pytest.raises(CallError, match=r"expected model.options.dropout in --grid or in --set"):
        grid_rows(SuiteRow("small", base, ("model.dropout=0.1",)), parse_grid(["model.options.dropout=0.2"]))


def test_an_unknown_key_is_named_with_the_known_ones(base: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'optimizer.rl'.* lr, momentum"):
        names(base, "optimizer.rl=0.1")
    with pytest.raises(RecipeError, match=r"augmentation.mixup: expected a number"):
        names(base, "augmentation.mixup=-1")


def test_rungs_double_up_to_the_full_length() -> None:
    assert rungs(1, 12) == ((1, 12),)
    assert rungs(2, 12) == ((2, 12),)
    assert rungs(3, 12) == ((3, 6), (2, 12))
    assert rungs(4, 12) == ((4, 6), (2, 12))
    assert rungs(16, 12) == ((16, 2), (8, 3), (4, 6), (2, 12))
    assert rungs(16, 3) == ((16, 1), (8, 2), (4, 3))  # no rung is shorter than an epoch


def test_the_better_half_goes_on_in_its_order_and_of_equal_tries_the_first() -> None:
    assert better_half({"a": 0.1, "b": 0.5, "c": 0.4, "d": 0.6, "e": 0.2}) == ["b", "c", "d"]
    assert better_half({"a": 0.5, "b": 0.5}) == ["a"]
