"""How a detector's boxes lie in FER-2013's frame, and which faces it finds at which threshold. Prints Markdown.

    python -m benchmarks.framing fit --data fer2013:PATH [--photo FILE:FACES]...
    python -m benchmarks.framing check --data fer2013:PATH [--model NAME|FILE.onnx]
    python -m benchmarks.framing test --data fer2013:PATH --model NAME|FILE.onnx
    python -m benchmarks.framing scenes --data fer2013:PATH --model NAME|FILE.onnx,... --detector NAME

A scene is a picture of FER-2013 in a field of grey (``mien/data/scenes.py``).
``fit`` looks at scenes of Training pictures, at fields without a face and at photographs. ``check`` measures the
framing in force, and its neighbours, on validation. The detectors' ``framing`` and thresholds are chosen from these
tables. ``test`` measures the framing in force on PrivateTest, once. ``scenes`` measures on validation what networks
answer of upright and turned faces, and how often when the frame moves. The record of what came is
``docs/decisions/0004-framing.md``.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from mien.data import FaceSamples, Split, read_samples
from mien.data.scenes import FIELD, GREY, SIDE, compose_scene
from mien.errors import CallError, MienError
from mien.evaluation import scenes
from mien.evaluation.predictor import open_predictor
from mien.face.crop import Framing, crop_face
from mien.face.detect import Detection, FaceDetector, create_detector
from mien.face.detect.base import THRESHOLD
from mien.face.images import read_image
from mien.face.network import EmotionNetwork
from mien.face.result import Box

OTHER_SIDES = (48, 96, 320)
"""Where the framing is looked at as well, on a quarter of the scenes."""

LEAST = 0.2
"""libfacedetection reports nothing less confident."""

ANGLES = (0.0, 10.0, 20.0, 30.0, 45.0)

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

NEIGHBOURS = (
    (1.0, 0.0, 0.0),
    (0.9, 0.0, 0.0),
    (0.95, 0.0, 0.0),
    (1.05, 0.0, 0.0),
    (1.1, 0.0, 0.0),
    (1.15, 0.0, 0.0),
    (1.0, 0.0, -0.03),
    (1.0, 0.0, 0.03),
)
"""Framings that ``check`` measures: a factor of the scale in force, and shifts to the right and down, in boxes."""

Pixels = NDArray[np.uint8]

app = typer.Typer(add_completion=False, help=__doc__)

Data = Annotated[str, typer.Option("--data", metavar="SPEC")]
Count = Annotated[int, typer.Option("--count", min=8, help="Scenes, drawn at random with seed 0.")]
Name = Annotated[str, typer.Option("--detector", metavar="NAME")]


@dataclass(frozen=True)
class Look:
    """What a detector found in a scene.

    Attributes:
        face: of FER-2013, ``(48, 48)``.
        scene: that shows it, ``(FIELD, FIELD)``.
        label: its emotion.
        place: where it lies in the scene.
        box: the most confident one whose centre lies in the place.
        confidence: of that box; 0 where there is none, and the box is empty.
        others: confidences of all other boxes.
    """

    face: Pixels
    scene: Pixels
    label: int
    place: Box
    box: Box
    confidence: float
    others: tuple[float, ...]


@app.command()
def fit(
    data: Data,
    photo: Annotated[
        list[str] | None, typer.Option("--photo", metavar="FILE:FACES", help="A photograph, and its faces: a number.")
    ] = None,
    count: Count = 2000,
    detector: Name = "libfacedetection",
    threshold: Annotated[float, typer.Option("--threshold", help="Of the boxes that are fitted.")] = THRESHOLD,
) -> None:
    """Measure boxes on Training pictures, and what is found where there is no face."""
    finder = create_detector(detector, threshold=LEAST)
    photos = [_photo(each) for each in photo or []]
    samples = read_samples(data)
    looks = {side: look(samples, Split.TRAINING, most, finder, side) for side, most in _counts(count).items()}
    _print_fit(looks, threshold)
    fields = {
        "grey noise": noise_fields(count // 4),
        "shuffled faces": shuffled_scenes(samples, count // 4),
        **({"backgrounds": backgrounds(photos, finder, count // 4)} if photos else {}),
    }
    _print_thresholds(looks, {name: _confidences(pictures, finder) for name, pictures in fields.items()})
    _print_photos(photos, finder)


@app.command()
def check(
    data: Data,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME|FILE", help="Measures accuracy too.")] = None,
    count: Count = 2000,
    detector: Name = "libfacedetection",
) -> None:
    """Measure the framing in force, and its neighbours, on validation."""
    _print_crops(read_samples(data), Split.VALIDATION, count, create_detector(detector), model, NEIGHBOURS)


@app.command("test")
def measure_test(
    data: Data,
    model: Annotated[str, typer.Option("--model", metavar="NAME|FILE")],
    detector: Name = "libfacedetection",
) -> None:
    """Measure the framing in force on all of PrivateTest. Once, when nothing is left to choose."""
    samples = read_samples(data)
    every = len(samples.split(Split.PRIVATE_TEST))
    _print_crops(samples, Split.PRIVATE_TEST, every, create_detector(detector), model, NEIGHBOURS[:1])


@app.command("scenes")
def measure_scenes(
    data: Data,
    model: Annotated[str, typer.Option("--model", metavar="NAME|FILE,...")],
    count: Count = 2000,
    detector: Name = "libfacedetection",
) -> None:
    """Measure scene accuracy on validation, by angle."""
    samples, finder = read_samples(data), create_detector(detector)
    print("| network | turned by | scenes | found | accuracy of these | as given | answers that change |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for name in model.split(","):
        predictor = open_predictor(Path(name))
        for each in scenes.measure_scenes(predictor, samples, Split.VALIDATION, finder, ANGLES, count):
            low, high = each.accuracy_ci95
            accuracy = f"{each.accuracy:.1%} [{low:.1%}, {high:.1%}]"
            cells = (
                f"{each.scenes:,}",
                f"{each.found:.1%}",
                accuracy,
                f"{each.accuracy_given:.1%}",
                f"{each.changed:.1%}",
            )
            print(f"| {name} | {each.angle:g} | {' | '.join(cells)} |", flush=True)


def _counts(count: int) -> dict[int, int]:
    """Side of the face -> scenes."""
    return {SIDE: count, **dict.fromkeys(OTHER_SIDES, count // 4)}


def look(samples: FaceSamples, split: Split, count: int, finder: FaceDetector, side: int = SIDE) -> list[Look]:
    """Let a detector look at ``count`` scenes of a split, the same ones for every detector."""
    positions = np.random.default_rng(0).permutation(samples.split(split))[:count]
    return [_look(samples, int(position), finder, side) for position in positions]


def _look(samples: FaceSamples, position: int, finder: FaceDetector, side: int) -> Look:
    face = np.array(samples.images[position])
    seen = scenes.look(face, int(samples.rows[position]), finder, side=side)
    hit = seen.hit or Detection(Box(0, 0, 0, 0), 0.0)
    left, top = seen.scene.matrix[:, 2].round().astype(int).tolist()
    label = int(samples.labels[position])
    return Look(face, seen.scene.pixels, label, Box(left, top, side, side), hit.box, hit.confidence, seen.others)


def noise_fields(count: int) -> Iterator[Pixels]:
    """Grey noise of a standard deviation of 50, from fine to coarse."""
    random = np.random.default_rng(0)
    for _ in range(count):
        noise = random.normal(size=(FIELD, FIELD)).astype(np.float32)
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), float(2 ** random.uniform(-1, 5))), np.float32)
        yield np.clip(GREY + 50 * (noise - noise.mean()) / noise.std(), 0, 255).astype(np.uint8)


def shuffled_scenes(samples: FaceSamples, count: int) -> Iterator[Pixels]:
    """Scenes of Training pictures whose blocks of a sixth of the side have changed places."""
    random = np.random.default_rng(0)
    for position in random.permutation(samples.split(Split.TRAINING))[:count]:
        block = samples.size // 6
        face = samples.images[position][: 6 * block, : 6 * block]
        blocks = face.reshape(6, block, 6, block).swapaxes(1, 2).reshape(36, block, block)  # (36, b, b)
        mixed = random.permutation(blocks).reshape(6, 6, block, block).swapaxes(1, 2)
        yield compose_scene(mixed.reshape(6 * block, 6 * block), int(samples.rows[position])).pixels


@dataclass(frozen=True)
class Photo:
    """A photograph ``(H, W, 3)`` and how many faces a person sees in it."""

    name: str
    pixels: Pixels
    faces: int


def _photo(text: str) -> Photo:
    path, _, faces = text.rpartition(":")
    if not path or not faces.isdigit():
        raise CallError(f"expected a photograph and its number of faces, such as group.jpg:3, got {text!r}")
    return Photo(Path(path).stem, read_image(path), int(faces))


def backgrounds(photos: Sequence[Photo], finder: FaceDetector, count: int) -> Iterator[Pixels]:
    """Square windows of photographs, of an eighth to half of the shorter side, that touch none of their faces.

    The faces of a photograph are its most confident boxes, as many as a person sees; look at them once.
    """
    random = np.random.default_rng(0)
    faces = [[found.box for found in finder.detect(photo.pixels)[: photo.faces]] for photo in photos]
    while count > 0:
        number = int(random.integers(len(photos)))
        height, width = photos[number].pixels.shape[:2]
        side = int(min(height, width) * 2 ** random.uniform(-3, -1))
        x, y = int(random.integers(width - side + 1)), int(random.integers(height - side + 1))
        if not any(_touch(Box(x, y, side, side), face) for face in faces[number]):
            count -= 1
            yield photos[number].pixels[y : y + side, x : x + side]


def _touch(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def _confidences(pictures: Iterator[Pixels], finder: FaceDetector) -> list[tuple[float, ...]]:
    """Of what is found in each picture."""
    return [tuple(found.confidence for found in finder.detect(picture)) for picture in pictures]


def fit_framing(looks: Sequence[Look]) -> dict[str, NDArray[np.float64]]:
    """What the framing must be for each face that was found, ``(N,)`` each; the medians make a ``Framing``."""
    boxes = np.array([each.box for each in looks], np.float64)  # (N, 4)
    places = np.array([each.place for each in looks], np.float64)
    corner, size, side = boxes[:, :2], boxes[:, 2:], places[:, 2]
    shift = (places[:, :2] + side[:, None] / 2 - corner - size / 2) / size  # (N, 2), in sides of the box
    return {
        "scale": side / np.sqrt(size.prod(1)),
        "by width": side / size[:, 0],
        "by height": side / size[:, 1],
        "right": shift[:, 0],
        "down": shift[:, 1],
    }


def _print_fit(looks: dict[int, list[Look]], threshold: float) -> None:
    print(f"Boxes from {threshold:g} on in scenes of Training; medians, and in brackets the middle half.\n")
    print("| face, px | scenes | side / sqrt(area) | side / width | side / height | right, widths | down, heights |")
    print("|---:|---:|---|---|---|---|---|")
    for side, seen in looks.items():
        found = [each for each in seen if each.confidence >= threshold]
        cells = [_middle(values) for values in fit_framing(found).values()] if found else ["none found"]
        print(f"| {side} | {len(seen):,} | {' | '.join(cells)} |")


def _middle(values: NDArray[np.float64]) -> str:
    low, median, high = np.percentile(values, (25, 50, 75))
    return f"{median:.3f} [{low:.3f}, {high:.3f}]"


def _print_thresholds(looks: dict[int, list[Look]], fields: dict[str, list[tuple[float, ...]]]) -> None:
    counts = ", ".join(f"{len(found):,} of {name}" for name, found in fields.items())
    print(f"\nShare of the faces found, and false boxes: in a thousand scenes, and in a thousand fields ({counts}).\n")
    print(f"| threshold | {' | '.join(f'faces of {side} px' for side in looks)} | in scenes | {' | '.join(fields)} |")
    print(f"|---:|{(len(looks) + 1 + len(fields)) * '---:|'}")
    for threshold in THRESHOLDS:
        shares = [np.mean([each.confidence >= threshold for each in seen]) for seen in looks.values()]
        others = ([each.others for each in looks[SIDE]], *fields.values())
        false = [1000 * np.mean([sum(value >= threshold for value in each) for each in found]) for found in others]
        cells = [*(f"{share:.1%}" for share in shares), *(f"{rate:.1f}" for rate in false)]
        print(f"| {threshold} | {' | '.join(cells)} |")


def _print_photos(photos: Sequence[Photo], finder: FaceDetector) -> None:
    for photo in photos:
        for words, pixels in (("", photo.pixels), (", mirrored", photo.pixels[:, ::-1])):
            confidences = [f"{found.confidence:.2f}" for found in finder.detect(pixels)]
            faces, rest = confidences[: photo.faces], confidences[photo.faces :]
            print(f"\n{photo.name}{words}: faces {', '.join(faces)}; else {', '.join(rest) or 'nothing'}")


def _print_crops(
    samples: FaceSamples,
    split: Split,
    count: int,
    finder: FaceDetector,
    model: str | None,
    changes: Sequence[tuple[float, float, float]],
) -> None:
    """How the crops of faces that were found compare with the pictures themselves."""
    if finder.framing is None:
        raise CallError(f"the detector {finder.name} has no framing; choose another")
    looks = look(samples, split, count, finder)
    found = [each for each in looks if each.confidence > 0]
    network = EmotionNetwork(model) if model is not None else None
    print(f"`{finder.name}`, {len(looks):,} scenes of {split}: {len(found) / len(looks):.1%} of the faces were found,")
    print(f"and {sum(len(each.others) for each in looks)} other boxes.\n")
    if network is not None:
        given = _accuracy(network, found, lambda each: crop_face(each.face, size=network.size))
        exact = _accuracy(network, found, lambda each: crop_face(each.scene, each.place, network.size))
        print(f"Accuracy on the faces that were found: {given:.2%} of the given crops,")
        print(f"{exact:.2%} of crops at the face's true place.\n")
    print("| scale | right | down | side / true side | too far right, px of 48 | too far down | overlap | accuracy |")
    print("|---:|---:|---:|---|---|---|---|---:|")
    for factor, right, down in changes:
        now = finder.framing
        framing = Framing(round(now.scale * factor, 4), round(now.right + right, 4), round(now.down + down, 4))
        cells = [f"{value:g}" for value in (framing.scale, framing.right, framing.down)]
        cells += [_middle(values) for values in judge_framing(framing, found)]
        cells.append("not measured" if network is None else f"{_detected_accuracy(network, found, framing):.2%}")
        print(f"| {' | '.join(cells)} |", flush=True)


def judge_framing(framing: Framing, looks: Sequence[Look]) -> list[NDArray[np.float64]]:
    """Side over the true side, shift right and down in 48ths of it, intersection over union: ``(N,)`` each."""
    frames = np.array([framing.frame(each.box) for each in looks], np.float64)  # (N, 4)
    places = np.array([each.place for each in looks], np.float64)
    low, high = np.maximum(frames[:, :2], places[:, :2]), np.minimum(_ends(frames), _ends(places))
    common = np.clip(high - low, 0, None).prod(1)
    overlap = common / (frames[:, 2] ** 2 + places[:, 2] ** 2 - common)
    shift = (frames[:, :2] + _ends(frames) - places[:, :2] - _ends(places)) / 2 * (48 / places[:, 2:])  # (N, 2)
    return [frames[:, 2] / places[:, 2], shift[:, 0], shift[:, 1], overlap]


def _ends(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower right corners: ``(N, 4) -> (N, 2)``."""
    return boxes[:, :2] + boxes[:, 2:]


def _detected_accuracy(network: EmotionNetwork, looks: Sequence[Look], framing: Framing) -> float:
    return _accuracy(network, looks, lambda each: crop_face(each.scene, each.box, network.size, framing))


def _accuracy(network: EmotionNetwork, looks: Sequence[Look], crop: Callable[[Look], Pixels]) -> float:
    labels = np.array([each.label for each in looks])
    probabilities = network.probabilities(np.stack([crop(each) for each in looks]))  # (N, 7)
    return float((probabilities.argmax(1) == labels).mean())


if __name__ == "__main__":
    try:
        app()
    except MienError as error:
        sys.exit(str(error))
