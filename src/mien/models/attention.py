"""Attention blocks, each ``(N, C, H, W) -> (N, C, H, W)``: the input times weights in (0, 1).

Sources:
    Squeeze-and-excitation: Hu, Shen, Sun 2018, arXiv:1709.01507.
    CBAM: Woo, Park, Lee, Kweon 2018, arXiv:1807.06521.

Every block computes its weights in a sigmoid called ``gate``, so that :func:`attention_maps` can read them from
outside with hooks: nothing is kept and nothing is spent unless somebody asks.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mien.errors import look_up


class SqueezeExcitation(nn.Module):
    """Channel weights from average-pooled features through a bottleneck.

    Source: Hu et al. 2018, arXiv:1709.01507, reduction 16.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.mlp = _bottleneck(channels, reduction)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        weights: Tensor = self.gate(self.mlp(x.mean((2, 3), keepdim=True)))  # (N, C, 1, 1)
        return x * weights


class ChannelAttention(nn.Module):
    """Channel weights from average- and max-pooled features through one shared bottleneck.

    Source: Woo et al. 2018, arXiv:1807.06521, equation 2, reduction 16.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.mlp = _bottleneck(channels, reduction)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        average, largest = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)  # (N, C, 1, 1) each
        weights: Tensor = self.gate(self.mlp(average) + self.mlp(largest))
        return x * weights


class SpatialAttention(nn.Module):
    """Weights of places from the mean and maximum over channels through one 7x7 convolution.

    Source: Woo et al. 2018, arXiv:1807.06521, equation 3.
    Deviations: batch normalisation after the convolution, which the authors' code has and their text has not, is
    an option; the published study of attention on FER-2013 uses none.
    """

    def __init__(self, channels: int, kernel_size: int = 7, batch_norm: bool = False) -> None:
        """``channels`` is taken so that all blocks are built alike; the weights do not depend on it."""
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(1) if batch_norm else nn.Identity()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        summary = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        weights: Tensor = self.gate(self.norm(self.conv(summary)))  # (N, 1, H, W)
        return x * weights


class Cbam(nn.Module):
    """Channel attention, then spatial attention.

    Source: Woo et al. 2018, arXiv:1807.06521, equation 1.
    """

    def __init__(self, channels: int, reduction: int = 16, batch_norm: bool = False) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention(channels, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        attended: Tensor = self.spatial(self.channel(x))
        return attended


class BlockCbam(Cbam):
    """CBAM as it sits inside residual blocks: with batch normalisation in the spatial half, as its authors' code."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, batch_norm=True)


class NoAttention(nn.Module):
    """The input, unchanged: the control of every comparison."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        return x


ATTENTIONS: dict[str, type[nn.Module]] = {
    "none": NoAttention,
    "se": SqueezeExcitation,
    "spatial": SpatialAttention,
    "cbam": Cbam,
}
"""Name in a recipe -> block, built with the number of channels."""


def create_attention(name: str, channels: int) -> nn.Module:
    """The block called ``name`` for ``channels`` channels.

    Raises:
        UnknownNameError: no such block.
    """
    return look_up(ATTENTIONS, name, "attention")(channels)


@contextmanager
def attention_maps(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the weights of every attention block of ``model`` while the context lasts.

    Yields:
        name of the block -> its weights in the last forward pass, ``(N, C, 1, 1)`` or ``(N, 1, H, W)``; empty
        before the first pass.
    """
    maps: dict[str, Tensor] = {}
    blocks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, SqueezeExcitation | ChannelAttention | SpatialAttention)
    ]

    def keep(name: str, weights: Tensor) -> None:
        maps[name] = weights.detach()

    hooks = [
        block.gate.register_forward_hook(lambda _module, _inputs, weights, name=name: keep(name, weights))
        for name, block in blocks
    ]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _bottleneck(channels: int, reduction: int) -> nn.Sequential:
    """``(N, C, 1, 1) -> (N, C, 1, 1)`` through C / reduction hidden units, at least 4 of them."""
    hidden = max(4, channels // reduction)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1))
