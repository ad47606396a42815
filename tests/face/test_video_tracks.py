"""Which faces belong together, and how their emotions are smoothed over time."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from mien.emotions import EMOTIONS
from mien.face.result import Box, Face
from mien.face.video import FaceFollower
from mien.face.video.tracks import LOST_SECONDS, Tracker, overlap, smooth

RATE = 25


def box(x: float, y: float = 100, side: int = 60) -> Box:
    return Box(round(x), round(y), side, side)


def face(probabilities: Sequence[float], x: int = 100) -> Face:
    return Face(box(x), 0.9, dict(zip(EMOTIONS, probabilities, strict=True)), np.zeros((48, 48), np.uint8))


def one_hot(emotion: int) -> list[float]:
    return np.eye(7)[emotion].tolist()


def test_overlap() -> None:
    assert overlap(box(0), box(0)) == 1
    assert overlap(box(0), box(60)) == 0
    assert overlap(box(0), box(30)) == pytest.approx(1 / 3)
    assert overlap(box(0, 0), box(0, 200)) == 0


def test_faces_keep_their_numbers_in_any_order() -> None:
    tracker = Tracker()
    assert tracker.follow([box(0), box(200)], 0.0) == [1, 2]
    assert tracker.follow([box(203), box(1)], 0.04) == [2, 1]
    assert tracker.follow([box(400), box(2), box(206)], 0.08) == [3, 1, 2]


def test_faces_that_pass_each_other_are_told_apart_by_their_motion() -> None:
    tracker = Tracker()
    numbers = [
        tracker.follow([box(100 + 8 * frame, 100), box(500 - 8 * frame, 130)], frame / RATE) for frame in range(50)
    ]
    assert numbers == [[1, 2]] * 50


def test_a_fast_face_is_followed_through_missing_frames() -> None:
    tracker = Tracker()
    place = 0
    for frame in range(10):
        place = 12 * frame
        assert tracker.follow([box(place)], frame / RATE) == [1]
    for frame in range(10, 16):
        assert tracker.follow([], frame / RATE) == []
    assert overlap(box(12 * 16), box(place)) < 0.3  # only the motion can tell
    assert tracker.follow([box(12 * 16)], 16 / RATE) == [1]


def test_a_face_that_stops_while_it_is_hidden_is_found_where_it_was() -> None:
    tracker = Tracker()
    for frame in range(10):
        tracker.follow([box(12 * frame)], frame / RATE)
    assert tracker.follow([box(112)], 0.36 + 0.8) == [1]


@pytest.mark.parametrize("rate", [10, 25, 100])
def test_a_track_ends_by_time_and_not_by_frames(rate: int) -> None:
    tracker = Tracker()
    tracker.follow([box(0)], 0.0)
    for frame in range(1, round(LOST_SECONDS * rate)):
        tracker.follow([], frame / rate)
    assert tracker.alive == {1}
    assert tracker.follow([box(0)], LOST_SECONDS) == [1]
    tracker.follow([], LOST_SECONDS + 0.5)
    assert tracker.follow([box(0)], 2 * LOST_SECONDS + 0.01) == [2]
    assert tracker.alive == {2}


def test_frames_that_are_seconds_apart_still_follow_one_another() -> None:
    tracker = Tracker()
    assert [tracker.follow([box(0)], 5.0 * frame) for frame in range(4)] == [[1]] * 4


def test_time_goes_forward() -> None:
    tracker = Tracker()
    tracker.follow([], 1.0)
    for time in (1.0, 0.5, math.nan):
        with pytest.raises(ValueError, match=r"after 1\.0 s"):
            tracker.follow([], time)


@pytest.mark.parametrize("steps", [[0.5], [0.25, 0.25], [0.1, 0.15, 0.05, 0.2]])
def test_smoothing_depends_on_time_and_not_on_the_frame_rate(steps: list[float]) -> None:
    state = np.array(one_hot(0))
    for step in steps:
        state = smooth(state, np.array(one_hot(3)), step, time_constant=0.5)
    assert state[0] == pytest.approx(math.exp(-1))
    assert state[3] == pytest.approx(1 - math.exp(-1))


def test_smoothed_probabilities_follow_a_change_and_sum_to_one() -> None:
    follower = FaceFollower(smoothing=0.4)
    generator = np.random.default_rng(0)
    time = 0.0
    for number in range(60):
        probabilities = generator.dirichlet(np.ones(7)).tolist() if number < 30 else one_hot(5)
        (followed,) = follower.follow([face(probabilities)], time)
        assert sum(followed.smoothed.values()) == pytest.approx(1, abs=1e-9)
        assert tuple(followed.smoothed) == EMOTIONS
        if number == 0:
            assert list(followed.smoothed.values()) == pytest.approx(probabilities)
        time += float(generator.uniform(0.01, 0.2))
    assert followed.steadied().emotion == "surprise"
    assert followed.face.confidence == 1
    assert followed.steadied().confidence < 1


def test_each_track_is_smoothed_alone_and_forgotten_at_its_end() -> None:
    follower = FaceFollower()
    follower.follow([face(one_hot(0), 0), face(one_hot(3), 300)], 0.0)
    left, right = follower.follow([face(one_hot(0), 0), face(one_hot(3), 300)], 0.04)
    assert left.smoothed["angry"] == right.smoothed["happy"] == 1
    follower.follow([face(one_hot(3), 300)], 2.0)
    (again, _) = follower.follow([face(one_hot(6), 0), face(one_hot(3), 300)], 2.04)
    assert again.track == 3
    assert again.smoothed["neutral"] == 1
    assert len(follower._smoothed) == 2


def test_without_smoothing_both_are_alike() -> None:
    follower = FaceFollower(smoothing=0)
    follower.follow([face(one_hot(0))], 0.0)
    (followed,) = follower.follow([face(one_hot(3))], 0.001)
    assert followed.smoothed == followed.face.probabilities


@pytest.mark.parametrize("smoothing", [-1, math.nan, math.inf])
def test_impossible_smoothing(smoothing: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        FaceFollower(smoothing)
