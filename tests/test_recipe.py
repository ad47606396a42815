import re
from pathlib import Path

import pytest

from mien.errors import MissingPathError, RecipeError
from mien.recipe import Recipe, brought, find_recipe, load_recipe, parse_recipe, to_toml
from mien.study import load_suite
from tests.conftest import small_recipe

BROUGHT = {name: path for name, path in brought("recipes").items() if not name.startswith("detector/")}

HASHES = Path(__file__).parent / "recipe_hashes.txt"
"""Of the recipes when each of them was a file of its own with the model's options in ``[model]``."""


def write(folder: Path, text: str, name: str = "some.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_recipe_that_mien_brings_loads_and_survives_being_written(tmp_path: Path) -> None:
    assert BROUGHT
    for path in BROUGHT.values():
        recipe = load_recipe(path)
        assert recipe.name == path.stem
        assert load_recipe(write(tmp_path, to_toml(recipe))) == recipe, path


def test_every_recipe_that_mien_brings_keeps_its_hash() -> None:
    kept = {name: digest for digest, name in (line.split() for line in HASHES.read_text().splitlines())}
    found = {name: load_recipe(path).sha256() for name, path in BROUGHT.items()}
    assert {name: found.get(name) for name in kept} == kept


def test_files_that_are_only_extended_are_no_recipes() -> None:
    assert "published/_base" not in BROUGHT
    with pytest.raises(MissingPathError) as error:
        find_recipe("nothing")
    assert str(error.value).partition("mien brings: ")[2].split(", ") == list(brought("recipes"))


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("published/baselin_cnn", "Did you mean 'published/baseline_cnn'?"),
        ("publishd/resnet50.toml", "Did you mean 'published/resnet50'?"),
        ("compact_resnet", "Did you mean 'controlled/compact_resnet' or 'smoke/compact_resnet'?"),
    ],
)
def test_the_nearest_recipe_is_proposed(wrong: str, nearest: str) -> None:
    with pytest.raises(MissingPathError, match=re.escape(nearest)):
        find_recipe(wrong)


def test_every_header_is_a_lab_note() -> None:
    for path in BROUGHT.values():
        header = path.read_text().partition("\n[")[0]
        assert "\n# Command: mien" in header, path
        assert "# Reached" in header, path


def test_only_the_model_differs_between_rows_of_the_controlled_suite() -> None:
    recipes = [load_recipe(row.recipe) for row in load_suite("controlled").rows]
    first = recipes[0]
    for recipe in recipes:
        assert (recipe.data, recipe.augmentation, recipe.optimizer) == (first.data, first.augmentation, first.optimizer)
        assert (recipe.schedule, recipe.training) == (first.schedule, first.training)
        assert recipe.model.input_size == first.model.input_size


def test_one_setting_differs_between_each_idea_and_labels_alone() -> None:
    plain, *ideas = [load_recipe(row.recipe).flat() for row in load_suite("ablation").rows]
    for idea in ideas:
        differing = {key for key in plain | idea if idea.get(key) != plain.get(key)} - {"name"}
        assert len(differing - {"training.teacher_weight"}) == 1, differing


def test_overrides_are_applied_in_order_and_typed(tmp_path: Path) -> None:
    path = write(tmp_path, '[model]\nname = "baseline_cnn"\n')
    recipe = load_recipe(
        path, ["training.epochs=3", "training.epochs=4", "model.batch_norm=false", "model.weights=x.pth"]
    )
    assert recipe.name == "some"
    assert recipe.training.epochs == 4
    assert recipe.model.options == {"batch_norm": False}
    assert recipe.model.weights == "x.pth"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model", "not a TOML recipe"),
        ("", "model: expected a value, got none"),
        ('[model]\nname = "a"\noption = 3\n', "'model.option'. Did you mean 'options'"),
        ('[model]\nname = "a"\n[model.options]\nwhen = 2025-01-01\n', "a list of these as when, got datetime"),
        ('[model]\nname = "a"\n[model.options]\ninput_size = 3\n', "input_size is a key of [model] itself"),
        ('extends = 3\n[model]\nname = "a"\n', "as extends, got 3"),
        ('[model]\nname = "a"\n[training]\nepoch = 3\n', "'training.epoch'. Did you mean 'epochs'"),
        ('[model]\nname = "a"\n[training]\nepochs = 0\n', "training.epochs: expected a number greater than 0, got 0"),
        ('[model]\nname = "a"\n[training]\nepochs = "3"\n', "training.epochs: expected a valid integer, got '3'"),
        ('[model]\nname = "a"\n[training]\nweights = "ema"\n', "needs ema_decay"),
        ('[model]\nname = "a"\n[training]\nminutes = inf\n', "training.minutes: expected a finite number, got inf"),
        ('[model]\nname = "a"\n[optimizer]\nlr = nan\n', "optimizer.lr"),
        ('[model]\nname = "a"\n[data]\nfold = 5\n', "expected a fold from 0 to 4"),
        ('[model]\nname = "a"\n[data]\nfold = 0\nprotocol = "published"\n', "leave out protocol"),
        ('[model]\nname = "a"\n[data]\nfold = 0\nvalidation_rows = 9\n', "leave out protocol and validation_rows"),
    ],
)
def test_bad_recipes_are_refused_with_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(write(tmp_path, text))


def test_rare_characters_survive_being_written(tmp_path: Path) -> None:
    recipe = small_recipe(model={"weights": '/tmp/\U0001f600/ü\x7f"\\.pth'})
    assert load_recipe(write(tmp_path, to_toml(recipe))) == recipe


