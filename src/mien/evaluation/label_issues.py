"""Labels that networks confidently disagree with, on pictures that these networks did not learn from.

Source: Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
arXiv:1911.00068, by its authors' library, cleanlab.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Split
from mien.data.samples import Usage, picture_hashes
from mien.emotions import EMOTIONS
from mien.errors import DataError, MissingPathError, import_extra
from mien.evaluation.metrics import accuracy
from mien.evaluation.predict import Predictions, load_predictions
from mien.runs import Run, load_run

REMEDY = "train with --set data.fold=0 and so on, and give these runs"


@dataclass(frozen=True)
class LabelIssues:
    """Labels that are worth a look, the least likely first.

    Attributes:
        n: labels that were looked at.
        accuracy: share of them that the networks see as well, in [0, 1].
        row: int32 ``(M,)``, the data set's row numbers.
        label: int8 ``(M,)``, as the data set has it.
        suggested: int8 ``(M,)``, what the networks see instead.
        score: float64 ``(M,)``, the probability that they give the label, in [0, 1].
    """

    n: int
    accuracy: float
    row: NDArray[np.int32]
    label: NDArray[np.int8]
    suggested: NDArray[np.int8]
    score: NDArray[np.float64]

    def rows(self) -> dict[str, Any]:
        """As JSON values."""
        columns = (self.row.tolist(), self.label.tolist(), self.suggested.tolist(), self.score.tolist())
        found = [
            {"row": row, "label": EMOTIONS[label].value, "suggested": EMOTIONS[other].value, "score": round(score, 6)}
            for row, label, other, score in zip(*columns, strict=True)
        ]
        return {"n": self.n, "accuracy": self.accuracy, "found": found}


def label_issues(predictions: Predictions) -> LabelIssues:
    """Labels that confident learning would take out: as many of each kind of error as it estimates there to be.

    That is ``cleanlab.filter.find_label_issues`` with ``filter_by="both"`` (the paper's C+NR: by class and by noise
    rate), ordered by ``get_label_quality_scores`` with ``"self_confidence"``. On planted errors it found more than
    ``"confident_learning"`` at the same precision, and on Training FER+'s voters agreed with it more often than with
    any other filter.

    Args:
        predictions: of pictures that the networks did not learn from, by :func:`out_of_sample`.

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    labels, probabilities = predictions.label.astype(np.int64), predictions.probabilities.astype(np.float64)
    issues = import_extra("cleanlab.filter", "report").find_label_issues(
        labels, probabilities, filter_by="both", n_jobs=1
    )
    score = import_extra("cleanlab.rank", "report").get_label_quality_scores(
        labels, probabilities, method="self_confidence"
    )
    order = np.lexsort((predictions.row, score))
    chosen = order[issues[order]]
    return LabelIssues(
        n=len(predictions),
        accuracy=accuracy(predictions.label, predictions.probabilities),
        row=predictions.row[chosen],
        label=predictions.label[chosen],
        suggested=probabilities[chosen].argmax(1).astype(np.int8),
        score=score[chosen],
    )


def out_of_sample(samples: FaceSamples, paths: Sequence[Path]) -> Predictions:
    """Predictions of pictures of Training, each by a network that learnt from neither it nor a copy of it.

    What a network learnt from follows from its run: ``recipe.toml`` and the data, both held to the hashes in
    ``report.json``. Runs whose weights it began with, and those that taught it, are held to the same. The epoch and
    the temperature may have been chosen on the predicted pictures, which lets through little of their labels.

    Args:
        samples: the data set of the runs.
        paths: run directories, whose ``predictions/validation.npz`` counts, or files in their ``predictions/``;
            together of some or all pictures of Training, each once.

    Raises:
        MissingPathError: no such path, or a run that took part is not there.
        RunError: a folder holds no finished run.
        DataError: that the network did not learn from the pictures is not so, or cannot be known; or a picture came
            twice.
    """
    data_sha256, hashes = samples.content_sha256(), picture_hashes(samples.images)
    parts = []
    for path in paths:
        run, file = _origin(path)
        predictions = load_predictions(file)
        predicted = hashes[_positions(samples, predictions, file)]
        for source in _sources(run):
            learnt = hashes[_learnt_from(source, samples, data_sha256)]
            known = np.isin(predicted, learnt)
            if known.any():
                raise DataError(
                    f"{file}: {known.sum():,} of {len(known):,} pictures (row {predictions.row[known][0]} is the first)"
                    f" are among those that {source.path} was trained on, or identical to one; {REMEDY}"
                )
        parts.append(predictions)
    rows, times = np.unique(np.concatenate([part.row for part in parts]), return_counts=True)
    if (times > 1).any():
        raise DataError(
            f"{(times > 1).sum():,} pictures came twice, row {rows[times > 1][0]} first; give each fold once"
        )
    return Predictions(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
    )


def _origin(path: Path) -> tuple[Run, Path]:
    """The run that predictions are from, and their file."""
    if path.is_dir():
        run = load_run(path)
        return run, run.predictions_path(Split.VALIDATION)
    if not path.exists():
        raise MissingPathError(f"no predictions at {path}; expected a run, or a file in its predictions/")
    run = Run(path.parent.parent)
    if path.parent.name != "predictions" or not run.recipe_path.is_file():
        raise DataError(
            f"{path}: expected a run, or a file in its predictions/, came a file without its run, so that it cannot be"
            f" known what the network was trained on; {REMEDY}"
        )
    return run, path


def _positions(samples: FaceSamples, predictions: Predictions, file: Path) -> NDArray[np.int64]:
    """Places of predicted pictures in ``samples``, all of them in Training."""
    places = np.minimum(np.searchsorted(samples.rows, predictions.row), len(samples) - 1)
    if (samples.rows[places] != predictions.row).any() or (samples.labels[places] != predictions.label).any():
        raise DataError(f"{file}: its rows and labels are not those of these data; give the run's own --data")
    if (samples.usages[places] != Usage.TRAINING).any():
        raise DataError(
            f"{file}: expected pictures of Training, came others too: test labels are not looked for errors; {REMEDY}"
        )
    return places


def _sources(run: Run) -> Iterator[Run]:
    """The run, and every earlier run that its network learnt something from."""
    from mien.recipe import load_recipe

    yield run
    recipe = load_recipe(run.recipe_path)
    start = recipe.model.checkpoint
    if start is None and recipe.model.weights not in ("scratch", "imagenet"):
        raise DataError(
            f"{run.path}: it cannot be known what the weights in {recipe.model.weights}, with which it began, were"
            " trained on; begin from scratch, from imagenet or from a run's best.ckpt"
        )
    for checkpoint in (*([] if start is None else [start]), *map(Path, recipe.training.teachers)):
        yield from _sources(load_run(checkpoint.parent.parent))


def _learnt_from(run: Run, samples: FaceSamples, data_sha256: str) -> NDArray[np.int64]:
    """Positions of the pictures that a run was trained on."""
    from mien.recipe import load_recipe

    report, recipe = run.report(), load_recipe(run.recipe_path)
    if report["recipe_sha256"] != recipe.sha256():
        raise DataError(f"{run.path}: its recipe.toml is not the one that its report.json speaks of; train it again")
    if report["data_sha256"] != data_sha256:
        raise DataError(
            f"{run.path} was trained on other data (content hash {report['data_sha256'][:12]}..., {data_sha256[:12]}..."
            " came), so that it cannot be known which of these pictures it learnt from; give its own --data"
        )
    return samples.split_for(Split.TRAINING, recipe.data)
