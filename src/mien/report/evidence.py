"""What a run has stored, read once for all its pages: results, metrics by epoch, single predictions, facts."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import runs
from mien.data import FaceSamples
from mien.evaluation.predictions import Predictions, load_split_predictions, prediction_files
from mien.evaluation.robustness import RobustnessReport, load_robustness
from mien.report import format as formats

MAX_SIDE = 96
"""Pixels; larger faces are made smaller, to keep pages light."""


@dataclass(frozen=True)
class Evidence:
    """A finished run, as its pages need it: ``result`` is of the split that the page is about, as are ``predictions``.

    What the run has not stored is empty or ``None``.
    """

    run: runs.Run
    report: runs.Report
    result: runs.SplitResult
    metrics: Sequence[runs.MetricRow]
    predictions: Predictions | None
    robustness: RobustnessReport | None
    looks: Sequence[runs.Look]
    data: FaceSamples | None = None  # whose file names stand beside rows, faces shown or not

    @property
    def test_looks(self) -> int:
        """How often the split of ``result`` was evaluated."""
        return sum(look.split == self.result.split for look in self.looks)

    @property
    def is_test_untouched(self) -> bool:
        """Whether no test split was ever evaluated."""
        return not self.looks and not any(each.is_test for each in self.report.results)

    @property
    def stored_splits(self) -> list[str]:
        """Splits whose predictions are stored, whole or as their two halves."""
        return [split for split in self.report.splits if prediction_files(self.run, split)]


def read_evidence(run: runs.Run, split: str | None = None, data: FaceSamples | None = None) -> Evidence:
    """What a finished run has stored about a split, the most final one by default; ``data`` are its own.

    Raises:
        RunError: the run is not finished, lacks the split, or is damaged.
        DataError: stored predictions or the robustness report are damaged.
    """
    report = run.load_report()
    result = (report.result(split) if split else None) or report.headline()
    return Evidence(
        run=run,
        report=report,
        result=result,
        metrics=run.load_metrics(),
        predictions=load_split_predictions(run, result.split) if prediction_files(run, result.split) else None,
        robustness=load_robustness(run.path),
        looks=run.looks(),
        data=data,
    )


_KEPT = {"best": "of the best epoch on validation", "last": "of the last epoch", "ema": "averaged over training (EMA)"}

_FACTS: Mapping[str, Sequence[tuple[str, str, Callable[[Any], str]]]] = {
    "Data": (
        ("data set", "data", formats.data_title),
        ("trained on", "trained_on", formats.data_title),
        ("protocol", "protocol", str),
        ("validation", "fold", lambda fold: f"fold {fold} of Training, counted from 0"),
        ("training images", "training_rows", formats.count),
        ("left out", "skipped", formats.count),
        ("row numbers from", "row_source", str),
        ("content hash", "data_sha256", str),
    ),
    "Network": (
        ("model", "model", str),
        ("members", "members", ", ".join),
        ("input", "input_size", lambda size: f"{size} \N{MULTIPLICATION SIGN} {size} px"),
        ("parameters", "parameters", formats.count),
        ("multiply-adds", "macs", lambda macs: f"{formats.short(macs)} for one image"),
        ("initialization", "initialization", lambda name: formats.INITIALIZATIONS.get(name, str(name))),
        ("initial weights", "pretrained", "timm's {}".format),
        ("teachers", "teachers_sha256", lambda hashes: ", ".join(f"sha256 {each[:12]}…" for each in hashes)),
        ("weights", "weights", lambda name: _KEPT.get(name, str(name))),
        ("temperature", "temperature", formats.fixed),
    ),
    "Training": (
        ("epochs", "epochs", str),
        ("batch size", "batch_size", str),
        ("seed", "seed", str),
        ("precision", "precision", str),
        ("time", "train_seconds", formats.duration),
        ("energy", "energy_joules", formats.energy),
        ("speed", "pictures_per_second", lambda speed: f"{formats.count(speed)} images/s"),
        ("recipe hash", "recipe_sha256", str),
    ),
    "Machine": (
        ("machine", "machine", str),
        ("device", "device", str),
        ("processes", "processes", str),
        ("threads", "threads", str),
        ("mien", "mien_version", str),
        ("Python", "python_version", str),
        ("PyTorch", "torch_version", str),
    ),
}
"""Heading -> name on the page, attribute of the report, format."""


def run_facts(report: runs.Report) -> list[tuple[str, list[tuple[str, str]]]]:
    """What was done, with what, where: heading, and names with values; what a report does not say is left out."""
    return [
        (heading, [(name, text(getattr(report, key))) for name, key, text in lines if getattr(report, key) is not None])
        for heading, lines in _FACTS.items()
    ]


@dataclass(frozen=True)
class Sample:
    """A prediction on a row of the data set.

    ``picture`` is the ``data:`` address of its face, if that is shown, and ``file`` where the row comes from.
    """

    row: int
    label: str
    prediction: str
    confidence: float
    picture: str | None = None
    file: str | None = None

    @property
    def correct(self) -> bool:
        """Whether label and prediction agree."""
        return self.label == self.prediction


@dataclass(frozen=True)
class SampleGroup:
    """Predictions of one kind: ``confident_correct``, ``even_mistakes`` or ``confident_mistakes``."""

    kind: str
    samples: tuple[Sample, ...]


def sample_groups(
    predictions: Predictions, faces: FaceSamples | None = None, each: int = 14, *, data: FaceSamples | None = None
) -> list[SampleGroup]:
    """Predictions worth a look, chosen by rule; kinds without any are left out.

    They are the most confident correct answers of each class, mistakes at equal steps in the order of their
    confidence, and the most confident mistakes; about ``each`` of a kind. Without ``faces``, or where their rows and
    labels are not those of the predictions, there are no pictures. ``data`` names the files, by default ``faces``.
    """
    data = faces if data is None else data
    places = None if data is None else _places(predictions, data)
    confidence = predictions.probabilities.max(1)
    correct = predictions.probabilities.argmax(1) == predictions.label
    mistakes = np.flatnonzero(~correct)
    mistakes = mistakes[np.argsort(-confidence[mistakes], kind="stable")]
    parts = min(each, len(mistakes))
    even = mistakes[((np.arange(parts) + 0.5) * len(mistakes) / max(parts, 1)).astype(np.int64)]  # the parts' middles
    chosen = {
        "confident_correct": _surest_of_each(predictions, confidence, correct, each),
        "even_mistakes": even.tolist(),
        "confident_mistakes": mistakes[:each].tolist(),
    }

    def sample(at: int) -> Sample:
        return Sample(
            row=int(predictions.row[at]),
            label=predictions.classes[predictions.label[at]],
            prediction=predictions.classes[predictions.probabilities[at].argmax()],
            confidence=float(confidence[at]),
            picture=None if faces is None or places is None else face_address(faces.images[places[at]]),
            file=None if data is None or places is None or data.paths is None else data.paths[int(places[at])],
        )

    return [SampleGroup(kind, tuple(map(sample, indices))) for kind, indices in chosen.items() if indices]


def _surest_of_each(
    predictions: Predictions, confidence: NDArray[np.float32], correct: NDArray[np.bool_], each: int
) -> list[int]:
    """Indices of about ``each`` correct answers, or one of each class, shared out among the classes."""
    chosen: list[int] = []
    for label in range(len(predictions.classes)):
        of_label = np.flatnonzero(correct & (predictions.label == label))
        surest = of_label[np.argsort(-confidence[of_label], kind="stable")]
        chosen += surest[: max(1, each // len(predictions.classes))].tolist()
    return chosen


def _places(predictions: Predictions, faces: FaceSamples) -> NDArray[np.int64] | None:
    """Where the predicted faces are among ``faces``, ``(N,)``, or ``None`` where these are other data."""
    indices = np.searchsorted(faces.rows, predictions.row)  # (N,)
    if indices.max() == len(faces) or (faces.rows[indices] != predictions.row).any():
        return None
    same = (faces.labels[indices] == predictions.label).all()
    return indices if same else None


def face_address(image: NDArray[np.uint8]) -> str:
    """``data:`` address of a face ``(S, S)`` or ``(S, S, 3)`` as a PNG, smaller if larger than ``MAX_SIDE``."""
    picture = Image.fromarray(np.asarray(image))
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return png_address(png(picture))


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def png_address(content: bytes) -> str:
    """``data:`` address of a PNG file, for an ``<img>``."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
