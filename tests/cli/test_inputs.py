"""Which files ``mien predict`` and ``mien video`` take, and what they say of the others."""

import io
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_predict import call
from tests.face.tiny_network import band

from mien.cli.inputs import files_below, named_files
from mien.errors import CallError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "photos").mkdir()
    return folder


def picture(path: Path, emotion: str = "happy", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(band(emotion)).save(path, **options)
    return path


def names(folder: Path, *arguments: object) -> list[str]:
    return [os.path.relpath(file.path, folder) for file in named_files([str(each) for each in arguments or [folder]])]


def test_what_is_left_out_is_counted_by_kind(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture(folder / "a.PNG")
    for name in ("b.dng", "trip/c.dng", "d.CR2", "e.JPG_large", "README", "f.mov"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert names(folder) == ["a.PNG"]
    told = capfd.readouterr().err
    assert told.startswith("6 files were not looked at: 2 .dng, ")
    assert all(f"1 {kind}" in told for kind in (".cr2", ".jpg_large", "without an ending", ".mov"))
    for number in range(12):
        (folder / f"x.kind{number}").touch()
    assert names(folder) == ["a.PNG"]
    assert "18 files" in (told := capfd.readouterr().err)
    assert "9 others" in told


@pytest.mark.parametrize("installed", [True, False])
def test_heic_is_read_or_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: Any, installed: bool
) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(band("sad"))).save(folder / "b.HEIC", quality=-1)
    picture(folder / "a.png")
    monkeypatch.setattr("mien.face.images._reads_heif", lambda: installed)
    assert call(monkeypatch, "predict", folder, *options) == 0
    shown = capfd.readouterr()
    found = {Path(each["path"]).name: each["faces"][0]["emotion"] for each in json.loads(shown.out)}
    assert found == ({"a.png": "happy", "b.HEIC": "sad"} if installed else {"a.png": "happy"})
    assert ('1 file was not looked at: 1 .heic; pip install "mien[heic]"' in shown.err) != installed
    assert call(monkeypatch, "predict", folder / "b.HEIC", *options) == (0 if installed else 1)
    assert ('got HEIC; pip install "mien[heic]"' in capfd.readouterr().err) != installed


def test_hidden_files_and_those_of_systems_are_left_out(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture(folder / "trip" / "x.jpg")
    for name in (
        "._x.jpg", ".hidden.png", ".thumbnails/x.jpg", "__MACOSX/._x.jpg", "__MACOSX/x.jpg", "@eaDir/x.jpg/SYNO.jpg",
        ".ipynb_checkpoints/x.png", "#recycle/x.png", "$RECYCLE.BIN/x.png", "Thumbs.db", "desktop.ini", ".DS_Store",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert names(folder) == ["trip/x.jpg"]
    assert names(folder, folder / "**" / "*.jpg") == ["trip/x.jpg"]
    assert names(folder, folder / "*") == ["trip/x.jpg"]
    assert names(folder, folder / ".thumbnails") == [".thumbnails/x.jpg"]
    assert names(folder, folder / ".th*" / "*.jpg") == [".thumbnails/x.jpg"]
    assert names(folder, folder / "._x.jpg") == ["._x.jpg"]
    assert "not looked at" not in capfd.readouterr().err


def test_links_are_followed_once_and_circles_end(folder: Path, tmp_path: Path) -> None:
    picture(folder / "a" / "1.png")
    picture(folder / "z" / "2.png")
    picture(tmp_path / "elsewhere" / "deep" / "3.png")
    picture(tmp_path / "beside.png")
    (folder / "a" / "to-z").symlink_to(folder / "z")
    (folder / "a" / "round").symlink_to(folder)
    (folder / "z" / "up").symlink_to(tmp_path)
    (folder / "root").symlink_to("/")
    (folder / "far").symlink_to(tmp_path / "elsewhere")
    (folder / "far-again").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(folder / "z")
    (folder / "a" / "one.png").symlink_to("1.png")
    assert names(folder) == ["a/1.png", "a/one.png", "far/deep/3.png", "z/2.png"]
    (tmp_path / "link").symlink_to(folder)
    assert len(named_files([str(tmp_path / "link")])) == 4


def test_a_folders_own_files_come_before_its_folders(folder: Path) -> None:
    for name in ("b.png", "a/x.png", "a.b/y.png", "a/b/z.png", "a.png"):
        picture(folder / name)
    assert [name for _, name in files_below(str(folder), (".png",), Counter())] == [
        "a.png", "b.png", "a/x.png", "a/b/z.png", "a.b/y.png",
    ]  # fmt: skip


def send(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_picture_on_stdin(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, options: Any
) -> None:
    content = picture(folder / "a.png", "fear").read_bytes()
    send(monkeypatch, content)
    assert call(monkeypatch, "predict", "-", "--crops", tmp_path / "crops", *options) == 0
    (found,) = json.loads(capfd.readouterr().out)
    assert (found["path"], found["width"], found["faces"][0]["emotion"]) == ("-", 48, "fear")
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["stdin-0.png"]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99), np.uint8)).save(folder / "b.png")
    send(monkeypatch, (folder / "b.png").read_bytes()[:5000])
    assert call(monkeypatch, "predict", "-", *options) == 1
    assert "mien: -: expected a whole picture, got a damaged one" in capfd.readouterr().err


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_a_list_of_paths_on_stdin(monkeypatch: pytest.MonkeyPatch, folder: Path, separator: bytes) -> None:
    odd = os.path.join(os.fsencode(folder), b"\xff [x].png")
    picture(Path(os.fsdecode(odd)))
    picture(folder / "trip" / "b.png")
    send(monkeypatch, separator.join([odd, os.fsencode(folder / "trip"), b""]))
    assert [os.fsencode(file.path) for file in named_files(["-"])] == [odd, os.fsencode(folder / "trip" / "b.png")]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"%PDF-1.4\n\x01\x02", b"-\n"])
