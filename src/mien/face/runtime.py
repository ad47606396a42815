"""ONNX Runtime sessions, all made here: silent, on the processor, and without telemetry."""

import os
from pathlib import Path
from typing import Any

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"  # which import mien sets before ONNX Runtime is imported


def create_session(model: Path | bytes, threads: int | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file or its content, that may be shared between threads.

    ``threads`` are the processor cores for one batch, by default all. What it raises on networks that it cannot run has
    no common base.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # on Windows, where the environment variable does nothing
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong comes as an exception
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    # The fallback would print to stdout, and falls back to where it came from.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)


def telemetry_is_off() -> bool:
    """Whether ONNX Runtime was told to report nothing; a user may have asked for the opposite."""
    return os.environ.get(TELEMETRY_OFF, "").lower() in ("1", "true", "yes", "on")
