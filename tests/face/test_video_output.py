"""Annotated videos, the strip of the last seconds, and plots per track: what they show, and that they can be read."""

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.face.videos import scene, write_video

from mien.emotions import EMOTIONS, Emotion
from mien.errors import CallError, OutputError
from mien.face.draw import COLORS, stacked
from mien.face.result import Box, Face, TrackedFace, VideoFrame
from mien.face.video import Choice, FrameDrawing, TrackPlots, VideoReader, writing_video
from mien.face.video import writing as writing_module
from mien.face.video.drawing import EMPTY, Timeline
from mien.face.video.plots import BINS, HEIGHT, WIDTH, TrackSeries, plot_svg, ticks

SVG = "{http://www.w3.org/2000/svg}"


def tracked(emotion: Emotion, track: int = 1, x: int = 40) -> TrackedFace:
    probabilities = {each: float(each is emotion) for each in EMOTIONS}
    face = Face(Box(x, 30, 60, 60), 0.9, probabilities, np.zeros((48, 48), np.uint8))
    return TrackedFace(face, track, probabilities)


def frame(
    number: int, time: float, *faces: TrackedFace, grey: int = 128, size: tuple[int, int] = (481, 271)
) -> VideoFrame:
    return VideoFrame(number, time, faces, np.full((size[1], size[0], 3), grey, np.uint8))


def shows(picture: NDArray[np.uint8], color: tuple[int, int, int], tolerance: int = 0) -> bool:
    return bool((np.abs(picture.astype(int) - color).max(axis=-1) <= tolerance).any())


def write_frames(path: Path, count: int, ending: BaseException | None = None) -> None:
    with writing_video(path, 25.0) as add:
        for number in range(count):
            add(frame(number, number / 25, size=(64, 48)))
        if ending is not None:
            raise ending


