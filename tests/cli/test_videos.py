"""``mien video`` over several videos and folders, through the real entry point."""

import csv
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_predict import call
from tests.face.tiny_network import band
from tests.face.videos import write_video

from mien.face.video import Choice, VideoReader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos, one of them below a folder and one cut off; others' files; and what is hidden."""
    folder = tmp_path / "clips"
    for name in ("a.mp4", "b.mkv", "day 2/a.mp4", ".hidden.mp4", "__MACOSX/a.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, [band("happy")] * 5)
    (folder / "c.mp4").write_bytes((folder / "a.mp4").read_bytes()[:500])
    for name in ("notes.txt", "a.wav", "b.wav", "README"):
        (folder / name).write_text("no video")
    return folder


def tables(folder: Path) -> dict[str, int]:
    """Name of each file -> number of its lines."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): len(path.read_text().splitlines()) for path in sorted(paths)}


def test_a_folder_gives_a_table_of_each_video_and_names_the_bad_one(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    capfd.readouterr()
    assert call(monkeypatch, "video", folder, "--rows", tmp_path / "rows", *options) == 1
    assert tables(tmp_path / "rows") == {"a.mp4.csv": 6, "b.mkv.csv": 6, "day 2/a.mp4.csv": 6}
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "c.mp4: expected a whole video" in shown.err
    assert "4 files were not looked at: 2 .wav" in shown.err
    assert "2 .wav" in shown.err
    assert "1 of 4 videos could not be read" in shown.err


def test_a_second_call_makes_what_is_missing_or_older(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    (folder / "c.mp4").unlink()
    rows = tmp_path / "rows"
    assert call(monkeypatch, "video", folder, "--rows", rows, *options) == 0
    (rows / "b.mkv.csv").unlink()
    before = {path: path.stat().st_mtime_ns for path in rows.rglob("*.csv")}
    os.utime(folder / "day 2" / "a.mp4", (2**31, 2**31))
    capfd.readouterr()
    assert call(monkeypatch, "video", folder, "--rows", rows, *options) == 0
    assert "1 of 3 videos were done before" in capfd.readouterr().err
    assert (rows / "a.mp4.csv").stat().st_mtime_ns == before[rows / "a.mp4.csv"]
    assert (rows / "day 2" / "a.mp4.csv").stat().st_mtime_ns > before[rows / "day 2" / "a.mp4.csv"]
    assert tables(rows)["b.mkv.csv"] == 6


def test_a_part_is_never_taken_for_the_whole(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    long = write_video(folder / "b.mkv", [band("sad")] * 200)
    (folder / "c.mp4").unlink()
    inner, rows, out = VideoReader.read, tmp_path / "rows", tmp_path / "drawn"

    def killed(self: VideoReader, choice: Choice) -> Iterator[Any]:
        for frame in inner(self, choice):
            if frame.number == 70:
                os.kill(os.getpid(), signal.SIGTERM)
            yield frame

    arguments = ("video", folder, "--rows", rows, "--out", out, *options)
    with monkeypatch.context() as patched:
        patched.setattr(VideoReader, "read", killed)
        assert call(patched, *arguments) == 143
    assert (rows / "a.mp4.csv").exists()
    assert not (rows / "b.mkv.csv").exists()
    assert not (out / "b.mkv.mp4").exists()
    assert call(monkeypatch, *arguments) == 0
    assert tables(rows) == {"a.mp4.csv": 6, "b.mkv.csv": 201, "day 2/a.mp4.csv": 6}
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.mp4")) == [
        "a.mp4.mp4",
        "b.mkv.mp4",
        "day 2/a.mp4.mp4",
    ]
    assert long.exists()


def test_one_table_has_the_videos_names_in_its_last_column(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    files = (folder / "a.mp4", folder / "b.mkv")
    assert call(monkeypatch, "video", *files, "--rows", tmp_path / "all.csv", *options) == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert list(rows[0])[-2:] == ["damaged", "video"]
    assert [row["video"] for row in rows] == ["a.mp4"] * 5 + ["b.mkv"] * 5
    assert [int(row["frame"]) for row in rows] == [*range(5), *range(5)]
    assert not list(tmp_path.glob("*partial*"))
    capfd.readouterr()
    assert call(monkeypatch, "video", *files, *options) == 0
    assert list(csv.DictReader(capfd.readouterr().out.splitlines())) == rows


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["clips", "--out", "a.mp4"], 2, "a folder as --out"),
        (["clips", "--out", "clips/drawn"], 2, "outside the folder of the videos"),
        (["clips/a.mp4", "clips/day 2/a.mp4", "--rows", "rows"], 2, "a.mp4 from two folders"),
        (["empty", "--rows", "rows"], 2, "expected a video in empty"),
        (["clips", "--rows", "rows.xlsx"], 2, ".parquet"),
        (["clips", "https://example.org/a.mp4"], 2, "URL"),
    ],
)
def test_wrong_calls_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert call(monkeypatch, "video", *arguments, *options) == code
    shown = capfd.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not Path("rows").exists()
