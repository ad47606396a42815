"""A detector's recipe and pictures -> run directory: the loop over composed collages, on Lightning Fabric.

A collage follows from the seed and its number alone, and a checkpoint holds the step it was written at: a run that is
killed and resumed ends with the same weights to the bit as one that was not, where the clock has no say in it.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from mien import errors, files
from mien.data.detection import DetectionSamples, FacePicture, Pixels
from mien.detector_recipe import DetectorRecipe, detector_toml, load_detector_recipe
from mien.evaluation import detection
from mien.models.face_detector import FaceDetectorNet
from mien.runs import MetricRow, Run, locked
from mien.runs.detector import load_detector, save_detector
from mien.training import engine, progress
from mien.training.detector_data import Batches, read_sources
from mien.training.detector_loss import loss_of
from mien.training.detector_teacher import Teacher
from mien.training.fit import launch
from mien.training.setup import Counters

VALIDATED = 250
"""Held-out pictures of each set that are searched after every epoch, at most."""


@dataclass(frozen=True)
class Setup:
    """All that a training works with."""

    recipe: DetectorRecipe
    samples: DetectionSamples
    run: Run
    fabric: Fabric
    detector: FaceDetectorNet
    average: engine.MovingAverage[FaceDetectorNet]
    network: nn.Module  # the detector as ``fabric`` runs it
    optimizer: Optimizer
    teacher: Teacher | None
    counters: Counters


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    epoch: int  # from 0
    epochs: int
    step: int
    steps: int
    losses: dict[str, float]  # means over this epoch so far
    pictures_per_second: float
    seconds_left: float
    measured: dict[str, float]  # on held-out pictures, after the last step of an epoch


def fit_detector(
    recipe: DetectorRecipe,
    samples: DetectionSamples,
    out: Path,
    *,
    resume: bool = False,
    accelerator: str = "auto",
    show: Callable[[Progress], None] | None = None,
    searched: Callable[[int, int], None] | None = None,
    stop_signal: Callable[[], int | None] = lambda: None,
    until_epoch: int | None = None,
) -> Run:
    """Train a recipe and leave a run directory: ``best.ckpt``, the average of the weights, and rows of metrics.

    Args:
        recipe: the experiment.
        samples: pictures; those that are held out are only measured on.
        out: the run directory.
        resume: go on where ``out`` stands.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        show: called after every step.
        searched: called with how many pictures a teacher has searched before the first step, and how many there are.
        stop_signal: the number of a signal that asks to stop, or ``None``.
        until_epoch: leave the run unfinished after so many epochs.

    Raises:
        RunExistsError, RunError: as ``fit``.
        DataError, MissingPathError, ModelError: pictures or teacher cannot be used.
        TrainingError: the loss is not a finite number.
        Interrupted: a signal asked to stop; the state is saved.
    """

    def told(done: int, count: int) -> None:
        if searched is not None:
            searched(done, count)
        if signal_number := stop_signal():
            raise errors.Interrupted("stopped before the first step", signal_number)

    with locked(out):
        fabric = launch(recipe.training.precision, 1, accelerator)
        with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
            setup = prepare(recipe, samples, out, fabric, resume=resume)
            sources = read_sources(samples, recipe.collages, setup.teacher, told)
            with Batches(recipe, sources, setup.teacher) as batches:
                train(setup, batches, show, stop_signal, until_epoch)
    return setup.run


def prepare(
    recipe: DetectorRecipe, samples: DetectionSamples, out: Path, fabric: Fabric, *, resume: bool = False
) -> Setup:
    """The networks and the run, as ``out`` left it or new; arguments and errors of :func:`fit_detector`."""
    settings = recipe.training
    teacher = None if settings.teacher_path is None else Teacher(settings.teacher_path)
    run = _open_run(out, recipe, resume)
    torch.manual_seed(recipe.seed)
    detector = FaceDetectorNet(**recipe.detector.model_dump())
    if settings.channels_last:
        detector = detector.to(memory_format=torch.channels_last)
    detector = detector.to(fabric.device)
    average = engine.MovingAverage(detector, settings.ema_decay)
    network, optimizer = fabric.setup(detector, engine.create_optimizer(detector, recipe.optimizer))
    counters = Counters()
    if run.last_checkpoint.exists():
        stored, state = load_detector(run.last_checkpoint)
        if state["data_sha256"] != samples.sha256:
            raise errors.DataError(
                f"{out}: expected the pictures that it was begun with, got others; give the same --data, or choose"
                " another --out"
            )
        detector.load_state_dict(stored.state_dict())
        average.network.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        counters = Counters(**state["counters"])
    return Setup(recipe, samples, run, fabric, detector, average, network, optimizer, teacher, counters)


def train(
    setup: Setup,
    batches: Batches,
    show: Callable[[Progress], None] | None,
    stop_signal: Callable[[], int | None],
    until_epoch: int | None,
) -> None:
    """Train from where the setup stands to the end."""
    recipe, settings, counters = setup.recipe, setup.recipe.training, setup.counters
    clock, saved = progress.Clock(settings, counters, settings.steps, setup.fabric), time.perf_counter()
    while not clock.is_over and (until_epoch is None or counters.epoch < until_epoch):
        sums: dict[str, float] = {}
        setup.network.train()
        first = counters.step
        for step in range(first, settings.steps):
            fraction = engine.lr_fraction(recipe.schedule, clock.epochs_done(step), settings.epochs)
            losses = _step(setup, batches, recipe.optimizer.lr * fraction)
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
            clock.tick()
            if show is not None and counters.step < settings.steps:
                show(_progress(setup, clock, sums, counters.step - first, {}))
            signal_number = stop_signal()
            if signal_number or time.perf_counter() - saved > 60 * settings.checkpoint_minutes:
                _save(setup)
                saved = time.perf_counter()
            if signal_number:
                raise errors.Interrupted(f"stopped; the state is saved in {setup.run.path}", signal_number)
            if clock.is_up:
                break
        measured = validate(setup)
        clock.tick()
        told = _progress(setup, clock, sums, max(1, counters.step - first), measured)
        _write_rows(setup, told)
        if show is not None:
            show(told)
        save_detector(setup.run.best_checkpoint, recipe, setup.average.network.state_dict())
        counters.next_epoch()
        _save(setup)


def _step(setup: Setup, batches: Batches, lr: float) -> dict[str, float]:
    """One step; its losses by name."""
    settings, counters, fabric = setup.recipe.training, setup.counters, setup.fabric
    for group in setup.optimizer.param_groups:
        group["lr"] = lr
    batch = batches.get(counters.updates)
    pictures = batch.pictures.to(fabric.device)
    targets = type(batch.targets)(*(value.to(fabric.device) for value in vars(batch.targets).values()))
    loss, parts = loss_of(setup.network(pictures), targets)
    if not torch.isfinite(loss):
        raise errors.TrainingError(
            f"expected a finite loss, got {loss.item()} at step {counters.updates + 1}; lower optimizer.lr"
        )
    setup.optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(setup.network.parameters(), settings.clip_norm)
    setup.optimizer.step()
    counters.step, counters.updates = counters.step + 1, counters.updates + 1
    counters.pictures += len(pictures)
    setup.average.update(counters.updates)
    return {"loss": float(loss.detach()), **{name: float(value) for name, value in parts.items()}}


def validate(setup: Setup) -> dict[str, float]:
    """Recall, false boxes and error of points of the average on held-out pictures: name -> value."""
    chosen: dict[str, list[FacePicture]] = {}
    for picture in setup.samples.part(held_out=True):
        if picture.faces is not None:
            chosen.setdefault(picture.set, []).append(picture)
    network = setup.average.network.eval()
    return {
        f"{name}_{key}": value
        for name, pictures in chosen.items()
        for key, value in detection.measure(lambda pixels: find(network, pixels), pictures[:VALIDATED]).rows().items()
    }


def find(network: FaceDetectorNet, pixels: Pixels) -> detection.Found:
    """What a network finds in a picture ``(H, W)`` or ``(H, W, 3)`` before suppression."""
    picture = detection.as_rgb(pixels)
    with torch.inference_mode():
        device = next(network.parameters()).device
        found = network(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(device))
    middles, sizes = found.boxes[0, :, :2], found.boxes[0, :, 2:]
    boxes = torch.cat([middles - sizes / 2, sizes], 1)
    parts = (boxes, found.points[0], found.logits[0].sigmoid())
    return detection.Found(*(part.float().cpu().numpy() for part in parts))


def _open_run(out: Path, recipe: DetectorRecipe, resume: bool) -> Run:
    run = Run(out)
    if not run.last_checkpoint.exists():
        with files.saying_what_fails(out):
            (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        files.write_text(run.recipe_path, detector_toml(recipe))
        files.write_text(run.metrics_path, "")
        return run
    if not resume:
        raise errors.RunExistsError(f"{out} already holds a run; add --resume to go on, or choose another --out")
    if load_detector_recipe(run.recipe_path) != recipe:
        raise errors.RunExistsError(
            f"{out}: expected the recipe that its run was begun with, got another; resume it with its own, or choose"
            " another --out"
        )
    return run


def _save(setup: Setup) -> None:
    state: dict[str, Any] = {
        "counters": asdict(setup.counters),
        "optimizer": setup.optimizer.state_dict(),
        "average": setup.average.network.state_dict(),
        "data_sha256": setup.samples.sha256,
    }
    save_detector(setup.run.last_checkpoint, setup.recipe, setup.detector.state_dict(), state)


def _progress(
    setup: Setup, clock: progress.Clock, sums: dict[str, float], steps: int, measured: dict[str, float]
) -> Progress:
    settings, counters = setup.recipe.training, setup.counters
    done = clock.epochs_done(counters.step) / settings.epochs
    return Progress(
        epoch=counters.epoch,
        epochs=settings.epochs,
        step=counters.step,
        steps=settings.steps,
        losses={name: value / max(steps, 1) for name, value in sums.items()},
        pictures_per_second=counters.pictures / max(counters.seconds, 1e-9),
        seconds_left=counters.seconds * (1 - done) / max(done, 1e-9),
        measured=measured,
    )


def _write_rows(setup: Setup, told: Progress) -> None:
    setup.run.keep_metrics_before(told.epoch)
    rows = [MetricRow(told.epoch, "training", name, value) for name, value in told.losses.items()]
    rows += [MetricRow(told.epoch, "training", "pictures_per_second", told.pictures_per_second)]
    rows += [MetricRow(told.epoch, "validation", name, value) for name, value in told.measured.items()]
    setup.run.append_metrics(rows)
