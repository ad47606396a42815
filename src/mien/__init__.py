"""mien: train, compare and explain facial-emotion networks, and recognize emotions with the best of them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.face.recognizer import Recognizer
    from mien.face.video import recognize_video

__version__ = "0.1.0"
__all__ = ["Recognizer", "recognize_video", "__version__"]


def __getattr__(name: str) -> Any:
    # Commands that name no face do not pay for OpenCV.
    if name == "Recognizer":
        from mien.face.recognizer import Recognizer

        return Recognizer
    if name == "recognize_video":
        from mien.face.video import recognize_video

        return recognize_video
    raise AttributeError(f"module 'mien' has no attribute {name!r}")
