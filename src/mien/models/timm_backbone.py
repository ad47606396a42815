"""Any network of timm as a classifier of faces, and the two ResNet-50 of the published study.

Sources:
    timm: Wightman 2019, https://github.com/huggingface/pytorch-image-models.
    ResNet-50: He, Zhang, Ren, Sun 2016, arXiv:1512.03385 (timm's ``resnet50``: stride in the 3x3 convolution).
    CBAM: Woo, Park, Lee, Kweon 2018, arXiv:1807.06521.
    The study's models 2 and 4: "Enhancing Facial Emotion Recognition using CNNs, Transfer Learning, and Attention
    Mechanisms", 2025, reported at 43.5 % and 67.4 % on the 7,178 test pictures of FER-2013.
"""

from functools import partial
from typing import Any

import timm
from torch import Tensor, nn

from mien.errors import ModelError, unknown_name
from mien.models.attention import BlockCbam, create_attention
from mien.models.pretrained import pretrained_arguments


class TimmBackbone(nn.Module):
    """A timm network with a new classifier, and attention on its last feature map before pooling.

    Raises:
        UnknownNameError: timm has no network of this name.
        ModelError: an option that this network does not take, or weights that do not fit.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int = 7,
        in_chans: int = 3,
        input_size: int = 224,
        *,
        weights: str = "scratch",
        dropout: float = 0.0,
        attention: str = "none",
        patch_size: int | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(backbone):
            raise unknown_name(timm.list_models(), backbone, "timm model")
        arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans, "drop_rate": dropout}
        arguments |= _input_arguments(backbone, input_size, patch_size)
        if attention == "cbam_blocks":
            arguments["block_args"] = {"attn_layer": _block_cbam}
            attention = "none"
        arguments |= pretrained_arguments(backbone, weights, partial(_create, backbone, **arguments))
        self.backbone: Any = _create(backbone, **arguments)
        self.attention = create_attention(attention, self.backbone.num_features)
        self._pools_maps = attention != "none"

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, S, S) -> (N, K)``."""
        features = self.backbone.forward_features(x)  # (N, D, H, W), or (N, tokens, D) of a transformer
        if self._pools_maps:
            if features.ndim != 4:
                raise ModelError(
                    "attention before pooling needs a feature map (N, C, H, W);"
                    f" this network gives {tuple(features.shape)}. Use model.attention = 'none'"
                )
            features = self.attention(features)
        logits: Tensor = self.backbone.forward_head(features)
        return logits


def resnet50(num_classes: int = 7, in_chans: int = 3, input_size: int = 224, **options: Any) -> TimmBackbone:
    """The study's model 2: ResNet-50 with a new classifier. Options as :class:`TimmBackbone`."""
    return TimmBackbone("resnet50", num_classes, in_chans, input_size, **options)


def resnet50_cbam(
    num_classes: int = 7,
    in_chans: int = 3,
    input_size: int = 224,
    *,
    attention: str = "cbam",
    dropout: float = 0.4,
    **options: Any,
) -> TimmBackbone:
    """The study's model 4: one CBAM after the last stage of ResNet-50, dropout .4. Options as :class:`TimmBackbone`.

    Woo et al. put CBAM into every block; that is ``resnet50`` with ``attention="cbam_blocks"``.
    """
    return TimmBackbone("resnet50", num_classes, in_chans, input_size, attention=attention, dropout=dropout, **options)


def _input_arguments(backbone: str, input_size: int, patch_size: int | None) -> dict[str, Any]:
    """What networks that are built for one input size must be told of it."""
    fixed = timm.get_pretrained_cfg(backbone)
    arguments: dict[str, Any] = {}
    if fixed is not None and fixed.fixed_input_size:
        arguments["img_size"] = input_size
    if patch_size is not None:
        arguments["patch_size"] = patch_size
    return arguments


def _block_cbam(channels: int, **_device_and_dtype: Any) -> BlockCbam:
    return BlockCbam(channels)


def _create(backbone: str, **arguments: Any) -> Any:
    try:
        return timm.create_model(backbone, **arguments)
    except TypeError as error:
        raise ModelError(f"timm's {backbone} does not take one of {sorted(arguments)}; {error}") from error
