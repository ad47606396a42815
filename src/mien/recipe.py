"""An experiment as values: strict TOML in, frozen settings out, one dotted override at a time.

Functions take a part of a :class:`Recipe` as settings, never the whole unless they store it. Every key has a default
except the recipe's and the model's names, and a file that ``extends`` another says only what differs.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mien.emotions import VOTE_COLUMNS
from mien.errors import MissingPathError, RecipeError

CHECKPOINT = ".ckpt"  # ends the name of a run's checkpoint; weights and teachers may also be files of other kinds
BASE = "_"  # begins the names of recipe files that are only there to be extended

# Models annotate their options with these too.
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # such as dropout
Stages = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]  # a number for each of a network's


class Settings(BaseModel):
    """Base of all parts: frozen, strict, finite numbers, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


class DataSettings(Settings):
    """Which faces are trained on and which are held out."""

    protocol: Literal["contest", "published"] = "contest"  # validation = PublicTest, or held out of Training
    validation_rows: int | None = Field(default=None, gt=0)  # held out by published; unset: an eighth of Training
    # Which of equal parts of Training, from 0 on, is the validation set instead of PublicTest, to train on the others,
    # so that several runs together predict all of Training.
    fold: int | None = Field(default=None, ge=0)
    folds: int = Field(default=5, ge=2)  # how many parts there are
    # How the pictures of folders are stored, other than as FER-2013's, which are grey and 48 pixels wide.
    size: int | None = Field(default=None, ge=16, le=1024)  # side in pixels; unset is 48
    color: bool = False  # RGB, for networks with in_chans = 3
    # What tells whom a picture shows, so that nobody is on two sides of a split: a regular expression with one group
    # over the picture's path below the folder. Rows of a table (csv, Parquet) have no path: there it names a column.
    group: str | None = Field(default=None, min_length=1)

    def same_split(self, other: "DataSettings") -> bool:
        """Whether both learn from the same faces, in whatever size and colour."""
        stored = {"size", "color"}
        return self.model_dump(exclude=stored) == other.model_dump(exclude=stored)

    @model_validator(mode="after")
    def _fold_is_the_only_holdout(self) -> "DataSettings":
        if self.fold is None:
            return self
        if self.fold >= self.folds:
            raise ValueError(f"expected a fold from 0 to {self.folds - 1} of {self.folds} folds, got {self.fold}")
        if self.protocol != "contest" or self.validation_rows is not None:
            raise ValueError("a fold is held out of Training itself: leave out protocol and validation_rows")
        return self


MOVED_OPTIONS = ("attention", "batch_norm", "block_dropout", "dropout", "patch_size", "widths", "depths", "stem_stride")
"""Options of models that stood in ``[model]`` itself before there was ``[model.options]``."""


def move_options(model: Mapping[str, object]) -> dict[str, object]:
    """A ``[model]`` table in today's form: old keys go into ``options``, and win over what stands there.

    Recipes, overrides such as ``model.dropout=0.1``, runs' ``recipe.toml`` and checkpoints of format 1 still have the
    old form. In it, an option that is ``None`` was not set.
    """
    old = {key: value for key, value in model.items() if key in MOVED_OPTIONS}
    kept = {key: value for key, value in model.items() if key not in old}
    options = kept.get("options", {})
    return {**kept, "options": {**options, **old}} if old and isinstance(options, dict) else kept


