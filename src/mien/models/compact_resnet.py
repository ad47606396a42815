"""A compact residual network for small pictures.

Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 4.2 (the CIFAR-10 network), with attention where
Hu et al. 2018 (arXiv:1709.01507) and Woo et al. 2018 (arXiv:1807.06521) put it: after the last batch norm of every
block, before the addition.
Deviations: widths 64, 128, 256 instead of 16, 32, 64; two blocks a stage; 1x1 convolutions on the shortcuts that
change the shape; ``stem_stride=2`` works at half the resolution throughout, at a third of the time.
"""

from typing import Literal

from torch import Tensor, nn

from mien.errors import ModelError
from mien.models.attention_blocks import create_attention
from mien.recipe import Rate, Stages


class BasicBlock(nn.Module):
    """conv 3x3, batch norm, ReLU, conv 3x3, batch norm, attention; added to the shortcut; ReLU."""

    def __init__(self, in_chans: int, width: int, stride: int, attention: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.attention = create_attention(attention, width, in_block=True)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_chans != width:
            self.shortcut = nn.Sequential(nn.Conv2d(in_chans, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, width, H / stride, W / stride)``."""
        residual = self.relu(self.norm1(self.conv1(x)))
        residual = self.attention(self.norm2(self.conv2(residual)))
        out: Tensor = self.relu(residual + self.shortcut(x))
        return out


class CompactResNet(nn.Module):
    """A 3x3 stem and stages of basic blocks, each at half the resolution of the one before: 2.8 million parameters."""

    def __init__(
        self,
        num_classes: int = 7,
        in_chans: int = 1,
        input_size: int = 48,
        *,
        widths: Stages = (64, 128, 256),
        depths: Stages = (2, 2, 2),
        stem_stride: Literal[1, 2] = 2,
        dropout: Rate = 0.2,
        attention: str = "none",
    ) -> None:
        """A stage has ``depths`` blocks of ``widths`` channels; any ``input_size`` that leaves it a pixel fits."""
        super().__init__()
        if len(widths) != len(depths):
            raise ModelError(f"expected as many depths as widths, got {list(depths)} and {list(widths)}")
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, widths[0], 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks = []
        before = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(BasicBlock(before, width, stride, attention))
                before = width
        self.stages = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, S, S) -> (N, K)``."""
        x = self.stages(self.stem(x))  # (N, widths[-1], s, s) with s = S / stem_stride / 2 ** (stages - 1)
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits
