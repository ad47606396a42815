"""The value types that everything passes around: a picture or a video's frame, the faces found in it, their boxes."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS, Emotion
from mien.errors import MediaError

DECIMALS = 6
"""Of the fractions that are written; float32 holds no more."""

SUM_TOLERANCE = 1e-3
"""By which the sum of a face's probabilities may differ from one."""


class Box(NamedTuple):
    """A rectangle in whole pixels of the upright picture; it may leave the picture in part."""

    x: int
    y: int
    width: int
    height: int

    def share_inside(self, width: int, height: int) -> float:
        """The part of the box's area that lies in a picture of this size, 0 to 1."""
        inside_x = max(0, min(self.x + self.width, width) - max(self.x, 0))
        inside_y = max(0, min(self.y + self.height, height) - max(self.y, 0))
        return inside_x * inside_y / (self.width * self.height) if self.width > 0 and self.height > 0 else 0.0


@dataclass(frozen=True)
class Face:
    """A face and what it shows.

    Attributes:
        box: as the detector gave it.
        detection_confidence: that this is a face, 0 to 1, on the detector's own scale.
        probabilities: of every emotion, in the order of ``EMOTIONS``, calibrated, summing to one. Keys are emotions
            or their names: ``face.probabilities["happy"]``.
        crop: uint8 ``(S, S)``, grey: exactly what the network saw.
        quality: 0 to 1; below one half the probabilities are not to be relied on.
        reasons: what is wrong with a face of low quality, such as ``("small", "dark")``.
        abstained: the confidence is below the one that was asked for.

    Raises:
        MediaError: the probabilities are not those of the seven emotions.
    """

    box: Box
    detection_confidence: float
    probabilities: Mapping[Emotion, float] = field(hash=False)
    crop: NDArray[np.uint8] = field(repr=False, compare=False)
    quality: float = 1.0
    reasons: tuple[str, ...] = ()
    abstained: bool = False

    def __post_init__(self) -> None:
        if tuple(self.probabilities) != EMOTIONS:
            raise MediaError(
                f"expected probabilities of {', '.join(EMOTIONS)} in this order,"
                f" came {', '.join(map(str, self.probabilities)) or 'none'}"
            )
        values = self.probabilities.values()
        # A comparison with NaN is false, so this refuses NaN as well.
        if not (all(0 <= value <= 1 for value in values) and abs(math.fsum(values) - 1) <= SUM_TOLERANCE):
            raise MediaError(f"expected probabilities of 0 to 1 that sum to one, came {list(values)}")

    @property
    def emotion(self) -> Emotion:
        """The most probable emotion; the first in the order of ``EMOTIONS`` wins a tie."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """Probability of ``emotion``."""
        return self.probabilities[self.emotion]

    @property
    def reliable(self) -> bool:
        """Nothing is wrong with this face's size, light, sharpness and frame."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """The face as it stands under ``faces`` in the JSON of ``mien predict``."""
        return {
            "box": self.box._asdict(),
            "detection_confidence": round(self.detection_confidence, DECIMALS),
            "emotion": self.emotion.value,
            "confidence": round(self.confidence, DECIMALS),
            "probabilities": {name.value: round(value, DECIMALS) for name, value in self.probabilities.items()},
            "quality": round(self.quality, DECIMALS),
            "reliable": self.reliable,
            "reasons": list(self.reasons),
            "abstained": self.abstained,
        }

    def to_row(self) -> dict[str, Any]:
        """The face's columns of a table: ``FACE_COLUMNS`` without ``face``, which is its place among the faces."""
        return {
            "x": self.box.x,
            "y": self.box.y,
            "box_width": self.box.width,
            "box_height": self.box.height,
            "detection_confidence": round(self.detection_confidence, DECIMALS),
            "emotion": self.emotion.value,
            "confidence": round(self.confidence, DECIMALS),
            **{name.value: round(value, DECIMALS) for name, value in self.probabilities.items()},
            "quality": round(self.quality, DECIMALS),
            "reliable": self.reliable,
        }


