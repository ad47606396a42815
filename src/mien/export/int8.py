"""Static quantisation: convolutions and matrix products in 8-bit integers, calibrated on Training pictures.

Every choice here, with what was measured for it, stands in ``docs/decisions/0006-int8.md``.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from mien.face.network import BATCH, as_planes

WEIGHTED = ("Conv", "Gemm", "MatMul")
"""Kinds of node that hold a network's weights; the last of them is the classifier."""

QUANTIZED = (*WEIGHTED, "Add", "Mul", "Relu", "MaxPool")
"""Kinds of node that ONNX Runtime computes in 8 bits on a processor and that lie between convolutions."""

WIDE_STEM = 64
"""Channels that a first convolution must have for 8-bit kernels to be worth it: it reads one grey channel only."""


def quantize(graph: onnx.ModelProto, faces: NDArray[np.uint8]) -> onnx.ModelProto:
    """The float32 graph with its body in int8; a narrow first convolution, classifier and softmax stay as they are.

    The ranges of the feature maps are those that ``faces``, ``(n, S, S)`` or ``(n, S, S, 3)``, show.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantized"))
        onnx.save(graph, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)  # folds what follows a convolution into it
        quantize_static(
            prepared,
            quantized,
            _Batches(faces),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=_outside_the_body(onnx.load(prepared).graph),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        found = onnx.load(quantized)
    del found.opset_import[:]  # ONNX Runtime lists every dialect that it knows, though none but ONNX's own is used
    found.opset_import.extend(each for each in graph.opset_import if not each.domain)
    onnx.checker.check_model(found, full_check=True)
    return found


def _outside_the_body(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes before the first wide one with weights, and of the classifier and all that follows it."""
    weighted = [place for place, node in enumerate(graph.node) if node.op_type in WEIGHTED]
    channels = {each.name: each.dims[0] for each in graph.initializer if each.dims}
    stem = graph.node[weighted[0]]
    wide = stem.op_type == "Conv" and channels.get(stem.input[1], 0) >= WIDE_STEM
    start = weighted[0] if wide else weighted[0] + 1
    return [node.name for node in (*graph.node[:start], *graph.node[weighted[-1] :])]


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Faces as the quantiser asks for them: one batch after another, then ``None``."""

    def __init__(self, faces: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = (
            as_planes(faces[start : start + BATCH]) for start in range(0, len(faces), BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch ``(n, C, S, S)`` by the name of its input."""
        batch = next(self._batches, None)
        return None if batch is None else {"faces": batch}
