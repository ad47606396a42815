"""How accuracy falls as faces get small, dark, bright, flat, blurred or cut off. Prints Markdown.

    python -m benchmarks.quality --model RUN --data fer2013:PATH

Validation pictures are spoilt in one way at a time; a row states the median of what ``mien.face.quality`` measures of
them and the accuracy of the run's weights. The scales of ``SCALES`` are read off these rows.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from mien.data import Split, read_samples
from mien.evaluation.predictor import predict_logits
from mien.face.quality import SCALES, face_quality, measure_face
from mien.face.result import Box
from mien.runs import load_run
from mien.runs.checkpoint import load_checkpoint

Face = NDArray[np.uint8]
Spoilt = tuple[Face, Box, Face]
"""A picture, the face's box in it, and the 48x48 pixels that the network sees."""


def main(
    model: Annotated[Path, typer.Option("--model", help="A finished run.")],
    data: Annotated[str, typer.Option("--data")],
    count: Annotated[int, typer.Option("--count", help="Validation pictures, drawn at random with seed 0.")] = 1500,
) -> None:
    """Measure and print."""
    samples = read_samples(data)
    classifier = load_checkpoint(load_run(model).best_checkpoint).classifier()
    positions = np.random.default_rng(0).permutation(samples.split(Split.VALIDATION))[:count]
    faces, labels = samples.images[positions], samples.labels[positions]

    def accuracy(shown: list[Face]) -> float:
        return float((predict_logits(classifier, np.stack(shown))[0].argmax(1) == labels).mean())

    whole = Box(0, 0, 48, 48)
    unreliable = sum(bool(face_quality(face, whole).reasons) for face in faces)
    print(f"{len(faces)} pictures, accuracy {accuracy(list(faces)):.3f}; {unreliable} of them are judged unreliable.\n")
    print("| aspect | spoilt by | measured, median | accuracy | scale |\n|---|---|---|---|---|")
    for aspect, how, spoil in _ways():
        spoilt = [spoil(face) for face in faces]
        measured = [measure_face(picture, box)[aspect] for picture, box, _ in spoilt]
        scale = SCALES[aspect]
        print(
            f"| {aspect} | {how} | {np.median(measured):.2f} | {accuracy([face for _, _, face in spoilt]):.3f}"
            f" | {scale.useless:g}, {scale.doubtful:g}, {scale.good:g} |",
            flush=True,
        )


def _ways() -> Iterator[tuple[str, str, Callable[[Face], Spoilt]]]:
    """Aspect, how it is spoilt, and what spoils a face."""
    for aspect, words, spoil, amounts in WAYS:
        for amount in amounts:
            yield aspect, words.format(amount), partial(spoil, amount=amount)


def _brightness(face: Face, amount: float) -> Spoilt:
    return _whole(face.astype(np.float64) * amount)


def _contrast(face: Face, amount: float) -> Spoilt:
    return _whole((face - face.mean()) * amount + face.mean())


def _blur(face: Face, amount: float) -> Spoilt:
    return _whole(cv2.GaussianBlur(face, (0, 0), amount, borderType=cv2.BORDER_REPLICATE))


def _whole(levels: NDArray[Any]) -> Spoilt:
    shown = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    return shown, Box(0, 0, 48, 48), shown


def _small(face: Face, amount: int) -> Spoilt:
    picture = np.asarray(cv2.resize(face, (amount, amount), interpolation=cv2.INTER_AREA), np.uint8)
    seen = np.asarray(cv2.resize(picture, (48, 48), interpolation=cv2.INTER_LINEAR), np.uint8)
    return picture, Box(0, 0, amount, amount), seen


def _cut(face: Face, amount: float) -> Spoilt:
    """Left, top, right or bottom, by the face's own pixels."""
    lost = round(48 * amount)
    turns = int(face.sum() % 4)
    turned = np.rot90(face, turns)
    kept = np.ascontiguousarray(np.rot90(turned[:, lost:], -turns))
    x, y = (-lost if turns == 0 else 0), (-lost if turns == 1 else 0)
    seen = np.rot90(np.concatenate([np.repeat(turned[:, lost : lost + 1], lost, axis=1), turned[:, lost:]], 1), -turns)
    return kept, Box(x, y, 48, 48), np.ascontiguousarray(seen)


WAYS: tuple[tuple[str, str, Callable[..., Spoilt], Sequence[float]], ...] = (
    ("small", "{} px", _small, (8, 12, 16, 20, 24, 32, 40, 48)),
    ("dark", "grey levels x {}", _brightness, (0.1, 0.2, 0.25, 0.3, 0.5, 0.6)),
    ("overexposed", "grey levels x {}", _brightness, (1.25, 1.5, 2.0, 3.0)),
    ("low contrast", "contrast x {}", _contrast, (0.1, 0.2, 0.3, 0.4, 0.6)),
    ("blurred", "Gaussian, sigma {} px of 48", _blur, (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)),
    ("cut off", "{:.0%} on one side", _cut, (0.1, 0.2, 0.3, 0.35, 0.4, 0.5)),
)
"""Aspect, words for an amount, what spoils a face by it, and the amounts."""


if __name__ == "__main__":
    typer.run(main)
