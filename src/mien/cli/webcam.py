"""``mien webcam``."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli._shared import catching_signals
from mien.cli.predict import Detector, Model
from mien.cli.video import Smoothing, hush_libraries
from mien.errors import Interrupted, MediaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = "mien (q ends)"
ENDING_KEYS = (ord("q"), 27)
"""``q`` and Escape."""


def webcam(
    camera: Annotated[int, typer.Option("--camera", metavar="N", min=0, help="Which camera, from 0.")] = 0,
    smoothing: Smoothing = 0.5,
    detector: Detector = None,
    model: Model = "base",
) -> None:
    """Show the camera's picture with every face's emotion, live; q ends."""
    hush_libraries()
    from mien.face.recognizer import Recognizer
    from mien.face.result import VideoFrame
    from mien.face.video import FaceFollower, FrameDrawing

    with _window() as show, _frames(camera) as frames, catching_signals() as stopped:
        recognizer, follower, drawing = Recognizer(model, detector), FaceFollower(smoothing), FrameDrawing()
        begun = time.monotonic()
        for number, pixels in enumerate(frames):
            faces, now = recognizer.recognize(pixels).faces, time.monotonic() - begun
            frame = VideoFrame(number, now, follower.follow(faces, now), pixels)
            if not show(drawing.draw(frame)):
                return
            signal_number = stopped()
            if signal_number is not None:
                raise Interrupted("stopped", signal_number)
    raise MediaError(f"camera {camera} gives no more pictures; is it still plugged in?")


@contextlib.contextmanager
def _window() -> Iterator[Callable[["NDArray[np.uint8]"], bool]]:
    """A window on the screen.

    Yields:
        a function that shows an RGB picture, and says whether to go on.

    Raises:
        MediaError: there is no screen, or this OpenCV has no windows.
    """
    import cv2

    # OpenCV's windows end the process where there is no display, so this is asked first.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise MediaError("expected a screen, but DISPLAY and WAYLAND_DISPLAY are not set; record, then run mien video")
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise MediaError(
            "expected an OpenCV with windows, but opencv-python-headless, which mien brings, has none; run: pip"
            " uninstall opencv-python-headless; pip install opencv-python. Or record, then run mien video"
        ) from error

    def show(picture: "NDArray[np.uint8]") -> bool:
        cv2.imshow(WINDOW, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF not in ENDING_KEYS and cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) >= 1

    try:
        yield show
    finally:
        cv2.destroyAllWindows()


@contextlib.contextmanager
def _frames(camera: int) -> Iterator[Iterator["NDArray[np.uint8]"]]:
    """A camera's pictures, uint8 ``(H, W, 3)``, RGB, until it gives no more.

    Raises:
        MediaError: there is no such camera.
    """
    import cv2
    import numpy as np

    capture = cv2.VideoCapture(camera)
    if not capture.isOpened():
        raise MediaError(
            f"expected a camera with number {camera}, but there is none that can be opened; plug one in, close other"
            " programs that use it, or choose another with --camera"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest that waits

    def pictures() -> Iterator["NDArray[np.uint8]"]:
        while True:
            readable, bgr = capture.read()
            if not readable:
                return
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

    try:
        yield pictures()
    finally:
        capture.release()
