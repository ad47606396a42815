"""What a face detector is trained on: the sources of its collages, and its batches, composed in another thread."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien import errors
from mien.data import Split, read_samples
from mien.data.collages import Composer, Labelled, Sources
from mien.data.detection import DetectionSamples, FacePicture, Faces, Pixels
from mien.detector_recipe import CollageSettings, DetectorRecipe
from mien.evaluation.detection import Found
from mien.recipe import DataSettings
from mien.training import detector_loss
from mien.training.array_cache import Arrays, remember_arrays
from mien.training.detector_teacher import Teacher, Told, box_rule, find_in_crops, find_in_pictures, merge

CACHED = 1
"""Version of what is kept of a teacher's answers; raise it whenever the search changes."""

FIELDS = ("boxes", "points", "scores")
"""Of ``Found``, in its order."""

CLEAR = 0.5
"""Score from which on a picture that is a face shows one."""


def read_sources(
    samples: DetectionSamples, settings: CollageSettings, teacher: Teacher | None, told: Told = lambda *_: None
) -> Sources:
    """The pictures to train on, with all their faces; without a teacher only those that somebody has boxed.

    Raises:
        DataError: no picture with a face is left.
        MissingPathError, CallError: as ``read_samples``, of ``collages.faces``.
    """
    pictures = samples.part(held_out=False)
    empty = [picture.pixels() for picture in pictures if picture.faces is not None and not len(picture.faces)]
    with_faces = [picture for picture in pictures if picture.faces is None or len(picture.faces)]
    sets: dict[str, list[Labelled]] = {}
    if teacher is None:
        for picture in with_faces:
            if picture.faces is not None:
                sets.setdefault(picture.set, []).append(Labelled(picture.pixels(), picture.faces))
    else:
        key = f"{samples.sha256}-{teacher.sha256}"
        found = remembered(key, len(with_faces), lambda: find_in_pictures(teacher, with_faces, told))
        for picture, labelled in zip(with_faces, _merged(with_faces, found), strict=True):
            sets.setdefault(picture.set, []).append(labelled)
    sets = {name: kept for name, each in sets.items() if (kept := [one for one in each if one.faces.known.any()])}
    crops = [] if teacher is None else [_crops(spec, teacher, told) for spec in settings.faces]
    if not sets and not crops:
        raise errors.DataError("expected pictures with faces to train on, got none; check --data, or give a teacher")
    # Sets of few pictures are drawn more often than their share, of many less often.
    weights = np.sqrt([len(each) for each in sets.values()])
    share = settings.faces_share if crops else 0.0
    shares = [*(weights / max(weights.sum(), 1e-9) * (1 - share)), *(share / len(crops) for _ in crops)]
    return Sources((*sets.values(), *crops), tuple(map(float, shares)), empty)


def _merged(pictures: Sequence[FacePicture], found: Sequence[Found]) -> list[Labelled]:
    sets = {picture.set for picture in pictures}
    rules = {}
    for name in sets:
        mine = [(picture, each) for picture, each in zip(pictures, found, strict=True) if picture.set == name]
        rules[name] = box_rule(*zip(*mine, strict=True))
    return [
        Labelled(picture.pixels(), merge(picture, each, rules[picture.set]))
        for picture, each in zip(pictures, found, strict=True)
    ]


def _crops(spec: str, teacher: Teacher, told: Told) -> list[Labelled]:
    """The Training pictures of a data spec in which the teacher sees a face."""
    samples = read_samples(spec)
    images = samples.images[samples.split_for(Split.TRAINING, DataSettings())]
    key = f"{hashlib.sha256(images.tobytes()).hexdigest()}-{teacher.sha256}"
    found = remembered(key, len(images), lambda: find_in_crops(teacher, images, told))
    return [
        Labelled(image, Faces(each.boxes, each.points, each.scores >= CLEAR))
        for image, each in zip(images, found, strict=True)
        if len(each.scores) and each.scores[0] >= CLEAR
    ]


