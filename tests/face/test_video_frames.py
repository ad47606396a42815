"""Frames in, faces out: times, turns, broken files, bounded memory, and threads that end."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import SHARED
from tests.face.tiny_network import write_network
from tests.face.videos import index_first, scene, turn, write_video

from mien import Recognizer, recognize_video
from mien.errors import MediaError, MissingPathError
from mien.face.detect import Detection
from mien.face.result import Box, VideoFrame, video_columns
from mien.face.video import VideoReader
from mien.face.video import recognition as recognition_module

TIMES = [0.0, 0.04, 0.08, 0.2, 0.21, 1.0, 1.033, 2.5, 2.6]


class Bright:
    """A detector: what is not black is a face."""

    name = "bright"
    framing = None

    def detect(self, picture: NDArray[np.uint8]) -> list[Detection]:
        columns = np.flatnonzero((picture[..., 0] > 128).any(axis=0))
        return [Detection(Box(int(columns[0]), 24, 48, 48), 0.9)] if len(columns) else []


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return Recognizer(write_network(tmp_path / "tiny.onnx"), Bright(), threads=2)


def times_of(path: Path, stride: int = 1) -> list[float]:
    with VideoReader(path) as reader:
        return [frame.time for frame in reader.read(stride)]


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_times_of_a_variable_frame_rate_are_the_files_own(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"a{ending}", [scene("happy")] * len(TIMES), TIMES)
    assert times_of(path) == pytest.approx(TIMES, abs=1e-6)
    assert times_of(path, stride=2) == pytest.approx(TIMES[::2], abs=1e-6)
    with VideoReader(path) as reader:
        assert reader.seconds == pytest.approx(TIMES[-1], abs=0.01)
        assert sum(1 for _ in reader.read()) == len(TIMES)
        reader.check_end()


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),  # none, as in raw streams
        ([500, 540, 530, 700], [0, 0.04, 0.08, 0.2]),  # one that goes back
        ([0, 40, float("nan"), 200], [0, 0.04, 0.08, 0.2]),
    ],
)
def test_missing_times_are_filled_and_always_go_forward(
    tmp_path: Path, stated: list[float], expected: list[float]
) -> None:
    class Capture:
        place = -1

        def grab(self) -> bool:
            self.place += 1
            return self.place < len(stated)

        def get(self, name: int) -> float:
            return stated[self.place]

        def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
            return True, np.zeros((4, 4, 3), np.uint8)

    reader = VideoReader(write_video(tmp_path / "a.mp4", [scene(None)]))
    reader.rate, reader._capture = 25.0, Capture()
    assert [frame.time for frame in reader.read()] == pytest.approx(expected)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_upright(tmp_path: Path, degrees: int) -> None:
    picture = np.zeros((48, 96), np.uint8)
    picture[:24, :24] = 255
    path = write_video(tmp_path / "a.mp4", [picture] * 3)
    if degrees:
        turn(path, degrees)
    expected = np.rot90(picture, -degrees // 90)
    with VideoReader(path) as reader:
        assert (reader.height, reader.width) == expected.shape
        for frame in reader.read():
            assert np.abs(frame.pixels.astype(int) - expected[..., None]).mean() < 8


def test_frames_are_rgb(tmp_path: Path) -> None:
    import cv2

    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 64))
    writer.write(np.full((64, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    with VideoReader(tmp_path / "a.mp4") as reader:
        (frame,) = reader.read()
    assert frame.pixels[32, 32, 0] > 200
    assert frame.pixels[32, 32, 2] < 50


def test_every_frame_comes_with_its_faces_in_order(recognizer: Recognizer, tmp_path: Path) -> None:
    emotions = ["happy", "sad", None, "fear", "fear"] * 20
    path = write_video(tmp_path / "a.mp4", [scene(emotion) for emotion in emotions])
    frames = list(recognize_video(path, recognizer))
    assert [frame.number for frame in frames] == list(range(100))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(100) / 25, abs=1e-3)
    assert [frame.faces[0].face.emotion if frame.faces else None for frame in frames] == emotions
    assert {face.track for frame in frames for face in frame.faces} == {1}
    assert frames[3].pixels.shape == (96, 192, 3)


def test_rows_have_the_columns_of_the_contract(recognizer: Recognizer, tmp_path: Path) -> None:
    labels = "angry,disgust,fear,happy,sad,surprise,neutral"
    smoothed = ",".join(f"smoothed_{label}" for label in labels.split(","))
    assert ",".join(video_columns()) == (
        "frame,time,track,x,y,box_width,box_height,detection_confidence,emotion,confidence,"
        f"{labels},quality,reliable,{smoothed}"
    )
    path = write_video(tmp_path / "a.mp4", [scene("happy"), scene(None)])
    first, second = (frame.to_rows() for frame in recognize_video(path, recognizer))
    assert [list(row) for row in (*first, *second)] == [list(video_columns())] * 2
    assert (first[0]["track"], first[0]["emotion"], first[0]["x"]) == (1, "happy", 48)
    assert first[0]["smoothed_happy"] == first[0]["happy"]
    assert {name for name, value in second[0].items() if value is not None} == {"frame", "time"}
    assert second[0]["frame"] == 1


def test_a_stride_passes_frames_over_and_keeps_numbers_and_times(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")] * 10)
    frames = list(recognize_video(path, recognizer, stride=4))
    assert [frame.number for frame in frames] == [0, 4, 8]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.16, 0.32], abs=1e-3)


def test_a_truncated_file_gives_its_frames_and_then_says_so(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")] * 50)
    index_first(path)
    assert len(list(recognize_video(path, recognizer))) == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    frames: list[VideoFrame] = []
    with pytest.raises(MediaError, match=r"cut off; its pictures up to 1\.\d+ s"):
        frames.extend(recognize_video(path, recognizer))
    assert 20 < len(frames) < 50


def test_a_truncated_matroska_file_is_told_by_its_length(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [scene("happy")] * 100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames: list[VideoFrame] = []
    with pytest.raises(MediaError, match=r"states 4\.00 s, but its pictures end at"):
        frames.extend(recognize_video(path, recognizer))
    assert 20 < len(frames) < 80


def test_files_that_are_no_video(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", [scene("happy")] * 9).read_bytes()
    contents = {
        "empty.mp4": (b"", "empty file"),
        "text.mp4": (b"no video\n" * 99, "something else"),
        "audio.wav": (
            b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\0\x08\0\0" + bytes(2048),
            "else",
        ),
        "no_index.mp4": (whole[: len(whole) // 2], "without its index"),
        "boxes.mp4": (b"\0\0\0\x08ftyp" * 20, "without its index"),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), "something else"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match=rf"{name}: expected .*{message}"):
            recognize_video(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="got a pipe"):
        recognize_video(tmp_path / "pipe.mp4")
    with pytest.raises(MissingPathError, match="no such file"):
        recognize_video(tmp_path / "none.mp4")
    with pytest.raises(MediaError, match="got a folder"):
        recognize_video(tmp_path)


def test_names_that_are_no_utf8_are_refused_before_opencv_crashes_on_them(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
    write_video(tmp_path / "a.mp4", [scene("happy")]).rename(odd)
    with pytest.raises(MediaError, match=r"\\xff\.mp4: expected a name in UTF-8"):
        VideoReader(odd)


def test_frames_of_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.face.video.reading.MAX_PIXELS", 1000)
    with pytest.raises(MediaError, match="at most 1,000 pixels, got 192 x 96"):
        VideoReader(write_video(tmp_path / "a.mp4", [scene("happy")]))


def test_a_flipped_bit_anywhere_is_no_crash(recognizer: Recognizer, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", [scene("happy")] * 5).read_bytes()
    generator = np.random.default_rng(0)
    read = 0
    for _ in range(60):
        content = bytearray(whole)
        for place in generator.integers(0, len(whole), 5):
            content[place] ^= 1 << int(generator.integers(8))
        (tmp_path / "b.mp4").write_bytes(content)
        try:
            times = [frame.time for frame in recognize_video(tmp_path / "b.mp4", recognizer)]
        except MediaError:
            continue
        read += 1
        assert times == sorted(set(times))
    assert read > 5


def test_frames_are_taken_as_they_are_needed_and_threads_end(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")] * 200)
    monkeypatch.setattr(recognition_module, "WAITING_BYTES", 4 * 192 * 96 * 3)
    taken: list[int] = []
    inner = VideoReader.read

    def counted(self: VideoReader, stride: int = 1):  # type: ignore[no-untyped-def]
        for frame in inner(self, stride):
            taken.append(frame.number)
            yield frame

    monkeypatch.setattr(VideoReader, "read", counted)
    reader = VideoReader(path)
    frames = recognize_video(reader, recognizer)
    for _ in range(5):
        next(frames)
    assert len(taken) < 20
    frames.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mien-")]
    assert not reader._capture.isOpened()


def test_impossible_options(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")])
    with pytest.raises(ValueError, match="stride of at least 1"):
        recognize_video(path, recognizer, stride=0)
    with pytest.raises(ValueError, match="smoothing"):
        recognize_video(path, recognizer, smoothing=-1)


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "photos").exists(), reason="the clip is not beside the project")
def test_a_real_clip_gives_a_frame_per_frame(tmp_path: Path) -> None:
    recognizer = Recognizer(write_network(tmp_path / "tiny.onnx"))
    frames = list(recognize_video(SHARED / "photos" / "short_hamilton_clip.mp4", recognizer, stride=25))
    assert [frame.number for frame in frames] == list(range(0, 275, 25))
    assert [frame.time for frame in frames] == pytest.approx(
        [number / 29.97 for number in range(0, 275, 25)], abs=0.001
    )
    assert all(frame.faces for frame in frames)
