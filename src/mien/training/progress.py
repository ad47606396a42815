"""What stands beside the loop: its clock, its checkpoints, and its log on the disk and on the screen."""

import importlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol, Self

import torch
from lightning_fabric import Fabric

from mien.errors import TrainingError
from mien.runs import MetricRow, checkpoint
from mien.training import engine
from mien.training.setup import Counters, Setup

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SCENES = "scene_accuracy"
"""Name in ``metrics.jsonl`` of the accuracy on validation faces that were found in scenes and cropped there."""

STEPS_BETWEEN_FETCHES = 50
"""On an accelerator, how many steps may be under way before their losses are fetched and checked."""


@dataclass(frozen=True)
class Progress:
    """Where training stands, for whoever shows it."""

    epoch: int  # the current one, from 0
    epochs: int  # how many there will be at most
    step: int  # steps done in this epoch
    steps: int  # of an epoch
    loss: float  # mean over this epoch so far
    accuracy: float  # of this epoch's augmented faces so far, in [0, 1]
    lr: float
    pictures_per_second: float  # over this epoch so far
    seconds_left: float  # until the end of training, estimated
    validation_accuracy: float | None  # after the last full epoch, which is this one at its last step
    best_accuracy: float | None  # the highest so far, or the highest mean with that on scenes


class Length(Protocol):
    """How long a training lasts: the part of its recipe that a clock reads."""

    @property
    def epochs(self) -> int:
        """Passes at most."""

    @property
    def minutes(self) -> float | None:
        """The time at most."""

    @property
    def patience(self) -> int | None:
        """Epochs without a better one before the end."""


class Clock:
    """How far a training has come, by steps and by its time; the same in all processes."""

    def __init__(self, settings: Length, counters: Counters, steps: int, fabric: Fabric) -> None:
        """The seconds are counted in ``counters``; ``steps`` are those of an epoch."""
        self._settings, self._counters, self._steps, self._fabric = settings, counters, steps, fabric
        self._last = time.perf_counter()

    def tick(self) -> None:
        """Count the seconds since the last call, or since the beginning."""
        now = time.perf_counter()
        self._counters.seconds += now - self._last
        self._counters.epoch_seconds += now - self._last
        self._last = now
        if self._fabric.world_size > 1 and self._settings.minutes is not None:
            # One clock for all, since the learning rate follows it.
            self._counters.seconds = float(self._fabric.broadcast(self._counters.seconds))

    @property
    def is_up(self) -> bool:
        """Whether the recipe's minutes are over."""
        return self._settings.minutes is not None and self._counters.seconds >= 60 * self._settings.minutes

    @property
    def is_over(self) -> bool:
        """Between epochs: whether all are done, no better one has come for too long, or the time is up."""
        settings, counters = self._settings, self._counters
        if counters.epoch >= settings.epochs or (counters.step == 0 and self.is_up):
            return True
        waited = 0 if counters.best_epoch is None else counters.epoch - 1 - counters.best_epoch
        return settings.patience is not None and waited >= settings.patience

    def epochs_done(self, step: int) -> float:
        """Epochs until a step of the current one, with fractions: by steps, or by the time where that runs ahead."""
        settings, counters = self._settings, self._counters
        done = counters.epoch + step / self._steps
        if settings.minutes is not None:
            done = max(done, settings.epochs * counters.seconds / (60 * settings.minutes))
        return min(float(done), float(settings.epochs))


