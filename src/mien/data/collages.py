"""Training pictures of a face detector, composed as they are needed: faces of any size, angle and light on pictures
without faces.

All that is random in a collage follows from the generator that is passed in.

Sources: pasting (Dwibedi, Misra, Hebert 2017, arXiv:1708.01642), scales drawn evenly in their logarithm so that small
faces are as frequent as large ones, covered faces (Zhong et al. 2017, arXiv:1708.04896).
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mien.data.detection import MIRRORED, Faces, Pixels

VISIBLE = 0.6
"""Of a face that is covered or cut further, nobody says whether it should be found."""


@dataclass(frozen=True)
class Labelled:
    """A picture whose faces are all known: grey ``(H, W)`` or RGB ``(H, W, 3)``."""

    pixels: Pixels
    faces: Faces


@dataclass(frozen=True)
class Collage:
    """RGB ``(S, S, 3)`` and its faces."""

    pixels: Pixels
    faces: Faces


@dataclass(frozen=True)
class Sources:
    """What collages are composed of.

    Attributes:
        photos: pictures with faces, one list a set.
        shares: how often each set is drawn.
        empty: pictures without faces.
    """

    photos: tuple[Sequence[Labelled], ...]
    shares: tuple[float, ...]
    empty: Sequence[Pixels]


class Composer:
    """Composes collages with faces of ``min_face`` pixels or more."""

    def __init__(self, sources: Sources, min_face: float) -> None:
        self._sources, self._min_face = sources, min_face
        self._shares = np.cumsum(sources.shares) / sum(sources.shares)

    def compose(self, size: int, random: Generator) -> Collage:
        """One collage of ``size`` pixels."""
        canvas, faces = self._ground(size, random), [Faces.of()]
        kind = random.random()
        pastes = 0 if kind < 0.1 else 1 if kind < 0.4 else int(random.integers(2, 5))
        for _ in range(pastes):
            faces = self._paste_faces(canvas, faces, random)
        if random.random() < 0.3:
            faces = self._paste_empty(canvas, faces, random)
        found = _within(Faces.joined(faces), size, self._min_face)
        for box in found.boxes[found.known]:
            if random.random() < 0.12:
                _cover(canvas, box, random)
        return Collage(_as_photographed(canvas, random), found)

    def _ground(self, size: int, random: Generator) -> Image.Image:
        """A picture without faces, or a plain field: ``(S, S)``."""
        if random.random() < 0.7 and len(self._sources.empty):
            image = Image.fromarray(self._sources.empty[int(random.integers(len(self._sources.empty)))])
            side = min(image.size) * random.uniform(0.5, 1)
            x, y = random.uniform(0, image.width - side), random.uniform(0, image.height - side)
            ground = image.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
            ground = ground.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else ground
            return _lit(ground.convert("RGB"), random)
        ends = random.uniform(0, 255, (2, 2, 3 if random.random() < 0.5 else 1)) * np.ones(3)
        if random.random() < 0.6:  # one colour
            ends[:] = ends[0, 0]
        small = Image.fromarray(ends.astype(np.uint8), "RGB")
        return small.resize((size, size), Image.Resampling.BILINEAR)

    def _paste_faces(self, canvas: Image.Image, faces: list[Faces], random: Generator) -> list[Faces]:
        """Paste a part of a photograph, or all of it, so that one of its faces has the size and place drawn for it."""
        photos = self._sources.photos[int(np.searchsorted(self._shares, random.random(), side="right"))]
        photo = photos[int(random.integers(len(photos)))]
        known = np.flatnonzero(photo.faces.known)
        if not len(known):
            return faces
        index = int(known[random.integers(len(known))])
        chosen = photo.faces[index : index + 1]
        face_size = float(chosen.sizes[0])
        wanted = math.exp(random.uniform(math.log(self._min_face), math.log(0.92 * canvas.width)))
        # Where small faces have few pixels of their own, larger ones would only be blurred.
        scale = min(wanted, max(6 * face_size, 48.0) if face_size < 60 else 4 * face_size) / face_size
        height, width = photo.pixels.shape[:2]
        region = (0, 0, width, height)
        if random.random() < 0.6:
            margins = face_size * random.uniform(0.1, 1.5, 4)
            x, y, w, h = chosen.boxes[0]
            region = (
                max(0, int(x - margins[0])), max(0, int(y - margins[1])),
                min(width, math.ceil(x + w + margins[2])), min(height, math.ceil(y + h + margins[3])),
            )  # fmt: skip
        angle = random.normal(0, 14) if random.random() < 0.7 else random.uniform(-50, 50)
        place = random.uniform(0.03, 0.97, 2) * canvas.width
        return self._paste(canvas, faces, photo, region, scale, angle, (chosen.centres[0], place), random)

    def _paste_empty(self, canvas: Image.Image, faces: list[Faces], random: Generator) -> list[Faces]:
        """Paste a piece without a face: edges of pieces must not tell where faces are."""
        if not len(self._sources.empty):
            return faces
        pixels = self._sources.empty[int(random.integers(len(self._sources.empty)))]
        side = int(min(pixels.shape[:2]) * random.uniform(0.2, 0.8))
        x, y = int(random.integers(pixels.shape[1] - side + 1)), int(random.integers(pixels.shape[0] - side + 1))
        place = random.uniform(0, 1, 2) * canvas.width
        centre = np.array([x + side / 2, y + side / 2])
        scale = math.exp(random.uniform(math.log(20), math.log(0.7 * canvas.width))) / side
        photo, region = Labelled(pixels, Faces.of()), (x, y, x + side, y + side)
        return self._paste(canvas, faces, photo, region, scale, random.normal(0, 20), (centre, place), random)

    def _paste(
        self,
        canvas: Image.Image,
        faces: list[Faces],
        photo: Labelled,
        region: tuple[int, int, int, int],
        scale: float,
        angle: float,
        anchor: tuple[NDArray[np.floating], NDArray[np.floating]],
        random: Generator,
    ) -> list[Faces]:
        """Paste a region of a photograph, scaled, perhaps mirrored and turned by ``angle`` degrees.

        ``anchor`` is a place in the photograph and where it goes. Returns all faces, those that are covered no longer
        known.
        """
        left, top, right, bottom = _seen(region, scale, anchor, canvas.width)
        if right - left < 2 or bottom - top < 2:
            return faces
        mirrored = random.random() < 0.5
        size = max(2, round((right - left) * scale)), max(2, round((bottom - top) * scale))
        piece = Image.fromarray(photo.pixels[top:bottom, left:right])
        piece = _lit(piece.resize(size, Image.Resampling.BILINEAR).convert("RGB"), random)
        if mirrored:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        forward = _similarity((left, top, right, bottom), size, mirrored, angle)
        forward[:, 2] += anchor[1] - (forward[:, :2] @ anchor[0] + forward[:, 2])  # the anchor goes to its place
        covered = _draw(canvas, piece, forward, (left, top, right, bottom), mirrored, random.random() < 0.3)
        for each in faces:
            each.known[:] &= _visible(each.boxes, covered) >= VISIBLE
        return [*faces, _moved(photo.faces, forward, scale, angle, mirrored, region)]


def _seen(
    region: tuple[int, int, int, int],
    scale: float,
    anchor: tuple[NDArray[np.floating], NDArray[np.floating]],
    size: int,
) -> tuple[int, int, int, int]:
    """The part of a region that can be in the collage at any angle: the rest need not be scaled."""
    reach = math.sqrt(2) * size / scale + 2
    x, y = anchor[0]
    return (
        max(region[0], int(x - reach)), max(region[1], int(y - reach)),
        min(region[2], math.ceil(x + reach)), min(region[3], math.ceil(y + reach)),
    )  # fmt: skip


def _similarity(
    region: tuple[int, int, int, int], size: tuple[int, int], mirrored: bool, angle: float
) -> NDArray[np.float64]:
    """Places in a photograph to places of its scaled, mirrored and turned region, but for a shift: ``(2, 3)``."""
    x, y = size[0] / (region[2] - region[0]), size[1] / (region[3] - region[1])
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-x if mirrored else x, y])
    return np.concatenate([turned, np.zeros((2, 1))], axis=1)


def _draw(
    canvas: Image.Image,
    piece: Image.Image,
    forward: NDArray[np.float64],
    region: tuple[int, int, int, int],
    mirrored: bool,
    soft: bool,
) -> NDArray[np.bool_]:
    """Draw a scaled and mirrored region where ``forward`` says; returns where it covers the canvas, ``(S, S)``."""
    left, top, right, bottom = region
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ forward[:, :2].T + forward[:, 2]
    low = np.floor(corners.min(0)).astype(int).clip(0, canvas.size)
    high = np.ceil(corners.max(0)).astype(int).clip(0, canvas.size)
    covered = np.zeros((canvas.height, canvas.width), bool)
    if (high <= low).any():
        return covered
    # From the canvas back to the piece: the photograph's place, scaled and mirrored as the piece is.
    back = np.linalg.inv(forward[:, :2])
    x, y = piece.width / (right - left), piece.height / (bottom - top)
    sign = -1 if mirrored else 1
    origin = back @ (low - forward[:, 2]) - ((right if mirrored else left), top)
    matrix = np.diag([sign * x, y]) @ back
    shift = np.diag([sign * x, y]) @ origin
    data = (*matrix[0].tolist(), float(shift[0]), *matrix[1].tolist(), float(shift[1]))
    extent = tuple((high - low).tolist())
    mask = Image.new("L", piece.size, 255)
    mask = mask.transform(extent, Image.Transform.AFFINE, data, Image.Resampling.NEAREST)
    drawn = piece.transform(extent, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    covered[low[1] : high[1], low[0] : high[0]] = np.asarray(mask) > 0
    if soft:
        mask = mask.filter(ImageFilter.BoxBlur(2))
    canvas.paste(drawn, tuple(low.tolist()), mask)
    return covered


def _moved(
    faces: Faces,
    forward: NDArray[np.float64],
    scale: float,
    angle: float,
    mirrored: bool,
    region: tuple[int, int, int, int],
) -> Faces:
    """Faces of a photograph where they are pasted; those whose middle is not in the region are left out.

    A turned face's box is that around the turned ellipse in its box.
    """
    centres = faces.centres
    inside = ((centres >= region[:2]) & (centres <= region[2:])).all(1)
    faces = faces[inside]
    middles = faces.centres @ forward[:, :2].T + forward[:, 2]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    width, height = faces.boxes[:, 2] * scale, faces.boxes[:, 3] * scale
    sizes = np.stack([np.hypot(width * cos, height * sin), np.hypot(width * sin, height * cos)], 1)
    points = faces.points @ forward[:, :2].T + forward[:, 2]
    points = points[:, MIRRORED] if mirrored else points
    # What the region cuts off a face is not seen.
    low = np.maximum(faces.boxes[:, :2], region[:2])
    high = np.minimum(faces.boxes[:, :2] + faces.boxes[:, 2:], region[2:])
    seen = (high - low).clip(0).prod(1) / faces.boxes[:, 2:].prod(1).clip(1e-6)
    boxes = np.concatenate([middles - sizes / 2, sizes], 1)
    return Faces(boxes.astype(np.float32), points.astype(np.float32), faces.known & (seen >= VISIBLE))


def _visible(boxes: NDArray[np.float32], covered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The fraction of each box that is not covered: ``(n,)``."""
    found = np.ones(len(boxes))
    for index, (x, y, w, h) in enumerate(boxes):
        part = covered[max(0, int(y)) : max(0, math.ceil(y + h)), max(0, int(x)) : max(0, math.ceil(x + w))]
        found[index] = 1 - part.mean() if part.size else 1
    return found


