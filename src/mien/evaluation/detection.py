"""How well a face detector finds faces: recall by size, false boxes, and how far its points are off."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples
from mien.data.detection import DetectionSamples, FacePicture, Pixels
from mien.data.scenes import compose_scene
from mien.face.detect.base import suppressed
from mien.face.detect.graph import FaceGraph
from mien.face.runtime import create_session
from mien.runs import Run

THRESHOLD = 0.5
"""Score from which on a box counts where nothing else is said."""

LEAST = 0.1
"""Less confident boxes are not looked at."""

SAME, TOUCHED = 0.3, 0.1
"""Overlap from which on a box means a face, and below which it has nothing to do with it."""

SCENE_SIDES = (192, 96, 48)
"""Of the picture of a face in a scene, in pixels."""

HEIGHTS = {"48": (48.0, np.inf), "24": (24.0, 48.0), "12": (12.0, 24.0)}
"""Name -> lowest and highest height of a face, in pixels."""


def overlaps(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of boxes (x, y, width, height): ``(n, 4), (m, 4) -> (n, m)``."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    common = (high - low).clip(0).prod(2)
    areas = one[:, 2:].prod(1)[:, None] + other[:, 2:].prod(1)[None] - common
    found: NDArray[np.float64] = common / np.maximum(areas, 1e-9)
    return found


def suppress(boxes: NDArray[np.floating], scores: NDArray[np.floating], threshold: float) -> NDArray[np.int64]:
    """Indices of the boxes of at least ``threshold`` that no more confident one overlaps, best first: ``(n,)``."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= threshold]
    kept: NDArray[np.int64] = order[suppressed(boxes[order].astype(np.float64))]
    return kept


@dataclass(frozen=True)
class Found:
    """What a detector says of K places, or of the n faces that are left of them."""

    boxes: NDArray[np.float32]  # (K, 4): x, y, width, height
    points: NDArray[np.float32]  # (K, 5, 2)
    scores: NDArray[np.float32]  # (K,)

    def suppressed(self, threshold: float) -> "Found":
        """The faces, best first."""
        kept = suppress(self.boxes, self.scores, threshold)
        return Found(self.boxes[kept], self.points[kept], self.scores[kept])


def open_graph(path: Path) -> tuple[Callable[[Pixels], Found], float]:
    """What a graph of faces says of all places of a picture, and its threshold; raises as ``FaceGraph``."""
    graph = FaceGraph(path)
    return (lambda picture: Found(*graph.candidates(as_rgb(picture)))), graph.threshold


def as_rgb(picture: Pixels) -> Pixels:
    """A picture ``(H, W)`` or ``(H, W, 3)`` in three channels."""
    return np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture


def is_detector(path: Path) -> bool:
    """Whether a run directory or an ONNX file is that of a face detector."""
    return "detector" in Run(path).settings() if path.is_dir() else detector_kind(path) is not None


def detector_kind(path: Path) -> str | None:
    """``graph`` of a graph of faces, ``yunet`` of a YuNet file, ``None`` of anything else."""
    if path.suffix != ".onnx" or not path.is_file():
        return None
    try:
        session = create_session(path, threads=1)
    except Exception:  # whoever reads it as another network says what is wrong with it
        return None
    names = [each.name for each in session.get_inputs()]
    is_yunet = {"cls_8", "obj_8", "bbox_8", "kps_8"} <= {each.name for each in session.get_outputs()}
    return "graph" if names == ["picture"] else "yunet" if is_yunet else None


@dataclass(frozen=True)
class Measured:
    """A detector on pictures.

    Attributes:
        pictures: how many.
        heights: of every face that somebody boxed, in pixels, ``(F,)``.
        overlaps: of that face with the best box that was found for it, ``(F,)``; 0 where there is none.
        scores: of that box, ``(F,)``.
        point_errors: mean distance of its points over the distance of the eyes, ``(F,)``; NaN where not known.
        false_scores: of boxes that overlap no face, from ``LEAST`` on.
    """

    pictures: int
    heights: NDArray[np.float64]
    overlaps: NDArray[np.float64]
    scores: NDArray[np.float64]
    point_errors: NDArray[np.float64]
    false_scores: NDArray[np.float64]

    def recall(self, low: float, high: float, overlap: float, threshold: float) -> float:
        """Fraction of the faces of ``low`` to ``high`` pixels of height that were found; NaN where there are none."""
        asked = (self.heights >= low) & (self.heights < high)
        found = (self.overlaps >= overlap) & (self.scores >= threshold)
        return float(found[asked].mean()) if asked.any() else float("nan")

    def false_per_100(self, threshold: float) -> float:
        """Boxes of at least ``threshold`` in a hundred pictures that overlap no face."""
        return 100 * float((self.false_scores >= threshold).sum()) / max(1, self.pictures)

    def point_error(self, threshold: float) -> float:
        """Median over the faces found whose points are known."""
        asked = (self.scores >= threshold) & (self.overlaps >= SAME) & ~np.isnan(self.point_errors)
        return float(np.median(self.point_errors[asked])) if asked.any() else float("nan")

    def rows(self, threshold: float = THRESHOLD) -> dict[str, float]:
        """Its numbers by name, those that are not known left out."""
        values = {
            f"recall_{overlap}_{name}": self.recall(low, high, overlap, threshold)
            for name, (low, high) in HEIGHTS.items()
            for overlap in (0.3, 0.5)
        }
        values["point_error"] = self.point_error(threshold)
        values["false_per_100"] = self.false_per_100(threshold)
        return {name: value for name, value in values.items() if not np.isnan(value)}


