"""An experiment with a face detector as values: what ``mien.recipe`` is for networks that name emotions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mien.recipe import (
    Experiment,
    Fraction,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    load_as,
    read_tree,
    toml_lines,
)

Side = Annotated[int, Field(ge=64, le=1024, multiple_of=32)]
Three = Annotated[tuple[int, int, int], Field(strict=False)]


class DetectorSettings(Settings):
    """A network of ``mien.models.face_detector``."""

    stem: Annotated[tuple[int, int], Field(strict=False)] = (16, 32)  # channels at strides 2 and 4
    widths: Three = (64, 64, 96)  # channels at strides 8, 16 and 32
    depths: Three = (2, 2, 1)  # residual units at strides 8, 16 and 32
    pyramid: int = Field(default=64, ge=8)  # channels of the feature pyramid and the heads


class CollageSettings(Settings):
    """What training pictures are composed of."""

    # Sides of a collage in pixels, one for each batch, which has as many pixels whatever its collages' size.
    sizes: Annotated[tuple[Side, ...], Field(strict=False, min_length=1)] = (160, 224, 320, 448)
    min_face: float = Field(default=9.0, ge=4)  # pixels: nobody says whether smaller ones should be found
    # Data specs of pictures that are one face each, such as fer2013:PATH or synthetic:2000; only Training is taken, and
    # only with a teacher, which says where in them the face lies.
    faces: Annotated[tuple[str, ...], Field(strict=False)] = ()
    faces_share: Fraction = 0.4  # how often a pasted face is one of these


class DetectorTrainingSettings(Settings):
    """How long and in which arithmetic."""

    epochs: int = Field(default=10, gt=0)  # with minutes set, the maximum
    steps: int = Field(default=250, gt=0)  # of an epoch, after which the network is validated
    minutes: float | None = Field(default=None, gt=0)  # end after this time, the schedule following the clock
    batch_size: int = Field(default=16, gt=0)  # collages of 320 pixels in a step
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    channels_last: bool = False
    teacher: str | None = None  # a YuNet file with free height and width; none: boxes by hand alone
    clip_norm: float | None = Field(default=10.0, gt=0)
    ema_decay: float = Field(default=0.999, gt=0, lt=1)  # of the average of the weights that is kept
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    patience: None = None  # a detector trains to the end

    @property
    def teacher_path(self) -> Path | None:
        """The teacher's file."""
        return None if self.teacher is None else Path(self.teacher).expanduser()


class DetectorRecipe(Experiment):
    """One experiment with a face detector; told from others by its table ``[detector]``."""

    detector: DetectorSettings
    collages: CollageSettings = CollageSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    training: DetectorTrainingSettings = DetectorTrainingSettings()

    @model_validator(mode="after")
    def _crops_need_a_teacher(self) -> "DetectorRecipe":
        if self.collages.faces and self.training.teacher is None:
            raise ValueError("collages.faces needs training.teacher, which says where in them the face lies")
        return self


def is_detector_recipe(path: Path) -> bool:
    """Whether a recipe file is that of a face detector; errors as of :func:`mien.recipe.load_recipe`."""
    return "detector" in read_tree(path)


def load_detector_recipe(path: Path, overrides: Sequence[str] = ()) -> DetectorRecipe:
    """The recipe in a TOML file; arguments and errors as of :func:`mien.recipe.load_recipe`."""
    return load_as(DetectorRecipe, path, overrides)


def detector_toml(recipe: DetectorRecipe) -> str:
    """The recipe with every value spelled out."""
    return "\n".join(toml_lines(recipe.model_dump())) + "\n"
