"""The networks of a training: its own with its first weights, and earlier ones that it starts from or learns from."""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from mien import errors, models
from mien.data import FaceSamples
from mien.data.samples import Fold
from mien.emotions import EMOTIONS
from mien.evaluation import predictor
from mien.face import network as onnx
from mien.recipe import CHECKPOINT, DataSettings, ModelSettings, Recipe, TrainingSettings, load_recipe
from mien.runs import Run, checkpoint
from mien.runs.learnt import UNKNOWN, Learnt, learnt_by, training_of
from mien.training.engine import Teacher

logger = logging.getLogger(__name__)


def check_inputs(
    model: ModelSettings, training: TrainingSettings, votes: NDArray[np.uint8] | None, awaited: Collection[Path] = ()
) -> None:
    """Refuse a recipe whose votes or earlier runs are not at hand, before any process or other training begins.

    Args:
        model: the recipe's ``[model]``.
        training: the recipe's ``[training]``.
        votes: FER+'s votes, where they were given.
        awaited: checkpoints that may still be missing: those of other rows of a study.

    Raises:
        RecipeError: it asks for votes, and none were given.
        MissingPathError: there is no such checkpoint or ONNX file.
        UnknownNameError: a teacher is neither a file nor a network in the package.
    """
    if training.votes_weight and votes is None:
        raise errors.RecipeError(
            "training.votes_weight: expected FER+'s votes, got none; give --votes fer2013new.csv, or set it to 0"
        )
    start = [] if model.checkpoint is None else [model.checkpoint]
    for path in [*_teacher_files(training.teachers), *start]:
        if not path.is_file() and path.resolve() not in awaited:
            raise errors.MissingPathError(
                f"expected the best.ckpt of an earlier run, got no file {path}; train that run first, or mend the path"
            )


def check_channels(model: ModelSettings, samples: FaceSamples) -> None:
    """Refuse pictures in colour for a network that takes one channel.

    Raises:
        RecipeError: so it is.
    """
    if samples.in_chans > model.in_chans:
        raise errors.RecipeError(
            f"model.in_chans: expected 3 for pictures in colour, got {model.in_chans}; give --set model.in_chans=3, or"
            " --set data.color=false for grey ones"
        )


def create_network(
    settings: ModelSettings,
    data: DataSettings,
    votes: int = 0,
    first_size: int | None = None,
    classes: tuple[str, ...] = EMOTIONS,
) -> models.FaceClassifier:
    """The network of a recipe on the CPU, with its first weights.

    Of an earlier run that was trained for other classes, all weights are taken but those of the classes, which begin
    anew; a warning says so.

    Args:
        settings: the recipe's ``[model]``.
        data: the recipe's ``[data]``, which an earlier run that gives the weights must share.
        votes: outputs for FER+'s votes, beside those of the classes.
        first_size: side in pixels at which faces begin to grow, if they do.
        classes: what it names.

    Raises:
        UnknownNameError: no such model.
        ModelError: weights that do not fit.
        RecipeError: an option that the model does not take, weights of another split, or growing faces for a network
            that takes one size only.
        RunError: the run that gives the weights cannot be read.
    """
    start = settings.checkpoint
    classifier = models.create_classifier(settings, len(classes), votes=votes, load_weights=start is None)
    if start is not None:
        earlier, own = _load_earlier(start, data), classifier.state_dict()
        weights = earlier.weights
        if earlier.labels != classes:
            logger.warning(
                "%s was trained to name %s: its last layer begins anew", start, ", ".join(map(str, earlier.labels))
            )
            weights = {**weights, **{key: own[key] for key in _of_classes(settings, own, len(classes) + votes)}}
        models.check_fits(start, settings.name, expected=own, got=weights)
        classifier.load_state_dict(weights)
    models.check_takes_faces(classifier, settings)
    if first_size is not None:
        _check_sizes(classifier, settings, first_size)
    return classifier


def _of_classes(settings: ModelSettings, own: Mapping[str, Tensor], outputs: int) -> list[str]:
    """Names of the weights in ``own`` whose shape follows from the number of ``outputs``."""
    more = models.create_classifier(settings, outputs + 1, load_weights=False).state_dict()
    return [key for key, weight in own.items() if weight.shape != more[key].shape]


def _check_sizes(classifier: models.FaceClassifier, model: ModelSettings, first_size: int) -> None:
    """Refuse faces that grow during training where the network takes one size only."""
    full = model.input_size
    if first_size > full:
        raise errors.RecipeError(
            f"augmentation.first_size: expected at most model.input_size, which is {full}, got {first_size}; lower it"
        )
    classifier.eval()
    try:
        with torch.no_grad():
            classifier(torch.zeros(1, 1, first_size, first_size))
    except (AssertionError, RuntimeError) as error:
        raise errors.RecipeError(
            f"augmentation.first_size: expected none, as {model.name} takes faces of {full} pixels only,"
            f" got {first_size}; leave it out"
        ) from error


def load_teachers(
    settings: TrainingSettings, data: DataSettings, device: torch.device, classes: tuple[str, ...] = EMOTIONS
) -> list[Teacher]:
    """The networks that a recipe learns from; checkpoints compute on ``device``, ONNX files on the processor.

    Raises:
        RunError, RecipeError, ModelError: one cannot be read, or was trained on another split or other classes.
    """
    teachers: list[Teacher] = []
    for name in settings.teachers:
        if name.endswith(CHECKPOINT):
            earlier = _load_earlier(Path(name), data)
            _check_classes(Path(name), earlier.labels, classes)
            classifier = earlier.classifier().to(device)
            if data.color and classifier.in_chans == 1:
                raise _grey_teacher(name)
            if settings.channels_last:
                classifier = classifier.to(memory_format=torch.channels_last)
            teachers.append(classifier_teacher(classifier))
        else:
            teachers.append(_onnx_teacher(name, data, classes))
    return teachers


