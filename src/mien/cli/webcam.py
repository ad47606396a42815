"""``mien webcam``."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typer import Option

from mien import errors
from mien.cli import shared
from mien.cli.watching import Smoothing
from mien.face import video as face_video
from mien.face.recognizer import Recognizer
from mien.face.result import VideoFrame

TITLE = "mien (q ends)"

ENDING_KEYS = ("q", "Escape")

CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none"), "win32": ("dshow", "video={}")}
"""Platform -> FFmpeg's reader of cameras, and the address of one by its number; by its name on Windows."""


def webcam(
    camera: Annotated[int, Option(metavar="N", min=0, help="Which camera, from 0.")] = 0,
    smoothing: Smoothing = 0.5,
    detector: shared.Detector = None,
    model: shared.Model = "base",
) -> None:
    """Show the camera's picture with every face's emotion, live; q ends."""
    with _window() as show, _frames(camera) as frames, shared.catching_signals() as stopped:
        recognizer, follower = Recognizer(model, detector), face_video.FaceFollower(smoothing)
        drawing, begun = face_video.FrameDrawing(recognizer.network.classes), time.monotonic()
        for number, pixels in enumerate(frames):
            faces, now = recognizer.recognize(pixels).faces, time.monotonic() - begun
            frame = VideoFrame(number, now, follower.follow(faces, now), pixels)
            if not show(drawing.draw(frame)):
                return
            signal_number = stopped()
            if signal_number is not None:
                raise errors.Interrupted("stopped", signal_number)
    raise errors.MediaError(f"expected more pictures from camera {camera}, got none; is it still plugged in?")


@contextlib.contextmanager
def _window() -> Iterator[Callable[[NDArray[np.uint8]], bool]]:
    """A function that shows an RGB picture in a window, and says whether to go on; or ``MediaError``."""
    try:
        import tkinter  # some systems bring it as a package of its own

        from PIL import ImageTk

        window = tkinter.Tk()
    except ImportError as error:
        raise errors.MediaError(
            f"expected a Python with tkinter for the window, got {error}; install your system's package for it"
            " (Debian: apt install python3-tk), or record, then run mien video"
        ) from error
    except tkinter.TclError as error:
        raise errors.MediaError(f"expected a screen, got: {error}; record, then run mien video") from error
    ended: list[object] = []
    window.title(TITLE)
    window.protocol("WM_DELETE_WINDOW", lambda: ended.append("closed"))
    for key in ENDING_KEYS:
        window.bind(f"<{key}>", ended.append)
    label = tkinter.Label(window)
    label.pack()

    def show(picture: NDArray[np.uint8]) -> bool:
        shown: Any = ImageTk.PhotoImage(Image.fromarray(picture))
        label.configure(image=shown)
        window.update()
        return not ended

    try:
        yield show
    finally:
        window.destroy()


@contextlib.contextmanager
def _frames(camera: int) -> Iterator[Iterator[NDArray[np.uint8]]]:
    """A camera's pictures, uint8 ``(H, W, 3)``, RGB, until it gives no more; or ``MediaError``."""
    try:
        kind, address = CAMERAS.get(sys.platform, CAMERAS["linux"])
        name = av.enumerate_input_devices(kind)[camera].name if kind == "dshow" else camera
        # The newest picture, not the oldest that waits.
        container = av.open(address.format(name), "r", format=kind, options={"fflags": "nobuffer"})
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise errors.MediaError(
            f"expected a camera with number {camera}, but there is none that can be opened; plug one in, close other"
            " programs that use it, or choose another with --camera"
        ) from error

    def pictures() -> Iterator[NDArray[np.uint8]]:
        with contextlib.suppress(av.error.FFmpegError):  # it was unplugged
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)

    try:
        yield pictures()
    finally:
        container.close()