def test_bad_overrides_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, to_toml(small_recipe()))
    for override in ("epochs", "training.epochs.more=1", "training.nothing=1"):
        with pytest.raises(RecipeError):
            load_recipe(path, [override])


def test_missing_file() -> None:
    with pytest.raises(MissingPathError):
        load_recipe(Path("nowhere.toml"))


def test_a_recipe_extends_another_table_by_table(tmp_path: Path) -> None:
    write(
        tmp_path,
        'name = "other"\nseed = 3\n'
        '[model]\nname = "compact_resnet"\nattention = "se"\nwidths = [8, 16]\ndepths = [1, 1]\n'
        "[training]\nepochs = 4\nteachers = ['base', 'nano']\nteacher_weight = 0.5\n",
        "shared/base.toml",
    )
    write(tmp_path, 'extends = "base.toml"\n[model.options]\nattention = "cbam"\n', "shared/middle.toml")
    path = write(tmp_path, 'extends = "shared/middle.toml"\n[training]\nteachers = ["base"]\n', "own.toml")
    recipe = load_recipe(path, ["training.epochs=5", "model.options.widths=[4]", "model.depths=none"])
    assert (recipe.name, recipe.seed) == ("own", 3)
    assert recipe.model.options == {"attention": "cbam", "widths": (4,)}
    assert (recipe.training.epochs, recipe.training.teachers, recipe.training.teacher_weight) == (5, ("base",), 0.5)


def test_a_recipe_extends_one_that_mien_brings(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "ablation/nano"\n[model.options]\nattention = "se"\n')
    theirs = load_recipe(find_recipe("ablation/nano_attention"), ["name=some"])
    assert load_recipe(path) == theirs
    assert load_recipe(path).sha256() == theirs.sha256()


def test_circles_and_missing_bases_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 'extends = "b.toml"\n', "a.toml")
    path = write(tmp_path, 'extends = "a.toml"\n', "b.toml")
    with pytest.raises(RecipeError, match=r"got b\.toml -> a\.toml -> b\.toml; take one out"):
        load_recipe(path)
    path = write(tmp_path, 'extends = "nowhere.toml"\n')
    with pytest.raises(MissingPathError, match=r"some\.toml extends 'nowhere\.toml': no recipe at"):
        load_recipe(path)


OLD = {
    "name": "old",
    "model": {
        "name": "compact_resnet",
        "attention": "se",
        "batch_norm": None,
        "block_dropout": None,
        "dropout": 0,
        "patch_size": None,
        "widths": [8, 16],
        "depths": (1, 1),
        "stem_stride": 1,
    },
}
"""As format 1 of checkpoints has a recipe, and with a rate that was written without its point."""

OLD_SHA256 = "2bbc09cd9f44bbae62df943db2d1005c4ce1b99dc0acf03528ba0c43342b013d"


def test_options_in_the_old_place_are_the_same_recipe_with_the_same_hash(tmp_path: Path) -> None:
    old = parse_recipe(OLD, "old")
    options = {"widths": (8, 16), "stem_stride": 1, "dropout": 0.0, "depths": [1, 1], "attention": "se"}
    new = parse_recipe({"name": "old", "model": {"name": "compact_resnet", "options": options}}, "new")
    assert old == new
    assert old.sha256() == new.sha256() == OLD_SHA256
    assert list(new.model.options) == sorted(options)
    assert to_toml(old) == to_toml(new)
    overrides = ["model.attention=cbam", 'model.options.attention="none"']  # the last counts, wherever it puts it
    path = write(tmp_path, to_toml(old))
    assert load_recipe(path, overrides).model.options["attention"] == "none"
    assert load_recipe(path, overrides[::-1]).model.options["attention"] == "cbam"


def test_defaults_are_told_and_change_nothing(tmp_path: Path) -> None:
    recipe = parse_recipe(OLD, "old")
    told = recipe.with_defaults({"kind": "deep", "sizes": (3, 5)})
    assert told == recipe
    assert (told.sha256(), told.flat()) == (recipe.sha256(), recipe.flat())
    path = write(tmp_path, to_toml(told))
    assert '[model.defaults]\nkind = "deep"\nsizes = [3, 5]\n' in path.read_text()
    assert load_recipe(path) == recipe
    assert load_recipe(path).model.defaults == {"kind": "deep", "sizes": (3, 5)}
    # What another model, or an option that is set, makes untrue is replaced when a run is begun.
    changed = load_recipe(path, ["model.options.kind=flat"]).with_defaults({"sizes": (3,)})
    assert changed.model.defaults == {"sizes": (3,)}


def test_a_flat_recipe_has_the_keys_that_set_takes(tmp_path: Path) -> None:
    recipe = small_recipe(model={"options": {"attention": "se", "dropout": 0.1}}, training={"patience": 3})
    flat = recipe.flat()
    assert flat["seed"] == 0
    assert flat["model.options.attention"] == "se"
    assert flat["training.patience"] == 3
    assert {key.partition(".")[0] for key in flat} == set(Recipe.model_fields)
    overrides = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in flat.items()]
    plain = write(tmp_path, '[model]\nname = "baseline_cnn"\n')
    overrides = [each for each in overrides if not each.endswith(("=None", "=()"))]
    assert load_recipe(plain, overrides) == recipe


def test_recorded_steps_need_faces_of_one_size() -> None:
    with pytest.raises(RecipeError, match="first_size out"):
        small_recipe(training={"cuda_graphs": True}, augmentation={"first_size": 16})
