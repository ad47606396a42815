"""``mien video``, through the real entry point."""

import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from tests.cli.test_predict import call
from tests.face.tiny_network import LABELS, band, write_network
from tests.face.videos import index_first, scene, write_video

from mien.face.result import video_columns
from mien.face.video import Choice, VideoReader


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds: happy, then sad; the whole frame is the face."""
    return write_video(tmp_path / "clip.mp4", [band("happy")] * 25 + [band("sad")] * 25)


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_rows_go_to_stdout_as_csv(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], clip: Path, options: tuple[str, ...]
) -> None:
    assert call(monkeypatch, "video", clip, *options) == 0
    shown = capfd.readouterr()
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert list(rows[0]) == list(video_columns())
    assert [int(row["frame"]) for row in rows] == list(range(50))
    assert [float(row["time"]) for row in rows] == pytest.approx(np.arange(50) / 25)
    assert [row["emotion"] for row in rows] == ["happy"] * 25 + ["sad"] * 25
    assert {row["track"] for row in rows} == {"1"}
    smoothed = [[float(row[f"smoothed_{label}"]) for label in LABELS] for row in rows]
    np.testing.assert_allclose(np.sum(smoothed, axis=1), 1, atol=1e-5)
    happy, sad = LABELS.index("happy"), LABELS.index("sad")
    assert smoothed[26][happy] > smoothed[26][sad]
    assert smoothed[49][happy] < smoothed[49][sad]
    assert "smoothed probabilities lag by 0.5 s" in shown.err


def test_other_formats_go_to_stdout_as_well(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], clip: Path, options: tuple[str, ...]
) -> None:
    arguments = ("video", clip, "--stride", 25, "--smoothing", "0", *options)
    assert call(monkeypatch, *arguments, "--format", "json") == 0
    assert [row["emotion"] for row in json.loads(capfd.readouterr().out)] == ["happy", "sad"]
    assert call(monkeypatch, *arguments, "--format", "table") == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines] == [
        ["0.00", "s,", "track", "1", "happy"],
        ["1.00", "s,", "track", "1", "sad"],
    ]


def test_the_format_of_the_rows_may_be_said_twice(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    clip: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    out = tmp_path / "rows.json"
    capfd.readouterr()  # of writing the clip
    assert call(monkeypatch, "video", clip, "--stride", 25, "--rows", out, "--format", "json", "--quiet", *options) == 0
    assert [row["frame"] for row in json.loads(out.read_text())] == [0, 25]
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_every_output_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    clip: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    out = tmp_path / "new" / "drawn.mp4"
    arguments = ("--out", out, "--rows", tmp_path / "rows.csv", "--figures", tmp_path / "figures", "--smoothing", "0")
    assert call(monkeypatch, "video", clip, *arguments, *options) == 0
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "lag" not in shown.err
    with VideoReader(out) as reader:
        assert sum(1 for _ in reader.read()) == 50
    rows = read_csv(tmp_path / "rows.csv")
    assert len(rows) == 50
    assert all(row[label] == row[f"smoothed_{label}"] for row in rows for label in LABELS)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["track-0001.svg"]


def test_every_format_of_rows_holds_the_same(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    import pyarrow.parquet

    for ending in ("csv", "json", "jsonl", "parquet"):
        assert call(monkeypatch, "video", clip, "--stride", 10, "--rows", tmp_path / f"r.{ending}", *options) == 0
    table = pyarrow.parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["frame"] for row in table] == [0, 10, 20, 30, 40]
    assert json.loads((tmp_path / "r.json").read_text()) == table
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()] == table
    texts = read_csv(tmp_path / "r.csv")
    assert [float(row["smoothed_sad"]) for row in texts] == [row["smoothed_sad"] for row in table]


def test_frames_without_a_face_are_rows(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clip = write_video(tmp_path / "a.mp4", [scene(None)] * 3)
    assert call(monkeypatch, "video", clip, "--model", write_network(tmp_path / "tiny.onnx")) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1:] == [f"{number},{number / 25},{',' * (len(video_columns()) - 3)}false" for number in range(3)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_found_so_far(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    options: tuple[str, ...],
    number: int,
    code: int,
) -> None:
    clip = write_video(tmp_path / "a.mp4", [band("happy")] * 200)
    inner = VideoReader.read

    def interrupted(self: VideoReader, choice: Choice) -> Iterator[Any]:
        for frame in inner(self, choice):
            if frame.number == 70:
                os.kill(os.getpid(), number)
            yield frame

    arguments = ("--rows", tmp_path / "r.json", "--out", tmp_path / "drawn.mp4", "--figures", tmp_path / "figures")
    with monkeypatch.context() as patched:
        patched.setattr(VideoReader, "read", interrupted)
        patched.setattr("mien.face.recognizer.cores", lambda: 2)  # with many, more frames are ahead than there are
        assert call(patched, "video", clip, *arguments, *options) == code
    rows = json.loads((tmp_path / "r.json.partial").read_text())
    assert 30 < len(rows) <= 71
    assert [row["frame"] for row in rows] == list(range(len(rows)))
    with VideoReader(tmp_path / "drawn.mp4.partial") as reader:
        assert sum(1 for _ in reader.read()) == len(rows)
    assert not list(tmp_path.glob("r.json")) + list(tmp_path.glob("drawn.mp4"))
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["track-0001.svg"]
    told = capfd.readouterr().err
    assert all(str(tmp_path / name) in told for name in ("r.json.partial", "drawn.mp4.partial"))


def test_a_truncated_file_gives_its_rows_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    clip: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    index_first(clip)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert call(monkeypatch, "video", clip, "--rows", tmp_path / "r.csv", "--out", tmp_path / "a.mp4", *options) == 1
    rows = read_csv(tmp_path / "r.csv")
    assert 10 < len(rows) < 50
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert sum(1 for _ in reader.read()) == len(rows)
    shown = capfd.readouterr()
    assert "clip.mp4: " in shown.err
    assert "cut off" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["video"], 2, "Missing argument"),
        (["video", "https://example.org/a.mp4"], 2, "URL https://example.org"),
        (["video", "nowhere.mp4"], 2, "no such file"),
        (["video", "text.mp4"], 1, "something else"),
        (["video", "photo.png"], 1, "got a picture"),
        (["video", "empty.mp4"], 1, "empty file"),
        (["video", "clip.mp4", "--out", "a.avi"], 2, ".mp4 or .webm"),
        (["video", "clip.mp4", "--out", "clip.mp4"], 2, "got the video itself"),
        (["video", "clip.mp4", "--rows", "a.xlsx"], 2, ".parquet"),
        (["video", "clip.mp4", "--rows", "a.json", "--format", "csv"], 2, "got csv and a.json"),
        (["video", "clip.mp4", "--format", "yaml"], 2, "unknown format 'yaml'"),
        (["video", "clip.mp4", "--stride", "0"], 2, "--stride"),
        (["video", "clip.mp4", "--smoothing", "-1"], 2, "--smoothing"),
        (["video", "clip.mp4", "--smoothing", "nan"], 2, "--smoothing"),
        (["video", "clip.mp4", "--fps", "0"], 2, "fps above 0"),
        (["video", "clip.mp4", "--fps", "nan"], 2, "--fps"),
        (["video", "clip.mp4", "--fps", "5", "--stride", "2"], 2, "got both"),
        (["video", "clip.mp4", "--from", "2", "--to", "1"], 2, "an end after it"),
        (["video", "clip.mp4", "--to", "inf"], 2, "--to"),
        (["video", "clip.mp4", "--stream", "1"], 2, "a --stream from 0 to 0, got 1"),
        (["video", "clip.mp4", "--detector", "haar"], 2, "libfacedetection"),
        (["video", "clip.mp4", "--model", "text.mp4"], 1, "expected an ONNX network"),
        (["video", "clip.mp4", "--figures", "text.mp4"], 1, "cannot write"),
    ],
)
def test_wrong_calls_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    clip: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("no video " * 99)
    Path("empty.mp4").touch()
    Image.fromarray(band("happy")).save("photo.png")
    before = clip.read_bytes()
    model = [] if "--model" in arguments else ["--model", write_network(Path("tiny.onnx"))]
    names = {path.name for path in tmp_path.iterdir()}
    assert call(monkeypatch, *arguments, *model) == code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert clip.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == names


def test_progress_is_told_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], clip: Path, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr("mien.cli.video_outputs.SECONDS_BETWEEN_LINES", 0.0)
    assert call(monkeypatch, "video", clip, *options) == 0
    assert "frame 40, 1.6 s of the video of 2.0 s, 0 min left" in capfd.readouterr().err


def test_frames_are_chosen_by_time(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    arguments = ("--fps", 5, "--from", 0.5, "--to", 1.5, "--rows", tmp_path / "r.csv")
    assert call(monkeypatch, "video", clip, *arguments, *options) == 0
    assert [float(row["time"]) for row in read_csv(tmp_path / "r.csv")] == [0.52, 0.6, 0.8, 1.0, 1.2, 1.4]


def test_the_streams_and_the_offset_of_the_sound_are_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    happy, sad = [band("happy")] * 5, [band("sad")] * 5
    clip = write_video(tmp_path / "a.mkv", happy, second=sad, sound=1.0, sound_start=0.5)
    capfd.readouterr()
    found = {}
    for number in (0, 1):
        assert call(monkeypatch, "video", clip, "--stream", number, *options) == 0
        shown = capfd.readouterr()
        found[number] = {row["emotion"] for row in csv.DictReader(io.StringIO(shown.out))}
        assert "streams" not in shown.err
        assert "before the first sound" in shown.err
    assert found == {0: {"happy"}, 1: {"sad"}}
    assert call(monkeypatch, "video", clip, *options) == 0
    assert "2 picture streams" in capfd.readouterr().err


def test_the_annotated_video_has_the_sound_and_the_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...]
) -> None:
    times = [0.0, 0.04, 0.3, 0.34, 1.0]
    clip = write_video(tmp_path / "a.mkv", [band("happy")] * 5, times, sound=2.0)
    assert call(monkeypatch, "video", clip, "--out", tmp_path / "b.mp4", *options) == 0
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert [frame.time for frame in reader.read()] == pytest.approx(times, abs=0.001)
        assert reader.sound_offset == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_damage_is_a_column(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    options: tuple[str, ...],
    ending: str,
) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    pictures = [band("happy")] * 40
    clip = write_video(tmp_path / "a.mp4", pictures, codec="libx264", options={"g": "10", "bf": "0"})
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place, size = packets[10].pos, packets[10].size  # a key frame
    content = bytearray(clip.read_bytes())
    content[place + size // 2 : place + size] = np.random.default_rng(0).bytes(size - size // 2)
    clip.write_bytes(content)
    rows = tmp_path / f"r.{ending}"
    assert call(monkeypatch, "video", clip, "--rows", rows, "--out", tmp_path / "b.mp4", *options) == 1
    assert "damaged" in capfd.readouterr().err
    read = pyarrow.csv.read_csv if ending == "csv" else pyarrow.parquet.read_table
    table = read(rows).to_pylist()
    assert list(table[0])[-1] == "damaged"
    assert table[-1]["frame"] == 39
    damaged = [row["frame"] for row in table if row["damaged"]]
    assert damaged
    assert set(damaged) <= set(range(10, 20))
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert sum(1 for _ in reader.read()) == len(table)
