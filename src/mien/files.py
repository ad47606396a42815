"""Files that are written whole or not at all, and the user's cache."""

import contextlib
import errno
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from mien.errors import ModelError, OutputError, RunError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TIMEOUT = 30  # seconds that a server may be silent


class _Output(io.FileIO):
    """A file that remembers a failed write: libraries such as torch report it as an error of their own."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failure = error
            raise


@contextlib.contextmanager
def writing(
    path: Path,
    *,
    partial: bool = False,
    empty: bool = True,
    mode: int = 0o644,
    error: type[OutputError | RunError] = OutputError,
) -> Iterator[IO[bytes]]:
    """A temporary file beside ``path`` that is flushed to the disk and takes its place when the block ends.

    After a failed write, and after any error in the block, what stood at ``path`` still stands and nothing else is
    left. Missing folders are made. ``partial`` keeps what was written until an error or an interruption in the block,
    for formats that are valid wherever they stop. A file without content is kept only where ``empty`` and not
    ``partial``. ``mode`` says who may read it; until then the user alone may.

    Yields:
        a binary stream. Its ``name`` is the temporary path, which ends like ``path``, for encoders that open a file
        themselves.

    Raises:
        OutputError: the file cannot be written; one line that says what to do. Or another ``error``.
    """
    with saying_what_fails(path, error):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    file, done = _Output(name, "wb", opener=lambda *_: descriptor), False
    try:
        with io.BufferedWriter(file) as stream:
            yield stream
        done = True
    except BaseException as reason:
        failure = file.failure or (reason if isinstance(reason, OSError) and not partial else None)
        if failure is None:
            raise
        raise _cannot_write(path, failure, error) from reason
    finally:
        with saying_what_fails(path, error):
            keep = file.failure is None and (done or partial)
            _publish(Path(name), path, mode, keep=keep, empty=empty and not partial)


def _publish(temporary: Path, path: Path, mode: int, *, keep: bool, empty: bool) -> None:
    try:
        if keep and (empty or temporary.stat().st_size):
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(mode)
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    with writing(path, error=RunError) as file:
        file.write(text.encode())


def check_folder(path: Path | None) -> None:
    """Refuse a folder for results that cannot be written, before the work; ``None`` is no folder.

    Raises:
        OutputError: it is a file or below one, or may not be written.
    """
    if path is None:
        return
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise OutputError(f"--out: expected a folder, got {path}, where {there} is a file; choose another")
    if not os.access(there, os.W_OK):
        raise OutputError(f"--out: expected a folder that can be written, got {path}; choose another")


@contextlib.contextmanager
def saying_what_fails(path: Path, error: type[OutputError | RunError] = RunError) -> Iterator[None]:
    """Turn the system's errors about ``path`` into one line that says what to do."""
    try:
        yield
    except OSError as reason:
        raise _cannot_write(path, reason, error) from reason


def _cannot_write(path: Path, reason: OSError, error: type[OutputError | RunError]) -> OutputError | RunError:
    if error is RunError:
        if reason.errno in (errno.ENOSPC, errno.EDQUOT):
            return RunError(f"no room left to write {path}: free some space, then go on with --resume")
        return RunError(f"cannot write {path}: {reason.strerror or reason}; choose another --out")
    return error(f"cannot write {path}: {reason.strerror or reason}; free some space, or choose another place")


def lock(descriptor: int) -> None:
    """Lock a file until it is closed, also by the end of the process; ``OSError`` where another holds the lock."""
    if sys.platform == "win32":
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # bytes that are locked cannot be read, and the first ones tell who
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def cache_folder() -> Path:
    """``$MIEN_CACHE``, or ``mien`` in the user's cache folder.

    Raises:
        OutputError: the user has no home.
    """
    if chosen := os.environ.get("MIEN_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"
    except RuntimeError as error:
        raise OutputError("expected a home folder for the cache, got none; set MIEN_CACHE to a folder") from error


@dataclass(frozen=True)
class RemoteFile:
    """A file that is not ours to ship, and how to tell that it is the right one."""

    name: str  # in the cache
    url: str  # where it is fetched, by http or https
    sha256: str  # hexadecimal, of its content
    size: int  # in bytes
    license: str  # SPDX identifier

    def is_content(self, content: bytes) -> bool:
        """Whether these bytes are the file."""
        return len(content) == self.size and hashlib.sha256(content).hexdigest() == self.sha256


def fetch(file: RemoteFile, remedy: str) -> Path:
    """The path of ``file`` in the cache; it is fetched where it is missing or damaged.

    ``remedy`` ends the message of an error: what to do without a network.

    Raises:
        ModelError: it cannot be fetched or kept, or the server sent another file.
    """
    try:
        path = cache_folder() / "models" / file.name
        with contextlib.suppress(OSError):
            if path.stat().st_size == file.size and file.is_content(path.read_bytes()):
                return path
        content = _download(file, remedy)
        with writing(path) as stream:
            stream.write(content)
    except OutputError as error:
        raise ModelError(f"{file.name} cannot be kept: {error} (MIEN_CACHE names the cache)") from error
    return path


def _download(file: RemoteFile, remedy: str) -> bytes:
    import http.client  # with urllib.request a tenth of a second, which only a download pays
    import urllib.request

    if urlsplit(file.url).scheme not in ("http", "https"):
        raise ModelError(f"expected an http or https address of {file.name}, got {file.url}; {remedy}")
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT) as response:
            content: bytes = response.read(file.size + 1)  # one byte more tells a longer file
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(f"{file.name} could not be fetched from {file.url}: {reason}; {remedy}") from error
    if not file.is_content(content):
        more = "more than " if len(content) > file.size else ""
        raise ModelError(
            f"expected {file.name} of {file.size} bytes with sha256 {file.sha256} from {file.url},"
            f" got {more}{min(len(content), file.size)} bytes of another file; {remedy}"
        )
    return content
