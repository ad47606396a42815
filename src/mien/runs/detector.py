"""Checkpoints of face detectors: weights with the recipe that rebuilds their network."""

from pathlib import Path
from typing import Any

import torch

from mien.detector_recipe import DetectorRecipe
from mien.errors import RunError, first_line
from mien.files import writing
from mien.models.face_detector import FaceDetectorNet
from mien.models.pretrained import UNREADABLE

FORMAT = "detector 1"


def save_detector(
    path: Path, recipe: DetectorRecipe, weights: dict[str, torch.Tensor], state: dict[str, Any] | None = None
) -> None:
    """Write a checkpoint whole or not at all; ``state`` is what training needs to go on.

    Raises:
        RunError: the folder cannot be written or has no room.
    """
    content = {"format": FORMAT, "recipe": recipe.model_dump(), "weights": weights, "state": state or {}}
    with writing(path, error=RunError) as file:
        torch.save(content, file)


def load_detector(path: Path) -> tuple[FaceDetectorNet, dict[str, Any]]:
    """The network of a checkpoint, on the CPU in evaluation mode, and what training needs to go on.

    Raises:
        RunError: it is missing, damaged or no detector's.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.get("format") != FORMAT:
            raise RunError(f"{path}: expected a checkpoint of a face detector, got another; give a detector's run")
        recipe = DetectorRecipe.model_validate(content["recipe"])
        network = FaceDetectorNet(**recipe.detector.model_dump())
        network.load_state_dict(content["weights"])
    except FileNotFoundError as error:
        raise RunError(f"no checkpoint at {path}: nothing has been trained there yet") from error
    except (*UNREADABLE, KeyError, AttributeError) as error:
        raise RunError(f"{path} is no readable checkpoint: {first_line(error)}") from error
    return network.eval(), content["state"]
