"""A fixed network to measure others beside: seven layers with seeded weights, always the same arithmetic.

    python -m benchmarks.reference_graph FILE.onnx

It keeps the contract of the recognizer's networks and knows nothing: its answers are noise. The ratio of a network's
speed to this one's can be compared between machines, and between loads of one machine.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.emotions import EMOTIONS
from mien.face.crop import FACE_SIZE

CONVOLUTIONS = ((1, 32, 2), (32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1))
"""Channels in and out, and stride, of 3x3 convolutions with ReLU; average pooling and a linear layer follow."""


def reference_macs() -> int:
    """Multiply-adds for one face."""
    side, macs = FACE_SIZE, CONVOLUTIONS[-1][1] * len(EMOTIONS)
    for before, after, stride in CONVOLUTIONS:
        side //= stride
        macs += 9 * before * after * side**2
    return macs


def write_reference(path: Path) -> Path:
    """Write the graph, in float32, with a free number of faces."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["layer0"]),
    ]
    weights = {"white": np.array(255, np.float32)}
    for number, (before, after, stride) in enumerate(CONVOLUTIONS):
        shape = (after, before, 3, 3)
        weights[f"kernel{number}"] = random.normal(0, np.sqrt(2 / (9 * before)), shape).astype(np.float32)
        names = [f"layer{number}", f"kernel{number}"]
        nodes.append(helper.make_node("Conv", names, [f"sum{number}"], strides=[stride] * 2, pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"sum{number}"], [f"layer{number + 1}"]))
    last = CONVOLUTIONS[-1][1]
    weights["matrix"] = random.normal(0, np.sqrt(1 / last), (last, len(EMOTIONS))).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [f"layer{len(CONVOLUTIONS)}"], ["pooled"]),  # (N, C, 1, 1)
        helper.make_node("Flatten", ["pooled"], ["flat"]),  # (N, C)
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),  # (N, 7)
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    onnx.save(_model(nodes, weights), path)
    return path


def _model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 1, FACE_SIZE, FACE_SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 7]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"labels": json.dumps([emotion.value for emotion in EMOTIONS]), "model": "reference"})
    return model


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
