"""Faces of a training as the recognizer gets them out of photographs: their points, and validation in scenes.

Every picture is searched once, in an upright scene; what was found is kept in the user's cache.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.data import FaceSamples
from mien.data.scenes import SIDE
from mien.evaluation.scenes import Look, look
from mien.face.crop import crop_face
from mien.face.detect import FaceDetector, create_detector
from mien.face.threads import cores, work_ahead
from mien.recipe import AugmentationSettings
from mien.training.array_cache import remember_arrays

FORMAT = 1
"""Version of the cached files and of what is found in a scene; raise it whenever either changes."""

UPRIGHT = 0.0
"""Angle of the scenes, in degrees."""

PROBED = 32
"""Scenes of Training that are searched to see whether a detector gives points."""


@dataclass(frozen=True)
class SceneFaces:
    """What was found in the scenes of N pictures.

    Attributes:
        found: bool ``(N,)``, whether a face was found where the picture lies.
        points: float32 ``(N, 5, 2)``, its five points in pixels of the picture; NaN where there are none.
        crops: uint8 ``(N, S, S)`` or ``(N, S, S, 3)``, as the recognizer crops it; 0 where no face was found.
    """

    found: NDArray[np.bool_]
    points: NDArray[np.float32]
    crops: NDArray[np.uint8]

    def accuracy(self, probabilities: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
        """Scene accuracy, that of the faces that were found: ``(N, K)``, ``(N,)``."""
        return float((probabilities.argmax(1) == labels)[self.found].mean())


@dataclass(frozen=True)
class Detected:
    """What a detector found in scenes of the pictures that a training may look at."""

    points: NDArray[np.float32]  # (M, 5, 2), of the training split, in pixels of the picture; NaN: not found
    scenes: SceneFaces  # of the validation split


def find_faces(
    settings: AugmentationSettings,
    samples: FaceSamples,
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    show: Callable[[int, int], None] | None = None,
) -> Detected:
    """Search a scene of every picture at these indices once; of the test splits' none.

    Raises:
        CallError, MissingPathError, ModelError: as ``create_detector``.
        RecipeError: the detector gives no points, or finds none of the validation faces.
    """
    detector = create_detector(settings.detector)
    _check_points(detector, search_scenes(samples, training[:PROBED], detector, size=0))
    scenes = search_scenes(samples, validation, detector, size=samples.size, show=show)
    _check_points(detector, scenes)
    return Detected(search_scenes(samples, training, detector, size=0, show=show).points, scenes)


def _check_points(detector: FaceDetector, faces: SceneFaces) -> None:
    if np.isfinite(faces.points).any():
        return
    got = "boxes alone" if faces.found.any() else f"no face in {len(faces.found)} scenes"
    raise errors.RecipeError(
        f"augmentation.detector: expected a detector that gives the five points of faces, got {got} of"
        f" {detector.name}; choose another, such as yunet:FILE, or set augmentation.detected to 0"
    )


def search_scenes(
    samples: FaceSamples,
    indices: NDArray[np.int64],
    detector: FaceDetector,
    *,
    size: int,
    show: Callable[[int, int], None] | None = None,
) -> SceneFaces:
    """Search a scene of each picture at ``indices`` ``(N,)``, or recall what was found before.

    Args:
        samples: pictures of faces.
        indices: of the pictures.
        detector: what those of the package find is kept; one without an ``identity`` searches each time.
        size: of the crops, in pixels; 0 is none.
        show: called with the number of pictures that were searched, and of all.
    """
    identity = getattr(detector, "identity", None)
    if identity is None:
        return _searched(samples, indices, detector, size, show)
    about = [FORMAT, samples.content_sha256(), identity, size, UPRIGHT, SIDE]
    arrays = remember_arrays(
        "scenes", about, samples.rows[indices],
        lambda: dataclasses.asdict(_searched(samples, indices, detector, size, show)),
    )  # fmt: skip
    return SceneFaces(**arrays)


def _searched(
    samples: FaceSamples,
    indices: NDArray[np.int64],
    detector: FaceDetector,
    size: int,
    show: Callable[[int, int], None] | None,
) -> SceneFaces:
    def search(index: int) -> tuple[Look, NDArray[np.uint8] | None]:
        found = look(samples.images[index], int(samples.rows[index]), detector, UPRIGHT, SIDE)
        if found.hit is None or size == 0:
            return found, None
        framing, points = detector.framing, found.hit.points
        return found, crop_face(found.scene.pixels, found.hit.box, size, framing, points=points, color=samples.color)

    faces = SceneFaces(
        np.zeros(len(indices), np.bool_),
        np.full((len(indices), 5, 2), np.nan, np.float32),
        np.zeros((len(indices), size, size, *samples.images.shape[3:]), np.uint8),
    )
    for at, (found, crop) in enumerate(work_ahead(search, indices.tolist(), cores(), "mien-search")):
        if found.hit is not None:
            faces.found[at] = True
            if found.hit.points is not None:
                faces.points[at] = found.scene.to_picture(np.array(found.hit.points))
            if crop is not None:
                faces.crops[at] = crop
        if show is not None:
            show(at + 1, len(indices))
    return faces
