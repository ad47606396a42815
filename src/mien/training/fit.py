"""Recipe and faces -> run directory: epochs, checkpoints, resume and rows, on Lightning Fabric.

The random numbers of a step depend on the seed, the epoch and the step alone, and a checkpoint holds the step it was
written at. A run that is killed at any moment and resumed therefore ends, on the CPU in float32, with the same
weights to the bit as one that was not.
"""

import atexit
import copy
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.errors import DataError, Interrupted, RecipeError, RunError, TrainingError
from mien.evaluation.metrics import METRICS
from mien.evaluation.predict import device_type, predict_logits, probabilities_of
from mien.models import FaceClassifier
from mien.models.memory import keep_freed_memory
from mien.recipe import Recipe
from mien.runs import Checkpoint, Run, load_checkpoint, save_checkpoint
from mien.training.augment import Augmentation, draw_table, mixup_shares, size_at
from mien.training.energy import create_meter
from mien.training.engine import (
    Batch,
    EpochDraws,
    Step,
    TrainingFaces,
    averaged_tensors,
    make_batch,
    taught,
    train_one_epoch,
    update_average,
)
from mien.training.finish import finish_run
from mien.training.progress import Counters, Progress
from mien.training.schedule import learning_rate_share
from mien.training.start import (
    check_inputs,
    check_room,
    check_sizes,
    choose_precision,
    create_network,
    create_optimizer,
    open_run,
    training_splits,
    vote_shares,
)
from mien.training.teachers import load_teachers, teacher_hashes
from mien.training.tensorboard import write_scalars

