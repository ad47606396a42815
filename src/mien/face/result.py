"""The value types that everything passes around: a picture or a video's frame, the faces found in it, their boxes."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS, Emotion, as_classes
from mien.errors import MediaError

DECIMALS = 6  # of the fractions that are written; float32 holds no more
PLACE_DECIMALS = 2  # of pixels and degrees that are written
SUM_TOLERANCE = 1e-3
"""By which the sum of a face's probabilities may differ from one."""

Row = dict[str, Any]
"""A JSON object, or a row of a table: column -> value."""


class Box(NamedTuple):
    """A rectangle in whole pixels of the upright picture; it may leave the picture in part."""

    x: int
    y: int
    width: int
    height: int

    def fraction_inside(self, width: int, height: int) -> float:
        """Fraction of the box's area that lies in a picture of this size, 0 to 1."""
        inside_x = max(0, min(self.x + self.width, width) - max(self.x, 0))
        inside_y = max(0, min(self.y + self.height, height) - max(self.y, 0))
        return inside_x * inside_y / (self.width * self.height) if self.width > 0 and self.height > 0 else 0.0


Points = tuple[tuple[float, float], ...]
"""Five places (x, y) of a face, in pixels of the upright picture: its eyes, nose and corners of the mouth. Of two, the
one that lies left on an upright face comes first."""


@dataclass(frozen=True)
class Face:
    """A face and what it shows.

    Attributes:
        detection_confidence: that this is a face, 0 to 1, on the detector's own scale.
        probabilities: of every class in the network's order, calibrated, summing to one. Keys are emotions, or the
            names of a network's own classes; names find both: ``face.probabilities["happy"]``.
        crop: uint8 ``(S, S)``, grey, or RGB ``(S, S, 3)``: exactly what the network saw.
        points: eyes, nose and corners of the mouth, where the detector gives them; the crop is then upright.
        roll: by how many degrees the face is turned in the picture, clockwise; ``None`` without points.
        quality: 0 to 1; below one half the probabilities are not to be relied on.
        reasons: what is wrong with a face of low quality, such as ``("small", "dark")``.
        abstained: the confidence is below the one that was asked for.

    Raises:
        MediaError: what is given are no probabilities, or they are not of two classes or more.
    """

    box: Box
    detection_confidence: float
    probabilities: Mapping[str, float] = field(hash=False)
    crop: NDArray[np.uint8] = field(repr=False, compare=False)
    quality: float = 1.0
    reasons: tuple[str, ...] = ()
    abstained: bool = False
    points: Points | None = None
    roll: float | None = None

    def __post_init__(self) -> None:
        try:
            as_classes(tuple(self.probabilities))
        except ValueError as error:
            raise MediaError(f"expected probabilities of a network's classes: {error}") from error
        values = self.probabilities.values()
        # A comparison with NaN is false, so this refuses NaN as well.
        if not (all(0 <= value <= 1 for value in values) and abs(math.fsum(values) - 1) <= SUM_TOLERANCE):
            raise MediaError(f"expected probabilities of 0 to 1 that sum to one, got {list(values)}")

    @property
    def emotion(self) -> Emotion | str:
        """The most probable class, the first of equals: an ``Emotion``, or the name of a network's own class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """Probability of ``emotion``."""
        return self.probabilities[self.emotion]

    @property
    def reliable(self) -> bool:
        """Nothing is wrong with this face's size, light, sharpness and frame."""
        return not self.reasons

    def to_json(self) -> Row:
        """The face as it stands under ``faces`` in the JSON of ``mien predict``."""
        return {
            "box": self.box._asdict(),
            "points": None
            if self.points is None
            else [[round(each, PLACE_DECIMALS) for each in xy] for xy in self.points],
            "roll": None if self.roll is None else round(self.roll, PLACE_DECIMALS),
            "detection_confidence": round(self.detection_confidence, DECIMALS),
            "emotion": str(self.emotion),
            "confidence": round(self.confidence, DECIMALS),
            "probabilities": {str(name): round(value, DECIMALS) for name, value in self.probabilities.items()},
            "quality": round(self.quality, DECIMALS),
            "reliable": self.reliable,
            "reasons": list(self.reasons),
            "abstained": self.abstained,
        }

    def to_row(self) -> Row:
        """The face's cells in a table: all of its columns but ``face``, its place among the faces."""
        face = self.to_json()
        box = dict(zip(("x", "y", "box_width", "box_height"), self.box, strict=True))
        columns = probability_columns(face["probabilities"])
        places = [each for xy in face["points"] or [(None, None)] * len(POINTS) for each in xy]
        cells = {**face, **box, **{columns[name]: value for name, value in face["probabilities"].items()}}
        cells |= dict(zip(POINT_COLUMNS, places, strict=True))
        return {name: cells[name] for name in (*face_columns(tuple(columns)), *_LAST) if name != "face"}


@dataclass(frozen=True)
class Picture:
    """A picture and the faces found in it."""

    path: str | None = None  # None for an array
    width: int | None = None  # in pixels, upright; None where it could not be read
    height: int | None = None
    faces: tuple[Face, ...] = ()  # in the order of the detector, the most confident first
    error: str | None = None  # why it could not be read
    page: int | None = None  # of a file of several, from 1; None where they were not asked for

    def shown_name(self) -> str:
        """The file, and the page of it, as a reader is told it."""
        return f"{shown_path(self.path) or ''}{'' if self.page is None else f', page {self.page}'}"

    def to_json(self) -> Row:
        """The picture as it stands in the JSON of ``mien predict``; pages that were asked for are told by ``page``."""
        picture = {
            "path": shown_path(self.path),
            "width": self.width,
            "height": self.height,
            "faces": [face.to_json() for face in self.faces],
            "error": self.error,
        }
        return picture if self.page is None else {**picture, "page": self.page}

    def to_rows(self, classes: Sequence[str] = EMOTIONS, *, abstaining: bool = False, pages: bool = False) -> list[Row]:
        """One row per face, with the keys of :func:`picture_columns`; one with empty face columns where there is none.

        ``classes`` are the network's.
        """
        columns = picture_columns(classes, abstaining=abstaining, pages=pages)
        picture = {"path": shown_path(self.path), "width": self.width, "height": self.height, "error": self.error}
        picture |= {"page": self.page}
        rows = [
            {**picture, "face": number, **face.to_row(), "abstained": face.abstained}
            for number, face in enumerate(self.faces)
        ] or [{**dict.fromkeys(columns), **picture}]
        return [{name: row[name] for name in columns} for row in rows]


