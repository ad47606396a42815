"""Name in a recipe -> network, and a network with its input.

The contract of a model: ``constructor(num_classes, in_chans, input_size, *, option=default, ...)`` gives a module that
maps ``(N, C, S, S)`` to logits ``(N, K)``; it has no other inputs and keeps nothing between calls. It may do without
``input_size``. Its other parameters are the options that a recipe can set, and their annotations say which values they
take. To add a model, write a file and add a line to ``MODELS``: the contract tests then run over it by themselves. Or
leave the file where it is and name it as ``module:Name``.
"""

import inspect
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pydantic
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from mien import errors, extensions
from mien.models import pretrained, timm_backbone
from mien.models.attention_blocks import EXPECTED as ATTENTION
from mien.models.compact_resnet import CompactResNet
from mien.models.published_cnn import AttentionCnn, BaselineCnn
from mien.recipe import ModelSettings, Settings, explain, is_plain

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
"""Name in a recipe -> constructor. Any other network of timm is ``timm:NAME``, one of your own ``module:Name``."""

TIMM_PREFIX = "timm:"

EXPECTED = (
    "a class or function that takes num_classes and in_chans and makes a torch.nn.Module from (N, C, S, S) to (N, K)"
)
"""What ``module:Name`` may name."""

SIZES = (32, 48, 64, 96, 128, 192, 224, 240, 299, 384)
"""In pixels, tried where a network takes no faces of the size that a recipe asks for."""

COMMON = ("num_classes", "in_chans", "input_size", "weights")
"""Parameters that are no options: they follow from other keys of a recipe."""

OPTIONAL = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

FER2013_MEAN, FER2013_STD = 0.5077, 0.2550
"""The pixels of the 28,709 Training pictures, scaled to [0, 1]."""


def face_tensor(faces: NDArray[np.uint8]) -> Tensor:
    """Stored faces as a network takes them: uint8 ``(N, H, W) -> (N, 1, H, W)``, ``(N, H, W, 3) -> (N, 3, H, W)``."""
    pixels = torch.from_numpy(np.ascontiguousarray(faces))
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()