class Checkpointer:
    """``last.ckpt``, all that training needs to go on, and ``best.ckpt``, the weights that are kept."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._joules = gpu_joules(setup.fabric.device, setup.fabric.world_size)
        self._saved_at = time.perf_counter()

    @property
    def is_due(self) -> bool:
        """Whether the last one was written longer ago than the recipe allows."""
        return time.perf_counter() - self._saved_at > 60 * self._setup.recipe.training.checkpoint_minutes

    def save_last(self) -> None:
        """Write ``last.ckpt``, with the energy used until now."""
        setup = self._setup
        self._saved_at = time.perf_counter()
        before, self._joules = self._joules, gpu_joules(setup.fabric.device, setup.fabric.world_size)
        used = None if before is None or self._joules is None else self._joules - before
        setup.counters.add_energy(used, ", ".join(f"GPU {index}" for index in range(setup.fabric.world_size)))
        if not setup.fabric.is_global_zero:
            return
        state = {
            "counters": asdict(setup.counters),
            "optimizer": setup.optimizer.state_dict(),
            "average": None if setup.average is None else setup.average.network.state_dict(),
            "data_sha256": setup.data_sha256,
            "teachers_sha256": setup.teachers_sha256,
        }
        weights = setup.classifier.state_dict()
        checkpoint.save_checkpoint(
            setup.run.last_checkpoint,
            checkpoint.Checkpoint(setup.recipe, weights, labels=setup.samples.classes, state=state),
        )

    def save_best(self) -> None:
        """Write ``best.ckpt``."""
        setup = self._setup
        if setup.fabric.is_global_zero:
            kept = checkpoint.Checkpoint(setup.recipe, setup.kept.state_dict(), labels=setup.samples.classes)
            checkpoint.save_checkpoint(setup.run.best_checkpoint, kept)


def gpu_joules(device: torch.device, gpus: int) -> float | None:
    """What the first GPUs that this process sees have counted since their driver was loaded; it is never estimated.

    A GPU counts all that it uses, other programs' work included, from Volta on. The energy of processor, fans and
    disks is in none. On other devices, on several machines and without NVML it is not known.

    Source: NVIDIA, nvmlDeviceGetTotalEnergyConsumption.
    """
    if device.type != "cuda" or int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return None
    try:
        nvml.nvmlInit()
        # NVML numbers all GPUs of the machine, CUDA those that it was given: only the UUID means the same to both.
        uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(gpus)]
        handles = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        return sum(int(nvml.nvmlDeviceGetTotalEnergyConsumption(each)) for each in handles) / 1000  # NVML: millijoules
    except nvml.NVMLError:
        return None


class Log:
    """Adds up what steps gave, writes the rows of epochs, and shows the progress; closed as a context.

    The losses stay on the device until they are fetched: an accelerator that had to hand over each of them would wait.
    """

    def __init__(self, setup: Setup, clock: Clock, show: Callable[[Progress], None] | None) -> None:
        """``show`` is called in the first process."""
        self._setup, self._clock = setup, clock
        self._show = show if setup.fabric.is_global_zero else None
        self._pending: list[engine.Step] = []
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, step: engine.Step, epoch: engine.Epoch) -> None:
        """Count a step of an epoch, and fetch now and then."""
        counters = self._setup.counters
        counters.step += 1
        counters.updates += 1
        counters.pictures += self._setup.batch_size
        self._pending.append(step)
        if self._setup.fabric.device.type == "cpu" or len(self._pending) >= STEPS_BETWEEN_FETCHES:
            self.fetch(epoch)

    def fetch(self, epoch: engine.Epoch) -> None:
        """Fetch the pending losses, check them, add them up, advance the clock and show the progress.

        Raises:
            TrainingError: a loss is no finite number.
        """
        if not self._pending:
            return
        counters, pending = self._setup.counters, self._pending
        self._pending = []
        losses = torch.stack([step.loss for step in pending]).tolist()
        for step, loss in enumerate(losses, start=counters.step - len(pending)):
            if not math.isfinite(loss):
                raise TrainingError(self._diverged(epoch, step, loss))
        counters.loss_sum += sum(loss * step.count for loss, step in zip(losses, pending, strict=True))
        counters.correct += int(torch.stack([step.correct for step in pending]).sum())
        counters.count += sum(step.count for step in pending)
        self._clock.tick()
        if counters.step < self._setup.steps and self._show is not None:  # the last step is shown with its validation
            self._show(self._progress())

    def end_epoch(self, validation: Mapping[str, float]) -> bool:
        """Write an epoch's rows, replacing those of an interrupted one, and show it; whether it is the best so far.

        ``validation`` is by name in ``metrics.jsonl``.
        """
        counters, accuracy = self._setup.counters, validation["accuracy"]
        counters.validation_accuracy = accuracy
        chosen = (accuracy + validation.get(SCENES, accuracy)) / 2
        improved = counters.best_accuracy is None or chosen > counters.best_accuracy
        if improved:
            counters.best_accuracy, counters.best_epoch = chosen, counters.epoch
        if self._setup.fabric.is_global_zero:
            self._write_rows(validation)
        return improved

    def _write_rows(self, validation: Mapping[str, float]) -> None:
        progress, run = self._progress(), self._setup.run
        names = ("loss", "accuracy", "lr", "pictures_per_second")
        rows = [MetricRow(progress.epoch, "training", name, getattr(progress, name)) for name in names]
        rows += [MetricRow(progress.epoch, "validation", name, value) for name, value in validation.items()]
        if self._writer is None:  # what an interrupted run wrote from this epoch on goes, and is hidden
            from torch.utils.tensorboard import SummaryWriter

            run.keep_metrics_before(progress.epoch)
            self._writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=progress.epoch)
        run.append_metrics(rows)
        for row in rows:
            self._writer.add_scalar(f"{row.split}/{row.name}", row.value, row.epoch)
        self._writer.flush()
        if self._show is not None:
            self._show(progress)

    def _progress(self) -> Progress:
        setup, counters = self._setup, self._setup.counters
        epochs = setup.recipe.training.epochs
        done = self._clock.epochs_done(counters.step) / epochs
        return Progress(
            epoch=counters.epoch,
            epochs=epochs,
            step=counters.step,
            steps=setup.steps,
            loss=counters.loss_sum / counters.count,
            accuracy=counters.correct / counters.count,
            lr=float(setup.optimizer.param_groups[0]["lr"]),
            pictures_per_second=counters.step * setup.batch_size / max(counters.epoch_seconds, 1e-9),
            seconds_left=counters.seconds * (1 - done) / max(done, 1e-9),
            validation_accuracy=counters.validation_accuracy,
            best_accuracy=counters.best_accuracy,
        )

    def _diverged(self, epoch: engine.Epoch, step: int, loss: float) -> str:
        rows = ", ".join(map(str, epoch.rows(step)))
        lr = self._setup.optimizer.param_groups[0]["lr"]
        return (
            f"expected a finite loss, got {loss} at epoch {self._setup.counters.epoch + 1}, step {step + 1}, learning"
            f" rate {lr:.3g}, rows of the batch: {rows}; lower optimizer.lr, set training.clip_norm, or look at these"
            " rows"
        )
