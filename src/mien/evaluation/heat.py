"""Maps laid over faces and pictures, and the curves that judge them."""

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.errors import import_extra
from mien.evaluation.faithfulness import STEPS, Checks
from mien.evaluation.svg import INK, MEASURED, styled
from mien.face.result import Box

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Map = NDArray[np.float32]
"""``(S, S)`` in [0, 1]."""

HEAT = np.array([235, 70, 20], np.float32)
"""RGB laid over the places that count."""
OPAQUE = 0.75
"""Of the heat at the highest place; the face stays visible beneath."""
SHOWN = 144
"""Side of a face on a page, in pixels: 48 times a whole number, and sharp on dense screens."""


def heat_on_face(face: NDArray[np.uint8] | None, heat: Map) -> NDArray[np.uint8]:
    """A map over a grey face ``(S, S)``: RGB ``(SHOWN, SHOWN, 3)``; without a face on nothing, with transparency."""
    alpha = OPAQUE * cv2.resize(heat, (SHOWN, SHOWN), interpolation=cv2.INTER_LINEAR)
    if face is None:
        colour = np.broadcast_to(HEAT.astype(np.uint8), (SHOWN, SHOWN, 3))
        return np.dstack([colour, (255 * alpha).round().astype(np.uint8)])
    large = cv2.resize(face, (SHOWN, SHOWN), interpolation=cv2.INTER_CUBIC)
    return _blend(np.repeat(large[..., None], 3, axis=2), alpha)


def heat_on_picture(picture: NDArray[np.uint8], square: Box, heat: Map) -> NDArray[np.uint8]:
    """A copy of a picture, RGB ``(H, W, 3)``, with a map over the square that its face was cut from."""
    height, width = picture.shape[:2]
    large = cv2.resize(heat, (square.width, square.height), interpolation=cv2.INTER_LINEAR)
    top, left = max(0, square.y), max(0, square.x)
    bottom, right = min(height, square.y + square.height), min(width, square.x + square.width)
    inside = large[top - square.y : bottom - square.y, left - square.x : right - square.x]
    drawn = picture.copy()
    drawn[top:bottom, left:right] = _blend(picture[top:bottom, left:right], OPAQUE * inside)
    return drawn


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def removal_curves(checks: Checks) -> "Figure":
    """The emotion's probability as pixels are removed and inserted, against that in random orders."""
    with styled():
        figure: Figure = import_extra("matplotlib.figure", "report").Figure(figsize=(4.8, 2.7), layout="constrained")
        figure.set_label("The emotion's probability as pixels are removed and as they are inserted")
        share = np.linspace(0, 1, STEPS + 1)
        for axes, curve, name in zip(
            figure.subplots(1, 2, sharey=True),
            (checks.deletion, checks.insertion),
            ("removed", "inserted"),
            strict=True,
        ):
            axes.fill_between(share, curve.random.min(0), curve.random.max(0), color=INK, alpha=0.2, linewidth=0)
            axes.plot(share, curve.random.mean(0), color=INK, linewidth=1, linestyle="--", label="random orders")
            axes.plot(share, curve.values, color=MEASURED, label="the map's order")
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"pixels {name}")
            axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
            axes.grid()
        figure.axes[0].set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        figure.axes[0].set_ylabel("probability of the emotion")
        figure.axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    return figure


def _blend(pixels: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Heat over RGB ``(H, W, 3)``, as opaque as ``alpha`` ``(H, W)`` says."""
    mixed = (1 - alpha[..., None]) * pixels + alpha[..., None] * HEAT
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)
