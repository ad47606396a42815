"""Data spec -> faces, kept for next time in the cache by the state of the files that they were read from."""

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mien import errors, files
from mien.data import synthetic
from mien.data.cache import FORMAT, remember
from mien.data.layouts import LAYOUTS
from mien.data.layouts.raw import ReadOptions
from mien.data.layouts.tree import Tree, explained, open_tree
from mien.data.samples import FaceSamples

logger = logging.getLogger(__name__)


def read_samples(spec: str, options: ReadOptions | None = None, cache: Path | None = None) -> FaceSamples:
    """The labelled faces that a data spec names, as large, in colour and by subject as ``options`` ask.

    Args:
        spec: ``synthetic[:N]``, ``fer2013:PATH``, ``folder:PATH``, or a path that is looked at.
        options: by default nothing is skipped.
        cache: folder for what was read; by default :func:`mien.files.cache_folder`.

    Raises:
        CallError: no such form of spec, a label map for drawn faces, or another size, colour or subjects for FER-2013.
        MissingPathError: there is no such path, or no such label map.
        DataError: the faces cannot be read; names file, row and remedy.
        OutputError: there is no room to keep many pictures.
    """
    options = options or ReadOptions()
    samples = _read(spec, options, cache)
    if not options.strict:
        return samples
    asked = {
        "data.size": options.size not in (None, samples.size),
        "data.color": options.color and not samples.color,
        "data.group": options.group is not None and samples.groups is None,
    }
    if any(asked.values()):
        kind = f"{samples.size} x {samples.size} and {'RGB' if samples.color else 'grey'}"
        raise errors.CallError(
            f"{spec}: expected faces that can be read with {', '.join(key for key in asked if asked[key])}, got those"
            f" of {samples.name}, which are {kind}, without subjects; leave it out (the network's side is"
            " model.input_size), or read pictures as folder:PATH"
        )
    return samples


def _read(spec: str, options: ReadOptions, cache: Path | None) -> FaceSamples:
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

    def read(scratch: Path | None = None) -> FaceSamples:
        with open_tree(path) as tree:
            found = kind or next(name for name, layout in reversed(LAYOUTS.items()) if layout.holds(tree))
            return LAYOUTS[found].read(tree, replace(options, scratch=scratch))

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