@dataclass(frozen=True)
class TrackedFace:
    """A face of a video's frame, with the probabilities of this frame alone.

    Attributes:
        track: number of the face's track: faces that follow one another in place and time share it.
        smoothed: probabilities over the track's last moments, in the network's order, summing to one.
    """

    face: Face
    track: int
    smoothed: Mapping[str, float] = field(hash=False)

    def steadied(self) -> Face:
        """The face with the smoothed probabilities in place of its own, as it is shown in a moving picture."""
        return replace(self.face, probabilities=self.smoothed)


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video and the faces found in it."""

    number: int  # in the video, from 0; frames that were passed over count
    time: float  # of its presentation, in seconds after the first frame's
    faces: tuple[TrackedFace, ...]  # in the order of the detector, the most confident first
    pixels: NDArray[np.uint8] = field(repr=False, compare=False)  # uint8 (H, W, 3), RGB, upright
    damaged: bool = False  # the file is damaged here: what is seen may not be what was recorded

    def to_rows(self, classes: Sequence[str] = EMOTIONS) -> list[Row]:
        """One row per face, with the keys of :func:`video_columns`; one with empty face columns where there is none.

        ``classes`` are the network's.
        """
        frame, columns = {"frame": self.number, "time": round(self.time, DECIMALS)}, probability_columns(classes)
        rows: list[Row] = []
        for each in self.faces:
            smoothed = {SMOOTHED + columns[name]: round(value, DECIMALS) for name, value in each.smoothed.items()}
            row = {**frame, "track": each.track, **each.face.to_row(), **smoothed, "damaged": self.damaged}
            rows.append({name: row[name] for name in video_columns(classes)})
        return rows or [{**dict.fromkeys(video_columns(classes)), **frame, "damaged": self.damaged}]


SMOOTHED = "smoothed_"
"""Begins the column of a smoothed probability."""

_BEFORE: dict[str, type] = {
    **dict.fromkeys(("face", "x", "y", "box_width", "box_height"), int),
    "detection_confidence": float,
    "emotion": str,
    "confidence": float,
}
_AFTER: dict[str, type] = {"quality": float, "reliable": bool}
_PICTURE: dict[str, type] = {"path": str, "width": int, "height": int}
_ERROR: dict[str, type] = {"error": str}
_ABSTAINED: dict[str, type] = {"abstained": bool}
_FRAME: dict[str, type] = {"frame": int, "time": float, "track": int}
_DAMAGED: dict[str, type] = {"damaged": bool}
_PAGE: dict[str, type] = {"page": int}

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
POINT_COLUMNS = tuple(f"{name}_{axis}" for name in POINTS for axis in "xy")
_LAST: dict[str, type] = dict.fromkeys(("roll", *POINT_COLUMNS), float)
"""Columns of a face that came later stand at the end of every table."""


def probability_columns(classes: Iterable[str]) -> dict[str, str]:
    """Class -> its column: the class itself, or ``probability_x`` of a class ``x`` that another column is called."""
    names = [str(name) for name in classes]  # as text, since writers take an Emotion for something else
    others = {*_BEFORE, *_AFTER, *_PICTURE, *_ERROR, *_ABSTAINED, *_FRAME, *_LAST, *_DAMAGED, *_PAGE}
    columns: dict[str, str] = {}
    for name in names:
        column = name
        while column in others or column.startswith(SMOOTHED) or (column != name and column in names):
            column = f"probability_{column}"
        columns[name] = column
    return columns


def face_columns(classes: Iterable[str] = EMOTIONS) -> dict[str, type]:
    """Columns of a face in a table, in order, with the types of their values."""
    return {**_BEFORE, **dict.fromkeys(probability_columns(classes).values(), float), **_AFTER}


def picture_columns(
    classes: Iterable[str] = EMOTIONS, *, abstaining: bool = False, pages: bool = False
) -> dict[str, type]:
    """Columns of a table of pictures, a row per face.

    ``abstaining``: of one in which some faces get no answer; ``pages``: some files have several.
    """
    abstained = _ABSTAINED if abstaining else {}
    return {**_PICTURE, **face_columns(classes), **_ERROR, **abstained, **_LAST, **(_PAGE if pages else {})}


def video_columns(classes: Iterable[str] = EMOTIONS) -> dict[str, type]:
    """Columns of a table of a video: a row per frame and face."""
    names = tuple(classes)
    face = {name: kind for name, kind in face_columns(names).items() if name != "face"}
    smoothed = (SMOOTHED + column for column in probability_columns(names).values())
    return {**_FRAME, **face, **dict.fromkeys(smoothed, float), **_LAST, **_DAMAGED}


def shown_path(path: str | None) -> str | None:
    r"""A path as text that every output can hold; bytes that are no UTF-8 become ``\xNN``."""
    return None if path is None else os.fsencode(path).decode("utf-8", errors="backslashreplace")
