"""Faces that were read once, kept memory-mapped for next time: one file per state of what they were read from."""

import contextlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import errors, files
from mien.data.paths import PathTable
from mien.data.samples import FaceSamples, RowSource, Usage

logger = logging.getLogger(__name__)

FORMAT = 4
"""Version of the cached files and of what the readers make of a file; raise it whenever either changes."""

ABANDONED = 24 * 3600
"""Seconds after which a file that is being written belongs to nobody any more."""


def remember(folder: Path, source: str, state: str, read: Callable[[], FaceSamples]) -> FaceSamples:
    """The samples of ``source`` in ``state``: from the cache, or read and stored there.

    Entries appear whole or not at all, so that processes may share the folder. A damaged entry is replaced. Storing
    a new state of a source removes its old ones, and what killed processes left of it; arrays that are mapped
    elsewhere stay valid until they are let go. A cache that cannot be written is a warning, and the samples stay in
    memory. ``source`` and ``state`` are fit for file names, ``source`` without ``-``.
    """
    entry = folder / f"{source}-{state}.npy"
    samples = _load(entry)
    if samples is not None:
        return samples
    samples = read()
    try:
        _store(samples, entry)
    except errors.OutputError as error:
        logger.warning("the faces cannot be kept for next time: %s (MIEN_CACHE names the cache)", error)
        return samples
    for old in folder.glob(f"{source}-*"):
        if old != entry:
            _remove(old)
    for unfinished in folder.glob(f".{source}-*"):  # of a process that was killed, unless it is young
        with contextlib.suppress(FileNotFoundError):
            if time.time() - unfinished.stat().st_mtime > ABANDONED:
                _remove(unfinished)
    return _load(entry) or samples


def _remove(path: Path) -> None:  # a file, or the folder that an older version kept
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _load(entry: Path) -> FaceSamples | None:
    """The samples of an entry, images memory-mapped; ``None`` where there is none or it is damaged."""
    try:
        images = np.load(entry, mmap_mode="r")
        with entry.open("rb") as file:
            np.load(file)
            labels, rows, usages, groups, text, ends = arrays = [np.load(file) for _ in range(6)]
            notes = json.loads(file.read())
        if [_checksum(array) for array in (images, *arrays)] != notes["checksums"]:
            raise ValueError("the checksums differ")
        return FaceSamples(
            images, labels, rows, usages, notes["name"], RowSource(notes["row_source"]), tuple(notes["skipped"]),
            classes=tuple(notes["classes"]),
            paths=None if notes["root"] is None else PathTable(notes["root"], text, ends),
            groups=groups if notes["grouped"] else None,
            split_names={Usage(int(usage)): name for usage, name in notes["split_names"].items()},
        )  # fmt: skip
    except FileNotFoundError:
        return None
    except Exception as error:  # np.load raises almost anything on damaged files, and so does the look into the notes
        logger.warning("%s: a damaged cache entry is replaced (%s)", entry, error)
        return None


def _store(samples: FaceSamples, entry: Path) -> None:
    """Write the arrays, the images first, and a line of JSON into one file."""
    paths = samples.paths or PathTable.of("", [])
    groups = np.empty(0, np.int32) if samples.groups is None else samples.groups
    arrays: list[NDArray[Any]] = [
        np.ascontiguousarray(array)
        for array in (samples.images, samples.labels, samples.rows, samples.usages, groups, paths.text, paths.ends)
    ]
    notes = {
        "name": samples.name,
        "row_source": samples.row_source,
        "skipped": samples.skipped,
        "classes": samples.classes,
        "root": None if samples.paths is None else samples.paths.root,
        "grouped": samples.groups is not None,
        "split_names": {str(int(usage)): name for usage, name in samples.split_names.items()},
        "checksums": [_checksum(array) for array in arrays],
    }
    with files.writing(entry, mode=0o600) as file:  # the user's pictures are for the user
        for array in arrays:
            np.save(file, array)
        file.write(json.dumps(notes).encode())


def _checksum(array: NDArray[Any]) -> int:
    """CRC-32 of an array's values: 83 MB take 15 ms, and tell what a crash or a full disk left unwritten."""
    return zlib.crc32(np.ascontiguousarray(array).data)