class ModelSettings(Settings):
    """A network, its input and where its weights start."""

    name: str  # a key of mien.models.MODELS, timm:NAME, or module:Name for one of your own
    input_size: int = Field(default=48, ge=16, le=1024)  # side in pixels to which faces are resized, bilinearly
    in_chans: Literal[1, 3] = 1  # 3 repeats the grey channel, as networks trained on colour need
    # scratch, imagenet (timm's first choice, from its hub), imagenet:TAG (another, such as torchvision's tv_in1k), a
    # safetensors or pth file with timm's key names, or the best.ckpt of a run of the same network.
    weights: str = "scratch"
    # unit = pixels in [0, 1] only; fer2013 = minus the mean, over the standard deviation of Training; weights = the
    # pretrained weights' own mean and standard deviation.
    normalization: Literal["unit", "fer2013", "weights"] = "fer2013"
    # The model's own, such as attention or dropout: keyword arguments of its constructor, against which mien.models
    # checks them. In the order of their names; a list is a tuple.
    options: dict[str, object] = {}
    # The constructor's values of the options that are not set. They stand in a run's recipe.toml for readers that have
    # no models at hand; they build no network, and are no part of equality, dump or hash.
    defaults: dict[str, object] = Field(default={}, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _todays_form(cls, model: object) -> object:
        return move_options(model) if isinstance(model, dict) else model

    @field_validator("options", "defaults")
    @classmethod
    def _one_form(cls, options: dict[str, object]) -> dict[str, object]:
        return {name: _canonical(name, value) for name, value in sorted(options.items()) if value is not None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelSettings) and self.model_dump() == other.model_dump()

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint of ours that ``weights`` names, if it does."""
        return Path(self.weights) if self.weights.endswith(CHECKPOINT) else None

    @property
    def initialization(self) -> str:
        """What ``weights`` are: ``scratch``, ``imagenet``, ``checkpoint`` of ours, or another ``file``."""
        start = self.weights.partition(":")[0]
        return "checkpoint" if self.checkpoint is not None else start if start in ("scratch", "imagenet") else "file"


def is_plain(value: object) -> bool:
    """Whether a recipe can hold it as an option: a text, a number, true, false or a list of these."""
    each = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(one, bool | int | float | str) for one in each)


def _canonical(name: str, value: object) -> object:
    """An option's value in the form in which equal ones are equal and have one hash."""
    if name in ModelSettings.model_fields:
        raise ValueError(f"{name} is a key of [model] itself; write it there")
    if not is_plain(value):
        raise ValueError(f"expected a text, a number, true, false or a list of these as {name}, got {value!r}")
    if isinstance(value, list | tuple):
        return tuple(value)
    # The rates were declared as float when the first hashes were made: 0 is 0.0.
    return float(value) if name.endswith("dropout") and type(value) is int else value


class AugmentationSettings(Settings):
    """Random changes of a training face; every default is "none"."""

    flip: Fraction = 0.0  # probability of a mirror image
    rotation: float = Field(default=0.0, ge=0, le=180)  # degrees, uniform in +-rotation
    translation: Rate = 0.0  # fraction of the side, uniform in +-translation, each axis
    scale: Rate = 0.0  # uniform factor in 1 +- scale
    brightness: Fraction = 0.0  # uniform factor in 1 +- brightness
    contrast: Fraction = 0.0  # uniform factor in 1 +- contrast, about the picture's mean
    erasing: Fraction = 0.0  # probability of one rectangle of 2 to 20 % of the area set to the picture's mean
    mixup: float = Field(default=0.0, ge=0)  # alpha of Beta(alpha, alpha) for the weight of a second face; 0 is off
    light_tail: Fraction = 0.0  # last fraction of training without erasing and mixup
    # Side in pixels at which training begins, to grow in steps of 8 to the model's input size, as progressive learning
    # does (Tan, Le 2021, arXiv:2104.00298); unset is the full size throughout.
    first_size: int | None = Field(default=None, ge=16)
    full_size_at: Fraction = 0.5  # fraction of training after which the size is full
    # Probability that a face is seen as the recognizer crops it out of a photograph: upright, by the five points that a
    # detector finds in a scene of it. Faces that are not found are seen as they are given.
    detected: Fraction = 0.0
    detector: str | None = Field(default=None, min_length=1)  # as of mien predict --detector; unset is the package's
    points_jitter: float = Field(default=0.06, ge=0)  # standard deviation of each point, in distances of the eyes


class OptimizerSettings(Settings):
    """The update rule."""

    name: Literal["adam", "adamw", "sgd"] = "adam"  # sgd has Nesterov momentum
    lr: float = Field(default=1e-3, gt=0)  # the maximum
    weight_decay: float = Field(default=0.0, ge=0)  # not applied to biases and normalisation weights
    # false spares also what a network itself names by timm's no_weight_decay(), such as ViT's position embeddings.
    decay_embeddings: bool = True
    momentum: Rate = 0.9  # of sgd


class ScheduleSettings(Settings):
    """The learning rate over training, stepped per batch."""

    name: Literal["constant", "cosine", "warm_restarts", "one_cycle"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)  # linear rise from zero; one_cycle has a rise of its own
    restart_epochs: int = Field(default=5, gt=0)  # T_0 of warm_restarts
    restart_factor: int = Field(default=1, ge=1)  # T_mult of warm_restarts


class TrainingSettings(Settings):
    """How long and in which arithmetic."""

    epochs: int = Field(default=10, gt=0)  # passes over Training; with minutes set, the maximum
    # End after this time, with the schedule following the clock, so that the run always ends annealed.
    minutes: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=64, gt=0)  # faces per step over all processes together
    # auto is bfloat16 (autocast) where the device computes in it, and float32 where it would only imitate it, many
    # times slower. Reports say which it was.
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    channels_last: bool = False  # store feature maps as (N, H, W, C); faster for most convolutions in bfloat16
    compile: bool = False  # use torch.compile
    cuda_graphs: bool = False  # record a step on an NVIDIA GPU and replay it: faster where a GPU waits for Python
    label_smoothing: Rate = 0.0  # fraction of the target given to all classes alike
    votes_weight: float = Field(default=0.0, ge=0)  # of a second loss, on FER+'s votes, which extra outputs learn
    # Networks for distillation: the best.ckpt of earlier runs, ONNX files, or names of networks in the package such as
    # base. Their probabilities for the same faces are learnt beside the labels.
    teachers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    teacher_weight: Fraction = 0.0  # the teachers' fraction of the targets
    # What teachers see: the same changed face as the student, or the picture as it is given (and its mirror image),
    # which they then answer once, before training.
    teacher_view: Literal["student", "given"] = "student"
    clip_norm: float | None = Field(default=None, gt=0)  # maximum norm of the gradient; unset is no clipping
    ema_decay: float | None = Field(default=None, gt=0, lt=1)  # of an average of the weights; unset is none
    precise_norm: bool = False  # at the end, compute batch norm's statistics again from the training faces as they are
    # What is kept and evaluated. best has the highest validation accuracy; with augmentation.detected, the highest mean
    # of that and of the accuracy on scenes.
    weights: Literal["best", "last", "ema"] = "best"
    patience: int | None = Field(default=None, gt=0)  # epochs without a better one before the end
    checkpoint_minutes: float = Field(default=5.0, gt=0)  # between two checkpoints, which also end every epoch

    @model_validator(mode="after")
    def _keys_that_need_each_other(self) -> "TrainingSettings":
        if self.weights == "ema" and self.ema_decay is None:
            raise ValueError('weights = "ema" needs ema_decay')
        if bool(self.teachers) != bool(self.teacher_weight):
            raise ValueError("teachers and teacher_weight go together: give both, or neither")
        return self


