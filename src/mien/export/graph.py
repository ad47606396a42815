"""A checkpoint as one ONNX graph: stored faces in, calibrated probabilities out, and how true it is to PyTorch."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien import __version__
from mien.data import draw_faces
from mien.errors import ModelError
from mien.evaluation.calibration import abstention
from mien.evaluation.predict import Predictions
from mien.face.crop import FACE_SIZE
from mien.face.network import BATCH
from mien.face.runtime import create_session
from mien.runs import Checkpoint

OPSET = 18
TOLERANCE = 1e-4
"""The most that a probability may differ between ONNX Runtime and PyTorch."""

COUNTS = (1, 7, 64)
"""Faces at a time when the two are compared."""


class FaceGraph(nn.Module):
    """All that lies between a stored face and its probabilities, as one network on the CPU."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.classifier = checkpoint.classifier()
        self.temperature = checkpoint.temperature
        self.eval()

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``(N, 1, S, S)`` to logits and probabilities, float32 ``(N, 7)`` each, both after temperature."""
        logits = self.classifier(self.classifier.prepare(faces)) / self.temperature
        return logits, logits.softmax(1)


def build_graph(network: FaceGraph) -> onnx.ModelProto:
    """The network as ONNX with a free number of faces of 48 x 48, its weights inside."""
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, FACE_SIZE, FACE_SIZE, dtype=torch.uint8),),
        dynamo=True,
        input_names=["faces"],
        output_names=["logits", "probabilities"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:  # only its type allows it
        raise ModelError("PyTorch gave no ONNX graph; install another version of torch and onnxscript")
    graph = program.model_proto
    _forget_origins(graph.graph)
    return graph


def metadata_of(
    checkpoint: Checkpoint, report: Mapping[str, Any], license: str, validation: Predictions | None
) -> dict[str, str]:
    """What the file says of itself.

    ``protocol`` and ``validation_rows`` tell which faces chose the weights. ``abstention`` has, for each accuracy that
    can be asked for, the least confidence of an answer, and the share of the validation faces that then get one.
    """
    recipe = checkpoint.recipe
    taught = [report["data"], *(["FER+ votes"] if recipe.votes_outputs() else [])]
    if report["initialization"] != "scratch":
        taught.append(f"initial weights: {report['initialization']}")
    rows = recipe.data.validation_rows
    return {
        "labels": json.dumps(checkpoint.labels),
        "model": recipe.model.name,
        "recipe_sha256": recipe.sha256(),
        "training_data": ", ".join(taught),
        "temperature": repr(checkpoint.temperature),
        "license": license,
        "mien_version": __version__,
        "protocol": recipe.data.protocol,
        **({} if rows is None else {"validation_rows": str(rows)}),
        **({} if validation is None else {"abstention": json.dumps(_thresholds(validation))}),
    }


def _thresholds(validation: Predictions) -> list[list[float]]:
    """``[accuracy, threshold, coverage]`` of every whole percentage that can be reached, the threshold rounded up."""
    labels, probabilities = validation.label, validation.probabilities
    reached = [(percent / 100, abstention(labels, probabilities, percent / 100)) for percent in range(1, 101)]
    return [
        [wanted, math.ceil(1e4 * found.threshold) / 1e4, round(found.coverage, 4)]
        for wanted, found in reached
        if found is not None
    ]


def largest_difference(content: bytes, network: FaceGraph) -> float:
    """The most that a probability differs between ONNX Runtime and PyTorch, on drawn faces and on noise.

    Raises:
        ModelError: it is more than ``TOLERANCE``, or not a number.
    """
    faces = draw_faces(max(COUNTS)).images
    faces[1::2] = np.random.default_rng(0).integers(0, 256, faces[1::2].shape, dtype=np.uint8)
    differences = []
    for count in COUNTS:
        with torch.inference_mode():
            expected = network(torch.from_numpy(faces[:count, None]))[1].numpy()
        differences.append(np.abs(probabilities_of_graph(content, faces[:count]) - expected).max())
    found = float(np.max(differences))
    if not found <= TOLERANCE:  # not a number is not within it either
        raise ModelError(
            f"expected the probabilities of ONNX Runtime within {TOLERANCE:g} of PyTorch's, came {found:g} apart;"
            " nothing was written. Try other versions of torch, onnxscript or onnxruntime"
        )
    return found


def probabilities_of_graph(content: bytes, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities by ONNX Runtime of a graph that is not a file yet: ``(N, S, S) -> (N, 7)``."""
    session = create_session(content)
    batches = [faces[start : start + BATCH, None] for start in range(0, len(faces), BATCH)]  # (n, 1, S, S) each
    return np.concatenate([session.run(["probabilities"], {"faces": batch})[0] for batch in batches])


def _forget_origins(graph: onnx.GraphProto) -> None:
    """Drop the names of source files and the like that the exporter notes on every node."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del graph.metadata_props[:]
