"""What is settled before the first epoch: whose run this is, the room for it, its faces and its optimizer."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mien.data import FaceSamples, Protocol, Split
from mien.emotions import EMOTIONS
from mien.errors import DataError, RunError, RunExistsError
from mien.recipe import OptimizerSettings, Recipe, TrainingSettings, load_recipe
from mien.runs import Run, create_run

SPARE_BYTES = 16 << 20
"""Room for predictions, rows, reports and figures."""


@dataclass(frozen=True)
class Splits:
    """Positions of the faces that training may look at, int64; never those of a test split."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def open_run(out: Path, recipe: Recipe, resume: bool) -> Run:
    """The run directory to train into: a new one, or the one to go on with.

    Raises:
        RunExistsError: ``out`` holds a run and ``resume`` is false, or the run of another recipe.
        RunError: it cannot be written.
    """
    run = Run(out)
    if not resume or not run.last_checkpoint.exists():
        return create_run(out, recipe)
    stored = load_recipe(run.recipe_path)
    changed = _differences(stored, recipe)
    if changed:
        raise RunExistsError(
            f"{out} holds a run of another recipe ({', '.join(changed)});"
            " resume it with the recipe it was begun with, or choose another --out"
        )
    for unfinished in (out / "checkpoints").glob(".*.ckpt.*"):  # left by a kill in the middle of a write
        unfinished.unlink()
    return run


def check_room(run: Run, model: nn.Module, settings: TrainingSettings) -> None:
    """Refuse to begin where the checkpoints will not fit.

    Raises:
        RunError: too little room; says how much is needed.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    averages = 1 if settings.ema_decay is not None else 0
    # last.ckpt holds the weights, up to two moments and an average, twice while it is being replaced; best.ckpt too.
    needed = 2 * weights * (1 + 2 + averages) + 2 * weights + SPARE_BYTES
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise RunError(
            f"{run.path} needs about {needed >> 20} MB for checkpoints; {free >> 20} MB are free:"
            " free some space, or choose another --out"
        )


def training_splits(recipe: Recipe, samples: FaceSamples) -> Splits:
    """The faces that a recipe trains and chooses on.

    Raises:
        DataError: the data lack one of these splits, or Training lacks a class.
    """
    protocol, held_out = Protocol(recipe.data.protocol), recipe.data.validation_rows
    splits = Splits(
        training=samples.split(Split.TRAINING, protocol, held_out),
        validation=samples.split(Split.VALIDATION, protocol, held_out),
    )
    missing = sorted(set(range(len(EMOTIONS))) - set(samples.labels[splits.training].tolist()))
    if missing:
        raise DataError(
            f"training needs a face of every class; there is none of {', '.join(EMOTIONS[label] for label in missing)}"
        )
    return splits


def create_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """The update rule for a model's parameters; biases and normalisation weights do not decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        momentum = settings.momentum
        return SGD(groups, settings.lr, momentum, weight_decay=settings.weight_decay, nesterov=momentum > 0, fused=True)
    kind = Adam if settings.name == "adam" else AdamW
    return kind(groups, settings.lr, weight_decay=settings.weight_decay, fused=True)


def _differences(stored: Recipe, recipe: Recipe) -> list[str]:
    """Dotted keys whose values differ, with both values."""
    changed = []
    for key, value in _flat(recipe).items():
        before = _flat(stored)[key]
        if before != value:
            changed.append(f"{key}: {before!r} before, {value!r} now")
    return changed


def _flat(recipe: Recipe) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in recipe.model_dump().items():
        flat |= {f"{key}.{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
    return flat