class DataOnly(Settings):
    """What commands without a recipe take of one."""

    data: DataSettings = DataSettings()


class Experiment(Settings):
    """What a recipe tells whatever it trains."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")  # stands in reports and in the names of run directories
    seed: int = Field(default=0, ge=0, lt=2**31)  # of initial weights, the order of the faces, augmentation and dropout

    def sha256(self) -> str:
        """Hash of the values that are not the defaults (hexadecimal), so that a new key with a default keeps it."""
        return hashlib.sha256(json.dumps(self._chosen(), sort_keys=True).encode()).hexdigest()

    def _chosen(self) -> dict[str, Any]:
        return self.model_dump(exclude_defaults=True)


class Recipe(Experiment):
    """One experiment with a network that names faces."""

    data: DataSettings = DataSettings()
    model: ModelSettings
    augmentation: AugmentationSettings = AugmentationSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _faces_of_one_size(self) -> "Recipe":
        if self.training.cuda_graphs and self.augmentation.first_size is not None:
            raise ValueError("training.cuda_graphs records faces of one size; leave augmentation.first_size out")
        return self

    def votes_outputs(self) -> int:
        """How many outputs the network has for FER+'s votes: one for each kind, or none."""
        return len(VOTE_COLUMNS) if self.training.votes_weight else 0

    def with_defaults(self, defaults: Mapping[str, object]) -> "Recipe":
        """An equal recipe that also tells the values of the model's options that are not set."""
        return self.model_copy(update={"model": self.model.model_copy(update={"defaults": dict(defaults)})})

    def flat(self) -> dict[str, object]:
        """Every value that is set by the key that ``--set`` takes: ``{"seed": 0, "model.options.dropout": 0.1}``."""
        return dict(_flat(self.model_dump()))

    def _chosen(self) -> dict[str, Any]:
        # Options count as keys of [model], where they stood when the first hashes were made.
        chosen = super()._chosen()
        chosen["model"] |= chosen["model"].pop("options", {})
        return chosen


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def brought_folder(kind: str) -> Path:
    """The folder of what mien brings, ``recipes`` or ``suites``: in the package where it is installed, else beside it.

    Raises:
        MissingPathError: neither is there.
    """
    installed = Path(__file__).parent / kind
    checkout = Path(__file__).parents[2] / kind
    for folder in (installed, checkout):
        if folder.is_dir():
            return folder
    raise MissingPathError(f"no {kind} in {installed}; install mien again")


