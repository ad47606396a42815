"""The end of a training: the temperature, the stored validation predictions, and the report."""

from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from mien.data import FaceSamples, Split
from mien.evaluation.calibration import fit_temperature
from mien.evaluation.predict import Predictions, predict_logits, probabilities_of
from mien.evaluation.results import ferplus_results, figures
from mien.recipe import ModelSettings, Recipe
from mien.runs import Checkpoint, Run, load_checkpoint, save_checkpoint
from mien.training.facts import describe_network, describe_place
from mien.training.norm import reestimate_norm
from mien.training.progress import Counters
from mien.training.start import Splits, choose_precision


def finish_run(
    run: Run,
    recipe: Recipe,
    samples: FaceSamples,
    splits: Splits,
    counters: Counters,
    fabric: Fabric,
    command: str,
    votes: NDArray[np.uint8] | None,
    teachers_sha256: list[str],
) -> None:
    """Settle batch norm where the recipe asks for it, calibrate, store validation's predictions and write the report.

    Done again after an interruption, it writes the same. ``votes`` ``(N, 10)`` are FER+'s, on each of ``samples``;
    ``teachers_sha256`` are of the files that were learnt from.
    """
    checkpoint = load_checkpoint(run.best_checkpoint)
    classifier = checkpoint.classifier().to(fabric.device)
    if recipe.training.precise_norm:
        faces = torch.from_numpy(np.array(samples.images[splits.training])).unsqueeze(1)
        reestimate_norm(classifier, faces.to(fabric.device))
    positions = splits.validation
    logits = predict_logits(classifier, samples.images[positions])  # (1, N, K)
    temperature = fit_temperature(logits[0], samples.labels[positions])
    save_checkpoint(run.best_checkpoint, Checkpoint(recipe, classifier.state_dict(), temperature))
    calibrated = probabilities_of(logits, temperature)
    predictions = Predictions(samples.rows[positions], samples.labels[positions], calibrated)
    predictions.save(run.predictions_path(Split.VALIDATION))
    name = Split.VALIDATION.value
    results = {name: figures(predictions, probabilities_of(logits))}
    if votes is not None:
        results |= ferplus_results(name, predictions, votes[positions])
    run.write_report(
        {
            **_experiment(recipe, samples, splits, teachers_sha256),
            "precision": choose_precision(recipe.training.precision, fabric.device.type),
            "temperature": temperature,
            **describe_network(classifier),
            **_training(recipe, counters),
            **describe_place(fabric.device, fabric.world_size),
            "command": command,
            "views": 1,
            "results": results,
        }
    )


def _experiment(recipe: Recipe, samples: FaceSamples, splits: Splits, teachers_sha256: list[str]) -> dict[str, Any]:
    """What was tried, on which faces."""
    return {
        "model": recipe.model.name,
        "recipe": recipe.name,
        "recipe_sha256": recipe.sha256(),
        **({"teachers_sha256": teachers_sha256} if teachers_sha256 else {}),
        "data": samples.name,
        "data_sha256": samples.content_sha256(),
        "row_source": samples.row_source.value,
        "skipped": len(samples.skipped),
        "protocol": recipe.data.protocol,
        **({} if recipe.data.fold is None else {"fold": recipe.data.fold, "folds": recipe.data.folds}),
        "training_rows": len(splits.training),
        "weights": recipe.training.weights,
        "initialization": _initialization(recipe.model),
        "seed": recipe.seed,
        "input_size": recipe.model.input_size,
    }


def _initialization(model: ModelSettings) -> str:
    if model.checkpoint is not None:
        return "checkpoint"
    return model.weights if model.weights in ("scratch", "imagenet") else "file"


def _training(recipe: Recipe, counters: Counters) -> dict[str, Any]:
    """How long it took, and the energy where the machine tells it; ``best_epoch`` counts from 1."""
    return {
        "epochs": counters.epoch,
        "best_epoch": None if counters.best_epoch is None else counters.best_epoch + 1,
        "batch_size": recipe.training.batch_size,
        "train_seconds": counters.seconds,
        "pictures_per_second": counters.pictures / max(counters.seconds, 1e-9),
        "energy_joules": counters.energy_joules,
        "energy_source": counters.energy_source,
    }