def measure(find: Callable[[Pixels], Found], pictures: Sequence[FacePicture]) -> Measured:
    """Let a detector search pictures whose faces somebody has boxed.

    ``find`` gives what is found in a picture, before suppression or after it. Each face gets one box, those that
    overlap most first; a box without a face is false.
    """
    rows, false = [], []
    for picture in pictures:
        faces = picture.faces
        if faces is None:
            continue
        found = find(picture.pixels()).suppressed(LEAST)
        common = overlaps(faces.boxes, found.boxes)
        free = (common < TOUCHED).all(0) if len(faces) else np.ones(len(found.scores), bool)
        false.extend(found.scores[free].tolist())
        taken = dict(matched(common))
        for index in range(len(faces)):
            best = taken.get(index)
            error = float("nan")
            if best is not None:
                error = point_error(faces.points[index], found.points[best])
            rows.append((
                float(faces.boxes[index, 3]),
                0.0 if best is None else float(common[index, best]),
                0.0 if best is None else float(found.scores[best]),
                error,
            ))  # fmt: skip
    table = np.array(rows, np.float64).reshape(-1, 4)
    heights, found_overlaps, scores, errors = table.T
    return Measured(len(pictures), heights, found_overlaps, scores, errors, np.array(false, np.float64))


def matched(common: NDArray[np.floating], least: float = 0.0) -> Iterator[tuple[int, int]]:
    """Row and column of what belongs together by overlaps ``(n, m)`` above 0 and of ``least``, the highest first."""
    left = common.copy()
    while left.size and left.max() > 0 and left.max() >= least:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        yield int(row), int(column)
        left[row], left[:, column] = 0, 0


def point_error(points: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Mean distance of five points over the distance of the eyes; NaN where they are not known."""
    eyes = float(np.linalg.norm(points[0] - points[1]))
    return float(np.linalg.norm(points - found, axis=1).mean()) / eyes if eyes > 0 else float("nan")


def measure_sets(find: Callable[[Pixels], Found], samples: DetectionSamples, threshold: float) -> dict[str, Any]:
    """The numbers of ``Measured.rows`` for each set of the held-out pictures, and how many pictures and faces."""
    sets: dict[str, list[FacePicture]] = {}
    for picture in samples.part(held_out=True):
        if picture.faces is not None:
            sets.setdefault(picture.set, []).append(picture)
    found = {name: measure(find, pictures) for name, pictures in sets.items()}
    return {
        name: {"pictures": each.pictures, "faces": len(each.heights), **each.rows(threshold)}
        for name, each in found.items()
    }


def measure_scenes(
    find: Callable[[Pixels], Found], samples: FaceSamples, indices: NDArray[np.int64], threshold: float
) -> dict[str, Any]:
    """How many of the faces at ``indices`` are found in scenes, by side in pixels, and false boxes in 100 scenes.

    A face is found by a box whose middle lies in its picture.
    """
    rows: dict[str, Any] = {"scenes": len(indices)}
    for side in SCENE_SIDES:
        hits = false = 0
        for index in indices:
            scene = compose_scene(np.asarray(samples.images[index]), int(samples.rows[index]), side=side)
            found = find(scene.pixels).suppressed(threshold)
            middles = scene.to_picture(found.boxes[:, :2] + found.boxes[:, 2:] / 2)
            inside = ((middles >= 0) & (middles <= samples.size)).all(1)
            hits += bool(inside.any())
            false += int((~inside).sum())
        rows |= {f"found_{side}": hits / len(indices), f"false_per_100_{side}": 100 * false / len(indices)}
    return rows