STEPS_BETWEEN_LOOKS = 50
"""On an accelerator, how many steps may be under way before their losses are fetched and checked."""


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
    show: Callable[[Progress], None] | None = None,
    stop_signal: Callable[[], int | None] = lambda: None,
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

    Raises:
        RecipeError: the recipe does not fit the data or the processes, or wants votes that were not given.
        MissingPathError: there is no file of an earlier run that the recipe builds on.
        RunExistsError: ``out`` holds a run and ``resume`` is false.
        RunError: ``out`` cannot be written or has no room.
        TrainingError: the loss is not a finite number.
        Interrupted: a signal asked to stop; the state is saved.
    """
    check_inputs(recipe, votes)
    fabric = _launch(recipe, devices, accelerator)
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        training = _Training(recipe, samples, out, fabric, resume, votes, show, stop_signal)
        training.run_to_the_end()
        fabric.barrier()
        if fabric.is_global_zero:
            finish_run(
                training.run,
                recipe,
                samples,
                training.splits,
                training.counters,
                fabric,
                command,
                votes,
                training.teachers_sha256,
            )
    fabric.barrier()
    return training.run


class _Training:
    """One training under way."""

    def __init__(
        self,
        recipe: Recipe,
        samples: FaceSamples,
        out: Path,
        fabric: Fabric,
        resume: bool,
        votes: NDArray[np.uint8] | None,
        show: Callable[[Progress], None] | None,
        stop_signal: Callable[[], int | None],
    ) -> None:
        self.recipe, self.samples, self.fabric = recipe, samples, fabric
        self.data_sha256 = samples.content_sha256()
        self.show, self.stop_signal = show, stop_signal
        self.splits = training_splits(recipe, samples)
        self.batch_size = min(recipe.training.batch_size, len(self.splits.training))
        if self.batch_size % fabric.world_size:
            raise RecipeError(
                f"training.batch_size must be a multiple of the {fabric.world_size} processes; {self.batch_size} came"
            )
        self.steps = len(self.splits.training) // self.batch_size
        torch.manual_seed(recipe.seed)
        self.classifier = create_network(recipe)
        check_sizes(self.classifier, recipe)
        if fabric.is_global_zero:
            self.run = open_run(out, recipe, resume)
            check_room(self.run, self.classifier, recipe.training)
        fabric.barrier()
        self.run = Run(out)
        self.teachers, self.teachers_sha256 = load_teachers(recipe, fabric.device), teacher_hashes(recipe)
        self._place(vote_shares(recipe, votes, self.splits))
        self.counters = Counters()
        if self.run.last_checkpoint.exists():
            self._load()
        self.meter = create_meter(fabric.device, fabric.world_size)
        self.clock = time.perf_counter()
        self.saved_at = self.clock

    def _place(self, votes: NDArray[np.float32] | None) -> None:
        """Bring network, optimizer and training faces, with their shares of votes, to their device."""
        recipe, fabric = self.recipe, self.fabric
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            self.classifier = nn.SyncBatchNorm.convert_sync_batchnorm(self.classifier)  # type: ignore[no-untyped-call]
        if recipe.training.channels_last:
            self.classifier = self.classifier.to(memory_format=torch.channels_last)
        self.classifier.to(fabric.device)
        self.average = copy.deepcopy(self.classifier) if recipe.training.ema_decay is not None else None
        network: Any = torch.compile(self.classifier) if recipe.training.compile else self.classifier
        optimizer = create_optimizer(self.classifier, recipe.optimizer)
        self.network, self.optimizer = fabric.setup(network, optimizer)
        if self.average is not None:
            self.averaged = averaged_tensors(self.average), averaged_tensors(self.classifier)
        positions = self.splits.training
        self.faces = TrainingFaces(
            images=torch.from_numpy(np.array(self.samples.images[positions])).unsqueeze(1).to(fabric.device),
            labels=torch.from_numpy(self.samples.labels[positions].astype(np.int64)).to(fabric.device),
            rows=torch.from_numpy(self.samples.rows[positions].astype(np.int64)).to(fabric.device),
            votes=None if votes is None else torch.from_numpy(votes).to(fabric.device),
        )

    # Epochs

    def run_to_the_end(self) -> None:
        """Epoch after epoch, from wherever the counters stand."""
        while not self._is_over():
            for step in self._steps_of_epoch():
                self._count(step)
                self._pause_if_asked()
                if self._time_is_up():
                    break
            self._look()
            self._end_epoch()

    def _is_over(self) -> bool:
        settings, counters = self.recipe.training, self.counters
        if counters.epoch >= settings.epochs or (counters.step == 0 and self._time_is_up()):
            return True
        waited = 0 if counters.best_epoch is None else counters.epoch - 1 - counters.best_epoch
        return settings.patience is not None and waited >= settings.patience

    def _steps_of_epoch(self) -> Iterator[Step]:
        recipe, counters = self.recipe, self.counters
        self.pending: list[Step] = []
        # The order of the faces and every draw follow from seed and epoch, so a resumed epoch finds its place again.
        order = np.random.default_rng((recipe.seed, counters.epoch, 2)).permutation(len(self.splits.training))
        self.order = torch.from_numpy(order).to(self.fabric.device)
        first, seed = counters.step, (recipe.seed, counters.epoch)

        def before_step(number: int) -> None:
            torch.manual_seed(_step_seed(*seed, first + number, self.fabric.global_rank))
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()

        return train_one_epoch(
            self.network,
            self.optimizer,
            self._batches(first),
            backward=self.fabric.backward,
            before_step=before_step,
            label_smoothing=recipe.training.label_smoothing,
            votes_weight=recipe.training.votes_weight,
            clip_norm=recipe.training.clip_norm,
        )

    def _batches(self, first: int) -> Iterator[Batch]:
        recipe, epoch, device = self.recipe, self.counters.epoch, self.fabric.device
        done = self._position(0) / recipe.training.epochs
        light = done >= 1 - recipe.augmentation.light_tail
        augmentation = Augmentation(recipe.augmentation, size_at(recipe, done))
        rows = int(self.faces.rows.max()) + 1
        mixup = None
        if recipe.augmentation.mixup and not light:
            mixup = mixup_shares(recipe.seed, epoch, rows, recipe.augmentation.mixup).to(device)
        draws = EpochDraws(draw_table(recipe.seed, epoch, rows).to(device), mixup, light)
        size = self.batch_size // self.fabric.world_size
        part = slice(self.fabric.global_rank * size, (self.fabric.global_rank + 1) * size)
        for step in range(first, self.steps):
            positions = self.order[step * self.batch_size : (step + 1) * self.batch_size]
            batch = make_batch(self.faces, positions, part, draws, augmentation, len(EMOTIONS))
            if self.teachers:
                with self.fabric.autocast():
                    batch = taught(batch, self.teachers, recipe.training.teacher_weight)
            yield batch

    def _position(self, step: int) -> float:
        """Epochs done so far, with fractions: by steps, or by the clock where it runs ahead of them."""
        settings, counters = self.recipe.training, self.counters
        position = counters.epoch + step / self.steps
        if settings.minutes is not None:
            position = max(position, settings.epochs * counters.seconds / (60 * settings.minutes))
        return min(float(position), float(settings.epochs))

    def _time_is_up(self) -> bool:
        minutes = self.recipe.training.minutes
        return minutes is not None and self.counters.seconds >= 60 * minutes

    def learning_rate(self) -> float:
        """Of the step to come."""
        position, epochs = self._position(self.counters.step), self.recipe.training.epochs
        return self.recipe.optimizer.lr * learning_rate_share(self.recipe.schedule, position, epochs)

    # After a step

    def _count(self, step: Step) -> None:
        counters = self.counters
        counters.step += 1
        counters.updates += 1
        counters.pictures += self.batch_size
        if self.average is not None:
            decay = self.recipe.training.ema_decay or 0.0
            update_average(*self.averaged, decay, counters.updates)
        self.pending.append(step)
        if self.fabric.device.type == "cpu" or len(self.pending) >= STEPS_BETWEEN_LOOKS:
            self._look()

    def _look(self) -> None:
        """Fetch the pending losses, check them, add them up, advance the clock and show the progress."""
        if not self.pending:
            return
        counters, pending = self.counters, self.pending
        self.pending = []
        losses = torch.stack([step.loss for step in pending]).tolist()
        for number, loss in enumerate(losses, start=counters.step - len(pending)):
            if not np.isfinite(loss):
                raise TrainingError(self._diverged(number, loss))
        counters.loss_sum += sum(loss * step.count for loss, step in zip(losses, pending, strict=True))
        counters.correct += int(torch.stack([step.correct for step in pending]).sum())
        counters.count += sum(step.count for step in pending)
        self._tick()
        if counters.step < self.steps:  # the last step is shown when its epoch is validated
            self._show()

    def _show(self) -> None:
        if self.show is not None and self.fabric.is_global_zero:
            self.show(self._progress())

    def _tick(self) -> None:
        now = time.perf_counter()
        self.counters.seconds += now - self.clock
        self.counters.epoch_seconds += now - self.clock
        self.clock = now
        self.counters.add_energy(self.meter.joules(), self.meter.source)
        if self.fabric.world_size > 1 and self.recipe.training.minutes is not None:
            # One clock for all, since the learning rate follows it.
            self.counters.seconds = float(self.fabric.broadcast(self.counters.seconds))

    def _diverged(self, step: int, loss: float) -> str:
        batch = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        rows = ", ".join(str(row) for row in sorted(self.faces.rows[batch].tolist()))
        return (
            f"the loss is {loss} at epoch {self.counters.epoch + 1}, step {step + 1}, learning rate"
            f" {self.learning_rate():.3g}; rows of the batch: {rows}."
            " Lower optimizer.lr, set training.clip_norm, or look at these rows"
        )

    def _progress(self) -> Progress:
        counters = self.counters
        share = self._position(counters.step) / self.recipe.training.epochs
        epoch_pictures = counters.step * self.batch_size
        return Progress(
            epoch=counters.epoch,
            epochs=self.recipe.training.epochs,
            step=counters.step,
            steps=self.steps,
            loss=counters.loss_sum / counters.count,
            accuracy=counters.correct / counters.count,
            lr=self.learning_rate(),
            pictures_per_second=epoch_pictures / max(counters.epoch_seconds, 1e-9),
            seconds_left=counters.seconds * (1 - share) / max(share, 1e-9),
            validation_accuracy=counters.validation_accuracy,
            best_accuracy=counters.best_accuracy,
        )

    def _pause_if_asked(self) -> None:
        """Save now and then; save and leave when a signal asks for it."""
        signal_number = self.stop_signal() or 0
        if self.fabric.world_size > 1:  # all leave after the same step, or those who stay wait for ever
            asked = torch.tensor(signal_number, device=self.fabric.device)
            signal_number = int(self.fabric.all_reduce(asked, reduce_op="max"))  # type: ignore[arg-type]
        if signal_number:
            self._look()
            self.save()
            raise Interrupted(f"stopped; the state is saved in {self.run.path}", signal_number)
        if time.perf_counter() - self.saved_at > 60 * self.recipe.training.checkpoint_minutes:
            self._look()
            self.save()

    # After an epoch

    def _end_epoch(self) -> None:
        counters = self.counters
        if self.fabric.is_global_zero:
            self._validate()
        accuracy = float(self.fabric.broadcast(counters.validation_accuracy or 0.0))
        counters.validation_accuracy = accuracy
        improved = counters.best_accuracy is None or accuracy > counters.best_accuracy
        if improved:
            counters.best_accuracy, counters.best_epoch = accuracy, counters.epoch
        self._show()
        if self.fabric.is_global_zero and (improved or self.recipe.training.weights != "best"):
            save_checkpoint(self.run.best_checkpoint, Checkpoint(self.recipe, self._kept().state_dict()))
        counters.begin_epoch(counters.epoch + 1)
        self._tick()
        counters.epoch_seconds = 0.0
        self.save()

    def _validate(self) -> None:
        counters, positions = self.counters, self.splits.validation
        images, labels = self.samples.images[positions], self.samples.labels[positions]
        training_seconds = counters.epoch_seconds
        with self.fabric.autocast():
            probabilities = probabilities_of(predict_logits(self._kept(), images))
        measured = {
            "training": {
                "loss": counters.loss_sum / counters.count,
                "accuracy": counters.correct / counters.count,
                "lr": float(self.optimizer.param_groups[0]["lr"]),  # of the last step: the next may be a restart
                "pictures_per_second": counters.step * self.batch_size / max(training_seconds, 1e-9),
            },
            "validation": {name: METRICS[metric](labels, probabilities) for name, metric in VALIDATION_ROWS.items()},
        }
        rows = [
            {"epoch": counters.epoch, "split": split, "name": name, "value": value}
            for split, values in measured.items()
            for name, value in values.items()
        ]
        self.run.keep_metrics_before(counters.epoch)
        self.run.append_metrics(rows)
        write_scalars(self.run.path / "tensorboard", rows, step=counters.epoch)
        counters.validation_accuracy = measured["validation"]["accuracy"]

    def _kept(self) -> FaceClassifier:
        """The network that is validated and kept: the average, where there is one."""
        return self.classifier if self.average is None else self.average

    # Checkpoints

    def save(self) -> None:
        """Write ``last.ckpt``."""
        self.saved_at = time.perf_counter()
        if not self.fabric.is_global_zero:
            return
        state = {
            "counters": asdict(self.counters),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "data_sha256": self.data_sha256,
            "teachers_sha256": self.teachers_sha256,
        }
        weights = self.classifier.state_dict()
        save_checkpoint(self.run.last_checkpoint, Checkpoint(self.recipe, weights, state=state))

    def _load(self) -> None:
        checkpoint = load_checkpoint(self.run.last_checkpoint)
        state = checkpoint.state
        if state["data_sha256"] != self.data_sha256:
            raise DataError(
                f"{self.run.path} was trained on other data (content hash {state['data_sha256'][:12]}...,"
                f" {self.data_sha256[:12]}... came); give the same --data, or choose another --out"
            )
        if state.get("teachers_sha256", self.teachers_sha256) != self.teachers_sha256:  # older ones do not tell them
            raise RunError(f"the files that taught {self.run.path} have changed since; choose another --out")
        self.classifier.load_state_dict(checkpoint.weights)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.counters = Counters(**{"energy_joules": None, **state["counters"]})  # older checkpoints do not tell it


VALIDATION_ROWS = {"loss": "nll", "accuracy": "accuracy", "macro_f1": "macro_f1"}
"""Name in ``metrics.jsonl`` -> metric."""


def _launch(recipe: Recipe, devices: int, accelerator: str) -> Fabric:
    """The processes of this training: as many as ``torchrun`` started, or ``devices`` of our own."""
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    precision = choose_precision(recipe.training.precision, device_type(accelerator))
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
    )
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_freed_memory()
    if torch.distributed.is_initialized():
        # Gloo's threads abort a process that ends while they run, and Fabric ends only NCCL's.
        atexit.register(_leave_processes)
    return fabric


def is_first_process() -> bool:
    """Whether this process is alone, or the one that speaks for all those that ``torchrun`` or Fabric started."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def _leave_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Seed of dropout for one step of one process."""
    return int(np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))
