"""A graph of faces that finds pure red cells of 16 pixels: what lies around it is tested."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tests.face.drawn_yunet import HEIGHT, OFFSETS, WIDTH


def graph_bytes(leave_out: str = "", kind: int = TensorProto.UINT8, **metadata: str) -> bytes:
    """The ONNX file; ``leave_out`` an output, or another ``kind`` of pixels, make foreign ones."""
    weights = {
        "red": np.array([1, -1, 0], np.float32).reshape(1, 3, 1, 1) / 255,
        "zero": np.float32(0), "one": np.float32(1), "half": np.float32(0.5), "cell": np.float32(16),
        "axis_2": np.int64(2), "axis_3": np.int64(3), "flat": np.array([0, -1]), "last": np.array([2]),
        "to_corner": np.array([-WIDTH / 2, -HEIGHT / 2], np.float32), "size": np.array([WIDTH, HEIGHT], np.float32),
        "offsets": np.array(OFFSETS, np.float32), "between": np.array([2]),
    }  # fmt: skip

    def node(kind: str, inputs: str, output: str, **options: object) -> object:
        return helper.make_node(kind, inputs.split(), [output], **options)

    places = [
        step
        for axis in ("3", "2")
        for step in (
            node("CumSum", f"ones axis_{axis}", f"count_{axis}"),
            node("Sub", f"count_{axis} half", f"middle_{axis}"),
            node("Mul", f"middle_{axis} cell", f"place_{axis}"),
            node("Reshape", f"place_{axis} flat", f"line_{axis}"),
            node("Unsqueeze", f"line_{axis} last", f"column_{axis}"),
        )
    ]
    nodes = [
        node("Cast", "picture", "values", to=TensorProto.FLOAT),
        node("Transpose", "values", "planes", perm=[0, 3, 1, 2]),
        node("Conv", "planes red", "redness"),
        node("AveragePool", "redness", "mean", kernel_shape=[16, 16], strides=[16, 16]),
        node("Relu", "mean", "share"),
        node("Reshape", "share flat", "scores"),
        node("Mul", "share zero", "zeros"),
        node("Add", "zeros one", "ones"),
        *places,
        node("Concat", "column_3 column_2", "centres", axis=2),
        node("Add", "centres to_corner", "corners"),
        node("Mul", "centres zero", "no_sizes"),
        node("Add", "no_sizes size", "sizes"),
        node("Concat", "corners sizes", "boxes", axis=2),
        node("Unsqueeze", "centres between", "apart"),
        node("Add", "apart offsets", "points"),
    ]
    shapes = {"boxes": ["N", "K", 4], "points": ["N", "K", 5, 2], "scores": ["N", "K"]}
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("picture", kind, ["N", "H", "W", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
            if name != leave_out
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content
