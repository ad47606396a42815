"""Architectures: name -> constructor.

The contract of a model: ``constructor(num_classes, in_chans, input_size, **options)`` gives a module that maps
``(N, C, S, S)`` to logits ``(N, K)``; it has no other inputs and keeps nothing between calls. To add one, write a
file and add a line to ``MODELS``: the contract tests then run over it by themselves.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from mien.errors import ModelError, look_up
from mien.models.attention import (
    ATTENTIONS,
    Cbam,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcitation,
    attention_maps,
    create_attention,
)
from mien.models.attention_cnn import AttentionCnn
from mien.models.baseline_cnn import BaselineCnn
from mien.models.classifier import FaceClassifier, create_classifier
from mien.models.compact_resnet import CompactResNet
from mien.models.timm_backbone import TimmBackbone, resnet50, resnet50_cbam

MODELS: dict[str, Callable[..., nn.Module]] = {
    "attention_cnn": AttentionCnn,
    "baseline_cnn": BaselineCnn,
    "compact_resnet": CompactResNet,
    "resnet50": resnet50,
    "resnet50_cbam": resnet50_cbam,
}
"""Name in a recipe -> constructor. Any other network of timm is ``timm:NAME``."""

TIMM_PREFIX = "timm:"


def create_model(
    name: str,
    *,
    num_classes: int = 7,
    in_chans: int = 1,
    input_size: int = 48,
    weights: str = "scratch",
    **options: Any,
) -> nn.Module:
    """The network called ``name``, mapping ``(N, in_chans, input_size, input_size)`` to ``(N, num_classes)``.

    Args:
        name: a key of ``MODELS``, or ``timm:NAME``.
        num_classes: K.
        in_chans: 1 for grey, 3 for colour or repeated grey.
        input_size: side in pixels.
        weights: ``scratch``, ``imagenet`` or a file; only networks of timm have pretrained weights.
        **options: the model's own, such as ``attention`` or ``dropout``.

    Raises:
        UnknownNameError: no such model.
        ModelError: an option that this model does not take, or weights that do not fit it.
    """
    constructor: Callable[..., nn.Module]
    if name.startswith(TIMM_PREFIX):
        constructor = partial(TimmBackbone, name.removeprefix(TIMM_PREFIX))
    else:
        constructor = look_up(MODELS, name, "model")
    known = _options_of(constructor)
    foreign = sorted(options.keys() - known)
    if foreign:
        raise ModelError(f"{name} has no option {', '.join(foreign)}. It has: {', '.join(sorted(known))}")
    if "weights" in known:
        options["weights"] = weights
    elif weights != "scratch":
        raise ModelError(f"{name} has no pretrained weights; use model.weights = 'scratch' ({weights!r} came)")
    return constructor(num_classes=num_classes, in_chans=in_chans, input_size=input_size, **options)


def _options_of(constructor: Callable[..., nn.Module]) -> set[str]:
    """Names of the keyword-only options; a function that passes ``**options`` on has ``TimmBackbone``'s."""
    parameters = inspect.signature(constructor).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        parameters = inspect.signature(TimmBackbone).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


__all__ = [
    "ATTENTIONS",
    "MODELS",
    "AttentionCnn",
    "BaselineCnn",
    "Cbam",
    "ChannelAttention",
    "CompactResNet",
    "FaceClassifier",
    "SpatialAttention",
    "SqueezeExcitation",
    "TimmBackbone",
    "attention_maps",
    "create_attention",
    "create_classifier",
    "create_model",
]
