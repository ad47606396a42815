"""How accuracy falls as images are corrupted: the robustness report.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261 (ImageNet-C), whose kinds and five severities these follow.
Deviations: the amounts are for faces of 48x48 pixels; darkness is a factor; low resolution, hidden bands, rotation,
shift and scale are added; results are stated as accuracy and as its fraction of the clean accuracy.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Split
from mien.errors import DataError
from mien.evaluation import metrics
from mien.evaluation.people import people_of
from mien.evaluation.predictor import Predictor
from mien.evaluation.significance import accuracy_interval
from mien.face.crop import EYES, MOUTH
from mien.files import write_text

Face = NDArray[np.uint8]
Corrupt = Callable[[Face, float, np.random.Generator], NDArray[Any]]
"""A face ``(S, S[, 3])``, an amount and a generator -> the corrupted face; levels are clipped afterwards."""

ROBUSTNESS = "robustness.json"


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt images: words for plots, ``unit`` with ``{}`` for an amount, amounts of severities 1 to 5."""

    title: str
    unit: str
    amounts: tuple[float, float, float, float, float]
    apply: Corrupt


class CorruptionResult(TypedDict):
    """What a corruption costs: accuracy at each severity, and its mean as a fraction of the clean accuracy."""

    amounts: list[float]
    accuracy: list[float]
    relative: float | None


class RobustnessReport(TypedDict):
    """The content of ``robustness.json``: ``n`` images, their clean accuracy, and what is left of it on average."""

    n: int
    clean: float
    clean_ci95: list[float]
    corruptions: dict[str, CorruptionResult]
    relative: float | None


def corrupt(images: NDArray[np.uint8], corruption: Corruption, severity: int, seed: int = 0) -> NDArray[np.uint8]:
    """Faces ``(N, S, S[, 3])`` corrupted at a severity of 1 to 5; each face's chance follows from seed and index."""
    amount = corruption.amounts[severity - 1]
    corrupted = [
        np.clip(np.round(corruption.apply(face, amount, np.random.default_rng((seed, severity, at)))), 0, 255)
        for at, face in enumerate(images)
    ]
    return np.stack(corrupted).astype(np.uint8)


def measure_robustness(predictor: Predictor, samples: FaceSamples) -> RobustnessReport:
    """A network's accuracy on clean faces and at every severity of every corruption.

    It is measured on validation, since choices may follow from it.

    Raises:
        DataError: the data have no validation split, or their faces are of another size than the network's.
    """
    samples = samples.with_classes(predictor.report.classes)
    indices = predictor.indices(samples, Split.VALIDATION)
    images, labels = samples.images[indices], samples.labels[indices]

    def accuracy(faces: NDArray[np.uint8]) -> float:
        return metrics.METRICS["accuracy"](labels, predictor.predict(faces)[0])

    correct = predictor.predict(images)[0].argmax(1) == labels
    clean = float(correct.mean())
    people = people_of(None if samples.groups is None else samples.groups[indices])
    found: dict[str, CorruptionResult] = {}
    for name, corruption in CORRUPTIONS.items():
        rates = [accuracy(corrupt(images, corruption, severity)) for severity in range(1, 6)]
        found[name] = {
            "amounts": list(corruption.amounts),
            "accuracy": rates,
            "relative": float(np.mean(rates) / clean) if clean else None,
        }
    relative = [each["relative"] for each in found.values() if each["relative"] is not None]
    return {
        "n": len(labels),
        "clean": clean,
        "clean_ci95": list(accuracy_interval(correct, people)),
        "corruptions": found,
        "relative": float(np.mean(relative)) if relative else None,
    }


def save_robustness(folder: Path, report: RobustnessReport) -> None:
    """Write ``robustness.json`` into a folder."""
    write_text(folder / ROBUSTNESS, json.dumps(report, indent=1) + "\n")


