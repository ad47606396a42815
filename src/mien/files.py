"""Files that are written whole or not at all, and the user's cache."""

import contextlib
import errno
import hashlib
import io
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from mien.errors import ModelError, OutputError, RunError, shorten

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TIMEOUT = 30  # seconds that a server may be silent

PART = ".partial"
"""What is added to the name of a result that was not finished."""

LONGEST_NAME = 255  # bytes, of a file
LONGEST_ENDING = 20  # characters that are still taken for an ending

MADE_BY_SYSTEMS = (
    "__MACOSX", "@eaDir", "#recycle", "@Recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information",
    "lost+found", "Thumbs.db", "desktop.ini",
)  # fmt: skip
"""Names of folders and files that macOS, Windows, Linux, Synology and QNAP put among the user's own."""


class RememberingFile(io.FileIO):
    """A file that remembers a failed write: libraries such as torch report it as an error of their own."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        """As of ``FileIO``."""
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
    streamed: bool = False,
    empty: bool = True,
    mode: int | None = None,
    error: type[OutputError | RunError] = OutputError,
) -> Iterator[IO[bytes]]:
    """A temporary file beside ``path`` that is flushed to the disk and takes its place when the block ends.

    After a failed write, and after any error in the block, what stood at ``path`` still stands and nothing else is
    left. Missing folders are made; a link's target is written. A pipe or device is written into: at the end, or as
    the content comes where it is ``streamed``. ``partial``, for formats that are valid wherever they stop, keeps what
    was written until an error or an interruption in the block beside ``path``, as ``NAME.partial`` until there is a
    whole one, and tells so in a note of the exception. A file without content is kept only where ``empty`` and not
    ``partial``. ``mode`` says who may read it; by default whoever may read what stands there, or for a new file what
    the umask leaves.

    Yields:
        a binary stream. Its ``name`` is the temporary path, which ends like ``path``, for encoders that open a file
        themselves.

    Raises:
        OutputError: the file cannot be written; one line that says what to do. Or another ``error``.
    """
    with saying_what_fails(path, error):
        place = _find_place(path, mode)
        if place.there is not None and streamed and not stat.S_ISREG(place.there.st_mode):
            file, temporary = RememberingFile(path, "wb"), None
        else:
            descriptor, temporary = _create_temporary(place)
            file = RememberingFile(temporary, "wb", opener=lambda *_: descriptor)
    try:
        with _buffered(file, path, error, partial=partial) as stream:
            yield stream
        if temporary is not None and (temporary.stat().st_size or (empty and not partial)):
            with saying_what_fails(path, error):
                _publish(temporary, place)
            if partial:  # what an earlier run left is in the whole
                _part_of(place.target).unlink(missing_ok=True)
    except BaseException as reason:
        if partial and temporary is not None and not place.into and file.failure is None:
            _keep_part(temporary, place.target, reason)
        raise
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


class _Place(NamedTuple):
    """Where the bytes go."""

    target: Path  # behind links
    there: os.stat_result | None  # what stands there
    into: bool  # write into that, as nothing can take its place: a pipe, a device, a file whose folder is closed
    mode: int | None


def _find_place(path: Path, mode: int | None) -> _Place:
    """Raises ``OSError`` where nothing can be written: a folder, a file that is write-protected, a circle of links."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        there = None
    if there is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if there is not None and not stat.S_ISREG(there.st_mode):
        return _Place(path, there, into=True, mode=mode)
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    return _Place(target, there, there is not None and not os.access(target.parent, os.W_OK), mode)


def _create_temporary(place: _Place) -> tuple[int, Path]:
    """A new file, open, beside the one that it becomes; the umask and the folder say who may read it."""
    suffix = place.target.suffix if len(place.target.suffix) <= LONGEST_ENDING else ""
    if place.into:
        descriptor, name = tempfile.mkstemp(suffix=suffix)
        return descriptor, Path(name)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        name = fitting(f".{place.target.name}", f".{secrets.token_hex(4)}{suffix}")
        with contextlib.suppress(FileExistsError):
            mode = stat.S_IMODE(place.there.st_mode) if place.there is not None else 0o666
            return os.open(place.target.with_name(name), flags, place.mode or mode), place.target.with_name(name)


@contextlib.contextmanager
def _buffered(
    file: RememberingFile, path: Path, error: type[OutputError | RunError], *, partial: bool
) -> Iterator[IO[bytes]]:
    """The file as a stream; a failed write is an ``error``, whatever a library makes of it."""
    try:
        with io.BufferedWriter(file) as stream:
            yield stream
    except BaseException as reason:
        failure = file.failure or (reason if isinstance(reason, OSError) and not partial else None)
        if failure is None:
            raise
        raise _cannot_write(path, failure, error) from reason


def _publish(temporary: Path, place: _Place) -> None:
    """Put what was written in its place, with the mode, and if that is allowed the owner, of what stood there."""
    if place.into:
        _copy_into(temporary, place.target)
        return
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    if place.there is not None and hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(temporary, place.there.st_uid, place.there.st_gid)
    if place.mode is not None:
        temporary.chmod(place.mode)
    elif place.there is not None:
        temporary.chmod(stat.S_IMODE(place.there.st_mode))
    try:
        temporary.replace(place.target)
    except OSError as reason:
        if reason.errno != errno.EBUSY:  # a file that is mounted by itself, as containers do
            raise
        _copy_into(temporary, place.target)


def _copy_into(source: Path, target: Path) -> None:
    with source.open("rb") as content, target.open("wb") as stream:
        shutil.copyfileobj(content, stream)


def _keep_part(temporary: Path, target: Path, reason: BaseException) -> None:
    """What was written of ``target`` until the ``reason`` to stop, beside it."""
    part = _part_of(target)
    with contextlib.suppress(OSError):  # the reason is what the user is to read
        if temporary.stat().st_size:
            temporary.replace(part)
            reason.add_note(f"what was written until then is in {part}")


def _part_of(target: Path) -> Path:
    return target.with_name(fitting(target.name, PART))


def fitting(stem: str, ending: str) -> str:
    """``stem + ending``, with a stem that is cut where no file could have that name."""
    while len(os.fsencode(stem + ending)) > LONGEST_NAME and stem:
        stem = stem[:-1]
    return stem + ending


def is_shown(name: str) -> bool:
    """Whether a file or folder of this name is the user's own: not hidden, and not made by a system beside them."""
    return not name.startswith(".") and name not in MADE_BY_SYSTEMS


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
    what, full = reason.strerror or reason, reason.errno in (errno.ENOSPC, errno.EDQUOT)
    if error is RunError and full:
        return RunError(f"no room left to write {path}: free some space, then go on with --resume")
    remedy = "choose another --out" if error is RunError else "choose another place"
    if full:
        remedy = "free some space, or choose another place"
    elif reason.errno == errno.ENAMETOOLONG:
        remedy = "choose a shorter name"
    return error(f"cannot write {shorten(path)}: {what}; {remedy}")


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
