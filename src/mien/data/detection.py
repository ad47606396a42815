"""Pictures to train and judge a face detector with: tables of pictures, boxes and points, split by group.

A table is a Parquet file with the columns ``set, name, group, image, boxes, points``: ``image`` the bytes of a picture
file, ``boxes`` flat x, y, width, height (an empty list: no face; null: nobody has boxed them), ``points`` flat, five a
box (null: none).
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import errors

PREFIX = "detection:"
"""Begins the data spec of a folder of such tables."""

COLUMNS = ("set", "name", "group", "image", "boxes", "points")

POINTS = 5
MIRRORED = (1, 0, 2, 4, 3)
"""Where each point goes in a mirror image: eyes and corners of the mouth change places."""

HELD_OUT = 5
"""Of so many groups one is for validation, by a hash of its name."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Faces:
    """The n faces of a picture.

    Attributes:
        boxes: float32 ``(n, 4)``: x, y, width, height in pixels.
        points: float32 ``(n, 5, 2)`` in pixels; NaN where they are not known.
        known: bool ``(n,)``: surely a face that should be found; the others are neither right nor wrong.
    """

    boxes: NDArray[np.float32]
    points: NDArray[np.float32]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, part: Any) -> "Faces":
        return Faces(self.boxes[part], self.points[part], self.known[part])

    @classmethod
    def of(cls, boxes: Any = (), points: Any = None) -> Self:
        """Known faces from anything that NumPy takes."""
        found = np.asarray(boxes, np.float32).reshape(-1, 4)
        missing = np.full((len(found), POINTS, 2), np.nan, np.float32)
        marked = missing if points is None else np.asarray(points, np.float32).reshape(-1, POINTS, 2)
        return cls(found, marked, np.ones(len(found), bool))

    @classmethod
    def joined(cls, parts: Sequence["Faces"]) -> Self:
        """All faces of several."""
        parts = [Faces.of(), *parts]
        return cls(*(np.concatenate([getattr(each, name) for each in parts]) for name in ("boxes", "points", "known")))

    @property
    def centres(self) -> NDArray[np.float32]:
        """``(n, 2)``."""
        found: NDArray[np.float32] = self.boxes[:, :2] + self.boxes[:, 2:] / np.float32(2)
        return found

    @property
    def sizes(self) -> NDArray[np.float32]:
        """Square roots of the areas, in pixels, ``(n,)``."""
        found: NDArray[np.float32] = np.sqrt(self.boxes[:, 2:].clip(0).prod(1))
        return found


@dataclass(frozen=True)
class FacePicture:
    """A picture and its faces."""

    set: str
    name: str
    group: str
    content: bytes  # of a picture file
    faces: Faces | None  # None: not boxed

    @property
    def is_held_out(self) -> bool:
        """Whether its group is for validation."""
        digest = hashlib.sha256(f"{self.set}/{self.group}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % HELD_OUT == 0

    def pixels(self) -> Pixels:
        """Grey ``(H, W)`` or RGB ``(H, W, 3)``."""
        with Image.open(io.BytesIO(self.content)) as image:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"), np.uint8)


@dataclass(frozen=True)
class DetectionSamples:
    """The pictures of a folder, in the order of its tables."""

    pictures: tuple[FacePicture, ...]
    sha256: str  # of the tables

    def part(self, *, held_out: bool) -> list[FacePicture]:
        """The pictures for validation, or those to train on."""
        return [picture for picture in self.pictures if picture.is_held_out is held_out]


def read_detection(folder: Path) -> DetectionSamples:
    """Every ``*.parquet`` of a folder.

    Raises:
        MissingPathError: there is no such folder.
        DataError: it holds no such table; names file, row and column.
    """
    if not folder.is_dir():
        raise errors.MissingPathError(f"{folder}: expected a folder of Parquet tables of pictures, but there is none")
    tables = sorted(folder.glob("*.parquet"))
    if not tables:
        raise errors.DataError(f"{folder}: expected Parquet tables ({', '.join(COLUMNS)}), got none; check the path")
    digest = hashlib.sha256()
    for table in tables:
        digest.update(hashlib.sha256(table.read_bytes()).digest())
    return DetectionSamples(tuple(picture for table in tables for picture in _read_table(table)), digest.hexdigest())


def _read_table(path: Path) -> list[FacePicture]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise errors.MissingExtraError('Parquet tables need pyarrow: pip install "mien[train]"') from error
    try:
        rows = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise errors.DataError(
            f"{path}: expected a Parquet table with the columns {', '.join(COLUMNS)}, got {errors.first_line(error)}"
        ) from error
    return [_picture(row, f"{path}, row {number}") for number, row in enumerate(rows)]


def _picture(row: dict[str, Any], where: str) -> FacePicture:
    boxes, points = row["boxes"], row["points"]
    count = 0 if boxes is None else len(boxes) // 4
    if boxes is not None and len(boxes) != 4 * count:
        raise errors.DataError(f"{where}: expected four numbers a box, got {len(boxes)} numbers; mend the table")
    if points and len(points) != 2 * POINTS * count:
        raise errors.DataError(
            f"{where}: expected {POINTS} points a box, got {len(points)} numbers for {count} boxes; mend the table"
        )
    return FacePicture(
        set=row["set"],
        name=row["name"],
        group=row["group"],
        content=row["image"],
        faces=None if boxes is None else Faces.of(boxes, points or None),
    )
