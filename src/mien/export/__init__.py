"""Run -> ONNX: the one file that passes from the laboratory to the recognizer."""

from mien.export.write import Exported, export_onnx

__all__ = ["Exported", "export_onnx"]
