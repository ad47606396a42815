"""Pictures -> faces with probabilities, batched over the faces of many pictures."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.errors import MediaError, MissingPathError
from mien.face.crop import crop_face
from mien.face.detect import Detection, FaceDetector, create_detector
from mien.face.network import BATCH, DEFAULT_MODEL, EmotionNetwork
from mien.face.pictures import check_picture, read_picture
from mien.face.quality import Quality, face_quality
from mien.face.result import Face, Picture

Image = NDArray[np.uint8] | Path | str
"""Pixels, or the path of a file."""
Images = list[Image] | tuple[Image, ...]
ColorOrder = Literal["rgb", "bgr"]

PICTURES_AHEAD = 64
"""Pictures, at most, that wait until their faces fill a batch, unless something else is said."""


@dataclass(frozen=True)
class _FoundFace:
    """A face without its emotion; ``crop`` is ``(S, S)``."""

    detection: Detection
    crop: NDArray[np.uint8]
    quality: Quality


@dataclass(frozen=True)
class _Found:
    """A picture whose faces are found and not yet named."""

    picture: Picture
    faces: tuple[_FoundFace, ...] = ()


class Recognizer:
    """Finds faces and names their emotions. May be shared between threads; holds no state between calls.

    Example:
        >>> from mien import Recognizer  # doctest: +SKIP
        >>> Recognizer().recognize("photo.jpg").faces[0].emotion  # doctest: +SKIP
        <Emotion.HAPPY: 'happy'>
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        detector: str | FaceDetector | None = None,
        *,
        threads: int | None = None,
        min_confidence: float = 0.0,
        min_accuracy: float | None = None,
    ) -> None:
        """Load the network and the detector.

        Args:
            model: name of a network in the package, or an ``.onnx`` file.
            detector: name of a detector, or one of your own; by default the best that is installed.
            threads: processor cores in use; by default all.
            min_confidence: faces whose emotion is less probable are marked ``abstained``.
            min_accuracy: likewise those whose emotion is less probable than an answer must be for so large a share of
                answers to be right, as it was on validation pictures of the network.

        Raises:
            UnknownNameError: no such model or detector.
            MissingPathError: no such model file.
            ModelError: a file that is no model, or a detector that cannot be had.
            CallError: ``min_accuracy`` is no share, or more than the network can reach.
            ValueError: ``threads`` below 1, or ``min_confidence`` outside 0 to 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1; {threads} came")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence must be in [0, 1]; {min_confidence} came")
        self.network = EmotionNetwork(model, threads)
        self.detector = create_detector(detector) if detector is None or isinstance(detector, str) else detector
        self.threads = threads or _cores()
        reached = 0.0 if min_accuracy is None else self.network.threshold(min_accuracy).confidence
        self.min_confidence = max(min_confidence, reached)

    @overload
    def recognize(self, image: Image, *, color_order: ColorOrder = "rgb") -> Picture: ...
    @overload
    def recognize(self, image: Images, *, color_order: ColorOrder = "rgb") -> list[Picture]: ...

    def recognize(self, image: Image | Images, *, color_order: ColorOrder = "rgb") -> Picture | list[Picture]:
        """The faces of one picture, or of several.

        Args:
            image: uint8 pixels ``(H, W, 3)`` or, grey, ``(H, W)``; a path; or a list of these.
            color_order: of arrays with colours; files are always read right.

        Returns:
            a ``Picture``, or a list of them in the order of the images.

        Raises:
            MediaError: wrong pixels, or a single file that cannot be read. In a list such a file becomes a
                ``Picture`` with an ``error``, and the others go on.
            MissingPathError: there is no such single file.
        """
        if isinstance(image, list | tuple):
            return list(self.stream(image, color_order=color_order))
        _check_image(image)
        return self._named([self._find(image, color_order)])[0]

    def stream(
        self, images: Iterable[Image], *, color_order: ColorOrder = "rgb", ahead: int = PICTURES_AHEAD
    ) -> Generator[Picture, None, None]:
        """The faces of any number of pictures, in their order and in constant memory.

        Pictures are read and searched ahead, in threads, while faces are named in batches. ``images`` is read in the
        caller's thread. ``ahead`` is how many pictures, at most, wait until their faces fill a batch.

        Raises:
            MediaError: pixels that are no picture, or one image instead of several. Files that cannot be read become
                pictures with an ``error``.
        """
        if isinstance(images, str | os.PathLike | np.ndarray):  # these can be iterated over, but not by pictures
            raise MediaError(f"expected several images, came one {type(images).__name__}; put it into a list")
        waiting: list[_Found] = []
        faces = 0
        for found in self._found_ahead(images, color_order):
            waiting.append(found)
            faces += len(found.faces)
            if faces >= BATCH or len(waiting) >= ahead:
                yield from self._named(waiting)
                waiting, faces = [], 0
        yield from self._named(waiting)

    def _found_ahead(self, images: Iterable[Image], color_order: ColorOrder) -> Iterator[_Found]:
        """Every picture with its faces, in order, a few of them under way at a time."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="mien-detect") as pool:
            under_way: deque[Future[_Found]] = deque()
            try:
                for image in images:
                    _check_image(image)
                    under_way.append(pool.submit(self._find_or_say_why, image, color_order))
                    if len(under_way) > 2 * self.threads:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()

    def _find(self, image: Image, color_order: ColorOrder) -> _Found:
        pixels = _pixels(image, color_order)
        height, width = pixels.shape[:2]
        path = None if isinstance(image, np.ndarray) else os.fspath(image)
        try:
            faces = tuple(self._found_face(pixels, detection) for detection in self.detector.detect(pixels))
        except MediaError as error:
            if path is None:
                raise
            raise MediaError(f"{path}: {error}") from error
        return _Found(Picture(path, width, height), faces)

    def _found_face(self, pixels: NDArray[np.uint8], detection: Detection) -> _FoundFace:
        crop = crop_face(pixels, detection.box, self.network.size, self.detector.framing)
        return _FoundFace(detection, crop, face_quality(pixels, detection.box, self.detector.framing))

    def _find_or_say_why(self, image: Image, color_order: ColorOrder) -> _Found:
        if isinstance(image, np.ndarray):
            return self._find(image, color_order)
        try:
            return self._find(image, color_order)
        except (MediaError, MissingPathError) as error:
            return _Found(Picture(path=os.fspath(image), error=str(error)))

    def _named(self, found: Sequence[_Found]) -> list[Picture]:
        """The pictures with their faces' emotions, from batches over all of them."""
        crops = [face.crop for each in found for face in each.faces]
        if not crops:
            return [each.picture for each in found]
        rows = iter(self.network.probabilities(np.stack(crops)))  # (N, 7)
        return [
            replace(each.picture, faces=tuple(self._face(face, next(rows)) for face in each.faces)) for each in found
        ]

    def _face(self, found: _FoundFace, probabilities: NDArray[np.float32]) -> Face:
        return Face(
            box=found.detection.box,
            detection_confidence=found.detection.confidence,
            probabilities=dict(zip(EMOTIONS, probabilities.tolist(), strict=True)),
            crop=found.crop,
            quality=found.quality.value,
            reasons=found.quality.reasons,
            abstained=bool(probabilities.max() < self.min_confidence),
        )


def _check_image(image: object) -> None:
    if not isinstance(image, str | os.PathLike | np.ndarray):
        raise MediaError(
            f"expected pixels, a path or a list of these, came {type(image).__name__};"
            " make pixels of other pictures with numpy.asarray"
        )


def _pixels(image: Image, color_order: ColorOrder) -> NDArray[np.uint8]:
    """RGB or grey pixels of a file or an array."""
    if color_order not in ("rgb", "bgr"):
        raise ValueError(f"color_order must be 'rgb' or 'bgr'; {color_order!r} came")
    if not isinstance(image, np.ndarray):
        return read_picture(image)
    check_picture(image)
    return image[..., ::-1] if color_order == "bgr" and image.ndim == 3 else image


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
