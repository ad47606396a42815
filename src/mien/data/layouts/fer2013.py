"""FER-2013 in the layouts that are in the wild, told apart by looking into them.

* ``fer2013.csv`` and ``icml_face_data.csv``: columns ``emotion``, ``pixels``, ``Usage``; plain or gzipped.
* ``train.csv`` and ``test.csv``: the challenge's two halves, the second with or without ``emotion``; or one of them.
* Parquet: columns ``image`` and ``label``; one file or a folder, whose file names tell the split.
* Class folders of pictures, ``train/angry/*`` or ``PublicTest/0/*``.
* A zip of any of these.

Where a path holds several, a csv comes before Parquet, and Parquet before pictures.

Lossless copies, whole or in part, are recognised by the hashes of their pictures, which give back the row of the
original file and with it Public and Private, whatever the layout says. Everything else keeps its order:
a folder of JPEG copies is ``fer2013`` with one test split, other faces in these layouts are a data set ``custom``.

Source: Goodfellow et al. 2013, "Challenges in Representation Learning", arXiv:1307.0414.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import emotions
from mien.data import index, samples
from mien.data.layouts import class_folders, raw, tables
from mien.data.layouts.tree import Tree
from mien.errors import DataError

logger = logging.getLogger(__name__)

NAME = "fer2013"

SPLIT_WORDS = {
    samples.Split.TRAINING: "training",
    samples.Split.VALIDATION: "validation",
    samples.Split.PUBLISHED_TEST: "test",
}
"""What other data in these layouts call their splits."""

NOTABLE_FRACTION = 0.01
"""Fraction of known pictures from which on the others are worth a warning; fewer are chance, as all-black ones are."""


def read_fer2013(tree: Tree, options: raw.ReadOptions) -> samples.FaceSamples:
    """The faces of a copy of FER-2013, with their original rows if every picture is one of its own.

    Raises:
        DataError: nothing of these layouts, or bad contents; names the file, the line, row or member, and the remedy.
    """
    found = read_layout(tree, options)
    rows = index.find_rows(samples.picture_hashes(found.images), found.labels, found.splits)
    known = rows != index.NOT_FOUND
    if known.all():
        return _with_original_rows(found, rows, tree.path, options.skip_bad)
    if _is_lossy_copy(found):
        return found.to_samples(NAME, _lossy_usages(found))
    if known.mean() >= NOTABLE_FRACTION:
        logger.warning(
            f"{tree.path}: {np.count_nonzero(known)} of {len(found)} pictures are FER-2013's and the others are not, so"
            " this is read as another data set; its training pictures may include some of FER-2013's test splits"
        )
    names = raw.own_split_names((split, SPLIT_WORDS.get(split or samples.Split.TRAINING, "")) for split in found.splits)
    return found.to_samples("custom", raw.usages_of_splits(found.splits), split_names=names)


def read_layout(tree: Tree, options: raw.ReadOptions) -> raw.RawFaces:
    """The faces of the layout that a tree turns out to hold, in the layout's order. Raises as :func:`read_fer2013`."""
    numbers = range(len(emotions.EMOTIONS))  # FER-2013's own; other data sets number their classes differently
    labels = raw.class_names(options.label_map, {str(number): number for number in numbers})
    if found := tables.find_tables(tree):
        return tables.read_tables(tree, found, labels, options)
    if any(map(class_folders.is_picture, tree.names)):
        return class_folders.read_pictures(tree, labels, options)
    names = ", ".join(tree.names[:5]) or "no files"
    raise DataError(
        f"{tree.path}: expected fer2013.csv, train.csv and test.csv, Parquet files or class folders of pictures,"
        f" or a zip of these; got {names}; check the path"
    )


def is_fer2013(tree: Tree) -> bool:
    """Whether a tree holds one of FER-2013's layouts; pictures are judged by one of each class folder.

    Tables of faces always do, and what holds no pictures is left to the reader to complain of. Class folders do if
    their pictures are 48 x 48 and either most of them FER-2013's own, or all JPEG in training and test folders of the
    seven classes.
    """
    if tables.find_tables(tree) or not any(map(class_folders.is_picture, tree.names)):
        return True
    folders = {(picture.split, picture.class_name): picture for picture in class_folders.list_pictures(tree)}
    one_of_each = [class_folders.encoded_picture(tree, picture, samples.UNLABELLED) for picture in folders.values()]
    try:
        probes = raw.decode_faces(one_of_each, str(tree.path), samples.RowSource.PATH, skip_bad=True)
    except DataError:  # not one picture of 48 x 48
        return False
    rows = index.find_rows(samples.picture_hashes(probes.images), probes.labels, probes.splits)
    classes = {emotions.label_of(picture.class_name) for picture in folders.values()}
    seven = classes == set(range(len(emotions.EMOTIONS)))
    return bool(np.count_nonzero(rows != index.NOT_FOUND) > len(folders) / 2 or (seven and _is_lossy_copy(probes)))


def _with_original_rows(
    found: raw.RawFaces, rows: NDArray[np.int32], path: Path, skip_bad: bool
) -> samples.FaceSamples:
    surplus = np.flatnonzero(rows == index.SURPLUS)
    reasons = [f"{found.faces[i].place}: one copy more of a picture than FER-2013 holds" for i in surplus.tolist()]
    if reasons and not skip_bad:
        raise DataError(f"{reasons[0]} ({len(reasons)} such copies); remove them or leave them out: --skip-bad")
    kept = np.flatnonzero(rows != index.SURPLUS)
    found = raw.RawFaces([found.faces[i] for i in kept.tolist()], found.row_source, (*found.skipped, *reasons))
    rows = rows[kept]
    usages = index.usages_of_rows(rows)
    is_labelled = found.labels != samples.UNLABELLED
    if relabelled := np.count_nonzero(is_labelled & (found.labels != index.load_index().labels[rows])):
        logger.warning(
            f"{path}: {relabelled} of {len(found)} labels differ from FER-2013's; they are kept. If most do, the"
            " classes are numbered otherwise"
        )
    moved = sum(usage not in index.USAGES_OF_SPLIT[split] for usage, split in zip(usages, found.splits, strict=True))
    if moved:
        logger.warning(
            f"{path}: {moved} of {len(found)} pictures lie in another split than FER-2013's; they are used as FER-2013"
            " uses them"
        )
    return found.to_samples(NAME, usages, rows)


def _is_lossy_copy(found: raw.RawFaces) -> bool:
    """Whether these are JPEG pictures in split folders, which is how FER-2013 is passed around."""
    jpeg = all(face.lossy for face in found.faces)
    return jpeg and found.row_source is samples.RowSource.PATH and None not in found.splits


def _lossy_usages(found: raw.RawFaces) -> NDArray[np.int8]:
    """Usages from folder names: ``test`` and ``validation`` say neither Public nor Private."""
    splits = samples.Split
    told = (splits.TRAINING, splits.PUBLIC_TEST, splits.PRIVATE_TEST)  # in the order of Usage
    usages = [told.index(split) if split in told else samples.Usage.TEST for split in found.splits]
    return np.array(usages, np.int8)