def load_robustness(folder: Path) -> RobustnessReport | None:
    """The robustness report in a folder, or ``None`` where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = folder / ROBUSTNESS
    if not path.exists():
        return None
    try:
        report: RobustnessReport = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); measure again: mien evaluate RUN --robustness") from error
    return report


def weakest(report: RobustnessReport) -> str:
    """Name of the corruption that costs the most."""
    found = report["corruptions"]
    return min(found, key=lambda name: found[name]["relative"] or 0.0)


def _blur(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), amount, borderType=cv2.BORDER_REPLICATE))


def _jpeg(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    stored = face if face.ndim == 2 else cv2.cvtColor(face, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, int(amount)])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))
    return decoded if face.ndim == 2 else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _shrink(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    side = max(1, round(len(face) * amount / 48))
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (len(face), len(face)), interpolation=cv2.INTER_LINEAR))


def _hide(face: Face, amount: float, _chance: np.random.Generator, *, band: tuple[float, float]) -> NDArray[Any]:
    """Cover the middle of a band, ``amount`` of its width, with the image's mean."""
    height, width = face.shape[:2]
    top, bottom = (round(height * edge) for edge in band)
    left = round(width * (1 - amount) / 2)
    covered = face.astype(np.float64)
    covered[top:bottom, left : width - left] = face.mean()
    return covered


def _rotate(face: Face, amount: float, chance: np.random.Generator) -> NDArray[Any]:
    return _moved(face, angle=amount * _sign(chance))


def _shift(face: Face, amount: float, chance: np.random.Generator) -> NDArray[Any]:
    direction = chance.uniform(0, 2 * np.pi)
    distance = amount * len(face) / 48
    return _moved(face, right=distance * np.cos(direction), down=distance * np.sin(direction))


def _scale(face: Face, amount: float, chance: np.random.Generator) -> NDArray[Any]:
    return _moved(face, zoom=(1 + amount) ** _sign(chance))


def _sign(chance: np.random.Generator) -> float:
    return float(chance.choice([-1.0, 1.0]))


def _moved(face: Face, angle: float = 0.0, zoom: float = 1.0, right: float = 0.0, down: float = 0.0) -> NDArray[Any]:
    """Turned by degrees and enlarged about the middle, then shifted by pixels; the edge is repeated."""
    height, width = face.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
    matrix[:, 2] += np.array([right, down])
    moved = cv2.warpAffine(face, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved)


CORRUPTIONS: dict[str, Corruption] = {
    "blur": Corruption("Blur", "sigma {:g} px", (0.5, 0.75, 1.0, 1.5, 2.0), _blur),
    "noise": Corruption(
        "Noise", "deviation {:g}", (6, 12, 20, 32, 48),
        lambda face, amount, chance: face + chance.normal(0, amount, face.shape),
    ),
    "jpeg": Corruption("JPEG", "quality {:g}", (60, 40, 25, 15, 7), _jpeg),
    "darkness": Corruption(
        "Darkness", "levels x {:g}", (0.7, 0.5, 0.35, 0.2, 0.1), lambda face, amount, _chance: face * amount
    ),
    "contrast": Corruption(
        "Low contrast", "contrast x {:g}", (0.7, 0.5, 0.35, 0.2, 0.1),
        lambda face, amount, _chance: face.mean() + (face - face.mean()) * amount,
    ),
    "resolution": Corruption("Low resolution", "{:g} px", (36, 24, 18, 12, 8), _shrink),
    "eyes": Corruption("Eyes hidden", "{:.0%} of the band", (0.2, 0.4, 0.6, 0.8, 1.0), partial(_hide, band=EYES)),
    "mouth": Corruption("Mouth hidden", "{:.0%} of the band", (0.2, 0.4, 0.6, 0.8, 1.0), partial(_hide, band=MOUTH)),
    "rotation": Corruption("Rotation", "{:g} degrees", (5, 10, 15, 25, 40), _rotate),
    "shift": Corruption("Shift", "{:g} px", (1, 2, 4, 6, 9), _shift),
    "scale": Corruption("Scale", "{:.0%}", (0.05, 0.1, 0.2, 0.3, 0.5), _scale),
}  # fmt: skip
"""Name in a robustness report -> what is done to the faces. Amounts in pixels are of a face of 48."""
