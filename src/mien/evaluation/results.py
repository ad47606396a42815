"""What stands under ``results`` in ``report.json``: the figures of every split, from predictions alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.data import Split, unseen_rows
from mien.data.ferplus import emotion_shares, emotion_votes, majority_labels
from mien.data.samples import RowSource, Usage
from mien.errors import DataError, RunExistsError
from mien.evaluation.metrics import (
    METRICS,
    class_rates,
    confusion_matrix,
    cross_entropy_of_each,
    ece,
    kl_divergence_of_each,
    wilson_interval,
)
from mien.evaluation.predict import (
    Predictions,
    device_type,
    load_predictions,
    predict_logits,
    predict_split,
    probabilities_of,
    uncalibrated,
)
from mien.evaluation.robustness import robustness_card, store_card
from mien.evaluation.significance import bootstrap_intervals
from mien.runs import Checkpoint, Run, load_checkpoint, saying_what_fails

if TYPE_CHECKING:
    from mien.data import FaceSamples
    from mien.models import FaceClassifier

UNSEEN = "_unseen"
"""Ends the names of the results on pictures that have no identical copy in Training."""

FERPLUS = "_ferplus"
"""Ends the names of the results on the same pictures with FER+'s labels."""

TEST_SPLITS = (Split.PUBLIC_TEST, Split.PRIVATE_TEST, Split.PUBLISHED_TEST)

Predict = Callable[[NDArray[np.int64]], tuple[Predictions, NDArray[np.float32] | None]]
"""Positions ``(M,)`` -> calibrated predictions and, where they are known, uncalibrated probabilities ``(M, 7)``."""


