"""Data spec -> faces, kept for next time in the cache by the state of the files that they were read from."""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import errors, extensions, files
from mien.data import synthetic
from mien.data.cache import FORMAT, remember
from mien.data.layouts import LAYOUTS, tables
from mien.data.layouts.raw import ReadOptions
from mien.data.layouts.subjects import known_subjects, numbered
from mien.data.layouts.tree import Tree, explained, open_tree
from mien.data.paths import PathTable
from mien.data.samples import FaceSamples, RowSource

READER = "(tree, options) -> FaceSamples, as mien.data.layouts.Layout.read"
"""What ``module:reader`` may name."""

logger = logging.getLogger(__name__)


def read_samples(spec: str, options: ReadOptions | None = None, cache: Path | None = None) -> FaceSamples:
    """The labelled faces that a data spec names, as large, in colour and by subject as ``options`` ask.

    Args:
        spec: ``synthetic[:N]``, ``fer2013:PATH``, ``folder:PATH``, a path that is looked at, or
            ``module:reader:PATH`` with a reader of your own, whose faces are not kept in the cache.
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
    if options.group is not None:
        samples = _with_subjects(spec, samples, options.group, options.strict)
    elif samples.groups is None and samples.paths is not None and (told := known_subjects(samples.paths)) is not None:
        samples = samples.with_groups(told)
    _tell_shared_subjects(samples)
    if not options.strict:
        return samples
    asked = {
        "data.size": options.size not in (None, samples.size),
        "data.color": options.color and not samples.color,
        "data.group": options.group is not None and (samples.groups is None or samples.groups.max() < 0),
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
    kind, separator, number = spec.partition(":")
    if kind == "synthetic":
        if options.label_map is not None:
            raise errors.CallError("expected drawn faces without a label map, got one; leave it out")
        return synthetic.read_synthetic(_count(number) if separator else synthetic.DEFAULT_COUNT)
    kind, path = _kind_and_path(spec)
    if ":" in kind:
        return _read_outside(kind, path, options)

    def read(scratch: Path | None = None) -> FaceSamples:
        with open_tree(path) as tree:
            found = kind or next(name for name, layout in reversed(LAYOUTS.items()) if layout.holds(tree))
            return LAYOUTS[found].read(tree, replace(options, scratch=scratch))

    try:
        folder = (cache or files.cache_folder()) / "data"
    except errors.OutputError as error:
        logger.warning("the faces cannot be kept for next time: %s", error)
        return read()
    options = replace(options, group=None)  # of one set of pictures, each pattern tells its own subjects
    return remember(folder, _source(path, options), _state(path, kind, options), read)


def _kind_and_path(spec: str) -> tuple[str, Path]:
    """A layout's name, ``module:reader``, or nothing where the path is to be looked at; and the path, which exists."""
    kind, separator, rest = spec.partition(":")
    forms = ", ".join(
        ["synthetic[:N]", *(f"{name}:PATH" for name in reversed(LAYOUTS)), "module:reader:PATH", "or a path"]
    )
    if not (kind in LAYOUTS and separator):
        if separator and not os.path.exists(spec):
            reader, further, below = rest.partition(":")
            if not further:
                raise errors.CallError(
                    f"{errors.unknown_name(['synthetic', *LAYOUTS], kind, 'data')}; expected {forms}"
                )
            kind, rest = f"{kind}:{reader}", below
        else:
            kind, rest = "", spec
    if not rest:
        raise errors.CallError(f"expected data after {spec!r}, got nothing; write {forms}")
    path = Path(os.path.expanduser(rest))
    if not os.path.exists(path):
        raise errors.MissingPathError(f"{path}: expected data, but there is no such path; write {forms}")
    return kind, path.resolve()


