"""Attention blocks, each ``(N, C, H, W) -> (N, C, H, W)``: the input times weights in (0, 1).

Sources:
    Squeeze-and-excitation: Hu, Shen, Sun 2018, arXiv:1709.01507.
    CBAM: Woo, Park, Lee, Kweon 2018, arXiv:1807.06521.

To add a block, write a file with a subclass of ``Attention`` and add a line to ``ATTENTIONS``, or leave the file where
it is and name it as ``module:Name``.
"""

import torch
from torch import Tensor, nn

from mien import extensions
from mien.models.attention import Attention


class SqueezeExcitation(Attention):
    """Channel weights from average-pooled features through a bottleneck of C / 16 hidden units, at least 4 of them.

    Source: Hu et al. 2018, arXiv:1709.01507.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        hidden = max(4, channels // 16)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1))
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        weights: Tensor = self.gate(self.mlp(x.mean((2, 3), keepdim=True)))  # (N, C, 1, 1)
        return x * weights


class ChannelAttention(SqueezeExcitation):
    """Channel weights from average- and max-pooled features through one shared bottleneck.

    Source: Woo et al. 2018, arXiv:1807.06521, equation 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        average, maximum = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)  # (N, C, 1, 1) each
        weights: Tensor = self.gate(self.mlp(average) + self.mlp(maximum))
        return x * weights


class SpatialAttention(Attention):
    """Weights of places from the mean and maximum over channels through one 7x7 convolution, for any ``channels``.

    Source: Woo et al. 2018, arXiv:1807.06521, equation 3.
    Deviations: batch normalisation after the convolution, which the authors' code has and their text has not, is
    an option; the published study of attention on FER-2013 uses none.
    """

    def __init__(self, channels: int, batch_norm: bool = False) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(1) if batch_norm else nn.Identity()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        summary = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        weights: Tensor = self.gate(self.norm(self.conv(summary)))  # (N, 1, H, W)
        return x * weights


class Cbam(Attention):
    """Channel attention, then spatial attention.

    Source: Woo et al. 2018, arXiv:1807.06521, equation 1.
    """

    def __init__(self, channels: int, batch_norm: bool = False) -> None:
        super().__init__(channels)
        self.channel = ChannelAttention(channels)
        self.spatial = SpatialAttention(channels, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        attended: Tensor = self.spatial(self.channel(x))
        return attended

    @classmethod
    def in_block(cls, channels: int) -> "Cbam":
        """With batch normalisation in the spatial half, as its authors' code."""
        return cls(channels, batch_norm=True)


class NoAttention(Attention):
    """The input, unchanged: the control of every comparison."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        return x


ATTENTIONS: dict[str, type[Attention]] = {
    "none": NoAttention,
    "se": SqueezeExcitation,
    "spatial": SpatialAttention,
    "cbam": Cbam,
}
"""Name in a recipe -> block."""


EXPECTED = "a class of torch.nn.Module that is built with C and keeps the shape of features, (N, C, H, W)"
"""What ``module:Name`` may name."""


def create_attention(name: str, channels: int, *, in_block: bool = False) -> nn.Module:
    """The block called ``name`` for ``channels`` channels; ``in_block`` as it sits inside residual blocks.

    ``module:Name`` may be any class of modules ``(N, C, H, W) -> (N, C, H, W)`` that is built with C.

    Raises:
        UnknownNameError: no such block; lists the table.
        CallError: what ``module:Name`` names is no such class.
    """
    block = extensions.look_up(ATTENTIONS, name, "attention", expected=EXPECTED, fits=_is_block)
    made: nn.Module = block.in_block(channels) if in_block and issubclass(block, Attention) else block(channels)
    return made


def _is_block(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, nn.Module)
