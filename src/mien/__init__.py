"""mien: train, compare and explain facial-emotion networks, and recognize emotions with the best of them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.face.recognizer import Recognizer

__version__ = "0.1.0"
__all__ = ["Recognizer", "__version__"]


def __getattr__(name: str) -> Any:
    # Commands that name no face do not pay for OpenCV.
    if name == "Recognizer":
        from mien.face.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module 'mien' has no attribute {name!r}")
