"""Random changes of training faces: in batches, on their device, with a single interpolation.

Every random number is drawn from a table with one line per row of the data set, made from the seed and the epoch
alone. Which process handles a face, in which batch, beside which others, therefore changes nothing.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

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

    def __call__(self, faces: Tensor, draws: Tensor, *, clean: bool = False) -> Tensor:
        """Changed, scaled and resized faces: uint8 ``(N, C, H, W)`` to float32 ``(N, C, S, S)`` in [0, 1].

        All channels change alike.

        Args:
            faces: as stored.
            draws: ``(N, len(DRAWS))``, lines of :func:`draw_table` for these faces, on their device.
            clean: without erasing.
        """
        settings = self.settings
        u = dict(zip(DRAWS, draws.unbind(1), strict=True))  # (N,) each
        x = self._warp(faces.float() / 255, u)  # (N, C, S, S)
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

    def _warp(self, x: Tensor, u: dict[str, Tensor]) -> Tensor:
        """Flip, rotate, shift, scale and resize with one bilinear interpolation; edges are replicated."""
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
        grid = F.affine_grid(theta, [len(x), 1, self.size, self.size], align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

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


def _signed(u: Tensor) -> Tensor:
    """[0, 1) to [-1, 1)."""
    return 2 * u - 1


def _column(values: Tensor) -> Tensor:
    """``(N,) -> (N, 1, 1, 1)``."""
    return values.view(-1, 1, 1, 1)


def _within(places: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Which places ``(S,)`` lie in each of N intervals: ``(N, S)``."""
    return (places >= start[:, None]) & (places < (start + length)[:, None])
