"""Drawn faces with the seven expressions: the embedded default data set, and every test's data.

A face is a list of layers (``face_layers``), each a contour in face units, which ``draw_face`` poses and fills in
order. What an expression does to brows, lids, nose and mouth follows the action units that the Facial Action Coding
System gives for it (Ekman & Friesen 1978, "Facial Action Coding System", table 11-1 of emotions and their units).

Deviations: of each emotion's combinations the commonest is drawn, with the parting of the lips added to some; a
unit's strength is a fraction, not a level from A to E; how far it moves a line was chosen by eye; a raised upper lip
is higher on one side.

Face units: the origin is the middle of the face, y points down, the top of the skull is at -1 and the chin at 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.samples import FaceSamples, RowSource, Usage
from mien.emotions import EMOTIONS, Emotion
from mien.errors import CallError, DataError

DEFAULT_COUNT = 2000  # faces of the data spec ``synthetic`` without a number
MIN_COUNT, MAX_COUNT = 70, 1_000_000
"""With the fewest faces every split shows each emotion: once in either test split."""

PARTS = ("brows", "eyes", "nose", "mouth")
"""What is boxed: both brows together, both eyes together."""

SUPERSAMPLING = 4
"""Pixels of the canvas per pixel of the picture, in each direction: what smooths the edges."""

Points = NDArray[np.float64]
PartBox = tuple[float, float, float, float]
"""x, y, width and height in pixels of the picture."""

ACROSS = np.linspace(-1.0, 1.0, 13)
"""From the left end of a part to its right end, ``(13,)``."""

CIRCLE = np.stack([np.sin(np.arange(32) * np.pi / 16), -np.cos(np.arange(32) * np.pi / 16)], axis=1)
"""The unit circle from its top, ``(32, 2)``."""


@dataclass(frozen=True)
class Expression:
    """Strength of each drawn action unit, 0 (at rest) to 1 (full); the number is the unit's in FACS."""

    inner_brow_raiser: float = 0.0  # 1
    outer_brow_raiser: float = 0.0  # 2
    brow_lowerer: float = 0.0  # 4
    upper_lid_raiser: float = 0.0  # 5
    cheek_raiser: float = 0.0  # 6
    lid_tightener: float = 0.0  # 7
    nose_wrinkler: float = 0.0  # 9
    upper_lip_raiser: float = 0.0  # 10
    lip_corner_puller: float = 0.0  # 12
    lip_corner_depressor: float = 0.0  # 15
    lower_lip_depressor: float = 0.0  # 16
    lip_stretcher: float = 0.0  # 20
    lip_tightener: float = 0.0  # 23
    lips_part: float = 0.0  # 25
    jaw_drop: float = 0.0  # 26


EXPRESSIONS: dict[Emotion, Expression] = {
    Emotion.ANGRY: Expression(
        brow_lowerer=1.0, upper_lid_raiser=0.4, lid_tightener=0.6, lip_tightener=0.9, lips_part=0.5
    ),
    Emotion.DISGUST: Expression(
        nose_wrinkler=1.0, upper_lip_raiser=0.9, lip_corner_depressor=0.6, lower_lip_depressor=0.6, lips_part=0.2
    ),
    Emotion.FEAR: Expression(
        inner_brow_raiser=1.0,
        outer_brow_raiser=0.5,
        brow_lowerer=0.6,
        upper_lid_raiser=0.9,
        lip_stretcher=1.0,
        lips_part=0.8,
        jaw_drop=0.35,
    ),
    Emotion.HAPPY: Expression(cheek_raiser=0.9, lip_corner_puller=1.0, lips_part=0.8),
    Emotion.SAD: Expression(inner_brow_raiser=1.0, brow_lowerer=0.5, lip_corner_depressor=1.0),
    Emotion.SURPRISE: Expression(
        inner_brow_raiser=1.0, outer_brow_raiser=1.0, upper_lid_raiser=0.8, lips_part=0.5, jaw_drop=1.0
    ),
    Emotion.NEUTRAL: Expression(),
}
"""The prototype of each emotion, before a face's own intensity and jitter."""


