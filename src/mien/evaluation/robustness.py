"""How accuracy falls as pictures get worse: the robustness card.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261 (ImageNet-C), whose kinds and five severities these follow.
Deviations: the amounts are for faces of 48x48 pixels; darkness is a factor; low resolution, hidden bands, rotation,
shift and scale are added; results are stated as accuracy and as its share of the clean accuracy.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError
from mien.evaluation.metrics import Labels, Probabilities, accuracy, wilson_interval
from mien.runs import write_text

Face = NDArray[np.uint8]
Spoil = Callable[[Face, float, np.random.Generator], NDArray[Any]]
"""A face ``(S, S)``, an amount and a source of chance -> the spoilt face ``(S, S)``; levels are clipped afterwards."""

CARD = "robustness.json"

EYES = (0.22, 0.46)
MOUTH = (0.62, 0.88)
"""Bands of FER-2013's frame as shares of its height, from the top: where eyes and mouth lie in most faces."""


@dataclass(frozen=True)
class Corruption:
    """One way in which pictures get worse.

    Attributes:
        title: on the card.
        unit: words for an amount, with ``{}`` in its place.
        amounts: of severities 1 to 5.
        spoil: makes one face worse by an amount.
    """

    title: str
    unit: str
    amounts: tuple[float, float, float, float, float]
    spoil: Spoil


def corrupt(images: NDArray[np.uint8], corruption: Corruption, severity: int, seed: int = 0) -> NDArray[np.uint8]:
    """Faces ``(N, S, S)`` spoilt at a severity of 1 to 5; each face's chance follows from the seed and its place."""
    amount = corruption.amounts[severity - 1]
    spoilt = [
        np.clip(np.round(corruption.spoil(face, amount, np.random.default_rng((seed, severity, at)))), 0, 255)
        for at, face in enumerate(images)
    ]
    return np.stack(spoilt).astype(np.uint8)


def robustness_card(
    predict: Callable[[NDArray[np.uint8]], Probabilities], images: NDArray[np.uint8], labels: Labels
) -> dict[str, Any]:
    """Accuracy on clean faces and at every severity of every corruption, as JSON values.

    Args:
        predict: faces uint8 ``(N, S, S)`` to probabilities ``(N, K)``.
        images: uint8 ``(N, S, S)``, of validation: a choice may follow from the card.
        labels: ``(N,)``.

    Returns:
        ``{"n", "clean", "clean_ci95", "corruptions": {name: {"amounts", "accuracy": [5], "relative"}}, "relative"}``;
        ``relative`` is the mean accuracy over severities as a share of the clean one.
    """
    clean = accuracy(labels, predict(images))
    found = {}
    for name, corruption in CORRUPTIONS.items():
        rates = [accuracy(labels, predict(corrupt(images, corruption, severity))) for severity in range(1, 6)]
        found[name] = {
            "amounts": list(corruption.amounts),
            "accuracy": rates,
            "relative": float(np.mean(rates) / clean) if clean else None,
        }
    relative = [of["relative"] for of in found.values() if of["relative"] is not None]
    return {
        "n": len(labels),
        "clean": clean,
        "clean_ci95": list(wilson_interval(round(clean * len(labels)), len(labels))),
        "corruptions": found,
        "relative": float(np.mean(relative)) if relative else None,
    }


def store_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``robustness.json`` into a folder."""
    write_text(folder / CARD, json.dumps(card, indent=1) + "\n")


def stored_card(folder: Path) -> dict[str, Any] | None:
    """The card in a folder, or ``None`` where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = folder / CARD
    if not path.exists():
        return None
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); measure again: mien evaluate RUN --robustness") from error
    return card


def weakest(card: Mapping[str, Any]) -> str:
    """Name of the corruption that costs the most."""
    found: Mapping[str, Mapping[str, float]] = card["corruptions"]
    return min(found, key=lambda name: found[name]["relative"] or 0.0)


def _blur(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), amount, borderType=cv2.BORDER_REPLICATE))


def _noise(face: Face, amount: float, chance: np.random.Generator) -> NDArray[Any]:
    return face + chance.normal(0, amount, face.shape)


def _jpeg(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    _, encoded = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, int(amount)])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _darken(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    return face * amount


def _flatten(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    return np.asarray(face.mean() + (face - face.mean()) * amount)


def _shrink(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
    side = max(1, round(len(face) * amount / 48))
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (len(face), len(face)), interpolation=cv2.INTER_LINEAR))


def _hide(band: tuple[float, float]) -> Spoil:
    """Cover the middle of a band, ``amount`` of its width, with the picture's mean."""

    def spoil(face: Face, amount: float, _chance: np.random.Generator) -> NDArray[Any]:
        height, width = face.shape
        top, bottom = (round(height * share) for share in band)
        left = round(width * (1 - amount) / 2)
        covered = face.astype(np.float64)
        covered[top:bottom, left : width - left] = face.mean()
        return covered

    return spoil


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
    height, width = face.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
    matrix[:, 2] += np.array([right, down])
    moved = cv2.warpAffine(face, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved)


CORRUPTIONS: dict[str, Corruption] = {
    "blur": Corruption("Blur", "sigma {:g} px", (0.5, 0.75, 1.0, 1.5, 2.0), _blur),
    "noise": Corruption("Noise", "deviation {:g}", (6, 12, 20, 32, 48), _noise),
    "jpeg": Corruption("JPEG", "quality {:g}", (60, 40, 25, 15, 7), _jpeg),
    "darkness": Corruption("Darkness", "levels x {:g}", (0.7, 0.5, 0.35, 0.2, 0.1), _darken),
    "contrast": Corruption("Low contrast", "contrast x {:g}", (0.7, 0.5, 0.35, 0.2, 0.1), _flatten),
    "resolution": Corruption("Low resolution", "{:g} px", (36, 24, 18, 12, 8), _shrink),
    "eyes": Corruption("Eyes hidden", "{:.0%} of the band", (0.2, 0.4, 0.6, 0.8, 1.0), _hide(EYES)),
    "mouth": Corruption("Mouth hidden", "{:.0%} of the band", (0.2, 0.4, 0.6, 0.8, 1.0), _hide(MOUTH)),
    "rotation": Corruption("Rotation", "{:g} degrees", (5, 10, 15, 25, 40), _rotate),
    "shift": Corruption("Shift", "{:g} px", (1, 2, 4, 6, 9), _shift),
    "scale": Corruption("Scale", "{:.0%}", (0.05, 0.1, 0.2, 0.3, 0.5), _scale),
}
"""Name in a card -> what is done to the faces. Amounts in pixels are of a face of 48."""
