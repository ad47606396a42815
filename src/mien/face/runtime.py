"""ONNX Runtime sessions, all made here: silent, on the processor, without telemetry, and fit for any process."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mien.face.threads import cores

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"  # which import mien sets before ONNX Runtime is imported

_KEEP: Callable[[object], None] = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
"""Keeps an object until the process ends. A session of the process that this one was forked from must not end here, as
that would wait for threads that only that process has; its memory is shared with it."""


class Session:
    """A network that is run by ONNX Runtime. May be shared between threads, pickled, copied and used after a fork.

    It keeps the content of its file. A copy starts from that, and so does a process that was forked: at its first run
    there it makes itself anew, since the threads and locks of what it was copied from are not to be had.
    """

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        self._model, self._threads = model, threads
        self._made = os.getpid(), _started(model, threads)  # one value, so that other threads see both or none

    def __reduce__(self) -> tuple[Any, ...]:
        return Session, (self._model, self._threads)

    def __del__(self, getpid: Callable[[], int] = os.getpid, keep: Callable[[object], None] = _KEEP) -> None:
        # When Python ends, what this module imports may be gone before its sessions are.
        if hasattr(self, "_made") and self._made[0] != getpid():
            keep(self._made[1])

    def run(self, outputs: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The ``outputs`` for the inputs in ``feed``; what it raises has no common base."""
        found: list[NDArray[Any]] = self._here().run(outputs, feed)
        return found

    def get_inputs(self) -> list[Any]:
        """Name, type and shape of each input."""
        return list(self._here().get_inputs())

    def get_outputs(self) -> list[Any]:
        """Name, type and shape of each output."""
        return list(self._here().get_outputs())

    def get_modelmeta(self) -> Any:
        """What the file says of itself."""
        return self._here().get_modelmeta()

    def _here(self) -> Any:
        process, session = self._made
        if process != os.getpid():
            _KEEP(session)
            session = _started(self._model, self._threads)
            self._made = os.getpid(), session
        return session


def create_session(model: Path | bytes, threads: int | None = None) -> Session:
    """A network's session, of a file or its content.

    ``threads`` are the processor cores for one batch, by default all that this process may use. What it raises on
    networks that it cannot run has no common base.
    """
    return Session(model.read_bytes() if isinstance(model, Path) else model, threads)


def telemetry_is_off() -> bool:
    """Whether ONNX Runtime was told to report nothing; a user may have asked for the opposite."""
    return os.environ.get(TELEMETRY_OFF, "").lower() in ("1", "true", "yes", "on")


def _started(model: bytes, threads: int | None) -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # on Windows, where the environment variable does nothing
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong comes as an exception
    # Its own choice is the machine's cores, each thread bound to one, whatever this process may use.
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    for kind in ("intra", "inter"):  # threads that wait would take the processor from those that work
        options.add_session_config_entry(f"session.{kind}_op.allow_spinning", "0")
    # The fallback would print to stdout, and falls back to where it came from.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
