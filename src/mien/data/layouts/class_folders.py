"""Pictures in class folders: ``PATH/<class>/*`` or ``PATH/<split>/<class>/*``, in a folder or a zip.

Split folders, in any case and spelling: ``train`` or ``training``; ``val``, ``valid``, ``validation`` or
``PublicTest``, which take the place of Public; ``PrivateTest``; and ``test``, which is Private beside a validation
folder and a test without halves alone. Without split folders the name of the given folder tells the split
(``.../train``), and otherwise every picture is a test: the data set measures, and is not trained on by accident.
So ``published_test`` can be asked of each data set that has a picture outside ``train``.

Where all class folders bear names of the seven emotions or their aliases in use, in any case, these are the classes; a
label map names others, such as the numbers of RAF-DB. Data to train on that have only some of the seven have these as
their classes, in the same order; data without training pictures keep the seven, to be measured by. Folders of other
names are classes of their own, 2 to 50, in the order of their names. A zip of such folders is read as it is.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from mien.data import samples
from mien.data.layouts import raw
from mien.data.layouts.decoding import decode_pictures
from mien.data.layouts.tree import Tree
from mien.data.paths import PathTable
from mien.emotions import label_of
from mien.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    [".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
"""Lower-case endings of picture files."""

MAX_BYTES = 2**28
"""Largest picture file that is read."""


@dataclass(frozen=True)
class ListedPicture:
    """A picture by its name in the tree, the class folder that it lies in, and its split if a folder tells it."""

    name: str
    class_name: str
    split: samples.Split | None
    split_name: str = ""  # as the folder spells it


def read_folder(tree: Tree, options: raw.ReadOptions) -> samples.FaceSamples:
    """The pictures of class folders, each cropped to a square; rows count all sorted paths, those left out too.

    Raises:
        DataError: no class folders, less than 2 or more than 50 classes, a bad picture, a bad label map.
    """
    pictures = list_pictures(tree)
    labels = raw.class_names(options.label_map)
    classes = samples.SEVEN
    is_mapped = options.label_map is not None or options.skip_unmapped
    if pictures and not is_mapped and any(picture.class_name.lower() not in labels for picture in pictures):
        classes = own_classes(tree, {picture.class_name for picture in pictures})
        labels = {name.lower(): label for label, name in enumerate(classes)}
    return _of_present_classes(read_listed(tree, pictures, labels, options, classes))


def _of_present_classes(found: samples.FaceSamples) -> samples.FaceSamples:
    """Training data of some of the seven emotions have these classes alone."""
    present = tuple(found.classes[label] for label in np.unique(found.labels).tolist())
    is_trained_on = bool((found.usages == samples.Usage.TRAINING).any())
    return found.with_classes(present) if is_trained_on and len(present) >= samples.MIN_CLASSES else found


def read_listed(
    tree: Tree,
    pictures: Sequence[ListedPicture],
    labels: Mapping[str, int],
    options: raw.ReadOptions,
    classes: tuple[str, ...],
) -> samples.FaceSamples:
    """Listed pictures as a data set of their own; ``labels`` are by the lower-case name of a class.

    Raises:
        DataError: no pictures, classes without a label, a bad picture.
    """
    mapped, skipped = _mapped(tree, pictures, labels, options)
    encoded = (encoded_picture(tree, each, labels[each.class_name.lower()]) for each in mapped)
    found = decode_pictures(encoded, len(mapped), str(tree.path), options)
    kept = [mapped[number] for number in found.kept.tolist()]
    return samples.FaceSamples(
        images=found.images,
        labels=np.array([labels[picture.class_name.lower()] for picture in kept], np.int8),
        rows=found.kept,
        usages=raw.usages_of_splits([picture.split for picture in kept]),
        name=f"folder:{tree.path.resolve().name}",
        row_source=samples.RowSource.PATH,
        skipped=(*found.left_out, *skipped),
        classes=classes,
        paths=PathTable.of(tree.path, [picture.name for picture in kept]),
        split_names=raw.own_split_names((picture.split, picture.split_name) for picture in pictures),
    )


def own_classes(tree: Tree, names: set[str]) -> tuple[str, ...]:
    """The classes that folders of any names are, sorted; names that differ in case alone are one.

    Raises:
        DataError: less than 2 or more than 50.
    """
    spellings = {name.lower(): name for name in sorted(names, reverse=True)}
    classes = tuple(spellings[name] for name in sorted(spellings))
    some = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
    if not samples.MIN_CLASSES <= len(classes) <= samples.MAX_CLASSES:
        raise DataError(
            f"{tree.path}: expected class folders of {samples.MIN_CLASSES} to {samples.MAX_CLASSES} classes,"
            f" got {len(classes):,} ({some}); put the pictures of each class into a folder of its name"
        )
    known = [name for name in classes if label_of(name) is not None]
    if known or all(name.isdigit() for name in classes):
        logger.warning(
            "%s: read as %d classes of their own (%s), since not all are among FER-2013's seven; to have those, map"
            ' the classes (--label-map FILE, TOML with lines such as "1" = "surprise") or leave the others out'
            " (--skip-unmapped)",
            tree.path,
            len(classes),
            some,
        )
    return classes


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
        if not class_name or raw.split_of(class_name) is not None:
            loose += 1
            continue
        told, root = _split_and_root(folders)
        roots.add((root or ".") + ("/(split)" if told else ""))
        pictures.append(ListedPicture(name, class_name, raw.split_of(told), told))
    if len(roots) > 1:
        places = ", ".join(sorted(roots)[:5])
        raise DataError(
            f"{tree.path}: expected class folders in one place, or in folders train, validation and test;"
            f" got class folders in {places}; give one of these"
        )
    if loose and pictures:
        logger.warning("%s: %d pictures outside class folders are left out", tree.path, loose)
    if all(picture.split is None for picture in pictures):
        own = tree.path.stem
        split = raw.split_of(own)
        pictures = [ListedPicture(picture.name, picture.class_name, split, own) for picture in pictures]
    return pictures


def read_pictures(tree: Tree, labels: Mapping[str, int], options: raw.ReadOptions) -> raw.RawFaces:
    """FER-2013's pictures in class folders, by the label of each lower-case class name.

    Raises:
        DataError: no class folders, classes that map to no emotion, bad pictures or pictures of other than 48 x 48.
    """
    pictures, skipped = _mapped(tree, list_pictures(tree), labels, options)
    encoded = (encoded_picture(tree, picture, labels[picture.class_name.lower()]) for picture in pictures)
    return raw.decode_faces(encoded, str(tree.path), samples.RowSource.PATH, skip_bad=options.skip_bad, skipped=skipped)


def _mapped(
    tree: Tree, pictures: Sequence[ListedPicture], labels: Mapping[str, int], options: raw.ReadOptions
) -> tuple[list[ListedPicture], list[str]]:
    """Those pictures whose class has a label, and a line for each of the others, which are refused unless asked for."""
    mapped = [picture for picture in pictures if picture.class_name.lower() in labels]
    if not pictures:
        raise DataError(
            f"{tree.path}: expected pictures in class folders (angry/..., train/angry/...), got none; check the path"
        )
    unmapped = Counter(picture.class_name for picture in pictures if picture.class_name.lower() not in labels)
    if unmapped and (not options.skip_unmapped or not mapped):
        classes = ", ".join(f"{name} ({count} pictures)" for name, count in sorted(unmapped.items())[:12])
        raise DataError(
            f"{tree.path}: expected class folders named after the seven emotions, got {classes};"
            ' map them (--label-map FILE, TOML with lines such as "1" = "surprise"), leave them out'
            f" (--skip-unmapped), or read them as classes of their own: folder:{tree.path} without either"
        )
    skipped = [
        f"{tree.place(picture.name)}: of class {picture.class_name}, which is no emotion"
        for picture in pictures
        if picture.class_name in unmapped
    ]
    return mapped, skipped


def encoded_picture(tree: Tree, picture: ListedPicture, label: int) -> raw.Encoded:
    """A listed picture, ready to be decoded."""
    return raw.Encoded(tree.place(picture.name), label, picture.split, partial(tree.read, picture.name, MAX_BYTES))


def _split_and_root(folders: list[str]) -> tuple[str, str]:
    """The nearest of the folders above a class that names a split, or nothing, and the path without it."""
    for depth in reversed(range(len(folders))):
        if raw.split_of(folders[depth]) is not None:
            return folders[depth], "/".join(folders[:depth] + folders[depth + 1 :])
    return "", "/".join(folders)
