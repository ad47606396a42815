"""Learning rates as pure functions: share of the peak rate, from how far training has come."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.recipe import ScheduleSettings

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25


def learning_rate_share(settings: "ScheduleSettings", epoch: float, epochs: float) -> float:
    """Share of the peak learning rate, in [0, 1].

    Args:
        settings: the recipe's ``[schedule]``.
        epoch: passes over the data so far, with fractions; by the clock, the share of the time times ``epochs``.
        epochs: passes there will be.

    Sources:
        cosine and warm restarts: Loshchilov, Hutter 2017, arXiv:1608.03983.
        one-cycle: Smith, Topin 2019, arXiv:1708.07120, with cosine instead of straight lines.
    """
    if settings.name == "one_cycle":
        return one_cycle(epoch / epochs)
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    after, rest = epoch - settings.warmup_epochs, epochs - settings.warmup_epochs
    if settings.name == "cosine":
        return cosine(after / rest if rest > 0 else 1.0)
    if settings.name == "warm_restarts":
        return cosine(restart_progress(after, settings.restart_epochs, settings.restart_factor))
    return 1.0


def cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1, along half a cosine."""
    return (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def one_cycle(progress: float) -> float:
    """From 1/25 up to 1 in the first 30 %, then down to 0."""
    if progress < ONE_CYCLE_RISE:
        return 1 - (1 - ONE_CYCLE_START) * cosine(progress / ONE_CYCLE_RISE)
    return cosine((progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))


def restart_progress(epoch: float, first: int, factor: int) -> float:
    """Progress in [0, 1) within the current of cycles that last ``first``, ``first * factor``, ... epochs."""
    length = float(first)
    while epoch >= length:
        epoch -= length
        length *= factor
    return epoch / length
