"""Several networks as one: their stored probabilities are averaged, so it needs neither network, pictures nor torch.

Source: Lakshminarayanan, Pritzel, Blundell 2017, arXiv:1612.01474. An average is less sure than its members are, so a
temperature is fitted to it on validation again (Rahaman, Thiery 2021, arXiv:2007.08792).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien import __version__
from mien.data import Split, unseen_rows
from mien.data.samples import RowSource
from mien.errors import CallError, DataError, RunError
from mien.evaluation.calibration import fit_temperature
from mien.evaluation.compare import load_entries
from mien.evaluation.facts import Report
from mien.evaluation.predict import Predictions, logits_of, mean_of, probabilities_of
from mien.evaluation.results import TEST_SPLITS, check_free, split_results, store
from mien.runs import Run, load_run

SUMMED = ("parameters", "macs", "train_seconds")
"""What an ensemble has of all its members together."""

OWN = ("seed", "recipe_sha256", "best_epoch", "pictures_per_second", "file", "sha256", "bytes", "faces_per_second")
"""What a member says of itself alone."""


def write_ensemble(members: Sequence[Path], out: Path, *, command: str = "") -> dict[str, dict[str, Any]]:
    """Average what runs predict for every split that all of them hold, and write it as a run directory.

    Args:
        members: two run directories or more, or folders of ``mien evaluate --out``, of the same data.
        out: the folder for predictions, report and ``looks.jsonl``; every test split of the members is looked at again.
        command: the command line, for report and ``looks.jsonl``.

    Returns:
        name in ``results`` -> figures.

    Raises:
        CallError: fewer than two members, or one that came twice.
        RunError: a member is not finished, or they do not all hold validation.
        DataError: their predictions are of other pictures or damaged.
        RunExistsError: ``out`` holds figures of something else.
    """
    if len(members) < 2:
        raise CallError(f"an ensemble has two runs or more; {len(members)} came")
    reports = [load_run(path).report() for path in members]
    splits = [split for split in Split if all(split in report["results"] for report in reports)]
    if Split.VALIDATION not in splits:
        raise RunError("the runs do not all hold validation, which the temperature needs: mien evaluate RUN --out DIR")
    _check_alike("data", [report.get("data_sha256") for report in reports])
    _check_alike("protocol", [report.get("protocol") for report in reports])
    views = {
        split: _check_alike(f"views of {split}", [each["results"][split].get("views", 1) for each in reports])
        for split in splits
    }
    averages = {split: average(_of_members(members, split)) for split in splits}
    validation = averages[Split.VALIDATION]
    temperature = fit_temperature(logits_of(validation.probabilities)[0], validation.label)
    report = {**_shared(reports), **_of_ensemble(members, reports, out, temperature, command)}
    target = Run(out)
    check_free(target, report)
    predictions: dict[str, Predictions] = {}
    results: dict[str, dict[str, Any]] = {}
    for split in splits:
        before = averages[split]
        calibrated = probabilities_of(logits_of(before.probabilities), temperature)
        predictions[split] = Predictions(before.row, before.label, calibrated)
        unseen = unseen_rows(before.row) if report.get("row_source") == RowSource.INDEX else None
        found = split_results(split, predictions[split], before.probabilities, unseen)
        results |= {name: {**of_name, "views": views[split]} for name, of_name in found.items()}
    store(target, report, predictions, results)
    for split in splits:
        if split in TEST_SPLITS:
            target.note_look(split, command, target.predictions_path(split))
    return results


def average(predictions: Sequence[Predictions]) -> Predictions:
    """The mean of the probabilities of the same pictures in the same order."""
    averaged = mean_of([each.probabilities for each in predictions])
    return Predictions(predictions[0].row, predictions[0].label, averaged)


def _of_members(members: Sequence[Path], split: Split) -> list[Predictions]:
    """In the order of their rows, of the same pictures."""
    return [each for entry in load_entries(members, split)[1] for each in entry.predictions]


def _check_alike(what: str, values: Sequence[Any]) -> Any:
    """What all members have the same of."""
    if len(set(values)) > 1:
        raise DataError(f"the {what} must be the same for all members; {', '.join(map(str, values))} came")
    return values[0]


def _shared(reports: Sequence[Report]) -> dict[str, Any]:
    """What all members say alike."""
    first = reports[0]
    return {key: first[key] for key in first if key not in OWN and all(each.get(key) == first[key] for each in reports)}


def _of_ensemble(
    members: Sequence[Path], reports: Sequence[Report], out: Path, temperature: float, command: str
) -> dict[str, Any]:
    sums = {key: sum(each[key] for each in reports) for key in SUMMED if all(key in each for each in reports)}
    return {
        **sums,
        "model": "ensemble",
        "recipe": out.resolve().name,
        "members": [path.resolve().name for path in members],
        "temperature": temperature,
        "command": command,
        "mien_version": __version__,
    }
