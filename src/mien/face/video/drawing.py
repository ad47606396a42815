"""A video's frames with boxes, tracks and emotions, above a strip that shows the last seconds."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from mien.emotions import EMOTIONS
from mien.face import draw
from mien.face.result import TrackedFace, VideoFrame
from mien.face.video.tracks import LOST_SECONDS

WINDOW_SECONDS, LANES = 10, 3
"""What the strip shows, and of how many tracks: the ones that came first; of those that come together, the largest."""

GROUND, EMPTY, INK = (24, 26, 29), (52, 56, 61), (222, 226, 230)
"""RGB."""

COLUMNS = 7
"""Names that share a line above the strip, at least; more where they fit in."""


class FrameDrawing:
    """Draws the frames of one video, in their order. All drawings have the size of the first; others get black bars."""

    def __init__(self, classes: tuple[str, ...] = EMOTIONS) -> None:
        """``classes`` are the network's."""
        self._classes = classes
        self._timeline: Timeline | None = None

    def draw(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The frame with the smoothed emotions of its faces, and the strip below: uint8 ``(h, w, 3)``, RGB."""
        faces = [each.steadied() for each in frame.faces]
        picture = draw.annotate(frame.pixels, faces, [f"#{each.track}" for each in frame.faces])
        size = picture.shape[1], picture.shape[0]
        if self._timeline is None:
            self._size, self._timeline = size, Timeline(size[0], self._classes)
        if size != self._size:  # some files change their size on the way
            picture = np.asarray(ImageOps.pad(Image.fromarray(picture), self._size), np.uint8)
        return np.concatenate([picture, self._timeline.draw(frame)])  # (H + strip, W, 3)


@dataclass
class _Lane:
    track: int
    seen: float  # when the track was last seen, in seconds


class Timeline:
    """The last seconds of the main tracks: for each moment the smoothed probabilities, stacked. Now is at the right."""

    def __init__(self, width: int, classes: tuple[str, ...] = EMOTIONS) -> None:
        """``width`` of the strip in pixels."""
        self._classes = classes
        self._letters = max(9, min(18, width // 45))
        self._font = draw.font_for("".join(classes), self._letters)
        widest = max(self._font.getlength(name) for name in classes)
        self._columns = min(len(classes), max(COLUMNS, int(width // (widest + self._letters))))
        lines = -(-len(classes) // self._columns)
        self._left, self._top, self._lane = 3 * self._letters, 2 * self._letters * lines, 2 * self._letters
        columns = max(1, width - self._left)
        self._plots = np.full((LANES, self._lane - 2, columns, 3), EMPTY, np.uint8)
        self._lanes: list[_Lane | None] = [None] * LANES
        self._column, self._time = 0, -math.inf
        self._ground = self._drawn_ground(width)

    def draw(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The strip at a frame: uint8 ``(h, width, 3)``, RGB. Frames come in their order."""
        columns = self._plots.shape[2]
        column = int(frame.time * columns / WINDOW_SECONDS)
        passed = min(column - self._column, columns)
        if passed > 0:
            self._plots = np.roll(self._plots, -passed, axis=2)
            self._plots[:, :, -passed:] = EMPTY
        self._take_lanes(frame)
        for face in frame.faces:
            self._paint(face, frame.time, max(1, passed))
        self._column, self._time = column, frame.time
        return self._drawn()

    def _take_lanes(self, frame: VideoFrame) -> None:
        """Empty the lanes of tracks that have ended, and give them to others."""
        present = {each.track for each in frame.faces}
        for number, lane in enumerate(self._lanes):
            if lane is not None and lane.track not in present and frame.time - lane.seen > LOST_SECONDS:
                self._lanes[number] = None
        shown = {lane.track for lane in self._lanes if lane is not None}
        for face in sorted(frame.faces, key=lambda each: -each.face.box.width * each.face.box.height):
            if face.track not in shown and None in self._lanes:
                number = self._lanes.index(None)
                self._lanes[number] = _Lane(face.track, -math.inf)
                self._plots[number] = EMPTY

    def _paint(self, face: TrackedFace, time: float, passed: int) -> None:
        for plot, lane in zip(self._plots, self._lanes, strict=True):
            if lane is not None and lane.track == face.track:
                # The columns between two frames belong to a face that was in both.
                columns = passed if lane.seen == self._time else 1
                plot[:, -columns:] = draw.stacked(np.array([list(face.smoothed.values())]), len(plot), self._classes)
                lane.seen = time

    def _drawn(self) -> NDArray[np.uint8]:
        strip = self._ground.copy()
        for number, plot in enumerate(self._plots):
            top = self._top + number * self._lane
            strip[top : top + len(plot), self._left :] = plot
        canvas = Image.fromarray(strip)
        pen = ImageDraw.Draw(canvas)
        for number, lane in enumerate(self._lanes):
            if lane is not None:
                middle = self._top + number * self._lane + self._lane // 2
                pen.text((self._letters // 4, middle), f"#{lane.track}", INK, self._font, anchor="lm")
        return np.asarray(canvas)

    def _fitting(self, name: str, width: int) -> str:
        """A name, cut where it is wider than its place; the shortest of them all stays whole."""
        while len(name) > 1 and self._classes != EMOTIONS and self._font.getlength(name) > width:
            name = f"{name.rstrip('…')[:-1]}…"
        return name

    def _drawn_ground(self, width: int) -> NDArray[np.uint8]:
        """The classes with their colours above, the seconds below."""
        bottom = self._top + LANES * self._lane
        canvas = Image.new("RGB", (width, bottom + 2 * self._letters), GROUND)
        pen = ImageDraw.Draw(canvas)
        line_height = 2 * self._letters
        for number, (name, color) in enumerate(zip(self._classes, draw.colors_of(self._classes), strict=True)):
            line, column = divmod(number, self._columns)
            left, right = (round((column + step) * width / self._columns) for step in (0, 1))
            pen.rectangle((left, line * line_height, right - 1, (line + 1) * line_height - 5), fill=color)
            place = (left + right) / 2, (line + 0.5) * line_height - 2
            pen.text(place, self._fitting(name, right - left), draw.ink_on(color), self._font, anchor="mm")
        half = f"-{WINDOW_SECONDS / 2:g} s"
        for part, text, anchor in ((0, f"-{WINDOW_SECONDS} s", "lm"), (0.5, half, "mm"), (1, "now", "rm")):
            x = self._left + part * (width - 1 - self._left)
            pen.text((x, bottom + self._letters), text, INK, self._font, anchor=anchor)
        return np.asarray(canvas)
