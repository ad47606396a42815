"""Pictures -> faces with probabilities, batched over the faces of many pictures."""

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.face import detect, network
from mien.face.crop import crop_face, points_frame
from mien.face.images import check_image, read_image
from mien.face.quality import Quality, face_quality
from mien.face.result import Box, Face, Picture
from mien.face.threads import cores, work_ahead

Image = NDArray[np.uint8] | Path | str
"""Pixels, or the path of a file."""
Images = list[Image] | tuple[Image, ...]
ColorOrder = Literal["rgb", "bgr"]
Boxes = Sequence[Sequence[float]] | NDArray[Any]
"""``(N, 4)``."""
PointsOf = Sequence[Sequence[Sequence[float]]] | NDArray[Any]
"""``(N, 5, 2)``."""


class _FoundFace(NamedTuple):
    detection: detect.Detection
    crop: NDArray[np.uint8]  # (S, S), or (S, S, 3) for a network that sees colour
    quality: Quality


class _Found(NamedTuple):
    """A picture whose faces are found and not yet named."""

    picture: Picture
    faces: tuple[_FoundFace, ...] = ()


class Recognizer:
    """Finds faces and names their emotions. May be shared between threads; holds no state between calls.

    It can be pickled (for spawned processes, joblib, Ray), copied, and used in a process that was forked after it was
    made, as servers and ``multiprocessing.Pool`` do; so can it with a detector of your own, if that can.

    Example:
        >>> from mien import Recognizer  # doctest: +SKIP
        >>> Recognizer().recognize("photo.jpg").faces[0].emotion  # doctest: +SKIP
        <Emotion.HAPPY: 'happy'>
    """

    def __init__(
        self,
        model: str | Path = network.DEFAULT_MODEL,
        detector: str | detect.FaceDetector | None = None,
        *,
        threads: int | None = None,
        min_confidence: float = 0.0,
        min_accuracy: float | None = None,
    ) -> None:
        """Load the network and the detector.

        Args:
            model: name of a network in the package, or an ``.onnx`` file.
            detector: name of a detector, or one of your own; by default the best that is installed.
            threads: processor cores for the search of pictures, and for naming faces; by default all that this process
                may use. With 1, no thread is started.
            min_confidence: faces whose emotion is less probable are marked ``abstained``.
            min_accuracy: likewise, with the lowest confidence at which the answers reach this accuracy on the network's
                validation pictures (selective prediction).

        Raises:
            CallError: no such model or detector, or an accuracy that the network cannot reach.
            ModelError: a file that is no model, or a detector that cannot be had.
            ValueError: ``threads`` below 1, or ``min_confidence`` outside 0 to 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"expected threads of at least 1, got {threads}")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"expected min_confidence in [0, 1], got {min_confidence}")
        self.network = network.EmotionNetwork(model, threads)
        self.detector = detect.create_detector(detector) if detector is None or isinstance(detector, str) else detector
        self._threads = threads
        reached = 0.0 if min_accuracy is None else self.network.threshold(min_accuracy).confidence
        self.min_confidence = max(min_confidence, reached)

    @property
    def threads(self) -> int:
        """Processor cores in use: as given, or those of the process in which it is."""
        return self._threads or cores()

    @overload
    def recognize(
        self,
        image: Image,
        *,
        boxes: Boxes | None = None,
        points: PointsOf | None = None,
        color_order: ColorOrder = "rgb",
    ) -> Picture: ...
    @overload
    def recognize(self, image: Images, *, color_order: ColorOrder = "rgb") -> list[Picture]: ...

    def recognize(
        self,
        image: Image | Images,
        *,
        boxes: Boxes | None = None,
        points: PointsOf | None = None,
        color_order: ColorOrder = "rgb",
    ) -> Picture | list[Picture]:
        """The faces of one picture; or of several, in their order.

        Args:
            image: uint8 pixels ``(H, W, 3)`` or, grey, ``(H, W)``; a path; or a list of these.
            boxes: of the faces of one picture, ``(N, 4)``: x, y, width, height in pixels of the upright picture. It is
                then not searched. They are taken for boxes as the recognizer's detector draws them.
            points: likewise, of its faces, ``(N, 5, 2)``: eyes, nose and corners of the mouth, each pair from left to
                right. Faces with points are cropped upright, and without a box get that of their frame.
            color_order: of arrays with colours; files say it themselves.

        Raises:
            MediaError: wrong pixels, boxes or points, or a single file that cannot be read. In a list such a file
                becomes a ``Picture`` with an ``error``, and the others go on.
            MissingPathError: there is no such single file.
        """
        given = None if boxes is None and points is None else given_faces(boxes, points)
        if isinstance(image, list | tuple):
            if given is not None:
                raise errors.MediaError(
                    "expected one image with its boxes or points, got several; give them one by one"
                )
            return list(self.stream(image, color_order=color_order))
        _check_image(image)
        return self._named([self._find(image, color_order, given)])[0]

    def stream(
        self, images: Iterable[Image], *, color_order: ColorOrder = "rgb", ahead: int = 64
    ) -> Generator[Picture, None, None]:
        """The faces of any number of pictures, in their order and in constant memory.

        Pictures are read and searched ahead, in threads, while faces are named in batches. ``images`` is read in the
        caller's thread. ``ahead`` is how many pictures, at most, wait until their faces fill a batch. Files that cannot
        be read become pictures with an ``error``.

        Raises:
            MediaError: pixels that are no picture, or one image instead of several.
        """
        if isinstance(images, str | os.PathLike | np.ndarray):  # these can be iterated over, but not by pictures
            raise errors.MediaError(f"expected several images, got one {type(images).__name__}; put it into a list")
        waiting: list[_Found] = []
        faces = 0
        for found in self._found_ahead(images, color_order):
            waiting.append(found)
            faces += len(found.faces)
            if faces >= network.BATCH or len(waiting) >= ahead:
                yield from self._named(waiting)
                waiting, faces = [], 0
        yield from self._named(waiting)

    def _found_ahead(self, images: Iterable[Image], color_order: ColorOrder) -> Iterator[_Found]:
        """Every picture with its faces, in order, a few of them under way at a time."""

        def find(image: Image) -> _Found:
            return self._find_or_say_why(image, color_order)

        return work_ahead(find, _checked(images), self.threads, "mien-detect")

    def _find(self, image: Image, color_order: ColorOrder, given: list[detect.Detection] | None = None) -> _Found:
        pixels = _pixels(image, color_order)
        height, width = pixels.shape[:2]
        path = None if isinstance(image, np.ndarray) else os.fspath(image)
        try:
            detections = self.detector.detect(pixels) if given is None else given
            faces = [self._cropped(pixels, detection) for detection in detections]
        except errors.MediaError as error:
            if path is None:
                raise
            raise errors.MediaError(f"{path}: {error}") from error
        return _Found(Picture(path, width, height), tuple(faces))

    def _cropped(self, pixels: NDArray[np.uint8], detection: detect.Detection) -> _FoundFace:
        box, points, framing = detection.box, detection.points, self.detector.framing
        crop = crop_face(pixels, box, self.network.size, framing, points=points, color=self.network.color)
        return _FoundFace(detection, crop, face_quality(pixels, box, framing, crop, points))

    def _find_or_say_why(self, image: Image, color_order: ColorOrder) -> _Found:
        try:
            return self._find(image, color_order)
        except (errors.MediaError, errors.MissingPathError) as error:
            if isinstance(image, np.ndarray):
                raise
            return _Found(Picture(path=os.fspath(image), error=str(error)))

    def _named(self, found: Sequence[_Found]) -> list[Picture]:
        """The pictures with their faces' emotions, from batches over all of them."""
        crops = [face.crop for each in found for face in each.faces]
        rows = iter(self.network.probabilities(np.stack(crops)) if crops else ())  # N x (7,)
        return [
            replace(each.picture, faces=tuple(self._face(face, next(rows)) for face in each.faces)) for each in found
        ]

    def _face(self, found: _FoundFace, probabilities: NDArray[np.float32]) -> Face:
        return Face(
            box=found.detection.box,
            detection_confidence=found.detection.confidence,
            probabilities=dict(zip(self.network.classes, probabilities.tolist(), strict=True)),
            crop=found.crop,
            quality=found.quality.value,
            reasons=found.quality.reasons,
            abstained=bool(probabilities.max() < self.min_confidence),
            points=found.detection.points,
            roll=None if found.detection.points is None else points_frame(found.detection.points).roll,
        )


