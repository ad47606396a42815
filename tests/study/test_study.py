"""A study trains its rows one by one; what a later row lacks is said before the first."""

from pathlib import Path

import pytest
from tests.conftest import small_recipe

from mien.data import FaceSamples
from mien.data.samples import Usage
from mien.data.synthetic import read_synthetic
from mien.errors import DataError, Interrupted, MissingPathError, RecipeError, RunExistsError
from mien.study import run_study


def test_what_the_last_row_lacks_is_said_before_the_first_is_trained(tmp_path: Path, drawn: FaceSamples) -> None:
    plain = small_recipe(name="plain")
    voted = small_recipe(name="voted", training={"votes_weight": 0.5})
    with pytest.raises(RecipeError, match="--votes"):
        run_study([plain, voted], drawn, tmp_path, accelerator="cpu")
    taught = small_recipe(name="taught", training={"teachers": ["elsewhere/best.ckpt"], "teacher_weight": 0.5})
    with pytest.raises(MissingPathError, match="elsewhere"):
        run_study([plain, taught], drawn, tmp_path, accelerator="cpu")
    only_training = drawn.usages == Usage.TRAINING
    training = FaceSamples(
        drawn.images[only_training], drawn.labels[only_training], drawn.rows[only_training],
        drawn.usages[only_training], "drawn", drawn.row_source,
    )  # fmt: skip
    with pytest.raises(DataError, match="drawn has no labelled face in published_test"):
        run_study([plain], training, tmp_path, final=True, accelerator="cpu")
    assert not any(tmp_path.iterdir())


def test_a_row_can_learn_from_an_earlier_row_of_the_same_study(tmp_path: Path, drawn: FaceSamples) -> None:
    plain = small_recipe(name="plain", training={"epochs": 1})
    teacher = tmp_path / "plain-s0" / "checkpoints" / "best.ckpt"
    training = {"epochs": 1, "teachers": [str(teacher)], "teacher_weight": 0.5}
    study = run_study([plain, small_recipe(name="taught", training=training)], drawn, tmp_path, accelerator="cpu")
    assert [row["recipe"] for row in study["rows"]] == ["plain", "taught"]


def test_a_signal_while_a_row_is_evaluated_ends_the_study_after_it(tmp_path: Path, drawn: FaceSamples) -> None:
    recipes = [small_recipe(name=name, training={"epochs": 1}) for name in ("first", "second")]
    trained = tmp_path / "first-s0" / "report.json"
    with pytest.raises(Interrupted, match=f"finished runs are in {tmp_path}") as stopped:
        run_study(recipes, drawn, tmp_path, accelerator="cpu", stop_signal=lambda: 15 if trained.exists() else None)
    assert stopped.value.signal_number == 15
    assert not (tmp_path / "second-s0").exists()
    assert [row["recipe"] for row in run_study(recipes, drawn, tmp_path, accelerator="cpu")["rows"]] == [
        "first",
        "second",
    ]


def test_finished_rows_of_another_recipe_or_other_data_are_not_taken_for_these(
    tmp_path: Path, drawn: FaceSamples
) -> None:
    recipe = small_recipe(name="plain", training={"epochs": 1})
    run_study([recipe], drawn, tmp_path, accelerator="cpu")
    with pytest.raises(RunExistsError, match="on other data"):
        run_study([recipe], read_synthetic(140), tmp_path, accelerator="cpu")
    with pytest.raises(RunExistsError, match="of another recipe"):
        run_study([small_recipe(name="plain", training={"epochs": 2})], drawn, tmp_path, accelerator="cpu")
