import math

import pytest
import torch

from mien.recipe import ScheduleSettings
from mien.training.engine import lr_fraction


@pytest.mark.parametrize("factor", [1, 2])
def test_warm_restarts_equal_torchs(factor: int) -> None:
    """Independent reference: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, stepped per batch."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=5, T_mult=factor)
    settings = ScheduleSettings(name="warm_restarts", restart_epochs=5, restart_factor=factor)
    optimizer.step()
    for step in range(300):
        epoch = step / 10
        reference.step(epoch)
        assert lr_fraction(settings, epoch, 30) == pytest.approx(reference.get_last_lr()[0], abs=1e-9)


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "warm_restarts"])
def test_schedules_end_near_zero_and_stay_in_range(name: str) -> None:
    settings = ScheduleSettings.model_validate({"name": name})
    fractions = [lr_fraction(settings, step / 100, 10) for step in range(1000)]
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert max(fractions) > 0.99
    assert fractions[-1] < 1e-3


def test_warm_up_rises_linearly_and_cosine_follows() -> None:
    settings = ScheduleSettings(name="cosine", warmup_epochs=2)
    assert lr_fraction(settings, 1, 10) == pytest.approx(0.5)
    assert lr_fraction(settings, 2, 10) == pytest.approx(1)
    assert lr_fraction(settings, 6, 10) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
