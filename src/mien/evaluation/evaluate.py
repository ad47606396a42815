"""A network over a split -> an evaluation, a value; and :func:`evaluate_and_store`, which alone writes it."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import runs
from mien.data import FaceSamples, Split, ferplus
from mien.data.pictures import choose
from mien.data.samples import Usage
from mien.errors import RunExistsError
from mien.evaluation import metrics
from mien.evaluation.people import people_of
from mien.evaluation.predictions import Predictions
from mien.evaluation.predictor import Predictor
from mien.evaluation.significance import accuracy_interval, bootstrap_intervals
from mien.runs.learnt import training_of
from mien.runs.report import INTERVAL, is_test

OF_CALIBRATION = ("ece", "nll")
"""Metrics that are also stated for the probabilities before the temperature."""


@dataclass(frozen=True)
class Evaluation:
    """What a network predicts on a split, and what that shows.

    Attributes:
        predictions: name of a split -> calibrated predictions; ``published_test`` brings Public and Private as well.
        report: the network's, about these data, with the results of these splits alone: of all images; of test splits
            also of unseen ones; and, given votes, with FER+'s labels.
    """

    predictions: Mapping[str, Predictions]
    report: runs.Report


def evaluate(
    predictor: Predictor,
    samples: FaceSamples,
    split: Split,
    *,
    views: int = 1,
    votes: NDArray[np.uint8] | None = None,
    present_only: bool = False,
) -> Evaluation:
    """Predict a split of the network's own data set or of another once, and measure it; nothing is written.

    ``published_test`` holds Public and Private, so it answers for these as well where the data tell them apart.
    Probabilities are means over 1, 2 or 10 ``views`` of each face; ``votes``, uint8 ``(N, 10)``, are FER+'s on each of
    ``samples``, from ``data.votes_on``; ``present_only`` asks for :attr:`Subset.PRESENT` as well.

    Raises:
        DataError: the data do not have this split, or their faces are of another size than the network's, or they have
            classes that it does not name.
    """
    about = about_data(predictor.report, samples)
    samples = samples.with_classes(about.classes)
    indices = predictor.indices(samples, split)
    probabilities, before = predictor.predict(choose(samples.images, indices), views)
    whole = Predictions.of(samples, indices, probabilities)
    is_own = about.data_sha256 == predictor.report.data_sha256
    learnt = predictor.learnt
    if is_own and not learnt.is_complete:  # of its own data at least, it learnt from Training
        learnt = learnt.with_others([training_of(samples)])
    seen = learnt.holds(samples, indices)  # (M,)
    is_old = predictor.run is not None and not predictor.run.learnt_path.exists()  # from before hashes were kept
    is_known = learnt.is_complete or (is_own and is_old)
    predictions: dict[str, Predictions] = {}
    results: list[runs.SplitResult] = []
    for name, mask in _parts(samples, split, indices).items():
        predictions[name] = whole.subset(mask)
        is_asked = is_test(name) or not is_own
        found = measure(
            name,
            predictions[name],
            uncalibrated=None if before is None else before[mask],
            unseen=~seen[mask] if is_test(name) and is_known else None,
            votes=None if votes is None else votes[indices][mask],
            views=views,
            called=samples.name_of(indices),
            present_only=present_only,
        )
        if is_asked and (is_known or seen[mask].any()):
            found[0] = dataclasses.replace(found[0], seen=int(seen[mask].sum()))
        if is_test(name) and is_own and samples.groups is not None:
            shared = samples.shared_subjects(np.flatnonzero(samples.usages == Usage.TRAINING), indices[mask])
            found[0] = dataclasses.replace(found[0], subjects_seen=len(shared))
        results += found
    return Evaluation(predictions, dataclasses.replace(about, results=tuple(results)))


def _parts(samples: FaceSamples, split: Split, indices: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """The split, and of ``published_test`` its two halves where they are told apart, as masks over ``indices``."""
    masks = {split.value: np.ones(len(indices), dtype=np.bool_)}
    usages = samples.usages[indices]
    if split is Split.PUBLISHED_TEST and not samples.has_own_splits and (usages != Usage.TEST).all():
        halves = ((Split.PUBLIC_TEST, Usage.PUBLIC_TEST), (Split.PRIVATE_TEST, Usage.PRIVATE_TEST))
        masks |= {half.value: usages == usage for half, usage in halves if (usages == usage).any()}
    return masks


def about_data(report: runs.Report, samples: FaceSamples) -> runs.Report:
    """A network's report, with the data that its results will be of in place of others that it was trained on.

    An ONNX file knows its own data by their hash, not by name.
    """
    sha256 = samples.content_sha256()
    if report.data_sha256 == sha256 and report.data is not None:
        return report
    return dataclasses.replace(
        report,
        trained_on=report.trained_on if report.data is None else report.data,
        data=samples.name,
        data_sha256=sha256,
        row_source=samples.row_source.value,
        skipped=len(samples.skipped),
    )


def measure(
    split: str,
    predictions: Predictions,
    *,
    uncalibrated: NDArray[np.float32] | None = None,
    unseen: NDArray[np.bool_] | None = None,
    votes: NDArray[np.uint8] | None = None,
    views: int | None = None,
    called: str | None = None,
    present_only: bool = False,
) -> list[runs.SplitResult]:
    """The results of a split; also of those of its images that are unseen, where that is known; and by FER+.

    Intervals are by subject where the predictions tell subjects.

    Args:
        split: its name.
        predictions: calibrated.
        uncalibrated: probabilities before the temperature, ``(N, K)``, where they are known.
        unseen: which images are identical to none that the network learnt from, ``(N,)``, where that is asked.
        votes: FER+'s votes on each image, uint8 ``(N, 10)``. Without a label by its voters there is no such result.
        views: of each face, averaged; a result without leaves it to its report.
        called: what the data call the split, if they have a name of their own for it.
        present_only: also with answers among the classes that have faces, where any has none.
    """
    found = [_measured(split, runs.Subset.ALL, predictions, uncalibrated)]
    if unseen is not None and unseen.any():
        before = None if uncalibrated is None else uncalibrated[unseen]
        found.append(_measured(split, runs.Subset.UNSEEN, predictions.subset(unseen), before))
    if votes is not None and (ferplus.majority_labels(votes) >= 0).any():
        found.append(_measured_by_voters(split, predictions, votes))
    if present_only and predictions.absent:
        found.append(_measured(split, runs.Subset.PRESENT, predictions.among_present()))
    if called is not None:
        found = [dataclasses.replace(each, called=called, order=(*each.order, "called")) for each in found]
    if views is None:
        return found
    return [dataclasses.replace(each, views=views, order=(*each.order, "views")) for each in found]


def _measured(
    split: str,
    subset: runs.Subset,
    predictions: Predictions,
    before: NDArray[np.float32] | None = None,
    losses: Mapping[str, NDArray[np.float64]] | None = None,
) -> runs.SplitResult:
    """One result. The interval of the accuracy is Wilson's, all others are by bootstrap; by subject where that is told.

    Of few people only the accuracy has one (``people.MIN_PEOPLE``).

    ``before`` are probabilities before the temperature, where they are known; the mean of each of ``losses``, ``(N,)``,
    is a metric as well.
    """
    labels, probabilities = predictions.label, predictions.probabilities
    values = {name: metrics.METRICS[name](labels, probabilities) for name in sorted(metrics.METRICS)}
    values |= {name: float(each.mean()) for name, each in (losses or {}).items()}
    if before is not None:
        values |= {f"{name}_uncalibrated": metrics.METRICS[name](labels, before) for name in OF_CALIBRATION}
    counts = metrics.confusion_matrix(labels, probabilities)
    rates = metrics.class_rates(counts)
    people, correct = people_of(predictions.group), probabilities.argmax(1) == labels
    drawn = bootstrap_intervals(labels, probabilities, losses, people=people)
    bounds = {name: each.tolist() for name, each in drawn.items()}
    bounds["accuracy"] = accuracy_interval(correct, people)
    return runs.SplitResult(
        split,
        subset,
        n=len(predictions),
        views=1,
        metrics={name: _estimate(value, bounds.get(name)) for name, value in values.items()},
        classes={
            name: tuple(map(_estimate, each.tolist(), bounds.get(name, [None] * len(each))))
            for name, each in rates.items()
        },
        confusion=tuple(map(tuple, counts.tolist())),
        order=(
            "n",
            *values,
            *rates,
            *(name + INTERVAL for name in bounds),
            "confusion",
            *(() if people is None else ("subjects", "effective_n")),
        ),
        subjects=None if people is None else people.count,
        effective_n=None if people is None else people.effective_images(correct),
    )


def _estimate(value: float, bounds: Sequence[float] | None) -> runs.Estimate:
    return runs.Estimate(value, None if bounds is None or np.isnan(bounds[0]) else (bounds[0], bounds[1]))


def _measured_by_voters(split: str, predictions: Predictions, votes: NDArray[np.uint8]) -> runs.SplitResult:
    """The result of the same images with FER+'s labels, :func:`data.ferplus.majority_labels`; one at least has one.

    It also has ``cross_entropy`` and ``kl_divergence``, in nats, from the fractions of the votes for the seven
    emotions. Where several emotions share the most votes (``tied``), the first counts.
    """
    labels, emotions = ferplus.majority_labels(votes), ferplus.emotion_votes(votes)
    kept = labels >= 0
    labelled = dataclasses.replace(predictions.subset(kept), label=labels[kept])
    targets = ferplus.emotion_shares(votes[kept])
    losses = {
        "cross_entropy": metrics.cross_entropy(targets, labelled.probabilities),
        "kl_divergence": metrics.kl_divergence(targets, labelled.probabilities),
    }
    found = _measured(split, runs.Subset.FERPLUS, labelled, losses=losses)
    tied = (emotions == emotions.max(1, keepdims=True)).sum(1) > 1
    order = (*found.order, "left_out", "tied")
    return dataclasses.replace(found, left_out=int((~kept).sum()), tied=int((tied & kept).sum()), order=order)


def check_free(target: runs.Run, report: runs.Report, *, is_own: bool = False) -> None:
    """Refuse to store results of ``report``'s network among those of something else.

    ``is_own``: the target is the network's own run, so that its data alone can be others.

    Raises:
        RunExistsError: ``target`` holds such.
    """
    if not target.report_path.exists():
        return
    stored = target.load_report()
    if dataclasses.replace(stored, results=()) == dataclasses.replace(report, results=()):
        return
    if is_own:
        raise RunExistsError(
            f"{target.path}: expected the data of this run, {stored.data}, got {report.data}; other data need a folder"
            " of their own: add --out DIR"
        )
    raise RunExistsError(
        f"{target.path}: expected no results, or those of this network and these data, got others; choose another --out"
    )


def destination(run: runs.Run | None, out: Path | None) -> runs.Run | None:
    """Where an evaluation is stored: in ``out`` or else with its run; of an ONNX file without ``out`` nowhere."""
    if out is None or (run is not None and out.resolve() == run.path.resolve()):
        return run
    return runs.Run(out)


def write_results(target: runs.Run, report: runs.Report, predictions: Mapping[str, Predictions]) -> None:
    """Write predictions into a folder, and ``report`` with the results of all that the folder holds.

    Results of predictions that are replaced go, those of their unseen images and of FER+'s labels too.
    """
    for name, stored in predictions.items():
        stored.save(target.predictions_path(name))
    before = target.load_report().results if target.report_path.exists() else ()
    fresh = {each.key for each in report.results}
    kept = tuple(each for each in before if each.split not in predictions or each.key in fresh)
    dataclasses.replace(report, results=kept).with_results(report.results).save(target.report_path)


def evaluate_and_store(
    predictor: Predictor,
    samples: FaceSamples,
    split: Split,
    *,
    out: Path | None = None,
    command: str = "",
    views: int = 1,
    votes: NDArray[np.uint8] | None = None,
    present_only: bool = False,
) -> Evaluation:
    """As :func:`evaluate`, and write predictions, report and every look at a test split to :func:`destination`.

    A look is noted in the run's own ``looks.jsonl`` as well, with ``command``, where ``out`` is another folder.

    Raises:
        RunExistsError: before anything is computed: the folder holds results of something else; a run's own are those
            of its own data.
        RunBusyError: before anything is computed: another process is at work in a folder that is written to.
    """
    target = destination(predictor.run, out)
    if target is None:
        return evaluate(predictor, samples, split, views=views, votes=votes, present_only=present_only)
    places = {predictor.run or target, target} if is_test(split.value) else {target}
    with contextlib.ExitStack() as locks:
        for place in places:
            locks.enter_context(runs.locked(place.path))
        check_free(target, about_data(predictor.report, samples), is_own=target is predictor.run)
        evaluation = evaluate(predictor, samples, split, views=views, votes=votes, present_only=present_only)
        for place in places:
            for name in filter(is_test, evaluation.predictions):
                place.note_look(name, command, predictor.path)
        write_results(target, evaluation.report, evaluation.predictions)
    return evaluation
