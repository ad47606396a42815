import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mien.data import draw_faces
from mien.data.scenes import compose_scene
from mien.face.crop import REFERENCE, crop_face
from mien.recipe import AugmentationSettings
from mien.training.augment import DRAWS, Augmentation, Crops, cropped, draw_crops, draw_table, mixup_ratios


def draws(count: int, **values: float) -> torch.Tensor:
    """Draws of 0.5, which is "no change" for every symmetric range, but for the named ones."""
    table = torch.full((count, len(DRAWS)), 0.5)
    for name, value in values.items():
        table[:, DRAWS.index(name)] = value
    return table


@pytest.fixture
def faces() -> torch.Tensor:
    return torch.randint(0, 256, (5, 1, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [24, 48, 96])
def test_without_changes_it_resizes_as_evaluation_does(faces: torch.Tensor, size: int) -> None:
    out = Augmentation(AugmentationSettings(), size)(faces, draws(5, flip=0.9))
    expected = F.interpolate(faces.float() / 255, size=(size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_flip_is_the_mirror_image(faces: torch.Tensor) -> None:
    out = Augmentation(AugmentationSettings(flip=0.5), 48)(faces, draws(5, flip=0.1))
    torch.testing.assert_close(out, faces.flip(-1).float() / 255, rtol=0, atol=1e-4)


def test_rotation_by_a_quarter_turn(faces: torch.Tensor) -> None:
    out = Augmentation(AugmentationSettings(rotation=90), 48)(faces, draws(5, rotation=1.0, flip=0.9))
    turned = [torch.rot90(faces, k, (2, 3)).float() / 255 for k in (1, 3)]
    assert min(float((out - expected).abs().max()) for expected in turned) < 1e-3


def test_shift_moves_by_a_fraction_of_the_side(faces: torch.Tensor) -> None:
    out = Augmentation(AugmentationSettings(translation=0.25), 48)(faces, draws(5, x=1.0, flip=0.9))
    torch.testing.assert_close(out[..., :36], faces[..., 12:].float() / 255, rtol=0, atol=1e-4)


def test_brightness_and_contrast_are_factors(faces: torch.Tensor) -> None:
    brighter = Augmentation(AugmentationSettings(brightness=0.2), 48)(faces, draws(5, brightness=1.0, flip=0.9))
    torch.testing.assert_close(brighter, (faces.float() / 255 * 1.2).clamp(max=1), rtol=0, atol=1e-4)
    flatter = Augmentation(AugmentationSettings(contrast=0.5), 48)(faces, draws(5, contrast=0.0, flip=0.9))
    assert torch.all(flatter.std((1, 2, 3)) < (faces.float() / 255).std((1, 2, 3)))


def test_erasing_sets_one_rectangle_to_the_mean_and_clean_faces_are_not(faces: torch.Tensor) -> None:
    augmentation = Augmentation(AugmentationSettings(erasing=1.0), 48)
    table = draws(5, erase=0.0, area=1.0, flip=0.9)
    out = augmentation(faces, table)
    changed = (out - faces.float() / 255).abs() > 1e-4
    fraction = changed.float().mean((1, 2, 3))
    assert torch.all((fraction > 0.15) & (fraction < 0.25))
    mean = (faces.float() / 255).mean((2, 3), keepdim=True).expand_as(out)
    torch.testing.assert_close(out[changed], mean[changed], rtol=0, atol=1e-3)
    torch.testing.assert_close(augmentation(faces, table, clean=True), faces.float() / 255, rtol=0, atol=1e-4)


def test_a_face_is_changed_alike_in_any_company(faces: torch.Tensor) -> None:
    settings = AugmentationSettings(flip=0.5, rotation=10, translation=0.1, scale=0.1, brightness=0.2, erasing=0.5)
    augmentation, table = Augmentation(settings, 48), draw_table(seed=3, epoch=2, rows=5)
    together = augmentation(faces, table)
    alone = torch.cat([augmentation(faces[i : i + 1], table[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_draws_depend_on_seed_epoch_and_row_alone() -> None:
    table = draw_table(seed=1, epoch=2, rows=10)
    assert torch.equal(table, draw_table(1, 2, 10))
    assert torch.equal(table[:4], draw_table(1, 2, 4))
    assert not torch.equal(table, draw_table(1, 3, 10))
    assert not torch.equal(table, draw_table(2, 2, 10))
    assert 0 <= float(table.min()) <= float(table.max()) < 1
    ratios = mixup_ratios(1, 2, 4000, alpha=0.4).numpy()
    assert abs(ratios.mean() - 0.5) < 0.03
    assert abs(ratios.var() - 0.25 / 1.8) < 0.01  # of Beta(a, a): 1 / (4 (2a + 1))
    assert np.isfinite(ratios).all()


def found_points(count: int) -> np.ndarray:
    """Points of faces that are turned, shifted and of several sizes: ``(N, 5, 2)``, pixels of a picture of 48."""
    generator = np.random.default_rng(4)
    turn = generator.uniform(0.75, 1.25, count) * np.exp(1j * generator.uniform(-0.3, 0.3, count))
    places = turn[:, None] * (np.array(REFERENCE) @ (1, 1j) - (24 + 24j)) + 24 + 24j
    places += (generator.uniform(-4, 4, count) + 1j * generator.uniform(-4, 4, count))[:, None]
    return np.stack([places.real, places.imag], axis=-1).astype(np.float32)


def crops_of(points: np.ndarray, detected: float = 1.0, jitter: float = 0.0, epoch: int = 0) -> Crops:
    settings = AugmentationSettings(detected=detected, points_jitter=jitter)
    return draw_crops(settings, points, 48, np.arange(len(points)), seed=0, epoch=epoch)


@pytest.mark.parametrize("angle", [0, 25])
def test_a_detected_face_is_what_the_recognizer_crops_out_of_a_photograph(angle: float) -> None:
    faces, points = draw_faces(28).images, found_points(28)
    expected = []
    for row, (face, places) in enumerate(zip(faces, points, strict=True)):
        scene = compose_scene(face, row, angle)
        there = tuple(map(tuple, scene.to_scene(places).tolist()))
        expected.append(crop_face(scene.pixels, (0, 0, 512, 512), 48, points=there))
    crops = crops_of(points)
    crops = Crops(crops.matrix, crops.detected, torch.full((28,), 128 / 255))
    pictures, table = torch.from_numpy(faces)[:, None], draws(28, flip=0.9)
    out = 255 * Augmentation(AugmentationSettings(), 48)(pictures, table, crops)[:, 0].numpy()
    assert np.abs(out - expected).mean() < 1
    single = Crops(crops.matrix, torch.zeros(28, dtype=torch.bool), crops.level)  # one sample a pixel is too sharp
    sharp = 255 * Augmentation(AugmentationSettings(), 48)(pictures, table, single)[:, 0].numpy()
    assert np.abs(sharp - expected).mean() > 1.5 * np.abs(out - expected).mean()


def test_around_a_detected_face_lies_one_grey_or_its_edge(faces: torch.Tensor) -> None:
    away = found_points(5) + 40
    levels = torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75])
    crops = Crops(crops_of(away).matrix, torch.ones(5, dtype=torch.bool), levels)
    out = Augmentation(AugmentationSettings(), 48)(faces, draws(5, flip=0.9), crops)
    assert out[1:, 0, -1, -1].tolist() == levels[1:].tolist()
    assert float(out[0, 0, -1, -1]) == pytest.approx(float(faces[0, 0, -1, -1]) / 255)


def test_other_changes_are_of_the_crop(faces: torch.Tensor) -> None:
    crops = crops_of(found_points(5))
    plain = Augmentation(AugmentationSettings(), 48)(faces, draws(5, flip=0.9), crops)
    mirrored = Augmentation(AugmentationSettings(flip=0.5), 48)(faces, draws(5, flip=0.1), crops)
    torch.testing.assert_close(mirrored, plain.flip(-1), rtol=0, atol=1e-4)
    shifted = Augmentation(AugmentationSettings(translation=0.25), 48)(faces, draws(5, x=1.0, flip=0.9), crops)
    torch.testing.assert_close(shifted[..., :36], plain[..., 12:], rtol=0, atol=1e-4)


def test_faces_that_were_not_found_are_seen_as_given(faces: torch.Tensor) -> None:
    points = found_points(5)
    points[[1, 3]] = np.nan
    crops = crops_of(points, jitter=0.1)
    assert crops.detected.tolist() == [True, False, True, False, True]
    settings, table = AugmentationSettings(flip=0.5, rotation=10, scale=0.1), draw_table(seed=3, epoch=2, rows=5)
    out = Augmentation(settings, 48)(faces, table, crops)
    given = Augmentation(settings, 48)(faces, table)
    torch.testing.assert_close(out[[1, 3]], given[[1, 3]], rtol=0, atol=1e-5)
    assert (out[[0, 2, 4]] - given[[0, 2, 4]]).abs().max() > 0.1


def test_crops_follow_from_seed_epoch_and_row_with_their_share_and_jitter() -> None:
    points = np.tile(np.array(REFERENCE, np.float32), (2000, 1, 1))
    crops = crops_of(points, detected=0.6, jitter=0.06)
    assert abs(float(crops.detected.float().mean()) - 0.6) < 0.04
    assert abs(float((crops.level[crops.detected] >= 0).float().mean()) - 0.5) < 0.05
    seen = crops.matrix[crops.detected]
    assert abs(float(seen[:, 0, 2].std()) * 24 - 0.5) < 0.1  # pixels that the middle moves by
    roll = torch.rad2deg(torch.atan2(seen[:, 1, 0], seen[:, 0, 0]))
    assert abs(float(roll.std()) - 2.5) < 0.4
    settings = AugmentationSettings(detected=0.6, points_jitter=0.06)
    some = draw_crops(settings, points[:3], 48, np.array([7, 1999, 40]), seed=0, epoch=0)
    assert torch.equal(some.matrix[:1], crops.matrix[7:8])
    assert not torch.equal(crops.matrix, crops_of(points, detected=0.6, jitter=0.06, epoch=1).matrix)


def test_cropped_faces_are_otherwise_unchanged(faces: torch.Tensor) -> None:
    points = found_points(5)
    points[2] = np.nan
    crops = crops_of(points)
    out = cropped(faces, crops)
    assert out.dtype == torch.uint8
    assert torch.equal(out[2], faces[2])
    seen = Augmentation(AugmentationSettings(), 48)(faces, draws(5, flip=0.9), crops)
    torch.testing.assert_close(out.float() / 255, seen, rtol=0, atol=0.51 / 255)
