"""``mien webcam``, through the real entry point, with a window and a camera that are not there."""

import sys
import tkinter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from PIL import ImageTk
from tests.cli.test_predict import call


class Screen:
    """A window of tkinter and a camera of FFmpeg, as ``mien webcam`` uses them."""

    def __init__(self, pictures: int, ends_after: int | None) -> None:
        self.pictures, self.ends_after = pictures, ends_after
        self.shown: list[np.ndarray] = []
        self.closed: list[str] = []
        self.keys: dict[str, Any] = {}
        self.opened: tuple[Any, ...] = ()

    def title(self, text: str) -> None: ...

    def protocol(self, name: str, close: Any) -> None: ...

    def bind(self, key: str, pressed: Any) -> None:
        self.keys[key] = pressed

    def pack(self) -> None: ...

    def configure(self, image: np.ndarray) -> None:
        self.shown.append(image)

    def update(self) -> None:
        if len(self.shown) == self.ends_after:
            self.keys["<q>"]("q")

    def destroy(self) -> None:
        self.closed.append("window")

    def decode(self, video: int) -> Iterator[av.VideoFrame]:
        for number in range(self.pictures):
            frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), (0, 0, 250), np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            yield frame

    def close(self) -> None:
        self.closed.append("camera")

    def open(self, *arguments: Any, **more: Any) -> "Screen":
        self.opened = arguments
        return self

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tkinter, "Tk", lambda: self)
        monkeypatch.setattr(tkinter, "Label", lambda window: self)
        monkeypatch.setattr(ImageTk, "PhotoImage", lambda picture: np.asarray(picture))
        monkeypatch.setattr(av, "open", self.open)
        monkeypatch.setattr(sys, "platform", "linux")


def test_the_webcam_is_shown_until_q(monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    screen = Screen(4, ends_after=3)
    screen.install(monkeypatch)
    assert call(monkeypatch, "webcam", "--camera", 1, *options) == 0
    assert screen.opened[0] == "/dev/video1"
    assert len(screen.shown) == 3
    assert screen.shown[0][200, 200].tolist() == [0, 0, 250]
    assert screen.shown[0].shape[0] > 384  # the strip lies below
    assert screen.closed == ["camera", "window"]


def test_a_camera_that_is_unplugged_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    screen = Screen(4, ends_after=None)
    screen.install(monkeypatch)
    assert call(monkeypatch, "webcam", "--camera", 2, *options) == 1
    assert "expected more pictures from camera 2" in capfd.readouterr().err
    assert len(screen.shown) == 4
    assert screen.closed == ["camera", "window"]


def test_without_a_camera(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    really_open = av.open
    screen = Screen(0, ends_after=None)
    screen.install(monkeypatch)
    monkeypatch.setattr(av, "open", really_open)
    assert call(monkeypatch, "webcam", "--camera", 97, *options) == 1
    assert "expected a camera with number 97" in capfd.readouterr().err
    assert screen.closed == ["window"]


def test_without_tkinter_or_a_screen(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    def refuse() -> None:
        raise tkinter.TclError("no display name and no $DISPLAY environment variable")

    monkeypatch.setattr(tkinter, "Tk", refuse)
    assert call(monkeypatch, "webcam", *options) == 1
    assert "expected a screen" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "tkinter", None)
    assert call(monkeypatch, "webcam", *options) == 1
    assert "apt install python3-tk" in capfd.readouterr().err
