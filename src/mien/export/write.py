"""A finished run -> one ONNX file: stored faces in, calibrated probabilities out, as true to PyTorch as it says.

The file is written only if it gives PyTorch's probabilities.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien import __version__, errors
from mien.data import FaceSamples, Split, draw_faces
from mien.evaluation.metrics import abstention
from mien.evaluation.predictions import Predictions, load_predictions
from mien.evaluation.predictor import LEARNT, SPLIT
from mien.export.int8 import quantize
from mien.face.crop import FACE_SIZE, crop_face
from mien.face.network import BATCH, COLOR_CHANNELS, as_planes
from mien.face.runtime import create_session
from mien.files import writing
from mien.recipe import DataSettings
from mien.runs import Report, Run
from mien.runs.checkpoint import Checkpoint, load_checkpoint
from mien.runs.learnt import Learnt, beside, learnt_by

OPSET = 18

TOLERANCE = 1e-4
"""Maximum difference of a probability between ONNX Runtime and PyTorch."""

COUNTS = (1, 7, 64)
"""Faces at a time when the two are compared."""

CALIBRATION_FACES = 512


@dataclass(frozen=True)
class Exported:
    """What is known of a file that was written: its size in bytes, and how true it is.

    Attributes:
        difference: maximum difference of the float32 graph's probabilities from PyTorch's.
        float32_accuracy: on validation; as ``int8_accuracy``, only of an int8 file.
    """

    path: Path
    size: int
    difference: float
    float32_accuracy: float | None = None
    int8_accuracy: float | None = None


def export_onnx(run: Run, out: Path, *, int8: FaceSamples | None = None, license: str | None = None) -> Exported:
    """Write a run's kept weights as the ONNX graph of the contract, whole or not at all.

    Beside it goes ``NAME.learnt.npy``, hashes of what it learnt from, by which ``mien evaluate`` knows unseen images.

    Args:
        run: a finished run.
        out: the file.
        int8: the run's data, to quantise: Training pictures calibrate, validation says what it costs. Without, the
            file is float32.
        license: SPDX identifier of the file; by default ``Report.stated_license``.

    Raises:
        RunError: the run is not finished, or the file cannot be written.
        ModelError: ONNX Runtime and PyTorch differ by more than 1e-4 in a probability.
        DataError: the data are not the run's.
    """
    report, checkpoint = run.load_report(), load_checkpoint(run.best_checkpoint)
    if int8 is not None and int8.content_sha256() != report.data_sha256:
        raise errors.DataError(
            f"int8: expected the data that the run was trained on, {report.data} with sha256"
            f" {str(report.data_sha256)[:12]}, got {int8.name} with {int8.content_sha256()[:12]}"
        )
    network = FaceGraph(checkpoint)
    graph = build_graph(network)
    plain = graph.SerializeToString()
    difference = max_difference(plain, network)
    accuracies: tuple[float, ...] = ()
    if int8 is not None:
        settings = checkpoint.recipe.data
        graph = quantize(graph, calibration_faces(int8, settings))
        contents = (plain, graph.SerializeToString())
        accuracies = tuple(_validation_accuracy(content, int8, settings) for content in contents)
    stored = run.predictions_path(Split.VALIDATION)
    validation = load_predictions(stored) if stored.exists() else None
    learnt = learnt_by(run) if run.learnt_path.exists() else None
    props = metadata_of(checkpoint, report, license or report.stated_license, validation) | _learnt_metadata(learnt)
    onnx.helper.set_model_props(graph, props)
    content = graph.SerializeToString()
    if learnt is not None:
        learnt.save(beside(out))
    with writing(out, error=errors.RunError) as file:
        file.write(content)
    return Exported(out, len(content), difference, *accuracies)


class FaceGraph(nn.Module):
    """All that lies between a stored face and its probabilities, as one network on the CPU."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.classifier = checkpoint.classifier()
        self.temperature = checkpoint.temperature
        self.data = checkpoint.recipe.data
        self.eval()

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``(N, C, S, S)`` to logits and probabilities, float32 ``(N, K)`` each, both after temperature."""
        logits = self.classifier(faces) / self.temperature
        return logits, logits.softmax(1)


def build_graph(network: FaceGraph) -> onnx.ModelProto:
    """The network as ONNX with a free number of faces as its data store them, its weights inside."""
    data = network.data
    size = data.size or FACE_SIZE
    program = torch.onnx.export(
        network,
        (torch.zeros(2, COLOR_CHANNELS if data.color else 1, size, size, dtype=torch.uint8),),
        dynamo=True,
        input_names=["faces"],
        output_names=["logits", "probabilities"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:  # only its type allows it
        raise errors.ModelError(
            "expected an ONNX graph from PyTorch, got none; install another version of torch, onnxscript"
        )
    return without_notes(program.model_proto)


def without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without what the exporter notes of the program that built it."""
    # The exporter notes the names of source files and the like on every node.
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del graph.metadata_props[:]
    return model


