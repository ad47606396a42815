"""What the names of folders, files and columns mean: splits, classes, and the usage that splits come to."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.samples import Split, Usage
from mien.emotions import ALIASES, EMOTIONS, label_of
from mien.errors import DataError, MissingPathError

SPLIT_NAMES: dict[str, Split] = {
    "train": Split.TRAINING,
    "training": Split.TRAINING,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "publictest": Split.PUBLIC_TEST,
    "privatetest": Split.PRIVATE_TEST,
    "test": Split.PUBLISHED_TEST,
    "testing": Split.PUBLISHED_TEST,
}
"""Lower-case name without spaces, ``_`` and ``-`` -> split. A plain ``test`` may hold Public and Private together."""

SPLIT_PREFIXES: dict[str, Split] = {
    "train": Split.TRAINING,
    "val": Split.VALIDATION,
    "public": Split.PUBLIC_TEST,
    "private": Split.PRIVATE_TEST,
    "test": Split.PUBLISHED_TEST,
}
"""How the name of a file begins -> split: ``train-00000-of-00001.parquet``."""

FER2013_NUMBERS: dict[str, int] = {str(label): label for label in range(len(EMOTIONS))}
"""Class folders ``0`` to ``6`` of FER-2013's own numbering. Other data sets number differently."""


def split_of(name: str) -> Split | None:
    """Split that a folder or a ``Usage`` value names, in any case and spelling; ``None`` where it names none."""
    return SPLIT_NAMES.get(name.strip().lower().replace("_", "").replace("-", "").replace(" ", ""))


def split_of_file(name: str) -> Split | None:
    """Split that a file's name begins with or one of its folders bears (``default/train/0000.parquet``)."""
    *folders, stem = name.split("/")
    for prefix, split in SPLIT_PREFIXES.items():
        if stem.lower().startswith(prefix):
            return split
    return next((split for split in map(split_of, reversed(folders)) if split is not None), None)


def usages_of_splits(splits: Sequence[Split | None]) -> NDArray[np.int8]:
    """Usage of each picture from the split that its layout tells: ``(N,)``, for data that are not FER-2013.

    A validation split takes the place of Public. ``test`` is then Private, and else a test that is not told apart.
    Without any split it is a test too: a data set that came without one serves to measure, and is never trained on
    by accident.
    """
    has_validation = Split.VALIDATION in splits or Split.PUBLIC_TEST in splits
    table = {
        Split.TRAINING: Usage.TRAINING,
        Split.VALIDATION: Usage.PUBLIC_TEST,
        Split.PUBLIC_TEST: Usage.PUBLIC_TEST,
        Split.PRIVATE_TEST: Usage.PRIVATE_TEST,
        Split.PUBLISHED_TEST: Usage.PRIVATE_TEST if has_validation else Usage.TEST,
        None: Usage.TEST,
    }
    return np.array([table[split] for split in splits], dtype=np.int8)


def class_names(label_map: Path | None = None, base: Mapping[str, int] | None = None) -> dict[str, int]:
    """Lower-case class name -> label: the aliases in use, then ``base``, then the user's ``label_map``.

    Raises:
        DataError: ``label_map`` is missing, not TOML or maps to something that is no emotion.
    """
    aliases = {alias: EMOTIONS.index(emotion) for alias, emotion in ALIASES.items()}
    return {**aliases, **(base or {}), **({} if label_map is None else _read_label_map(label_map))}


def _read_label_map(path: Path) -> dict[str, int]:
    """The lines ``"1" = "surprise"`` of a TOML file: class folder -> emotion."""
    try:
        lines = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingPathError(f"{path}: expected a label map, but there is no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise DataError(
            f'{path}: expected TOML lines such as "1" = "surprise", came {error}; correct the file'
        ) from error
    labels = {}
    for name, emotion in lines.items():
        label = label_of(emotion) if isinstance(emotion, str) else None
        if label is None:
            raise DataError(f"{path}: class {name!r} maps to {emotion!r}; write one of {', '.join(EMOTIONS)}")
        labels[name.lower()] = label
    return labels
