from pathlib import Path

import pytest

from mien.errors import MissingPathError, RecipeError
from mien.recipe import load_recipe, override_recipe, to_toml
from mien.study.deviations import flat_settings
from mien.study.suites import recipes_folder, suite_recipes
from tests.conftest import small_recipe


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text)
    return path


def test_every_recipe_that_mien_brings_loads_and_survives_being_written(tmp_path: Path) -> None:
    paths = sorted(recipes_folder().rglob("*.toml"))
    assert paths
    for path in paths:
        recipe = load_recipe(path)
        assert load_recipe(write(tmp_path, to_toml(recipe))) == recipe, path


def test_every_header_is_a_lab_note() -> None:
    for path in recipes_folder().rglob("*.toml"):
        header = path.read_text().partition("\n[")[0]
        assert "\n# Command: mien" in header, path
        assert "# Reached" in header, path


def test_only_the_model_differs_between_rows_of_the_controlled_suite() -> None:
    recipes = [load_recipe(path) for path in suite_recipes("controlled")]
    first = recipes[0]
    for recipe in recipes:
        assert (recipe.data, recipe.augmentation, recipe.optimizer) == (first.data, first.augmentation, first.optimizer)
        assert (recipe.schedule, recipe.training) == (first.schedule, first.training)
        assert recipe.model.input_size == first.model.input_size


def test_one_setting_differs_between_each_idea_and_labels_alone() -> None:
    plain, *ideas = [flat_settings(load_recipe(path)) for path in suite_recipes("ablation")]
    for idea in ideas:
        differing = {key for key in plain if idea[key] != plain[key]}
        assert len(differing - {"training.teacher_weight"}) == 1, differing


def test_overrides_are_applied_in_order_and_typed(tmp_path: Path) -> None:
    path = write(tmp_path, '[model]\nname = "baseline_cnn"\n')
    recipe = load_recipe(
        path, ["training.epochs=3", "training.epochs=4", "model.batch_norm=false", "model.weights=x.pth"]
    )
    assert recipe.name == "some"
    assert recipe.training.epochs == 4
    assert recipe.model.batch_norm is False
    assert recipe.model.weights == "x.pth"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model", "not a TOML recipe"),
        ("", "model"),
        ('[model]\nname = "a"\n[training]\nepoch = 3\n', "'training.epoch'. Did you mean 'epochs'"),
        ('[model]\nname = "a"\n[training]\nepochs = 0\n', "training.epochs"),
        ('[model]\nname = "a"\n[training]\nepochs = "3"\n', "training.epochs"),
        ('[model]\nname = "a"\n[training]\nweights = "ema"\n', "needs ema_decay"),
        ('[model]\nname = "a"\n[training]\nminutes = inf\n', "training.minutes: Input should be a finite number"),
        ('[model]\nname = "a"\n[optimizer]\nlr = nan\n', "optimizer.lr"),
        ('[model]\nname = "a"\n[data]\nfold = 5\n', "fold must be 0 to 4"),
        ('[model]\nname = "a"\n[data]\nfold = 0\nprotocol = "published"\n', "leave out protocol"),
        ('[model]\nname = "a"\n[data]\nfold = 0\nvalidation_rows = 9\n', "leave out protocol and validation_rows"),
    ],
)
def test_bad_recipes_are_refused_with_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace(".", r"\.")):
        load_recipe(write(tmp_path, text))


def test_rare_characters_survive_being_written(tmp_path: Path) -> None:
    recipe = small_recipe(model={"weights": '/tmp/\U0001f600/ü\x7f"\\.pth'})
    assert load_recipe(write(tmp_path, to_toml(recipe))) == recipe


def test_bad_overrides_are_refused() -> None:
    for override in ("epochs", "training.epochs.more=1", "training.nothing=1"):
        with pytest.raises(RecipeError):
            override_recipe(small_recipe(), [override])


def test_missing_file() -> None:
    with pytest.raises(MissingPathError):
        load_recipe(Path("nowhere.toml"))