def teacher_hashes(teachers: Sequence[str]) -> list[str]:
    """SHA-256 of each teacher's file: ``base`` is another network in another version of the package."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in _teacher_files(teachers)]


def learnt_from(recipe: Recipe, samples: FaceSamples, data_sha256: str) -> Learnt:
    """The pictures behind a training's weights: Training's, and those that teachers and a start had learnt from.

    Of a start from a file that mien did not write, nothing is known. ImageNet's weights by name had no such pictures.
    """
    start = [] if recipe.model.checkpoint is None else [recipe.model.checkpoint]
    files = [*start, *_teacher_files(recipe.training.teachers)]
    earlier = [_learnt_earlier(path, recipe.data, data_sha256, samples) for path in files]
    brought = [UNKNOWN] if recipe.model.initialization == "file" else []
    return training_of(samples).with_others([*earlier, *brought])


def _learnt_earlier(path: Path, data: DataSettings, data_sha256: str, samples: FaceSamples) -> Learnt:
    """What the network in a checkpoint of a run, or in an ONNX file, learnt from.

    Copies of pictures that were stored in another size or colour cannot be found, so these are not all.
    """
    if path.suffix != CHECKPOINT:
        earlier = predictor.OnnxPredictor(onnx.EmotionNetwork(path))
        stored_alike = (earlier.network.size, earlier.network.color) == (samples.size, samples.color)
        return Learnt(earlier.learnt.hashes, earlier.learnt.is_complete and stored_alike)
    run = Run(path.parent.parent)
    if not run.report_path.exists():
        return UNKNOWN
    if run.learnt_path.exists():
        found = learnt_by(run)
        return Learnt(found.hashes, found.is_complete and load_recipe(run.recipe_path).data == data)
    # From before hashes were kept: it is known to have seen nothing else where it learnt from these data alone.
    report = run.load_report()
    is_alone = report.teachers_sha256 is None and report.initialization not in ("checkpoint", "file")
    return Learnt(UNKNOWN.hashes, is_complete=report.data_sha256 == data_sha256 and is_alone)


def _teacher_files(teachers: Sequence[str]) -> list[Path]:
    """The checkpoint, which may be missing, or the ONNX file of each teacher."""
    return [Path(name) if name.endswith(CHECKPOINT) else onnx.model_file(name) for name in teachers]


def classifier_teacher(classifier: models.FaceClassifier) -> Teacher:
    """A PyTorch network, in evaluation mode."""
    return lambda faces: F.softmax(classifier(classifier.resize(faces)).float(), 1)


def _onnx_teacher(name: str, data: DataSettings, classes: tuple[str, ...]) -> Teacher:
    """An ONNX file, which takes whole grey levels; refused where it does not say that its split is this one."""
    if data.color:
        raise _grey_teacher(name)
    network = onnx.EmotionNetwork(name, threads=torch.get_num_threads())
    _check_classes(network.path, network.classes, classes)
    earlier = predictor.OnnxPredictor(network)
    said = {key: network.metadata[key] for key in predictor.SPLIT if key in network.metadata}
    fold = None if data.fold is None else Fold(data.fold, data.folds)
    split = (earlier.protocol, earlier.validation_rows, earlier.fold, earlier.group)
    if "protocol" not in said or split != (data.protocol, data.validation_rows, fold, data.group):
        told = " ".join(f"{key} {value}" for key, value in said.items())
        raise _other_split(network.path, told or "a split of which it does not tell", data)
    temperature = earlier.temperature or 1.0

    def answer(faces: Tensor) -> Tensor:
        size = (network.size, network.size)
        resized = F.interpolate(faces.float(), size=size, mode="bilinear", align_corners=False)  # (N, 1, S, S)
        levels = (255 * resized).round().clamp(0, 255).to(torch.uint8)[:, 0].cpu().numpy()  # (N, S, S)
        found = predictor.uncalibrated(network.probabilities(levels), temperature)
        return torch.from_numpy(found).to(faces.device)

    return answer


def _grey_teacher(name: str) -> errors.RecipeError:
    return errors.RecipeError(
        f"training.teachers: expected teachers that take faces in colour, got {name}, which takes grey ones; give the"
        " best.ckpt of a run in colour, or --set data.color=false"
    )


def _load_earlier(path: Path, data: DataSettings) -> checkpoint.Checkpoint:
    """A checkpoint of an earlier run, refused where its split was another."""
    earlier = checkpoint.load_checkpoint(path)
    if not earlier.recipe.data.same_split(data):
        raise _other_split(path, str(earlier.recipe.data), data)
    return earlier


def _check_classes(path: Path, got: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Refuse a teacher for other classes: its answers are no distribution over these."""
    if got != expected:
        raise errors.ModelError(
            f"{path}: expected a teacher for the classes of the data, {', '.join(expected)}, got one for"
            f" {', '.join(got)}; take another, or start from its weights: --set model.weights=RUN/checkpoints/best.ckpt"
        )


def _other_split(path: Path, trained_with: str, data: DataSettings) -> errors.RecipeError:
    return errors.RecipeError(
        f"{path}: expected a network trained with {data}, got one trained with {trained_with}: what it learnt from may"
        " stand in the test split here; give both the same [data]"
    )