def metadata_of(checkpoint: Checkpoint, report: Report, license: str, validation: Predictions | None) -> dict[str, str]:
    """What the file says of itself.

    ``data_sha256``, and the recipe's ``[data]`` from ``protocol`` to ``group`` as far as it is set, tell which faces
    chose the weights; ``most_frequent`` is the training split's class. ``abstention`` has, for each accuracy that can
    be asked for, the minimum confidence of an answer, and the fraction of validation faces that then get one.
    """
    recipe = checkpoint.recipe
    learnt_from = [str(report.data), *(["FER+ votes"] if recipe.votes_outputs() else [])]
    if report.initialization != "scratch":
        learnt_from.append(f"initial weights: {report.pretrained or report.initialization}")
    split = {name: getattr(recipe.data, name) for name in SPLIT if name != "folds" or recipe.data.fold is not None}
    told = {"data_sha256": report.data_sha256, "most_frequent": report.most_frequent, **split}
    return {
        "labels": json.dumps(checkpoint.labels),
        "model": recipe.model.name,
        "recipe_sha256": recipe.sha256(),
        "training_data": ", ".join(learnt_from),
        "temperature": repr(checkpoint.temperature),
        "license": license,
        "mien_version": __version__,
        **{name: str(value) for name, value in told.items() if value is not None},
        **({} if validation is None else {"abstention": json.dumps(_thresholds(validation))}),
    }


def _learnt_metadata(learnt: Learnt | None) -> dict[str, str]:
    """What binds the file to the hashes beside it."""
    if learnt is None:
        return {}
    sha256, pictures = LEARNT
    found = {sha256: hashlib.sha256(learnt.content()).hexdigest()}
    return found | ({pictures: str(len(learnt.hashes))} if learnt.is_complete else {})


def calibration_faces(samples: FaceSamples, settings: DataSettings) -> NDArray[np.uint8]:
    """Faces ``(n, S, S)`` or ``(n, S, S, 3)`` of the recipe's ``training`` split alone; the same for the same data.

    Raises:
        DataError: the data have no such split.
    """
    training = samples.split_for(Split.TRAINING, settings)
    chosen = np.random.default_rng(0).permutation(training)[:CALIBRATION_FACES]
    faces: NDArray[np.uint8] = samples.images[np.sort(chosen)]
    return faces


def _thresholds(validation: Predictions) -> list[list[float]]:
    """``[accuracy, threshold, coverage]`` of every whole percentage that can be reached, the threshold rounded up."""
    labels, probabilities = validation.label, validation.probabilities
    reached = [(percent / 100, abstention(labels, probabilities, percent / 100)) for percent in range(1, 101)]
    return [
        [wanted, math.ceil(1e4 * found.threshold) / 1e4, round(found.coverage, 4)]
        for wanted, found in reached
        if found is not None
    ]


def max_difference(content: bytes, network: FaceGraph) -> float:
    """Maximum difference of a probability between ONNX Runtime and PyTorch, on drawn faces and on noise.

    Raises:
        ModelError: it is more than ``TOLERANCE``, or not a number.
    """
    faces = _trial_faces(network.data)
    faces[1::2] = np.random.default_rng(0).integers(0, 256, faces[1::2].shape, dtype=np.uint8)
    differences = []
    for count in COUNTS:
        with torch.inference_mode():
            expected = network(torch.from_numpy(as_planes(faces[:count]).copy()))[1].numpy()
        differences.append(np.abs(probabilities_of_graph(content, faces[:count]) - expected).max())
    found = float(np.max(differences))
    if not found <= TOLERANCE:  # not a number is not within it either
        raise errors.ModelError(
            f"expected ONNX Runtime's probabilities within {TOLERANCE:g} of PyTorch's, got {found:g};"
            " nothing was written. Try other versions of torch, onnxscript or onnxruntime"
        )
    return found


def _trial_faces(settings: DataSettings) -> NDArray[np.uint8]:
    """Drawn faces of the size and colour that a recipe's data have, as many as are compared at most."""
    size = settings.size or FACE_SIZE
    return np.stack([crop_face(face, size=size, color=settings.color) for face in draw_faces(max(COUNTS)).images])


def probabilities_of_graph(content: bytes, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities ``(N, K)`` by ONNX Runtime of a graph that is not a file yet; faces as in ``as_planes``."""
    session = create_session(content)
    batches = [as_planes(faces[start : start + BATCH]) for start in range(0, len(faces), BATCH)]  # (n, C, S, S) each
    return np.concatenate([session.run(["probabilities"], {"faces": batch})[0] for batch in batches])


def _validation_accuracy(content: bytes, samples: FaceSamples, settings: DataSettings) -> float:
    indices = samples.split_for(Split.VALIDATION, settings)
    predicted = probabilities_of_graph(content, samples.images[indices]).argmax(1)
    return float(np.mean(predicted == samples.labels[indices]))
