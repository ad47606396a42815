"""What is settled before the first epoch: whose run this is, the room for it, its faces and its optimizer."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mien.data import FaceSamples, Split
from mien.emotions import EMOTIONS
from mien.errors import DataError, MissingPathError, ModelError, RecipeError, RunError, RunExistsError
from mien.face.network import model_file
from mien.models import FaceClassifier, create_classifier
from mien.models.pretrained import check_fits
from mien.recipe import CHECKPOINT, OptimizerSettings, Recipe, TrainingSettings, load_recipe
from mien.runs import Checkpoint, Run, create_run, load_checkpoint

logger = logging.getLogger(__name__)

SPARE_BYTES = 16 << 20
"""Room for predictions, rows, reports and figures."""


@dataclass(frozen=True)
class Splits:
    """Positions of the faces that training may look at, int64; never those of a test split."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def check_inputs(recipe: Recipe, votes: NDArray[np.uint8] | None, *, expected: Path | None = None) -> None:
    """Refuse a recipe whose votes or earlier runs are not at hand.

    Args:
        recipe: to be trained.
        votes: FER+'s votes, where they were given.
        expected: a folder whose files may still be missing: a study's, of which one run can build on another.

    Raises:
        RecipeError: it asks for votes, and none were given.
        MissingPathError: there is no such checkpoint or ONNX file.
        UnknownNameError: a teacher is neither a file nor a network in the package.
    """
    if recipe.training.votes_weight and votes is None:
        raise RecipeError("training.votes_weight needs FER+'s votes: give --votes fer2013new.csv, or set it to 0")
    for name in recipe.training.teachers:
        if not name.endswith(CHECKPOINT):
            model_file(name)
    checkpoints = [Path(name) for name in recipe.training.teachers if name.endswith(CHECKPOINT)]
    start = recipe.model.checkpoint
    for path in [*checkpoints, *([] if start is None else [start])]:
        awaited = expected is not None and path.resolve().is_relative_to(expected.resolve())
        if not path.is_file() and not awaited:
            raise MissingPathError(f"expected the best.ckpt of an earlier run; there is no file {path}")


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


def create_network(recipe: Recipe) -> FaceClassifier:
    """The network of a recipe on the CPU, with its first weights.

    Raises:
        UnknownNameError: no such model.
        ModelError: an option that the model does not take, or weights that do not fit.
        RunError, RecipeError: as :func:`load_earlier`, of ``model.weights``.
    """
    start = recipe.model.checkpoint
    classifier = create_classifier(recipe.model, len(EMOTIONS), votes=recipe.votes_outputs(), load_weights=not start)
    if start is not None:
        weights = load_earlier(start, recipe).weights
        check_fits(start, recipe.model.name, expected=classifier.state_dict(), came=weights)
        classifier.load_state_dict(weights)
    return classifier


def load_earlier(path: Path, recipe: Recipe) -> Checkpoint:
    """A checkpoint of an earlier run that this recipe's training builds on.

    Raises:
        RunError: it cannot be read.
        RecipeError: it was trained on another split, whose training faces may be validation or test faces here.
        ModelError: it knows other classes.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.recipe.data != recipe.data:
        raise RecipeError(
            f"{path} was trained with {checkpoint.recipe.data}, this recipe has {recipe.data}:"
            " what it learnt from may stand in the test split here; give both the same [data]"
        )
    ours = tuple(emotion.value for emotion in EMOTIONS)
    if checkpoint.labels != ours:
        raise ModelError(f"{path} knows {', '.join(checkpoint.labels)}; expected {', '.join(ours)}")
    return checkpoint


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
    splits = Splits(
        training=samples.split_for(Split.TRAINING, recipe.data),
        validation=samples.split_for(Split.VALIDATION, recipe.data),
    )
    missing = sorted(set(range(len(EMOTIONS))) - set(samples.labels[splits.training].tolist()))
    if missing:
        raise DataError(
            f"{samples.name}: training needs a face of every class; there is none of"
            f" {', '.join(EMOTIONS[label] for label in missing)}: add some, or check the names of the classes"
        )
    return splits


def check_sizes(classifier: FaceClassifier, recipe: Recipe) -> None:
    """Refuse faces that grow during training where the network takes one size only.

    Raises:
        RecipeError: the network cannot take faces of ``augmentation.first_size``.
    """
    first, full = recipe.augmentation.first_size, recipe.model.input_size
    if first is None:
        return
    if first > full:
        raise RecipeError(f"augmentation.first_size must be at most model.input_size, which is {full}; {first} came")
    classifier.eval()
    try:
        with torch.no_grad():
            classifier(torch.zeros(1, 1, first, first))
    except (AssertionError, RuntimeError) as error:
        raise RecipeError(
            f"{recipe.model.name} takes faces of {full} pixels only; leave out augmentation.first_size ({first} came)"
        ) from error


def vote_shares(recipe: Recipe, votes: NDArray[np.uint8] | None, splits: Splits) -> NDArray[np.float32] | None:
    """Shares of FER+'s votes on the training faces, ``(M, 10)``, all 0 where nobody voted; ``None`` if not asked."""
    if not recipe.training.votes_weight or votes is None:
        return None
    chosen = votes[splits.training].astype(np.float32)
    shares: NDArray[np.float32] = chosen / np.maximum(chosen.sum(1, keepdims=True), 1)
    return shares


def choose_precision(precision: str, device: str) -> str:
    """``float32`` or ``bfloat16``, with ``auto`` resolved for a type of device.

    A processor without bfloat16 instructions imitates them: measured on one with AVX2 only, matrix products took 160
    times as long as in float32.
    """
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else False
    else:
        # torch.cpu.get_capabilities tells the same and more, from torch 2.10 on.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "bfloat16" and not native:
        logger.warning("this device has no bfloat16 arithmetic and imitates it slowly; set training.precision=auto")
    return precision if precision != "auto" else "bfloat16" if native else "float32"


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
