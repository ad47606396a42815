"""The arithmetic of one epoch: no files, no prints, no clock."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mien.training.augment import Augmentation


@dataclass(frozen=True)
class TrainingFaces:
    """The faces of the training split, whole, on the device.

    Attributes:
        images: uint8 ``(M, 1, H, W)``.
        labels: int64 ``(M,)``.
        rows: int64 ``(M,)``, the data set's row numbers.
        votes: float32 ``(M, V)``, shares of FER+'s votes, all 0 where there is none; or ``None``.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    votes: Tensor | None = None


@dataclass(frozen=True)
class EpochDraws:
    """The random numbers of one epoch, keyed by row, on the device.

    Attributes:
        augmentation: ``(R, D)``, from ``augment.draw_table``.
        mixup: ``(R,)``, from ``augment.mixup_shares``, or ``None``.
        light: without erasing (``mixup`` is then ``None``).
    """

    augmentation: Tensor
    mixup: Tensor | None
    light: bool


@dataclass(frozen=True)
class Batch:
    """Faces ready for the network.

    Attributes:
        images: float32 ``(N, 1, S, S)`` in [0, 1].
        targets: float32 ``(N, K)``, shares of the classes.
        labels: int64 ``(N,)``.
        votes: float32 ``(N, V)``, shares of FER+'s votes, or ``None``.
    """

    images: Tensor
    targets: Tensor
    labels: Tensor
    votes: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What one step of training gave, still on the device.

    Attributes:
        loss: mean over this process's part of the batch, ``()``.
        correct: faces whose label has the highest logit, ``()``.
        count: faces in this process's part of the batch.
    """

    loss: Tensor
    correct: Tensor
    count: int


def make_batch(
    faces: TrainingFaces,
    positions: Tensor,
    part: slice,
    draws: EpochDraws,
    augmentation: Augmentation,
    num_classes: int,
) -> Batch:
    """This process's part of a global batch, augmented and mixed.

    Args:
        faces: the training split.
        positions: int64 ``(B,)``, the global batch.
        part: the slice of it that this process handles.
        draws: the epoch's random numbers.
        augmentation: makes stored faces into input.
        num_classes: K.
    """

    def augmented(chosen: Tensor) -> Tensor:
        return augmentation(faces.images[chosen], draws.augmentation[faces.rows[chosen]], light=draws.light)

    mine = positions[part]
    images, labels = augmented(mine), faces.labels[mine]
    targets = F.one_hot(labels, num_classes).float()  # (N, K)
    votes = None if faces.votes is None else faces.votes[mine]  # (N, V)
    if draws.mixup is not None:
        # The partner is the next face of the global batch, so that the mixture does not depend on the processes.
        partners = positions.roll(-1)[part]
        share = draws.mixup[faces.rows[mine]].unsqueeze(1)  # (N, 1)
        targets = torch.lerp(F.one_hot(faces.labels[partners], num_classes).float(), targets, share)
        images = torch.lerp(augmented(partners), images, share[..., None, None])
        if faces.votes is not None and votes is not None:
            votes = torch.lerp(faces.votes[partners], votes, share)
    return Batch(images, targets, labels, votes)


@torch.no_grad()
def taught(batch: Batch, teachers: Sequence[Callable[[Tensor], Tensor]], weight: float) -> Batch:
    """The batch with a share of its targets replaced by what earlier networks, on average, see in the same faces.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531; on augmented and mixed faces as the student sees them, as
    Beyer et al. 2022, arXiv:2106.05237, found to matter.
    Deviations: no temperature, since labels of faces are uncertain enough to leave the teachers' answers soft.

    Args:
        batch: as the student will see it.
        teachers: each takes the faces ``(N, 1, S, S)`` and gives probabilities ``(N, K)``.
        weight: share of the targets, 0 to 1.
    """
    shares = torch.stack([teacher(batch.images) for teacher in teachers]).mean(0)
    targets = torch.lerp(batch.targets, shares, weight)  # (N, K)
    return dataclasses.replace(batch, targets=targets)


def train_one_epoch(
    network: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    *,
    backward: Callable[[Tensor], None],
    before_step: Callable[[int], None],
    label_smoothing: float = 0.0,
    votes_weight: float = 0.0,
    clip_norm: float | None = None,
) -> Iterator[Step]:
    """Take one step per batch, and yield what it gave before the next batch is drawn.

    Args:
        network: prepared faces ``(N, 1, S, S)`` to logits ``(N, K)``, or ``(N, K + V)`` where batches have votes.
        optimizer: of the network's parameters.
        batches: in order.
        backward: computes the gradients of a loss; several processes average them here.
        before_step: called with the number of the step within this epoch's ``batches``, to set the learning rate
            and the seed of dropout.
        label_smoothing: share of the target given to all classes alike (Szegedy et al. 2016, arXiv:1512.00567).
        votes_weight: of the loss on the votes, which is their cross-entropy.
        clip_norm: largest norm of all gradients together.
    """
    network.train()
    for number, batch in enumerate(batches):
        before_step(number)
        outputs = network(batch.images).float()  # (N, K + V)
        logits = outputs[:, : batch.targets.shape[1]]  # (N, K)
        loss = F.cross_entropy(logits, batch.targets, label_smoothing=label_smoothing)
        if batch.votes is not None:
            loss = loss + votes_weight * F.cross_entropy(outputs[:, logits.shape[1] :], batch.votes)
        optimizer.zero_grad(set_to_none=True)
        backward(loss)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        optimizer.step()
        correct = (logits.detach().argmax(1) == batch.labels).sum()
        yield Step(loss.detach(), correct, len(batch.labels))


def averaged_tensors(network: nn.Module) -> list[Tensor]:
    """What an average of networks averages: weights and running statistics, each sharing the network's memory."""
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]


def update_average(average: Sequence[Tensor], current: Sequence[Tensor], decay: float, updates: int) -> None:
    """Move an exponential moving average towards a network, in place: all tensors at once, in few launches on a GPU.

    ``decay`` is reached gradually, as ``(1 + updates) / (10 + updates)``, so that the first weights are forgotten.

    Args:
        average: of ``averaged_tensors``.
        current: as many, of the network under training.
        decay: share of the average that stays, in the long run.
        updates: how many there have been, this one included.
    """
    get_ema_multi_avg_fn(min(decay, (1 + updates) / (10 + updates)))(average, current, updates)  # type: ignore[no-untyped-call]
