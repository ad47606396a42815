"""Name in a recipe -> network, and a network with its input.

The contract of a model: ``constructor(num_classes, in_chans, input_size, *, option=default, ...)`` gives a module that
maps ``(N, C, S, S)`` to logits ``(N, K)``; it has no other inputs and keeps nothing between calls. Its keyword-only
parameters are the options that a recipe can set, and their annotations say which values they take. To add a model,
write a file and add a line to ``MODELS``: the contract tests then run over it by themselves.
"""

import inspect
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pydantic
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mien import errors
from mien.models import timm_backbone
from mien.models.compact_resnet import CompactResNet
from mien.models.published_cnn import AttentionCnn, BaselineCnn
from mien.recipe import ModelSettings, Settings, explain

Constructor = Callable[..., nn.Module]

Statistics = tuple[float, ...]
"""Mean or standard deviation of pixels in [0, 1]: one value, or one per channel."""

MODELS: dict[str, Constructor] = {
    "attention_cnn": AttentionCnn,
    "baseline_cnn": BaselineCnn,
    "compact_resnet": CompactResNet,
    "resnet50": timm_backbone.resnet50,
    "resnet50_cbam": timm_backbone.resnet50_cbam,
}
"""Name in a recipe -> constructor. Any other network of timm is ``timm:NAME``."""

TIMM_PREFIX = "timm:"

COMMON = ("num_classes", "in_chans", "input_size", "weights")
"""Parameters that are no options: they follow from other keys of a recipe."""

FER2013_MEAN, FER2013_STD = 0.5077, 0.2550
"""The pixels of the 28,709 Training pictures, scaled to [0, 1]."""


class FaceClassifier(nn.Module):
    """Normalisation and a network: what turns a stored face into logits, in training, evaluation and export alike.

    Attributes:
        model: ``(N, C, S, S) -> (N, K + V)``.
        input_size: S, in pixels.
        num_classes: K. What the network gives beyond them serves as a second target in training only.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, input_size: int, in_chans: int, mean: Statistics, std: Statistics, num_classes: int
    ) -> None:
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
        """Stored faces, or prepared ones, float ``(N, 1, S, S)`` in [0, 1], to logits: ``(N, K)``.

        In training ``(N, K + V)``.
        """
        if x.dtype == torch.uint8:
            x = self.prepare(x)
        x = ((x - self.mean) / self.std).expand(-1, self.in_chans, -1, -1)  # (N, C, S, S)
        logits: Tensor = self.model(x)
        return logits if self.training else logits[:, : self.num_classes]


def model_defaults(settings: ModelSettings) -> dict[str, object]:
    """The constructor's values of the options that ``settings`` does not set, but for ``None``, which TOML has not.

    Raises:
        UnknownNameError, RecipeError: as :func:`create_classifier`.
    """
    checked = _checked(settings, _constructor(settings.name))
    return checked.model_dump(exclude=set(settings.options), exclude_none=True)


def option_names(name: str) -> list[str]:
    """What a model takes under ``[model.options]``, and ``weights`` where it also takes pretrained ones; sorted.

    Raises:
        UnknownNameError: no such model.
    """
    parameters = inspect.signature(_constructor(name)).parameters.values()
    own = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - set(COMMON)
    return sorted(own | ({each.name for each in parameters} & {"weights"}))


def create_classifier(
    settings: ModelSettings, num_classes: int = 7, *, votes: int = 0, load_weights: bool = True
) -> FaceClassifier:
    """The network of a recipe's ``[model]`` with its input, on the CPU.

    Args:
        settings: the recipe's ``[model]``.
        num_classes: K.
        votes: V, extra outputs that training gives a second target; FER+'s ten kinds of vote, or none.
        load_weights: false builds the same network without reading pretrained weights, to be filled from a
            checkpoint.

    Raises:
        UnknownNameError: no such model.
        RecipeError: an option that this model does not take, or a value that the option does not.
        ModelError: weights that do not fit the model.
    """
    name, constructor = settings.name, _constructor(settings.name)
    weights = settings.weights if load_weights else "scratch"
    arguments: dict[str, object] = _checked(settings, constructor).model_dump(include=set(settings.options))
    if "weights" in inspect.signature(constructor).parameters:
        arguments["weights"] = weights
    elif weights != "scratch":
        raise errors.ModelError(
            f"{name} has no pretrained weights: expected model.weights = 'scratch', got {weights!r}"
        )
    model = constructor(
        num_classes=num_classes + votes, in_chans=settings.in_chans, input_size=settings.input_size, **arguments
    )
    mean: Statistics = (0.0,)
    std: Statistics = (1.0,)  # normalization = "unit"
    if settings.normalization == "fer2013":
        mean, std = (FER2013_MEAN,), (FER2013_STD,)
    elif settings.normalization == "weights":
        mean, std = timm_backbone.normalization_of(getattr(model, "backbone_name", name))
    if settings.in_chans == 1:  # one grey channel: the weights' three values are as good as equal
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return FaceClassifier(model, settings.input_size, settings.in_chans, mean, std, num_classes)


def _constructor(name: str) -> Constructor:
    if name.startswith(TIMM_PREFIX):
        return partial(timm_backbone.TimmBackbone, name.removeprefix(TIMM_PREFIX))
    return errors.look_up(MODELS, name, "model")


def _checked(settings: ModelSettings, constructor: Constructor) -> Settings:
    """Options with the constructor's defaults for the others, or every key that does not fit in one error.

    The constructor's keyword-only parameters are the fields: their types by the annotations, and their defaults.
    """
    fields: dict[str, Any] = {
        parameter.name: (
            Any if parameter.annotation is parameter.empty else parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(constructor, eval_str=True).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in COMMON
    }
    schema = pydantic.create_model("Options", __base__=Settings, **fields)
    try:  # as JSON, where a list fits whatever kind of sequence the constructor names
        return schema.model_validate_json(json.dumps(settings.options, default=repr))
    except pydantic.ValidationError as error:
        raise errors.RecipeError(f"model.options of {settings.name}: {explain(error, schema)}") from error
