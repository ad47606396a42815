"""Several networks as one: their stored probabilities are averaged, so it needs neither network, images nor torch.

Source: Lakshminarayanan, Pritzel, Blundell 2017, arXiv:1612.01474. An average is less confident than its members are,
so a temperature is fitted to it on validation again (Rahaman, Thiery 2021, arXiv:2007.08792).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from mien import __version__, errors, runs
from mien.data import Split, unseen_rows
from mien.data.samples import RowSource
from mien.evaluation import evaluate, predictor
from mien.evaluation.compare import load_entries
from mien.evaluation.metrics import fit_temperature
from mien.evaluation.predictions import Predictions
from mien.runs.report import is_test, parse_report

SUMMED = ("parameters", "macs", "train_seconds")
"""What an ensemble has of all its members together."""

OWN = (
    "results", "seed", "recipe_sha256", "best_epoch", "pictures_per_second",
    "file", "sha256", "bytes", "faces_per_second",
)  # fmt: skip
"""What a member says of itself alone."""


def write_ensemble(members: Sequence[Path], out: Path, *, command: str = "") -> runs.Report:
    """Average what runs predict for every split that all of them hold, and write it as a run directory.

    ``members`` are two run directories or more, or folders of ``mien evaluate --out``, of the same data. Every test
    split that they hold is looked at again, which ``out`` notes with ``command``.

    Raises:
        CallError: fewer than two members, or one that is given twice.
        RunError: a member is not finished, or they do not all hold validation.
        DataError: they are of different data, protocols, views or images, or damaged.
        RunExistsError: ``out`` holds results of something else.
    """
    if len(members) < 2:
        raise errors.CallError(f"expected two runs or more for an ensemble, got {len(members)}")
    reports = [runs.load_run(path).load_report() for path in members]
    views = _views(reports)
    averages = {split: average(_of_members(members, split)) for split in views}
    logits = {split: predictor.logits_of(each.probabilities) for split, each in averages.items()}
    temperature = fit_temperature(logits[Split.VALIDATION][0], averages[Split.VALIDATION].label)
    made = {
        "model": "ensemble",
        "recipe": out.resolve().name,
        "members": [path.resolve().name for path in members],
        "temperature": temperature,
        "command": command,
        "mien_version": __version__,
    }
    report = parse_report(_shared(reports) | made, source=str(out))
    target = runs.Run(out)
    evaluate.check_free(target, report)
    # Without pictures, copies are known of FER-2013 alone.
    is_known = report.row_source == RowSource.INDEX and not any(each.trained_on for each in reports)
    predictions: dict[str, Predictions] = {}
    results: list[runs.SplitResult] = []
    for split, before in averages.items():
        calibrated = predictor.probabilities_of(logits[split], temperature)
        predictions[split] = dataclasses.replace(before, probabilities=calibrated)
        unseen = unseen_rows(before.row) if is_known and is_test(split) else None
        results += evaluate.measure(
            split, predictions[split], uncalibrated=before.probabilities, unseen=unseen, views=views[split]
        )
    report = dataclasses.replace(report, results=tuple(results))
    evaluate.write_results(target, report, predictions)
    for name in filter(is_test, predictions):
        target.note_look(name, command, target.predictions_path(name))
    return report


def average(predictions: Sequence[Predictions]) -> Predictions:
    """The mean of the probabilities of the same images in the same order."""
    averaged = predictor.mean_of([each.probabilities for each in predictions])
    return dataclasses.replace(predictions[0], probabilities=averaged)


def _views(reports: Sequence[runs.Report]) -> Mapping[Split, int]:
    """Split that all members hold -> views of each face; validation is among them, and the members are alike."""
    splits = [split for split in Split if all(split in report.splits for report in reports)]
    if Split.VALIDATION not in splits:
        raise errors.RunError(
            "expected runs that all hold validation, which the temperature needs, got others; evaluate it:"
            " mien evaluate RUN --out DIR"
        )
    _check_alike("data", [report.data_sha256 for report in reports])
    _check_alike("protocol", [report.protocol for report in reports])
    _check_alike("classes", [", ".join(report.classes) for report in reports])
    found = {split: [each.views for report in reports if (each := report.result(split))] for split in splits}
    for split, views in found.items():
        _check_alike(f"views of {split}", views)
    return {split: views[0] for split, views in found.items()}


def _of_members(members: Sequence[Path], split: Split) -> list[Predictions]:
    """In the order of their rows, of the same images."""
    return [each for entry in load_entries(members, split)[1] for each in entry.predictions]


def _check_alike(what: str, values: Sequence[object]) -> None:
    if len(set(values)) > 1:
        raise errors.DataError(f"expected members with the same {what}, got {', '.join(map(str, values))}")


def _shared(reports: Sequence[runs.Report]) -> dict[str, object]:
    """What all members' reports say alike, in the first one's order, and the sums of what they have together."""
    first, *others = contents = [report.content() for report in reports]
    alike = {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}
    known = [name for name in SUMMED if all(each.get(name) is not None for each in contents)]
    sums = {name: sum(each[name] for each in contents) for name in known}
    return {key: value for key, value in (alike | sums).items() if key not in OWN}