def given_faces(boxes: Boxes | None, points: PointsOf | None) -> list[detect.Detection]:
    """Faces that a caller knows, with confidence 1.

    Raises:
        MediaError: not boxes ``(N, 4)`` of whole pixels, or points ``(N, 5, 2)``, or not as many of both.
    """
    places = None if points is None else _numbers(points, (5, 2), "points (N, 5, 2)")
    frames = None if boxes is None else _numbers(boxes, (4,), "boxes (N, 4)")
    if frames is not None and places is not None and len(frames) != len(places):
        raise errors.MediaError(f"expected as many boxes as points, got {len(frames)} and {len(places)}")
    known = [None] * len(frames or ()) if places is None else [tuple(map(tuple, each)) for each in places]
    if frames is None:
        found = [points_frame(each).bounds() for each in known if each is not None]
    else:
        found = [Box(*map(round, each)) for each in frames]
    return [detect.Detection(box, 1.0, each) for box, each in zip(found, known, strict=True)]


def _numbers(values: Boxes | PointsOf, shape: tuple[int, ...], expected: str) -> list[Any]:
    """Finite numbers ``(N, *shape)`` as lists."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise errors.MediaError(f"expected {expected}, got {values!r}") from error
    if array.size == 0:
        return []
    if array.shape[1:] != shape or not np.isfinite(array).all():
        raise errors.MediaError(f"expected {expected}, finite, got an array of the shape {array.shape}")
    numbers: list[Any] = array.tolist()
    return numbers


def _checked(images: Iterable[Image]) -> Iterator[Image]:
    for image in images:
        _check_image(image)
        yield image


def _check_image(image: object) -> None:
    if not isinstance(image, str | os.PathLike | np.ndarray):
        raise errors.MediaError(
            f"expected pixels, a path or a list of these, got {type(image).__name__};"
            " make pixels of other pictures with numpy.asarray"
        )


def _pixels(image: Image, color_order: ColorOrder) -> NDArray[np.uint8]:
    """RGB or grey pixels of a file or an array."""
    if color_order not in ("rgb", "bgr"):
        raise ValueError(f"expected color_order 'rgb' or 'bgr', got {color_order!r}")
    if not isinstance(image, np.ndarray):
        return read_image(image)
    check_image(image)
    return image[..., ::-1] if color_order == "bgr" and image.ndim == 3 else image
