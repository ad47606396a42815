"""What is settled before the first epoch: every refusal, then the faces, the networks and the run to go on with."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from mien import errors, models
from mien.data import FaceSamples, Split
from mien.data.pictures import IN_MEMORY
from mien.recipe import DataSettings, OptimizerSettings, Recipe, TrainingSettings, load_recipe
from mien.runs import Run, checkpoint
from mien.training import engine, networks
from mien.training.array_cache import remember_arrays
from mien.training.detected import Detected, SceneFaces, find_faces

UPLOADED = 4096
"""Pictures that go to the device at a time."""


@dataclass(frozen=True)
class Splits:
    """Indices of the faces that training may look at, int64; never those of a test split."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass
class Counters:
    """Everything about a training under way that is neither weights nor optimizer state; stands in checkpoints."""

    epoch: int = 0
    step: int = 0
    updates: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    loss_sum: float = 0.0
    correct: int = 0
    count: int = 0
    pictures: int = 0
    validation_accuracy: float | None = None
    best_accuracy: float | None = None
    best_epoch: int | None = None
    energy_joules: float | None = 0.0
    energy_source: str | None = None

    def add_energy(self, joules: float | None, source: str | None) -> None:
        """Count on; once a part was not measured, or measured by other counters, the whole is not known any more."""
        if self.energy_joules is None or joules is None or self.energy_source not in (None, source):
            self.energy_joules = self.energy_source = None
        else:
            self.energy_joules, self.energy_source = self.energy_joules + joules, source

    def next_epoch(self) -> None:
        """Forget the sums of the epoch before."""
        self.epoch, self.step = self.epoch + 1, 0
        self.epoch_seconds, self.loss_sum, self.correct, self.count = 0.0, 0.0, 0, 0


@dataclass(frozen=True)
class Setup:
    """All that a training works with, once nothing stands in its way."""

    recipe: Recipe
    samples: FaceSamples
    data_sha256: str  # the samples' content hash
    splits: Splits
    run: Run
    fabric: Fabric  # this process, its device and the others
    classifier: models.FaceClassifier  # under training, on the device
    average: engine.MovingAverage[models.FaceClassifier] | None  # of its weights, where the recipe asks for one
    network: nn.Module  # the classifier as ``fabric`` runs it
    optimizer: Optimizer
    faces: engine.TrainingFaces  # on the device
    scenes: SceneFaces | None  # of the validation faces, where the recipe trains on what a detector finds
    teachers: list[engine.Teacher]  # that answer during training
    teachers_sha256: list[str]  # of their files
    batch_size: int  # faces of a step, over all processes
    counters: Counters  # where the training stands; they change as it goes on

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.splits.training) // self.batch_size

    @property
    def kept(self) -> models.FaceClassifier:
        """The network that is validated and kept: the average, where there is one."""
        return self.classifier if self.average is None else self.average.network


ShowPictures = Callable[[str, int, int], None]
"""Told what is done to pictures, such as searched, to how many it was, and of how many; may raise to end it."""


