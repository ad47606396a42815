"""Any network of timm as a classifier of faces, the two ResNet-50 of the published study, and pretrained weights.

Sources:
    timm: Wightman 2019, https://github.com/huggingface/pytorch-image-models.
    ResNet-50: He, Zhang, Ren, Sun 2016, arXiv:1512.03385 (timm's ``resnet50``: stride in the 3x3 convolution).
    CBAM: Woo, Park, Lee, Kweon 2018, arXiv:1807.06521.
    The study's models 2 and 4: "Enhancing Facial Emotion Recognition using CNNs, Transfer Learning, and Attention
    Mechanisms", 2025, reported at 43.5 % and 67.4 % on the 7,178 test pictures of FER-2013.
"""

from functools import partial
from typing import Annotated, Any

import timm
from pydantic import Field
from torch import Tensor, nn

from mien import errors
from mien.models.attention_blocks import create_attention
from mien.models.pretrained import pretrained_arguments
from mien.recipe import Rate

IN_BLOCKS = "_blocks"
"""Ends the name of an attention block that goes into every block of a network."""


class TimmBackbone(nn.Module):
    """A timm network with a new classifier, and attention on its last feature map before pooling.

    ``attention = "NAME_blocks"`` puts the block into every block of a residual network instead.

    Raises:
        UnknownNameError: timm has no network of this name.
        RecipeError: an option that this network does not take.
        ModelError: weights that do not fit.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int = 7,
        in_chans: int = 3,
        input_size: int = 224,
        *,
        weights: str = "scratch",
        dropout: Rate = 0.0,
        attention: str = "none",
        patch_size: Annotated[int, Field(gt=0)] | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(backbone):
            raise errors.unknown_name(timm.list_models(), backbone, "timm model")
        arguments: dict[str, object] = {"num_classes": num_classes, "in_chans": in_chans, "drop_rate": dropout}
        fixed = timm.get_pretrained_cfg(backbone)
        if fixed is not None and fixed.fixed_input_size:
            arguments["img_size"] = input_size
        if patch_size is not None:
            arguments["patch_size"] = patch_size
        if attention.endswith(IN_BLOCKS):
            arguments["block_args"] = {"attn_layer": partial(_in_block, attention.removesuffix(IN_BLOCKS))}
            attention = "none"
        arguments |= pretrained_arguments(backbone, weights)
        self.backbone_name = backbone
        create: Any = timm.create_model  # which network takes which arguments, no type says
        try:
            self.backbone = create(backbone, **arguments)
        except TypeError as error:
            raise errors.RecipeError(f"timm's {backbone} does not take one of {sorted(arguments)}; {error}") from error
        self.attention = create_attention(attention, self.backbone.num_features)
        self._pools_maps = attention != "none"
        self._channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"  # as Swin's

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, S, S) -> (N, K)``."""
        features = self.backbone.forward_features(x)  # (N, D, H, W), or (N, tokens, D) of a transformer
        if self._pools_maps:
            features = self._attended(features)
        logits: Tensor = self.backbone.forward_head(features)
        return logits

    def _attended(self, features: Tensor) -> Tensor:
        """``(N, D, H, W)``, or of some networks ``(N, H, W, D)``, times the weights of the attention block."""
        maps = features
        if self._channels_last and isinstance(features, Tensor) and features.ndim == 4:
            maps = features.permute(0, 3, 1, 2)  # (N, H, W, D) -> (N, D, H, W)
        width = self.backbone.num_features
        if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[1] != width:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise errors.RecipeError(
                f"model.options.attention: expected a network whose last features are a map (N, {width}, H, W), got"
                f" {got} of {self.backbone_name}; use attention = 'none', or another network"
            )
        attended: Tensor = self.attention(maps)
        return attended.permute(0, 2, 3, 1) if self._channels_last else attended


resnet50 = partial(TimmBackbone, "resnet50")
"""The study's model 2: ResNet-50 with a new classifier."""

resnet50_cbam = partial(TimmBackbone, "resnet50", attention="cbam", dropout=0.4)
"""The study's model 4: one CBAM after the last stage of ResNet-50, dropout .4.

Woo et al. put CBAM into every block; that is ``resnet50`` with ``attention = "cbam_blocks"``.
"""


def _in_block(name: str, channels: int, **_device_and_dtype: Any) -> nn.Module:
    return create_attention(name, channels, in_block=True)


def normalization_of(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels in [0, 1], that the pretrained weights expect."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        raise errors.ModelError(
            f"timm states no mean and standard deviation for {backbone}; use normalization = 'unit'"
        )
    return tuple(config.mean), tuple(config.std)
