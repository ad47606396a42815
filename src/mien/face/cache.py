"""The user's cache: where it lies, and files that are fetched into it once."""

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mien.errors import ModelError

TIMEOUT = 30
"""Seconds that a server may be silent."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that is not ours to ship, and how to tell that it is the right one.

    Attributes:
        name: in the cache.
        url: where it is fetched, by http or https.
        sha256: hexadecimal, of its content.
        size: in bytes.
        license: SPDX identifier.
    """

    name: str
    url: str
    sha256: str
    size: int
    license: str


def cache_folder() -> Path:
    """``$MIEN_CACHE``, or ``mien`` in the user's cache folder."""
    if chosen := os.environ.get("MIEN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def cached_path(file: RemoteFile) -> Path:
    """Where ``file`` lies once it was fetched."""
    return cache_folder() / "models" / file.name


def fetch(file: RemoteFile, remedy: str) -> Path:
    """The path of ``file`` in the cache; it is fetched where it is missing or damaged, and appears whole or not at all.

    Args:
        file: what to fetch.
        remedy: ends the message of an error: what to do without a network.

    Raises:
        ModelError: it cannot be fetched or kept, or what came is another file.
    """
    path = cached_path(file)
    if _is_whole(path, file):
        return path
    content = _download(file, remedy)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, content)
    except OSError as error:
        raise ModelError(
            f"{path}: {file.name} was fetched but cannot be kept ({error.strerror or error});"
            " set MIEN_CACHE to a folder that can be written"
        ) from error
    return path


def _is_whole(path: Path, file: RemoteFile) -> bool:
    try:
        return path.stat().st_size == file.size and _is(file, path.read_bytes())
    except OSError:
        return False


def _is(file: RemoteFile, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == file.sha256


def _download(file: RemoteFile, remedy: str) -> bytes:
    import http.client
    import urllib.request

    if urlsplit(file.url).scheme not in ("http", "https"):
        raise ModelError(f"expected an http or https address of {file.name}, came {file.url}; {remedy}")
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT) as response:
            content: bytes = response.read(file.size + 1)  # one byte more tells a longer file
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(f"{file.name} could not be fetched from {file.url}: {reason}; {remedy}") from error
    if not _is(file, content):
        raise ModelError(
            f"expected {file.name} of {file.size} bytes with sha256 {file.sha256} from {file.url},"
            f" came {'more than ' if len(content) > file.size else ''}{min(len(content), file.size)} bytes"
            f" of another file; {remedy}"
        )
    return content


def _write_whole(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
