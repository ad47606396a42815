"""Frames in, faces out: times, what is no video, bounded memory, and threads that end."""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import SHARED
from tests.face.tiny_network import write_network
from tests.face.videos import scene, write_video

from mien import Recognizer, recognize_video
from mien.errors import MediaError, MissingPathError
from mien.face.detect import Detection
from mien.face.result import Box, video_columns
from mien.face.video import Choice, VideoReader
from mien.face.video import recognition as recognition_module
from mien.face.video.decoding import Decoded

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


def times_of(path: Path, **choice: float) -> list[float]:
    with VideoReader(path) as reader:
        return [frame.time for frame in reader.read(Choice(**choice))]  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_times_of_a_variable_frame_rate_are_the_files_own(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"a{ending}", [scene("happy")] * len(TIMES), TIMES)
    assert times_of(path) == pytest.approx(TIMES, abs=1e-6)
    assert times_of(path, stride=2) == pytest.approx(TIMES[::2], abs=1e-6)
    with VideoReader(path) as reader:
        assert reader.seconds == pytest.approx(TIMES[-1], abs=0.05)
        assert sum(1 for _ in reader.read()) == len(TIMES)
        reader.check_end()


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([None, None, None, None], [0, 0.04, 0.08, 0.12]),  # none, as in raw streams
        ([0.5, 0.54, 0.53, 0.7], [0, 0.04, 0.08, 0.2]),  # one that goes back
        ([0, 0.04, float("nan"), 0.2], [0, 0.04, 0.08, 0.2]),
    ],
)
def test_missing_times_are_filled_and_always_go_forward(
    tmp_path: Path, stated: list[float | None], expected: list[float]
) -> None:
    with VideoReader(write_video(tmp_path / "a.mp4", [scene(None)])) as reader:
        assert reader._first is not None
        frame = reader._first.frame
        reader._origin = stated[0] or 0.0
        decoded = [Decoded(frame, time, False, 0) for time in stated]
        reader._first, reader._frames = decoded[0], iter(decoded[1:])
        assert [each.time for each in reader.read()] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"fps": 5}, [0, 0.2, 0.4, 0.6, 0.8]),
        ({"fps": 100}, [number / 25 for number in range(25)]),
        ({"start": 0.3, "end": 0.5}, [0.32, 0.36, 0.4, 0.44, 0.48]),
        ({"start": 0.3, "stride": 5}, [0.4, 0.6, 0.8]),
        ({"start": 5}, []),
    ],
)
def test_frames_are_chosen_by_time(tmp_path: Path, choice: dict[str, float], expected: list[float]) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")] * 25)
    assert times_of(path, **choice) == pytest.approx(expected)


def test_a_variable_rate_is_thinned_by_time(tmp_path: Path) -> None:
    times = [0.0]
    for number in range(59):
        times.append(times[-1] + (0.02 if number % 20 < 15 else 0.06))
    steps = np.diff(times_of(write_video(tmp_path / "a.mkv", [scene(None)] * 60, times), fps=5))
    assert len(steps) >= 7
    assert steps.min() > 0.13
    assert steps.max() < 0.27


def test_frames_are_rgb(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [np.full((64, 64, 3), (255, 0, 0), np.uint8)], codec="libx264")
    with VideoReader(path) as reader:
        (frame,) = reader.read()
    assert frame.pixels[32, 32, 0] > 240
    assert frame.pixels[32, 32, 1:].max() < 15


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
    points = "left_eye,right_eye,nose,left_mouth,right_mouth"
    assert ",".join(video_columns()) == (
        "frame,time,track,x,y,box_width,box_height,detection_confidence,emotion,confidence,"
        f"{labels},quality,reliable,{smoothed},roll,"
        f"{','.join(f'{point}_{axis}' for point in points.split(',') for axis in 'xy')},damaged"
    )
    path = write_video(tmp_path / "a.mp4", [scene("happy"), scene(None)])
    first, second = (frame.to_rows() for frame in recognize_video(path, recognizer))
    assert [list(row) for row in (*first, *second)] == [list(video_columns())] * 2
    assert (first[0]["track"], first[0]["emotion"], first[0]["x"]) == (1, "happy", 48)
    assert first[0]["smoothed_happy"] == first[0]["happy"]
    assert {name for name, value in second[0].items() if value is not None} == {"frame", "time", "damaged"}
    assert (first[0]["damaged"], second[0]["damaged"]) == (False, False)
    assert second[0]["frame"] == 1


def test_a_stride_passes_frames_over_and_keeps_numbers_and_times(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")] * 10)
    frames = list(recognize_video(path, recognizer, stride=4))
    assert [frame.number for frame in frames] == [0, 4, 8]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.16, 0.32], abs=1e-3)


