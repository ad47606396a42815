import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mien.recipe import AugmentationSettings
from mien.training.augment import DRAWS, Augmentation, draw_table, mixup_ratios


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
