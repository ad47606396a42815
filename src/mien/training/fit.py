"""Recipe and faces -> run directory: the loop over epochs and batches, on Lightning Fabric.

The random numbers of a step depend on the seed, the epoch and the step alone, and a checkpoint holds the step it was
written at. A run that is killed at any moment and resumed therefore ends, on the CPU in float32, with the same
weights to the bit as one that was not.
"""

import atexit
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from numpy.typing import NDArray

from mien.data import FaceSamples
from mien.data.pictures import choose
from mien.errors import Interrupted
from mien.evaluation import predictor
from mien.evaluation.metrics import METRICS
from mien.recipe import Recipe
from mien.runs import Run, locked
from mien.training import engine, progress
from mien.training.checks import Circumstances, check_recipe
from mien.training.finish import finish_run
from mien.training.room import check_disk, choose_precision
from mien.training.setup import Setup, ShowPictures, prepare

T = TypeVar("T")

VALIDATION_ROWS = {"loss": "nll", "accuracy": "accuracy", "macro_f1": "macro_f1"}
"""Name in ``metrics.jsonl`` -> metric."""


def fit(
    recipe: Recipe,
    samples: FaceSamples,
    out: Path,
    *,
    resume: bool = False,
    devices: int = 1,
    accelerator: str = "auto",
    command: str = "",
    votes: NDArray[np.uint8] | None = None,
    show: Callable[[progress.Progress], None] | None = None,
    stop_signal: Callable[[], int | None] = lambda: None,
    until_epoch: int | None = None,
    show_pictures: ShowPictures = lambda work, done, count: None,
) -> Run:
    """Train a recipe and leave a finished run directory: weights, validation predictions, rows, ``report.json``.

    Args:
        recipe: the experiment.
        samples: labelled faces; test splits are never touched.
        out: the run directory.
        resume: go on where ``out`` stands; from the beginning where nothing has been saved there.
        devices: processes on this machine; under ``torchrun`` its own number counts.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        command: the command line, for the report.
        votes: uint8 ``(N, 10)``, FER+'s votes on each of ``samples``, from ``data.votes_on``: those on training faces
            are learnt by recipes with ``training.votes_weight``, those on validation give the report's FER+ view.
        show: called now and then with the progress.
        stop_signal: the number of a signal that asks to stop, or ``None``; asked after every step.
        until_epoch: leave the run unfinished after so many epochs of the recipe's, to be resumed.
        show_pictures: called with what is done to pictures before the first step, the number to which it was, and
            that of all: ``searched`` by a detector, ``answered by a teacher``.

    Raises:
        RecipeError: the recipe does not fit its network or the processes, builds on a run of another split, or wants
            votes that were not given, or points of a detector that gives none.
        DataError: the data lack a split or a class, or differ from those that ``out`` was trained on.
        UnknownNameError, ModelError: there is no such model, or it does not take these options or weights.
        MissingPathError: there is no file of an earlier run that the recipe builds on.
        RunExistsError: ``out`` holds a run and ``resume`` is false, or the run of another recipe.
        WeightsUnavailableError: the weights of the hub are not here and cannot be fetched.
        RoomError: memory or disk will not suffice.
        RunError: ``out`` cannot be written or resumed; another process is at work in it.
        TrainingError: the loss is not a finite number.
        Interrupted: a signal asked to stop; the state is saved.
    """
    is_first = is_first_process(devices)
    if is_first:
        need = check_recipe(recipe, Circumstances(samples, votes, devices, accelerator))
        check_disk({Run(out): need})
    with locked(out) if is_first else contextlib.nullcontext():
        fabric = launch(recipe.training.precision, devices, accelerator)
        with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
            working = _working(show_pictures, stop_signal)
            setup = prepare(recipe, samples, out, fabric, votes=votes, resume=resume, show=working)
            is_over = train(setup, show=show, stop_signal=stop_signal, until_epoch=until_epoch)
            fabric.barrier()
            if is_over and fabric.is_global_zero:
                finish_run(setup, command, votes)
        fabric.barrier()
    return setup.run


