"""A face detector -> the ONNX graph of faces: pictures of any size in; boxes, points and scores out.

The file is written only if it says what PyTorch says.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from mien import __version__, errors
from mien.detector_recipe import load_detector_recipe
from mien.evaluation.detection import THRESHOLD
from mien.export.write import OPSET, without_notes
from mien.face.runtime import create_session
from mien.files import writing
from mien.models.face_detector import FaceDetectorNet
from mien.runs import Run
from mien.runs.detector import load_detector

OUTPUTS = ("boxes", "points", "scores")

TOLERANCE = 1e-4
"""Maximum difference between ONNX Runtime and PyTorch: of a score, and of a box or point in parts of the picture."""

SIZES = ((1, 64, 96), (2, 50, 83), (1, 33, 200))
"""Pictures, height and width at which the two are compared."""

NO_LICENSE = "NOASSERTION"


@dataclass(frozen=True)
class ExportedDetector:
    """A file that was written: its size in bytes, and how much it differs from PyTorch at most."""

    path: Path
    size: int
    difference: float


class PictureGraph(nn.Module):
    """All that lies between pictures and what is found in them, on the CPU."""

    def __init__(self, network: FaceDetectorNet) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        first = self.network.stem[0][0]  # type: ignore[index]
        first.weight.data /= self.network.scale  # a power of two: exactly the same numbers
        self.network.scale = 1.0
        self.eval()

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 ``(N, H, W, 3)``, RGB, to boxes ``(N, K, 4)``, points ``(N, K, 5, 2)`` and scores ``(N, K)``."""
        found = self.network(picture.permute(0, 3, 1, 2))
        middles, sizes = found.boxes[..., :2], found.boxes[..., 2:]
        return torch.cat([middles - sizes / 2, sizes], 2), found.points, found.logits.sigmoid()


def export_detector(
    run: Run, out: Path, *, threshold: float = THRESHOLD, license: str = NO_LICENSE
) -> ExportedDetector:
    """Write a run's kept weights as the graph of faces, whole or not at all.

    Args:
        run: of a face detector.
        out: the file.
        threshold: score from which on a face is one, which readers take from the file.
        license: SPDX identifier of the file.

    Raises:
        RunError: nothing was trained there, or the file cannot be written.
        ModelError: ONNX Runtime and PyTorch differ.
    """
    recipe = load_detector_recipe(run.recipe_path)
    network, _ = load_detector(run.best_checkpoint)
    graph = PictureGraph(network)
    model = build_graph(graph)
    learnt_from = ["pictures of --data", *recipe.collages.faces, *(["a YuNet file"] if recipe.training.teacher else [])]
    told = {
        "model": "face_detector",
        "threshold": repr(threshold),
        "recipe": recipe.name,
        "recipe_sha256": recipe.sha256(),
        "training_data": ", ".join(learnt_from),
        "license": license,
        "mien_version": __version__,
    }
    onnx.helper.set_model_props(model, told)
    content = model.SerializeToString()
    difference = max_difference(content, graph)
    with writing(out, error=errors.RunError) as file:
        file.write(content)
    return ExportedDetector(out, len(content), difference)


def build_graph(network: PictureGraph) -> onnx.ModelProto:
    """The network as ONNX for any number of pictures of any size, its weights inside."""
    dim = torch.export.Dim
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 70, 100, 3, dtype=torch.uint8),),
        dynamo=True,
        input_names=["picture"],
        output_names=list(OUTPUTS),
        dynamic_shapes=({0: dim("N"), 1: dim("H"), 2: dim("W")},),
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:  # only its type allows it
        raise errors.ModelError("expected an ONNX graph from PyTorch, got none; install another version of torch")
    return without_notes(program.model_proto)


def max_difference(content: bytes, network: PictureGraph) -> float:
    """Maximum difference between ONNX Runtime and PyTorch on noise.

    Raises:
        ModelError: it is more than ``TOLERANCE``, or not a number.
    """
    session, random, worst = create_session(content), np.random.default_rng(0), 0.0
    for count, height, width in SIZES:
        pictures = random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = [each.numpy() for each in network(torch.from_numpy(pictures))]
        found = session.run(list(OUTPUTS), {"picture": pictures})
        for part, wanted, unit in zip(found, expected, (max(height, width), max(height, width), 1), strict=True):
            worst = max(worst, float(np.abs(part - wanted).max()) / unit)
    if not worst <= TOLERANCE:
        raise errors.ModelError(
            f"expected ONNX Runtime's answers within {TOLERANCE:g} of PyTorch's, got {worst:g}; nothing was written."
            " Try other versions of torch, onnxscript or onnxruntime"
        )
    return worst