def _between(low: float, high: float) -> Any:
    """A field that ``_drawn`` fills uniformly from ``[low, high)``."""
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Person:
    """Who is drawn: lengths in face units, tones as fractions of white or of the skin's tone."""

    face_width: float = _between(0.66, 0.80)  # half of it, at the cheeks
    jaw: float = _between(0.62, 0.86)  # width near the chin, as a fraction of the cheeks'
    hairline: float = _between(-0.95, -0.62)
    hair_length: float = _between(-0.1, 1.3)  # down to this y
    brow_y: float = _between(-0.40, -0.33)
    brow_width: float = _between(0.17, 0.22)  # half of it
    brow_thickness: float = _between(0.035, 0.075)
    brow_arch: float = _between(0.0, 0.05)
    eye_distance: float = _between(0.29, 0.36)  # from the middle of the face
    eye_y: float = _between(-0.15, -0.09)
    eye_width: float = _between(0.125, 0.165)  # half of it
    eye_opening: float = _between(0.055, 0.08)  # of each lid
    iris: float = _between(0.065, 0.08)
    nose_width: float = _between(0.09, 0.14)
    nose_y: float = _between(0.18, 0.26)
    mouth_y: float = _between(0.50, 0.57)
    mouth_width: float = _between(0.21, 0.28)  # half of it
    lips: float = _between(0.035, 0.07)  # thickness of each
    sneer: float = _between(-1.0, 1.0)  # by how much a raised upper lip is higher on one side
    skin: float = _between(0.4, 0.82)
    hair: float = _between(0.05, 0.5)
    brow_tone: float = _between(0.2, 0.62)  # of the skin's
    lip_tone: float = _between(0.58, 0.85)  # of the skin's
    iris_tone: float = _between(0.08, 0.35)


@dataclass(frozen=True)
class View:
    """How the person is seen: pose, light and camera."""

    roll: float = _between(-0.18, 0.18)  # radians in the picture's plane
    yaw: float = _between(-0.4, 0.4)  # radians to the side
    pitch: float = _between(-0.15, 0.15)  # radians up or down
    scale: float = _between(0.45, 0.53)  # face unit as a fraction of the picture's side
    x: float = _between(0.45, 0.55)  # middle of the face as a fraction of the picture's side
    y: float = _between(0.44, 0.51)
    light_x: float = _between(-0.35, 0.35)  # gain at the right edge, against the middle
    light_y: float = _between(-0.3, 0.3)
    exposure: float = _between(0.7, 1.1)
    haze: float = _between(0.0, 0.2)  # white mixed in: less contrast
    blur: float = _between(0.25, 0.9)  # standard deviation, in 1/48 of the picture's side
    noise: float = _between(0.005, 0.045)  # standard deviation, as a fraction of white


Drawn = TypeVar("Drawn", Person, View)


@dataclass(frozen=True)
class Layer:
    """One thing to paint: a filled contour, or a stroke along it."""

    points: Points  # (K, 2), x and y in face units
    tone: float  # fraction of white
    part: str | None = None  # of PARTS
    stroke: float = 0.0  # width of the line in face units; 0 fills the contour


@dataclass(frozen=True)
class DrawnFaces:
    """Drawn faces with what they show and where."""

    images: NDArray[np.uint8]  # (N, S, S), grey
    labels: NDArray[np.int8]  # (N,), index into EMOTIONS
    parts: dict[str, NDArray[np.float32]]  # (N, 4) for each of PARTS: x, y, width, height in pixels, after the pose


