"""Make a file of a face detector's run that can be shipped, and a card with figures of that very file.

    python -m tools.ship_detector RUN --out FOLDER --pictures detection:FOLDER --data fer2013:PATH --teacher YUNET.onnx

Writes FOLDER/faces.onnx and faces.json. The threshold is the least at which held-out pictures without faces show at
most FALSE boxes in a hundred. Everything is measured on validation: held-out pictures, and scenes of the validation
split; the teacher beside it, in the same run and at its own threshold.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien.cli.detection import open_detector, read_pictures
from mien.data import FaceSamples, Split, read_samples
from mien.data.detection import DetectionSamples, Pixels
from mien.detector_recipe import load_detector_recipe
from mien.errors import MienError
from mien.evaluation import detection
from mien.export.faces import export_detector
from mien.files import write_text
from mien.recipe import DataSettings
from mien.runs import Run
from mien.training.finish import describe_environment

FALSE = 1.5
"""Boxes in a hundred pictures without faces; two are allowed, and other pictures are not these."""

LEAST_THRESHOLD = 0.3

LARGEST = 1_000_000
"""Bytes of a file that may lie in the package."""

TIMED = (480, 640)
"""Height and width of the picture that is timed."""

Find = Callable[[Pixels], detection.Found]


def card_of(
    run: Run, out: Path, samples: DetectionSamples, faces: FaceSamples, teacher: Path, license: str
) -> dict[str, Any]:
    """Write the file and measure it."""
    file = out / "faces.onnx"
    first = export_detector(run, file)
    threshold = choose_threshold(open_detector(file)[0], samples)
    written = export_detector(run, file, threshold=threshold, license=license)
    if written.size > LARGEST:
        raise MienError(f"the graph may have {LARGEST:,} bytes, it has {written.size:,}; train a smaller network")
    recipe, content = load_detector_recipe(run.recipe_path), file.read_bytes()
    found = {"results": open_detector(file), "teacher": open_detector(teacher)}
    return {
        "recipe": recipe.name,
        "recipe_sha256": recipe.sha256(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "license": license,
        "threshold": threshold,
        "parity_difference": first.difference,
        "machine": describe_environment(torch.device("cpu"), 1)["machine"],
        "trained_on": {"pictures": len(samples.part(held_out=False)), "pictures_sha256": samples.sha256},
        **{name: measured(find, least, samples, faces) for name, (find, least) in found.items()},
    }


def choose_threshold(find: Find, samples: DetectionSamples) -> float:
    """The least with at most ``FALSE`` boxes in a hundred held-out pictures without faces, rounded up."""
    empty = [each for each in samples.part(held_out=True) if each.faces is not None and not len(each.faces)]
    scores = np.sort(detection.measure(find, empty).false_scores)[::-1]
    allowed = int(FALSE * len(empty) / 100)
    least = float(scores[allowed]) if len(scores) > allowed else 0.0
    return max(LEAST_THRESHOLD, math.ceil(100 * least + 1e-6) / 100)


def measured(find: Find, threshold: float, samples: DetectionSamples, faces: FaceSamples) -> dict[str, Any]:
    """All figures of a detector at a threshold."""
    validation = faces.split_for(Split.VALIDATION, DataSettings())
    return {
        "threshold": threshold,
        "held_out": detection.measure_sets(find, samples, threshold),
        "validation_scenes": detection.measure_scenes(find, faces, validation, threshold),
        "milliseconds_640x480": milliseconds(find),
    }


def milliseconds(find: Find) -> float:
    """Of processor time for one picture on one thread: the least of many, since others work on the machine too."""
    picture = np.random.default_rng(0).integers(0, 256, (*TIMED, 3), np.uint8)
    times = []
    for _ in range(50):
        start = time.process_time()
        find(picture)
        times.append(time.process_time() - start)
    return round(1000 * min(times), 2)


def main() -> None:
    """Parse, write, say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    for name in ("--out", "--teacher"):
        parser.add_argument(name, required=True, type=Path)
    for name in ("--pictures", "--data"):
        parser.add_argument(name, required=True)
    parser.add_argument("--license", default="Apache-2.0")
    call = parser.parse_args()
    try:
        samples, faces = read_pictures(call.pictures), read_samples(call.data)
        card = card_of(Run(call.run), call.out, samples, faces, call.teacher, call.license)
        write_text(call.out / "faces.json", json.dumps(card, indent=1) + "\n")
    except MienError as error:
        sys.exit(f"tools/ship_detector: {error}")
    print(f"{call.out / 'faces.onnx'}, faces.json; threshold {card['threshold']}")


if __name__ == "__main__":
    main()
