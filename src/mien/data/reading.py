"""Data spec -> faces, kept memory-mapped for next time."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mien.data._cache import remember
from mien.data._tree import FolderTree, explained, open_tree
from mien.data.fer2013 import is_fer2013, read_fer2013
from mien.data.folder import read_folder
from mien.data.samples import FaceSamples
from mien.data.synthetic import DEFAULT_COUNT, read_synthetic
from mien.errors import CallError, MissingPathError, unknown_name
from mien.face.cache import cache_folder

FORMAT = 2
"""Of the cached arrays and of what the readers make of a file; raise it whenever either changes."""

READERS: dict[str, Callable[..., FaceSamples]] = {"fer2013": read_fer2013, "folder": read_folder}
"""Kind of a data spec with a path -> reader."""

FORMS = "synthetic[:N], fer2013:PATH, folder:PATH, or a path"


@dataclass(frozen=True)
class ReadOptions:
    """What to do with pictures and classes that cannot be used.

    Attributes:
        skip_bad: leave out pictures that cannot be read, told in ``FaceSamples.skipped``, instead of refusing.
        skip_unmapped: leave out classes that are no emotion, likewise.
        label_map: TOML file that names the emotions of classes: of folders, or in a table's column of labels.
    """

    skip_bad: bool = False
    skip_unmapped: bool = False
    label_map: Path | None = None


def read_samples(spec: str, options: ReadOptions | None = None, cache: Path | None = None) -> FaceSamples:
    """The labelled faces that a data spec names.

    Args:
        spec: ``synthetic[:N]``, ``fer2013:PATH``, ``folder:PATH``, or a path that is looked at.
        options: by default nothing is skipped.
        cache: folder for what was read; by default :func:`cache_folder`.

    Raises:
        CallError: no such form of spec, or a label map for drawn faces.
        MissingPathError: there is no such path, or no such label map.
        DataError: the faces cannot be read; names file, row and remedy.
    """
    options = options or ReadOptions()
    kind, separator, rest = spec.partition(":")
    if kind == "synthetic":
        if options.label_map is not None:
            raise CallError("drawn faces have no classes that a label map could name; leave it out")
        return read_synthetic(_count(rest) if separator else DEFAULT_COUNT)
    if kind in READERS and separator:
        path = Path(os.path.expanduser(rest))
    elif separator and not os.path.exists(spec):
        raise CallError(f"{unknown_name(['synthetic', *READERS], kind, 'data')}; expected {FORMS}")
    else:
        kind, path = "", Path(os.path.expanduser(spec))
    if not (rest if kind else spec):
        raise CallError(f"expected data after {spec!r}, came nothing; write {FORMS}")
    if not os.path.exists(path):
        raise MissingPathError(f"no data at {path}; expected {FORMS}")
    path = path.resolve()
    return remember(
        (cache or cache_folder()) / "data",
        _digest(str(path)),
        _state(path, kind, options),
        partial(_read, path, kind, options),
    )


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise CallError(f"expected synthetic:N with a whole number, such as synthetic:2000; {text!r} came") from error


def _read(path: Path, kind: str, options: ReadOptions) -> FaceSamples:
    if not kind:
        with open_tree(path) as tree:
            kind = "fer2013" if is_fer2013(tree) else "folder"
    return READERS[kind](
        path, skip_bad=options.skip_bad, skip_unmapped=options.skip_unmapped, label_map=options.label_map
    )


def _state(path: Path, kind: str, options: ReadOptions) -> str:
    """Changes when a file below ``path``, the label map, the options or the readers do."""
    with explained(str(path)):
        files = list(_files(path))
        if options.label_map is not None and options.label_map.exists():
            files += _files(options.label_map.resolve())
    return _digest(repr((FORMAT, kind, options, files)))


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of all files below a folder."""
    folder = FolderTree(path)
    for name in folder.names:
        status = os.stat(folder.place(name))
        yield folder.place(name), status.st_size, status.st_mtime_ns


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