def read_synthetic(count: int = DEFAULT_COUNT) -> FaceSamples:
    """The data spec ``synthetic:count``: of every ten rows eight are Training, one Public and one Private.

    Raises:
        CallError: ``count`` is not in ``MIN_COUNT`` to ``MAX_COUNT``.
    """
    if count > MAX_COUNT:
        raise CallError(f"expected at most {MAX_COUNT:,} drawn faces, got {count}; ask for fewer")
    if count < MIN_COUNT:
        raise CallError(
            f"expected at least {MIN_COUNT} drawn faces, so that every split has each class, got {count};"
            f" ask for synthetic:{MIN_COUNT} or more, or for synthetic alone ({DEFAULT_COUNT} faces)"
        )
    drawn = draw_faces(count)
    rows = np.arange(count, dtype=np.int32)
    usages = np.full(count, Usage.TRAINING, dtype=np.int8)
    usages[rows % 10 == 8] = Usage.PUBLIC_TEST
    usages[rows % 10 == 9] = Usage.PRIVATE_TEST
    return FaceSamples(drawn.images, drawn.labels, rows, usages, name="synthetic", row_source=RowSource.FILE)


def draw_faces(count: int, *, seed: int = 0, size: int = 48) -> DrawnFaces:
    """Faces 0 to ``count - 1`` of the series that ``seed`` begins; face ``i`` is the same whatever ``count``.

    Each seven faces show each emotion once. Intensity runs from slight to full, so that some faces are hard to tell
    from neutral: a linear model of the pixels reaches about 50 %, a small convolutional network about 95 %. Another
    ``seed``, 0 or more, shows other people; ``size`` is the side of a picture in pixels.

    Raises:
        DataError: a negative count, or pictures too small for a face.
    """
    if count < 0 or size < 16:
        raise DataError(f"expected a count of 0 or more and a size of 16 or more, got {count} and {size}")
    images = np.empty((count, size, size), dtype=np.uint8)
    labels = _labels(count, seed)
    parts = {part: np.empty((count, 4), dtype=np.float32) for part in PARTS}
    for index, label in enumerate(labels.tolist()):
        generator = np.random.default_rng((seed, index))
        person, view = _drawn(Person, generator), _drawn(View, generator)
        expression = _performed(EXPRESSIONS[EMOTIONS[label]], generator)
        images[index], boxes = draw_face(person, expression, view, generator, size)
        for part in PARTS:
            parts[part][index] = boxes[part]
    return DrawnFaces(images, labels, parts)


