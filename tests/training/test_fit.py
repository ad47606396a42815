"""What a run promises: the same weights after a kill, by two processes, and whatever the test pictures are."""

import dataclasses
import importlib
import itertools
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import small_recipe

from mien.data import FaceSamples, Split
from mien.data.samples import Fold, Usage
from mien.errors import (
    DataError,
    Interrupted,
    MissingPathError,
    ModelError,
    RecipeError,
    RunError,
    RunExistsError,
    TrainingError,
)
from mien.evaluation import load_predictions
from mien.evaluation.evaluate import evaluate_and_store
from mien.evaluation.predictor import RunPredictor
from mien.recipe import AugmentationSettings, Recipe
from mien.runs import Run, SplitResult, load_run
from mien.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.training import Progress, augment, fit
from mien.training.networks import create_network
from mien.training.room import choose_precision
from mien.training.setup import prepare


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.last_checkpoint).weights


def evaluate_run(run: Run, samples: FaceSamples, split: Split, **options: Any) -> dict[str, SplitResult]:
    evaluation = evaluate_and_store(RunPredictor(run, "cpu"), samples, split, **options)
    return {each.key: each for each in evaluation.report.results}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def interrupted(recipe: Recipe, drawn: FaceSamples, out: Path, after: int) -> Run:
    """A run that a signal ended after so many steps."""
    steps = itertools.count(1)
    with pytest.raises(Interrupted) as stopped:
        fit(recipe, drawn, out, accelerator="cpu", stop_signal=lambda: 15 if next(steps) == after else None)
    assert stopped.value.signal_number == signal.SIGTERM
    return Run(out)


RICH = {
    "augmentation": {"mixup": 0.3, "light_tail": 0.5},
    "training": {"ema_decay": 0.9, "weights": "ema", "channels_last": True, "clip_norm": 1.0, "label_smoothing": 0.1},
    "optimizer": {"name": "sgd", "weight_decay": 1e-3},
}


