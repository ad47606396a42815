"""A study trains its rows one by one; what a later row lacks is said before the first."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import small_recipe
from tests.fake_runs import fake_run, locked_elsewhere, plain, read_page

from mien.data import FaceSamples
from mien.data.samples import Usage
from mien.data.synthetic import read_synthetic
from mien.errors import (
    CallError,
    DataError,
    Interrupted,
    MissingPathError,
    ModelError,
    RecipeError,
    RoomError,
    RunError,
    RunExistsError,
    UnknownNameError,
    WeightsUnavailableError,
)
from mien.recipe import ModelSettings, Recipe
from mien.report.study_page import write_study_page
from mien.study import load_study, run_study
from mien.training import checks, fit, is_first_process, room


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
    with pytest.raises(RunExistsError, match=r"add --set plain:training\.epochs=1; "):
        list(run_study([small_recipe(name="plain", training={"epochs": 2})], drawn, tmp_path, accelerator="cpu"))


def test_other_rows_of_the_folder_stay_in_the_comparison(tmp_path: Path, drawn: FaceSamples) -> None:
    fake_run(tmp_path / "other-s0", drawn, recipe="other", data_sha256=drawn.content_sha256())
    fake_run(tmp_path / "elsewhere-s0", drawn, recipe="elsewhere", data_sha256="cd")
    fake_run(tmp_path / "copied", drawn, recipe="other", data_sha256=drawn.content_sha256())
    recipe = small_recipe(name="plain", training={"epochs": 1})
    fit(recipe, drawn, tmp_path / "plain-s0", accelerator="cpu")  # as mien train --out does
    list(run_study([recipe], drawn, tmp_path, accelerator="cpu"))
    study = load_study(tmp_path)
    assert [report.recipe for report in study.reports] == ["plain", "other"]
    assert {each.row for each in study.left_out} == {"elsewhere-s0", "copied"}
    page = read_page(write_study_page(tmp_path, study.reports, left_out=study.left_out))
    assert "elsewhere-s0" in page.text
    assert [row[0] for row in page.rows if row[0] in ("plain", "other")] == ["plain", "other"]


def test_rows_that_wait_for_each_other_and_protocols_without_test_images_are_refused(
    tmp_path: Path, drawn: FaceSamples
) -> None:
    def taught(name: str, by: str) -> Recipe:
        teacher = str(tmp_path / f"{by}-s0" / "checkpoints" / "best.ckpt")
        return small_recipe(name=name, training={"teachers": [teacher], "teacher_weight": 0.5})

    with pytest.raises(CallError, match="a circle: one-s0, two-s0"):
        list(run_study([taught("one", "two"), taught("two", "one")], drawn, tmp_path, accelerator="cpu"))
    mixed = [small_recipe(name=each, data={"protocol": each}) for each in ("contest", "published")]
    with pytest.raises(CallError, match=r"protocol contest: contest-s0.* protocol published: published-s0.*--final"):
        list(run_study(mixed, drawn, tmp_path, accelerator="cpu"))


def test_a_row_that_another_process_trains_is_left_to_it_and_waited_for(tmp_path: Path, drawn: FaceSamples) -> None:
    recipes = [small_recipe(name=name, training={"epochs": 1}) for name in ("first", "second")]
    said: list[str] = []
    with locked_elsewhere(tmp_path / "first-s0") as other:

        def say(text: str) -> None:
            if "another process" in text:
                said.append(text)
                other.kill()  # its row is free again

        study = run_study(recipes, drawn, tmp_path, accelerator="cpu", say=say)
        assert next(study).path.name == "second-s0"
        assert not said
        assert [run.path.name for run in study] == ["first-s0"]
    assert len(said) == 1
    assert "first-s0" in said[0]
    assert [report.recipe for report in load_study(tmp_path).reports] == ["first", "second"]
    assert not list(tmp_path.rglob(".lock"))


def test_which_row_is_trained_is_said_and_an_unfinished_study_says_so(tmp_path: Path, drawn: FaceSamples) -> None:
    recipes = [small_recipe(name=name, training={"epochs": 1}) for name in ("first", "second", "third")]
    said: list[str] = []
    study = run_study(recipes, drawn, tmp_path, accelerator="cpu", say=said.append)
    next(study)
    study.close()  # as if it was interrupted
    assert load_study(tmp_path).unfinished == ("second-s0", "third-s0")
    assert said == ["row 1 of 3: first-s0"]
    left = load_study(tmp_path)
    page = read_page(write_study_page(tmp_path, left.reports, unfinished=left.unfinished))
    text = plain(page.text)
    assert "2 rows of this study are still to be trained" in text
    assert all(name in text for name in left.unfinished)

    def stop() -> int | None:
        return 15 if (tmp_path / "second-s0").exists() else None

    with pytest.raises(Interrupted):
        list(run_study(recipes, drawn, tmp_path, accelerator="cpu", stop_signal=stop))
    list(run_study(recipes, drawn, tmp_path, accelerator="cpu", say=said.append))
    assert said[1:] == ["row 2 of 3: second-s0, going on", "row 3 of 3: third-s0"]
    assert load_study(tmp_path).unfinished == ()
    assert "unfinished" not in json.loads((tmp_path / "study.json").read_text())


def test_a_signal_ends_the_wait_for_another_process(tmp_path: Path, drawn: FaceSamples) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"say": said.append, "stop_signal": lambda: 2 if said else None}
    with locked_elsewhere(tmp_path / "small-s0"), pytest.raises(Interrupted):
        list(run_study([small_recipe()], drawn, tmp_path, accelerator="cpu", **options))


def test_weights_that_cannot_be_had_are_named_for_all_rows_before_the_first(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    tried: list[str] = []

    def offline(settings: ModelSettings) -> str | None:
        tried.append(settings.name)
        return "not here; give it with --set model.weights=FILE" if settings.weights == "imagenet" else None

    monkeypatch.setattr(checks.models, "weights_available", offline)
    out = tmp_path / "study"
    first, second = (
        small_recipe(name=name, model={"name": network, "input_size": 32, "in_chans": 3, "weights": "imagenet"})
        for name, network in (("first", "resnet50"), ("second", "resnet50_cbam"))
    )
    teacher = str(out / "first-s0" / "checkpoints" / "best.ckpt")
    taught = small_recipe(name="taught", training={"teachers": [teacher], "teacher_weight": 0.5})
    plain = small_recipe(name="plain", training={"epochs": 1})
    again = first.model_copy(update={"seed": 1})
    recipes = [first, again, second, taught, plain]
    with pytest.raises(WeightsUnavailableError) as refused:
        list(run_study(recipes, drawn, out, accelerator="cpu"))
    for row in ("first", "second"):
        assert f"--set {row}:model.weights=FILE" in str(refused.value)
    assert "--skip-unavailable" in str(refused.value)
    assert not out.exists()
    assert tried == ["resnet50", "resnet50_cbam"]  # once for all seeds
    said: list[str] = []
    study = run_study(recipes, drawn, out, accelerator="cpu", skip_unavailable=True, say=said.append)
    assert [run.path.name for run in study] == ["plain-s0"]
    left_out = {each.row: each.reason for each in load_study(out).left_out}
    assert list(left_out) == ["first-s0", "first-s1", "second-s0", "taught-s0"]
    assert "first-s0" in left_out["taught-s0"]
    assert len([text for text in said if "left out" in text]) == 4
    with pytest.raises(WeightsUnavailableError):  # nothing would be left
        list(run_study([first], drawn, out, accelerator="cpu", skip_unavailable=True))


def test_files_that_do_not_fit_and_too_little_memory_are_said_before_the_first(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = small_recipe(name="plain", training={"epochs": 1})
    start = fit(plain, drawn, tmp_path / "start", accelerator="cpu").best_checkpoint
    out = tmp_path / "study"
    for changes, error, words in (
        ({"model": {"name": "baseline_cnn", "weights": str(start)}}, ModelError, "does not fit baseline_cnn"),
        ({"training": {"teachers": [str(start)], "teacher_weight": 0.5}, "data": {"protocol": "published"}},
         RecipeError, "may stand in the test split"),
        ({"model": {"weights": str(tmp_path / "none.ckpt")}}, MissingPathError, "none.ckpt"),
    ):  # fmt: skip
        protocol = {"data": {"protocol": "published"}} if "data" in changes else {}
        rows = [small_recipe(name="plain", **protocol), small_recipe(name="other", **changes)]
        with pytest.raises(error, match=words):
            list(run_study(rows, drawn, out, accelerator="cpu"))
    monkeypatch.setattr(room, "_main_memory", lambda: 60 << 20)
    large = small_recipe(name="large", training={"batch_size": 168}, model={"input_size": 96})
    with pytest.raises(RoomError, match=r"--set large:training\.batch_size="):
        list(run_study([plain, large], drawn, out, accelerator="cpu"))
    assert not out.exists()


def test_each_task_of_slurm_works_on_a_study_by_itself(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "faces"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    recipe = small_recipe(name="plain", training={"epochs": 1})
    for _ in range(2):  # trained, then found finished
        (run,) = run_study([recipe], drawn, tmp_path, accelerator="cpu")
        assert run.report_path.exists()
    assert is_first_process(devices=1)
    assert not is_first_process(devices=2)  # Slurm's tasks are then one training
    monkeypatch.setenv("RANK", "0")
    assert is_first_process(devices=2)


def test_a_study_that_is_missing_or_damaged_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="got none; run the study again"):
        load_study(tmp_path)
    for text in ("{", "[]", '{"rows": 3}', '{"rows": [{}]}', '{"rows": [], "left_out": [{"row": "a"}]}'):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(RunError, match=r"study\.json is damaged: .*; remove it and run the study again"):
            load_study(tmp_path)
