"""Boxes, emotions and confidences drawn on pictures, legible on light, dark, tiny and huge ones."""

import colorsys
import contextlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mien.emotions import EMOTIONS, Emotion
from mien.face.result import Box, Face

COLORS: dict[Emotion, tuple[int, int, int]] = {
    Emotion.ANGRY: (213, 62, 79),
    Emotion.DISGUST: (102, 140, 40),
    Emotion.FEAR: (140, 86, 190),
    Emotion.HAPPY: (240, 180, 30),
    Emotion.SAD: (60, 120, 200),
    Emotion.SURPRISE: (235, 120, 40),
    Emotion.NEUTRAL: (130, 136, 142),
}
"""RGB of each emotion; the label names it too, so that colour is never the only sign."""

FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "arial.ttf")
"""Fonts of systems for names that Pillow's own, which has ASCII only, cannot write; the first that is installed."""

HUE_STEP = 0.618  # of the circle: no two of fifty classes come to lie close
SHADES = ((0.5, 0.6), (0.35, 0.7), (0.65, 0.75))
"""Lightness and saturation by turns, so that neighbours in hue differ in these."""

MIN_SIDE = 480  # a picture whose longer side is shorter is enlarged by a whole factor, or no label would fit in
Rgb = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]


def font_for(text: str, letters: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of so many pixels that has the letters of a text; Pillow's own where no better one is installed."""
    for name in () if text.isascii() else FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, letters)
    return ImageFont.load_default(letters)


@cache
def colors_of(classes: tuple[str, ...]) -> tuple[Rgb, ...]:
    """RGB of each class: ``COLORS`` of the seven emotions, else hues as far apart as their number allows."""
    if classes == EMOTIONS:
        return tuple(COLORS.values())
    found = []
    for number in range(len(classes)):
        red, green, blue = colorsys.hls_to_rgb(HUE_STEP * number % 1, *SHADES[number % len(SHADES)])
        found.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(found)


def face_color(face: Face) -> Rgb:
    """The colour of what a face shows."""
    return dict(zip(face.probabilities, colors_of(tuple(face.probabilities)), strict=True))[face.emotion]


def annotate(
    picture: NDArray[np.uint8], faces: Sequence[Face], names: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """A copy of an RGB picture with each face's box, emotion and confidence: ``(H, W, 3) -> (k H, k W, 3)``, uint8.

    k is 1 but for tiny pictures. A face that is not reliable has a question mark behind its emotion, one that is
    abstained a question mark alone. ``names`` of the faces, such as ``#2``, stand before their emotions.
    """
    height, width = picture.shape[:2]
    factor = max(1, -(-MIN_SIDE // max(height, width)))
    canvas = Image.fromarray(picture)
    if factor > 1:
        canvas = canvas.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    letters = max(13, round(0.028 * (canvas.width * canvas.height) ** 0.5))  # their height, by the picture's mean side
    boxes = [Box(*(factor * value for value in face.box)) for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        _draw_box(draw, box, face_color(face), max(2, letters // 7))
    taken: list[Rectangle] = []
    for face, box, name in zip(faces, boxes, names or [""] * len(faces), strict=True):
        text = f"{name} {face_label(face)}".lstrip()
        taken.append(_draw_label(draw, canvas.size, box, text, face_color(face), letters, taken))
    return np.asarray(canvas)


def face_label(face: Face) -> str:
    """``happy 93 %``, with a question mark where it is not to be relied on."""
    if face.abstained:
        return "?"
    return f"{face.emotion}{'' if face.reliable else ' ?'} {100 * face.confidence:.0f} %"


def ink_on(color: Rgb) -> Rgb:
    """Black or white, whichever has the higher contrast on a colour, by its relative luminance (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # 0 to 1
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)


def stacked(probabilities: NDArray[np.float64], height: int, classes: tuple[str, ...] = EMOTIONS) -> NDArray[np.uint8]:
    """Columns of the classes' colours, each as high as it is probable: ``(N, K) -> (height, N, 3)``, RGB.

    The first class lies at the bottom.
    """
    ceilings = np.cumsum(probabilities[:, :-1], axis=1)  # (N, K - 1); the last class takes what is left
    levels = (np.arange(height)[::-1] + 0.5) / height
    shown = (levels[:, None, None] >= ceilings).sum(axis=2)  # (height, N)
    colors: NDArray[np.uint8] = np.array(colors_of(classes), np.uint8)[shown]
    return colors


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, color: Rgb, line: int) -> None:
    """The outline in the emotion's colour, with a dark one around and a light one inside it: one always stands out."""
    x, y, right, bottom = box.x, box.y, box.x + box.width - 1, box.y + box.height - 1
    if min(box.width, box.height) <= 2 * line + 2:
        line = 1
    hair = max(1, line // 3)
    draw.rectangle((x - hair, y - hair, right + hair, bottom + hair), outline=(0, 0, 0), width=hair)
    draw.rectangle((x, y, right, bottom), outline=color, width=line)
    inside = (x + line, y + line, right - line, bottom - line)
    if inside[2] - inside[0] > 2 * line and inside[3] - inside[1] > 2 * line:
        draw.rectangle(inside, outline=(255, 255, 255), width=hair)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Box,
    text: str,
    color: Rgb,
    letters: int,
    taken: Sequence[Rectangle],
) -> Rectangle:
    """The name beside its box, inside the picture and off the other names where that is possible."""
    font = font_for(text, letters)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    margin = max(2, letters // 4)
    width, height = round(right - left) + 2 * margin, round(bottom - top) + 2 * margin
    place = _place(size, box, (width, height), taken)
    draw.rounded_rectangle(place, radius=margin, fill=color, outline=(0, 0, 0), width=max(1, letters // 20))
    draw.text((place[0] + margin - left, place[1] + margin - top), text, font=font, fill=ink_on(color))
    return place


def _place(size: tuple[int, int], box: Box, label: tuple[int, int], taken: Sequence[Rectangle]) -> Rectangle:
    """Above the box, else below, else inside its upper or lower edge: the first place that is free, else the first."""
    width, height = label
    x = min(max(0, box.x), max(0, size[0] - width))
    tops = (box.y - height, box.y + box.height, box.y, box.y + box.height - height)
    inside = [y for y in tops if 0 <= y <= size[1] - height]
    places = [(x, y, x + width - 1, y + height - 1) for y in inside or [min(max(0, box.y), max(0, size[1] - height))]]
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
