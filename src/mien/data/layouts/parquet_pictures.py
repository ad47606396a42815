"""Pictures of any size in Parquet: columns ``image`` and ``label``, and ``subject`` or ``name``; classes of any names.

What is FER-2013's, or as small as its pictures are, belongs to ``fer2013``.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mien.data import samples
from mien.data.layouts import class_folders, parquet, raw, subjects, tables
from mien.data.layouts.decoding import decode_pictures
from mien.data.layouts.fer2013 import SPLIT_WORDS
from mien.data.layouts.tree import Tree
from mien.errors import DataError, MienError
from mien.face.crop import FACE_SIZE
from mien.face.images import decode_image


def is_parquet_pictures(tree: Tree) -> bool:
    """Whether the tree holds Parquet whose first picture has another size than FER-2013's."""
    found = tables.find_tables(tree)
    if not found or not all(found.values()):
        return False
    try:
        with parquet.opened(tree, next(iter(found)), batch=1) as rows:
            first = next(rows)
            return decode_image(first.content(), first.place).shape[:2] != (FACE_SIZE, FACE_SIZE)
    except (MienError, StopIteration):  # whoever reads it says what is wrong
        return False


def read_parquet_pictures(tree: Tree, options: raw.ReadOptions) -> samples.FaceSamples:
    """The pictures of all files, stored as those of class folders; rows count all, those left out too.

    Raises:
        DataError: no Parquet, a missing column, less than 2 or more than 50 classes, a bad picture or label map.
        MissingExtraError: pyarrow is not installed.
    """
    names = [name for name, is_parquet in tables.find_tables(tree).items() if is_parquet]
    if not names:
        raise DataError(f"{tree.path}: expected Parquet files, got {', '.join(tree.names[:5])}; check the path")
    rows: list[parquet.Row] = []
    for name in names:
        with parquet.opened(tree, name, with_pictures=False) as found:
            rows += found
    labels, classes = _labels(tree, rows, options)
    label_of = [parquet.label_of_row(row, labels) for row in rows]
    skipped = [
        raw.left_out_unmapped(row.place, row.class_name or "", options)
        for row, label in zip(rows, label_of, strict=True)
        if label is None
    ]
    mapped = [number for number, label in enumerate(label_of) if label is not None]
    decoded = decode_pictures(_encoded(tree, names, label_of), len(mapped), str(tree.path), options)
    kept = [mapped[number] for number in decoded.kept.tolist()]
    return samples.FaceSamples(
        images=decoded.images,
        labels=np.array([label_of[number] for number in kept], np.int8),
        rows=np.array(kept, np.int32),
        usages=raw.usages_of_splits([rows[number].split for number in kept]),
        name=f"parquet:{tree.path.resolve().stem}",
        row_source=samples.RowSource.FILE,
        skipped=(*decoded.left_out, *skipped),
        classes=classes,
        groups=subjects.numbered([rows[number].subject for number in kept]),
        split_names=raw.own_split_names(
            (row.split, SPLIT_WORDS.get(row.split or samples.Split.TRAINING, "")) for row in rows
        ),
    )


def _labels(
    tree: Tree, rows: Sequence[parquet.Row], options: raw.ReadOptions
) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Label by lower-case class name, and the classes: the seven where all are, or these are mapped, else their own."""
    labels = raw.class_names(options.label_map)
    names = {row.class_name for row in rows if row.class_name is not None}
    if options.label_map is not None or options.skip_unmapped or all(name.lower() in labels for name in names):
        return labels, samples.SEVEN
    classes = class_folders.own_classes(tree, names)
    return {name.lower(): label for label, name in enumerate(classes)}, classes


def _encoded(tree: Tree, names: Sequence[str], label_of: Sequence[int | None]) -> Iterator[raw.Encoded]:
    """The pictures whose class has a label, file by file."""
    labels = iter(label_of)
    for name in names:
        with parquet.opened(tree, name) as rows:
            for row in rows:
                label = next(labels)
                if label is not None:
                    yield raw.Encoded(row.place, label, row.split, row.content)
