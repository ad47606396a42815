"""An experiment as values: strict TOML in, frozen settings out, one dotted override at a time.

The parts of a :class:`Recipe` are what the functions above take as settings; no function takes the whole recipe
unless it stores it. Every key has a default here except the recipe's and the model's names, so a recipe file says
only what is particular to it.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mien.emotions import VOTE_COLUMNS
from mien.errors import MissingPathError, RecipeError

CHECKPOINT = ".ckpt"
"""Ends the name of a run's checkpoint; first weights and teachers may also be files of other kinds."""


class Settings(BaseModel):
    """Base of all parts: frozen, strict, finite numbers, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Stages = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1, strict=False)]
"""A positive whole number for each stage of a network."""


class DataSettings(Settings):
    """Which faces are trained on and which are held out.

    Attributes:
        protocol: ``contest`` (validation = PublicTest) or ``published`` (validation held out of Training).
        validation_rows: faces that ``published`` holds out; by default an eighth of Training, 3,589 of FER-2013.
        fold: which of ``folds`` equal parts of Training is the validation set instead of PublicTest, from 0 on, to
            train on the others, so that several runs together predict all of Training; unset is none.
        folds: how many parts there are.
    """

    protocol: Literal["contest", "published"] = "contest"
    validation_rows: int | None = Field(default=None, gt=0)
    fold: int | None = Field(default=None, ge=0)
    folds: int = Field(default=5, ge=2)

    @model_validator(mode="after")
    def _fold_is_the_only_holdout(self) -> "DataSettings":
        if self.fold is None:
            return self
        if self.fold >= self.folds:
            raise ValueError(f"fold must be 0 to {self.folds - 1}, as there are {self.folds} folds; {self.fold} came")
        if self.protocol != "contest" or self.validation_rows is not None:
            raise ValueError("a fold is held out of Training itself: leave out protocol and validation_rows")
        return self


class ModelSettings(Settings):
    """A network, its input and where its weights start.

    Attributes:
        name: a key of ``mien.models.MODELS``, or ``timm:NAME``.
        input_size: side in pixels to which faces are resized, bilinearly.
        in_chans: 1, or 3 to repeat the grey channel, as networks trained on colour need.
        weights: ``scratch``, ``imagenet`` (from timm's hub), a safetensors or pth file with timm's key names, or the
            ``best.ckpt`` of a run of the same network.
        normalization: ``unit`` = pixels in [0, 1] only; ``fer2013`` = minus the mean, over the standard deviation
            of Training; ``weights`` = the pretrained weights' own mean and standard deviation.
        attention: ``none``, ``se``, ``spatial``, ``cbam``, or ``cbam_blocks``; unset is the model's own.
        batch_norm: unset is the model's own.
        block_dropout: rate after each block of ``baseline_cnn``; unset is the model's own.
        dropout: rate before the classifier; unset is the model's own.
        patch_size: of a vision transformer, in pixels.
        widths: channels of each stage of ``compact_resnet``.
        depths: blocks of each stage of ``compact_resnet``.
        stem_stride: 1, or 2 to halve the resolution at once, of ``compact_resnet``.
    """

    name: str
    input_size: int = Field(default=48, ge=16, le=1024)
    in_chans: Literal[1, 3] = 1
    weights: str = "scratch"
    normalization: Literal["unit", "fer2013", "weights"] = "fer2013"
    attention: Literal["none", "se", "spatial", "cbam", "cbam_blocks"] | None = None
    batch_norm: bool | None = None
    block_dropout: float | None = Field(default=None, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    patch_size: int | None = Field(default=None, gt=0)
    widths: Stages | None = None
    depths: Stages | None = None
    stem_stride: Literal[1, 2] | None = None

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint of ours that ``weights`` names, if it does."""
        return Path(self.weights) if self.weights.endswith(CHECKPOINT) else None

    def options(self) -> dict[str, Any]:
        """The model's own options that are set, as keyword arguments of its constructor."""
        common = {"name", "input_size", "in_chans", "weights", "normalization"}
        return {key: value for key, value in self.model_dump(exclude=common).items() if value is not None}


class AugmentationSettings(Settings):
    """Random changes of a training face; every default is "none".

    Attributes:
        flip: probability of a mirror image.
        rotation: degrees, uniform in +-rotation.
        translation: fraction of the side, uniform in +-translation, each axis.
        scale: uniform factor in 1 +- scale.
        brightness: uniform factor in 1 +- brightness.
        contrast: uniform factor in 1 +- contrast, about the picture's mean.
        erasing: probability of one rectangle of 2 to 20 % of the area set to the picture's mean.
        mixup: alpha of Beta(alpha, alpha) for the share of a second face; 0 is off.
        light_tail: last fraction of training without erasing and mixup.
        first_size: side in pixels at which training begins, to grow in steps of 8 to the model's input size, as
            progressive learning does (Tan, Le 2021, arXiv:2104.00298); unset is the full size throughout.
        full_size_at: fraction of training after which the size is full.
    """

    flip: float = Field(default=0.0, ge=0, le=1)
    rotation: float = Field(default=0.0, ge=0, le=180)
    translation: float = Field(default=0.0, ge=0, lt=1)
    scale: float = Field(default=0.0, ge=0, lt=1)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    erasing: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0)
    light_tail: float = Field(default=0.0, ge=0, le=1)
    first_size: int | None = Field(default=None, ge=16)
    full_size_at: float = Field(default=0.5, ge=0, le=1)


