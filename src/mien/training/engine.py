"""The arithmetic of training: an epoch's batches, the learning rate, one step, an average. No files, no clock."""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mien.data.pictures import pictures_at
from mien.emotions import EMOTIONS
from mien.models import face_tensor
from mien.recipe import AugmentationSettings, OptimizerSettings, ScheduleSettings, TrainingSettings
from mien.training import augment

ANSWERED = 256
"""Faces that teachers answer at a time."""

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25

N = TypeVar("N", bound=nn.Module)

Teacher = Callable[[Tensor], Tensor]
"""Faces of any size, float ``(N, C, H, W)`` in [0, 1], to probabilities before any temperature, ``(N, K)``."""


class StreamedImages:
    """Pictures of a data set that are read from it when they are asked for: by index uint8 ``(n, C, H, W)``."""

    def __init__(self, images: NDArray[np.uint8], indices: NDArray[np.int64], device: torch.device) -> None:
        self._images, self._indices, self._device = images, indices, device

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """On the device, in the order asked for, to the bit those of a tensor that holds all."""
        indices = self._indices[chosen if isinstance(chosen, slice) else chosen.cpu().numpy()]
        return face_tensor(pictures_at(self._images, indices)).to(self._device)


@dataclass(frozen=True)
class TrainingFaces:
    """The faces of the training split, on the device; many pictures stay in the data set's file."""

    images: "Tensor | StreamedImages"  # uint8 (M, C, H, W)
    labels: Tensor  # int64 (M,)
    rows: Tensor  # int64 (M,), the data set's row numbers
    votes: Tensor | None = None  # float32 (M, V), fractions of FER+'s votes, all 0 where nobody voted
    num_classes: int = len(EMOTIONS)  # K
    targets: Tensor | None = None  # float32 (M, K), distributions that are learnt instead of the labels alone
    points: NDArray[np.float32] | None = None  # (M, 5, 2), pixels of the picture; NaN where not found
    size: int = 48  # side of the pictures, in pixels

    def targets_of(self, indices: Tensor) -> Tensor:
        """What is learnt of some faces: float32 ``(N, K)``."""
        if self.targets is not None:
            return self.targets[indices]
        return F.one_hot(self.labels[indices], self.num_classes).float()


@dataclass(frozen=True)
class Batch:
    """Faces ready for the network."""

    images: Tensor  # float32 (N, C, S, S) in [0, 1]
    targets: Tensor  # float32 (N, K), a distribution over the classes
    labels: Tensor  # int64 (N,)
    votes: Tensor | None = None  # float32 (N, V), fractions of FER+'s votes


@dataclass(frozen=True)
class Step:
    """What one step of training gave, still on the device."""

    loss: Tensor  # (), mean over this process's part of the batch
    correct: Tensor  # (), faces whose label has the highest logit
    count: int  # faces in this process's part of the batch