def _labels(count: int, seed: int) -> NDArray[np.int8]:
    """Labels ``(count,)``: one order of the seven emotions for each 70 faces, repeated ten times.

    As 7 and 10 share no factor, of 70 faces those whose number ends in a given digit show each emotion once.
    """
    # The third number keeps these generators apart from the faces' own, which have two.
    orders = [np.random.default_rng((seed, run, 1)).permutation(len(EMOTIONS)) for run in range(-(-count // 70))]
    repeated = np.tile(np.array(orders, dtype=np.int8).reshape(-1, len(EMOTIONS)), 10)  # (R, 7) -> (R, 70)
    return repeated.reshape(-1)[:count]


def _drawn(cls: type[Drawn], generator: np.random.Generator) -> Drawn:
    """A ``Person`` or a ``View``, each field from its own range."""
    ranges = np.array([entry.metadata["range"] for entry in fields(cls)])  # (fields, 2)
    return cls(*generator.uniform(ranges[:, 0], ranges[:, 1]).tolist())


def _performed(prototype: Expression, generator: np.random.Generator) -> Expression:
    """The prototype as one person shows it once: an intensity for all units, jitter for each, and a little unrest."""
    units = np.array(list(vars(prototype).values()))
    intensity = generator.uniform(0.35, 1.1)
    units = units * intensity * generator.uniform(0.6, 1.2, len(units)) + generator.uniform(0.0, 0.1, len(units))
    return Expression(*units.tolist())


def draw_face(
    person: Person, expression: Expression, view: View, generator: np.random.Generator, size: int = 48
) -> tuple[NDArray[np.uint8], dict[str, PartBox]]:
    """One face: uint8 ``(size, size)``, and for each of ``PARTS`` its box (x, y, width, height) in pixels.

    The generator paints the background and the camera's noise.
    """
    canvas = _background(generator, size * SUPERSAMPLING)
    layers = face_layers(person, expression)
    posed = _posed(np.concatenate([layer.points for layer in layers]), person, view, len(canvas))  # (sum of K, 2)
    boxes = _paint(canvas, layers, posed, view.scale * len(canvas))
    picture = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return _photographed(picture, view, generator), boxes


def _background(generator: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Soft patches of grey, uint8 ``(side, side)``."""
    patches = generator.integers(20, 236) + generator.integers(-40, 41, (3, 3))
    return np.asarray(cv2.resize(patches.clip(0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR))


def _posed(points: Points, person: Person, view: View, side: int) -> Points:
    """Face units to pixels of a canvas: ``(K, 2) -> (K, 2)``. The face is turned as an ellipsoid, then as a picture."""
    x, y = points[:, 0], points[:, 1]
    depth = 0.6 * np.sqrt(np.maximum(0.0, 1.0 - (x / person.face_width) ** 2 - (y / 1.1) ** 2))
    turned = np.stack([x * np.cos(view.yaw) + depth * np.sin(view.yaw), y + depth * np.sin(view.pitch)])  # (2, K)
    cos, sin = view.scale * np.cos(view.roll), view.scale * np.sin(view.roll)
    return np.asarray(side * (turned.T @ np.array([[cos, sin], [-sin, cos]]) + (view.x, view.y)))


def _paint(canvas: NDArray[np.uint8], layers: Sequence[Layer], posed: Points, unit: float) -> dict[str, PartBox]:
    """Paint the layers, the hindmost first, on ``(side, side)`` and return the parts' boxes.

    ``posed`` are the points of all layers, one after another, in pixels of the canvas, and ``unit`` the face unit.
    """
    ends = np.cumsum([len(layer.points) for layer in layers])[:-1]
    corners: dict[str, list[tuple[int, int, int, int]]] = {part: [] for part in PARTS}
    for layer, points in zip(layers, np.split(np.rint(posed).astype(np.int32), ends), strict=True):
        tone, width = round(255 * layer.tone), max(1, round(layer.stroke * unit))
        if layer.stroke:
            cv2.polylines(canvas, [points], False, tone, width)
        else:
            cv2.fillPoly(canvas, [points], tone)
        if layer.part:
            x, y, across, down = cv2.boundingRect(points)
            corners[layer.part].append((x - width // 2, y - width // 2, x + across + width // 2, y + down + width // 2))
    boxes = {}
    for part, found in corners.items():
        left, top, right, bottom = zip(*found, strict=True)
        x, y = max(0, min(left)), max(0, min(top))
        width, height = min(len(canvas), max(right)) - x, min(len(canvas), max(bottom)) - y
        boxes[part] = x / SUPERSAMPLING, y / SUPERSAMPLING, width / SUPERSAMPLING, height / SUPERSAMPLING
    return boxes


def _photographed(picture: NDArray[Any], view: View, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, light, haze and noise: ``(S, S) -> (S, S)``."""
    size = len(picture)
    blurred = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), view.blur * size / 48)
    across = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + view.light_x * across[None, :] + view.light_y * across[:, None]  # (S, S)
    hazy = view.exposure * ((1 - view.haze) * blurred * light + 255 * view.haze)
    noise = 255 * view.noise * generator.standard_normal((size, size), dtype=np.float32)
    return np.clip(hazy + noise, 0, 255).astype(np.uint8)


def face_layers(person: Person, expression: Expression) -> list[Layer]:
    """All layers of a face, the hindmost first."""
    return [
        *_head(person, expression),
        *_both_sides(_folds(person, expression)),
        *_nose(person, expression),
        *_both_sides(_eye(person, expression)),
        *_both_sides(_brow(person, expression)),
        *_mouth(person, expression),
    ]


def _both_sides(layers: Sequence[Layer]) -> list[Layer]:
    """Layers of one side of the face and their mirror images."""
    return [*layers, *(Layer(layer.points * (-1, 1), layer.tone, layer.part, layer.stroke) for layer in layers)]


def _curve(x: Points, y: Points) -> Points:
    return np.array([x, y]).T  # (K,), (K,) -> (K, 2)


def _band(x: Points, top: Points, bottom: Points) -> Points:
    """Closed contour ``(2 K, 2)`` between two curves over the same ``x`` ``(K,)``."""
    return np.concatenate([_curve(x, top), _curve(x, bottom)[::-1]])


def _head(person: Person, expression: Expression) -> list[Layer]:
    """Hair behind, neck, face and the hair on the forehead; the jaw drops the chin."""
    x, y = person.face_width * CIRCLE[:, 0], CIRCLE[:, 1]
    below = np.maximum(y, 0)
    face = _curve(x * (1 - (1 - person.jaw) * below**2), y + 0.1 * expression.jaw_drop * below)
    back = _curve(1.16 * x, np.minimum(1.12 * y - 0.04, person.hair_length))
    neck = np.array([[-0.36, 0.5], [0.36, 0.5], [0.5, 2.0], [-0.5, 2.0]])
    top = np.sqrt(np.maximum(0, 1 - ACROSS**2))
    fringe = _band(1.06 * person.face_width * ACROSS, -1.08 * top, np.minimum(-0.1, person.hairline + 0.45 * ACROSS**4))
    return [
        Layer(back, person.hair),
        Layer(neck, 0.75 * person.skin),
        Layer(face, person.skin),
        Layer(fringe, person.hair),
    ]


def _folds(person: Person, expression: Expression) -> list[Layer]:
    """Creases of the skin: round the mouth (units 6, 9, 10, 12) and between the brows (unit 4)."""
    e, skin = expression, person.skin
    cheek = 0.5 * (e.cheek_raiser + e.nose_wrinkler) + 0.4 * (e.lip_corner_puller + e.upper_lip_raiser)
    nose_x, nose_y = person.nose_width + 0.05, person.nose_y - 0.02
    mouth_x, mouth_y = 1.75 * person.mouth_width, person.mouth_y
    round_mouth = np.array([[nose_x, nose_y], [0.85 * mouth_x, (nose_y + mouth_y) / 2 - 0.03], [mouth_x, mouth_y]])
    frown_y = person.brow_y + 0.12 * e.brow_lowerer
    frown = np.array([[0.05, frown_y - 0.1], [0.045, frown_y + 0.04]])
    return [
        Layer(round_mouth, skin * (1 - 0.2 * cheek), stroke=0.035),
        Layer(frown, skin * (1 - 0.35 * e.brow_lowerer), stroke=0.035),
    ]


def _nose(person: Person, expression: Expression) -> list[Layer]:
    """Bridge, wings, nostrils; unit 9 lifts and widens it and creases the bridge."""
    wrinkle, skin = expression.nose_wrinkler, person.skin
    y, width = person.nose_y - 0.06 * wrinkle, person.nose_width * (1 + 0.3 * wrinkle)
    bridge = np.array([[-0.045, person.eye_y], [-0.055, y - 0.12], [-width, y - 0.02]])
    wings = _curve(width * np.array([-1.0, -0.8, 0.0, 0.8, 1.0]), y + np.array([-0.03, 0.02, 0.045, 0.02, -0.03]))
    nostril = np.array([[0.03, y + 0.02], [0.07, y + 0.02]])
    crease = np.array([[0.0, person.eye_y + 0.02], [0.1, person.eye_y - 0.01]])
    return [
        Layer(bridge, 0.8 * skin, "nose", 0.03),
        Layer(wings, 0.8 * skin, "nose", 0.05),
        *_both_sides([Layer(nostril, 0.35 * skin, "nose", 0.04)]),
        *_both_sides([Layer(crease + (0, down), skin * (1 - 0.5 * wrinkle), "nose", 0.03) for down in (0.0, 0.08)]),  # noqa: RUF005
    ]


def _eye(person: Person, expression: Expression) -> list[Layer]:
    """White, iris, pupil and lids; unit 5 opens it, units 6, 7 and 9 narrow it."""
    e = expression
    tight = 0.4 * e.lid_tightener + 0.5 * e.nose_wrinkler
    upper = person.eye_opening * max(0.15, 1 + 0.7 * e.upper_lid_raiser - tight)
    lower = person.eye_opening * max(0.1, 0.8 + 0.25 * e.upper_lid_raiser - tight - 0.8 * e.cheek_raiser)
    middle = np.array([person.eye_distance, person.eye_y])
    x, arch = person.eye_width * ACROSS, 1 - ACROSS**2
    layers = [Layer(_band(x, -upper * arch, lower * arch) + middle, min(0.97, person.skin + 0.35), "eyes")]
    for radius, tone in ((person.iris, person.iris_tone), (0.5 * person.iris, 0.03)):
        ball_x, ball_y = radius * CIRCLE.T
        lids = 1 - (ball_x / person.eye_width) ** 2
        layers.append(Layer(_curve(ball_x, np.clip(ball_y, -upper * lids, lower * lids)) + middle, tone, "eyes"))
    layers.append(Layer(_curve(x, -upper * arch) + middle, 0.25 * person.skin, "eyes", 0.035))
    layers.append(Layer(_curve(x, lower * arch) + middle, 0.65 * person.skin, "eyes", 0.02))
    return layers


def _brow(person: Person, expression: Expression) -> list[Layer]:
    """A band whose inner end, middle and outer end move by themselves; units 1 and 2 raise, 4 and 9 lower them."""
    raised, outer, lowered = expression.inner_brow_raiser, expression.outer_brow_raiser, expression.brow_lowerer
    inner_y = person.brow_y - 0.17 * raised + 0.17 * lowered + 0.13 * expression.nose_wrinkler
    middle_y = person.brow_y - person.brow_arch - 0.07 * raised - 0.13 * outer + 0.08 * lowered
    outer_y = person.brow_y + 0.03 - 0.14 * outer + 0.02 * lowered
    inner_x = person.eye_distance - person.brow_width - 0.05 * lowered
    along = (ACROSS + 1) / 2  # 0 at the inner end, 1 at the outer one
    x = inner_x + (person.eye_distance + person.brow_width - inner_x) * along
    # The parabola through the three heights.
    y = (1 - along) * (1 - 2 * along) * inner_y + 4 * along * (1 - along) * middle_y + along * (2 * along - 1) * outer_y
    half = person.brow_thickness * (1 - 0.6 * along)
    return [Layer(_band(x, y - half, y + half), person.brow_tone * person.skin, "brows")]


def _mouth(person: Person, expression: Expression) -> list[Layer]:
    """Lips, the opening between them, the upper teeth and the line where the lips meet."""
    e = expression
    wider = 0.4 * e.lip_corner_puller + 0.35 * e.lip_stretcher - 0.2 * e.lip_tightener - 0.25 * e.jaw_drop
    corner = -0.17 * e.lip_corner_puller + 0.15 * e.lip_corner_depressor + 0.1 * e.lip_stretcher
    up = 0.01 * e.lips_part + 0.11 * e.upper_lip_raiser
    down = 0.1 * e.lips_part + 0.09 * e.lower_lip_depressor + 0.3 * e.jaw_drop
    lip = person.lips * (1 - 0.6 * e.lip_tightener)
    x, bow = person.mouth_width * (1 + wider) * ACROSS, (1 - ACROSS**2) ** 0.6
    line = person.mouth_y + corner * (ACROSS**2 - 0.4)
    top = line - up * bow * (1 + 0.7 * person.sneer * ACROSS)
    bottom = line + down * bow
    lips = person.lip_tone * person.skin
    return [
        Layer(_band(x, top - lip * bow, bottom + 1.2 * lip * bow), lips, "mouth"),
        Layer(_band(x, top, bottom), 0.1, "mouth"),
        Layer(_band(0.9 * x, top, np.minimum(bottom, top + 0.09 * bow)), 0.9, "mouth"),
        Layer(_curve(x, top), 0.35 * lips, "mouth", 0.03),
    ]