class OptimizerSettings(Settings):
    """The update rule.

    Attributes:
        name: ``adam``, ``adamw`` or ``sgd`` (with Nesterov momentum).
        lr: peak learning rate.
        weight_decay: not applied to biases and normalisation weights.
        momentum: of ``sgd``.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)


class ScheduleSettings(Settings):
    """The learning rate over training, stepped per batch.

    Attributes:
        name: ``constant``, ``cosine``, ``warm_restarts`` or ``one_cycle``.
        warmup_epochs: linear rise from zero, before ``name`` begins; ``one_cycle`` has a rise of its own.
        restart_epochs: T_0 of ``warm_restarts``.
        restart_factor: T_mult of ``warm_restarts``.
    """

    name: Literal["constant", "cosine", "warm_restarts", "one_cycle"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    restart_epochs: int = Field(default=5, gt=0)
    restart_factor: int = Field(default=1, ge=1)


class TrainingSettings(Settings):
    """How long and in which arithmetic.

    Attributes:
        epochs: passes over ``training``; with ``minutes`` set, the most there may be.
        minutes: end after this time, with the schedule following the clock, so that the run always ends annealed.
        batch_size: faces per step over all processes together.
        precision: ``float32``; ``bfloat16`` for autocast; or ``auto``, which is bfloat16 where the device computes in
            it and float32 where it would only imitate it, many times slower. Reports say which it was.
        channels_last: store feature maps as (N, H, W, C); faster for most convolutions in bfloat16.
        compile: use ``torch.compile``.
        label_smoothing: share of the target given to all classes alike.
        votes_weight: of a second loss, on FER+'s votes, which extra outputs learn during training beside the labels;
            0 is none.
        teachers: networks whose answers to the same faces are learnt beside the labels: the ``best.ckpt`` of earlier
            runs, ONNX files, or names of networks in the package such as ``base``.
        teacher_weight: their share of the targets, 0 to 1.
        clip_norm: largest norm of the gradient; unset is no clipping.
        ema_decay: of an exponential moving average of the weights; unset is none.
        precise_norm: at the end, take batch norm's statistics anew from the training faces as they are.
        weights: which weights are kept and evaluated: ``best`` (highest validation accuracy), ``last`` or ``ema``.
        patience: stop after this many epochs without a better validation accuracy; unset is never.
        checkpoint_minutes: longest time between two checkpoints; there is always one at the end of an epoch.
    """

    epochs: int = Field(default=10, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=64, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    votes_weight: float = Field(default=0.0, ge=0)
    teachers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    teacher_weight: float = Field(default=0.0, ge=0, le=1)
    clip_norm: float | None = Field(default=None, gt=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    precise_norm: bool = False
    weights: Literal["best", "last", "ema"] = "best"
    patience: int | None = Field(default=None, gt=0)
    checkpoint_minutes: float = Field(default=5.0, gt=0)

    @model_validator(mode="after")
    def _ema_is_kept_only_where_it_is_computed(self) -> "TrainingSettings":
        if self.weights == "ema" and self.ema_decay is None:
            raise ValueError('weights = "ema" needs ema_decay')
        return self

    @model_validator(mode="after")
    def _teachers_have_a_share(self) -> "TrainingSettings":
        if bool(self.teachers) != bool(self.teacher_weight):
            raise ValueError("teachers and teacher_weight go together: give both, or neither")
        return self


class Recipe(Settings):
    """One experiment.

    Attributes:
        name: stands in reports and in the names of run directories.
        seed: of the initial weights, the order of the faces, augmentation and dropout.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    seed: int = Field(default=0, ge=0, lt=2**31)
    data: DataSettings = DataSettings()
    model: ModelSettings
    augmentation: AugmentationSettings = AugmentationSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    training: TrainingSettings = TrainingSettings()

    def votes_outputs(self) -> int:
        """How many outputs the network has for FER+'s votes: one for each kind, or none."""
        return len(VOTE_COLUMNS) if self.training.votes_weight else 0

    def sha256(self) -> str:
        """Hash of the values that are not the defaults (hexadecimal), so that a new key with a default keeps it."""
        chosen = self.model_dump(exclude_defaults=True)
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, with ``a.b=value`` overrides applied in order.

    A value is read as TOML (``training.epochs=3``, ``model.batch_norm=false``); what is no TOML value is text.

    Raises:
        MissingPathError: there is no such file.
        RecipeError: not TOML, an unknown key, a value of the wrong type or out of range.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingPathError(f"no recipe at {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: not a TOML recipe: {error}") from error
    tree.setdefault("name", path.stem)
    for override in overrides:
        _apply(tree, override)
    return parse_recipe(tree, source=str(path))


