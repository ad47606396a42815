"""The streams of the command line: every encoding, and what cannot be written."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from mien.files import RememberingFile

SIMPLER = {
    "█": "#", "░": ".", "✓": "+", "✗": "x", "…": "...", "\N{EN DASH}": "-", "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x", "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ",
}  # fmt: skip
"""Signs that we print -> others, which every encoding has."""

ERRORS = "mien.simpler"
"""The name of :func:`_simpler` among Python's handlers of encoding errors."""


def _simpler(error: UnicodeError) -> tuple[str, int]:
    """Other signs for those that a stream's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_simpler_sign, error.object[error.start : error.end])), error.end


def _simpler_sign(sign: str) -> str:
    byte = ord(sign) - 0xDC00  # of a name that is no text, as os.fsdecode hides it
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else SIMPLER.get(sign, "?")


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Within the block stdout and stderr take every text, and :func:`stdout_failure` knows what stdout did not take."""
    codecs.register_error(ERRORS, _simpler)
    before = sys.stdout
    sys.stdout = _remembering(before)
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    errors = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors=ERRORS)
    try:
        yield
    finally:
        sys.stdout = before
        for stream, each in zip(streams, errors, strict=True):
            with contextlib.suppress(ValueError, OSError):  # it is closed, or full
                stream.reconfigure(errors=each)


def _remembering(stdout: TextIO | None) -> TextIO:
    """The process's own stdout, one that remembers what went wrong; one that was closed fails when it is written to."""
    if stdout is None:
        raw = RememberingFile(os.open(os.devnull, os.O_RDONLY), "w")
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8")
    # A console of Windows takes no bytes, and a stream that a program put there is none of ours.
    is_own = stdout is sys.__stdout__ and isinstance(_raw(stdout), io.FileIO)
    if not (is_own and isinstance(stdout, io.TextIOWrapper)):
        return stdout
    stdout.flush()
    raw = RememberingFile(stdout.fileno(), "w", closefd=False)
    stream: Any = raw if stdout.write_through else io.BufferedWriter(raw)  # as PYTHONUNBUFFERED says
    return io.TextIOWrapper(
        stream, stdout.encoding, line_buffering=stdout.line_buffering, write_through=stdout.write_through
    )


def _raw(stream: object) -> object:
    """The file below a stream."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def stdout_failure() -> OSError | None:
    """Why something that was written to stdout did not arrive, or ``None``."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    raw = _raw(sys.stdout)
    return raw.failure if isinstance(raw, RememberingFile) else None


def drop_stdout() -> None:
    """Forget what stdout did not take, of which Python would tell at its end in words of its own."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stdout.flush()
