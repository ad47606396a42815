"""Pictures in class folders: ``[split/]class/picture``, in a folder or a zip."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from mien.data._names import split_of
from mien.data._raw import Encoded, RawFaces, decode_faces
from mien.data._tree import Tree, read_file
from mien.data.samples import RowSource, Split
from mien.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Lower-case endings of picture files."""

MAX_BYTES = 2**28
"""Largest picture file that is read."""


@dataclass(frozen=True)
class ListedPicture:
    """A picture by its name in the tree, the class folder that it lies in, and its split if a folder tells it."""

    name: str
    class_name: str
    split: Split | None


def is_picture(name: str) -> bool:
    """Whether a file's name ends like a picture's, in any case."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def list_pictures(tree: Tree) -> list[ListedPicture]:
    """The pictures that lie in class folders, by sorted path. Class folders may lie in split folders.

    Pictures beside the folders are left out with a warning. Where no folder tells a split, the name of the given
    folder itself may (``.../test``).

    Raises:
        DataError: class folders lie in several places that are no splits, so that it is not clear what to read.
    """
    pictures, roots, loose = [], set(), 0
    for name in filter(is_picture, tree.names):
        *folders, class_name = PurePosixPath(name).parts[:-1] or ("",)
        if not class_name or split_of(class_name) is not None:
            loose += 1
            continue
        split, root = _split_and_root(folders)
        roots.add((root or ".") + ("" if split is None else "/(split)"))
        pictures.append(ListedPicture(name, class_name, split))
    if len(roots) > 1:
        places = ", ".join(sorted(roots)[:5])
        raise DataError(
            f"{tree.path}: expected class folders in one place, or in folders train, validation and test;"
            f" came class folders in {places}; give one of these"
        )
    if loose and pictures:
        logger.warning("%s: %d pictures outside class folders are left out", tree.path, loose)
    if all(picture.split is None for picture in pictures):
        own = split_of(tree.path.stem)
        pictures = [ListedPicture(picture.name, picture.class_name, own) for picture in pictures]
    return pictures


def read_pictures(
    tree: Tree, labels: Mapping[str, int], *, skip_bad: bool, skip_unmapped: bool, exact: bool
) -> RawFaces:
    """The pictures of a tree of class folders.

    Args:
        tree: where they lie.
        labels: lower-case class name -> label.
        skip_bad: leave out pictures that cannot be read.
        skip_unmapped: leave out classes that are not in ``labels``.
        exact: pictures of another size than 48 x 48 are bad.

    Raises:
        DataError: no class folders, classes that map to no emotion, bad pictures.
    """
    pictures = list_pictures(tree)
    unmapped = Counter(picture.class_name for picture in pictures if picture.class_name.lower() not in labels)
    if unmapped and (not skip_unmapped or unmapped.total() == len(pictures)):
        raise _unmapped_error(tree, unmapped)
    if not pictures:
        raise DataError(
            f"{tree.path}: expected pictures in class folders (angry/..., train/angry/...), came none; check the path"
        )
    encoded = (
        encoded_picture(tree, picture, labels[picture.class_name.lower()])
        for picture in pictures
        if picture.class_name not in unmapped
    )
    skipped = [
        f"{tree.place(picture.name)}: of class {picture.class_name}, which is no emotion"
        for picture in pictures
        if picture.class_name in unmapped
    ]
    return decode_faces(encoded, str(tree.path), RowSource.PATH, skip_bad=skip_bad, exact=exact, skipped=skipped)


def encoded_picture(tree: Tree, picture: ListedPicture, label: int) -> Encoded:
    """A listed picture, ready to be decoded."""
    return Encoded(tree.place(picture.name), label, picture.split, partial(read_file, tree, picture.name, MAX_BYTES))


def _split_and_root(folders: list[str]) -> tuple[Split | None, str]:
    """The split that the nearest of the folders above a class names, and the path without it."""
    for depth in reversed(range(len(folders))):
        split = split_of(folders[depth])
        if split is not None:
            return split, "/".join(folders[:depth] + folders[depth + 1 :])
    return None, "/".join(folders)


def _unmapped_error(tree: Tree, unmapped: Counter[str]) -> DataError:
    classes = ", ".join(f"{name} ({count} pictures)" for name, count in sorted(unmapped.items())[:12])
    return DataError(
        f"{tree.path}: expected class folders named after the seven emotions, came {classes};"
        ' map them (--label-map FILE, TOML with lines such as "1" = "surprise") or leave them out (--skip-unmapped)'
    )
