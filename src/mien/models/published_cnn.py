"""The published study's first and third model: three convolutions, then fully connected layers or attention.

Source: "Enhancing Facial Emotion Recognition using CNNs, Transfer Learning, and Attention Mechanisms", 2025; models 1
and 3, reported at 58.9 % and 45.4 % on the 7,178 test pictures of FER-2013.
Deviations: none known. Of model 1 the text has neither batch normalisation nor dropout between convolutions, its code
has both: ``batch_norm=True`` is the code, ``batch_norm=False`` the text; ``block_dropout`` sets the dropout apart from
it. Convolutions are padded by 1, which both leave open. Model 1 with attention and model 3 without are our controls.
"""

from torch import Tensor, nn

from mien.models.attention_blocks import create_attention
from mien.recipe import Rate

WIDTHS = (32, 64, 128)


class BaselineCnn(nn.Module):
    """3 x (conv 3x3, ReLU, [batch norm], max-pool 2, [dropout .25]), fully connected 256, dropout, classifier.

    ``attention`` goes between the last convolution and the fully connected layers.
    """

    def __init__(
        self,
        num_classes: int = 7,
        in_chans: int = 1,
        input_size: int = 48,
        *,
        batch_norm: bool = True,
        block_dropout: Rate | None = None,
        dropout: Rate = 0.5,
        attention: str = "none",
    ) -> None:
        super().__init__()
        if block_dropout is None:
            block_dropout = 0.25 if batch_norm else 0.0
        pairs = zip((in_chans, *WIDTHS), WIDTHS, strict=False)
        self.blocks = nn.Sequential(*(self._block(*pair, batch_norm, block_dropout) for pair in pairs))
        self.attention = create_attention(attention, WIDTHS[-1])
        self.hidden = nn.Linear(WIDTHS[-1] * (input_size // 8) ** 2, 256)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, S, S) -> (N, K)``."""
        x = self.attention(self.blocks(x))  # (N, 128, S/8, S/8)
        x = self.dropout(self.relu(self.hidden(x.flatten(1))))  # (N, 256)
        logits: Tensor = self.classifier(x)
        return logits

    @staticmethod
    def _block(in_chans: int, width: int, batch_norm: bool, dropout: float) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Conv2d(in_chans, width, 3, padding=1), nn.ReLU(inplace=True)]
        if batch_norm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.MaxPool2d(2))
        if dropout:
            layers.append(nn.Dropout(dropout))
        return nn.Sequential(*layers)


class AttentionCnn(nn.Module):
    """3 x (conv 3x3, batch norm, ReLU, max-pool 2), attention, global average pool, dropout, classifier."""

    def __init__(
        self,
        num_classes: int = 7,
        in_chans: int = 1,
        input_size: int = 48,
        *,
        dropout: Rate = 0.4,
        attention: str = "spatial",
    ) -> None:
        """``input_size`` is taken so that all models are built alike; any size of 8 or more fits."""
        super().__init__()
        channels = (in_chans, *WIDTHS)
        self.blocks = nn.Sequential(*(self._block(*pair) for pair in zip(channels, WIDTHS, strict=False)))
        self.attention = create_attention(attention, WIDTHS[-1])
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, S, S) -> (N, K)``."""
        x = self.attention(self.blocks(x))  # (N, 128, S/8, S/8)
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits

    @staticmethod
    def _block(in_chans: int, width: int) -> nn.Sequential:
        # The same as pooling after the ReLU, to the bit, gradients included: but on a quarter of the values.
        return nn.Sequential(
            nn.Conv2d(in_chans, width, 3, padding=1), nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU(inplace=True)
        )
