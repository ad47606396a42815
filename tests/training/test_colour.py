"""Pictures in colour and of other sizes, through augmentation, training, evaluation and pages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import small_recipe

from mien.data import FaceSamples, Split
from mien.data import pictures as stored
from mien.data.paths import PathTable
from mien.data.samples import OWN_SPLITS, Usage
from mien.errors import DataError, RecipeError
from mien.evaluation import robustness
from mien.evaluation.evaluate import evaluate_and_store
from mien.evaluation.predictor import RunPredictor
from mien.explain import faithfulness, saliency
from mien.models import face_tensor
from mien.recipe import AugmentationSettings
from mien.report import format as formats
from mien.report.explain_page import heat_on_face
from mien.report.run_page import seen_words, write_run_page
from mien.runs import Run
from mien.runs.checkpoint import load_checkpoint
from mien.training import fit, setup
from mien.training.augment import DRAWS, Augmentation

COLOUR = {"model": {"in_chans": 3}, "data": {"color": True}}


@pytest.fixture
def coloured(drawn: FaceSamples) -> FaceSamples:
    """The drawn faces, each in a colour of its own, as from folders train, val and test."""
    tints = np.random.default_rng(0).uniform(0.5, 1, (len(drawn), 1, 1, 3))
    files = [f"val/{number:03d}.png" for number in range(len(drawn))]
    return replace(
        drawn,
        images=(drawn.images[..., None] * tints).astype(np.uint8),
        name="folder:tints",
        paths=PathTable.of("/pictures", files),
        groups=np.arange(len(drawn), dtype=np.int32),
        split_names={Usage.TRAINING: "train", Usage.PUBLIC_TEST: "val", Usage.PRIVATE_TEST: "test"},
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path / "checkpoints/last.ckpt").weights


def test_channels_are_augmented_alike() -> None:
    settings = AugmentationSettings(flip=0.5, rotation=20, brightness=0.3, contrast=0.4, erasing=0.5, scale=0.1)
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (6, 1, 48, 48), dtype=torch.uint8, generator=generator)
    draws = torch.rand(6, len(DRAWS), generator=generator)
    augmentation = Augmentation(settings, 32)
    once, thrice = augmentation(grey, draws), augmentation(grey.expand(-1, 3, -1, -1), draws)
    assert thrice.shape == (6, 3, 32, 32)
    torch.testing.assert_close(thrice, once.expand(-1, 3, -1, -1), rtol=0, atol=1e-6)


def test_contrast_is_about_the_mean_of_all_channels() -> None:
    face = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    face[:, 0] = 255
    draws = torch.full((1, len(DRAWS)), 0.5)
    draws[:, DRAWS.index("contrast")] = 0.0  # half the contrast
    out = Augmentation(AugmentationSettings(contrast=0.5), 16)(face, draws)
    assert out[0, :, 0, 0].tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6], abs=1e-6)


def test_stored_faces_as_tensors() -> None:
    assert face_tensor(np.zeros((2, 5, 5), np.uint8)).shape == (2, 1, 5, 5)
    rgb = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert face_tensor(rgb).is_contiguous()
    assert (face_tensor(rgb)[:, 2].numpy() == rgb[..., 2]).all()


def test_a_split_too_large_for_the_device_is_read_batch_by_batch_to_the_same_weights(
    tmp_path: Path, coloured: FaceSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(**COLOUR, augmentation={"mixup": 0.2}, training={"precise_norm": True})
    fit(recipe, coloured, tmp_path / "whole", accelerator="cpu")
    monkeypatch.setattr(setup, "IN_MEMORY", 0)
    monkeypatch.setattr(stored, "IN_MEMORY", 0)
    fit(recipe, coloured, tmp_path / "read", accelerator="cpu")
    whole, read = weights(tmp_path / "whole"), weights(tmp_path / "read")
    assert all(torch.equal(whole[name], read[name]) for name in whole)
    reports = [(tmp_path / name / "predictions/validation.npz").read_bytes() for name in ("whole", "read")]
    assert reports[0] == reports[1]


def test_splits_keep_their_names_and_rows_their_files_on_pages(tmp_path: Path, coloured: FaceSamples) -> None:
    recipe = small_recipe(name="tints", model={"in_chans": 3}, data={"color": True, "protocol": "published"})
    run = fit(recipe, coloured, tmp_path / "run", accelerator="cpu")
    evaluate_and_store(RunPredictor(run, "cpu"), coloured, Split.PUBLISHED_TEST)
    results = {each.key: each for each in run.load_report().results}
    assert {key: (each.called, each.n) for key, each in results.items() if "unseen" not in key} == {
        "validation": ("val", 21),
        "published_test": ("test", 21),  # val is no part of it
    }
    for shown in (True, False):
        page = write_run_page(run, coloured, pictures=shown).read_text(encoding="utf-8")
        card = (run.path / "model_card.md").read_text(encoding="utf-8")
        assert "test images" in page
        assert page.count("val/") > 5
        assert ("data:image/png" in page.partition("Single predictions")[2]) is shown
        for text in (page, card):
            assert "PublicTest" not in text
            assert "PrivateTest" not in text


def test_data_of_a_reader_of_ones_own_have_default_split_names(tmp_path: Path, drawn: FaceSamples) -> None:
    usages = np.where(drawn.usages == Usage.PRIVATE_TEST, Usage.TEST, drawn.usages).astype(np.int8)
    mine = replace(drawn, name="mylist", usages=usages)
    run = fit(small_recipe(), mine, tmp_path / "run", accelerator="cpu")
    evaluate_and_store(RunPredictor(run, "cpu"), mine, Split.PUBLISHED_TEST, command="mien evaluate")
    report = run.load_report()
    assert {each.split: each.called for each in report.results} == {
        "validation": "validation",
        "published_test": "test",
    }
    assert [formats.split_plural(each) for each in report.results[:2]] == ["validation images", "test images"]
    page = write_run_page(run, mine).read_text(encoding="utf-8")
    for text in (page, (run.path / "model_card.md").read_text(encoding="utf-8")):
        assert "PublicTest" not in text
        assert "PrivateTest" not in text
    assert formats.look_title("published_test", replace(report, results=())) == "published test"


def test_validation_by_subject_is_reported(tmp_path: Path, coloured: FaceSamples) -> None:
    usages = np.where(coloured.usages == Usage.PUBLIC_TEST, Usage.TRAINING, coloured.usages).astype(np.int8)
    alone = replace(coloured, usages=usages, split_names={Usage.TRAINING: "train"}, groups=coloured.rows // 5)
    recipe = small_recipe(**{**COLOUR, "data": {"color": True, "protocol": "published", "group": "(x)"}})
    report = fit(recipe, alone, tmp_path / "run", accelerator="cpu").load_report()
    assert report.group == "(x)"
    assert report.validation_subjects is not None
    assert 3 <= report.validation_subjects <= 8
    assert f"{report.validation_subjects} people" in write_run_page(Run(tmp_path / "run")).read_text(encoding="utf-8")


def test_subjects_of_test_images_whom_training_shows_are_counted_and_told(
    tmp_path: Path, coloured: FaceSamples
) -> None:
    shared = replace(coloured, groups=coloured.rows // 10, split_names=OWN_SPLITS)
    assert shared.subjects_in_two_splits() == {
        (Usage.TRAINING, Usage.PUBLIC_TEST): 21,
        (Usage.TRAINING, Usage.PRIVATE_TEST): 21,
        (Usage.PUBLIC_TEST, Usage.PRIVATE_TEST): 21,
    }
    run = fit(small_recipe(**COLOUR), shared, tmp_path / "run", accelerator="cpu")
    evaluate_and_store(RunPredictor(run, "cpu"), shared, Split.PUBLISHED_TEST)
    results = run.load_report().results
    assert {each.key: each.subjects_seen for each in results} == {
        "validation": None, "published_test": 21, "published_test_unseen": None,
    }  # fmt: skip
    assert "21 subjects of these images" in "".join(seen_words(run.load_report(), elsewhere=False)).replace("\xa0", " ")
    assert "21\xa0subjects of these images" in write_run_page(run, shared).read_text(encoding="utf-8")
    apart = replace(shared, groups=(coloured.rows % 10 >= 8).astype(np.int32))
    assert not apart.shared_subjects(*(np.flatnonzero(apart.usages == usage) for usage in (0, 2))).size


def test_colour_for_a_grey_network_is_refused_with_a_remedy(tmp_path: Path, coloured: FaceSamples) -> None:
    with pytest.raises(RecipeError, match=r"expected 3 for pictures in colour, got 1; give --set model\.in_chans=3"):
        fit(small_recipe(data={"color": True}), coloured, tmp_path / "run", accelerator="cpu")
    assert not (tmp_path / "run").exists()
    run = fit(small_recipe(), replace(coloured, images=coloured.images[..., 0]), tmp_path / "grey", accelerator="cpu")
    with pytest.raises(DataError, match=r"expected grey faces.*data\.color=false"):
        RunPredictor(run, "cpu").predict(coloured.images[:3])


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_corruptions_keep_colour(name: str, coloured: FaceSamples) -> None:
    faces = coloured.images[:4]
    corrupted = robustness.corrupt(faces, robustness.CORRUPTIONS[name], 2)
    assert corrupted.shape == faces.shape
    shares = [images.reshape(4, -1, 3).mean(1) / images.mean((1, 2, 3))[:, None] for images in (faces, corrupted)]
    assert np.abs(shares[0] - shares[1]).max() < 0.25  # a red face stays red; less contrast is less colour


def test_a_network_in_colour_is_explained(tmp_path: Path, coloured: FaceSamples) -> None:
    run = fit(small_recipe(**COLOUR, training={"epochs": 1}), coloured, tmp_path / "run", accelerator="cpu")
    classifier = load_checkpoint(run.best_checkpoint).classifier()
    faces, classes = coloured.images[:3], coloured.labels[:3]
    maps = saliency.grad_cam(classifier, faces, classes)
    assert maps.shape == (3, 48, 48)
    shown: list[tuple[int, ...]] = []

    def probability(given: np.ndarray) -> np.ndarray:
        shown.append(given.shape)
        return np.full((len(given), 7), 1 / 7, np.float32)

    faithfulness.removal_curves([maps], faces, classes, probability)
    assert set(shown) == {(3 * (faithfulness.STEPS + 1), 48, 48, 3)}
    assert heat_on_face(faces[0], maps[0]).shape[2] == 3
