"""The recognizer: pictures and videos in, faces with emotions out. These names are imported when they are used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.face.draw import annotate
    from mien.face.images import read_image
    from mien.face.recognizer import Recognizer
    from mien.face.result import Box, Face, Picture
    from mien.face.video import recognize_video

__all__ = ["Box", "Face", "Picture", "Recognizer", "annotate", "read_image", "recognize_video"]

_MODULES = {"Recognizer": "recognizer", "annotate": "draw", "read_image": "images", "recognize_video": "video"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mien.face' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mien.face.{_MODULES.get(name, 'result')}"), name)
