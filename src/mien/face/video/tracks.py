"""The faces of a video's frames -> tracks, by place and motion alone (no biometrics), and smoothed probabilities.

Source: Bewley, Ge, Ott, Ramos, Upcroft 2016, "Simple Online and Realtime Tracking" (SORT), arXiv:1602.00763.

Deviations: time counts in seconds, not in frames, so that any frame rate and any stride behave alike. A running mean of
the velocity takes the place of the Kalman filter, because a face's box is measured to a pixel or two, and the box's
size stays as it was last seen. A box may also match where it was last seen, for heads that stop. Pairs are
taken greedily, the largest overlap first, instead of by the Hungarian method: the two differ only where faces cover
each other. A track begins with the first box, and ends when it was not seen for ``LOST_SECONDS``. Nothing but place and
motion is looked at, so a cut of the scene may give one person's track to another.
See ``docs/decisions/0007-tracks-and-smoothing.md``.

Smoothing is a first-order low-pass filter, an exponential mean over time: what was seen t seconds ago counts
``exp(-t / smoothing)`` as much as what is seen now, whatever the frame rate. It looks back only, so it works live, and
it lags: ``smoothing`` seconds after a change of expression, 63 % of the change has arrived.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.face.result import Box, Face, TrackedFace

OVERLAP = 0.3
"""Minimum intersection over union of a box and the place where its track is expected; SORT's own."""

LOST_SECONDS = 1.0
"""A track that was not seen for longer, nor in the frame before, has ended."""

VELOCITY_SECONDS, SMOOTHING_SECONDS = 0.15, 0.5
"""Time constants of the mean velocity and, unless another is asked for, of the smoothed probabilities."""

Place = tuple[float, float, float, float]
"""Left, top, width and height, in pixels."""


@dataclass(eq=False)
class _Track:
    """``velocity`` is in pixels per second, right and down; ``seen`` in seconds."""

    number: int
    place: Place
    seen: float
    velocity: tuple[float, float] = (0.0, 0.0)

    def expected(self, time: float) -> Place:
        passed = time - self.seen
        x, y, width, height = self.place
        return x + passed * self.velocity[0], y + passed * self.velocity[1], width, height

    def move(self, box: Box, time: float) -> None:
        passed = time - self.seen
        weight = 1 - math.exp(-passed / VELOCITY_SECONDS)
        (new_x, new_y), (old_x, old_y), (right, down) = _centre(box), _centre(self.place), self.velocity
        self.velocity = (
            right + weight * ((new_x - old_x) / passed - right),
            down + weight * ((new_y - old_y) / passed - down),
        )
        self.place, self.seen = box, time


class Tracker:
    """Numbers faces over the frames of one video, in the order in which they appear, from 1."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._begun = 0
        self._time = -math.inf

    @property
    def alive(self) -> set[int]:
        """Numbers of the tracks that may still go on."""
        return {track.number for track in self._tracks}

    def follow(self, boxes: Sequence[Box], time: float) -> list[int]:
        """The number of each box's track in a frame at ``time`` seconds, after the last one's, or a ``ValueError``."""
        if not time > self._time:
            raise ValueError(f"expected a time after {self._time} s, the last frame's, got {time}")
        self._tracks = [each for each in self._tracks if each.seen == self._time or time - each.seen <= LOST_SECONDS]
        self._time = time
        overlaps = [
            (max(overlap(box, track.expected(time)), overlap(box, track.place)), number, track)
            for number, box in enumerate(boxes)
            for track in self._tracks
        ]
        matched: dict[int, _Track] = {}  # by the place in boxes; each track once
        for common, number, track in sorted(overlaps, key=lambda each: -each[0]):
            if common >= OVERLAP and number not in matched and track not in matched.values():
                matched[number] = track
        for number, box in enumerate(boxes):
            if number in matched:
                matched[number].move(box, time)
            else:
                self._begun += 1
                matched[number] = _Track(self._begun, box, time)
                self._tracks.append(matched[number])
        return [matched[number].number for number in range(len(boxes))]


def overlap(one: Place, other: Place) -> float:
    """Intersection over union of two boxes that are not empty, 0 to 1."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (one[2] * one[3] + other[2] * other[3] - width * height)


def _centre(place: Place) -> tuple[float, float]:
    return place[0] + place[2] / 2, place[1] + place[3] / 2


def smooth(
    before: NDArray[np.float64], now: NDArray[np.float64], passed: float, time_constant: float
) -> NDArray[np.float64]:
    """The smoothed probabilities ``passed`` seconds after ``before``: ``(K,), (K,) -> (K,)``; the sum stays one."""
    weight = 1 - math.exp(-passed / time_constant)
    return before + weight * (now - before)


class FaceFollower:
    """Follows the faces of one video. Remembers each track that may still go on, and no other."""

    def __init__(self, smoothing: float = SMOOTHING_SECONDS) -> None:
        """``smoothing`` is the time constant in seconds, finite; 0 smooths nothing."""
        if not (math.isfinite(smoothing) and smoothing >= 0):
            raise ValueError(f"expected a smoothing of at least 0 seconds, got {smoothing}")
        self._smoothing = smoothing
        self._tracker = Tracker()
        self._smoothed: dict[int, tuple[float, NDArray[np.float64]]] = {}

    def follow(self, faces: Sequence[Face], time: float) -> tuple[TrackedFace, ...]:
        """The faces of the frame at ``time`` seconds, in the same order. Raises as :meth:`Tracker.follow`."""
        tracks = self._tracker.follow([face.box for face in faces], time)
        followed = []
        for face, track in zip(faces, tracks, strict=True):
            probabilities = np.array(list(face.probabilities.values()))  # (K,)
            if track in self._smoothed and self._smoothing > 0:
                last, before = self._smoothed[track]
                probabilities = smooth(before, probabilities, time - last, self._smoothing)
            self._smoothed[track] = time, probabilities
            smoothed = dict(zip(face.probabilities, probabilities.tolist(), strict=True))
            followed.append(TrackedFace(face, track, smoothed))
        self._smoothed = {track: self._smoothed[track] for track in self._smoothed.keys() & self._tracker.alive}
        return tuple(followed)
