"""Scene accuracy: faces of a data set searched, cropped and named as in a user's photographs.

Scenes are those of ``data/scenes.py``. Scene accuracy is that of the faces that were found; beside it stands the
accuracy on the same faces as they are given. How steady answers are is measured by moving each face's frame once, in a
random direction of place and size, until its overlap with what was found is ``JITTER``: the share that is named
differently then.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Split
from mien.data.scenes import SIDE, Scene, compose_scene
from mien.errors import DataError
from mien.evaluation.metrics import wilson_interval
from mien.evaluation.predictor import Predictor
from mien.face.crop import FACE_SIZE, crop_face, points_frame
from mien.face.detect import Detection, FaceDetector
from mien.face.result import Box
from mien.face.threads import cores, work_ahead
from mien.files import write_text

SCENES = "scenes.json"

JITTER = 0.9
"""Intersection over union of a face's frame and the moved one."""


@dataclass(frozen=True)
class SceneResult:
    """What came of the scenes at one angle; rates are fractions, of the faces that were found but for ``found``."""

    detector: str
    split: str
    angle: float  # degrees, clockwise
    scenes: int
    found: float
    accuracy: float
    accuracy_ci95: tuple[float, float]
    accuracy_given: float  # of the same faces, as the data give them
    changed: float  # answers that change when the frame moves


@dataclass(frozen=True)
class Look:
    """What a detector found in the scene of a face: the most confident box on it, and the confidences of all others."""

    scene: Scene
    hit: Detection | None
    others: tuple[float, ...]


def measure_scenes(
    predictor: Predictor,
    samples: FaceSamples,
    split: Split,
    detector: FaceDetector,
    angles: Iterable[float] = (0.0,),
    count: int | None = None,
) -> list[SceneResult]:
    """Scene accuracy of a network on a split, or on ``count`` faces of it, drawn with seed 0.

    Raises:
        DataError: the data do not have this split, or their faces are of another size than the network's, or the
            detector finds none of them.
    """
    samples = samples.with_classes(predictor.report.classes)
    indices = predictor.indices(samples, split)
    if count is not None:
        indices = np.sort(np.random.default_rng(0).permutation(indices)[:count])
    return [_measured(predictor, samples, split, indices, detector, angle) for angle in angles]


def _measured(
    predictor: Predictor,
    samples: FaceSamples,
    split: Split,
    indices: NDArray[np.int64],
    detector: FaceDetector,
    angle: float,
) -> SceneResult:
    size = (predictor.stored.size if predictor.stored is not None else None) or FACE_SIZE

    def crops_of(index: int) -> tuple[NDArray[np.uint8], ...]:
        row = int(samples.rows[index])
        found = look(samples.images[index], row, detector, angle)
        if found.hit is None:
            return ()
        return tuple(
            crop_face(found.scene.pixels, each.box, size, detector.framing, points=each.points, color=samples.color)
            for each in (found.hit, moved(found.hit, row))
        )

    crops = list(work_ahead(crops_of, indices.tolist(), cores(), "mien-scenes"))
    kept = np.array([bool(each) for each in crops])
    if not kept.any():
        raise DataError(
            f"{samples.name}: expected faces that the detector {detector.name} finds in scenes at {angle:g} degrees,"
            f" got none of {len(indices):,}; choose another --detector"
        )
    faces = (np.stack(list(each)) for each in zip(*filter(None, crops), strict=True))  # twice (n, S, S[, 3])
    answers, after, given = (
        predictor.predict(each)[0].argmax(1) for each in (*faces, np.array(samples.images[indices[kept]]))
    )
    right = answers == samples.labels[indices[kept]]
    return SceneResult(
        detector=detector.name,
        split=split.value,
        angle=angle,
        scenes=len(indices),
        found=float(kept.mean()),
        accuracy=float(right.mean()),
        accuracy_ci95=wilson_interval(int(right.sum()), len(right)),
        accuracy_given=float((given == samples.labels[indices[kept]]).mean()),
        changed=float((answers != after).mean()),
    )


def look(face: NDArray[np.uint8], row: int, detector: FaceDetector, angle: float = 0.0, side: int = SIDE) -> Look:
    """Let a detector search the scene of a face ``(S, S[, 3])``; boxes whose centre lies on the face are on it."""
    scene = compose_scene(np.asarray(face), row, angle, side)
    found = detector.detect(scene.pixels)
    centres = np.array([(box.x + box.width / 2, box.y + box.height / 2) for box, *_ in found]).reshape(-1, 2)
    places = scene.to_picture(centres)
    on_it = np.flatnonzero(((places >= 0) & (places <= len(face))).all(1))
    hit = found[on_it[0]] if len(on_it) else None
    return Look(scene, hit, tuple(each.confidence for each in found if each is not hit))


def moved(detection: Detection, row: int) -> Detection:
    """A detection whose box and points lie elsewhere: ``JITTER`` of overlap, seeded by the row."""
    direction = np.random.default_rng([1, row]).normal(size=3)
    right, down, grown = (_amount(direction) * direction).tolist()
    factor = math.exp(grown)
    x, y, width, height = detection.box
    wide, high = max(1, round(width * factor)), max(1, round(height * factor))
    left, top = x + width * (0.5 + right) - wide / 2, y + height * (0.5 + down) - high / 2
    box = Box(round(left), round(top), wide, high)
    if detection.points is None:
        return detection._replace(box=box)
    frame = points_frame(detection.points)
    centre = frame.corner + frame.side * (0.5 + 0.5j)
    shifted = centre + frame.side * (right + 1j * down)
    places = [shifted + factor * (complex(*each) - centre) for each in detection.points]
    return detection._replace(box=box, points=tuple((each.real, each.imag) for each in places))


def _amount(direction: NDArray[np.float64]) -> float:
    """How far a unit square moves along (right, down, logarithm of its side) to ``JITTER`` of overlap, by bisection."""
    low, high = 0.0, 1.0 / float(np.abs(direction).max())
    for _ in range(40):
        amount = (low + high) / 2
        shift, side = amount * direction[:2], math.exp(amount * direction[2])
        ends = np.minimum(0.5, shift + side / 2) - np.maximum(-0.5, shift - side / 2)
        common = float(ends.clip(0).prod())
        low, high = (amount, high) if common / (1 + side**2 - common) > JITTER else (low, amount)
    return low


def save_scenes(folder: Path, results: Sequence[SceneResult]) -> None:
    """Write ``scenes.json`` into a folder."""
    write_text(folder / SCENES, json.dumps([asdict(each) for each in results], indent=1) + "\n")
