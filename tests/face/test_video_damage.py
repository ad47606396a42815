"""Damaged files: rows go on behind the damage, which is told, and files that are whole are not suspected."""

import io
import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from tests.face import fuzz_video
from tests.face.test_video_frames import Bright
from tests.face.tiny_network import write_network
from tests.face.videos import index_first, scene, write_video

from mien import Recognizer, recognize_video
from mien.errors import MediaError
from mien.face.result import VideoFrame
from mien.face.video import VideoReader
from mien.face.video.damage import Damage
from mien.face.video.reading import RawFrame


def read(path: Path) -> tuple[list[RawFrame], str]:
    """The frames, and what is told at the end."""
    with VideoReader(path) as reader:
        frames = list(reader.read())
        try:
            reader.check_end()
        except MediaError as error:
            return frames, str(error)
    return frames, ""


def moving(count: int) -> list[np.ndarray]:
    return [scene("happy", x=8 + number % 120) for number in range(count)]


def packets_of(path: Path) -> list[tuple[int, int, bool]]:
    """Place, length and whether it is a key frame, of each packet of the pictures."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return [(packet.pos or 0, packet.size, packet.is_keyframe) for packet in packets if packet.size]


def test_a_cut_mp4_gives_its_frames_and_then_says_so(tmp_path: Path) -> None:
    recognizer = Recognizer(write_network(tmp_path / "tiny.onnx"), Bright(), threads=2)
    path = write_video(tmp_path / "a.mp4", [scene("happy")] * 50)
    index_first(path)
    assert len(list(recognize_video(path, recognizer))) == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    frames: list[VideoFrame] = []
    with pytest.raises(MediaError, match=r"a\.mp4: .*cut off.*copy the file again"):
        frames.extend(recognize_video(path, recognizer))
    assert 20 < len(frames) < 50


@pytest.mark.parametrize("ending", [".mkv", ".avi", ".flv"])
def test_a_cut_file_is_told_by_its_length(tmp_path: Path, ending: str) -> None:
    codec = "libx264" if ending == ".flv" else "mjpeg"
    path = write_video(tmp_path / f"a{ending}", moving(100), codec=codec)
    assert read(path)[1] == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, told = read(path)
    assert 20 < len(frames) < 80
    assert "cut off" in told


@pytest.mark.parametrize("ending", [".mkv", ".webm", ".flv", ".ts", ".mp4"])
def test_sound_that_goes_on_after_the_pictures_is_no_damage(tmp_path: Path, ending: str) -> None:
    codec, sound = ("libvpx-vp9", "libopus") if ending == ".webm" else ("libx264", "aac")
    path = write_video(tmp_path / f"a{ending}", moving(25), codec=codec, sound=6.0, sound_codec=sound)
    frames, told = read(path)
    assert len(frames) == 25
    assert told == ""


@pytest.mark.parametrize(("ending", "codec"), [(".mkv", "mjpeg"), (".mkv", "libx264"), (".ts", "libx264")])
def test_a_hole_is_a_gap_with_true_times_behind_it(tmp_path: Path, ending: str, codec: str) -> None:
    container = {"cluster_time_limit": "400"} if ending == ".mkv" else {}
    path = write_video(tmp_path / f"a{ending}", moving(150), codec=codec, options={"g": "10"}, container=container)
    whole, _ = read(path)
    content, places = bytearray(path.read_bytes()), packets_of(path)
    start, end = places[50][0], places[100][0]
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    frames, told = read(path)
    assert len(frames) < 105
    assert max(np.diff([frame.time for frame in frames])) > 1.9
    assert "missing" in told
    shown = {round(frame.time, 3): frame for frame in whole}
    sound = [frame for frame in frames if not frame.damaged]
    assert len(sound) > 85
    assert all(np.abs(frame.pixels.astype(int) - shown[round(frame.time, 3)].pixels).max() < 40 for frame in sound)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_frames_of_an_avi_keep_their_times_behind_a_hole(tmp_path: Path, rebuilt: bool) -> None:
    path = write_video(tmp_path / "a.avi", moving(100))
    content, places = bytearray(path.read_bytes()), packets_of(path)
    start, end = places[40][0], places[60][0] + (0 if rebuilt else 100)
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    frames, told = read(path)
    assert frames[-1].time == pytest.approx(99 / 25, abs=0.001)
    assert "missing" in told or "damaged" in told


def test_a_damaged_packet_spoils_the_frames_up_to_the_next_key_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(40), codec="libx264", options={"g": "10", "bf": "0"})
    place, size, key = packets_of(path)[13]
    assert not key
    content = bytearray(path.read_bytes())
    content[place + 5 : place + size] = np.random.default_rng(0).bytes(size - 5)
    path.write_bytes(content)
    frames, told = read(path)  # the packet gives no frame at all
    assert [frame.number for frame in frames] == [*range(13), *range(14, 40)]
    assert [frame.time for frame in frames] == pytest.approx([frame.number / 25 for frame in frames])
    assert [frame.number for frame in frames if frame.damaged] == list(range(14, 20))
    assert "0.52 to 0.56 s missing; 0.56 to 0.80 s damaged (6 frames); 1 frames lost" in told


def test_a_first_frame_that_is_broken_is_not_the_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(20))
    place = path.read_bytes().index(b"\xff\xd8\xff")
    content = bytearray(path.read_bytes())
    content[place : place + 300] = bytes(300)
    path.write_bytes(content)
    frames, told = read(path)
    assert len(frames) >= 19
    assert frames[-1].time == pytest.approx(19 / 25, abs=0.001)
    assert told


def test_a_variable_rate_with_a_long_still_is_no_damage(tmp_path: Path) -> None:
    times = [number / 25 for number in range(40)] + [6 + number / 25 for number in range(10)]
    for ending in (".mp4", ".mkv", ".mov", ".ts"):
        frames, told = read(write_video(tmp_path / f"a{ending}", moving(50), times, codec="libx264"))
        assert [frame.time for frame in frames] == pytest.approx(times, abs=0.001)
        assert told == "", ending


def test_a_live_recording_without_length_or_index_is_whole(tmp_path: Path) -> None:
    for ending, container in ((".mkv", {"live": "1"}), (".mp4", {"movflags": "frag_keyframe+empty_moov"})):
        path = write_video(tmp_path / f"a{ending}", moving(30), codec="libx264", container=container)
        frames, told = read(path)
        assert (len(frames), told) == (30, "")
    whole = write_video(tmp_path / "a.avi", moving(30)).read_bytes()
    (tmp_path / "b.avi").write_bytes(whole[: whole.rindex(b"idx1")])
    assert len(read(tmp_path / "b.avi")[0]) == 30


def test_a_recording_that_begins_between_key_frames_begins_with_the_first(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", moving(60), codec="mpeg2video", options={"g": "12"})
    place = packets_of(path)[5][0] // 188 * 188
    path.write_bytes(path.read_bytes()[place:])
    frames, told = read(path)
    assert 40 <= len(frames) <= 55
    assert not [frame for frame in frames if frame.damaged]
    assert told == ""


class FailingDisk(io.BytesIO):
    """Gives so many bytes and no more."""

    left = 40_000

    def read(self, count: int | None = -1) -> bytes:
        self.left -= count or 0
        if self.left < 0:
            raise OSError(5, "Input/output error")
        return super().read(count)


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.face.video.decoding.BUFFER", 4096)
    content = write_video(tmp_path / "a.mkv", moving(400)).read_bytes()
    assert len(content) > 2 * FailingDisk.left
    with VideoReader(FailingDisk(content)) as reader:
        assert len(list(reader.read())) > 5
        with pytest.raises(MediaError, match="cannot be followed to its end"):
            reader.check_end()
    disk = FailingDisk(content)
    disk.left = 100
    with pytest.raises(MediaError, match=r"cannot be read \(Input/output error\)"):
        VideoReader(disk)


def test_what_is_open_and_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no video " * 99)
    with (tmp_path / "a.txt").open() as text, pytest.raises(MediaError):
        VideoReader(text)  # type: ignore[arg-type]
    with (tmp_path / "a.txt").open("rb") as closed:
        pass
    with pytest.raises(MediaError):
        VideoReader(closed)
    out, into = os.pipe()
    os.write(into, b"no video")
    os.close(into)
    with os.fdopen(out, "rb") as pipe, pytest.raises(MediaError, match="something else"):
        VideoReader(pipe)


def test_spans_are_joined_and_a_message_lists_few() -> None:
    damage = Damage()
    for second in range(9):
        damage.add(second, second + 0.04, 1)
        damage.add(second + 0.04, second + 0.08, 1)
    assert damage.told().startswith("0.00 to 0.08 s damaged (2 frames); 1.00 to")
    assert "4 more spans" in damage.told()


def test_fuzzed_files_do_no_harm(tmp_path: Path) -> None:
    for number, (name, way, path, shown) in enumerate(fuzz_video.cases(tmp_path, seed=1, kinds=fuzz_video.KINDS[:4])):
        case = fuzz_video.judge(name, path, shown)
        assert way == "flip" or not case.unmarked, (name, way, number)
        if number == 39:
            break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mien-")]
