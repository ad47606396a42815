"""Training on what a detector finds: which weights are kept, which faces are seen, and which detectors are refused."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import small_recipe
from tests.scene_finder import Boxes, Finder

from mien.data import FaceSamples, Split
from mien.data.scenes import GREY
from mien.errors import Interrupted, RecipeError
from mien.evaluation.predictor import predict_logits, probabilities_of
from mien.face.crop import REFERENCE
from mien.files import cache_folder
from mien.recipe import AugmentationSettings, Recipe
from mien.runs.checkpoint import load_checkpoint
from mien.training import augment, engine, fit, progress
from mien.training.detected import SceneFaces, search_scenes
from mien.training.engine import TrainingFaces

FINDER = "tests.scene_finder:Finder"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def validation(drawn: FaceSamples) -> np.ndarray:
    return drawn.split(Split.VALIDATION)


class Centred(Finder):
    shift = 0.0


def test_points_come_in_pixels_of_the_picture_and_crops_as_the_recognizer_makes_them(
    drawn: FaceSamples, validation: np.ndarray, own_cache: None
) -> None:
    faces = search_scenes(drawn, validation, Centred(), size=48)
    assert faces.found.all()
    # The drawn background may be as grey as the field, which moves what the finder takes for the edge.
    assert np.median(np.abs(faces.points - np.array(REFERENCE))) < 0.05
    assert np.median(np.abs(faces.crops.astype(float) - drawn.images[validation])) <= 2


def test_faces_without_points_are_cropped_by_their_box(
    drawn: FaceSamples, validation: np.ndarray, own_cache: None
) -> None:
    faces = search_scenes(drawn, validation, Boxes(), size=24)
    assert faces.found.all()
    assert np.isnan(faces.points).all()
    assert faces.crops.shape == (len(validation), 24, 24)
    assert faces.crops.any((1, 2)).all()


def test_what_was_found_is_kept_by_data_rows_detector_and_scene(
    drawn: FaceSamples, validation: np.ndarray, own_cache: None
) -> None:
    finder, shown = Finder(), []
    first = search_scenes(drawn, validation, finder, size=0, show=lambda *counts: shown.append(counts))
    assert (finder.searched, shown[-1]) == (len(validation), (len(validation), len(validation)))
    again = search_scenes(drawn, validation, finder, size=0)
    assert finder.searched == len(validation)
    assert np.array_equal(again.points, first.points)
    search_scenes(drawn, validation[:5], finder, size=0)
    search_scenes(drawn, validation[:5], finder, size=0)
    assert finder.searched == len(validation) + 5
    (entry,) = [path for path in cache_folder().rglob("*.npz") if np.array_equal(np.load(path)["points"], first.points)]
    entry.write_bytes(b"damaged")
    assert np.array_equal(search_scenes(drawn, validation, finder, size=0).points, first.points)


def test_what_a_foreign_detector_finds_is_not_kept(drawn: FaceSamples, validation: np.ndarray, own_cache: None) -> None:
    finder = Finder()
    finder.identity = None
    search_scenes(drawn, validation, finder, size=0)
    search_scenes(drawn, validation, finder, size=0)
    assert finder.searched == 2 * len(validation)


def test_where_nothing_is_found_there_is_no_point_and_accuracy_is_of_what_is_found(
    drawn: FaceSamples, validation: np.ndarray, own_cache: None
) -> None:
    grey = dataclasses.replace(drawn, images=np.full_like(drawn.images, GREY))
    faces = search_scenes(grey, validation, Finder(), size=48)
    assert not faces.found.any()
    assert np.isnan(faces.points).all()
    labels = drawn.labels[validation]
    answers = np.eye(7, dtype=np.float32)[np.where(np.arange(len(labels)) < 6, labels, (labels + 1) % 7)]
    some = SceneFaces(np.arange(len(labels)) % 2 == 0, faces.points, faces.crops)
    assert some.accuracy(answers, labels) == pytest.approx(3 / some.found.sum())


def detecting(**training: object) -> Recipe:
    augmentation = {"detected": 0.7, "detector": FINDER}
    return small_recipe(augmentation=augmentation, training={"epochs": 3, **training})


def rows(path: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line["value"] for line in lines if line["name"] == name and line["split"] == "validation"]


def test_each_epoch_tells_scene_accuracy_and_the_best_mean_is_kept(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([(0.5, 0.1), (0.4, 0.3), (0.6, 0.05)])  # of given pictures, of scenes
    measured = []
    end_epoch = progress.Log.end_epoch

    def end(log: progress.Log, validation: dict[str, float]) -> bool:
        measured.append(validation["scene_accuracy"])
        accuracy, scenes = next(told)
        return end_epoch(log, {**validation, "accuracy": accuracy, "scene_accuracy": scenes})

    monkeypatch.setattr(progress.Log, "end_epoch", end)
    run = fit(detecting(), drawn, tmp_path / "run", accelerator="cpu")
    assert rows(run.path, "scene_accuracy") == [0.1, 0.3, 0.05]
    assert run.load_report().best_epoch == 2
    validation = drawn.split(Split.VALIDATION)
    scenes = search_scenes(drawn, validation, Finder(), size=48)
    kept = predict_logits(load_checkpoint(run.best_checkpoint).classifier(), scenes.crops)
    assert scenes.accuracy(probabilities_of(kept), drawn.labels[validation]) == measured[1]


def test_batch_norms_statistics_are_of_given_faces_and_crops_in_the_recipes_share(
    tmp_path: Path, drawn: FaceSamples
) -> None:
    recipe = detecting(epochs=1, precise_norm=True)
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu")
    network, training = load_checkpoint(run.best_checkpoint).classifier(), drawn.split(Split.TRAINING)
    points = search_scenes(drawn, training, Finder(), size=0).points
    crops = augment.draw_crops(recipe.augmentation, points, 48, drawn.rows[training], seed=0, epoch=1)
    given = torch.from_numpy(drawn.images[training])[:, None]
    seen = augment.cropped(given, crops)
    assert 0.5 < float((seen != given).flatten(1).any(1).float().mean()) < 0.9  # 0.7 of them
    conv, norm = network.model.blocks[0][0], network.model.blocks[0][1]
    means = [conv((network.prepare(faces) - network.mean) / network.std).mean((0, 2, 3)) for faces in (seen, given)]
    torch.testing.assert_close(norm.running_mean, means[0])
    assert not torch.allclose(norm.running_mean, means[1])


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, drawn: FaceSamples) -> None:
    whole = fit(detecting(), drawn, tmp_path / "whole", accelerator="cpu")
    searches, steps = [], itertools.count(1)

    def stop() -> int | None:
        return 15 if next(steps) == 4 else None

    with pytest.raises(Interrupted, match="saved"):
        fit(detecting(), drawn, tmp_path / "run", accelerator="cpu", stop_signal=stop)
    run = fit(
        detecting(),
        drawn,
        tmp_path / "run",
        accelerator="cpu",
        resume=True,
        show_pictures=lambda *_: searches.append(1),
    )
    assert not searches  # what was found is known by then
    one, other = (load_checkpoint(each.last_checkpoint).weights for each in (whole, run))
    assert all(torch.equal(one[name], other[name]) for name in one)
    plain = fit(small_recipe(training={"epochs": 3}), drawn, tmp_path / "plain", accelerator="cpu")
    assert not torch.equal(load_checkpoint(plain.last_checkpoint).weights[name := next(iter(one))], one[name])
    assert not rows(plain.path, "scene_accuracy")


def test_a_signal_ends_the_search(tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Interrupted, match="searched") as stopped:
        fit(detecting(), drawn, tmp_path / "run", accelerator="cpu", stop_signal=lambda: 15)
    assert stopped.value.signal_number == 15


def test_pictures_of_test_splits_are_not_searched(
    tmp_path: Path, drawn: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit(detecting(epochs=1), drawn, tmp_path / "run", accelerator="cpu")
    images = np.array(drawn.images)
    images[drawn.split(Split.PRIVATE_TEST)] = 255
    poisoned = dataclasses.replace(drawn, images=images)
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    counts = []
    other = fit(
        detecting(epochs=1),
        poisoned,
        tmp_path / "other",
        accelerator="cpu",
        show_pictures=lambda *of: counts.append(of),
    )
    assert {count for _, _, count in counts} == {len(drawn.split(Split.TRAINING)), len(drawn.split(Split.VALIDATION))}
    one, two = (load_checkpoint(each.best_checkpoint).weights for each in (run, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("name", "got"), [("Boxes", "boxes alone"), ("Blind", "no face in 32 scenes")])
def test_detectors_without_points_are_refused(tmp_path: Path, drawn: FaceSamples, name: str, got: str) -> None:
    recipe = small_recipe(augmentation={"detected": 0.5, "detector": f"tests.scene_finder:{name}"})
    with pytest.raises(RecipeError, match=f"five points of faces, got {got}"):
        fit(recipe, drawn, tmp_path / "run", accelerator="cpu")


def answer(faces: torch.Tensor) -> torch.Tensor:
    """Told by the grey levels on the left: a mirror image is answered otherwise."""
    left = faces[..., : faces.shape[-1] // 2].mean((1, 2, 3))
    return torch.stack([left, 1 - left], dim=1)


def test_teachers_of_given_faces_answer_once_for_the_face_and_its_mirror_image() -> None:
    images = torch.randint(0, 256, (5, 1, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    answers = engine.answers_of(answer, images)
    level = images.float().mean((1, 2, 3)) / 255
    torch.testing.assert_close(answers, torch.stack([level, 1 - level], dim=1), rtol=0, atol=1e-6)


def test_targets_are_mixed_as_faces_are() -> None:
    images = torch.randint(0, 256, (5, 1, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = torch.rand(5, 2).softmax(1)
    answered = TrainingFaces(images, torch.tensor([0, 1, 1, 0, 1]), torch.arange(5), num_classes=2, targets=expected)
    settings = AugmentationSettings(rotation=20, mixup=0.4)
    arguments = {"seed": 0, "number": 0, "batch_size": 5}
    mixed = engine.Epoch(answered, settings, 48, **arguments).batch(0)
    ratios = engine.augment.mixup_ratios(0, 0, 5, 0.4)
    order = torch.from_numpy(np.random.default_rng((0, 0, 2)).permutation(5))
    ratio = ratios[order][:, None]
    torch.testing.assert_close(mixed.targets, ratio * expected[order] + (1 - ratio) * expected[order.roll(-1)])


def test_a_student_of_given_faces_comes_to_its_teachers_answers_who_are_asked_once(
    tmp_path: Path, drawn: FaceSamples, own_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = fit(small_recipe(), drawn, tmp_path / "teacher", accelerator="cpu")
    stored = load_checkpoint(teacher.best_checkpoint)
    stored.weights["model.classifier.weight"].zero_()
    stored.weights["model.classifier.bias"].copy_(torch.tensor([0.0, 0, 0, 4.0, 0, 0, 0]))  # always happy
    path = tmp_path / "happy.ckpt"
    torch.save({**torch.load(teacher.best_checkpoint, weights_only=True), "weights": stored.weights}, path)
    taught = {"teachers": [str(path)], "teacher_weight": 1.0, "teacher_view": "given", "epochs": 4}
    told: list[tuple[str, int, int]] = []
    run = fit(
        small_recipe(training=taught, optimizer={"lr": 0.01}), drawn, tmp_path / "run", accelerator="cpu",
        show_pictures=lambda *of: told.append(of),
    )  # fmt: skip
    count = len(drawn.split(Split.TRAINING))
    assert [of[0] for of in told] == ["answered by a teacher"] * len(told)
    assert told[-1][1:] == (count, count)
    answers = predict_logits(load_checkpoint(run.best_checkpoint).classifier(), drawn.images)[0].argmax(1)
    assert (answers == 3).mean() > 0.9
    (sha256,) = run.load_report().teachers_sha256
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MIEN_CACHE", str(tmp_path / "empty"))
        with pytest.raises(Interrupted, match="answered by a teacher"):
            fit(small_recipe(training=taught), drawn, tmp_path / "cut", accelerator="cpu", stop_signal=lambda: 2)
    monkeypatch.setattr(engine, "answers_of", lambda *_: pytest.fail("asked again"))
    fit(small_recipe(training={**taught, "epochs": 1}), drawn, tmp_path / "again", accelerator="cpu")
