"""A study trains its rows one by one; what a later row lacks is said before the first."""

import json
from pathlib import Path

import pytest
from tests.conftest import small_recipe

from mien.data import FaceSamples
from mien.data.samples import Usage
from mien.data.synthetic import read_synthetic
from mien.errors import DataError, Interrupted, MissingPathError, RecipeError, RunExistsError, UnknownNameError
from mien.study import run_study


def test_what_the_last_row_lacks_is_said_before_the_first_is_trained(tmp_path: Path, drawn: FaceSamples) -> None:
    plain = small_recipe(name="plain")
    voted = small_recipe(name="voted", training={"votes_weight": 0.5})
    with pytest.raises(RecipeError, match="--votes"):
        list(run_study([plain, voted], drawn, tmp_path, accelerator="cpu"))
    taught = small_recipe(name="taught", training={"teachers": ["elsewhere/best.ckpt"], "teacher_weight": 0.5})
    with pytest.raises(MissingPathError, match="elsewhere"):
        list(run_study([plain, taught], drawn, tmp_path, accelerator="cpu"))
    for options, error in (({"attention": "sex"}, UnknownNameError), ({"dropout": "high"}, RecipeError)):
        wrong = small_recipe(name="wrong", model={"name": "compact_resnet", "options": options})
        with pytest.raises(error):
            list(run_study([plain, wrong], drawn, tmp_path, accelerator="cpu"))
    only_training = drawn.usages == Usage.TRAINING
    training = FaceSamples(
        drawn.images[only_training], drawn.labels[only_training], drawn.rows[only_training],
        drawn.usages[only_training], "drawn", drawn.row_source,
    )  # fmt: skip
    with pytest.raises(DataError, match="drawn: expected labelled faces in published_test"):
        list(run_study([plain], training, tmp_path, final=True, accelerator="cpu"))
    assert not any(tmp_path.iterdir())


def test_a_row_can_learn_from_an_earlier_row_of_the_same_study(tmp_path: Path, drawn: FaceSamples) -> None:
    plain = small_recipe(name="plain", training={"epochs": 1})
    teacher = tmp_path / "plain-s0" / "checkpoints" / "best.ckpt"
    training = {"epochs": 1, "teachers": [str(teacher)], "teacher_weight": 0.5}
    study = run_study([plain, small_recipe(name="taught", training=training)], drawn, tmp_path, accelerator="cpu")
    assert [run.load_report().recipe for run in study] == ["plain", "taught"]
    content = json.loads((tmp_path / "study.json").read_text())
    assert [row["recipe"] for row in content["rows"]] == ["plain", "taught"]
    assert content["published"]["rows"]["resnet50"]["accuracy"] == 0.435
    assert not list(tmp_path.rglob("*.html"))


def test_each_run_is_given_when_it_is_finished(tmp_path: Path, drawn: FaceSamples) -> None:
    recipes = [small_recipe(name=name, training={"epochs": 1}) for name in ("first", "second")]
    study = run_study(recipes, drawn, tmp_path, accelerator="cpu", final=True)
    first = next(study)
    assert first.load_report().result("published_test") is not None
    assert not (tmp_path / "second-s0").exists()
    assert [row["recipe"] for row in json.loads((tmp_path / "study.json").read_text())["rows"]] == ["first"]


def test_a_signal_while_a_row_is_evaluated_ends_the_study_after_it(tmp_path: Path, drawn: FaceSamples) -> None:
    recipes = [small_recipe(name=name, training={"epochs": 1}) for name in ("first", "second")]
    trained = tmp_path / "first-s0" / "report.json"
    with pytest.raises(Interrupted, match=f"finished runs are in {tmp_path}") as stopped:
        list(run_study(recipes, drawn, tmp_path, accelerator="cpu", stop_signal=lambda: 15 * trained.exists() or None))
    assert stopped.value.signal_number == 15
    assert not (tmp_path / "second-s0").exists()
    study = run_study(recipes, drawn, tmp_path, accelerator="cpu")
    assert [run.load_report().recipe for run in study] == ["first", "second"]


def test_finished_rows_of_another_recipe_or_other_data_are_not_taken_for_these(
    tmp_path: Path, drawn: FaceSamples
) -> None:
    recipe = small_recipe(name="plain", training={"epochs": 1})
    list(run_study([recipe], drawn, tmp_path, accelerator="cpu"))
    with pytest.raises(RunExistsError, match="on other data"):
        list(run_study([recipe], read_synthetic(140), tmp_path, accelerator="cpu"))
    with pytest.raises(RunExistsError, match="of another; choose"):
        list(run_study([small_recipe(name="plain", training={"epochs": 2})], drawn, tmp_path, accelerator="cpu"))
