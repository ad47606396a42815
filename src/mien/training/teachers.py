"""Earlier networks that a training learns from: checkpoints of runs, and ONNX files such as those in the package."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from mien.errors import RecipeError
from mien.evaluation.network import temperature_of, validation_of
from mien.evaluation.predict import uncalibrated
from mien.face.network import EmotionNetwork, model_file
from mien.models import FaceClassifier
from mien.recipe import CHECKPOINT, DataSettings, Recipe
from mien.training.start import load_earlier

Teacher = Callable[[Tensor], Tensor]
"""Faces of any size, float ``(N, 1, H, W)`` in [0, 1], to probabilities before any temperature, ``(N, K)``."""


def load_teachers(recipe: Recipe, device: torch.device) -> list[Teacher]:
    """The networks that a recipe learns from; checkpoints compute on ``device``, ONNX files on the processor.

    Raises:
        RunError, RecipeError, ModelError: as ``start.load_earlier`` and ``face.EmotionNetwork``.
    """
    return [_load(name, recipe, device) for name in recipe.training.teachers]


def teacher_hashes(recipe: Recipe) -> list[str]:
    """SHA-256 of each teacher's file: ``base`` is another network in another version of the package."""
    return [hashlib.sha256(model_file(name).read_bytes()).hexdigest() for name in recipe.training.teachers]


def _load(name: str, recipe: Recipe, device: torch.device) -> Teacher:
    if name.endswith(CHECKPOINT):
        classifier = load_earlier(Path(name), recipe).classifier().to(device)
        if recipe.training.channels_last:
            classifier = classifier.to(memory_format=torch.channels_last)
        return of_classifier(classifier)
    network = EmotionNetwork(name, threads=torch.get_num_threads())
    _check_split(network, recipe.data)
    return of_network(network)


def of_classifier(classifier: FaceClassifier) -> Teacher:
    """A network of ours, in evaluation mode."""
    return lambda faces: F.softmax(classifier(classifier.resize(faces)).float(), 1)


def of_network(network: EmotionNetwork) -> Teacher:
    """An ONNX file, which takes whole grey levels and answers on the processor."""
    temperature = temperature_of(network) or 1.0

    def answer(faces: Tensor) -> Tensor:
        size = (network.size, network.size)
        resized = F.interpolate(faces.float(), size=size, mode="bilinear", align_corners=False)  # (N, 1, S, S)
        levels = (255 * resized).round().clamp(0, 255).to(torch.uint8)[:, 0].cpu().numpy()  # (N, S, S)
        found = uncalibrated(network.probabilities(levels), temperature)
        return torch.from_numpy(found).to(faces.device)

    return answer


def _check_split(network: EmotionNetwork, data: DataSettings) -> None:
    """Refuse a file that may have learnt from what is validation or a test here.

    Raises:
        RecipeError: it was trained on another split, or does not say on which; no file has held out a fold.
    """
    protocol, rows = validation_of(network)
    if "protocol" not in network.metadata or (protocol, rows, None) != (data.protocol, data.validation_rows, data.fold):
        raise RecipeError(
            f"{network.path} was trained with protocol {network.metadata.get('protocol', 'unknown')}, this recipe has"
            f" {data}: what it learnt from may stand in the test split here; give both the same [data]"
        )
