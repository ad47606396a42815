"""A network with YuNet's inputs and outputs that finds pure red cells of 16 pixels: what lies around it is tested."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mien.face.crop import FACE_SIZE, REFERENCE

WIDTH, HEIGHT = 64, 80
"""Of the boxes that it gives, around the centre of a red cell."""

ROLL = 20.0
_UPRIGHT = np.array(REFERENCE) - FACE_SIZE / 2
_COS, _SIN = np.cos(np.radians(ROLL)), np.sin(np.radians(ROLL))
_TURN = np.array([[_COS, _SIN], [-_SIN, _COS]])
OFFSETS = _UPRIGHT @ _TURN
"""From that centre to the points of a face that is turned clockwise, ``(5, 2)``."""


def yunet_bytes(side: int | None = 640, leave_out: str = "", landmarks: int = 10) -> bytes:
    """The ONNX file, of any size where ``side`` is ``None``; ``leave_out`` and ``landmarks`` make foreign ones."""
    nodes, weights, outputs = [], [], []
    sizes = {"cls": 1, "obj": 1, "bbox": 4, "kps": landmarks}

    def constant(name: str, value: object, shape: tuple[int, ...]) -> str:
        kind = np.int64 if name.startswith("shape") else np.float32
        weights.append(numpy_helper.from_array(np.array(value, kind).reshape(shape), name))
        return name

    nodes.append(helper.make_node("Conv", ["input", constant("red_of_bgr", [0, -1, 1], (1, 3, 1, 1))], ["red"]))
    for stride in (8, 16, 32):
        cells = f"K_{stride}" if side is None else (side // stride) ** 2
        constant(f"gain_{stride}", 1 / 255 if stride == 16 else 0, ())
        constant(f"shape_{stride}", [1, -1, 1], (3,))
        nodes += [
            helper.make_node(
                "AveragePool", ["red"], [f"mean_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            helper.make_node("Mul", [f"mean_{stride}", f"gain_{stride}"], [f"share_{stride}"]),
            helper.make_node("Reshape", [f"share_{stride}", f"shape_{stride}"], [f"cls_{stride}"]),
        ]
        same = {
            "obj": [1],
            "bbox": [0.5, 0.5, np.log(WIDTH / 16), np.log(HEIGHT / 16)],
            "kps": np.resize(0.5 + OFFSETS.ravel() / 16, landmarks),
        }
        for name, row in same.items():
            zeros = constant(f"{name}_zeros_{stride}", np.zeros(len(row)), (1, 1, -1))
            values = constant(f"{name}_values_{stride}", row, (1, 1, -1))
            nodes.append(helper.make_node("Mul", [f"cls_{stride}", zeros], [f"{name}_flat_{stride}"]))
            nodes.append(helper.make_node("Add", [f"{name}_flat_{stride}", values], [f"{name}_{stride}"]))
        outputs += [
            helper.make_tensor_value_info(f"{name}_{stride}", TensorProto.FLOAT, [1, cells, size])
            for name, size in sizes.items()
            if f"{name}_{stride}" != leave_out
        ]
    faces = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side or "H", side or "W"])
    graph = helper.make_graph(nodes, "drawn", [faces], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
