"""What a face detector learns at each place of a collage, and how far it is from it.

Sources: places near the middle of a face stand for it (Tian et al. 2019, FCOS, arXiv:1904.01355); the score is to be
the quality of the place's box (Zhang et al. 2021, VarifocalNet, arXiv:2008.13367; quality focal loss: Li et al. 2020,
arXiv:2006.04388); boxes by EIoU (Zhang et al. 2021, arXiv:2101.08158), as YuNet's; points by smooth L1; a teacher's
scores on the same collage (Hinton, Vinyals, Dean 2015, arXiv:1503.02531).

Deviations: the quality is the square root of the intersection over union; within a face the target is the teacher's
score where that is higher, and elsewhere the teacher does not count, since all faces of a collage are known.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from mien.data.detection import Faces
from mien.models.face_detector import STRIDES, Found

BACKGROUND, FACE, AROUND, UNKNOWN = 0, 1, 2, 3
"""What a place is: nothing, one that stands for a face, another in a face's box, one where nobody knows."""

SIZES = ((0.0, 48.0), (24.0, 112.0), (72.0, np.inf))
"""Faces, in pixels, for which each stride's places stand."""

RADIUS, MIN_RADIUS = 1.5, 0.51
"""How far from a face's middle a place may stand for it, in strides; at least the nearest place always does."""

SCORE, BOX, POINT = 1.0, 2.0, 4.0
"""Weights of the losses."""

POINT_BETA = 0.02
"""Of a face's size: from there on an error of a point counts in proportion, below it less."""


@dataclass(frozen=True)
class Targets:
    """What stands at the K places of N collages."""

    kinds: Tensor  # int8 (N, K)
    boxes: Tensor  # float32 (N, K, 4): middle x and y, width, height; of places that stand for a face
    points: Tensor  # float32 (N, K, 5, 2); NaN where not known
    scores: Tensor  # float32 (N, K), the teacher's; 0 without one


def grid(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places of a square collage ``(K, 2)`` and their strides ``(K,)``."""
    places, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: size // stride, : size // stride]
        places.append(np.stack([x, y], 2).reshape(-1, 2) * stride)
        strides.append(np.full(len(places[-1]), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def assign(
    faces: Faces, places: NDArray[np.float32], strides: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """What each place is, int8 ``(K,)``, and the face for which it stands, ``(K,)``, -1 where for none."""
    kinds, owners = np.zeros(len(places), np.int8), np.full(len(places), -1, np.int64)
    levels = np.searchsorted(STRIDES, strides)
    low, high = np.array(SIZES)[levels].T
    for index in np.argsort(-faces.sizes):  # of two faces at one place the smaller one is meant
        width, height = faces.boxes[index, 2:]
        size = faces.sizes[index]
        offset = np.abs(places - faces.centres[index])
        inside = (offset[:, 0] <= width / 2) & (offset[:, 1] <= height / 2)
        if not faces.known[index]:
            kinds[inside & (kinds != FACE)] = UNKNOWN
            continue
        kinds[inside & (kinds == BACKGROUND)] = AROUND
        radius = np.maximum(np.minimum(RADIUS * strides, 0.4 * size), MIN_RADIUS * strides)
        near = (offset <= radius[:, None]).all(1) & (size >= low) & (size < high)
        kinds[near], owners[near] = FACE, index
    return kinds, owners


def loss_of(found: Found, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts by name, on the device."""
    is_face = targets.kinds == FACE  # (N, K)
    boxes, wanted = found.boxes[is_face], targets.boxes[is_face]  # (P, 4)
    iou, eiou = eiou_loss(boxes, wanted)  # (P,)
    quality = torch.where(targets.kinds == AROUND, targets.scores, torch.zeros_like(targets.scores))
    quality[is_face] = torch.maximum(iou.detach().clamp(min=0).sqrt(), targets.scores[is_face])
    count = is_face.sum().clamp(min=1)
    scores = found.logits.sigmoid()
    weight = (quality - scores.detach()).square() * (targets.kinds != UNKNOWN)
    score_loss = (weight * F.binary_cross_entropy_with_logits(found.logits, quality, reduction="none")).sum() / count
    box_loss = eiou.sum() / count
    size = wanted[:, 2:].prod(1).sqrt()[:, None, None]
    marked = targets.points[is_face]  # (P, 5, 2)
    known = ~marked.isnan()
    errors = (found.points[is_face] - marked.nan_to_num()) / size * known
    point_loss = F.smooth_l1_loss(errors, torch.zeros_like(errors), beta=POINT_BETA, reduction="sum")
    point_loss = point_loss / known.sum().clamp(min=1)
    parts = {"score": SCORE * score_loss, "box": BOX * box_loss, "points": 10 * POINT * point_loss}
    return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


def eiou_loss(boxes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the EIoU loss, of boxes given by middle and size: ``(P, 4) -> (P,)``."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    low_wanted, high_wanted = wanted[:, :2] - wanted[:, 2:] / 2, wanted[:, :2] + wanted[:, 2:] / 2
    common = (torch.minimum(high, high_wanted) - torch.maximum(low, low_wanted)).clamp(min=0).prod(1)
    iou = common / (boxes[:, 2:].prod(1) + wanted[:, 2:].prod(1) - common + 1e-6)
    hull = (torch.maximum(high, high_wanted) - torch.minimum(low, low_wanted)).detach().clamp(min=1e-3)  # (P, 2)
    shift = (boxes[:, :2] - wanted[:, :2]).square().sum(1) / hull.square().sum(1)
    stretch = ((boxes[:, 2:] - wanted[:, 2:]) / hull).square().sum(1)
    return iou, 1 - iou + shift + stretch