def test_files_that_are_no_video(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", [scene("happy")] * 9).read_bytes()
    contents = {
        "empty.mp4": (b"", "empty file"),
        "text.mp4": (b"no video\n" * 99, "something else"),
        "audio.wav": (
            b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\0\x08\0\0" + bytes(2048),
            "sound alone",
        ),
        "no_index.mp4": (whole[: len(whole) // 2], "without its index"),
        "boxes.mp4": (b"\0\0\0\x08ftyp" * 20, "something else"),
        "notes.nfo": (b"\x1b[1;31mA film\x1b[0m\r\n" * 50, "something else|a text"),
        "list.m3u8": (b"#EXTM3U\n#EXTINF:2,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "something else|a playlist"),
        "list.ffconcat": (b"ffconcat version 1.0\nfile a.mp4\n", "something else|a playlist"),
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


def test_pictures_are_no_video(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.bmp", "img%04d.png", "a.tiff", "a.webp"):
        Image.fromarray(scene("happy")).save(tmp_path / name)
        with pytest.raises(MediaError, match="expected a video, got a picture; pictures are read by mien predict"):
            VideoReader(tmp_path / name)
    with pytest.raises(MissingPathError):
        VideoReader(tmp_path / "img%03d.png")


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    Image.fromarray(scene("happy")).convert("RGB").save(tmp_path / "cover.jpg")
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as song:
        sound = song.add_stream("aac", 48_000, layout="mono")
        with av.open(str(tmp_path / "cover.jpg")) as cover:
            picture = song.add_stream_from_template(cover.streams.video[0])
            picture.disposition = av.stream.Disposition.attached_pic
            packet = next(cover.demux())
            packet.stream = picture
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
            frame.sample_rate = 48_000
            song.mux([*sound.encode(frame), *sound.encode(None)])
            song.mux(packet)
    with av.open(str(tmp_path / "song.m4a")) as song:
        assert song.streams.video[0].disposition & av.stream.Disposition.attached_pic
    with pytest.raises(MediaError, match="holds sound alone"):
        VideoReader(tmp_path / "song.m4a")


def test_names_that_are_no_utf8_can_be_read(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
    write_video(tmp_path / "a.mp4", [scene("happy")] * 3).rename(odd)
    with VideoReader(odd) as reader:
        assert len(list(reader.read())) == 3
        assert reader.name.endswith("\\xff.mp4")


def test_frames_of_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.face.video.reading.MAX_PIXELS", 1000)
    with pytest.raises(MediaError, match="at most 1,000 pixels, got 192 x 96"):
        VideoReader(write_video(tmp_path / "a.mp4", [scene("happy")]))


def test_frames_are_taken_as_they_are_needed_and_threads_end(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")] * 200)
    monkeypatch.setattr(recognition_module, "WAITING_BYTES", 4 * 192 * 96 * 3)
    taken: list[int] = []
    inner = VideoReader.read

    def counted(self: VideoReader, choice: Choice):  # type: ignore[no-untyped-def]
        for frame in inner(self, choice):
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
    assert reader._own is not None
    assert reader._own.closed


def test_impossible_options(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy")])
    with pytest.raises(ValueError, match="stride of at least 1"):
        recognize_video(path, recognizer, stride=0)
    with pytest.raises(ValueError, match="smoothing"):
        recognize_video(path, recognizer, smoothing=-1)
    with pytest.raises(ValueError, match="fps above 0"):
        recognize_video(path, recognizer, fps=0)
    with pytest.raises(ValueError, match="an end after it"):
        recognize_video(path, recognizer, start=2, end=1)


def test_a_file_object_and_pairs_give_the_same_faces_as_a_file(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene("happy"), scene(None), scene("sad")])
    from_path = [frame.to_rows() for frame in recognize_video(path, recognizer)]
    with path.open("rb") as file:
        assert [frame.to_rows() for frame in recognize_video(file, recognizer)] == from_path
        assert not file.closed
    assert [row.to_rows() for row in recognize_video(io.BytesIO(path.read_bytes()), recognizer)] == from_path
    with VideoReader(path) as reader:
        pairs = [(frame.time, frame.pixels) for frame in reader.read()]
    assert [frame.to_rows() for frame in recognize_video(iter(pairs), recognizer)] == from_path
    grey = [(time, pixels[..., 0]) for time, pixels in pairs]
    assert [len(frame.faces) for frame in recognize_video(grey, recognizer, stride=2)] == [1, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "got int"),
        (None, "got NoneType"),
        (np.zeros((4, 4, 3), np.uint8), "got ndarray"),
        ([np.zeros((4, 4, 3), np.uint8)], "expected pairs"),
        ([(0.0, "a.png")], "got str as frame 0"),
        ([(1.0, np.zeros((4, 4, 3), np.uint8))] * 2, r"the time 1.0 after 1.0 as frame 1"),
        ([(0.0, np.zeros((4, 4, 3)))], "uint8"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(recognizer: Recognizer, given: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        list(recognize_video(given, recognizer))


def test_an_error_of_ones_own_frames_passes(recognizer: Recognizer) -> None:
    def frames() -> Iterator[tuple[float, NDArray[np.uint8]]]:
        yield 0.0, np.zeros((96, 192, 3), np.uint8)
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="the camera is gone"):
        list(recognize_video(frames(), recognizer))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mien-")]


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
