"""Random changes of training faces: in batches, on their device, with a single interpolation.

Every random number is drawn from a table with one line per row of the data set, made from the seed and the epoch
alone. Which process handles a face, in which batch, beside which others, therefore changes nothing.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from mien.face.crop import fit_frames
from mien.recipe import AugmentationSettings

DRAWS = ("flip", "rotation", "x", "y", "scale", "brightness", "contrast", "erase", "area", "aspect", "left", "top")

SIZE_STEP = 8
"""Pixels by which faces grow during training; a multiple of it keeps the resolution of early stages whole."""

ERASED_AREA = (0.02, 0.20)
ERASED_ASPECT = (0.3, 3.3)


def draw_table(seed: int, epoch: int, rows: int) -> Tensor:
    """Uniform numbers in [0, 1) for every row: float32 ``(rows, len(DRAWS))``."""
    generator = np.random.default_rng((seed, epoch, 0))
    return torch.from_numpy(generator.random((rows, len(DRAWS)), dtype=np.float32))


def mixup_ratios(seed: int, epoch: int, rows: int, alpha: float) -> Tensor:
    """Ratio (lambda) of the first face in each mixture, from Beta(alpha, alpha): float32 ``(rows,)``.

    Source: Zhang, Cisse, Dauphin, Lopez-Paz 2018, arXiv:1710.09412.
    Deviations: one ratio per face instead of one per batch.
    """
    generator = np.random.default_rng((seed, epoch, 1))
    return torch.from_numpy(generator.beta(alpha, alpha, rows).astype(np.float32))


@dataclass(frozen=True)
class Crops:
    """What is to be seen of each of N faces: the picture as it is given, or the detector's crop of it."""

    matrix: Tensor  # float32 (N, 2, 3), from places in what is seen to places in the picture, both in [-1, 1]
    detected: Tensor  # bool (N,), whether it is a crop
    level: Tensor  # float32 (N,), grey level around the picture, in [0, 1); negative where its edges are repeated

    def at(self, indices: Tensor) -> "Crops":
        """Those of some faces."""
        return Crops(self.matrix[indices], self.detected[indices], self.level[indices])

    def to(self, device: torch.device) -> "Crops":
        """The same on a device."""
        return Crops(self.matrix.to(device), self.detected.to(device), self.level.to(device))


def draw_crops(
    settings: AugmentationSettings,
    points: NDArray[np.float32],
    size: int,
    rows: NDArray[np.int64],
    seed: int,
    epoch: int,
) -> Crops:
    """Which faces of an epoch are seen as the recognizer crops them, and how.

    Around half of the crops the picture's edges are repeated, around the others lies a random grey.

    Args:
        settings: of the augmentation.
        points: ``(N, 5, 2)``, five points of each face, in pixels of the picture; NaN where it was not found.
        size: side of the pictures, in pixels.
        rows: ``(N,)``, their row numbers, from which the random numbers follow.
        seed: the recipe's.
        epoch: from 0.
    """
    generator = np.random.default_rng((seed, epoch, 3))
    draws = generator.random((int(rows.max()) + 1, 2))[rows]  # (N, 2)
    noise = generator.standard_normal((int(rows.max()) + 1, 5, 2), dtype=np.float32)[rows]  # (N, 5, 2)
    eyes = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)[:, None, None]
    corner, side = fit_frames((points + settings.points_jitter * eyes * noise).astype(np.float64))
    detected = (draws[:, 0] < settings.detected) & np.isfinite(side)
    turn = np.where(detected, side / size, 1)
    shift = np.where(detected, (2 * corner + side * (1 + 1j)) / size - (1 + 1j), 0)
    matrix = np.stack([turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag], axis=1)
    return Crops(
        matrix=torch.from_numpy(matrix.reshape(-1, 2, 3).astype(np.float32)),
        detected=torch.from_numpy(detected),
        level=torch.from_numpy(np.where(detected, 2 * draws[:, 1] - 1, -1).astype(np.float32)),
    )


def size_at(settings: AugmentationSettings, input_size: int, done: float) -> int:
    """Side of the faces in pixels when a fraction ``done`` of training lies behind; at the end ``input_size``."""
    if settings.first_size is None or done >= settings.full_size_at:
        return input_size
    sizes = range(settings.first_size, input_size, SIZE_STEP)
    return sizes[int(len(sizes) * done / settings.full_size_at)] if sizes else input_size