def _within(faces: Faces, size: int, min_face: float) -> Faces:
    """The faces that the canvas shows; those that are cut far, or too small, are not known."""
    low, high = faces.boxes[:, :2].clip(0, size), (faces.boxes[:, :2] + faces.boxes[:, 2:]).clip(0, size)
    seen = (high - low).prod(1) / faces.boxes[:, 2:].prod(1).clip(1e-6)
    middle = ((faces.centres >= 0) & (faces.centres < size)).all(1)
    known = faces.known & (seen >= VISIBLE) & middle & (faces.sizes >= min_face)
    return Faces(faces.boxes, faces.points, known)[seen > 0]


def _cover(canvas: Image.Image, box: NDArray[np.float32], random: Generator) -> None:
    """Lay a plain patch over less than half of a face: over mouth and nose, as a mask does, or anywhere."""
    x, y, w, h = box.tolist()
    if random.random() < 0.6:
        part = (x + w * random.uniform(0, 0.15), y + h * random.uniform(0.5, 0.68), w * 0.85, h * 0.5)
    else:
        part = (x + w * random.uniform(-0.3, 0.8), y + h * random.uniform(-0.2, 0.8), w * 0.5, h * 0.45)
    size = max(1, round(part[2])), max(1, round(part[3]))
    tones = np.clip(random.uniform(0, 255, 3) + random.normal(0, 25, (2, 2, 3)), 0, 255).astype(np.uint8)
    patch = Image.fromarray(tones, "RGB").resize(size, Image.Resampling.BILINEAR)
    canvas.paste(patch, (round(part[0]), round(part[1])))