def read_back(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    with VideoReader(path) as reader:
        frames = [(each.time, each.pixels) for each in reader.read()]
        reader.check_end()
    return frames


def test_columns_are_as_high_as_they_are_probable() -> None:
    columns = stacked(np.array([[0.25, 0, 0, 0.75, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1.0]]), 8)  # (8, 2, 3)
    assert [tuple(pixel) for pixel in columns[:, 0]] == [COLORS[Emotion.HAPPY]] * 6 + [COLORS[Emotion.ANGRY]] * 2
    assert [tuple(pixel) for pixel in columns[:, 1]] == [COLORS[Emotion.NEUTRAL]] * 8


def test_probabilities_that_round_below_one_leave_no_hole() -> None:
    assert shows(stacked(np.full((1, 7), 0.9999 / 7), 100)[:1], COLORS[Emotion.NEUTRAL])


def test_the_strip_shows_when_and_for_how_long() -> None:
    timeline = Timeline(490)
    plots = timeline._plots
    columns = plots.shape[2]
    for number in range(101):  # ten seconds: happy until the fifth, then gone
        faces = [tracked(Emotion.HAPPY)] if number <= 50 else []
        strip = timeline.draw(frame(number, number / 10, *faces))
    lane = timeline._plots[0, 0]
    happy = (lane == COLORS[Emotion.HAPPY]).all(axis=1)
    assert happy[: columns // 2 - 2].all()
    assert not happy[columns // 2 + 2 :].any()
    assert (lane[columns // 2 + 2 :] == EMPTY).all()
    assert strip.shape[1] == 490
    strip = timeline.draw(frame(999, 1000.0))
    assert (timeline._plots == EMPTY).all()


def test_a_gap_in_a_track_stays_a_gap() -> None:
    timeline = Timeline(490)
    for number, faces in enumerate(([tracked(Emotion.SAD)], [], [tracked(Emotion.SAD)])):
        timeline.draw(frame(number, number * 0.5, *faces))
    sad = (timeline._plots[0, 0] == COLORS[Emotion.SAD]).all(axis=1)
    assert sad.sum() == 2


def test_lanes_go_to_the_largest_and_are_freed_when_a_track_has_ended() -> None:
    timeline = Timeline(490)
    small = tracked(Emotion.FEAR, track=1)
    small = TrackedFace(Face(Box(0, 0, 20, 20), 0.9, small.smoothed, small.face.crop), 1, small.smoothed)
    timeline.draw(frame(0, 0.0, small, *(tracked(Emotion.HAPPY, track) for track in (2, 3, 4))))
    assert [lane.track for lane in timeline._lanes if lane] == [2, 3, 4]
    timeline.draw(frame(1, 0.9, small))
    assert [lane.track for lane in timeline._lanes if lane] == [2, 3, 4]
    timeline.draw(frame(2, 1.1, small))
    assert [lane.track for lane in timeline._lanes if lane] == [1]


@pytest.mark.parametrize("size", [(481, 271), (64, 48), (150, 300), (1920, 1080)])
def test_drawings_have_one_size_and_show_the_smoothed_emotion(size: tuple[int, int]) -> None:
    drawing = FrameDrawing()
    before = tracked(Emotion.SAD, track=12)
    face = TrackedFace(tracked(Emotion.HAPPY, track=12).face, 12, before.smoothed)
    first = drawing.draw(frame(0, 0.0, face, size=size))
    assert first.shape[1] % size[0] == 0
    assert first.shape[0] > first.shape[1] // size[0] * size[1]
    picture = first[: first.shape[1] // size[0] * size[1]]
    assert shows(picture, COLORS[Emotion.SAD])
    assert not shows(picture, COLORS[Emotion.HAPPY])
    assert drawing.draw(frame(1, 0.1, size=size)).shape == first.shape
    assert drawing.draw(frame(2, 0.2, size=(100, 50))).shape == first.shape


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_written_video_can_be_read_again(tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str) -> None:
    path = tmp_path / "out" / f"a{ending}"
    with writing_video(path, 25.0) as add:
        for number in range(5):
            add(frame(number, number / 25, tracked(Emotion.HAPPY), grey=40 * number))
    frames = read_back(path)
    assert [time for time, _ in frames] == pytest.approx(np.arange(5) / 25, abs=0.002)
    height, width = frames[0][1].shape[:2]
    assert width == 482
    assert height % 2 == 0
    assert [int(pixels[200, 300].mean()) for _, pixels in frames] == pytest.approx([0, 40, 80, 120, 160], abs=6)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert capfd.readouterr().err == ""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name in ("vp9", "libvpx-vp9") if ending == ".webm" else ("h264",)
        assert stream.codec_context.pix_fmt == "yuv420p"
    content = path.read_bytes()
    assert ending == ".webm" or content.index(b"moov") < content.index(b"mdat")  # it plays while it loads


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path, ending: str) -> None:
    times = [0.0, 0.1, 0.5, 0.501, 1.0, 1e4]
    with writing_video(tmp_path / f"a{ending}", 10.0) as add:
        for number, time in enumerate(times):
            add(frame(number, 7 + time, grey=40 * number))
    written = read_back(tmp_path / f"a{ending}")
    assert [time for time, _ in written] == pytest.approx(times, abs=0.0006)
    assert [int(pixels[200, 300].mean()) for _, pixels in written] == pytest.approx([0, 40, 80, 120, 160, 200], abs=6)


def test_frames_between_two_ticks_of_the_clock_are_all_kept(tmp_path: Path) -> None:
    with writing_video(tmp_path / "a.webm", 90000.0) as add:
        for number in range(5):
            add(frame(number, number / 90000, size=(64, 48)))
    assert len(read_back(tmp_path / "a.webm")) == 5


def sound_of(path: Path) -> tuple[str, float, float]:
    """The codec, and when the sound begins and ends after the first picture."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        start = float(first.pts * first.time_base)
    with av.open(str(path)) as container:
        spans = [
            (float(part.pts * part.time_base), part.samples / part.sample_rate) for part in container.decode(audio=0)
        ]
        return container.streams.audio[0].codec_context.name, spans[0][0] - start, sum(spans[-1]) - start


@pytest.mark.parametrize(
    ("source", "codec", "ending", "expected"),
    [
        (".mp4", "aac", ".mp4", "aac"),
        (".mkv", "libopus", ".mp4", "aac"),
        (".avi", "pcm_s16le", ".mp4", "aac"),
        (".ts", "mp2", ".mp4", "aac"),
        (".ts", "aac", ".mp4", "aac"),
        (".mkv", "libopus", ".webm", "opus"),
        (".mp4", "aac", ".webm", "opus"),
    ],
)
def test_the_sound_stays_beside_its_pictures(
    tmp_path: Path, source: str, codec: str, ending: str, expected: str
) -> None:
    pictures = [scene("happy")] * 50
    path = write_video(tmp_path / f"in{source}", pictures, codec="mpeg4", sound=3.0, sound_codec=codec)
    with VideoReader(path) as reader, writing_video(tmp_path / f"a{ending}", 25.0, original=reader) as add:
        for raw in reader.read(Choice(start=0.4)):
            add(VideoFrame(raw.number, raw.time, (), raw.pixels))
    name, start, end = sound_of(tmp_path / f"a{ending}")
    assert name.removeprefix("lib") == expected
    assert -0.03 < start < 0.03
    assert end == pytest.approx(1.6, abs=0.06)
    assert len(read_back(tmp_path / f"a{ending}")) == 40


def test_sound_that_is_copied_is_the_same_to_the_byte(tmp_path: Path) -> None:
    path = write_video(tmp_path / "in.mp4", [scene("happy")] * 25, codec="mpeg4", sound=1.0)
    with VideoReader(path) as reader, writing_video(tmp_path / "a.mp4", 25.0, original=reader) as add:
        for raw in reader.read():
            add(VideoFrame(raw.number, raw.time, (), raw.pixels))

    def sounds(file: Path) -> list[bytes]:
        with av.open(str(file)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    copied, original = sounds(tmp_path / "a.mp4"), sounds(path)
    assert len(copied) > 40
    assert copied in (original[: len(copied)], original[1 : len(copied) + 1])  # before the first picture is none


def test_sound_that_begins_later_stays_late(tmp_path: Path) -> None:
    path = write_video(tmp_path / "in.mkv", [scene("happy")] * 50, codec="mpeg4", sound=1.0, sound_start=0.5)
    with VideoReader(path) as reader, writing_video(tmp_path / "a.mp4", 25.0, original=reader) as add:
        assert reader.sound_offset == pytest.approx(-0.5, abs=0.03)
        for raw in reader.read():
            add(VideoFrame(raw.number, raw.time, (), raw.pixels))
    assert sound_of(tmp_path / "a.mp4")[1] == pytest.approx(0.5, abs=0.03)


def test_an_interruption_keeps_the_frames_so_far(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_frames(tmp_path / "a.mp4", 3, KeyboardInterrupt())
    assert len(read_back(tmp_path / "a.mp4.partial")) == 3
    assert len(list(tmp_path.iterdir())) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mien-")]


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mp4", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.avi", "a", "a.mp4.txt"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CallError, match=r"\.mp4 or \.webm, got 'a"), writing_video(tmp_path / name, 25.0):
        pass
    assert not list(tmp_path.iterdir())


def test_names_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="UTF-8"), writing_video(tmp_path / "\udcff.mp4", 25.0):
        pass


def test_a_file_that_cannot_be_read_again_is_told_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"before")
    encode = writing_module._VideoFile._encode

    def forgetful(self: writing_module._VideoFile, picture: Any) -> None:
        """Loses frames, as on a full disk."""
        if self._written < 2 or picture is None:
            encode(self, picture)

    monkeypatch.setattr(writing_module._VideoFile, "_encode", forgetful)
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4.*read again"):
        write_frames(tmp_path / "a.mp4", 6)
    assert (tmp_path / "a.mp4").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
@pytest.mark.parametrize("count", [6, 20])  # told at the end, and by a later frame
def test_frames_that_cannot_be_drawn_leave_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, ending: str
) -> None:
    (path := tmp_path / f"a{ending}").write_bytes(b"before")
    released: list[bool] = []
    draw, release = FrameDrawing.draw, writing_module._VideoFile.release

    def exhausted(self: FrameDrawing, frame: VideoFrame) -> NDArray[np.uint8]:
        if frame.number >= 4:
            raise MemoryError
        return draw(self, frame)

    def noted(self: writing_module._VideoFile) -> None:
        release(self)
        released.append(True)

    monkeypatch.setattr(FrameDrawing, "draw", exhausted)
    monkeypatch.setattr(writing_module._VideoFile, "release", noted)
    with pytest.raises(MemoryError):
        write_frames(path, count)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    assert released == [True]


def test_an_interruption_while_the_file_is_checked_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "a.mp4").write_bytes(b"before")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing_module, "count_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_frames(path, 3)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_encoder_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webm = writing_module.FORMATS[".webm"]
    monkeypatch.setitem(writing_module.FORMATS, ".webm", webm._replace(codec="mpeg4", options={}))  # WebM holds none
    with pytest.raises(OutputError, match="cannot write"):
        write_frames(tmp_path / "a.webm", 9)
    assert not list(tmp_path.iterdir())


def test_an_impossible_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), writing_video(tmp_path / "file" / "a.mp4", 25.0):
        pass
    with pytest.raises(OutputError, match="cannot write"):
        TrackPlots(tmp_path / "file" / "figures", 0.5)


def one_hots(emotions: Sequence[int]) -> list[list[float]]:
    return [np.eye(7)[emotion].tolist() for emotion in emotions]


def test_a_series_of_an_hour_has_as_many_bins_as_one_of_a_minute() -> None:
    series = TrackSeries(10.0)
    for number in range(36_000):
        series.add(one_hots([3 if number < 18_000 else 6])[0], 10 + number / 10)
    means = series.means()
    assert BINS // 2 < len(means) <= BINS
    np.testing.assert_allclose(means.sum(axis=1), 1)
    middle = len(means) // 2
    assert (means[: middle - 1, 3] == 1).all()
    assert (means[middle + 1 :, 6] == 1).all()
    assert series.bin_seconds * len(means) == pytest.approx(3600, rel=0.01)


def test_a_series_of_few_moments_repeats_what_it_saw() -> None:
    series = TrackSeries(0.0)
    for moment, row in zip((0.0, 0.5, 1.0), one_hots([0, 1, 2]), strict=True):
        series.add(row, moment)
    assert series.means().argmax(axis=1).tolist() == [0] * 32 + [1] * 32 + [2]


def covered(svg: str, x: float) -> dict[str, float]:
    """What is seen of each emotion at ``x``, as a fraction of the plot's height."""
    root = ElementTree.fromstring(svg)
    areas = [each for each in root.iter(f"{SVG}path") if each.get("fill")]
    names = [each.text for each in root.iter(f"{SVG}text")]
    tops = {}
    for area, name in zip(areas, names[1:], strict=False):  # after the title, in the legend's order
        steps = re.findall(r"V([\d.]+)H([\d.]+)", str(area.get("d")))
        tops[str(name)] = next(1 - float(y) / HEIGHT for y, right in steps if x <= float(right))
    floors = [*list(tops.values())[1:], 0.0]
    return {name: top - floor for (name, top), floor in zip(tops.items(), floors, strict=True)}


def test_a_plot_shows_each_moment_in_its_colour() -> None:
    series = TrackSeries(100.0)
    for number in range(100):
        row = np.zeros(7)
        row[[3, 4]] = (0.75, 0.25) if number < 50 else (0.0, 1.0)
        series.add(row.tolist(), 100 + number / 10)
    svg = plot_svg(series, "Track 1 & more")
    for x, happy in ((1, 0.75), (WIDTH / 2 - 5, 0.75), (WIDTH / 2 + 5, 0.0), (WIDTH - 1, 0.0)):
        seen = covered(svg, x)
        assert seen["happy"] == pytest.approx(happy, abs=0.001)
        assert seen["sad"] == pytest.approx(1 - happy, abs=0.001)
        assert list(seen) == list(reversed(EMOTIONS))
    for color in COLORS.values():
        assert svg.count("#{:02x}{:02x}{:02x}".format(*color)) == 2  # in the plot and in the legend
    words = [each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert words[0] == "Track 1 & more"
    assert {"0 %", "100 %", "100", "104", "probability", "time in the video (seconds)"} <= set(words)


@pytest.mark.parametrize(("start", "end"), [(0, 9.2), (3.1, 4.2), (0, 3600), (1790.5, 1795.5), (0.01, 0.03)])
def test_marks_are_few_round_and_inside(start: float, end: float) -> None:
    marks = ticks(start, end)
    assert 2 <= len(marks) <= 8
    assert start <= marks[0] < marks[-1] <= end
    assert all(len(f"{mark:g}") <= 6 for mark in marks)


def test_plots_are_written_when_tracks_end_and_short_ones_are_left_out(tmp_path: Path) -> None:
    plots = TrackPlots(tmp_path / "plots", 0.5)
    for number in range(80):
        faces = [tracked(Emotion.HAPPY, 1)] if number < 30 else [tracked(Emotion.SAD, 3)]
        faces += [tracked(Emotion.FEAR, 2)] if number == 5 else []
        plots.add(frame(number, number / 10, *faces))
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["track-0001.svg"]
    plots.close()
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["track-0001.svg", "track-0003.svg"]
    assert covered((tmp_path / "plots" / "track-0003.svg").read_text(), 400)["sad"] == pytest.approx(1)
