"""Single predictions to look at: sure and right, sure and wrong, and ordinary mistakes, as faces or as row numbers."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.evaluation.predict import Predictions

LARGEST = 96
"""Side in pixels above which a face is made smaller, to keep pages light."""


@dataclass(frozen=True)
class Sample:
    """One prediction.

    Attributes:
        row: the face's number in its data set.
        label: name of the emotion that the data set gives it.
        prediction: name of the emotion that the network gives it.
        confidence: probability of the prediction, in [0, 1].
        picture: ``data:`` address of a PNG, or ``None`` where no face is to be shown.
    """

    row: int
    label: str
    prediction: str
    confidence: float
    picture: str | None = None

    @property
    def right(self) -> bool:
        """Whether label and prediction agree."""
        return self.label == self.prediction


@dataclass(frozen=True)
class SampleGroup:
    """Predictions of one kind; ``caption`` says how they were chosen."""

    title: str
    caption: str
    samples: tuple[Sample, ...]


def sample_groups(predictions: Predictions, faces: FaceSamples | None = None, each: int = 14) -> list[SampleGroup]:
    """Predictions worth a look, chosen by rule; kinds without any are left out.

    Args:
        predictions: of one split.
        faces: the data set; without it, or where its rows and labels are not those of the predictions, there are
            no pictures.
        each: how many of a kind.
    """
    images = None if faces is None else _images(predictions, faces)

    def group(title: str, caption: str, chosen: Sequence[int]) -> SampleGroup:
        made = (_sample(predictions, at, None if images is None else images[at]) for at in chosen)
        return SampleGroup(title, caption, tuple(made))

    confidence = predictions.probabilities.max(1)
    right = predictions.probabilities.argmax(1) == predictions.label
    mistakes = np.flatnonzero(~right)
    mistakes = mistakes[np.argsort(-confidence[mistakes], kind="stable")]
    parts = min(each, len(mistakes))
    even = mistakes[((np.arange(parts) + 0.5) * len(mistakes) / max(parts, 1)).astype(np.int64)]  # the parts' middles
    groups = [
        group(
            "Right, and sure of it",
            "The most confident right answers of each emotion that has any.",
            _surest_of_each(predictions.label, confidence, right, each),
        ),
        group(
            "Ordinary mistakes",
            "All mistakes in the order of their confidence, one taken at every equal step.",
            even.tolist(),
        ),
        group(
            "Most confident mistakes",
            "Where the network is surest and the label says otherwise: hard faces, and doubtful labels.",
            mistakes[:each].tolist(),
        ),
    ]
    return [found for found in groups if found.samples]


def _surest_of_each(
    labels: NDArray[np.int8], confidence: NDArray[np.float32], right: NDArray[np.bool_], each: int
) -> list[int]:
    """Positions of about ``each`` right answers, shared out among the emotions."""
    chosen: list[int] = []
    for label in range(len(EMOTIONS)):
        of_label = np.flatnonzero(right & (labels == label))
        surest = of_label[np.argsort(-confidence[of_label], kind="stable")]
        chosen += surest[: max(1, each // len(EMOTIONS))].tolist()
    return chosen


def _images(predictions: Predictions, faces: FaceSamples) -> NDArray[np.uint8] | None:
    """The predicted faces ``(N, S, S)``, or ``None`` where ``faces`` are other data."""
    places = np.searchsorted(faces.rows, predictions.row)  # (N,)
    if places.max() == len(faces) or (faces.rows[places] != predictions.row).any():
        return None
    same = (faces.labels[places] == predictions.label).all()
    return faces.images[places] if same else None


def _sample(predictions: Predictions, at: int, image: NDArray[np.uint8] | None) -> Sample:
    probabilities = predictions.probabilities[at]  # (7,)
    return Sample(
        row=int(predictions.row[at]),
        label=EMOTIONS[predictions.label[at]].value,
        prediction=EMOTIONS[probabilities.argmax()].value,
        confidence=float(probabilities.max()),
        picture=None if image is None else png_address(image),
    )


def png_address(image: NDArray[np.uint8]) -> str:
    """A grey face ``(S, S)`` as the ``data:`` address of a PNG, made smaller where it is larger than ``LARGEST``."""
    picture = Image.fromarray(np.asarray(image))
    picture.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