def _read_outside(name: str, path: Path, options: ReadOptions) -> FaceSamples:
    """The faces that the reader ``module:reader`` makes of a path, with its errors as ours.

    They are not kept in the cache: the reader's code may change while no file below the path does.
    """
    reader = extensions.look_up(LAYOUTS, name, "data", expected=f"a function {READER}")
    try:
        with open_tree(path) as tree:
            samples = reader(tree, options)
    except errors.MienError:
        raise
    except Exception as error:  # whatever somebody's code raises
        raise errors.DataError(
            f"{path}: {name} fails with {type(error).__name__}: {errors.first_line(error)}; mend it or the data"
        ) from error
    if isinstance(samples, FaceSamples):
        return samples
    raise errors.CallError(f"data {name!r}: expected a function {READER}, got one that gives {type(samples).__name__}")


def _with_subjects(spec: str, samples: FaceSamples, group: str, strict: bool) -> FaceSamples:
    """The faces by the subjects that their paths tell, or in tables a column; as they are where nothing can tell."""
    kind, path = (samples.name, Path()) if samples.name == "synthetic" else _kind_and_path(spec)
    if ":" in kind and samples.groups is not None:  # a reader of one's own told them
        return samples
    if samples.paths is not None:
        return samples.with_groups(_subjects(samples.paths, group, strict))
    if ":" in kind or kind == "synthetic" or samples.row_source is not RowSource.FILE:
        return samples
    try:
        with open_tree(path) as tree:
            texts = tables.read_column(tree, group)
    except errors.MienError:
        if strict:
            raise
        return samples
    told = numbered([texts[row] or None for row in samples.rows.tolist()])
    return samples if told is None else samples.with_groups(told)


def _tell_shared_subjects(samples: FaceSamples) -> None:
    """Warn of people in two splits, who make results on one of them look better than on strangers."""
    shared = samples.subjects_in_two_splits()
    if shared:
        told = ", ".join(
            f"{number:,} in {' and '.join(map(samples.split_name, pair))}" for pair, number in shared.items()
        )
        logger.warning(
            "%s: subjects stand in two splits: %s; results there are not of strangers. Part the folders by subject, or"
            " hold validation out by subject: data without a validation folder and --set data.protocol=published, or"
            " data.fold",
            samples.name,
            told,
        )


def _subjects(paths: PathTable, pattern: str, strict: bool) -> NDArray[np.int32]:
    """Number of the subject that each path tells by the one group of a regular expression, or -1: ``(N,)``.

    Raises:
        CallError: it is no regular expression with one group.
        DataError: it matches no path, where ``strict``.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise errors.CallError(
            f"data.group: expected a regular expression, got {pattern!r} ({error}); correct it"
        ) from error
    if expression.groups != 1:
        raise errors.CallError(
            f"data.group: expected a regular expression with one group, such as ([^/_]+)_[^/]*$, got {pattern!r} with"
            f" {expression.groups}; put what tells the subject, and nothing else, in brackets"
        )
    matches = [expression.search(path) for path in paths]
    told = [None if match is None else match[1] for match in matches]
    numbers = {name: number for number, name in enumerate(sorted({name for name in told if name is not None}))}
    missed = [path for path, name in zip(paths, told, strict=True) if name is None]
    if strict and not numbers:
        raise errors.DataError(
            f"{paths.root}: expected data.group {pattern!r} to tell subjects, got no match in {len(paths):,} paths"
            f" such as {missed[0]!r}; correct it"
        )
    if missed:
        logger.warning(
            "%s: data.group %r tells %s subjects, but none for %s of %s pictures, such as %r; each of these counts as a"
            " subject of its own", paths.root, pattern, f"{len(numbers):,}", f"{len(missed):,}", f"{len(paths):,}",
            missed[0],
        )  # fmt: skip
    return np.array([-1 if name is None else numbers[name] for name in told], np.int32)


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise errors.CallError(
            f"expected synthetic:N with a whole number, such as synthetic:2000, got {text!r}"
        ) from error


def _source(path: Path, options: ReadOptions) -> str:
    """Of pictures at ``path``, stored as they are: in another size or colour they are kept beside these."""
    stored = (options.size, options.color)
    return _digest(str(path) if stored == (None, False) else repr((str(path), stored)))


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
