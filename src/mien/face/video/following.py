"""The faces of one frame after another -> faces with tracks and smoothed probabilities.

Smoothing is a first-order low-pass filter, an exponential mean over time: what was seen t seconds ago counts
``exp(-t / smoothing)`` as much as what is seen now, whatever the frame rate. It looks back only, so it works live, and
it lags: ``smoothing`` seconds after a change of expression, 63 % of the change has arrived.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mien.emotions import EMOTIONS
from mien.face.result import Face, TrackedFace
from mien.face.video.tracks import Tracker

SMOOTHING_SECONDS = 0.5
"""Time constant unless another is asked for."""


def smooth(
    before: NDArray[np.float64], now: NDArray[np.float64], passed: float, time_constant: float
) -> NDArray[np.float64]:
    """The smoothed probabilities ``passed`` seconds after ``before``: ``(7,), (7,) -> (7,)``; the sum stays one."""
    share = 1 - math.exp(-passed / time_constant)
    return before + share * (now - before)


class FaceFollower:
    """Follows the faces of one video. Remembers each track that may still go on, and no other."""

    def __init__(self, smoothing: float = SMOOTHING_SECONDS) -> None:
        """``smoothing`` is the time constant in seconds; 0 smooths nothing.

        Raises:
            ValueError: it is below 0 or not finite.
        """
        if not (math.isfinite(smoothing) and smoothing >= 0):
            raise ValueError(f"smoothing must be at least 0 seconds; {smoothing} came")
        self._smoothing = smoothing
        self._tracker = Tracker()
        self._smoothed: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def follow(self, faces: Sequence[Face], time: float) -> tuple[TrackedFace, ...]:
        """The faces of the frame at ``time`` seconds, in the same order.

        Raises:
            ValueError: ``time`` is not after the last frame's.
        """
        tracks = self._tracker.follow([face.box for face in faces], time)
        followed = tuple(self._followed(face, track, time) for face, track in zip(faces, tracks, strict=True))
        alive = self._tracker.alive
        self._smoothed = {track: state for track, state in self._smoothed.items() if track in alive}
        return followed

    def _followed(self, face: Face, track: int, time: float) -> TrackedFace:
        probabilities = np.array(list(face.probabilities.values()))  # (7,)
        if track in self._smoothed and self._smoothing > 0:
            last, before = self._smoothed[track]
            probabilities = smooth(before, probabilities, time - last, self._smoothing)
        self._smoothed[track] = time, probabilities
        return TrackedFace(face, track, dict(zip(EMOTIONS, probabilities.tolist(), strict=True)))
