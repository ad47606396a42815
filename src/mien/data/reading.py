"""Data spec -> faces, kept memory-mapped for next time in a file per state of the files that they were read from."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import errors, files
from mien.data import synthetic
from mien.data.layouts import LAYOUTS
from mien.data.layouts.raw import ReadOptions
from mien.data.layouts.tree import Tree, explained, open_tree
from mien.data.samples import FaceSamples, RowSource

logger = logging.getLogger(__name__)

FORMAT = 3
"""Version of the cached files and of what the readers make of a file; raise it whenever either changes."""

ARRAYS = ("images", "labels", "rows", "usages")
ABANDONED = 24 * 3600
"""Seconds after which a file that is being written belongs to nobody any more."""


def read_samples(spec: str, options: ReadOptions | None = None, cache: Path | None = None) -> FaceSamples:
    """The labelled faces that a data spec names.

    Args:
        spec: ``synthetic[:N]``, ``fer2013:PATH``, ``folder:PATH``, or a path that is looked at.
        options: by default nothing is skipped.
        cache: folder for what was read; by default :func:`mien.files.cache_folder`.

    Raises:
        CallError: no such form of spec, or a label map for drawn faces.
        MissingPathError: there is no such path, or no such label map.
        DataError: the faces cannot be read; names file, row and remedy.
    """
    options = options or ReadOptions()
    kind, separator, rest = spec.partition(":")
    if kind == "synthetic":
        if options.label_map is not None:
            raise errors.CallError("expected drawn faces without a label map, got one; leave it out")
        return synthetic.read_synthetic(_count(rest) if separator else synthetic.DEFAULT_COUNT)
    forms = ", ".join(["synthetic[:N]", *(f"{name}:PATH" for name in reversed(LAYOUTS)), "or a path"])
    if not (kind in LAYOUTS and separator):
        if separator and not os.path.exists(spec):
            raise errors.CallError(f"{errors.unknown_name(['synthetic', *LAYOUTS], kind, 'data')}; expected {forms}")
        kind, rest = "", spec
    if not rest:
        raise errors.CallError(f"expected data after {spec!r}, got nothing; write {forms}")
    path = Path(os.path.expanduser(rest))
    if not os.path.exists(path):
        raise errors.MissingPathError(f"{path}: expected data, but there is no such path; write {forms}")
    path = path.resolve()

    def read() -> FaceSamples:
        with open_tree(path) as tree:
            found = kind or next(name for name, layout in reversed(LAYOUTS.items()) if layout.holds(tree))
            return LAYOUTS[found].read(tree, options)

    try:
        folder = (cache or files.cache_folder()) / "data"
    except errors.OutputError as error:
        logger.warning("the faces cannot be kept for next time: %s", error)
        return read()
    return remember(folder, _digest(str(path)), _state(path, kind, options), read)


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise errors.CallError(
            f"expected synthetic:N with a whole number, such as synthetic:2000, got {text!r}"
        ) from error


def _state(path: Path, kind: str, options: ReadOptions) -> str:
    """Changes when a file below ``path``, the label map, the options, the layouts or the readers do."""
    with explained(str(path)):
        found = list(_files(path))
        if options.label_map is not None and options.label_map.exists():
            found += _files(options.label_map.resolve())
    return _digest(repr((FORMAT, kind or list(LAYOUTS), options, found)))


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of all files below a folder."""
    tree = Tree(path)
    for name in tree.names:
        status = os.stat(tree.place(name))
        yield tree.place(name), status.st_size, status.st_mtime_ns


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


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
            arrays = [np.load(file) for _ in ARRAYS]  # one after the other
            notes = json.loads(file.read())
        if [_checksum(array) for array in arrays] != notes["checksums"]:
            raise ValueError("the checksums differ")
        _, labels, rows, usages = arrays
        source, skipped = RowSource(notes["row_source"]), tuple(notes["skipped"])
        return FaceSamples(images, labels, rows, usages, notes["name"], source, skipped)
    except FileNotFoundError:
        return None
    except Exception as error:  # np.load raises almost anything on damaged files, and so does the look into the notes
        logger.warning("%s: a damaged cache entry is replaced (%s)", entry, error)
        return None


def _store(samples: FaceSamples, entry: Path) -> None:
    """Write the four arrays, the images first, and a line of JSON into one file."""
    arrays = [np.ascontiguousarray(getattr(samples, name)) for name in ARRAYS]
    notes = {
        "name": samples.name,
        "row_source": samples.row_source,
        "skipped": samples.skipped,
        "checksums": [_checksum(array) for array in arrays],
    }
    with files.writing(entry, mode=0o600) as file:  # the user's pictures are for the user
        for array in arrays:
            np.save(file, array)
        file.write(json.dumps(notes).encode())


def _checksum(array: NDArray[Any]) -> int:
    """CRC-32 of an array's values: 83 MB take 15 ms, and tell what a crash or a full disk left unwritten."""
    return zlib.crc32(np.ascontiguousarray(array).data)
