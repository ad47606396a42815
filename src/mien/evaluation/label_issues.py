"""Labels that networks confidently disagree with, on images that these networks did not learn from.

Source: Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
arXiv:1911.00068, by its authors' library, cleanlab.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.data import FaceSamples, Split
from mien.data.samples import Usage
from mien.evaluation.metrics import METRICS
from mien.evaluation.predictions import Predictions, joined, load_predictions
from mien.runs import Run, load_run

REMEDY = "train with --set data.fold=0 and so on, and give these runs"


@dataclass(frozen=True)
class LabelIssues:
    """Labels that are worth checking, the least likely first, of ``n`` that were examined.

    Attributes:
        accuracy: fraction of the ``n`` that the networks predict as well, in [0, 1].
        row: int32 ``(M,)``, the data set's row numbers.
        label: int8 ``(M,)``, as the data set has it.
        suggested: int8 ``(M,)``, what the networks predict instead.
        score: float64 ``(M,)``, the probability that they give the label, in [0, 1].
        classes: names of the labels.
    """

    n: int
    accuracy: float
    row: NDArray[np.int32]
    label: NDArray[np.int8]
    suggested: NDArray[np.int8]
    score: NDArray[np.float64]
    classes: tuple[str, ...]

    def rows(self) -> dict[str, Any]:
        """JSON values."""
        columns = zip(self.row.tolist(), self.label, self.suggested, self.score.tolist(), strict=True)
        names = tuple(map(str, self.classes))
        found = [
            {"row": row, "label": names[label], "suggested": names[other], "score": round(score, 6)}
            for row, label, other, score in columns
        ]
        return {"n": self.n, "accuracy": self.accuracy, "found": found}


def label_issues(predictions: Predictions) -> LabelIssues:
    """Labels that confident learning would take out: as many of each kind of error as it estimates there to be.

    That is ``cleanlab.filter.find_label_issues`` with ``filter_by="both"`` (the paper's C+NR: by class and by noise
    rate), ordered by ``get_label_quality_scores`` with ``"self_confidence"``. On planted errors it found more than
    ``"confident_learning"`` at the same precision, and on Training FER+'s voters agreed with it more often than with
    any other filter. The predictions are those of :func:`out_of_sample`.

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    labels, probabilities = predictions.label.astype(np.int64), predictions.probabilities.astype(np.float64)
    rank = errors.import_extra("cleanlab.rank", "report")
    issues = errors.import_extra("cleanlab.filter", "report").find_label_issues(
        labels, probabilities, filter_by="both", n_jobs=1
    )
    score = rank.get_label_quality_scores(labels, probabilities, method="self_confidence")
    order = np.lexsort((predictions.row, score))
    chosen = order[issues[order]]
    return LabelIssues(
        n=len(predictions),
        accuracy=METRICS["accuracy"](predictions.label, predictions.probabilities),
        row=predictions.row[chosen],
        label=predictions.label[chosen],
        suggested=probabilities[chosen].argmax(1).astype(np.int8),
        score=score[chosen],
        classes=predictions.classes,
    )


def out_of_sample(samples: FaceSamples, paths: Sequence[Path]) -> Predictions:
    """Predictions of images of Training, each by a network that learnt from neither it nor a copy of it.

    What a network learnt from follows from its run: ``recipe.toml`` and the data, both held to the hashes in
    ``report.json``. Runs whose weights it began with, and its teachers, are held to the same. The epoch and the
    temperature may have been chosen on the predicted images, which lets through little of their labels.

    ``paths`` are run directories, whose ``predictions/validation.npz`` counts, or files in their ``predictions/``,
    together of some or all images of Training; ``samples`` is the data set of the runs.

    Raises:
        MissingPathError: no such path, or an earlier run of such a network is missing.
        RunError: a folder holds no finished run.
        DataError: a network learnt from one of the images, or this cannot be known; or an image is predicted twice.
    """
    data_sha256, hashes = samples.content_sha256(), samples.hashes
    parts = []
    for path in paths:
        run, file = _origin(path)
        predictions = load_predictions(file)
        predicted = hashes[_indices(samples, predictions, file)]
        for source, learnt in _learnt_from(run, samples, data_sha256):
            known = np.isin(predicted, hashes[learnt])
            if known.any():
                raise errors.DataError(
                    f"{file}: expected images that {source.path} was not trained on, got {known.sum():,} of"
                    f" {len(known):,} that are among these or identical to one (first row"
                    f" {predictions.row[known][0]}); {REMEDY}"
                )
        parts.append(predictions)
    rows, times = np.unique(np.concatenate([part.row for part in parts]), return_counts=True)
    if (times > 1).any():
        raise errors.DataError(
            f"expected each image once, got {(times > 1).sum():,} twice, first row {rows[times > 1][0]};"
            " give each fold once"
        )
    return joined(parts)


def _origin(path: Path) -> tuple[Run, Path]:
    """The run that predictions are from, and their file."""
    if path.is_dir():
        run = load_run(path)
        return run, run.predictions_path(Split.VALIDATION)
    if not path.exists():
        raise errors.MissingPathError(f"expected a run, or a file in its predictions/, got no such path: {path}")
    run = Run(path.parent.parent)
    if path.parent.name != "predictions" or not run.recipe_path.is_file():
        raise errors.DataError(
            f"{path}: expected a run, or a file in its predictions/, got a file without its run, so what the network"
            f" was trained on is not known; {REMEDY}"
        )
    return run, path


def _indices(samples: FaceSamples, predictions: Predictions, file: Path) -> NDArray[np.int64]:
    """Indices of predicted images in ``samples``, all of them in Training."""
    indices = np.minimum(np.searchsorted(samples.rows, predictions.row), len(samples) - 1)
    same = predictions.classes == samples.classes
    if (
        not same
        or not np.array_equal(samples.rows[indices], predictions.row)
        or (samples.labels[indices] != predictions.label).any()
    ):
        raise errors.DataError(f"{file}: expected rows and labels of these data, got others; give the run's own --data")
    if (samples.usages[indices] != Usage.TRAINING).any():
        raise errors.DataError(
            f"{file}: expected images of Training, got others too: test labels are not audited; {REMEDY}"
        )
    return indices


def _learnt_from(run: Run, samples: FaceSamples, data_sha256: str) -> Iterator[tuple[Run, NDArray[np.int64]]]:
    """The run and every earlier run that its network learnt from, each with the indices of its training images."""
    from mien.recipe import load_recipe

    report, recipe = run.load_report(), load_recipe(run.recipe_path)
    if report.recipe_sha256 != recipe.sha256():
        raise errors.DataError(f"{run.path}: expected the recipe.toml of its report.json, got another; train it again")
    if report.data_sha256 != data_sha256:
        raise errors.DataError(
            f"{run.path}: expected data with content hash {str(report.data_sha256)[:12]}..., on which it was trained,"
            f" got {data_sha256[:12]}..., so which of these images it learnt from is not known; give its own --data"
        )
    yield run, samples.split_for(Split.TRAINING, recipe.data)
    start = recipe.model.checkpoint
    if start is None and recipe.model.weights.partition(":")[0] not in ("scratch", "imagenet"):
        raise errors.DataError(
            f"{run.path}: expected initial weights of known training data, got {recipe.model.weights}; begin from"
            " scratch, from imagenet or from a run's best.ckpt"
        )
    for checkpoint in (*([] if start is None else [start]), *map(Path, recipe.training.teachers)):
        yield from _learnt_from(load_run(checkpoint.parent.parent), samples, data_sha256)
