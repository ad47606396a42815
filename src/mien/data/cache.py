"""Faces that were read once, kept memory-mapped for next time: one file per state of what they were read from."""

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mien import errors, files
from mien.data.paths import PathTable
from mien.data.pictures import block_ranges, blocks, forget_pages
from mien.data.samples import FaceSamples, RowSource, Usage

logger = logging.getLogger(__name__)

FORMAT = 7
"""Version of the cached files and of what the readers make of a file; raise it whenever either changes."""

ARRAYS = ("labels", "rows", "usages", "groups", "text", "ends", "hashes", "sums")
"""What follows the pictures in a file, one array after the other; then come the notes, a line of JSON."""

CHECKED = 32
"""Blocks of pictures whose checksums are compared at each start, at most: half a gigabyte."""

YOUNG = 60
"""Seconds after its last change up to which a file that is being written may have no lock yet."""


def remember(folder: Path, source: str, state: str, read: Callable[[Path], FaceSamples]) -> FaceSamples:
    """The samples of ``source`` in ``state``: from the cache, or read and stored there.

    ``read`` gets a path to which it may write pictures that are too many for memory, as an npy; the entry then is made
    of this file. Entries appear whole or not at all, so that processes may share the folder. A damaged entry is
    replaced. Storing a new state of a source removes its old ones; what killed processes left goes in any case. Arrays
    that are mapped elsewhere stay valid until they are let go. A cache that cannot be written is a warning, and the
    samples stay in memory. ``source`` and ``state`` are fit for file names, ``source`` without ``-``.
    """
    entry = folder / f"{source}-{state}.npy"
    _remove_abandoned(folder)
    samples = _load(entry)
    if samples is not None:
        return samples
    scratch = folder / f".{source}-{os.getpid()}-{secrets.token_hex(4)}.npy"
    try:
        samples = read(scratch)
        _store(samples, entry, scratch)
    except errors.OutputError as error:
        if samples is None:
            raise
        logger.warning("the faces cannot be kept for next time: %s (MIEN_CACHE names the cache)", error)
        return samples
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
    for old in folder.glob(f"{source}-*"):
        if old != entry:
            _remove(old)
    return _load(entry) or samples


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes were writing: files without a lock, unless they are young."""
    for unfinished in folder.glob(".*.npy"):
        with contextlib.suppress(OSError):  # its writer has locked it, or it has its place now
            if time.time() - unfinished.stat().st_mtime > YOUNG:
                with unfinished.open("rb+") as file:
                    files.lock(file.fileno())
                _remove(unfinished)


def _remove(path: Path) -> None:  # a file, or the folder that an older version kept
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _load(entry: Path) -> FaceSamples | None:
    """The samples of an entry, images memory-mapped; ``None`` where there is none or it is damaged."""
    try:
        images = np.load(entry, mmap_mode="r")
        with entry.open("rb") as file:
            file.seek(images.offset + images.nbytes)
            arrays = {name: np.load(file) for name in ARRAYS}
            notes = json.loads(file.read())
        if [_checksum(array) for array in arrays.values()] != notes["checksums"]:
            raise ValueError("the checksums differ")
        if not _are_whole(images, arrays["sums"]):
            raise ValueError("the checksums of the pictures differ")
        groups = arrays["groups"] if notes["grouped"] else None
        paths = None if notes["root"] is None else PathTable(notes["root"], arrays["text"], arrays["ends"])
        return FaceSamples(
            images, arrays["labels"], arrays["rows"], arrays["usages"], notes["name"], RowSource(notes["row_source"]),
            tuple(notes["skipped"]), tuple(notes["classes"]), paths, groups,
            {Usage(int(usage)): name for usage, name in notes["split_names"].items()},
        ).remembering(arrays["hashes"], notes["sha256"])  # fmt: skip
    except FileNotFoundError:
        return None
    except Exception as error:  # np.load raises almost anything on damaged files, and so does the look into the notes
        logger.warning("%s: a damaged cache entry is replaced (%s)", entry, error)
        return None


def _store(samples: FaceSamples, entry: Path, scratch: Path | None = None) -> None:
    """Write the pictures, the other arrays and a line of JSON into one file.

    Pictures that lie in ``scratch`` already are not written again: the rest follows them, and the file is renamed.
    """
    paths = samples.paths or PathTable.of("", [])
    arrays: dict[str, NDArray[Any]] = {
        "labels": samples.labels,
        "rows": samples.rows,
        "usages": samples.usages,
        "groups": np.empty(0, np.int32) if samples.groups is None else samples.groups,
        "text": paths.text,
        "ends": paths.ends,
        "hashes": samples.hashes,
        "sums": np.array([_checksum(block) for block in blocks(samples.images)], np.uint32),
    }
    notes = {
        "name": samples.name,
        "row_source": samples.row_source,
        "skipped": samples.skipped,
        "classes": samples.classes,
        "root": None if samples.paths is None else samples.paths.root,
        "grouped": samples.groups is not None,
        "split_names": {str(int(usage)): name for usage, name in samples.split_names.items()},
        "sha256": samples.content_sha256(),
        "checksums": [_checksum(arrays[name]) for name in ARRAYS],
    }

    def write_rest(file: IO[bytes]) -> None:
        for name in ARRAYS:
            np.save(file, np.ascontiguousarray(arrays[name]))
        file.write(json.dumps(notes).encode())

    if scratch is not None and scratch.exists():
        with files.saying_what_fails(entry, errors.OutputError), scratch.open("ab") as file:
            write_rest(file)
            file.flush()
            os.fsync(file.fileno())
            scratch.replace(entry)
        return
    with files.writing(entry, mode=0o600) as whole:  # the user's pictures are for the user
        np.save(whole, np.ascontiguousarray(samples.images))
        write_rest(whole)


def _are_whole(images: NDArray[np.uint8], sums: NDArray[np.uint32]) -> bool:
    """Whether the pictures have their checksums; of more than ``CHECKED`` blocks as many are compared, spread out."""
    count = len(sums)
    spread = {round(at * (count - 1) / (CHECKED - 1)) for at in range(CHECKED)} if count > CHECKED else range(count)
    ranges = list(block_ranges(images))
    if len(ranges) != count:
        return False
    for at in spread:
        if _checksum(images[ranges[at]]) != sums[at]:
            return False
        forget_pages(images)
    return True


def _checksum(array: NDArray[Any]) -> int:
    """CRC-32 of an array's values: 83 MB take 15 ms, and tell what a crash or a full disk left unwritten."""
    return zlib.crc32(np.ascontiguousarray(array).data)