class Epoch:
    """The batches of one epoch; all that is random in them follows from the seed and the epoch."""

    def __init__(
        self,
        faces: TrainingFaces,
        settings: AugmentationSettings,
        input_size: int,
        *,
        seed: int,
        number: int,
        batch_size: int,
        done: float = 0.0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Draw the epoch's random numbers, the same in all processes.

        Args:
            faces: the training split.
            settings: the recipe's ``[augmentation]``.
            input_size: the network's, in pixels.
            seed: the recipe's.
            number: of the epoch, from 0.
            batch_size: faces of a global batch, a multiple of ``processes``.
            done: fraction of training that lies behind; decides how large the faces are, and whether they are clean.
            rank: of this process among the ``processes``.
            processes: of the training.
        """
        device, rows, size = faces.labels.device, int(faces.rows.max()) + 1, batch_size // processes
        self._faces, self._batch_size, self._part = faces, batch_size, slice(rank * size, (rank + 1) * size)
        self._clean = done >= 1 - settings.light_tail
        order = np.random.default_rng((seed, number, 2)).permutation(len(faces.rows))
        self._order = torch.from_numpy(order).to(device)  # (M,), indices into the faces
        self._draws = augment.draw_table(seed, number, rows).to(device)  # (R, D), keyed by row
        self._crops: augment.Crops | None = None  # (M,)
        if settings.detected and faces.points is not None:
            crops = augment.draw_crops(settings, faces.points, faces.size, faces.rows.cpu().numpy(), seed, number)
            self._crops = crops.to(device)
        self._ratios: Tensor | None = None
        if settings.mixup and not self._clean:
            self._ratios = augment.mixup_ratios(seed, number, rows, settings.mixup).to(device)  # (R,), keyed by row
        self._augmentation = augment.Augmentation(settings, augment.size_at(settings, input_size, done))

    def batch(self, step: int) -> Batch:
        """This process's part of a global batch, augmented and mixed."""
        faces, indices = self._faces, self._indices(step)
        mine = indices[self._part]
        images, labels = self._augmented(mine), faces.labels[mine]
        targets = faces.targets_of(mine)  # (N, K)
        votes = None if faces.votes is None else faces.votes[mine]  # (N, V)
        if self._ratios is not None:
            # The partner is the next face of the global batch, so that the mixture does not depend on the processes.
            partners = indices.roll(-1)[self._part]
            ratio = self._ratios[faces.rows[mine]].unsqueeze(1)  # (N, 1)
            targets = torch.lerp(faces.targets_of(partners), targets, ratio)
            images = torch.lerp(self._augmented(partners), images, ratio[..., None, None])
            if faces.votes is not None and votes is not None:
                votes = torch.lerp(faces.votes[partners], votes, ratio)
        return Batch(images, targets, labels, votes)

    def rows(self, step: int) -> list[int]:
        """The data set's row numbers of a global batch, sorted."""
        return sorted(self._faces.rows[self._indices(step)].tolist())

    def _indices(self, step: int) -> Tensor:
        """The faces of a global batch: int64 ``(B,)``."""
        return self._order[step * self._batch_size : (step + 1) * self._batch_size]

    def _augmented(self, indices: Tensor) -> Tensor:
        """Stored faces ``(N,)`` as input: float32 ``(N, C, S, S)``."""
        draws = self._draws[self._faces.rows[indices]]
        crops = None if self._crops is None else self._crops.at(indices)
        return self._augmentation(self._faces.images[indices], draws, crops, clean=self._clean)


@torch.no_grad()
def distill(batch: Batch, teachers: Sequence[Teacher], weight: float) -> Batch:
    """The batch with its targets mixed with the mean of the teachers' probabilities, which weigh ``weight``, 0 to 1.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531; on augmented and mixed faces as the student sees them, as
    Beyer et al. 2022, arXiv:2106.05237, found to matter.
    Deviations: no temperature, since labels of faces are uncertain enough to leave the teachers' answers soft.
    """
    probabilities = torch.stack([teacher(batch.images) for teacher in teachers]).mean(0)
    return dataclasses.replace(batch, targets=torch.lerp(batch.targets, probabilities, weight))  # (N, K)


@torch.no_grad()
def answers_of(
    teacher: Teacher, images: "Tensor | StreamedImages", show: Callable[[int, int], None] = lambda done, count: None
) -> Tensor:
    """A teacher's mean probabilities of pictures as they are given and of their mirror images: ``(M, K)``.

    ``show`` is called with the pictures that were answered and that there are.

    Deviations: Beyer et al. 2022, arXiv:2106.05237, found fixed answers worse over hundreds of passes; these are for
    fine-tuning, cost no pass of a teacher, and ask a student for one answer to a face however it is cropped.
    """
    answers = []
    for start in range(0, len(images), ANSWERED):
        given = images[start : start + ANSWERED].float() / 255
        answers.append((teacher(given) + teacher(given.flip(-1))) / 2)
        show(start + len(given), len(images))
    return torch.cat(answers)


def lr_fraction(settings: ScheduleSettings, epoch: float, epochs: float) -> float:
    """Fraction of the peak learning rate, in [0, 1].

    Args:
        settings: the recipe's ``[schedule]``.
        epoch: passes over the data so far, with fractions; by the clock, the fraction of the time times ``epochs``.
        epochs: passes there will be.

    Sources:
        cosine and warm restarts: Loshchilov, Hutter 2017, arXiv:1608.03983.
        one-cycle: Smith, Topin 2019, arXiv:1708.07120, with cosine instead of straight lines.
    """
    if settings.name == "one_cycle":  # from 1/25 up to 1 in the first 30 %, then down to 0
        done = epoch / epochs
        if done < ONE_CYCLE_RISE:
            return 1 - (1 - ONE_CYCLE_START) * _cosine(done / ONE_CYCLE_RISE)
        return _cosine((done - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    after, rest = epoch - settings.warmup_epochs, epochs - settings.warmup_epochs
    if settings.name == "cosine":
        return _cosine(after / rest if rest > 0 else 1.0)
    if settings.name == "warm_restarts":
        length = float(settings.restart_epochs)
        while after >= length:
            after -= length
            length *= settings.restart_factor
        return _cosine(after / length)
    return 1.0


def _cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1, along half a cosine."""
    return (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def train_step(
    network: nn.Module, optimizer: Optimizer, batch: Batch, lr: float, settings: TrainingSettings, fabric: Fabric
) -> Step:
    """Take one step on this process's part of a batch; several processes average their gradients.

    The network is in training mode and gives logits ``(N, K)``, or ``(N, K + V)`` with votes.

    Source: label smoothing, Szegedy et al. 2016, arXiv:1512.00567.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    outputs = network(batch.images).float()  # (N, K + V)
    logits = outputs[:, : batch.targets.shape[1]]  # (N, K)
    loss = F.cross_entropy(logits, batch.targets, label_smoothing=settings.label_smoothing)
    if batch.votes is not None:
        loss = loss + settings.votes_weight * F.cross_entropy(outputs[:, logits.shape[1] :], batch.votes)
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
    optimizer.step()
    correct = (logits.detach().argmax(1) == batch.labels).sum()
    return Step(loss.detach(), correct, len(batch.labels))


class MovingAverage(Generic[N]):
    """An exponential moving average of a network's weights and running statistics.

    ``network`` is the average, a network of its own. The decay is reached gradually, as ``(1 + updates) / (10 +
    updates)``, so that the first weights are forgotten.
    """

    def __init__(self, network: N, decay: float) -> None:
        """``decay`` is the fraction of the average that stays, in the long run."""
        self.network = copy.deepcopy(network)
        self._decay = decay
        self._pair = _floating_tensors(self.network), _floating_tensors(network)

    def update(self, updates: int) -> None:
        """Move towards the network, all tensors at once; ``updates`` counts this one too."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        get_ema_multi_avg_fn(decay)(*self._pair, updates)  # type: ignore[no-untyped-call]


def _floating_tensors(network: nn.Module) -> list[Tensor]:
    """Weights and running statistics, each sharing the network's memory."""
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]


def create_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """The update rule for a model's parameters; biases and normalization weights do not decay."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    spared = set() if settings.decay_embeddings else _no_weight_decay(model)
    decays = {name: parameter.ndim > 1 and name not in spared for name, parameter in trained.items()}
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in trained.items() if decays[name]]},
        {"params": [parameter for name, parameter in trained.items() if not decays[name]], "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        momentum = settings.momentum
        return SGD(groups, settings.lr, momentum, weight_decay=settings.weight_decay, nesterov=momentum > 0, fused=True)
    kind = Adam if settings.name == "adam" else AdamW
    return kind(groups, settings.lr, weight_decay=settings.weight_decay, fused=True)


def _no_weight_decay(model: nn.Module) -> set[str]:
    """Names of parameters that parts of a model name by timm's convention, a method ``no_weight_decay``."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if callable(listed := getattr(module, "no_weight_decay", None))
        for name in listed()
    }
