"""Checkpoints: weights that describe themselves, written whole or not at all."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mien.emotions import EMOTIONS
from mien.errors import RunError, RunExistsError
from mien.files import saying_what_fails, write_text, writing
from mien.models import FaceClassifier, create_classifier, model_defaults
from mien.models.pretrained import UNREADABLE
from mien.recipe import Recipe, parse_recipe, to_toml
from mien.runs.run import Run

FORMAT = 2
"""The format that is written. Format 1, whose recipe has the model's options in ``[model]`` itself, is read as well."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights that describe themselves."""

    recipe: Recipe  # how they were made; rebuilds the network
    weights: dict[str, torch.Tensor]  # tensors by name
    temperature: float = 1.0  # divides the logits before the softmax; 1 until it is fitted
    labels: tuple[str, ...] = tuple(emotion.value for emotion in EMOTIONS)  # in the order of the logits
    state: dict[str, Any] = field(default_factory=dict)  # what training needs to go on; empty in weights to be used

    def classifier(self) -> FaceClassifier:
        """The network with these weights, on the CPU, in evaluation mode.

        Raises:
            RunError: the weights are not those of the recipe's network.
        """
        votes = self.recipe.votes_outputs()
        classifier = create_classifier(self.recipe.model, len(self.labels), votes=votes, load_weights=False)
        try:
            classifier.load_state_dict(self.weights)
        except RuntimeError as error:
            raise RunError(f"the checkpoint's weights are not those of its recipe's model: {error}") from error
        return classifier.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all; it loads with ``torch.load(..., weights_only=True)``.

    Raises:
        RunError: the folder cannot be written or has no room.
    """
    content = {
        "format": FORMAT,
        "recipe": checkpoint.recipe.model_dump(),
        "labels": list(map(str, checkpoint.labels)),
        "temperature": checkpoint.temperature,
        "weights": checkpoint.weights,
        "state": checkpoint.state,
    }
    with writing(path, error=RunError) as file:
        torch.save(content, file)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        RunError: it is missing, damaged or of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"no checkpoint at {path}: nothing has been trained there yet") from error
    except UNREADABLE as error:
        raise RunError(  # without torch's own words, which advise to read it in an unsafe way
            f"{path}: expected a checkpoint of mien, got a damaged file, or one of another program; copy it again, or"
            " train again"
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found not in (1, FORMAT):
        raise RunError(f"{path}: expected a checkpoint of format 1 or {FORMAT}, got {found}; a newer mien may read it")
    return Checkpoint(
        recipe=parse_recipe(content["recipe"], source=str(path)),
        weights=content["weights"],
        temperature=content["temperature"],
        labels=tuple(content["labels"]),
        state=content["state"],
    )


def create_run(path: Path, recipe: Recipe) -> Run:
    """A new run directory, or the same one again where it holds no more than the same recipe.

    Raises:
        RunExistsError: ``path`` already holds a run.
        RunError: it cannot be written.
        UnknownNameError, RecipeError: there is no such model, or it does not take an option.
    """
    resolved = to_toml(recipe.with_defaults(model_defaults(recipe.model)))
    run = Run(path)
    if run.last_checkpoint.exists() or run.report_path.exists():
        raise RunExistsError(f"{path} already holds a run; add --resume to go on, or choose another --out")
    with saying_what_fails(path):
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        (path / "predictions").mkdir(exist_ok=True)
    write_text(run.recipe_path, resolved)
    write_text(run.metrics_path, "")
    return run
