"""Explain a network's answers: on single pictures, and averaged over the faces of each emotion.

Every method (``saliency``) is put to the test (``faithfulness``) on the faces that it explains, and measured against
the bands of eyes and mouth (``places``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Split, draw_faces
from mien.emotions import EMOTIONS, Emotion
from mien.errors import MediaError, MissingPathError
from mien.evaluation.explanation import (
    Average,
    ExplainedFace,
    ExplainedPicture,
    ExplainedSplit,
    Explanation,
    Findings,
    Pointing,
)
from mien.evaluation.faithfulness import check, randomised, similarity
from mien.evaluation.metrics import wilson_interval
from mien.evaluation.places import BANDS, Share, pointing_chance, pointing_game, share_in
from mien.evaluation.predict import device_type, predict_logits, probabilities_of
from mien.evaluation.results import TEST_SPLITS
from mien.evaluation.saliency import Classes, Faces, Maps, Method, grad_cam, methods_of
from mien.face.crop import FACE_SIZE, crop_face, face_square
from mien.face.detect import FaceDetector
from mien.face.pictures import read_picture
from mien.runs import Checkpoint, Run, load_checkpoint

if TYPE_CHECKING:
    from mien.models import FaceClassifier

AVERAGED = 100
"""Faces of an emotion, at most, whose maps are averaged."""
CHECKED = 28
"""Faces, at most, on which methods are put to the test; each passes some 400 times through the network."""
IN_MEAN_FACE = 30
"""The fewest faces whose mean shows nobody."""
POINTED_AT = ("brows", "mouth")
"""Parts of a drawn face on which every expression shows."""

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class _Subject:
    """The network that is explained, the same before any training, and how it is explained."""

    checkpoint: Checkpoint
    classifier: "FaceClassifier"
    twins: "tuple[FaceClassifier, ...]"
    methods: tuple[Method, ...]

    def probabilities(self, faces: Faces) -> NDArray[np.float32]:
        """Calibrated, of faces as stored: uint8 ``(N, S, S)`` to ``(N, 7)``."""
        return probabilities_of(predict_logits(self.classifier, faces), self.checkpoint.temperature)


def explain_split(
    run: Run, samples: FaceSamples, split: Split, *, command: str = "", accelerator: str = "auto"
) -> Explanation:
    """Average the maps of rightly named faces, emotion by emotion.

    Of each emotion ``AVERAGED`` faces at most are taken, spread over the split.

    Args:
        run: its kept weights are explained; a look at a test split is noted in its ``looks.jsonl``.
        samples: the data set that it was trained on, or another.
        split: which of its faces.
        command: the command line, for ``looks.jsonl``.
        accelerator: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        DataError: the data do not have this split.
        ModelError: the network has no map of the face.
        RunError: nothing has been trained yet.
    """
    subject = _subject(run, accelerator)
    positions = samples.split_for(split, subject.checkpoint.recipe.data)
    if split in TEST_SPLITS:
        run.note_look(split.value, command)
    faces, labels = np.asarray(samples.images[positions]), samples.labels[positions]
    probabilities = subject.probabilities(faces)
    right = probabilities.argmax(1) == labels
    members = [np.flatnonzero(right & (labels == label)) for label in range(len(EMOTIONS))]
    averaged = np.concatenate([_spread(found, AVERAGED) for found in members])
    checked = np.concatenate([_spread(found, CHECKED // len(EMOTIONS)) for found in members])
    surest = np.array([found[probabilities[found].max(1).argmax()] for found in members if len(found)], np.int64)
    examples = _explained(subject, faces[surest], probabilities[surest])
    explained = ExplainedSplit(
        data=samples.name,
        split=split,
        n=len(faces),
        right=int(right.sum()),
        mean_face=faces.mean(0).round().astype(np.uint8) if len(faces) >= IN_MEAN_FACE else None,
        examples=tuple(
            replace(face, row=int(row)) for face, row in zip(examples, samples.rows[positions[surest]], strict=True)
        ),
        pointing=_pointing(subject, samples, positions[averaged]) if samples.name == "synthetic" else None,
    )
    findings = _findings(subject, faces, labels, averaged, checked)
    return Explanation(subject.checkpoint.recipe, subject.methods, findings, split=explained)


def explain_pictures(
    run: Run, paths: Iterable[str], detector: FaceDetector, *, accelerator: str = "auto"
) -> Explanation:
    """Explain every face of pictures, emotion by emotion; pictures that cannot be read come with an ``error``.

    Args:
        run: its kept weights are explained.
        paths: of picture files.
        detector: finds the faces.
        accelerator: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ModelError: the network has no map of the face.
        RunError: nothing has been trained yet.
    """
    subject = _subject(run, accelerator)
    pictures = tuple(_explained_picture(subject, path, detector) for path in paths)
    found = [face for picture in pictures for face in picture.faces]
    faces = np.stack([face.face for face in found]) if found else np.empty((0, FACE_SIZE, FACE_SIZE), np.uint8)
    named = np.array([face.probabilities.argmax() for face in found], np.int64)
    everything = np.arange(len(found))
    findings = _findings(subject, faces, named, everything, _spread(everything, CHECKED))
    return Explanation(subject.checkpoint.recipe, subject.methods, findings, pictures=pictures)


def _subject(run: Run, accelerator: str) -> _Subject:
    device = device_type(accelerator)
    checkpoint = load_checkpoint(run.best_checkpoint)
    classifier = checkpoint.classifier().to(device)
    twins = randomised(checkpoint.recipe.model, checkpoint.recipe.votes_outputs())
    return _Subject(checkpoint, classifier, tuple(twin.to(device) for twin in twins), tuple(methods_of(classifier)))


def _explained_picture(subject: _Subject, path: str, detector: FaceDetector) -> ExplainedPicture:
    try:
        picture = read_picture(path)
        boxes = [detection.box for detection in detector.detect(picture)]
        crops = [crop_face(picture, box, FACE_SIZE, detector.framing) for box in boxes]
    except (MediaError, MissingPathError) as error:
        return ExplainedPicture(path, error=str(error))
    height, width = picture.shape[:2]
    if not crops:
        return ExplainedPicture(path, width, height)
    faces = np.stack(crops)
    explained = _explained(subject, faces, subject.probabilities(faces))
    squares = [face_square(box, detector.framing) for box in boxes]
    with_squares = (replace(face, square=square) for face, square in zip(explained, squares, strict=True))
    return ExplainedPicture(path, width, height, tuple(with_squares))


def _explained(subject: _Subject, faces: Faces, probabilities: NDArray[np.float32]) -> list[ExplainedFace]:
    """All maps of faces ``(N, S, S)`` with these probabilities ``(N, 7)``."""
    by_emotion = [
        grad_cam(subject.classifier, faces, np.full(len(faces), label)) for label in range(len(EMOTIONS))
    ]  # 7 times (N, S, S)
    labels = probabilities.argmax(1)
    attention = {method.layer: method.explain(subject.classifier, faces, labels) for method in subject.methods[1:]}
    return [
        ExplainedFace(
            face=face,
            probabilities=probabilities[at],
            maps=np.stack([maps[at] for maps in by_emotion]),  # (7, S, S)
            attention={name: maps[at] for name, maps in attention.items()},
        )
        for at, face in enumerate(faces)
    ]


def _findings(
    subject: _Subject, faces: Faces, classes: Classes, averaged: Positions, checked: Positions
) -> tuple[Findings, ...]:
    """What every method gives of the faces at ``averaged``, and whether it holds on those at ``checked``."""
    if not len(averaged):
        return ()
    checks = check(
        subject.methods, subject.classifier, subject.twins, faces[checked], classes[checked], subject.probabilities
    )
    found = []
    for method in subject.methods:
        maps = method.explain(subject.classifier, faces[averaged], classes[averaged])
        found.append(
            Findings(
                method=method,
                checks=checks[method.name],
                map=maps.mean(0),
                shares=_shares(maps),
                untrained=_shares(checks[method.name].untrained),
                alike=float(similarity(maps, np.roll(maps, 1, axis=0)).mean()) if len(maps) > 1 else None,
                averages=_averages(maps, classes[averaged]),
            )
        )
    return tuple(found)


def _averages(maps: Maps, classes: Classes) -> tuple[Average, ...]:
    of_labels = [(label, maps[classes == label]) for label in np.unique(classes).tolist()]
    return tuple(Average(EMOTIONS[label], len(found), found.mean(0), _shares(found)) for label, found in of_labels)


def _shares(maps: Maps) -> dict[str, Share]:
    return {name: share_in(band, maps) for name, band in BANDS.items()}


def _spread(positions: Positions, most: int) -> Positions:
    """At most so many of the positions, at equal steps."""
    if len(positions) <= most:
        return positions
    return positions[np.linspace(0, len(positions) - 1, most).round().astype(np.int64)]


def _pointing(subject: _Subject, samples: FaceSamples, positions: Positions) -> Pointing | None:
    """Whether Grad-CAM points at brows or mouth of the drawn faces at positions; the neutral ones are left out."""
    positions = positions[samples.labels[positions] != EMOTIONS.index(Emotion.NEUTRAL)]
    if not len(positions):
        return None
    rows = samples.rows[positions]
    drawn = draw_faces(int(rows.max()) + 1)  # the data set's own faces again, with their boxes
    boxes = [drawn.parts[part][rows] for part in POINTED_AT]
    maps = grad_cam(subject.classifier, samples.images[positions], samples.labels[positions])
    hits, n = int(pointing_game(maps, boxes).sum()), len(rows)
    return Pointing(n, hits / n, wilson_interval(hits, n), pointing_chance(boxes, samples.size))
