"""FER-2013 in the layouts that are in the wild, told apart by looking into them.

* ``fer2013.csv`` and ``icml_face_data.csv``: columns ``emotion``, ``pixels``, ``Usage``; plain or gzipped.
* ``train.csv`` and ``test.csv``: the challenge's two halves, the second with or without ``emotion``; or one of them.
* Parquet: columns ``image`` and ``label``; one file or a folder, whose file names tell the split.
* Class folders of pictures, ``train/angry/*`` or ``PublicTest/0/*``.
* A zip of any of these.

Where a path holds several, a csv comes before Parquet, and Parquet before pictures.

Lossless copies, whole or in part, are recognised by the hashes of their pictures, which give back the row of the
original file and with it Public and Private, whatever the layout says. Everything else keeps the order it came in:
a folder of JPEG copies is ``fer2013`` with one test split, other faces in these layouts are a data set ``custom``.

Source: Goodfellow et al. 2013, "Challenges in Representation Learning", arXiv:1307.0414.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data._index import NOT_FOUND, SURPLUS, USAGES_OF_SPLIT, find_rows, load_index, usages_of_rows
from mien.data._layouts import read_layout, tabular_files
from mien.data._names import usages_of_splits
from mien.data._pictures import encoded_picture, is_picture, list_pictures
from mien.data._raw import RawFaces, decode_faces
from mien.data._tree import Tree, open_tree
from mien.data.samples import UNLABELLED, FaceSamples, RowSource, Split, Usage, picture_hashes
from mien.emotions import EMOTIONS, label_of
from mien.errors import DataError

logger = logging.getLogger(__name__)

NAME = "fer2013"
CUSTOM = "custom"

NOTABLE_SHARE = 0.01
"""From this share of known pictures on, that the others are unknown is worth a warning; below, they are chance: an
all-black picture is one of FER-2013's too."""


def read_fer2013(
    path: Path, *, skip_bad: bool = False, skip_unmapped: bool = False, label_map: Path | None = None
) -> FaceSamples:
    """The faces of a copy of FER-2013, with their original rows where the pictures are the original ones.

    Args:
        path: any layout of this module.
        skip_bad: leave out pictures that cannot be read, and copies that FER-2013 does not have.
        skip_unmapped: leave out class folders that are no emotion.
        label_map: TOML file that names the emotions of classes, of folders or in a column of labels.

    Raises:
        MissingPathError: there is no such path.
        DataError: nothing of these layouts, or bad contents; names the file, the line, row or member, and the remedy.
    """
    with open_tree(path) as tree:
        raw = read_layout(tree, skip_bad=skip_bad, skip_unmapped=skip_unmapped, label_map=label_map)
    return _recognise(raw, path, skip_bad)


def is_fer2013(tree: Tree) -> bool:
    """Whether a tree holds one of FER-2013's layouts; pictures are judged by one of each class folder.

    Tables of faces always do, and what holds no pictures is left to the reader to complain of. Class folders do if
    their pictures are 48 x 48 and either most of them FER-2013's own, or all JPEG in training and test folders of the
    seven classes.
    """
    if tabular_files(tree) or not any(map(is_picture, tree.names)):
        return True
    folders = {(picture.split, picture.class_name): picture for picture in list_pictures(tree)}
    try:
        probes = decode_faces(
            [encoded_picture(tree, picture, UNLABELLED) for picture in folders.values()],
            str(tree.path),
            RowSource.PATH,
            skip_bad=True,
            exact=True,
        )
    except DataError:  # not one picture of 48 x 48
        return False
    rows = find_rows(picture_hashes(probes.images), probes.labels, probes.splits)
    seven = {label_of(picture.class_name) for picture in folders.values()} == set(range(len(EMOTIONS)))
    return bool(np.count_nonzero(rows != NOT_FOUND) > len(folders) / 2 or (seven and _is_lossy_copy(probes)))


def _recognise(raw: RawFaces, path: Path, skip_bad: bool) -> FaceSamples:
    """The faces with FER-2013's rows if every picture is one of its own, else in the layout's order."""
    rows = find_rows(picture_hashes(raw.images), raw.labels, raw.splits)
    known = rows != NOT_FOUND
    if known.all():
        return _with_original_rows(raw, rows, path, skip_bad)
    lossy = _is_lossy_copy(raw)
    if not lossy and known.mean() >= NOTABLE_SHARE:
        logger.warning(
            "%s: %d of %d pictures are FER-2013's and the others are not, so this is read as another data set;"
            " its training pictures may include some of FER-2013's test splits",
            path,
            np.count_nonzero(known),
            len(raw),
        )
    return FaceSamples(
        images=raw.images,
        labels=raw.labels,
        rows=raw.positions,
        usages=_lossy_usages(raw) if lossy else usages_of_splits(raw.splits),
        name=NAME if lossy else CUSTOM,
        row_source=raw.row_source,
        skipped=raw.skipped,
    )


def _with_original_rows(raw: RawFaces, rows: NDArray[np.int32], path: Path, skip_bad: bool) -> FaceSamples:
    surplus = np.flatnonzero(rows == SURPLUS)
    reasons = [f"{raw.places[i]}: one copy more of a picture than FER-2013 holds" for i in surplus]
    if reasons and not skip_bad:
        raise DataError(f"{reasons[0]}; {len(reasons)} such copies came. Remove them or leave them out: --skip-bad")
    raw, rows = raw.keep(rows != SURPLUS, reasons), rows[rows != SURPLUS]
    usages = usages_of_rows(rows)
    _warn_of_changes(raw, rows, usages, path)
    order = np.argsort(rows)
    return FaceSamples(
        images=raw.images[order],
        labels=raw.labels[order],
        rows=rows[order],
        usages=usages[order],
        name=NAME,
        row_source=RowSource.INDEX,
        skipped=raw.skipped,
    )


def _warn_of_changes(raw: RawFaces, rows: NDArray[np.int32], usages: NDArray[np.int8], path: Path) -> None:
    relabelled = np.count_nonzero((raw.labels != UNLABELLED) & (raw.labels != load_index().labels[rows]))
    if relabelled:
        logger.warning(
            "%s: %d of %d labels differ from FER-2013's; they are kept. If most do, the classes are numbered otherwise",
            path,
            relabelled,
            len(raw),
        )
    moved = sum(usage not in USAGES_OF_SPLIT[split] for usage, split in zip(usages, raw.splits, strict=True))
    if moved:
        logger.warning(
            "%s: %d of %d pictures came in another split than FER-2013's; they are used as FER-2013 uses them",
            path,
            moved,
            len(raw),
        )


def _is_lossy_copy(raw: RawFaces) -> bool:
    """Whether these are JPEG pictures in split folders, which is how FER-2013 is passed around."""
    return raw.lossy and raw.row_source is RowSource.PATH and None not in raw.splits


def _lossy_usages(raw: RawFaces) -> NDArray[np.int8]:
    """Usages from folder names: ``test`` and ``validation`` say neither Public nor Private."""
    table = {
        Split.TRAINING: Usage.TRAINING,
        Split.PUBLIC_TEST: Usage.PUBLIC_TEST,
        Split.PRIVATE_TEST: Usage.PRIVATE_TEST,
    }
    return np.array([table.get(split, Usage.TEST) if split else Usage.TEST for split in raw.splits], dtype=np.int8)