class Augmentation:
    """Flip, rotation, shift, scale, brightness, contrast and erasing of faces.

    Erasing: Zhong, Zheng, Kang, Li, Yang 2020, arXiv:1708.04896, filled with the picture's mean.
    """

    def __init__(self, settings: AugmentationSettings, size: int) -> None:
        """``size`` is the side of the resulting faces, in pixels."""
        self.settings = settings
        self.size = size

    def __call__(self, faces: Tensor, draws: Tensor, crops: Crops | None = None, *, clean: bool = False) -> Tensor:
        """Changed, scaled and resized faces: uint8 ``(N, C, H, W)`` to float32 ``(N, C, S, S)`` in [0, 1].

        All channels change alike.

        Args:
            faces: as stored.
            draws: ``(N, len(DRAWS))``, lines of :func:`draw_table` for these faces, on their device.
            crops: which of them are seen as the recognizer crops them, on their device.
            clean: without erasing.
        """
        settings = self.settings
        u = dict(zip(DRAWS, draws.unbind(1), strict=True))  # (N,) each
        x = self._warp(faces.float() / 255, u, crops)  # (N, C, S, S)
        if settings.brightness:
            x = x * _column(1 + settings.brightness * _signed(u["brightness"]))
        if settings.contrast:
            mean = x.mean((2, 3), keepdim=True).mean(1, keepdim=True)  # (N, 1, 1, 1)
            x = mean + (x - mean) * _column(1 + settings.contrast * _signed(u["contrast"]))
        if settings.brightness or settings.contrast:
            x = x.clamp(0, 1)
        if settings.erasing and not clean:
            x = self._erase(x, u)
        return x

    def _warp(self, x: Tensor, u: dict[str, Tensor], crops: Crops | None) -> Tensor:
        """Crop, flip, rotate, shift, scale and resize with one bilinear interpolation; edges are replicated."""
        settings = self.settings
        angle = _signed(u["rotation"]) * np.deg2rad(settings.rotation)
        zoom = 1 / (1 + settings.scale * _signed(u["scale"]))
        mirror = torch.where(u["flip"] < settings.flip, -1.0, 1.0)
        cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
        # From places in the result to places in the source, both in [-1, 1]: a shift of the whole side is 2.
        theta = torch.stack(
            [
                torch.stack([mirror * cosine, -mirror * sine, 2 * settings.translation * _signed(u["x"])], dim=1),
                torch.stack([sine, cosine, 2 * settings.translation * _signed(u["y"])], dim=1),
            ],
            dim=1,
        )  # (N, 2, 3)
        if crops is not None:
            return self._crop(x, theta, crops)
        grid = F.affine_grid(theta, [len(x), 1, self.size, self.size], align_corners=False)
        return _sample(x, grid)

    def _crop(self, x: Tensor, theta: Tensor, crops: Crops) -> Tensor:
        """Warp by ``theta`` ``(N, 2, 3)`` what ``crops`` show.

        Pixels of a crop are means over several samples, as those of ``crop_face`` are: it averages the areas that they
        cover in an enlarged picture.
        """
        turn, shift = crops.matrix[:, :, :2], crops.matrix[:, :, 2:]  # (N, 2, 2), (N, 2, 1)
        theta = turn @ theta + F.pad(shift, (2, 0))  # (N, 2, 3)
        grid = F.affine_grid(theta, [len(x), 1, self.size, self.size], align_corners=False)  # (N, S, S, 2)
        offsets = _samples_of_a_pixel(math.ceil(x.shape[-1] / self.size)) * 2 / self.size
        level, total = _column(crops.level), torch.zeros((), device=x.device)
        for across, down in itertools.product(offsets.tolist(), repeat=2):
            step = (theta[:, :, 0] * across + theta[:, :, 1] * down) * crops.detected[:, None]  # (N, 2)
            places = grid + step[:, None, None]
            outside = (places.abs() > 1).any(-1)[:, None] & (level >= 0)  # (N, 1, S, S)
            total = total + torch.where(outside, level, _sample(x, places))
        return total / len(offsets) ** 2

    def _erase(self, x: Tensor, u: dict[str, Tensor]) -> Tensor:
        """Set one rectangle of some faces to their mean."""
        area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * u["area"]
        aspect = ERASED_ASPECT[0] * (ERASED_ASPECT[1] / ERASED_ASPECT[0]) ** u["aspect"]
        width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        places = (torch.arange(self.size, device=x.device) + 0.5) / self.size
        inside_x = _within(places, u["left"] * (1 - width), width)  # (N, S)
        inside_y = _within(places, u["top"] * (1 - height), height)
        erased = _column(u["erase"] < self.settings.erasing) & inside_y[:, None, :, None] & inside_x[:, None, None, :]
        return torch.where(erased, x.mean((2, 3), keepdim=True), x)


def cropped(faces: Tensor, crops: Crops) -> Tensor:
    """Faces as ``crops`` show them, otherwise unchanged: uint8 ``(N, C, S, S) -> (N, C, S, S)``."""
    no_change = torch.full((len(faces), len(DRAWS)), 0.5, device=faces.device)
    seen = Augmentation(AugmentationSettings(), faces.shape[-1])(faces, no_change, crops)
    return (255 * seen).round().to(torch.uint8)


def _samples_of_a_pixel(parts: int) -> NDArray[np.float64]:
    """Where to look for the mean over a pixel's side from -1/2 to 1/2: Gauss's two places in each of its parts."""
    middles = (np.arange(parts) + 0.5) / parts - 0.5
    return np.concatenate([middles - 1 / (math.sqrt(12) * parts), middles + 1 / (math.sqrt(12) * parts)])


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    """Pictures at places in [-1, 1]: ``(N, C, H, W), (N, S, S, 2) -> (N, C, S, S)``."""
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _signed(u: Tensor) -> Tensor:
    """[0, 1) to [-1, 1)."""
    return 2 * u - 1


def _column(values: Tensor) -> Tensor:
    """``(N,) -> (N, 1, 1, 1)``."""
    return values.view(-1, 1, 1, 1)


def _within(places: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Which places ``(S,)`` lie in each of N intervals: ``(N, S)``."""
    return (places >= start[:, None]) & (places < (start + length)[:, None])
