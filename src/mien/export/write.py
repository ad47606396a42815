"""A finished run -> one ONNX file, written only if it says what PyTorch says."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import onnx

from mien.data import FaceSamples, Split
from mien.errors import DataError
from mien.evaluation.predict import load_predictions
from mien.export.graph import FaceGraph, build_graph, largest_difference, metadata_of, probabilities_of_graph
from mien.export.int8 import calibration_faces, quantize
from mien.recipe import DataSettings
from mien.runs import Run, load_checkpoint, write_whole

LICENSE = "Apache-2.0"


@dataclass(frozen=True)
class Exported:
    """What is known of a file that was written.

    Attributes:
        path: of the file.
        size: in bytes.
        difference: the most that a probability of the float32 graph differs from PyTorch's.
        float32_accuracy: on validation; only of an int8 file.
        int8_accuracy: likewise.
    """

    path: Path
    size: int
    difference: float
    float32_accuracy: float | None = None
    int8_accuracy: float | None = None


def export_onnx(run: Run, out: Path, *, int8: FaceSamples | None = None, license: str = LICENSE) -> Exported:
    """Write a run's kept weights as the ONNX graph of the contract, whole or not at all.

    Args:
        run: a finished run.
        out: the file.
        int8: the run's data, to quantise: Training pictures calibrate, validation says what it costs. Without, the
            file is float32.
        license: SPDX identifier of the file.

    Raises:
        RunError: the run is not finished, or the file cannot be written.
        ModelError: ONNX Runtime and PyTorch differ by more than 1e-4 in a probability.
        DataError: the data are not the run's.
    """
    report, checkpoint = run.report(), load_checkpoint(run.best_checkpoint)
    if int8 is not None and int8.content_sha256() != report["data_sha256"]:
        raise DataError(
            f"int8 needs the data that the run was trained on, {report['data']} with sha256"
            f" {report['data_sha256'][:12]}; {int8.name} with {int8.content_sha256()[:12]} came"
        )
    network = FaceGraph(checkpoint)
    graph = build_graph(network)
    plain = graph.SerializeToString()
    difference = largest_difference(plain, network)
    accuracies: tuple[float, ...] = ()
    if int8 is not None:
        settings = checkpoint.recipe.data
        graph = quantize(graph, calibration_faces(int8, settings))
        contents = (plain, graph.SerializeToString())
        accuracies = tuple(_validation_accuracy(content, int8, settings) for content in contents)
    stored = run.predictions_path(Split.VALIDATION)
    validation = load_predictions(stored) if stored.exists() else None
    onnx.helper.set_model_props(graph, metadata_of(checkpoint, report, license, validation))
    content = graph.SerializeToString()
    write_whole(out, lambda file: _write(file, content))
    return Exported(out, len(content), difference, *accuracies)


def _validation_accuracy(content: bytes, samples: FaceSamples, settings: DataSettings) -> float:
    positions = samples.split_for(Split.VALIDATION, settings)
    found = probabilities_of_graph(content, samples.images[positions]).argmax(1)
    return float(np.mean(found == samples.labels[positions]))


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)
