"""What ``mien train``, ``evaluate`` and ``export`` do for face detectors."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from mien.cli import shared
from mien.data import read_samples
from mien.data.detection import PREFIX, DetectionSamples, Pixels, read_detection
from mien.data.layouts.raw import split_named
from mien.detector_recipe import load_detector_recipe
from mien.errors import CallError
from mien.evaluation import detection
from mien.export.faces import export_detector
from mien.files import write_text
from mien.recipe import DataSettings
from mien.report import format as formats
from mien.runs import Run
from mien.runs.detector import load_detector
from mien.training import detector
from mien.training.detector_teacher import SURE, Teacher

HEADINGS = {
    "pictures": "pictures",
    "faces": "faces",
    "recall_0.5_48": "48 px and more",
    "recall_0.5_24": "24 to 48 px",
    "recall_0.5_12": "12 to 24 px",
    "recall_0.3_48": "48 px, overlap 0.3",
    "recall_0.3_24": "24 to 48 px, overlap 0.3",
    "point_error": "points, of the eyes' distance",
    "false_per_100": "false boxes in 100",
    "scenes": "scenes",
    "found_192": "found at 192 px",
    "found_96": "96 px",
    "found_48": "48 px",
    "false_per_100_192": "false boxes in 100",
}
"""Rows of an evaluation that are printed -> heading; recall is at overlap 0.5 where it does not say another."""


def read_pictures(data: str) -> DetectionSamples:
    """The tables that ``detection:FOLDER`` names; raises as ``read_detection``, or ``CallError`` for other data."""
    if not data.startswith(PREFIX):
        raise CallError(f"expected --data {PREFIX}FOLDER for a face detector, got {data}; a folder of Parquet tables")
    return read_detection(Path(data.removeprefix(PREFIX)).expanduser())


def train(
    path: Path,
    overrides: Sequence[str],
    data: str,
    out: Path,
    *,
    resume: bool,
    accelerator: str,
    kind: str,
    stop_signal: Callable[[], int | None],
) -> None:
    """Train a detector and say what its average of weights reaches on held-out pictures."""
    recipe = load_detector_recipe(path, overrides)
    last: list[detector.Progress] = []

    def show(progress: detector.Progress) -> None:
        if progress.measured:
            last[:] = [progress]
            shared.messages.print(f"{recipe.name} {_numbers(progress)}")

    run = detector.fit_detector(
        recipe, read_pictures(data), out, resume=resume, accelerator=accelerator, show=show,
        searched=shared.showing_progress("searched by the teacher"), stop_signal=stop_signal,
    )  # fmt: skip
    measured = last[0].measured if last else {}
    shared.print_answer(measured, f"{run.best_checkpoint}; evaluate it: mien evaluate {out} --data {data}", kind)


def _numbers(progress: detector.Progress) -> str:
    losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
    found = ", ".join(f"{name} {value:.3f}" for name, value in progress.measured.items() if "recall_0.5" in name)
    return (
        f"epoch {progress.epoch + 1}: {losses}; {found}; {progress.pictures_per_second:.0f} pictures/s,"
        f" {progress.seconds_left / 60:.0f} min left"
    )


def open_detector(path: Path) -> tuple[Callable[[Pixels], detection.Found], float]:
    """A run, a graph of faces or a YuNet file: what it says of all places of a picture, and its threshold."""
    if path.is_dir():
        network, _ = load_detector(Run(path).best_checkpoint)
        return (lambda pixels: detector.find(network, pixels)), detection.THRESHOLD
    if detection.detector_kind(path) == "graph":
        return detection.open_graph(path)
    return Teacher(path).places, SURE


def evaluate(model: Path, data: str, split: str, *, out: Path | None, threshold: float | None, kind: str) -> None:
    """Measure a detector on held-out pictures (``detection:FOLDER``), or on scenes of a split of other data."""
    find, stated = open_detector(model)
    chosen = stated if threshold is None else threshold
    if data.startswith(PREFIX):
        rows = detection.measure_sets(find, read_pictures(data), chosen)
    else:
        samples = read_samples(data)
        part = split_named(split)
        rows = {split: detection.measure_scenes(find, samples, samples.split_for(part, DataSettings()), chosen)}
    content = {"model": str(model), "data": data, "threshold": chosen, "results": rows}
    if out is not None:
        write_text(out / "detection.json", json.dumps(content, indent=1) + "\n")
    shared.print_answer(content, _table(rows, f"{model.name}, threshold {chosen:g}"), kind)


def _table(rows: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """A line a set, of the numbers that any set has."""
    shown = [name for name in HEADINGS if any(name in row for row in rows.values())]
    table = shared.create_table(title, ["set"], [HEADINGS[name] for name in shown])
    for name, row in rows.items():
        table.add_row(name, *(_cell(each, row.get(each)) for each in shown))
    return table


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return formats.DASH
    if name in ("pictures", "faces", "scenes"):
        return f"{value:,.0f}"
    return formats.fixed(value) if name.startswith("false") else formats.percent(value)


def export(run: Run, out: Path, *, threshold: float | None, license: str | None, kind: str) -> None:
    """Write a detector's run as a graph of faces."""
    given = {"threshold": threshold, "license": license}
    written = export_detector(run, out, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    answer = f"{out}: {written.size / 1e6:.2f} MB; ONNX Runtime and PyTorch differ by at most {written.difference:.1e}"
    shared.print_answer({**asdict(written), "path": str(out)}, answer, kind)