def test_nothing_of_use_on_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    send(monkeypatch, content)
    with pytest.raises(CallError, match="stdin"):
        named_files(["-"])


def test_what_is_no_path_is_told_in_a_few_words(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], options: Any
) -> None:
    for argument in ("data:image/jpeg;base64," + 5000 * "A", "https://example.org/" + 5000 * "a", 5000 * "Ab+/"):
        assert call(monkeypatch, "predict", argument, *options) == 2
        assert len(capfd.readouterr().err) < 500


@pytest.mark.parametrize("kind", ["tif", "gif", "webp", "png"])
def test_pages_and_frames_are_told_and_read_on_request(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    options: Any,
    kind: str,
) -> None:
    emotions = ["happy", "sad", "fear"]
    further = [Image.fromarray(band(emotion)).convert("RGB") for emotion in emotions[1:]]
    lossless = {"lossless": True} if kind == "webp" else {}
    first = Image.fromarray(band("happy")).convert("RGB")
    first.save(folder / f"a.{kind}", save_all=True, append_images=further, **lossless)
    picture(folder / "b.jpg", "angry")
    assert call(monkeypatch, "predict", folder, *options) == 0
    shown = capfd.readouterr()
    assert "1 of 2 files have several pages; the first was read; add --pages" in shown.err
    assert [each["faces"][0]["emotion"] for each in json.loads(shown.out)] == ["happy", "angry"]
    arguments = ("--pages", "--annotated", tmp_path / "drawn")
    assert call(monkeypatch, "predict", folder, *arguments, *options) == 0
    shown = capfd.readouterr()
    found = [(Path(each["path"]).name, each["page"], each["faces"][0]["emotion"]) for each in json.loads(shown.out)]
    assert found == [*((f"a.{kind}", number, each) for number, each in enumerate(emotions, 1)), ("b.jpg", 1, "angry")]
    assert "several pages" not in shown.err
    assert {path.stem for path in (tmp_path / "drawn").iterdir()} == {"a-page1", "a-page2", "a-page3", "b-page1"}
    assert call(monkeypatch, "predict", folder, "--pages", "--format", "csv", *options) == 0
    header, *rows = capfd.readouterr().out.splitlines()
    assert header.split(",")[-1] == "page"
    assert [row.split(",")[-1] for row in rows] == ["1", "2", "3", "1"]


def test_a_page_that_is_damaged_is_told_after_those_before_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path, options: Any
) -> None:
    content = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    Image.fromarray(band("happy")).convert("RGB").save(content, "TIFF", save_all=True, append_images=[noise] * 2)
    (folder / "a.tif").write_bytes(content.getvalue()[:-3000])
    assert call(monkeypatch, "predict", folder, "--pages", *options) == 1
    shown = capfd.readouterr()
    pages = [(each["page"], each["error"] is None) for each in json.loads(shown.out)]
    assert pages[0] == (1, True)
    assert pages[-1][1] is False
    assert "Traceback" not in shown.err


def test_long_names_of_pictures_are_cut(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path, options: Any
) -> None:
    long = picture(folder / ("n" * 251 + ".png"))
    out = tmp_path / "crops"
    assert call(monkeypatch, "predict", long, long, "--crops", out, "--annotated", out / "drawn", *options) == 0
    assert sorted(len(path.name) for path in out.rglob("*.png")) == [255, 255, 255, 255]
