"""Where a training stands: for the screen, and for the checkpoint."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where training stands, for whoever shows it.

    Attributes:
        epoch: the current one, from 0.
        epochs: how many there will be at most.
        step: steps done in this epoch.
        steps: steps of an epoch.
        loss: mean over this epoch so far.
        accuracy: of this epoch's augmented faces so far, in [0, 1].
        lr: learning rate.
        pictures_per_second: over this epoch so far.
        seconds_left: until the end of training, estimated.
        validation_accuracy: after the last full epoch, which is this one at its last step, or ``None``.
        best_accuracy: the highest so far, or ``None``.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    lr: float
    pictures_per_second: float
    seconds_left: float
    validation_accuracy: float | None
    best_accuracy: float | None


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

    def begin_epoch(self, epoch: int) -> None:
        """Forget the sums of the epoch before."""
        self.epoch, self.step = epoch, 0
        self.epoch_seconds, self.loss_sum, self.correct, self.count = 0.0, 0.0, 0, 0

    def add_energy(self, joules: float | None, source: str | None) -> None:
        """Count on; once a part was not measured, or measured by other counters, the whole is not known any more."""
        if self.energy_joules is None or joules is None or self.energy_source not in (None, source):
            self.energy_joules = self.energy_source = None
        else:
            self.energy_joules, self.energy_source = self.energy_joules + joules, source
