"""What was read once, kept as memory-mapped arrays in a folder per state of the files that it was read from."""

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mien.data.samples import FaceSamples, RowSource
from mien.errors import DataError

logger = logging.getLogger(__name__)

ARRAYS = ("images", "labels", "rows", "usages")

ABANDONED = 24 * 3600
"""Seconds after which an entry that is being written belongs to nobody any more."""

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
"""What systems answer where a folder would replace one that holds files."""


def remember(folder: Path, source: str, state: str, read: Callable[[], FaceSamples]) -> FaceSamples:
    """The samples of ``source`` in ``state``: from the cache, or read and stored there.

    Entries appear whole or not at all, so that processes may share the folder. A damaged entry is replaced. Storing
    a new state of a source removes its old ones, and what killed processes left of it; arrays that are mapped
    elsewhere stay valid until they are let go. A cache that cannot be written is a warning, and the samples stay in
    memory.

    Args:
        folder: of the cache.
        source: name of what is read, fit for a file name, without ``-``.
        state: changes whenever the result would, fit for a file name.
        read: makes the samples.
    """
    entry = folder / f"{source}-{state}"
    samples = _load(entry)
    if samples is not None:
        return samples
    samples = read()
    try:
        _store(samples, entry)
    except OSError as error:
        logger.warning(
            "%s: the faces cannot be kept for next time (%s); set MIEN_CACHE to another folder", folder, error
        )
        return samples
    for old in folder.glob(f"{source}-*"):
        if old != entry:
            shutil.rmtree(old, ignore_errors=True)
    for unfinished in folder.glob(f".{source}-*"):  # of a process that was killed, unless it is young
        with contextlib.suppress(FileNotFoundError):
            if time.time() - unfinished.stat().st_mtime > ABANDONED:
                shutil.rmtree(unfinished, ignore_errors=True)
    return _load(entry) or samples


def _load(entry: Path) -> FaceSamples | None:
    """The samples of an entry, images memory-mapped; ``None`` where there is none or it is damaged."""
    try:
        notes = json.loads((entry / "notes.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r" if name == "images" else None) for name in ARRAYS}
        if {name: _checksum(array) for name, array in arrays.items()} != notes["checksums"]:
            raise ValueError("the checksums differ")
        return FaceSamples(
            **arrays,
            name=notes["name"],
            row_source=RowSource(notes["row_source"]),
            skipped=tuple(notes["skipped"]),
        )
    except FileNotFoundError:
        return None
    # np.load and the look into damaged notes raise no common error.
    except (OSError, EOFError, ValueError, KeyError, TypeError, DataError) as error:
        logger.warning("%s: a damaged cache entry is made anew (%s)", entry, error)
        return None


def _store(samples: FaceSamples, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        arrays = {name: np.ascontiguousarray(getattr(samples, name)) for name in ARRAYS}
        for name, array in arrays.items():
            np.save(fresh / f"{name}.npy", array)
        notes: dict[str, Any] = {
            "name": samples.name,
            "row_source": samples.row_source,
            "skipped": samples.skipped,
            "checksums": {name: _checksum(array) for name, array in arrays.items()},
        }
        (fresh / "notes.json").write_text(json.dumps(notes), encoding="utf-8")
        _replace(fresh, entry)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replace(fresh: Path, entry: Path) -> None:
    """Put a folder in another's place. One that holds files cannot be replaced: it is first moved out of the way."""
    old = Path(f"{fresh}.old")
    while True:
        try:
            os.replace(fresh, entry)
            return
        except OSError as error:
            if error.errno not in OCCUPIED:
                raise
        with contextlib.suppress(FileNotFoundError):  # another process, which does the same, was faster
            os.replace(entry, old)
            shutil.rmtree(old, ignore_errors=True)


def _checksum(array: "np.ndarray[Any, Any]") -> int:
    """CRC-32 of an array's values: 83 MB take 15 ms, and tell what a crash or a full disk left unwritten."""
    return zlib.crc32(np.ascontiguousarray(array).data)
