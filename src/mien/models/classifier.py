"""A network with its input: what turns a face as stored into logits, in training, evaluation and export alike."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from mien.recipe import ModelSettings

FER2013_MEAN, FER2013_STD = 0.5077, 0.2550
"""Of the 28,709 Training pictures' pixels, scaled to [0, 1]."""


class FaceClassifier(nn.Module):
    """Normalisation and a network.

    Attributes:
        model: ``(N, C, S, S) -> (N, K + V)``.
        input_size: S, in pixels.
        num_classes: K. What the network gives beyond them serves as a second target in training only.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        input_size: int,
        in_chans: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        num_classes: int,
    ) -> None:
        """``mean`` and ``std`` have one value, or one for each of ``in_chans`` channels; of pixels in [0, 1]."""
        super().__init__()
        self.model = model
        self.input_size = input_size
        self.in_chans = in_chans
        self.num_classes = num_classes
        # Not in the state dict: the recipe that every checkpoint carries determines them.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def prepare(self, faces: Tensor) -> Tensor:
        """Scale and resize stored faces: uint8 ``(N, 1, H, W) -> `` float32 ``(N, 1, S, S)`` in [0, 1]."""
        return self.resize(faces.float() / 255)

    def resize(self, x: Tensor) -> Tensor:
        """Faces of any size to the network's own: float ``(N, 1, H, W) -> (N, 1, S, S)``."""
        if x.shape[-1] == self.input_size:
            return x
        return F.interpolate(x, size=(self.input_size, self.input_size), mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Prepared faces, float ``(N, 1, S, S)`` in [0, 1], to logits: ``(N, K)``, in training ``(N, K + V)``."""
        x = ((x - self.mean) / self.std).expand(-1, self.in_chans, -1, -1)  # (N, C, S, S)
        logits: Tensor = self.model(x)
        return logits if self.training else logits[:, : self.num_classes]


def create_classifier(
    settings: "ModelSettings", num_classes: int = 7, *, votes: int = 0, load_weights: bool = True
) -> FaceClassifier:
    """The network of a recipe with its input, on the CPU.

    Args:
        settings: the recipe's ``[model]``.
        num_classes: K.
        votes: V, extra outputs that training gives a second target; FER+'s ten kinds of vote, or none.
        load_weights: false builds the same network without reading pretrained weights, to be filled from a
            checkpoint.

    Raises:
        UnknownNameError: no such model.
        ModelError: an option that the model does not take, or weights that do not fit.
    """
    from mien.models import create_model
    from mien.models.pretrained import normalization_of

    model = create_model(
        settings.name,
        num_classes=num_classes + votes,
        in_chans=settings.in_chans,
        input_size=settings.input_size,
        weights=settings.weights if load_weights else "scratch",
        **settings.options(),
    )
    if settings.normalization == "weights":
        mean, std = normalization_of(settings.name.removeprefix("timm:").removesuffix("_cbam"))
    elif settings.normalization == "fer2013":
        mean, std = (FER2013_MEAN,), (FER2013_STD,)
    else:
        mean, std = (0.0,), (1.0,)
    if settings.in_chans == 1:  # one grey channel: the weights' three values are as good as equal
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return FaceClassifier(model, settings.input_size, settings.in_chans, mean, std, num_classes)