def evaluate_split(
    predict: Predict,
    samples: "FaceSamples",
    split: Split,
    positions: NDArray[np.int64],
    *,
    views: int = 1,
    votes: NDArray[np.uint8] | None = None,
) -> tuple[dict[str, Predictions], dict[str, dict[str, Any]]]:
    """Predict a split once, and say what its predictions show.

    ``published_test`` holds Public and Private, so it answers for these as well where the data tell them apart.

    Args:
        predict: a network.
        samples: the data set.
        split: which of its faces.
        positions: of these faces, ``(M,)``.
        views: that ``predict`` averages; stands in the results.
        votes: uint8 ``(N, 10)``, FER+'s votes on each of ``samples``, from ``data.votes_on``.

    Returns:
        split name -> predictions, and name in ``results`` -> figures: the splits'; the test splits' on the pictures
        that have no identical copy in Training; and, given votes, the splits' with FER+'s labels.
    """
    everything, before_temperature = predict(positions)
    masks = {split.value: np.ones(len(positions), dtype=np.bool_)}
    if split is Split.PUBLISHED_TEST:
        masks |= _parts(samples, positions)
    unseen = samples.unseen(positions)
    predictions: dict[str, Predictions] = {}
    results: dict[str, dict[str, Any]] = {}
    for name, mask in masks.items():
        predictions[name] = everything.subset(mask)
        before = None if before_temperature is None else before_temperature[mask]
        results |= split_results(name, predictions[name], before, unseen[mask])
        if votes is not None:
            results |= ferplus_results(name, predictions[name], votes[positions][mask])
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
    votes: NDArray[np.uint8] | None = None,
) -> dict[str, dict[str, Any]]:
    """Predict a split with a run's kept weights; store what it gives, and every look at a test split.

    Args:
        run: a finished run; its ``looks.jsonl`` is brought up to date.
        samples: the data set that it was trained on, or another.
        split: which one.
        views: at test time, 1, 2 or 10.
        command: the command line, for ``looks.jsonl``.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        out: folder for predictions and report; by default the run's own are brought up to date, and other data than
            the run's need one.
        votes: as :func:`evaluate_split` takes them.

    Returns:
        name in ``results`` -> figures.

    Raises:
        RunError: the run is not finished.
        RunExistsError: ``out`` holds figures of something else; the run's own are those of the data it was trained on.
        DataError: the data do not have this split.
    """
    report, checkpoint = about_data(run.report(), samples), load_checkpoint(run.best_checkpoint)
    target = run if out is None or out.resolve() == run.path.resolve() else Run(out)
    check_free(target, report)
    classifier = _placed(checkpoint, accelerator)
    predictions, results = evaluate_split(
        lambda positions: predict_split(
            classifier, samples, positions, temperature=checkpoint.temperature, views=views
        ),
        samples,
        split,
        samples.split_for(split, checkpoint.recipe.data),
        views=views,
        votes=votes,
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
    classifier = _placed(checkpoint, accelerator)
    positions = samples.split_for(Split.VALIDATION, checkpoint.recipe.data)
    card = robustness_card(
        lambda faces: probabilities_of(predict_logits(classifier, faces), checkpoint.temperature),
        samples.images[positions],
        samples.labels[positions],
    )
    store_card(run.path if out is None else out, card)
    return card


def _placed(checkpoint: Checkpoint, accelerator: str) -> "FaceClassifier":
    """The checkpoint's network on the device that is asked for, ready for many faces."""
    import torch

    from mien.models.memory import keep_freed_memory

    device, channels_last = device_type(accelerator), checkpoint.recipe.training.channels_last
    if device == "cpu":
        keep_freed_memory()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return checkpoint.classifier().to(device).to(memory_format=layout)


def about_data(report: dict[str, Any], samples: "FaceSamples") -> dict[str, Any]:
    """A network's report, with the data that its figures will be of in place of others that it was trained on."""
    sha256 = samples.content_sha256()
    if report.get("data_sha256") == sha256:
        return report
    trained_on = {"trained_on": report["data"]} if "data" in report else {}
    return {
        **report,
        **trained_on,
        "data": samples.name,
        "data_sha256": sha256,
        "row_source": samples.row_source.value,
        "skipped": len(samples.skipped),
    }


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
    """Write predictions into a folder, and ``report`` with the figures of all that the folder holds.

    Figures of predictions that these replace go, those of their unseen pictures and of FER+'s labels too.
    """
    for name, stored in predictions.items():
        stored.save(target.predictions_path(name))
    before = target.report()["results"] if target.report_path.exists() else {}
    replaced = {name + view for name in predictions for view in ("", UNSEEN, FERPLUS)}
    kept = {name: found for name, found in before.items() if name not in replaced or name in results}
    target.write_report({**report, "results": {**kept, **results}})


def renew(run: Run, votes: NDArray[np.uint8] | None = None, command: str = "") -> dict[str, Any]:
    """Compute the ``results`` of a report anew from stored predictions alone, and write them into it.

    What does not follow from them stays as it was: splits without stored predictions, the number of views, figures
    before the temperature of several views, and of other data than FER-2013 the figures on unseen pictures.

    Args:
        run: a run directory, or a folder of results; needs no weights and no pictures.
        votes: uint8 ``(35887, 10)``, from ``data.read_votes``: adds the FER+ view of every split, and a line to
            ``looks.jsonl`` for every test split.
        command: the command line, for ``looks.jsonl``.

    Returns:
        name in ``results`` -> figures.

    Raises:
        RunError: the run is not finished.
        DataError: stored predictions are damaged, or votes came for other data than FER-2013.
    """
    report = run.report()
    is_indexed = report.get("row_source") == RowSource.INDEX
    if votes is not None and not is_indexed:
        raise DataError(f"{run.path}: FER+'s votes are on rows of FER-2013; its rows are those of {report['data']}")
    results = dict(report["results"])
    for name in [split for split in Split if split in results and run.predictions_path(split).exists()]:
        predictions = load_predictions(run.predictions_path(name))
        is_known = is_indexed and name + UNSEEN in results
        is_exact = "temperature" in report and results[name].get("views", report.get("views")) == 1
        before = uncalibrated(predictions.probabilities, report["temperature"]) if is_exact else None
        fresh = split_results(name.value, predictions, before, unseen_rows(predictions.row) if is_known else None)
        if votes is not None:
            fresh |= ferplus_results(name, predictions, votes[predictions.row])
            if name in TEST_SPLITS:
                run.note_look(name, command, run.predictions_path(name))
        views = {key: results[name][key] for key in ("views",) if key in results[name]}
        results |= {key: {**results.get(key, views), **found} for key, found in fresh.items()}
    run.write_report({**report, "results": results})
    return results


def split_results(
    split: str,
    predictions: Predictions,
    before_temperature: NDArray[np.float32] | None = None,
    unseen: NDArray[np.bool_] | None = None,
) -> dict[str, dict[str, Any]]:
    """The figures of a split and, of test pictures, of those that have no identical copy in Training.

    Args:
        split: its name.
        predictions: calibrated.
        before_temperature: uncalibrated probabilities, ``(N, 7)``, where they are known.
        unseen: which of the pictures have no copy, ``(N,)``, where it is known.
    """
    found = {split: figures(predictions, before_temperature)}
    if split in TEST_SPLITS and unseen is not None and unseen.any():
        before = None if before_temperature is None else before_temperature[unseen]
        found[split + UNSEEN] = figures(predictions.subset(unseen), before)
    return found


def figures(
    predictions: Predictions,
    before_temperature: NDArray[np.float32] | None = None,
    losses: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[str, Any]:
    """The figures of one split, as they stand in ``report.json``; rates are fractions in [0, 1].

    ``<name>_ci95`` is the 95 % interval of ``<name>``: Wilson's for the accuracy, by bootstrap for all others.

    Args:
        predictions: calibrated.
        before_temperature: uncalibrated probabilities, ``(N, 7)``, where they are known.
        losses: name -> a loss of each picture ``(N,)``, whose mean is to stand there too.
    """
    labels, probabilities = predictions.label, predictions.probabilities
    found: dict[str, Any] = {"n": len(predictions)}
    found |= {name: metric(labels, probabilities) for name, metric in METRICS.items()}
    found |= {name: float(values.mean()) for name, values in (losses or {}).items()}
    if before_temperature is not None:
        found["ece_uncalibrated"] = ece(labels, before_temperature)
        found["nll_uncalibrated"] = METRICS["nll"](labels, before_temperature)
    counts = confusion_matrix(labels, probabilities)
    found |= {name: rates.tolist() for name, rates in class_rates(counts).items()}
    intervals = bootstrap_intervals(labels, probabilities, losses)
    intervals["accuracy"] = list(wilson_interval(int(counts.trace()), len(predictions)))
    found |= {f"{name}_ci95": bounds for name, bounds in intervals.items()}
    found["confusion"] = counts.tolist()
    return found


def ferplus_figures(predictions: Predictions, votes: NDArray[np.uint8]) -> dict[str, Any]:
    """The figures of the same pictures with FER+'s labels, :func:`data.ferplus.majority_labels`.

    Besides those of :func:`figures` there are ``cross_entropy`` and ``kl_divergence``, in nats, from the shares of the
    votes for the seven emotions; ``left_out``, the pictures that have no such label; and ``tied``, those whose most
    votes are shared by several emotions, where the first counts.

    Args:
        predictions: calibrated.
        votes: uint8 ``(N, 10)``, on each of them.

    Raises:
        DataError: none of the pictures has a label.
    """
    labels, emotions = majority_labels(votes), emotion_votes(votes)
    kept = labels >= 0
    labelled = Predictions(predictions.row[kept], labels[kept], predictions.probabilities[kept])
    shares = emotion_shares(votes[kept])
    losses = {
        "cross_entropy": cross_entropy_of_each(shares, labelled.probabilities),
        "kl_divergence": kl_divergence_of_each(shares, labelled.probabilities),
    }
    tied = (emotions == emotions.max(1, keepdims=True)).sum(1) > 1
    return {
        **figures(labelled, losses=losses),
        "left_out": int(np.count_nonzero(~kept)),
        "tied": int(np.count_nonzero(tied & kept)),
    }


def ferplus_results(split: str, predictions: Predictions, votes: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """The FER+ view of a split by its name in ``results``; nothing where the voters give no picture a label."""
    if (majority_labels(votes) < 0).all():
        return {}
    return {split + FERPLUS: ferplus_figures(predictions, votes)}


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
