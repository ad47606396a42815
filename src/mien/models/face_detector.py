"""A face detector of YuNet's kind: boxes, five points and scores at strides 8, 16 and 32, without anchors.

Source: Wu, Peng, Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20 (its unit,
a pointwise convolution followed by a depthwise one, its decoding, its tiny feature pyramid); Lin et al. 2017,
arXiv:1612.03144 (feature pyramids).

Deviations: three plain convolutions with stride 2 lead to stride 8, where YuNet has units and pooling at strides 2
and 4: a processor spends its time there on memory, not on arithmetic. Residual units (He et al. 2015,
arXiv:1512.03385); one score, where YuNet multiplies the probabilities of a face and of a good box.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Pixels between the places of each map."""

POINTS = 5
"""Left and right eye as seen from left to right, nose, left and right corner of the mouth."""

OUTPUTS = 1 + 4 + 2 * POINTS
"""Numbers at a place: score, box, points."""

SCALE = 64.0
"""By which the pixels are divided: a power of two, so that an exporter may put it into the first weights exactly."""

MAX_EXPONENT = 4.5
"""A box has at most 90 times the stride: the exponential of a wild number stays finite."""


class Found(NamedTuple):
    """What stands at each of the K places of all maps, stride after stride, row after row."""

    logits: Tensor  # (N, K), of the scores
    boxes: Tensor  # (N, K, 4): centre x, centre y, width, height in pixels
    points: Tensor  # (N, K, 5, 2) in pixels


class FaceDetectorNet(nn.Module):
    """Pictures to what is found at each place.

    Args:
        stem: channels at strides 2 and 4.
        widths: channels at strides 8, 16 and 32.
        depths: residual units at strides 8, 16 and 32.
        pyramid: channels of the feature pyramid and of the heads.
    """

    def __init__(
        self,
        stem: tuple[int, int] = (16, 32),
        widths: tuple[int, int, int] = (64, 64, 96),
        depths: tuple[int, int, int] = (2, 2, 1),
        pyramid: int = 64,
    ) -> None:
        super().__init__()
        self.scale = SCALE
        self.stem = nn.Sequential(_conv(3, stem[0]), _conv(*stem), _conv(stem[1], widths[0]))
        before = (widths[0], *widths[:2])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *([] if level == 0 else [_unit(before[level], width, stride=2)]),
                *(_Residual(width) for _ in range(depths[level])),
            )
            for level, width in enumerate(widths)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, pyramid, 1) for width in widths)
        self.smooth = nn.ModuleList(_unit(pyramid, pyramid) for _ in widths)
        self.heads = nn.ModuleList(
            nn.Sequential(_unit(pyramid, pyramid), nn.Conv2d(pyramid, OUTPUTS, 1)) for _ in widths
        )
        for head in self.heads:
            final = head[-1]  # type: ignore[index]
            nn.init.normal_(final.weight, std=0.01)
            nn.init.zeros_(final.bias)
            # At first nearly nothing is a face (Lin et al. 2017, arXiv:1708.02002), and a box has four strides.
            nn.init.constant_(final.bias[:1], -4.0)
            nn.init.constant_(final.bias[3:5], 1.4)

    def forward(self, pictures: Tensor) -> Found:
        """Pictures of any size, uint8 or float ``(N, 3, H, W)``, RGB of 0 to 255."""
        x = pictures.float() / self.scale
        x = self.stem(x)  # (N, C, H / 8, W / 8)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        x = self.laterals[2](levels[2])
        maps = [self.smooth[2](x)]
        for level in (1, 0):
            side = self.laterals[level](levels[level])
            # Sides that are no multiples of 32 are rounded up at each stride: what is too much is cut off.
            x = side + F.interpolate(x, scale_factor=2, mode="nearest")[..., : side.shape[2], : side.shape[3]]
            maps.insert(0, self.smooth[level](x))
        return decode([head(each).float() for head, each in zip(self.heads, maps, strict=True)])


def decode(maps: list[Tensor]) -> Found:
    """The maps of all strides, each ``(N, 15, h, w)``, as places."""
    parts = []
    for stride, x in zip(STRIDES, maps, strict=True):
        grid = places(x.shape[2], x.shape[3], stride, x.device)  # (h w, 2)
        x = x.flatten(2).transpose(1, 2)  # (N, h w, 15)
        centres = grid + x[..., 1:3] * stride
        sizes = x[..., 3:5].clamp(max=MAX_EXPONENT).exp() * stride
        points = grid[:, None] + x[..., 5:].reshape(x.shape[0], -1, POINTS, 2) * stride  # (N, h w, 5, 2)
        parts.append((x[..., 0], torch.cat([centres, sizes], 2), points))
    return Found(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def places(rows: int, columns: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Where the places of a map lie in the picture, x and y in pixels: ``(rows columns, 2)``."""
    y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    return torch.stack([x, y], 2).flatten(0, 1) * float(stride)


def _conv(in_chans: int, out_chans: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_chans, out_chans, 3, 2, 1, bias=False), nn.BatchNorm2d(out_chans), nn.ReLU(inplace=True)
    )


def _unit(in_chans: int, out_chans: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    """Pointwise, then depthwise."""
    return nn.Sequential(
        nn.Conv2d(in_chans, out_chans, 1, bias=False),
        nn.Conv2d(out_chans, out_chans, 3, stride, 1, groups=out_chans, bias=False),
        nn.BatchNorm2d(out_chans),
        *([nn.ReLU(inplace=True)] if relu else []),
    )


class _Residual(nn.Module):
    """Two units around which the features also go unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.units = nn.Sequential(_unit(width, width), _unit(width, width, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.units(x))
