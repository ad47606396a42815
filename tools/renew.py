"""Results of stored runs, computed again from their predictions."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import unseen_rows
from mien.data.samples import RowSource
from mien.errors import DataError
from mien.evaluation.evaluate import measure
from mien.evaluation.predictions import load_split_predictions, prediction_files
from mien.evaluation.predictor import uncalibrated
from mien.runs import Report, Run, SplitResult, Subset


def renew(run: Run, votes: NDArray[np.uint8] | None = None, command: str = "") -> Report:
    """Compute the results of a report again from stored predictions alone, and write them into it.

    What does not follow from them stays as it was: splits without stored predictions, the number of views, metrics
    before the temperature of several views or where no number is said, and of other data than FER-2013 the results on
    unseen images.

    Args:
        run: a run directory, or a folder of results; needs no weights and no images.
        votes: uint8 ``(35887, 10)``, from ``data.read_votes``: adds the FER+ result of every split, and a line to
            ``looks.jsonl`` for every file of predictions of test images; two halves have one each.
        command: the command line, for ``looks.jsonl``.

    Raises:
        RunError: the run is not finished.
        DataError: stored predictions are damaged, or votes are given for other data than FER-2013.
    """
    report = run.load_report()
    is_indexed = report.row_source == RowSource.INDEX
    if votes is not None and not is_indexed:
        raise DataError(f"{run.path}: expected rows of FER-2013 for FER+'s votes, got those of {report.data}")
    fresh: list[SplitResult] = []
    looked: list[Path] = []
    for old in report.results:
        files = prediction_files(run, old.split)
        if old.subset is not Subset.ALL or not files:
            continue
        predictions = load_split_predictions(run, old.split)
        is_known = is_indexed and report.result(old.split, Subset.UNSEEN) is not None
        says_views = "views" in old.order or report.views is not None
        temperature = report.temperature if says_views and old.views == 1 else None
        fresh += measure(
            old.split,
            predictions,
            uncalibrated=None if temperature is None else uncalibrated(predictions.probabilities, temperature),
            unseen=unseen_rows(predictions.row) if is_known else None,
            votes=None if votes is None else votes[predictions.row],
            views=old.views if says_views else None,
            called=old.called,
            present_only=report.result(old.split, Subset.PRESENT) is not None,
        )
        looked += files if votes is not None and old.is_test else ()
    renewed = report.with_results(_merged(report.result(each.split, each.subset), each) for each in fresh)
    for file in dict.fromkeys(looked):
        run.note_look(file.stem, command, file)
    renewed.save(run.report_path)
    return renewed


def _merged(old: SplitResult | None, fresh: SplitResult) -> SplitResult:
    """A fresh result, with what only the old one says, in its order."""
    if old is None:
        return fresh
    views = () if "views" in old.order else ("views",)
    order = tuple(key for key in dict.fromkeys((*old.order, *fresh.order)) if key not in views)
    return dataclasses.replace(fresh, metrics={**old.metrics, **fresh.metrics}, views=old.views, order=order)
