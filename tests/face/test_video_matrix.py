"""Every container, codec, rate, turn, pixel shape and kind of field that FFmpeg can write, against the same PNG files.

The whole of it: ``pytest -m matrix tests/face/test_video_matrix.py``. By default each container with each codec is read
in some of its combinations.
"""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.face.tiny_network import write_network
from tests.face.videos import CODECS, write_video

from mien import Recognizer, recognize_video
from mien.data import draw_faces
from mien.face.detect import Detection
from mien.face.result import Box

CONTAINERS = ("mp4", "mov", "mkv", "webm", "avi", "ts", "mpg", "flv")
IMPOSSIBLE = {
    "mp4": {"ProRes", "DV"},
    "mov": {"VP9", "AV1"},
    "mkv": {"DV"},
    "webm": set(CODECS) - {"VP9", "AV1"},
    "avi": {"HEVC", "ProRes"},
    "ts": {"VP9", "AV1", "MJPEG", "ProRes", "DV"},
    "mpg": {"VP9", "AV1", "MJPEG", "ProRes", "DV"},
    "flv": {"MPEG-2", "MPEG-4", "MJPEG", "ProRes", "DV"},
}
"""What FFmpeg does not write, or writes and does not read again."""

TURNS = {"upright": {}, "90": {"rotation": 90}, "180": {"rotation": 180}, "270": {"rotation": 270},
         "mirrored": {"mirrored": True}}  # fmt: skip
TURNING = ("mp4", "mov", "mkv", "webm")  # containers that hold a display matrix
FIELDS = ("H.264", "MPEG-2", "MPEG-4", "ProRes", "DV")  # codecs that hold interlaced frames, by these encoders
STEPS = (0.0, 0.04, 0.08, 0.2, 0.24, 0.6)
SQUARE, ANAMORPHIC = Fraction(1), Fraction(64, 45)
SIDE = 96  # of the faces, in pixels


class Way(NamedTuple):
    container: str
    codec: str
    variable: bool
    turn: str
    aspect: Fraction
    interlaced: bool


def is_possible(way: Way) -> bool:
    if way.codec in IMPOSSIBLE[way.container]:
        return False
    if way.variable and (
        way.codec in ("MPEG-2", "DV")  # their encoders have a constant rate
        or way.container == "mpg"  # it states no time for a frame that shares its packet
        or (way.container == "avi" and way.codec == "H.264")  # it states times of decoding alone
    ):
        return False
    if way.turn != "upright" and way.container not in TURNING:
        return False
    if way.aspect != SQUARE and way.codec in ("VP9", "AV1", "ProRes") and way.container not in ("mp4", "mov"):
        return False  # the codec states no shape of pixels, nor do these containers as PyAV writes them
    return not way.interlaced or way.codec in FIELDS


WAYS = [
    way
    for way in itertools.starmap(
        Way, itertools.product(CONTAINERS, CODECS, (False, True), TURNS, (SQUARE, ANAMORPHIC), (False, True))
    )
    if is_possible(way)
]


def first_of_each(ways: list[Way]) -> list[Way]:
    """Few ways in which every container holds each codec, and with each of these every value of the others occurs."""
    chosen: list[Way] = []
    for _, same in itertools.groupby(ways, key=lambda way: (way.container, way.codec)):
        same_ways = list(same)
        chosen += [same_ways[0], same_ways[-1], same_ways[len(same_ways) // 2]]
    return list(dict.fromkeys(chosen))


class Lit:
    """A detector: what is not black is a face."""

    name, framing = "lit", None

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        lit = picture[..., 1] > 60
        ys, xs = (np.flatnonzero(lit.sum(axis=axis) > 4) for axis in (1, 0))
        return [Detection(Box(int(xs[0]), int(ys[0]), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1), 0.9)]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return Recognizer(write_network(tmp_path_factory.mktemp("network") / "tiny.onnx"), Lit(), threads=1)


def seen(codec: str, aspect: Fraction, turned: bool) -> list[NDArray[np.uint8]]:
    """What a viewer is to see: drawn faces that move over black, each ringed by light."""
    height, width = (576, 720) if codec in ("DV", "MPEG-2") else (192, 288)
    width = round(width * aspect)
    faces = draw_faces(len(STEPS), seed=3, size=SIDE).images
    pictures = []
    for number, face in enumerate(faces):
        picture = np.zeros((height, width), np.uint8)
        x, y = 24 + 16 * number, 24 + 8 * number
        picture[y - 8 : y + SIDE + 8, x - 8 : x + SIDE + 8] = 235
        picture[y : y + SIDE, x : x + SIDE] = np.maximum(face, 90)
        pictures.append(np.rot90(picture) if turned else picture)
    return pictures


def stored(picture: NDArray[np.uint8], way: Way) -> NDArray[np.uint8]:
    """The picture as it lies in the file: turned back, with narrow pixels."""
    if way.turn == "mirrored":
        picture = picture[:, ::-1]
    elif way.turn != "upright":
        picture = np.rot90(picture, -int(way.turn) // 90)  # a display matrix of n degrees turns against the clock
    height, width = picture.shape
    size = round(width / way.aspect), height
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BOX))


def compare(way: Way, folder: Path, recognizer: Recognizer) -> None:
    aspect = way.aspect
    if way.codec == "DV" and aspect == SQUARE:
        aspect = Fraction(16, 15)  # DV knows 4:3 and 16:9 alone
    shown = seen(way.codec, aspect, way.turn in ("90", "270"))
    stated = {} if way.codec == "DV" and aspect != ANAMORPHIC else {"aspect": aspect}
    path = write_video(
        folder / f"a.{way.container}",
        [stored(picture, way._replace(aspect=aspect)) for picture in shown],
        list(STEPS) if way.variable else None,
        CODECS[way.codec],
        interlaced=way.interlaced,
        **stated,
        **TURNS[way.turn],
    )
    if way.interlaced:
        with av.open(str(path)) as container:
            assert all(frame.interlaced_frame for frame in container.decode(video=0))
    frames = list(recognize_video(path, recognizer))
    times = STEPS if way.variable else [number / 25 for number in range(len(STEPS))]
    assert [frame.time for frame in frames] == pytest.approx(times, abs=0.001)
    for number, (frame, picture) in enumerate(zip(frames, shown, strict=True)):
        Image.fromarray(picture).save(folder / "a.png")
        expected = recognizer.recognize(folder / "a.png")
        assert frame.pixels.shape[:2] == pytest.approx((expected.height, expected.width), abs=1), number
        assert frame.faces[0].face.box == pytest.approx(expected.faces[0].box, abs=2), number
        assert not frame.damaged


@pytest.mark.parametrize("way", first_of_each(WAYS), ids=str)
def test_a_video_gives_what_its_pictures_give(way: Way, tmp_path: Path, recognizer: Recognizer) -> None:
    compare(way, tmp_path, recognizer)


@pytest.mark.matrix
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_video_gives_what_its_pictures_give(way: Way, tmp_path: Path, recognizer: Recognizer) -> None:
    compare(way, tmp_path, recognizer)
