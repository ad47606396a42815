"""Whom a picture shows: by a table's column, or by the names that data sets in the wild give their files."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

SUBJECT_NAMES: dict[str, str] = {
    "CK+": r"(S\d{3})_\d{3}_\d{8}(?!\d)",
    "JAFFE": r"(K[ALMR]|MK|N[AM]|TM|UY|YM)\.(?:AN|DI|FE|HA|SA|SU|NE)\d\.\d+(?!\d)",
}
"""Data set -> how its files' names begin; the one group is the person.

Sources: Lucey et al. 2010, "The Extended Cohn-Kanade Dataset", doi:10.1109/CVPRW.2010.5543262 (``S010_004_00000017``:
person, session, frame); Lyons et al. 1998, doi:10.1109/AFGR.1998.670949 (``KA.AN1.39``: person, emotion, number).
"""

SUBJECT_COLUMNS = ("subject", "subject_id", "person")
NAME_COLUMNS = ("name", "file", "filename", "path")
"""A table's columns, in lower case, that tell the person, or the file that the picture was once."""

COLUMNS = (*SUBJECT_COLUMNS, *NAME_COLUMNS)

_PATTERNS = [re.compile(pattern) for pattern in SUBJECT_NAMES.values()]


def subject_of(path: str) -> str | None:
    """The person that a file's name tells (``"x/S010_004_00000017.png"`` -> ``"S010"``), or ``None``."""
    name = path.rpartition("/")[2]
    return next((found[1] for pattern in _PATTERNS if (found := pattern.match(name))), None)


def known_subjects(paths: Iterable[str]) -> NDArray[np.int32] | None:
    """Number of the person of each path, ``(N,)``, or ``None`` unless all are called as such a data set calls them."""
    told: list[str] = []
    for path in paths:
        subject = subject_of(path)
        if subject is None:
            return None
        told.append(subject)
    return numbered(told)


def numbered(told: Sequence[str | None]) -> NDArray[np.int32] | None:
    """Subjects by name -> numbers in the order of the names, -1 where none is told, ``(N,)``; ``None`` without any."""
    names = sorted({name for name in told if name is not None})
    if not names:
        return None
    numbers: dict[str | None, int] = {None: -1, **{name: number for number, name in enumerate(names)}}
    return np.array([numbers[name] for name in told], np.int32)


def subject_in(cells: dict[str, str]) -> str | None:
    """The person that a row of a table tells, by lower-case column, or ``None``."""
    told = next((cells[column].strip() for column in SUBJECT_COLUMNS if column in cells), None)
    named = next((cells[column] for column in NAME_COLUMNS if column in cells), "")
    return told or subject_of(named)