def test_a_finished_run_holds_what_the_contract_says(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fit(small_recipe(), drawn, tmp_path / "run", command="mien train", accelerator="cpu")
    report = load_run(run.path).load_report()
    assert list(json.loads(run.report_path.read_text())) == [
        "model", "recipe", "recipe_sha256", "data", "data_sha256", "row_source", "skipped", "protocol", "training_rows",
        "learnt_pictures", "most_frequent", "weights", "initialization", "seed", "input_size", "precision",
        "temperature", "parameters", "macs", "epochs", "best_epoch", "batch_size", "train_seconds",
        "pictures_per_second", "energy_joules", "energy_source", "device",
        "processes", "machine", "threads", "python_version", "torch_version", "mien_version", "command", "views",
        "results",
    ]  # fmt: skip
    predictions = load_predictions(run.predictions_path("validation"))
    found = report.headline()
    assert (found.key, report.splits) == ("validation", ("validation",))
    assert found.accuracy.value == np.mean(predictions.probabilities.argmax(1) == predictions.label)
    assert found.n == len(predictions) == 21
    names = {"training": ("loss", "accuracy", "lr", "pictures_per_second"),
             "validation": ("loss", "accuracy", "macro_f1")}  # fmt: skip
    assert [(row.epoch, row.split, row.name) for row in run.load_metrics()] == [
        (epoch, split, name) for epoch in (0, 1) for split in names for name in names[split]
    ]
    assert len(list((run.path / "tensorboard").iterdir())) == 1
    checkpoint = torch.load(run.best_checkpoint, weights_only=True)
    assert checkpoint["labels"] == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert checkpoint["temperature"] == report.temperature
    assert checkpoint["state"] == {}
    assert not (run.path / "looks.jsonl").exists()


def test_the_end_of_an_epoch_is_shown_with_its_own_validation(tmp_path: Path, drawn: FaceSamples) -> None:
    shown: list[Progress] = []
    run = fit(small_recipe(training={"epochs": 3}), drawn, tmp_path / "run", accelerator="cpu", show=shown.append)
    ends = {each.epoch: each.validation_accuracy for each in shown if each.step == each.steps}
    measured = [row for row in run.load_metrics() if (row.split, row.name) == ("validation", "accuracy")]
    assert ends == {row.epoch: row.value for row in measured}
    assert len(shown) == 3 * shown[0].steps


@pytest.mark.parametrize("sections", [{}, RICH], ids=["adam", "rich"])
def test_interrupted_anywhere_and_resumed_gives_the_same_weights_to_the_bit(
    tmp_path: Path, drawn: FaceSamples, sections: dict[str, object]
) -> None:
    recipe = small_recipe(**sections)
    whole = fit(recipe, drawn, tmp_path / "whole", accelerator="cpu")
    for stop_after in (3, 7, 9):  # within the first epoch, at its end, within the second
        out = interrupted(recipe, drawn, tmp_path / f"stopped-{stop_after}", after=stop_after).path
        resumed = fit(recipe, drawn, out, resume=True, accelerator="cpu")
        assert_equal(weights(whole), weights(resumed))
        assert_equal(load_checkpoint(whole.best_checkpoint).weights, load_checkpoint(resumed.best_checkpoint).weights)
        rows = [[row for row in run.load_metrics() if "second" not in row.name] for run in (whole, resumed)]
        assert rows[0] == rows[1]


def test_a_checkpoint_holds_what_runs_begun_by_other_versions_go_on_from(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(**RICH)
    whole = fit(recipe, drawn, tmp_path / "whole", accelerator="cpu")
    run = interrupted(recipe, drawn, tmp_path / "run", after=9)
    stored = load_checkpoint(run.last_checkpoint)
    assert stored.state.keys() == {"counters", "optimizer", "average", "data_sha256", "teachers_sha256"}
    assert list(stored.state["counters"]) == [
        "epoch", "step", "updates", "seconds", "epoch_seconds", "loss_sum", "correct", "count", "pictures",
        "validation_accuracy", "best_accuracy", "best_epoch", "energy_joules", "energy_source",
    ]  # fmt: skip
    del stored.state["teachers_sha256"]  # as before there were teachers
    save_checkpoint(run.last_checkpoint, stored)
    assert_equal(weights(whole), weights(fit(recipe, drawn, run.path, resume=True, accelerator="cpu")))


@pytest.mark.parametrize("change", ["optimizer", "counters"])
def test_a_state_of_another_kind_is_refused_with_a_sentence(tmp_path: Path, drawn: FaceSamples, change: str) -> None:
    recipe = small_recipe()
    run = interrupted(recipe, drawn, tmp_path / "run", after=3)
    stored = load_checkpoint(run.last_checkpoint)
    save_checkpoint(run.last_checkpoint, dataclasses.replace(stored, state={**stored.state, change: {"unheard": 1}}))
    with pytest.raises(RunError, match="by this version of mien"):
        fit(recipe, drawn, run.path, resume=True, accelerator="cpu")


def test_neither_pixels_nor_labels_of_test_pictures_enter_training(tmp_path: Path, drawn: FaceSamples) -> None:
    test = drawn.usages == Usage.PRIVATE_TEST
    images, labels = drawn.images.copy(), drawn.labels.copy()
    images[test], labels[test] = 255, (labels[test] + 1) % 7
    poisoned = dataclasses.replace(drawn, images=images, labels=labels)
    clean = fit(small_recipe(), drawn, tmp_path / "clean", accelerator="cpu")
    dirty = fit(small_recipe(), poisoned, tmp_path / "dirty", accelerator="cpu")
    assert_equal(weights(clean), weights(dirty))
    assert clean.load_report().temperature == dirty.load_report().temperature


def test_public_pictures_enter_nothing_under_the_published_protocol(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(data={"protocol": "published"})
    test = drawn.usages != Usage.TRAINING
    images = drawn.images.copy()
    images[test] = 0
    clean = fit(recipe, drawn, tmp_path / "clean", accelerator="cpu")
    dirty = fit(recipe, dataclasses.replace(drawn, images=images), tmp_path / "dirty", accelerator="cpu")
    assert_equal(weights(clean), weights(dirty))


def test_a_fold_of_training_validates_and_public_test_is_left_alone(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(data={"fold": 1, "folds": 4}, training={"epochs": 1})
    images = drawn.images.copy()
    images[drawn.usages != Usage.TRAINING] = 0
    clean = fit(recipe, drawn, tmp_path / "clean", accelerator="cpu")
    dirty = fit(recipe, dataclasses.replace(drawn, images=images), tmp_path / "dirty", accelerator="cpu")
    assert_equal(weights(clean), weights(dirty))
    assert clean.load_report().temperature == dirty.load_report().temperature
    report = clean.load_report()
    assert (report.fold, report.folds, report.training_rows) == (1, 4, 126)
    held_out = drawn.split(Split.VALIDATION, fold=Fold(1, 4))
    assert (load_predictions(clean.predictions_path("validation")).row == drawn.rows[held_out]).all()
    again = evaluate_run(clean, drawn, Split.VALIDATION)
    assert again["validation"].accuracy.value == report.headline().accuracy.value
    assert "public_test" in evaluate_run(clean, drawn, Split.PUBLIC_TEST)


def test_evaluating_a_test_split_is_noted_and_stored(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fit(small_recipe(), drawn, tmp_path / "run", accelerator="cpu")
    results = evaluate_run(run, drawn, Split.PUBLISHED_TEST, command="mien evaluate")
    assert results.keys() == {f"{split}{end}" for split in ("public_test", "private_test", "published_test")
                              for end in ("", "_unseen")}  # fmt: skip
    looks = [json.loads(line) for line in (run.path / "looks.jsonl").read_text().splitlines()]
    assert {look["split"] for look in looks} == {"public_test", "private_test", "published_test"}
    for split in ("public_test", "private_test", "published_test"):
        stored = load_predictions(run.predictions_path(split))
        assert results[split].accuracy.value == np.mean(stored.probabilities.argmax(1) == stored.label)
    assert {each.key for each in run.load_report().results} == {"validation", *results}


def test_a_loss_that_is_no_number_stops_with_the_rows(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(optimizer={"name": "sgd", "lr": 1e30}, model={"name": "baseline_cnn", "batch_norm": False})
    with pytest.raises(TrainingError, match=r"epoch 1, step \d+.*rows of the batch: \d+, "):
        fit(recipe, drawn, tmp_path / "run", accelerator="cpu")


def test_weights_that_are_no_numbers_after_the_last_step_are_said(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(optimizer={"name": "sgd", "lr": 1e30}, training={"epochs": 1, "batch_size": 168})
    with pytest.raises(ModelError, match=r"of 21 faces: its training diverged; lower optimizer\.lr"):
        fit(recipe, drawn, tmp_path / "run", accelerator="cpu")


def test_results_of_other_data_need_a_folder_of_their_own(tmp_path: Path, drawn: FaceSamples) -> None:
    run = fit(small_recipe(training={"epochs": 1}), drawn, tmp_path / "run", accelerator="cpu")
    before = run.load_report()
    other = dataclasses.replace(drawn, images=255 - drawn.images, name="folder:other", skipped=("a", "b"))
    with pytest.raises(RunExistsError, match="add --out DIR"):
        evaluate_run(run, other, Split.VALIDATION)
    assert run.load_report() == before
    for split in (Split.VALIDATION, Split.PUBLISHED_TEST):
        evaluate_run(run, other, split, out=tmp_path / "other")
    found = Run(tmp_path / "other").load_report()
    assert (found.data, found.trained_on, found.skipped) == ("folder:other", "synthetic", 2)
    assert found.data_sha256 == other.content_sha256() != before.data_sha256
    assert [each.key for each in found.results] == ["validation", "published_test", "published_test_unseen"]


def test_what_is_refused_before_the_first_epoch(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(training={"epochs": 1})
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu")
    with pytest.raises(RunExistsError, match="--resume"):
        fit(recipe, drawn, run.path, accelerator="cpu")
    with pytest.raises(RunExistsError, match=r"optimizer\.lr"):
        fit(small_recipe(training={"epochs": 1}, optimizer={"lr": 1.0}), drawn, run.path, resume=True)
    other = dataclasses.replace(drawn, images=255 - drawn.images)
    with pytest.raises(DataError, match="got other data"):
        fit(recipe, other, run.path, resume=True, accelerator="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunExistsError, match="got the file"):
        fit(recipe, drawn, tmp_path / "file", accelerator="cpu")
    with pytest.raises(RunError, match="choose another --out"):
        fit(recipe, drawn, tmp_path / "file" / "run", accelerator="cpu")


def test_resuming_a_finished_run_keeps_what_was_measured_on_test_images(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(training={"epochs": 1})
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu")
    evaluate_run(run, drawn, Split.PUBLISHED_TEST)
    before = run.load_report()
    fit(recipe, drawn, run.path, resume=True, accelerator="cpu")
    after = {each.key: each for each in run.load_report().results}
    assert after == {each.key: each for each in before.results}
    assert "private_test" in after
    run.last_checkpoint.unlink()
    with pytest.raises(RunExistsError, match=f"mien evaluate {run.path}"):
        fit(recipe, drawn, run.path, resume=True, accelerator="cpu")


def test_a_class_that_is_missing_in_training_is_an_error(tmp_path: Path, drawn: FaceSamples) -> None:
    kept = ~((drawn.usages == Usage.TRAINING) & (drawn.labels == 1))
    fewer = FaceSamples(
        drawn.images[kept], drawn.labels[kept], drawn.rows[kept], drawn.usages[kept], "drawn", drawn.row_source
    )
    with pytest.raises(DataError, match="none of disgust"):
        fit(small_recipe(), fewer, tmp_path / "run", accelerator="cpu")


def test_too_little_room_is_said_at_once(tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(RunError, match="expected about"):
        fit(small_recipe(), drawn, tmp_path / "run", accelerator="cpu")


def test_a_clock_ends_training_annealed(tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: 0.01 * next(looks))  # a hundredth of a second at each look
    monkeypatch.setattr(importlib.import_module("mien.training.progress"), "time", clock)
    recipe = small_recipe(training={"epochs": 1000, "minutes": 0.02}, schedule={"name": "cosine"})
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu")
    rates = [row.value for row in run.load_metrics() if row.name == "lr"]
    assert len(rates) < 1000
    assert rates[-1] < 0.1 * recipe.optimizer.lr


def test_the_learning_rate_of_an_epoch_is_that_of_its_last_step(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(schedule={"name": "warm_restarts", "restart_epochs": 1})
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu")
    rates = [row.value for row in run.load_metrics() if row.name == "lr"]
    last = (1 + np.cos(np.pi * 6 / 7)) / 2  # of 7 steps
    assert rates == pytest.approx([recipe.optimizer.lr * last] * 2)


def test_votes_are_a_second_target_and_leave_no_trace_in_the_answer(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(training={"votes_weight": 0.5}, augmentation={"mixup": 0.3})
    votes = np.random.default_rng(0).integers(0, 2, (len(drawn), 10), dtype=np.uint8)
    votes[5] = 0  # nobody voted
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu", votes=votes)
    assert weights(run)["model.classifier.weight"].shape[0] == 7 + 10
    assert load_predictions(run.predictions_path("validation")).probabilities.shape == (21, 7)
    poisoned = votes.copy()
    poisoned[drawn.usages != Usage.TRAINING] = 9
    again = fit(recipe, drawn, tmp_path / "again", accelerator="cpu", votes=poisoned)
    assert_equal(weights(run), weights(again))
    other = fit(recipe, drawn, tmp_path / "other", accelerator="cpu", votes=votes[:, ::-1].copy())
    assert not torch.equal(weights(run)["model.blocks.0.0.weight"], weights(other)["model.blocks.0.0.weight"])
    with pytest.raises(RecipeError, match="--votes"):
        fit(recipe, drawn, tmp_path / "none", accelerator="cpu")


def test_faces_that_grow_resume_to_the_bit_and_need_a_network_that_takes_them(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Noting(augment.Augmentation):
        def __init__(self, settings: AugmentationSettings, size: int) -> None:
            seen.append(size)
            super().__init__(settings, size)

    monkeypatch.setattr(augment, "Augmentation", Noting)
    growing = {"augmentation": {"first_size": 24}, "model": {"input_size": 40}, "training": {"epochs": 4}}
    recipe = small_recipe(**growing)
    whole = fit(recipe, drawn, tmp_path / "whole", accelerator="cpu")
    assert seen == [24, 32, 40, 40]
    interrupted(recipe, drawn, tmp_path / "stopped", after=10)
    resumed = fit(recipe, drawn, tmp_path / "stopped", resume=True, accelerator="cpu")
    assert_equal(weights(whole), weights(resumed))
    fixed = small_recipe(**{**growing, "model": {"name": "baseline_cnn", "input_size": 40}})
    with pytest.raises(RecipeError, match="40 pixels only"):
        fit(fixed, drawn, tmp_path / "fixed", accelerator="cpu")
    with pytest.raises(RecipeError, match="at most"):
        fit(small_recipe(augmentation={"first_size": 32}), drawn, tmp_path / "large", accelerator="cpu")


@pytest.mark.parametrize(
    ("asked", "native", "chosen"),
    [("auto", True, "bfloat16"), ("auto", False, "float32"), ("float32", True, "float32"),
     ("bfloat16", False, "bfloat16")],
)  # fmt: skip
def test_precision_follows_the_processor(
    asked: str, native: bool, chosen: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert choose_precision(asked, "cpu") == chosen
    assert ("precision=auto" in caplog.text) == (asked == "bfloat16" and not native)


def test_patience_ends_training_early(tmp_path: Path, drawn: FaceSamples) -> None:
    recipe = small_recipe(training={"epochs": 50, "patience": 1}, optimizer={"lr": 1e-12})
    assert fit(recipe, drawn, tmp_path / "run", accelerator="cpu").load_report().epochs < 10


def test_checkpoints_are_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe: Recipe = small_recipe()
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, Checkpoint(recipe, {"a": torch.ones(3)}))

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match="no room left"):
        save_checkpoint(path, Checkpoint(recipe, {"a": torch.zeros(3)}))
    assert torch.equal(load_checkpoint(path).weights["a"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]
    whole = path.read_bytes()
    for content in (whole[:100], b"", b"junk", b"emotion,pixels", bytes(range(256)), b"\x80\x02}q\x00."):
        path.write_bytes(content)
        with pytest.raises(RunError, match="expected a checkpoint of mien, got a damaged file") as told:
            load_checkpoint(path)
        assert "weights_only" not in str(told.value)  # torch's advice to read it in an unsafe way


@pytest.mark.parametrize(("file", "content"), [
    ("report.json", "[]"), ("report.json", "{"), ("metrics.jsonl", "junk\n"),
])  # fmt: skip
def test_damaged_files_of_a_run_are_named(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(RunError, match=f"{file} is damaged"):
        Run(tmp_path).load_report() if file == "report.json" else Run(tmp_path).load_metrics()


def test_a_batch_must_be_shared_by_the_processes(tmp_path: Path, drawn: FaceSamples) -> None:
    class TwoProcesses:
        world_size = 2

    with pytest.raises(RecipeError, match="multiple of the 2 processes, got 7"):
        prepare(small_recipe(training={"batch_size": 7}), drawn, tmp_path, TwoProcesses())  # type: ignore[arg-type]


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path, drawn: FaceSamples) -> None:
    first = fit(small_recipe(), drawn, tmp_path / "first", accelerator="cpu")
    weights = str(first.best_checkpoint)
    recipe = small_recipe(model={"name": "attention_cnn", "weights": weights}, optimizer={"name": "sgd", "lr": 1e-9})
    second = fit(recipe, drawn, tmp_path / "second", accelerator="cpu")
    assert second.load_report().initialization == "checkpoint"
    trained, kept = load_checkpoint(first.best_checkpoint).weights, load_checkpoint(second.best_checkpoint).weights
    for name in ("classifier.weight", "blocks.0.0.weight"):
        assert torch.allclose(trained[f"model.{name}"], kept[f"model.{name}"], atol=1e-6)


@pytest.mark.parametrize(
    ("sections", "error", "words"),
    [
        ({"model": {"name": "baseline_cnn"}}, ModelError, r"does not fit baseline_cnn.*missing.*not in the network"),
        ({"model": {"attention": "none"}}, ModelError, r"not in the network: model\.attention"),
        ({"data": {"protocol": "published"}}, RecipeError, "may stand in the test split"),
        ({"model": {"weights": "no-such.ckpt"}}, MissingPathError, "no file no-such.ckpt"),
    ],
)
def test_weights_of_another_run_that_do_not_fit_are_refused(
    tmp_path: Path, drawn: FaceSamples, sections: dict[str, dict[str, str]], error: type[Exception], words: str
) -> None:
    recipe = small_recipe()
    checkpoint = tmp_path / "start.ckpt"
    save_checkpoint(checkpoint, Checkpoint(recipe, create_network(recipe.model, recipe.data).state_dict()))
    model = {"name": "attention_cnn", "weights": str(checkpoint)} | sections.get("model", {})
    with pytest.raises(error, match=words):
        fit(small_recipe(**{**sections, "model": model}), drawn, tmp_path / "run", accelerator="cpu")
    assert not (tmp_path / "run").exists()


def test_cuda_graphs_are_refused_without_a_gpu(drawn: FaceSamples, tmp_path: Path) -> None:
    recipe = small_recipe(training={"epochs": 1, "cuda_graphs": True})
    with pytest.raises(RecipeError, match=r"training\.cuda_graphs=false"):
        fit(recipe, drawn, tmp_path / "run", accelerator="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_recorded_steps_train_the_same_network(drawn: FaceSamples, tmp_path: Path) -> None:
    weights = []
    for recorded in (False, True):
        recipe = small_recipe(training={"epochs": 1, "cuda_graphs": recorded})
        run = fit(recipe, drawn, tmp_path / str(recorded), accelerator="cuda")
        weights.append(load_checkpoint(run.last_checkpoint).weights)
    for name, eager in weights[0].items():
        torch.testing.assert_close(weights[1][name], eager, rtol=1e-2, atol=1e-3, msg=name)
