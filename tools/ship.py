"""Put a trained run into the package: its graph, and a card with figures of that very file.

    python -m tools.ship RUN NAME --data SPEC [--int8]

Writes src/mien/face/assets/NAME.onnx and NAME.json, and results/shipped/NAME/ with what each figure follows from: the
predictions, the recipe, robustness and looks; tools.pages builds pages of it. The test pictures are looked at, which is
noted in the run's looks.jsonl.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mien.data import FaceSamples, Split, draw_faces, read_samples
from mien.errors import MienError
from mien.evaluation.evaluate import about_data, evaluate_and_store
from mien.evaluation.predictor import OnnxPredictor
from mien.evaluation.robustness import measure_robustness, save_robustness
from mien.export import Exported, export_onnx
from mien.face.network import ASSETS, BATCH, EmotionNetwork
from mien.runs import Report, Run, load_run
from mien.runs.report import is_test
from mien.training.finish import describe_environment
from tools.published import anonymous, publish_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "shipped"
SPLITS = (Split.VALIDATION, Split.PUBLIC_TEST, Split.PRIVATE_TEST)
LARGEST = 12_000_000
"""Bytes of a graph that may lie in the package."""

MEASURED_SECONDS = 10.0
"""Of computing, so that a moment's other work does not decide a speed."""

MOST_LOST = 0.003
"""Of validation accuracy, by int8."""

DATA_NOTE = "trained on FER-2013, whose pictures are for research; none of them is in this file"


def ship(run: Run, name: str, samples: FaceSamples, *, int8: bool, command: str, places: tuple[Path, Path]) -> None:
    """Export, measure, and only then put everything in its place: ``places`` are the folders of assets and results."""
    assets, results = places
    recipe = run.recipe_path.read_text(encoding="utf-8")
    if anonymous(recipe) != recipe:  # its hash in the graph would not be that of the published recipe
        raise MienError(f"{run.recipe_path}: expected paths below the project, got others, which are not published")
    with tempfile.TemporaryDirectory() as folder:
        written = export_onnx(run, Path(folder) / f"{name}.onnx", int8=samples if int8 else None)
        check(written)
        network, found = OnnxPredictor(EmotionNetwork(written.path)), Run(Path(folder) / name)
        for split in SPLITS:
            if is_test(split):
                run.note_look(split, command, written.path)
            evaluate_and_store(network, samples, split, out=found.path, command=command)
        card_of(run, samples, written, network, found).save(found.report_path)
        shutil.copy(run.recipe_path, found.path)
        shutil.copy(run.path / "looks.jsonl", found.path)
        save_robustness(found.path, measure_robustness(network, samples))
        shipped = publish_run(found, results)
        shutil.copy(shipped.report_path, assets / f"{name}.json")
        shutil.copy(written.path, assets / f"{name}.onnx")


def check(written: Exported) -> None:
    """Refuse what may not be shipped."""
    if written.size > LARGEST:
        raise MienError(f"the graph may have {LARGEST:,} bytes, it has {written.size:,}; train a smaller network")
    if written.float32_accuracy is not None and written.int8_accuracy is not None:
        lost = written.float32_accuracy - written.int8_accuracy
        if lost > MOST_LOST:
            raise MienError(f"int8 may lose {MOST_LOST:.1%} of validation accuracy, it loses {lost:.1%}; ship float32")


def card_of(run: Run, samples: FaceSamples, written: Exported, network: OnnxPredictor, found: Run) -> Report:
    """The run's report, with the file's own results in place of the checkpoint's."""
    report, file = run.load_report(), about_data(network.report, samples)
    stated: dict[str, Any] = {
        "command": anonymous(report.command or ""),
        "sha256": file.sha256,
        "bytes": file.bytes,
        "license": file.license,
        "training_data": file.training_data,
        "mien_version": file.mien_version,
        "training_data_note": DATA_NOTE,
        "parity_difference": written.difference,
        "arithmetic": "float32" if written.int8_accuracy is None else "int8",
        "validation_accuracy_float32": written.float32_accuracy,
        "validation_accuracy_int8": written.int8_accuracy,
        **speed(network.path),
        "views": 1,
        "results": found.load_report().results,
    }
    # Keys in the order are in the card even where nothing is known: of a float32 file the accuracies are null.
    return dataclasses.replace(report, **stated, order=tuple(dict.fromkeys((*report.order, *stated))))


def speed(path: Path) -> dict[str, Any]:
    """Faces per second in batches of 64 on all cores: the median over some seconds, and the machine it holds for."""
    threads = os.cpu_count() or 1
    network, faces = EmotionNetwork(path, threads=threads), draw_faces(BATCH).images
    seconds: list[float] = []
    while sum(seconds) < MEASURED_SECONDS:
        start = time.perf_counter()
        network.probabilities(faces)
        seconds.append(time.perf_counter() - start)
    return {
        "faces_per_second": round(BATCH / statistics.median(seconds), 1),
        "faces_per_second_batch": BATCH,
        "faces_per_second_threads": threads,
        "faces_per_second_machine": describe_environment(torch.device("cpu"), 1)["machine"],
    }


def main() -> None:
    """Parse, ship, say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--int8", action="store_true")
    call = parser.parse_args()
    command = anonymous(f"tools/ship {call.run} {call.name} --data {call.data}{' --int8' if call.int8 else ''}")
    try:
        run, samples = load_run(call.run), read_samples(call.data)
        ASSETS.mkdir(exist_ok=True)
        ship(run, call.name, samples, int8=call.int8, command=command, places=(ASSETS, RESULTS))
    except MienError as error:
        sys.exit(f"tools/ship: {error}")
    print(f"{ASSETS / call.name}.onnx, {call.name}.json; predictions in {RESULTS / call.name}")


if __name__ == "__main__":
    main()
