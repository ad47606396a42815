"""A compact residual network for small pictures.

Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 4.2 (the CIFAR-10 network), with attention where
Hu et al. 2018 (arXiv:1709.01507) and Woo et al. 2018 (arXiv:1807.06521) put it: after the last batch norm of every
block, before the addition.
Deviations: widths 64, 128, 256 instead of 16, 32, 64; two blocks a stage; 1x1 convolutions on the shortcuts that
change the shape; ``stem_stride=2`` works at half the resolution throughout, at a third of the time.
"""

from torch import Tensor, nn

from mien.models.attention import BlockCbam, create_attention


class BasicBlock(nn.Module):
    """conv 3x3, batch norm, ReLU, conv 3x3, batch norm, attention; added to the shortcut; ReLU."""

    def __init__(self, in_chans: int, width: int, stride: int, attention: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.attention = BlockCbam(width) if attention == "cbam" else create_attention(attention, width)
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
    """A 3x3 stem and three stages of two basic blocks: 2.8 million parameters at width 64."""

    def __init__(
        self,
        num_classes: int = 7,
        in_chans: int = 1,
        input_size: int = 48,
        *,
        width: int = 64,
        stem_stride: int = 2,
        dropout: float = 0.2,
        attention: str = "none",
    ) -> None:
        """``input_size`` is taken so that all models are built alike; any size of 8 or more fits."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, width, 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        widths = (width, 2 * width, 4 * width)
        stages = []
        for index, (before, after) in enumerate(zip((width, *widths), widths, strict=False)):
            stages.append(BasicBlock(before, after, stride=1 if index == 0 else 2, attention=attention))
            stages.append(BasicBlock(after, after, stride=1, attention=attention))
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, S, S) -> (N, K)``."""
        x = self.stages(self.stem(x))  # (N, 4 * width, S / (4 * stem_stride), S / (4 * stem_stride))
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits
