"""What would end a training later, said before the first epoch of any."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mien import errors, models
from mien.data import FaceSamples
from mien.evaluation.predictor import device_type
from mien.recipe import Recipe
from mien.training import networks, room
from mien.training.setup import training_splits

HELD_BYTES = 1 << 28
"""Of the faces on the device; more of them may stay in the data set's file."""


@dataclass(frozen=True)
class Circumstances:
    """What a recipe is to be trained with; the fields are arguments of ``fit``."""

    samples: FaceSamples
    votes: NDArray[np.uint8] | None = None
    devices: int = 1
    accelerator: str = "auto"


def check_recipe(recipe: Recipe, given: Circumstances, awaited: Collection[Path] = (), row: str = "") -> room.Need:
    """Refuse a recipe that lacks something: votes, earlier runs, weights, faces, memory.

    Args:
        recipe: to be trained.
        given: to train it with.
        awaited: checkpoints that other rows of the same study will write.
        row: its name in a study, for the settings that a message names.

    Returns:
        what it needs.

    Raises:
        WeightsUnavailableError: its first weights are not here and cannot be fetched.
        RecipeError, DataError, MissingPathError, UnknownNameError, ModelError: as ``fit``.
        RoomError: there is too little memory.
    """
    networks.check_inputs(recipe.model, recipe.training, given.votes, awaited)
    networks.check_channels(recipe.model, given.samples)
    splits = training_splits(recipe.data, given.samples)
    if models.pretrained_weights(recipe.model) is not None:
        reason = models.weights_available(recipe.model)
        if reason is not None:
            raise errors.WeightsUnavailableError(reason.replace("--set ", f"--set {row}:") if row else reason)
    device, precision = device_type(given.accelerator), recipe.training.precision
    faces = splits.training.size * given.samples.size**2 * given.samples.in_chans
    need = room.estimate_need(
        recipe.model,
        recipe.training,
        recipe.optimizer,
        outputs=len(given.samples.classes) + recipe.votes_outputs(),
        faces=min(faces, HELD_BYTES),
        validated=splits.validation.size,
        precision=room.choose_precision(precision, device) if precision == "auto" else precision,
    )
    batch_size = min(recipe.training.batch_size, splits.training.size)
    room.check_memory(need, batch_size, device, given.devices, row)
    return need


def check_networks(recipe: Recipe, classes: tuple[str, ...], awaited: Collection[Path] = ()) -> None:
    """Refuse a recipe whose network cannot be made, whose weights do not fit or whose teachers cannot be read.

    Weights of the hub, and checkpoints that are ``awaited``, are left out. Errors are those of ``fit``.
    """
    model, training = recipe.model, recipe.training
    if models.pretrained_weights(model) is not None or _is_awaited(model.weights, awaited):
        model = model.model_copy(update={"weights": "scratch"})
    with torch.random.fork_rng(devices=[]):
        networks.create_network(model, recipe.data, recipe.votes_outputs(), recipe.augmentation.first_size, classes)
    teachers = tuple(name for name in training.teachers if not _is_awaited(name, awaited))
    known = training.model_copy(update={"teachers": teachers})
    networks.load_teachers(known, recipe.data, torch.device("cpu"), classes)


def _is_awaited(name: str, awaited: Collection[Path]) -> bool:
    return Path(name).resolve() in awaited and not Path(name).is_file()
