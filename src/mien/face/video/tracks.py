"""Which faces of successive frames belong together, by place and motion alone: no biometrics.

Source: Bewley, Ge, Ott, Ramos, Upcroft 2016, "Simple Online and Realtime Tracking" (SORT), arXiv:1602.00763.

Deviations: time counts in seconds, not in frames, so that any frame rate and any stride behave alike. A running mean of
the velocity takes the place of the Kalman filter, because a face's box is measured to a pixel or two, and the box's
size stays as it was last seen. A box may also match where it was last seen, for heads that stop. Pairs are
taken greedily, the largest overlap first, instead of by the Hungarian method: the two differ only where faces cover
each other. A track begins with the first box, and ends when it was not seen for ``LOST_SECONDS``. Nothing but place and
motion is looked at, so a cut of the scene may give one person's track to another.
See ``docs/decisions/0007-tracks-and-smoothing.md``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mien.face.result import Box

OVERLAP = 0.3
"""Least intersection over union of a box and the place where its track is expected; SORT's own."""

LOST_SECONDS = 1.0
"""A track that was not seen for longer, nor in the frame before, has ended."""

VELOCITY_SECONDS = 0.15
"""Time constant of the mean velocity."""

Place = tuple[float, float, float, float]
"""Left, top, width and height, in pixels."""


@dataclass
class _Track:
    """``velocity`` is in pixels per second, right and down; ``seen`` in seconds."""

    number: int
    place: Place
    seen: float
    velocity: tuple[float, float] = (0.0, 0.0)

    def expected(self, time: float) -> Place:
        """Where the box is if it goes on as it did."""
        passed = time - self.seen
        x, y, width, height = self.place
        return x + passed * self.velocity[0], y + passed * self.velocity[1], width, height

    def move(self, box: Box, time: float) -> None:
        passed = time - self.seen
        share = 1 - math.exp(-passed / VELOCITY_SECONDS)
        (new_x, new_y), (old_x, old_y), (right, down) = _centre(box), _centre(self.place), self.velocity
        self.velocity = (
            right + share * ((new_x - old_x) / passed - right),
            down + share * ((new_y - old_y) / passed - down),
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
        """The number of each box's track, in a frame that comes ``time`` seconds after the beginning.

        Raises:
            ValueError: ``time`` is not after the last frame's.
        """
        if not time > self._time:
            raise ValueError(f"expected a time after {self._time} s, the last frame's, came {time}")
        self._tracks = [each for each in self._tracks if each.seen == self._time or time - each.seen <= LOST_SECONDS]
        self._time = time
        matched = self._matched(boxes, time)
        for number, box in enumerate(boxes):
            if number in matched:
                matched[number].move(box, time)
            else:
                self._begun += 1
                matched[number] = _Track(self._begun, box, time)
                self._tracks.append(matched[number])
        return [matched[number].number for number in range(len(boxes))]

    def _matched(self, boxes: Sequence[Box], time: float) -> dict[int, _Track]:
        """Place in ``boxes`` -> its track, where there is one; each track once."""
        overlaps = [
            (max(overlap(box, track.expected(time)), overlap(box, track.place)), number, track)
            for number, box in enumerate(boxes)
            for track in self._tracks
        ]
        matched: dict[int, _Track] = {}
        taken: set[int] = set()
        for share, number, track in sorted(overlaps, key=lambda each: -each[0]):
            if share >= OVERLAP and number not in matched and track.number not in taken:
                matched[number] = track
                taken.add(track.number)
        return matched


def overlap(one: Place, other: Place) -> float:
    """Intersection over union of two boxes that are not empty, 0 to 1."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (one[2] * one[3] + other[2] * other[3] - width * height)


def _centre(place: Place) -> tuple[float, float]:
    return place[0] + place[2] / 2, place[1] + place[3] / 2
