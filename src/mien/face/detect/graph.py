"""A graph of faces: an ONNX file that finds faces and their points, with all that it needs to do so.

Input ``picture``, uint8 ``[N, H, W, 3]``, RGB, of any size; outputs ``boxes`` ``[N, K, 4]`` (x, y, width, height),
``points`` ``[N, K, 5, 2]`` and ``scores`` ``[N, K]``, float32, in pixels of the picture, before suppression. Its
metadata may state the ``threshold`` of a face.

Pictures go through one by one, each on one thread, several at a time: batches of four cost a third more processor time
for each picture, as their activations leave the caches (docs/decisions/0027).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import errors
from mien.face.detect import base
from mien.face.runtime import create_session

INPUT, OUTPUTS = "picture", ("boxes", "points", "scores")
REMEDY = "give a graph of faces, or yunet:FILE for a file of YuNet"


class FaceGraph:
    """A detector that is a graph of faces. Arguments as :func:`mien.face.detect.create_detector`."""

    framing = base.FRAMING

    def __init__(self, model: Path, threshold: float | None = None, side: int = base.SIDE) -> None:
        self.name = model.stem
        self._path = model
        self._session = read_network(model, REMEDY)
        inputs = [(each.name, each.type, len(each.shape)) for each in self._session.get_inputs()]
        outputs = {each.name for each in self._session.get_outputs()}
        if inputs != [(INPUT, "tensor(uint8)", 4)] or not outputs.issuperset(OUTPUTS):
            raise errors.ModelError(
                f"{model}: expected an input '{INPUT}' uint8 [N, H, W, 3] and outputs {', '.join(OUTPUTS)},"
                f" got {inputs} and {sorted(outputs)}; {REMEDY}"
            )
        self.threshold = base.check_threshold(self._stated_threshold() if threshold is None else threshold)
        self.side = base.check_side(side)
        self.identity = base.identity_of(model, self.threshold, self.side)

    def detect(self, picture: NDArray[np.uint8]) -> list[base.Detection]:
        """As :class:`mien.face.detect.FaceDetector`."""
        seen = base.searched(picture, self.side)  # (h, w, 3)
        return base.found_faces(self.candidates(seen), self.threshold, picture, seen)

    def candidates(self, seen: NDArray[np.uint8]) -> base.Candidates:
        """What the network says of all places of a picture ``(H, W, 3)`` at its own size."""
        feed = {INPUT: np.ascontiguousarray(seen)[None]}
        boxes, points, scores = run_network(self._session, OUTPUTS, feed, self._path, REMEDY)
        count = scores.shape[-1] if scores.ndim == 2 else -1
        shapes = [each.shape for each in (boxes, points, scores)]
        if shapes != [(1, count, 4), (1, count, 5, 2), (1, count)]:
            raise errors.ModelError(f"{self._path}: expected [1, K, 4], [1, K, 5, 2], [1, K], got {shapes}; {REMEDY}")
        return base.Candidates(boxes[0], points[0], scores[0])

    def _stated_threshold(self) -> float:
        stated = self._session.get_modelmeta().custom_metadata_map.get("threshold", base.THRESHOLD)
        try:
            return base.check_threshold(float(stated))
        except (ValueError, errors.CallError) as error:
            raise errors.ModelError(
                f"{self._path}: expected a threshold of 0 to 1, got {stated!r}; {REMEDY}"
            ) from error


def read_network(path: Path, remedy: str) -> Any:
    """A session of a file, on one thread.

    Raises:
        MissingPathError: there is no such file.
        ModelError: it cannot be read, or is no ONNX network.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise errors.MissingPathError(f"{path}: expected a network, but there is no such file; {remedy}") from error
    except OSError as error:
        raise errors.ModelError(f"{path}: expected a readable file, got {error.strerror}; {remedy}") from error
    try:
        return create_session(content, threads=1)
    except Exception as error:  # its exceptions have no common base
        raise errors.ModelError(
            f"{path}: expected an ONNX network, got {errors.first_line(error)}; {remedy}"
        ) from error


def run_network(
    session: Any, outputs: tuple[str, ...], feed: dict[str, NDArray[Any]], path: Path, remedy: str
) -> list[NDArray[np.float32]]:
    """The outputs of a session, float32; a ``ModelError`` where it fails or gives others."""
    try:
        found: list[NDArray[np.float32]] = session.run(list(outputs), feed)
    except Exception as error:  # its exceptions have no common base
        raise errors.ModelError(f"{path}: expected an answer, got {errors.first_line(error)}; {remedy}") from error
    if any(each.dtype != np.float32 for each in found):
        raise errors.ModelError(f"{path}: expected float32, got {[str(each.dtype) for each in found]}; {remedy}")
    return found