def train(
    setup: Setup,
    *,
    show: Callable[[progress.Progress], None] | None = None,
    stop_signal: Callable[[], int | None] = lambda: None,
    until_epoch: int | None = None,
) -> bool:
    """Train from where the setup stands to the end, and leave both checkpoints. Arguments and errors as of ``fit``.

    Returns whether that end is the recipe's, and not ``until_epoch``.
    """
    recipe, settings, fabric, counters = setup.recipe, setup.recipe.training, setup.fabric, setup.counters
    clock = progress.Clock(settings, counters, setup.steps, fabric)
    checkpointer = progress.Checkpointer(setup)
    with progress.Log(setup, clock, show) as log:
        while not clock.is_over and (until_epoch is None or counters.epoch < until_epoch):
            epoch = _epoch(setup, done=clock.epochs_done(0) / settings.epochs)
            setup.network.train()
            for step in range(counters.step, setup.steps):
                lr = recipe.optimizer.lr * engine.lr_fraction(recipe.schedule, clock.epochs_done(step), settings.epochs)
                batch = epoch.batch(step)
                if setup.teachers:
                    with fabric.autocast():
                        batch = engine.distill(batch, setup.teachers, settings.teacher_weight)
                torch.manual_seed(_dropout_seed(recipe.seed, counters.epoch, step, fabric.global_rank))
                result = engine.train_step(setup.network, setup.optimizer, batch, lr, settings, fabric)
                log.add(result, epoch)
                if setup.average is not None:
                    setup.average.update(counters.updates)
                signal_number, is_due = _agreed(fabric, stop_signal() or 0, checkpointer.is_due)
                if signal_number or is_due:
                    log.fetch(epoch)
                    checkpointer.save_last()
                if signal_number:
                    raise Interrupted(f"stopped; the state is saved in {setup.run.path}", signal_number)
                if clock.is_up:
                    break
            log.fetch(epoch)
            improved = log.end_epoch(validate(setup))
            if improved or settings.weights != "best":
                checkpointer.save_best()
            clock.tick()
            counters.next_epoch()
            checkpointer.save_last()
    return clock.is_over


def _epoch(setup: Setup, *, done: float) -> engine.Epoch:
    """The faces of the epoch that comes next, in its order; ``done`` is the fraction of the training before it."""
    recipe = setup.recipe
    return engine.Epoch(
        setup.faces, recipe.augmentation, recipe.model.input_size, seed=recipe.seed, number=setup.counters.epoch,
        batch_size=setup.batch_size, done=done, rank=setup.fabric.global_rank, processes=setup.fabric.world_size,
    )  # fmt: skip


def validate(setup: Setup) -> dict[str, float]:
    """What the weights that are kept reach on validation: name in ``metrics.jsonl`` -> value, in all processes."""
    measured: dict[str, float] = {}
    if setup.fabric.is_global_zero:
        indices = setup.splits.validation
        labels = setup.samples.labels[indices]
        with setup.fabric.autocast():
            logits = predictor.predict_logits(setup.kept, choose(setup.samples.images, indices))
            crops = None if setup.scenes is None else predictor.predict_logits(setup.kept, setup.scenes.crops)
        probabilities = predictor.probabilities_of(logits)
        measured = {name: METRICS[metric](labels, probabilities) for name, metric in VALIDATION_ROWS.items()}
        if setup.scenes is not None and crops is not None:
            measured[progress.SCENES] = setup.scenes.accuracy(predictor.probabilities_of(crops), labels)
    return setup.fabric.broadcast(measured)


def _working(show: ShowPictures, stop_signal: Callable[[], int | None]) -> ShowPictures:
    """``show`` that also ends the work where a signal asks for it."""

    def worked(work: str, done: int, count: int) -> None:
        if signal_number := stop_signal():
            raise Interrupted(f"stopped while pictures were {work}, before the first step", signal_number)
        show(work, done, count)

    return worked


def _dropout_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Seed of dropout for one step of one process."""
    return int(np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _agreed(fabric: Fabric, signal_number: int, is_due: bool) -> tuple[int, bool]:
    """A signal to any process, and whether any is due to save: all leave at the same step, or some wait for ever."""
    if fabric.world_size == 1:
        return signal_number, is_due
    asked = torch.tensor([signal_number, int(is_due)], device=fabric.device)
    signal_number, due = fabric.all_reduce(asked, reduce_op="max").tolist()  # type: ignore[union-attr]
    return signal_number, bool(due)


def launch(precision: str, devices: int, accelerator: str) -> Fabric:
    """The processes of a training: as many as ``torchrun`` started, or ``devices`` of our own; arguments of ``fit``."""
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    chosen = choose_precision(precision, predictor.device_type(accelerator))
    is_alone = devices * nodes == 1
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if is_alone else "ddp",
        plugins=[LightningEnvironment()] if is_alone else [],  # Slurm's tasks are then no processes of one training
        precision="bf16-mixed" if chosen == "bfloat16" else "32-true",
    )
    fabric.launch()
    if fabric.device.type == "cpu":
        predictor.keep_freed_memory()
    if torch.distributed.is_initialized():
        # Gloo's threads abort a process that ends while they run, and Fabric ends only NCCL's.
        atexit.register(_leave_processes)
    return fabric


def is_first_process(devices: int = 1) -> bool:
    """Whether this process is alone, or the one that speaks for all that ``torchrun``, Slurm or Fabric started.

    Slurm's tasks are one training only with several ``devices``; with one each is a call of its own.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID") if devices > 1 else ("RANK", "LOCAL_RANK")
    return next((rank for name in names if (rank := os.environ.get(name)) is not None), "0") == "0"


def agree(value: T, devices: int, accelerator: str) -> T:
    """What the first process says, in all processes of a training with these options of ``fit``."""
    if devices == 1 and "WORLD_SIZE" not in os.environ and "LOCAL_RANK" not in os.environ:
        return value
    return launch("float32", devices, accelerator).broadcast(value)


def _leave_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