def remembered(key: str, count: int, search: Callable[[], list[Found]]) -> list[Found]:
    """What a teacher found in ``count`` pictures, from the cache, or searched and kept there."""

    def arrays() -> Arrays:
        found = search()
        fields = {name: np.concatenate([getattr(each, name) for each in found]) for name in FIELDS}
        return {"counts": np.array([len(each.scores) for each in found]), **fields}

    stored = remember_arrays("detection", [CACHED, key], np.arange(count), arrays)
    ends = np.cumsum(stored["counts"])[:-1]
    return [Found(*each) for each in zip(*(np.split(stored[name], ends) for name in FIELDS), strict=True)]


FULL_SIZE = 320
"""Side in pixels of the collages that a recipe's batch size counts."""

SEARCHED = 8
"""Collages that the teacher sees at once."""


@dataclass(frozen=True)
class Batch:
    """Collages and what is to be said of them."""

    pictures: Tensor  # uint8 (N, 3, S, S)
    targets: detector_loss.Targets


class Batches:
    """The batches of a training, each composed while the one before it is learnt; closed as a context.

    All that is random in batch number i follows from the seed and i.
    """

    def __init__(self, recipe: DetectorRecipe, sources: Sources, teacher: Teacher | None) -> None:
        self._seed, self._sizes, self._teacher = recipe.seed, recipe.collages.sizes, teacher
        self._pixels = recipe.training.batch_size * FULL_SIZE**2
        self._composer = Composer(sources, recipe.collages.min_face)
        self._thread = ThreadPoolExecutor(1, "collages")
        self._next: tuple[int, Future[Batch]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def get(self, number: int) -> Batch:
        """Batch ``number``, from 0; the one after it is begun."""
        if self._next is None or self._next[0] != number:
            self._next = number, self._thread.submit(self.compose, number)
        batch = self._next[1].result()
        self._next = number + 1, self._thread.submit(self.compose, number + 1)
        return batch

    def compose(self, number: int) -> Batch:
        """Batch ``number``."""
        size = self._sizes[int(np.random.default_rng((self._seed, number)).integers(len(self._sizes)))]
        count = max(1, round(self._pixels / size**2))
        randoms = (np.random.default_rng((self._seed, number, index)) for index in range(count))
        collages = [self._composer.compose(size, random) for random in randoms]
        pictures = np.stack([collage.pixels for collage in collages])  # (N, S, S, 3)
        grid = detector_loss.grid(size)
        parts = [_targets(collage.faces, *grid) for collage in collages]
        kinds, boxes, points = (torch.from_numpy(np.stack(each)) for each in zip(*parts, strict=True))
        scores = torch.zeros(kinds.shape) if self._teacher is None else _scores(self._teacher, pictures)
        return Batch(
            torch.from_numpy(pictures).permute(0, 3, 1, 2), detector_loss.Targets(kinds, boxes, points, scores)
        )


def _targets(
    faces: Faces, places: NDArray[np.float32], strides: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """What each place is, and the box and points of the face for which it stands, as in ``Targets``."""
    kinds, owners = detector_loss.assign(faces, places, strides)
    boxes = np.zeros((len(kinds), 4), np.float32)
    points = np.full((len(kinds), 5, 2), np.nan, np.float32)
    mine = owners >= 0
    boxes[mine] = np.concatenate([faces.centres, faces.boxes[:, 2:]], 1)[owners[mine]]
    points[mine] = faces.points[owners[mine]]
    return kinds, boxes, points


def _scores(teacher: Teacher, pictures: Pixels) -> Tensor:
    """The teacher's at every place: ``(N, S, S, 3) -> (N, K)``."""
    parts = [teacher.search(pictures[start : start + SEARCHED]).scores for start in range(0, len(pictures), SEARCHED)]
    return torch.from_numpy(np.concatenate(parts))