def prepare(
    recipe: Recipe,
    samples: FaceSamples,
    out: Path,
    fabric: Fabric,
    *,
    votes: NDArray[np.uint8] | None = None,
    resume: bool = False,
    show: ShowPictures = lambda work, done, count: None,
) -> Setup:
    """Make every refusal, open the run directory, and bring all to its device, as ``out`` left it or new.

    Seeds torch's global generator; arguments and errors are those of ``fit``.
    """
    networks.check_channels(recipe.model, samples)
    splits = training_splits(recipe.data, samples)
    batch_size = _batch_size(recipe.training, splits, fabric)
    torch.manual_seed(recipe.seed)
    classes = samples.classes
    classifier = networks.create_network(
        recipe.model, recipe.data, recipe.votes_outputs(), recipe.augmentation.first_size, classes
    )
    teachers = networks.load_teachers(recipe.training, recipe.data, fabric.device, classes)
    teachers_sha256 = networks.teacher_hashes(recipe.training.teachers)
    if fabric.is_global_zero:
        _open_run(out, recipe, resume)
    fabric.barrier()
    detected = _found(recipe, samples, splits, fabric, partial(show, "searched"))
    learnt_votes = votes if recipe.training.votes_weight else None
    faces = _training_faces(samples, splits.training, learnt_votes, fabric.device)
    if detected is not None:
        faces = dataclasses.replace(faces, points=detected.points, size=samples.size)
    if recipe.training.teacher_view == "given" and teachers:
        answers = _answers(teachers, teachers_sha256, faces, samples, fabric, show)
        labels = F.one_hot(faces.labels, faces.num_classes).float()
        faces = dataclasses.replace(faces, targets=torch.lerp(labels, answers, recipe.training.teacher_weight))
        teachers = []
    classifier, average, network, optimizer = _placed(
        classifier, recipe.training, recipe.optimizer, fabric, (batch_size // fabric.world_size, samples.in_chans)
    )
    setup = Setup(
        recipe=recipe,
        samples=samples,
        data_sha256=samples.content_sha256(),
        splits=splits,
        run=Run(out),
        fabric=fabric,
        classifier=classifier,
        average=average,
        network=network,
        optimizer=optimizer,
        faces=faces,
        scenes=None if detected is None else detected.scenes,
        teachers=teachers,
        teachers_sha256=teachers_sha256,
        batch_size=batch_size,
        counters=Counters(),
    )
    return _resumed(setup) if setup.run.last_checkpoint.exists() else setup


def _batch_size(settings: TrainingSettings, splits: Splits, fabric: Fabric) -> int:
    """Faces of a step, over all processes, each of which takes as many."""
    batch_size = min(settings.batch_size, len(splits.training))
    if batch_size % fabric.world_size:
        raise errors.RecipeError(
            f"training.batch_size: expected a multiple of the {fabric.world_size} processes, got {batch_size};"
            " change one of the two"
        )
    return batch_size


def training_splits(settings: DataSettings, samples: FaceSamples) -> Splits:
    """The faces that a recipe trains and chooses on.

    Raises:
        DataError: the data lack one of these splits, or Training lacks a class.
    """
    splits = Splits(
        training=samples.split_for(Split.TRAINING, settings),
        validation=samples.split_for(Split.VALIDATION, settings),
    )
    missing = sorted(set(range(len(samples.classes))) - set(samples.labels[splits.training].tolist()))
    if missing:
        raise errors.DataError(
            f"{samples.name}: expected a training face of every class, got none of"
            f" {', '.join(samples.classes[label] for label in missing)}; add some, or check the names of the classes"
        )
    return splits


def _found(
    recipe: Recipe,
    samples: FaceSamples,
    splits: Splits,
    fabric: Fabric,
    show: Callable[[int, int], None],
) -> Detected | None:
    """What the recipe's detector finds, if it trains on that: the first process searches, the others recall it."""
    if not recipe.augmentation.detected:
        return None
    search = partial(find_faces, recipe.augmentation, samples, splits.training, splits.validation)
    found = search(show) if fabric.is_global_zero else None
    fabric.barrier()
    return search() if found is None else found


def _answers(
    teachers: list[engine.Teacher],
    hashes: list[str],
    faces: engine.TrainingFaces,
    samples: FaceSamples,
    fabric: Fabric,
    show: ShowPictures,
) -> torch.Tensor:
    """The teachers' mean answers to the training pictures as they are given, ``(M, K)``; each is asked once."""

    def answered(done: int, count: int) -> None:
        if fabric.world_size == 1:  # several ask at once, and end together
            show("answered by a teacher", done, count)

    def ask(teacher: engine.Teacher) -> dict[str, NDArray[np.float32]]:
        with fabric.autocast():
            return {"answers": engine.answers_of(teacher, faces.images, answered).float().cpu().numpy()}

    precision = fabric.strategy.precision.precision
    found = [
        remember_arrays(
            "answers", [samples.content_sha256(), sha256, precision], faces.rows.cpu().numpy(), partial(ask, teacher)
        )["answers"]
        for teacher, sha256 in zip(teachers, hashes, strict=True)
    ]
    return torch.from_numpy(np.mean(found, axis=0)).to(fabric.device)


def _open_run(out: Path, recipe: Recipe, resume: bool) -> None:
    """Create the run directory, or make sure that it is this recipe's."""
    run = Run(out)
    if resume and run.report_path.exists() and not run.last_checkpoint.exists():
        raise errors.RunExistsError(
            f"{out}: expected {run.last_checkpoint.relative_to(out)} to go on from, got a finished run without it;"
            f" evaluate it (mien evaluate {out}), or choose another --out"
        )
    if not resume or not run.last_checkpoint.exists():
        checkpoint.create_run(out, recipe)
        return
    before, now = load_recipe(run.recipe_path).flat(), recipe.flat()
    changed = [
        f"{key}: {before.get(key)!r} before, {now.get(key)!r} now"
        for key in dict.fromkeys((*before, *now))
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise errors.RunExistsError(
            f"{out}: expected the recipe that its run was begun with, got another ({', '.join(changed)});"
            " resume it with its own, or choose another --out"
        )
    for unfinished in (out / "checkpoints").glob(".*.ckpt.*"):  # left by a kill in the middle of a write
        unfinished.unlink()


def _placed(
    classifier: models.FaceClassifier,
    settings: TrainingSettings,
    optimizer: OptimizerSettings,
    fabric: Fabric,
    batch: tuple[int, int],
) -> tuple[models.FaceClassifier, engine.MovingAverage[models.FaceClassifier] | None, nn.Module, Optimizer]:
    """The network on its device, its average, itself as ``fabric`` runs it, and its optimizer."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        classifier = nn.SyncBatchNorm.convert_sync_batchnorm(classifier)  # type: ignore[no-untyped-call]
    if settings.channels_last:
        classifier = classifier.to(memory_format=torch.channels_last)
    classifier = classifier.to(fabric.device)
    average = None if settings.ema_decay is None else engine.MovingAverage(classifier, settings.ema_decay)
    rule = engine.create_optimizer(classifier, optimizer)
    network: nn.Module = classifier
    if settings.compile:
        network = torch.compile(classifier)  # type: ignore[assignment]
    elif settings.cuda_graphs:
        network = _recorded(classifier, batch, fabric)
    return classifier, average, *fabric.setup(network, rule)


def _recorded(classifier: models.FaceClassifier, batch: tuple[int, int], fabric: Fabric) -> nn.Module:
    """The network as CUDA graphs of a step's forward and backward pass, with the same weights.

    ``batch`` is its faces and their channels.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture (make_graphed_callables).
    """
    if fabric.device.type != "cuda" or fabric.world_size > 1:
        raise errors.RecipeError(
            f"training.cuda_graphs: expected one NVIDIA GPU, got {fabric.world_size} process(es) on"
            f" {fabric.device.type}; train with --set training.cuda_graphs=false"
        )
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    example = torch.zeros(*batch, classifier.input_size, classifier.input_size, device=fabric.device)
    # What is recorded takes batches of this one size; the classifier inside it still takes any.
    whole = nn.Sequential(classifier).train()
    with fabric.autocast():
        half, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", dtype, enabled=half, cache_enabled=False):
            torch.cuda.make_graphed_callables(whole, (example,))
    classifier.load_state_dict(before)  # recording ran the network, which moves batch norm's statistics
    return whole


def _training_faces(
    samples: FaceSamples, indices: NDArray[np.int64], votes: NDArray[np.uint8] | None, device: torch.device
) -> engine.TrainingFaces:
    """The faces at ``indices`` ``(M,)``; ``votes`` ``(N, 10)`` are on all samples, where they are to be learnt."""
    fractions = None
    if votes is not None:
        chosen = votes[indices].astype(np.float32)
        fractions = torch.from_numpy(chosen / np.maximum(chosen.sum(1, keepdims=True), 1)).to(device)  # (M, 10)
    return engine.TrainingFaces(
        images=_training_images(samples, indices, device),
        labels=torch.from_numpy(samples.labels[indices].astype(np.int64)).to(device),
        rows=torch.from_numpy(samples.rows[indices].astype(np.int64)).to(device),
        votes=fractions,
        num_classes=len(samples.classes),
    )


def _training_images(
    samples: FaceSamples, indices: NDArray[np.int64], device: torch.device
) -> torch.Tensor | engine.StreamedImages:
    """The pictures at ``indices``: whole on the device, or where it has no room for them read batch by batch."""
    needed = len(indices) * samples.size**2 * samples.in_chans
    room = torch.cuda.mem_get_info(device)[0] // 3 if device.type == "cuda" else IN_MEMORY
    streamed = engine.StreamedImages(samples.images, indices, device)
    if needed > room:
        return streamed
    whole = torch.empty((len(indices), samples.in_chans, samples.size, samples.size), dtype=torch.uint8, device=device)
    for start in range(0, len(indices), UPLOADED):
        whole[start : start + UPLOADED] = streamed[start : start + UPLOADED]
    return whole


def _resumed(setup: Setup) -> Setup:
    """The same setup as its ``last.ckpt`` left it; refused with other data or teachers."""
    path = setup.run.path
    stored = checkpoint.load_checkpoint(setup.run.last_checkpoint)
    state = stored.state
    if stored.labels != setup.samples.classes:
        raise errors.DataError(
            f"{path}: expected the classes that it was begun with, {', '.join(stored.labels)}, got"
            f" {', '.join(setup.samples.classes)}; give the same --data, or choose another --out"
        )
    trained_on = state.get("data_sha256", "unknown")
    if trained_on != setup.data_sha256:
        raise errors.DataError(
            f"{path}: expected the data that it was trained on, with content hash {trained_on[:12]}..., got other data"
            f" with {setup.data_sha256[:12]}...; give the same --data, or choose another --out"
        )
    if state.get("teachers_sha256", setup.teachers_sha256) != setup.teachers_sha256:  # older ones do not tell them
        raise errors.RunError(
            f"{path}: expected the teachers that it was begun with, got files that have changed since;"
            " give back the old files, or choose another --out"
        )
    try:
        setup.classifier.load_state_dict(stored.weights)
        setup.optimizer.load_state_dict(state["optimizer"])
        if setup.average is not None:
            setup.average.network.load_state_dict(state["average"])
        counters = Counters(**{"energy_joules": None, **state["counters"]})  # older checkpoints do not tell it
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise errors.RunError(
            f"{setup.run.last_checkpoint}: expected the state of a training by this version of mien, got another"
            f" ({error}); go on with the version that began it, or choose another --out"
        ) from error
    return dataclasses.replace(setup, counters=counters)
