"""The published study's third model: three convolutions, spatial attention, global average pooling.

Source: "Enhancing Facial Emotion Recognition using CNNs, Transfer Learning, and Attention Mechanisms", 2025, model 3,
reported at 45.4 % on the 7,178 test pictures of FER-2013.
Deviations: none known. ``attention="none"`` is our control.
"""

from torch import Tensor, nn

from mien.models.attention import create_attention

WIDTHS = (32, 64, 128)


class AttentionCnn(nn.Module):
    """3 x (conv 3x3, batch norm, ReLU, max-pool 2), attention, global average pool, dropout, classifier."""

    def __init__(
        self,
        num_classes: int = 7,
        in_chans: int = 1,
        input_size: int = 48,
        *,
        dropout: float = 0.4,
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
