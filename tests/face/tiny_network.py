"""A network of the contract that is small enough to compute by hand: for the recognizer's tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mien.emotions import EMOTIONS

LABELS = [emotion.value for emotion in EMOTIONS]


def weights(size: int) -> NDArray[np.float32]:
    """``(S * S, 7)``: each emotion looks for bright pixels in a band of its own."""
    table = np.zeros((size, size, 7), np.float32)
    for label, rows in enumerate(np.array_split(np.arange(size), 7)):
        table[rows, :, label] = 10 / (255 * len(rows) * size)
    return table.reshape(-1, 7)


def write_network(path: Path, size: int = 48, **changes: Any) -> Path:
    """An ONNX file.

    ``changes``: ``labels``, ``input_name``, ``input_type``, ``output_name``, ``batch``, ``abstention``.
    ``answer``, another change, is the nodes that lead from ``logits`` to ``probabilities``.
    """
    faces, output = changes.get("input_name", "faces"), changes.get("output_name", "probabilities")
    nodes = [
        helper.make_node("Cast", [faces], ["scaled"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["scaled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        *changes.get("answer", [helper.make_node("Softmax", ["logits"], [output], axis=1)]),
    ]
    shape = [changes.get("batch", "N"), 1, size, size]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(faces, changes.get("input_type", TensorProto.UINT8), shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 7]) for name in ("logits", output)],
        [numpy_helper.from_array(weights(size), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    properties = {"labels": json.dumps(changes.get("labels", LABELS)), "model": "tiny"}
    if "abstention" in changes:
        properties["abstention"] = changes["abstention"]
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path


def band(emotion: str, size: int = 48) -> NDArray[np.uint8]:
    """A face ``(S, S)`` that the network takes for ``emotion``."""
    face = np.zeros((size, size), np.uint8)
    face[np.array_split(np.arange(size), 7)[LABELS.index(emotion)]] = 255
    return face
