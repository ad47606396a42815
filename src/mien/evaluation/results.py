"""What stands under ``results`` in ``report.json``: the figures of every split, from predictions alone."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.data import Protocol, Split
from mien.data.samples import Usage
from mien.evaluation.metrics import METRICS, confusion_matrix, ece, f1, precision, recall, wilson_interval
from mien.evaluation.predict import Predictions, predict_split
from mien.runs import Run, load_checkpoint

if TYPE_CHECKING:
    from mien.data import FaceSamples
    from mien.models import FaceClassifier

UNSEEN = "_unseen"
"""Ends the names of the results on pictures that have no identical copy in Training."""

TEST_SPLITS = (Split.PUBLIC_TEST, Split.PRIVATE_TEST, Split.PUBLISHED_TEST)


def evaluate_split(
    classifier: "FaceClassifier",
    samples: "FaceSamples",
    split: Split,
    *,
    protocol: Protocol,
    validation_rows: int | None = None,
    temperature: float = 1.0,
    views: int = 1,
) -> tuple[dict[str, Predictions], dict[str, dict[str, Any]]]:
    """Predict a split once, and say what its predictions show.

    ``published_test`` holds Public and Private, so it answers for these as well where the data tell them apart.

    Returns:
        split name -> predictions, and name in ``results`` -> figures (the splits', and the test splits' again on the
        pictures that have no identical copy in Training).

    Raises:
        DataError: the data do not have this split.
    """
    positions = samples.split(split, protocol, validation_rows)
    everything, uncalibrated = predict_split(classifier, samples, positions, temperature=temperature, views=views)
    masks = {split.value: np.ones(len(positions), dtype=np.bool_)}
    if split is Split.PUBLISHED_TEST:
        masks |= _parts(samples, positions)
    unseen = samples.unseen(positions)
    predictions, results = {}, {}
    for name, mask in masks.items():
        predictions[name] = everything.subset(mask)
        results[name] = figures(predictions[name], uncalibrated[mask])
        if name in TEST_SPLITS and (mask & unseen).any():
            results[name + UNSEEN] = figures(everything.subset(mask & unseen), uncalibrated[mask & unseen])
    return predictions, results


def evaluate_run(
    run: Run, samples: "FaceSamples", split: Split, *, views: int = 1, command: str = "", accelerator: str = "auto"
) -> dict[str, dict[str, Any]]:
    """Predict a split with a run's kept weights; store what it gives, and every look at a test split.

    Args:
        run: a finished run; its ``predictions``, ``report.json`` and ``looks.jsonl`` are brought up to date.
        samples: the data set that it was trained on, or another.
        split: which one.
        views: at test time, 1, 2 or 10.
        command: the command line, for ``looks.jsonl``.
        accelerator: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        name in ``results`` -> figures.

    Raises:
        RunError: the run is not finished.
        DataError: the data do not have this split.
    """
    import torch

    report, checkpoint = run.report(), load_checkpoint(run.best_checkpoint)
    use_cuda = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    predictions, results = evaluate_split(
        checkpoint.classifier().to("cuda" if use_cuda else "cpu"),
        samples,
        split,
        protocol=Protocol(checkpoint.recipe.data.protocol),
        validation_rows=checkpoint.recipe.data.validation_rows,
        temperature=checkpoint.temperature,
        views=views,
    )
    for name, stored in predictions.items():
        stored.save(run.predictions_path(name))
        if name in TEST_SPLITS:
            run.note_look(name, command)
    for found in results.values():
        found["views"] = views
    run.write_report({**report, "results": {**report["results"], **results}})
    return results


def figures(predictions: Predictions, uncalibrated: NDArray[np.float32] | None = None) -> dict[str, Any]:
    """The figures of one split, as they stand in ``report.json``; rates are fractions in [0, 1].

    Args:
        predictions: calibrated.
        uncalibrated: probabilities at temperature 1, ``(N, 7)``, where they are known.
    """
    labels, probabilities = predictions.label, predictions.probabilities
    correct = int(np.count_nonzero(probabilities.argmax(1) == labels))
    found: dict[str, Any] = {"n": len(predictions)}
    found |= {name: metric(labels, probabilities) for name, metric in METRICS.items()}
    found["accuracy_ci95"] = list(wilson_interval(correct, len(predictions)))
    if uncalibrated is not None:
        found["ece_uncalibrated"] = ece(labels, uncalibrated)
        found["nll_uncalibrated"] = METRICS["nll"](labels, uncalibrated)
    found["precision"] = precision(labels, probabilities).tolist()
    found["recall"] = recall(labels, probabilities).tolist()
    found["f1"] = f1(labels, probabilities).tolist()
    found["confusion"] = confusion_matrix(labels, probabilities).tolist()
    return found


def _parts(samples: "FaceSamples", positions: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Public and Private as masks over the positions of ``published_test``, where they are told apart."""
    usages = samples.usages[positions]
    if (usages == Usage.TEST).any():
        return {}
    masks = {
        Split.PUBLIC_TEST.value: usages == Usage.PUBLIC_TEST,
        Split.PRIVATE_TEST.value: usages == Usage.PRIVATE_TEST,
    }
    return {name: mask for name, mask in masks.items() if mask.any()}