def _lit(image: Image.Image, random: Generator) -> Image.Image:
    """Under another light: gain and shift of each channel alike, now and then of each channel on its own; gamma."""
    if random.random() < 0.3:
        return image
    gain, gamma = math.exp(random.normal(0, 0.25)), math.exp(random.normal(0, 0.25))
    shift = random.normal(0, 15)
    colour = np.exp(random.normal(0, 0.1, 3)) if random.random() < 0.3 else np.ones(3)
    levels = 255 * (np.arange(256) / 255) ** gamma
    table = np.clip((levels - 128) * gain * colour[:, None] + 128 + shift, 0, 255)  # (3, 256)
    return image.point(table.astype(np.uint8).reshape(-1).tolist())


def _as_photographed(canvas: Image.Image, random: Generator) -> Pixels:
    """Grey, blurred, compressed, noisy: each now and then."""
    if random.random() < 0.35:
        canvas = canvas.convert("L").convert("RGB")
    if random.random() < 0.2:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.6))))
    if random.random() < 0.2:
        stream = io.BytesIO()
        canvas.save(stream, "JPEG", quality=int(random.integers(20, 90)))
        canvas = Image.open(stream).convert("RGB")
    pixels = np.asarray(canvas)
    if random.random() < 0.25:
        spread = random.uniform(1, 16)
        noise = random.standard_normal((*pixels.shape[:2], 1), np.float32) * np.float32(spread)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)