class FaceClassifier(nn.Module):
    """Normalisation and a network: what turns a stored face into logits, in training, evaluation and export alike.

    Attributes:
        model: ``(N, C, S, S) -> (N, K + V)``.
        input_size: S, in pixels.
        num_classes: K. What the network gives beyond them serves as a second target in training only.
        votes: V.
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
        self.votes = 0
        # Not in the state dict: the recipe that every checkpoint carries determines them.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def prepare(self, faces: Tensor) -> Tensor:
        """Scale and resize stored faces: uint8 ``(N, 1 or 3, H, W)`` -> float32 ``(N, 1 or 3, S, S)`` in [0, 1]."""
        return self.resize(faces.float() / 255)

    def resize(self, x: Tensor) -> Tensor:
        """Faces of any size to the network's own: float ``(N, 1 or 3, H, W) -> (N, 1 or 3, S, S)``."""
        if x.shape[-1] == self.input_size:
            return x
        return F.interpolate(x, size=(self.input_size, self.input_size), mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Stored faces, or prepared ones, float ``(N, 1 or 3, S, S)`` in [0, 1], to logits: ``(N, K)``.

        One channel is repeated where the network has three; three need a network that has them. In training
        ``(N, K + V)``.
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
    found = checked.model_dump(exclude=set(settings.options), exclude_none=True)
    return {name: value for name, value in found.items() if is_plain(value)}


def option_names(name: str) -> list[str]:
    """What a model takes under ``[model.options]``, and ``weights`` where it also takes pretrained ones; sorted.

    Raises:
        UnknownNameError: no such model.
    """
    parameters = inspect.signature(_constructor(name)).parameters.values()
    own = {each.name for each in parameters if each.kind in OPTIONAL} - set(COMMON)
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
    try:
        return _built(settings, num_classes, votes, settings.weights if load_weights else pretrained.SCRATCH)
    except errors.MienError:
        raise
    except Exception as error:  # whatever a network raises at a size or an option that it cannot take
        raise _refusal(settings, error) from error


def _built(settings: ModelSettings, num_classes: int, votes: int, weights: str) -> FaceClassifier:
    name, constructor = settings.name, _constructor(settings.name)
    arguments: dict[str, object] = _checked(settings, constructor).model_dump(include=set(settings.options))
    arguments |= {"num_classes": num_classes + votes, "in_chans": settings.in_chans}
    parameters = inspect.signature(constructor).parameters
    if "input_size" in parameters:
        arguments["input_size"] = settings.input_size
    if "weights" in parameters:
        arguments["weights"] = weights
    elif weights != pretrained.SCRATCH:
        raise errors.ModelError(_no_weights(settings))
    model = constructor(**arguments)
    if not isinstance(model, nn.Module):
        raise errors.CallError(f"model {name!r}: expected {EXPECTED}, got one that makes a {type(model).__name__}")
    mean, std = _statistics(settings, getattr(model, "backbone_name", name))
    classifier = FaceClassifier(model, settings.input_size, settings.in_chans, mean, std, num_classes)
    classifier.votes = votes
    return classifier


def _statistics(settings: ModelSettings, backbone: str) -> tuple[Statistics, Statistics]:
    """Mean and standard deviation of the pixels that the network takes."""
    mean: Statistics = (0.0,)
    std: Statistics = (1.0,)  # normalization = "unit"
    if settings.normalization == "fer2013":
        mean, std = (FER2013_MEAN,), (FER2013_STD,)
    elif settings.normalization == "weights":
        named = pretrained.is_imagenet(settings.weights)
        full_name = pretrained.pretrained_name(backbone, settings.weights) if named else backbone
        mean, std = timm_backbone.normalization_of(full_name)
    if settings.in_chans == 1:  # one grey channel: the weights' three values are as good as equal
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return mean, std


def pretrained_weights(settings: ModelSettings) -> str | None:
    """The full name in timm of the weights that ``imagenet`` or ``imagenet:TAG`` mean, such as ``resnet50.a1_in1k``.

    ``None`` where the weights come from elsewhere. Raises as :func:`create_classifier`.
    """
    backbone = _backbone(settings)
    if backbone is None or not pretrained.is_imagenet(settings.weights):
        return None
    return pretrained.pretrained_name(backbone, settings.weights)


def weights_available(settings: ModelSettings) -> str | None:
    """Why the first weights cannot be had, with what to do, or ``None``; reads no weights.

    Asks timm's hub, once and for a few seconds, where they are not in this machine's cache. A checkpoint of ours is
    none of its business.

    Raises:
        UnknownNameError: no such model.
    """
    if settings.weights == pretrained.SCRATCH or settings.checkpoint is not None:
        return None
    backbone = _backbone(settings)
    try:
        if backbone is None:
            takes_weights = "weights" in inspect.signature(_constructor(settings.name)).parameters
            return None if takes_weights else _no_weights(settings)
        if pretrained.is_imagenet(settings.weights):
            pretrained.find_weights(pretrained.pretrained_name(backbone, settings.weights))
        else:
            pretrained.find_file(settings.weights)
    except errors.MienError as error:
        return str(error)
    return None


def _no_weights(settings: ModelSettings) -> str:
    return (
        f"{settings.name} has no pretrained weights: expected model.weights = 'scratch' or an earlier run's best.ckpt,"
        f" got {settings.weights!r}"
    )


def check_takes_faces(classifier: FaceClassifier, settings: ModelSettings) -> None:
    """Refuse a network that cannot take faces of its size, by giving it one; weights and random numbers stay.

    Raises:
        RecipeError: it fails on them; names other sizes that it takes, found by trying, where there are any.
    """
    was_training = classifier.training
    try:
        _try(classifier)
    except errors.MienError:
        raise
    except Exception as error:  # whatever a network raises on a picture that it cannot take
        raise _refusal(settings, error) from error
    finally:
        classifier.train(was_training)


def _try(classifier: FaceClassifier) -> None:
    """One grey face through the network, on its device; the network is left in evaluation mode."""
    device, size = next(classifier.parameters()).device, classifier.input_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        logits = classifier.eval().model(torch.zeros(1, classifier.in_chans, size, size, device=device))
    expected, got = classifier.num_classes + classifier.votes, getattr(logits, "shape", None)
    if got != (1, expected):
        raise ValueError(f"expected logits (1, {expected}) for one face, got {got if got is None else tuple(got)}")


def _refusal(settings: ModelSettings, error: Exception) -> errors.RecipeError:
    """What to say of a network that fails as it is made, or on a face; sizes that it takes are tried without memory."""
    reason = f"{type(error).__name__}: {errors.first_line(error)}"
    attention = str(settings.options.get("attention", "none"))
    if extensions.is_reference(attention) and _takes(_without_attention(settings), settings.input_size):
        return errors.RecipeError(
            f"model.options.attention: expected {ATTENTION}; {attention} fails in {settings.name} with {reason}"
        )
    fitting = [] if _takes(settings, settings.input_size) else [size for size in SIZES if _takes(settings, size)]
    if not fitting:
        return errors.RecipeError(f"model.name: expected {EXPECTED}; {settings.name} fails with {reason}")
    return errors.RecipeError(
        f"model.input_size: {settings.name} cannot take faces of {settings.input_size} pixels ({reason}); of the sizes"
        f" that were tried it takes {', '.join(map(str, fitting))}"
    )


def _without_attention(settings: ModelSettings) -> ModelSettings:
    return settings.model_copy(update={"options": {**settings.options, "attention": "none"}})


def _takes(settings: ModelSettings, size: int) -> bool:
    """Whether the network takes faces of a size; without memory for its weights, and so in no time."""
    try:
        with torch.device("meta"):
            _try(_built(settings.model_copy(update={"input_size": size}), 7, 0, pretrained.SCRATCH))
    except Exception:  # the one of interest has been caught before
        return False
    return True


def _constructor(name: str) -> Constructor:
    if name.startswith(TIMM_PREFIX):
        return partial(timm_backbone.TimmBackbone, name.removeprefix(TIMM_PREFIX))
    found: Constructor = extensions.look_up(MODELS, name, "model", expected=EXPECTED, fits=_is_constructor)
    return found


def _is_constructor(found: object) -> bool:
    return callable(found) and {"num_classes", "in_chans"} <= inspect.signature(found).parameters.keys()


def _backbone(settings: ModelSettings) -> str | None:
    """The network's name in timm, if it is one of timm's."""
    constructor = _constructor(settings.name)
    if isinstance(constructor, partial) and constructor.func is timm_backbone.TimmBackbone:
        return str(constructor.args[0])
    return None


class _Options(Settings):
    """Base of a network's options: a kind of value that TOML has not is a mistake only where a recipe sets it."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())


def _checked(settings: ModelSettings, constructor: Constructor) -> Settings:
    """Options with the constructor's defaults for the others, or every key that does not fit in one error.

    The constructor's other parameters are the fields: their types by the annotations, and their defaults.
    """
    fields: dict[str, Any] = {
        parameter.name: (
            Any if parameter.annotation is parameter.empty else parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(constructor, eval_str=True).parameters.values()
        if parameter.kind in OPTIONAL and parameter.name not in COMMON
    }
    schema = pydantic.create_model("Options", __base__=_Options, **fields)
    try:  # as JSON, where a list fits whatever kind of sequence the constructor names
        return schema.model_validate_json(json.dumps(settings.options, default=repr))
    except pydantic.ValidationError as error:
        raise errors.RecipeError(f"model.options of {settings.name}: {explain(error, schema)}") from error
