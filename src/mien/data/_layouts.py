"""Which of FER-2013's layouts lies at a path, by looking: csv, Parquet, or class folders of pictures."""

import logging
from pathlib import Path

from mien.data._csv import Columns, read_columns, read_csv
from mien.data._names import FER2013_NUMBERS, class_names, split_of_file
from mien.data._parquet import MAGIC, read_parquet
from mien.data._pictures import is_picture, read_pictures
from mien.data._raw import RawFaces, join
from mien.data._tree import FolderTree, Tree, read_head
from mien.errors import DataError

logger = logging.getLogger(__name__)


def read_layout(
    tree: Tree, *, skip_bad: bool = False, skip_unmapped: bool = False, label_map: Path | None = None
) -> RawFaces:
    """The faces of the layout that a tree turns out to hold, in the layout's order.

    Raises:
        DataError: no known layout, or bad contents.
    """
    labels = class_names(label_map, FER2013_NUMBERS)
    if parts := tabular_files(tree):
        return join(
            [
                read_parquet(tree, name, labels, skip_bad=skip_bad) if is_parquet else read_csv(tree, name, labels)
                for name, is_parquet in parts
            ]
        )
    if any(map(is_picture, tree.names)):
        return read_pictures(tree, labels, skip_bad=skip_bad, skip_unmapped=skip_unmapped, exact=True)
    came = ", ".join(tree.names[:5]) or "no files"
    raise DataError(
        f"{tree.path}: expected fer2013.csv, train.csv and test.csv, Parquet files or class folders of pictures,"
        f" or a zip of these; came {came}; check the path"
    )


def tabular_files(tree: Tree) -> list[tuple[str, bool]]:
    """The files to read one after the other, each with whether it is Parquet; none where there are only pictures."""
    if isinstance(tree, FolderTree) and tree.path.is_file() and not is_picture(tree.path.name):
        return [(tree.path.name, read_head(tree.path) == MAGIC)]
    parquet = [name for name in tree.names if name.lower().endswith(".parquet")]
    csv = _csv_files(tree, alone=not parquet and not any(map(is_picture, tree.names)))
    return [(name, False) for name in csv] or [(name, True) for name in parquet]


def _csv_files(tree: Tree, alone: bool) -> list[str]:
    """The csv with ``pixels`` and ``Usage``, else those with ``pixels``: of the challenge's files the whole one.

    ``alone`` says that the tree holds nothing else that could be read.
    """
    columns = _columns(tree, alone)
    faces = [name for name, found in columns.items() if found.pixels is not None]
    names = [name for name in faces if columns[name].usage is not None] or faces
    splits = [split_of_file(name) for name in names]
    if len(names) > 1 and (None in splits or len(set(splits)) < len(splits)):
        raise DataError(
            f"{tree.path}: expected one csv of faces, or one for each split (train.csv, test.csv),"
            f" came {', '.join(names)}; give the file that you mean"
        )
    return names


def _columns(tree: Tree, alone: bool) -> dict[str, Columns]:
    columns = {}
    for name in tree.names:
        if name.lower().endswith((".csv", ".csv.gz")):
            try:
                columns[name] = read_columns(tree, name)
            except DataError as error:
                if alone:
                    raise
                logger.warning("left aside: %s", error)
    return columns