def brought(kind: str) -> dict[str, Path]:
    """Name, such as ``published/baseline_cnn``, -> file of every recipe or suite that mien brings, in order of name."""
    folder = brought_folder(kind)
    files = {str(path.relative_to(folder).with_suffix("")): path for path in folder.rglob("*.toml")}
    return {name: path for name, path in sorted(files.items()) if not path.name.startswith(BASE)}


def find_recipe(name: str, beside: Path = Path()) -> Path:
    """The recipe file at a path from ``beside``, or of a name that mien brings such as ``published/baseline_cnn``.

    Raises:
        MissingPathError: there is none; proposes the nearest and lists those that mien brings.
    """
    for path in (beside / name, brought_folder("recipes") / f"{name}.toml"):
        if path.is_file():
            return path
    known = list(brought("recipes"))
    wanted = name.removesuffix(".toml")
    near = [each for each in known if each.endswith(f"/{wanted}")] or difflib.get_close_matches(wanted, known, n=1)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise MissingPathError(f"no recipe at {beside / name}.{hint} mien brings: {', '.join(known)}")


def load_recipe(path: Path, overrides: Sequence[str] = (), source: str = "--set") -> Recipe:
    """The recipe in a TOML file, with ``a.b=value`` overrides applied in order.

    ``extends = "FILE"``, a path relative to the file or a name that mien brings, takes over the values of another
    recipe that the file does not set itself; the name is always the file's own. An override's value is read as TOML
    (``training.epochs=3``, ``model.options.batch_norm=false``); what is no TOML value is text, and ``none`` unsets.
    ``source`` names the overrides in errors that are theirs.

    Raises:
        MissingPathError: there is no such file.
        RecipeError: not TOML, files that extend each other, an unknown key, a value of the wrong type or out of range.
    """
    return load_as(Recipe, path, overrides, source)


def load_as(schema: type[S], path: Path, overrides: Sequence[str] = (), source: str = "--set") -> S:
    """What a TOML file holds as a recipe of another kind; arguments and errors as of :func:`load_recipe`."""
    tree = read_tree(path)
    for override in overrides:
        try:
            _apply(tree, override)
        except RecipeError as error:
            raise RecipeError(f"{source} {override}: {error}") from error
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        said = explain(error, schema)
        blamed = [override for override in overrides if any(_is_about(problem, override) for problem in error.errors())]
        raise RecipeError(f"{f'{source} {blamed[-1]}' if blamed else path}: {said}") from error


def _is_about(problem: Any, override: str) -> bool:
    """Whether what does not fit is the key that an override sets, or a table around it."""
    key, where = option_key(override.partition("=")[0]), ".".join(str(part) for part in problem["loc"])
    return f"{key}.".startswith(f"{where}.") or f"{where}.".startswith(f"{key}.")


