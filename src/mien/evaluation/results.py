"""What stands under ``results`` in ``report.json``: the figures of every split, from predictions alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.data import Protocol, Split
from mien.data.samples import Usage
from mien.errors import RunExistsError
from mien.evaluation.metrics import METRICS, confusion_matrix, ece, f1, precision, recall, wilson_interval
from mien.evaluation.predict import Predictions, predict_logits, predict_split, probabilities_of
from mien.evaluation.robustness import robustness_card, store_card
from mien.runs import Checkpoint, Run, load_checkpoint, saying_what_fails

if TYPE_CHECKING:
    from mien.data import FaceSamples
    from mien.models import FaceClassifier

UNSEEN = "_unseen"
"""Ends the names of the results on pictures that have no identical copy in Training."""

TEST_SPLITS = (Split.PUBLIC_TEST, Split.PRIVATE_TEST, Split.PUBLISHED_TEST)

Predict = Callable[[NDArray[np.int64]], tuple[Predictions, NDArray[np.float32] | None]]
"""Positions ``(M,)`` -> calibrated predictions and, where they are known, uncalibrated probabilities ``(M, 7)``."""


def evaluate_split(
    predict: Predict,
    samples: "FaceSamples",
    split: Split,
    *,
    protocol: Protocol,
    validation_rows: int | None = None,
    views: int = 1,
) -> tuple[dict[str, Predictions], dict[str, dict[str, Any]]]:
    """Predict a split once, and say what its predictions show.

    ``published_test`` holds Public and Private, so it answers for these as well where the data tell them apart.

    Args:
        predict: a network.
        samples: the data set.
        split: which of its faces.
        protocol: decides what ``training`` and ``validation`` are.
        validation_rows: as ``FaceSamples.split`` takes them.
        views: that ``predict`` averages; stands in the results.

    Returns:
        split name -> predictions, and name in ``results`` -> figures (the splits', and the test splits' again on the
        pictures that have no identical copy in Training).

    Raises:
        DataError: the data do not have this split.
    """
    positions = samples.split(split, protocol, validation_rows)
    everything, uncalibrated = predict(positions)
    masks = {split.value: np.ones(len(positions), dtype=np.bool_)}
    if split is Split.PUBLISHED_TEST:
        masks |= _parts(samples, positions)
    unseen = samples.unseen(positions)
    predictions, results = {}, {}
    for name, mask in masks.items():
        predictions[name] = everything.subset(mask)
        results[name] = figures(predictions[name], None if uncalibrated is None else uncalibrated[mask])
        if name in TEST_SPLITS and (mask & unseen).any():
            rest = mask & unseen
            without = None if uncalibrated is None else uncalibrated[rest]
            results[name + UNSEEN] = figures(everything.subset(rest), without)
    for found in results.values():
        found["views"] = views
    return predictions, results


def evaluate_run(
    run: Run,
    samples: "FaceSamples",
    split: Split,
    *,
    views: int = 1,
    command: str = "",
    accelerator: str = "auto",
    out: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Predict a split with a run's kept weights; store what it gives, and every look at a test split.

    Args:
        run: a finished run; its ``looks.jsonl`` is brought up to date.
        samples: the data set that it was trained on, or another.
        split: which one.
        views: at test time, 1, 2 or 10.
        command: the command line, for ``looks.jsonl``.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        out: folder for predictions and report; by default the run's own are brought up to date.

    Returns:
        name in ``results`` -> figures.

    Raises:
        RunError: the run is not finished.
        RunExistsError: ``out`` holds figures of something else.
        DataError: the data do not have this split.
    """
    report, checkpoint = run.report(), load_checkpoint(run.best_checkpoint)
    target = run if out is None or out.resolve() == run.path.resolve() else Run(out)
    check_free(target, report)
    classifier = _placed(checkpoint, accelerator)
    predictions, results = evaluate_split(
        lambda positions: predict_split(
            classifier, samples, positions, temperature=checkpoint.temperature, views=views
        ),
        samples,
        split,
        protocol=Protocol(checkpoint.recipe.data.protocol),
        validation_rows=checkpoint.recipe.data.validation_rows,
        views=views,
    )
    for place in {run, target}:
        note_looks(place, predictions, command, run.best_checkpoint)
    store(target, report, predictions, results)
    return results


def run_robustness(
    run: Run, samples: "FaceSamples", *, accelerator: str = "auto", out: Path | None = None
) -> dict[str, Any]:
    """How the accuracy of a run's kept weights on validation falls as pictures get worse.

    Args:
        run: a finished run.
        samples: the data set that it was trained on.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        out: folder for ``robustness.json``; by default the run's own.

    Returns:
        as ``robustness.robustness_card``.
    """
    checkpoint = load_checkpoint(run.best_checkpoint)
    classifier, settings = _placed(checkpoint, accelerator), checkpoint.recipe.data
    positions = samples.split(Split.VALIDATION, Protocol(settings.protocol), settings.validation_rows)
    card = robustness_card(
        lambda faces: probabilities_of(predict_logits(classifier, faces), checkpoint.temperature),
        samples.images[positions],
        samples.labels[positions],
    )
    store_card(run.path if out is None else out, card)
    return card


def _placed(checkpoint: Checkpoint, accelerator: str) -> "FaceClassifier":
    """The checkpoint's network on the device that is asked for."""
    import torch

    use_cuda = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    return checkpoint.classifier().to("cuda" if use_cuda else "cpu")


def check_free(target: Run, report: dict[str, Any]) -> None:
    """Make sure that figures of ``report``'s network may be stored in ``target``.

    Raises:
        RunExistsError: it holds figures of something else.
    """
    if target.report_path.exists() and {**target.report(), "results": None} != {**report, "results": None}:
        raise RunExistsError(f"{target.path} holds figures of another network or of other data; choose another --out")


def note_looks(target: Run, predictions: Mapping[str, Predictions], command: str, weights: Path) -> None:
    """Note in ``target`` each test split that was predicted with a file's ``weights``."""
    with saying_what_fails(target.path):
        target.path.mkdir(parents=True, exist_ok=True)
    for name in predictions:
        if name in TEST_SPLITS:
            target.note_look(name, command, weights)


def store(target: Run, report: dict[str, Any], predictions: Mapping[str, Predictions], results: dict[str, Any]) -> None:
    """Write predictions into a folder, and ``report`` with the figures of all that the folder holds."""
    for name, stored in predictions.items():
        stored.save(target.predictions_path(name))
    before = target.report()["results"] if target.report_path.exists() else {}
    target.write_report({**report, "results": {**before, **results}})


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
