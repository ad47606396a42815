"""Any network of timm as a classifier of faces, the two ResNet-50 of the published study, and pretrained weights.

Sources:
    timm: Wightman 2019, https://github.com/huggingface/pytorch-image-models.
    ResNet-50: He, Zhang, Ren, Sun 2016, arXiv:1512.03385 (timm's ``resnet50``: stride in the 3x3 convolution).
    CBAM: Woo, Park, Lee, Kweon 2018, arXiv:1807.06521.
    The study's models 2 and 4: "Enhancing Facial Emotion Recognition using CNNs, Transfer Learning, and Attention
    Mechanisms", 2025, reported at 43.5 % and 67.4 % on the 7,178 test pictures of FER-2013.
"""

import pickle
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import huggingface_hub
import safetensors
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from mien import errors
from mien.models.attention_blocks import create_attention
from mien.recipe import Rate

LISTED = 8
"""Names of weights that an error lists."""

UNREADABLE = (
    pickle.UnpicklingError, struct.error, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What ``torch.load`` raises on a file that is none of its own, by the bytes that it begins with."""

IN_BLOCKS = "_blocks"
"""Ends the name of an attention block that goes into every block of a network."""


class TimmBackbone(nn.Module):
    """A timm network with a new classifier, and attention on its last feature map before pooling.

    ``attention = "NAME_blocks"`` puts the block into every block of a residual network instead.

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
            raise errors.ModelError(f"timm's {backbone} does not take one of {sorted(arguments)}; {error}") from error
        self.attention = create_attention(attention, self.backbone.num_features)
        self._pools_maps = attention != "none"

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, S, S) -> (N, K)``."""
        features = self.backbone.forward_features(x)  # (N, D, H, W), or (N, tokens, D) of a transformer
        if self._pools_maps:
            if features.ndim != 4:
                raise errors.ModelError(
                    "attention before pooling: expected a network with a feature map (N, C, H, W), got"
                    f" {tuple(features.shape)}; use attention = 'none'"
                )
            features = self.attention(features)
        logits: Tensor = self.backbone.forward_head(features)
        return logits


resnet50 = partial(TimmBackbone, "resnet50")
"""The study's model 2: ResNet-50 with a new classifier."""

resnet50_cbam = partial(TimmBackbone, "resnet50", attention="cbam", dropout=0.4)
"""The study's model 4: one CBAM after the last stage of ResNet-50, dropout .4.

Woo et al. put CBAM into every block; that is ``resnet50`` with ``attention = "cbam_blocks"``.
"""


def _in_block(name: str, channels: int, **_device_and_dtype: Any) -> nn.Module:
    return create_attention(name, channels, in_block=True)


def pretrained_arguments(backbone: str, weights: str) -> dict[str, object]:
    """Arguments that make ``timm.create_model`` start from ``weights``: ``scratch``, ``imagenet``, or a path.

    timm then drops the old classifier, converts the first convolution to the number of channels, and resizes
    position embeddings.

    Raises:
        MissingPathError: there is no such file.
        ModelError: no weights for this network, or a file that does not fit it, with the list of what does not.
    """
    if weights == "scratch":
        return {}
    if weights == "imagenet":
        _reachable_on_hub(backbone)
        return {"pretrained": True}
    path = Path(weights)
    if not path.is_file():
        raise errors.MissingPathError(f"expected 'scratch', 'imagenet' or a file as weights; there is no file {path}")
    with torch.device("meta"):
        reference: Any = timm.create_model(backbone)
    classifiers = reference.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    check_fits(path, backbone, expected=reference.state_dict(), got=read_state_dict(path), free=classifiers)
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or pth file by name; training wrappers (``state_dict``, ``module.``) removed.

    Raises:
        ModelError: not such a file, or one that would run code when loaded.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, *UNREADABLE) as error:
        raise errors.ModelError(
            f"{path}: expected a safetensors or weights-only pth file: {errors.first_line(error)}"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise errors.ModelError(f"{path}: expected tensors by name, the weights of a timm network")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def normalization_of(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels in [0, 1], that the pretrained weights expect."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        raise errors.ModelError(
            f"timm states no mean and standard deviation for {backbone}; use normalization = 'unit'"
        )
    return tuple(config.mean), tuple(config.std)


def _reachable_on_hub(backbone: str) -> None:
    """Say what to do where the hub cannot be reached, before timm fails deep inside."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        raise errors.ModelError(f"timm has no pretrained weights for {backbone}; use model.weights = 'scratch'")
    if config.hf_hub_id is None:
        return
    try:
        huggingface_hub.hf_hub_download(config.hf_hub_id, "model.safetensors")
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise errors.ModelError(
            f"the weights of {backbone} could not be fetched from {config.hf_hub_id}: {type(error).__name__}."
            " Offline: fetch model.safetensors elsewhere and give it with --set model.weights=FILE"
        ) from error


def check_fits(
    path: Path,
    name: str,
    *,
    expected: Mapping[str, Tensor],
    got: Mapping[str, Tensor],
    free: tuple[str, ...] = (),
) -> None:
    """Refuse weights at ``path`` whose names or shapes differ from the network's own.

    Layers named in ``free`` may be missing or of another shape.

    Raises:
        ModelError: with the list of what does not fit.
    """

    def is_free(key: str) -> bool:
        return key.endswith("num_batches_tracked") or key.rpartition(".")[0] in free

    missing = sorted(key for key in expected.keys() - got.keys() if not is_free(key))
    foreign = sorted(key for key in got.keys() - expected.keys() if not is_free(key))
    shapes = sorted(
        f"{key} {tuple(got[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & got.keys()
        if got[key].shape != expected[key].shape and not is_free(key)
    )
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:LISTED])}{', ...' if len(keys) > LISTED else ''}"
        for what, keys in (("missing", missing), ("not in the network", foreign), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise errors.ModelError(f"{path} does not fit {name}: " + "; ".join(problems))