def parse_recipe(tree: dict[str, Any], source: str) -> Recipe:
    """The recipe of nested values; ``source`` names them in errors.

    Raises:
        RecipeError: an unknown key, a value of the wrong type or out of range.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{source}: " + "; ".join(_explain(problem) for problem in error.errors())) from error


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """``recipe`` with ``a.b=value`` overrides applied in order.

    Raises:
        RecipeError: an override that is not ``key=value``, or does not fit the schema.
    """
    tree = recipe.model_dump()
    for override in overrides:
        _apply(tree, override)
    return parse_recipe(tree, source=f"recipe {recipe.name}")


def to_toml(recipe: Recipe) -> str:
    """The recipe with every value spelled out, as TOML that ``load_recipe`` reads back to an equal recipe."""
    tree = recipe.model_dump()
    lines = [f"{key} = {_toml_value(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for section, values in tree.items():
        if isinstance(values, dict):
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {_toml_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    """Numbers, texts and lists look the same in JSON and in TOML, except for JSON's escapes of rare characters."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise RecipeError(f"an override is written key=value, such as training.epochs=3; {override!r} came")
    *sections, last = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"{override!r}: {section} is a value and has no keys of its own")
    tree[last] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None if text == "none" else text


def _explain(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] != "extra_forbidden":
        came = "" if problem["type"] == "missing" else f" ({problem['input']!r} came)"
        return f"{key or 'recipe'}: {problem['msg']}{came}"
    known = _known_keys(location[:-1])
    near = difflib.get_close_matches(location[-1], known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown key {key!r}.{hint} Known: {', '.join(known)}"


def _known_keys(sections: list[str]) -> list[str]:
    settings: Any = Recipe
    for section in sections:
        settings = settings.model_fields[section].annotation
    return sorted(settings.model_fields)