@dataclass(frozen=True)
class Picture:
    """A picture and the faces found in it.

    Attributes:
        path: where it was read, ``None`` for an array.
        width: in pixels, upright; ``None`` where it could not be read.
        height: likewise.
        faces: in the order of the detector, the most confident first.
        error: why it could not be read.
    """

    path: str | None = None
    width: int | None = None
    height: int | None = None
    faces: tuple[Face, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The picture as it stands in the JSON of ``mien predict``."""
        return {
            "path": shown_path(self.path),
            "width": self.width,
            "height": self.height,
            "faces": [face.to_json() for face in self.faces],
            "error": self.error,
        }

    def to_rows(self, *, abstaining: bool = False) -> list[dict[str, Any]]:
        """One row per face, with the keys of ``PICTURE_COLUMNS``; one with empty face columns where there is none.

        ``abstaining`` adds the last of ``ABSTAINING_COLUMNS``.
        """
        picture = {"path": shown_path(self.path), "width": self.width, "height": self.height}
        faces: list[dict[str, Any]] = [{"face": number, **face.to_row()} for number, face in enumerate(self.faces)]
        rows = [{**picture, **face, "error": self.error} for face in faces or [dict.fromkeys(FACE_COLUMNS)]]
        if not abstaining:
            return rows
        abstained: list[bool | None] = [face.abstained for face in self.faces]
        return [{**row, "abstained": answer} for row, answer in zip(rows, abstained or [None], strict=True)]


@dataclass(frozen=True)
class TrackedFace:
    """A face of a video's frame.

    Attributes:
        face: with the probabilities of this frame alone.
        track: number of the face's track: faces that follow one another in place and time share it.
        smoothed: probabilities over the track's last moments, in the order of ``EMOTIONS``, summing to one.
    """

    face: Face
    track: int
    smoothed: Mapping[Emotion, float] = field(hash=False)

    def steadied(self) -> Face:
        """The face with the smoothed probabilities in place of its own, as it is shown in a moving picture."""
        return replace(self.face, probabilities=self.smoothed)


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video and the faces found in it.

    Attributes:
        number: in the video, from 0; frames that were passed over count.
        time: of its presentation, in seconds after the first frame's.
        faces: in the order of the detector, the most confident first.
        pixels: uint8 ``(H, W, 3)``, RGB, upright.
    """

    number: int
    time: float
    faces: tuple[TrackedFace, ...]
    pixels: NDArray[np.uint8] = field(repr=False, compare=False)

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per face, with the keys of ``VIDEO_COLUMNS``; one with empty face columns where there is none."""
        frame = {"frame": self.number, "time": round(self.time, DECIMALS)}
        rows: list[dict[str, Any]] = [
            {
                **frame,
                "track": each.track,
                **each.face.to_row(),
                **{f"smoothed_{name.value}": round(value, DECIMALS) for name, value in each.smoothed.items()},
            }
            for each in self.faces
        ]
        return rows or [{**dict.fromkeys(VIDEO_COLUMNS), **frame}]


FACE_COLUMNS: dict[str, type] = {
    "face": int,
    "x": int,
    "y": int,
    "box_width": int,
    "box_height": int,
    "detection_confidence": float,
    "emotion": str,
    "confidence": float,
    **dict.fromkeys((emotion.value for emotion in EMOTIONS), float),
    "quality": float,
    "reliable": bool,
}
"""Columns of a face in a table, in order, with the types of their values."""

PICTURE_COLUMNS: dict[str, type] = {"path": str, "width": int, "height": int, **FACE_COLUMNS, "error": str}
"""Columns of a table of pictures: a row per face."""

ABSTAINING_COLUMNS: dict[str, type] = {**PICTURE_COLUMNS, "abstained": bool}
"""Those of a table in which some faces get no answer."""

VIDEO_COLUMNS: dict[str, type] = {
    "frame": int,
    "time": float,
    "track": int,
    **{name: kind for name, kind in FACE_COLUMNS.items() if name != "face"},
    **dict.fromkeys((f"smoothed_{emotion.value}" for emotion in EMOTIONS), float),
}
"""Columns of a table of a video: a row per frame and face."""


def shown_path(path: str | None) -> str | None:
    r"""A path as text that every output can hold; bytes that are no UTF-8 become ``\xNN``."""
    return None if path is None else os.fsencode(path).decode("utf-8", errors="backslashreplace")