def option_key(key: str) -> str:
    """The key of a recipe as ``flat`` has it: ``model.dropout`` is ``model.options.dropout``."""
    table, _, name = key.strip().partition(".")
    return f"model.options.{name}" if table == "model" and name in MOVED_OPTIONS else key.strip()


def read_tree(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a file says, over what the file says that it extends; errors as of :func:`load_recipe`."""
    if path.resolve() in extended_by:
        circle = " -> ".join(each.name for each in (*extended_by, path))
        raise RecipeError(f"expected recipes that end in one that extends no other, got {circle}; take one out")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingPathError(f"no recipe at {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: not a TOML recipe: {error}") from error
    tree.setdefault("name", path.stem)
    if isinstance(tree.get("model"), dict):
        tree["model"] = move_options(tree["model"])
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise RecipeError(f"{path}: expected the path or name of a recipe as extends, got {base!r}")
    try:
        found = find_recipe(base, path.parent)
    except MissingPathError as error:
        raise MissingPathError(f"{path} extends {base!r}: {error}") from error
    return _merged(read_tree(found, (*extended_by, path.resolve())), tree)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``, table by table."""
    both = (key for key in own.keys() & base.keys() if isinstance(own[key], dict) and isinstance(base[key], dict))
    return {**base, **own, **{key: _merged(base[key], own[key]) for key in both}}


def parse_data(overrides: Sequence[str]) -> DataSettings:
    """A ``[data]`` of overrides alone, such as ``data.size=96``.

    Raises:
        RecipeError: another key, a value of the wrong type or out of range.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        _apply(tree, override)
    try:
        return DataOnly.model_validate(tree).data
    except ValidationError as error:
        raise RecipeError(f"--set: {explain(error, DataOnly)}") from error


def parse_recipe(tree: Mapping[str, object], source: str) -> Recipe:
    """The recipe of nested values; ``source`` names them in errors.

    Raises:
        RecipeError: an unknown key, a value of the wrong type or out of range.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{source}: {explain(error, Recipe)}") from error


def to_toml(recipe: Recipe) -> str:
    """The recipe with every value spelled out, as TOML that ``load_recipe`` reads back to an equal recipe."""
    tree = recipe.model_dump()
    tree["model"]["defaults"] = recipe.model.defaults
    return "\n".join(toml_lines(tree)) + "\n"


def toml_lines(table: Mapping[str, object], path: str = "") -> Iterable[str]:
    """The lines of a nested table, without what is not set."""
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            # Numbers, texts and lists look the same in JSON and in TOML, except for JSON's escapes of rare characters.
            yield f"{key} = " + json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    for key, value in table.items():
        if value and isinstance(value, dict):
            yield f"\n[{path}{key}]"
            yield from toml_lines(value, f"{path}{key}.")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise RecipeError("expected key=value, such as training.epochs=3; give the key's whole name and a value")
    *sections, last = option_key(key).split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"expected a table as {section}, got a value, which has no keys; give its key alone")
    text = text.strip()
    try:
        tree[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tree[last] = None if text == "none" else text


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """What does not fit ``schema``: every key with what was expected and what was got."""
    return "; ".join(_explain(problem, schema) for problem in error.errors())


def _explain(problem: Any, schema: Any) -> str:
    *sections, last = [str(part) for part in problem["loc"]] or ["recipe"]
    key, message, got = ".".join([*sections, last]), str(problem["msg"]), f"got {problem['input']!r}"
    match problem["type"]:
        case "extra_forbidden":
            for section in sections:
                fields = getattr(schema, "model_fields", {})  # of a table of tables any name is one
                schema = fields[section].annotation if section in fields else get_args(schema)[-1]
            near = difflib.get_close_matches(last, schema.model_fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return f"unknown key {key!r}.{hint} Known: {', '.join(sorted(schema.model_fields))}"
        case "missing":
            return f"{key}: expected a value, got none"
        case "value_error":
            return f"{key}: {message.removeprefix('Value error, ')}"
    expected = message.removeprefix("Input should be ")
    if expected == message:
        return f"{key}: {message}, {got}"
    return f"{key}: expected {'a number ' if expected.startswith(('greater', 'less')) else ''}{expected}, {got}"
