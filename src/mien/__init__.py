"""mien: train, compare and explain facial-emotion networks, and recognize emotions with the best of them."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from mien.emotions import EMOTIONS, Emotion

if TYPE_CHECKING:
    from mien.face import Box, Face, Picture, Recognizer, annotate, read_image, recognize_video

__version__ = "0.1.0"
__all__ = [
    "EMOTIONS", "Box", "Emotion", "Face", "Picture", "Recognizer", "__version__", "annotate", "read_image",
    "recognize_video",
]  # fmt: skip

# Libraries that report their use to their makers do so from their import on, unless this is set before
# (docs/decisions/0015-nothing-leaves-the-machine.md).
if "onnxruntime" in sys.modules and not os.environ.keys() & {"ORT_DISABLE_TELEMETRY", "CI"}:
    logging.getLogger(__name__).warning(
        "onnxruntime was imported before mien and may report its use to Microsoft;"
        " import mien first, or set ORT_DISABLE_TELEMETRY=1"
    )
for _switch in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_switch, "1")


def __getattr__(name: str) -> Any:
    # The recognizer is imported when it is asked for: commands that name no face do not pay for OpenCV.
    if name not in __all__:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    import mien.face

    return getattr(mien.face, name)
