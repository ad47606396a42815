"""Explain a network's answers: on single pictures, and averaged over the faces of each emotion.

Every method (``saliency``) is put to the test (``faithfulness``) on the faces that it explains, and measured against
the bands of eyes and mouth (``regions``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceSamples, Split, draw_faces
from mien.emotions import EMOTIONS, Emotion
from mien.errors import MediaError, MissingPathError
from mien.evaluation import predictor
from mien.evaluation.metrics import wilson_interval
from mien.explain import faithfulness, regions, saliency
from mien.face import crop, images
from mien.face.detect import FaceDetector
from mien.models import FaceClassifier
from mien.recipe import Recipe
from mien.runs import Run, checkpoint
from mien.runs.report import is_test

MAX_AVERAGED = 100
"""Faces of an emotion whose maps are averaged."""
MAX_CHECKED = 28
"""Faces on which methods are put to the test; each passes some 400 times through the network."""
MIN_MEAN_FACE = 30
"""Faces whose mean shows nobody."""
POINTED_AT = ("brows", "mouth")
"""Parts of a drawn face on which every expression shows."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Average:
    """A method's maps over ``n`` faces, one or more, that are labelled with an emotion and so named by the network.

    ``map`` is their mean, float32 ``(S, S)``; ``bands`` has, by a band's name, the fraction of the maps in it.
    """

    emotion: str
    n: int
    map: NDArray[np.float32]
    bands: dict[str, regions.BandFraction]


@dataclass(frozen=True)
class Findings:
    """What a method gave.

    Attributes:
        checks: what its maps are worth.
        map: mean of the maps, float32 ``(S, S)``.
        bands: name of a band -> fraction of all maps in it.
        untrained: the same of the network before any training.
        alike: mean rank correlation between the maps of different faces: near 1, a map says little about its face.
            ``None`` for a single face.
        averages: of the emotions that have faces.
    """

    method: saliency.Method
    checks: faithfulness.Checks
    map: NDArray[np.float32]
    bands: dict[str, regions.BandFraction]
    untrained: dict[str, regions.BandFraction]
    alike: float | None
    averages: tuple[Average, ...]


@dataclass(frozen=True)
class Pointing:
    """The pointing game on ``n`` correctly named drawn faces with an expression; rates in [0, 1].

    Attributes:
        hits: fraction of Grad-CAM's maxima that lie on what is drawn of brows or mouth.
        interval: of ``hits``, at 95 %.
        chance: fraction of these faces' pixels that do.
    """

    n: int
    hits: float
    interval: tuple[float, float]
    chance: float


@dataclass(frozen=True)
class ExplainedFace:
    """A face and its maps.

    Attributes:
        face: uint8 ``(S, S)`` or, in colour, ``(S, S, 3)``, as the network sees it.
        probabilities: of the ``classes``, calibrated, ``(K,)``.
        maps: by Grad-CAM, of each class: ``(K, S, S)``.
        attention: name of a module -> its map ``(S, S)``.
        row: its number in the data set.
        frame: of the picture that it was cut from.
    """

    face: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    maps: saliency.Maps
    attention: dict[str, NDArray[np.float32]]
    classes: tuple[str, ...]
    row: int | None = None
    frame: crop.Frame | None = None

    @property
    def emotion(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def map(self) -> NDArray[np.float32]:
        """By Grad-CAM, of ``emotion``: ``(S, S)``."""
        return np.asarray(self.maps[int(self.probabilities.argmax())])

    def bands(self) -> dict[str, dict[str, float]]:
        """Class -> band -> fraction of Grad-CAM's map in it."""
        fractions = {name: regions.band_fractions(self.maps, band).tolist() for name, band in regions.BANDS.items()}
        return {
            emotion: {name: of_classes[at] for name, of_classes in fractions.items()}
            for at, emotion in enumerate(self.classes)
        }


@dataclass(frozen=True)
class ExplainedPicture:
    """A picture's faces; ``error`` says why it could not be read, and then there are no sizes."""

    path: str
    width: int | None = None
    height: int | None = None
    faces: tuple[ExplainedFace, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ExplainedSplit:
    """The ``n`` labelled faces of a split over which maps were averaged.

    Attributes:
        data: name of the data set.
        correct: how many of them are correctly named.
        mean_face: uint8 ``(S, S)``, of all ``n``; ``None`` where they are too few to show nobody.
        examples: of each emotion the face that is correctly named with the most confidence.
        pointing: on drawn faces only.
    """

    data: str
    split: Split
    n: int
    correct: int
    mean_face: NDArray[np.uint8] | None
    examples: tuple[ExplainedFace, ...]
    pointing: Pointing | None


@dataclass(frozen=True)
class Explanation:
    """Why a network answers as it does, on the labelled faces of a split or on pictures.

    Attributes:
        methods: by which it is explained, Grad-CAM first.
        findings: of each method; none where there was no face.
    """

    recipe: Recipe
    methods: tuple[saliency.Method, ...]
    findings: tuple[Findings, ...]
    split: ExplainedSplit | None = None
    pictures: tuple[ExplainedPicture, ...] = ()


@dataclass(frozen=True)
class _Subject:
    """The network that is explained, the same network before any training, and how it is explained."""

    kept: checkpoint.Checkpoint
    classifier: FaceClassifier
    twins: tuple[FaceClassifier, ...]
    methods: tuple[saliency.Method, ...]

    def probabilities(self, faces: saliency.Faces) -> NDArray[np.float32]:
        """Calibrated, of faces as stored: uint8 ``(N, S, S)`` to ``(N, K)``."""
        logits = predictor.predict_logits(self.classifier, faces)
        return predictor.probabilities_of(logits, self.kept.temperature)


def explain_split(
    run: Run, samples: FaceSamples, split: Split, *, command: str = "", accelerator: str = "auto"
) -> Explanation:
    """Average the maps of correctly named faces, emotion by emotion.

    Of each emotion at most ``MAX_AVERAGED`` faces are taken, spread over the split. The run's kept weights are
    explained; a test split is noted in its ``looks.jsonl``, with ``command``. ``accelerator`` is ``auto``, ``cpu`` or
    ``cuda``.

    Raises:
        DataError: the data do not have this split.
        ModelError: the network has no map of the face.
        RunError: nothing has been trained yet.
    """
    subject = _subject(run, accelerator)
    indices = samples.split_for(split, subject.kept.recipe.data)
    if is_test(split):
        run.note_look(split.value, command)
    samples = samples.with_classes(subject.kept.labels)
    faces, labels = np.asarray(samples.images[indices]), samples.labels[indices]
    probabilities = subject.probabilities(faces)
    correct = probabilities.argmax(1) == labels
    members = [np.flatnonzero(correct & (labels == label)) for label in range(len(samples.classes))]
    averaged = np.concatenate([_spread(found, MAX_AVERAGED) for found in members])
    each = max(1, MAX_CHECKED // len(members))
    checked = _spread(np.concatenate([_spread(found, each) for found in members]), MAX_CHECKED)
    surest = np.array([found[probabilities[found].max(1).argmax()] for found in members if len(found)], np.int64)
    examples = _explained(subject, faces[surest], probabilities[surest])
    explained = ExplainedSplit(
        data=samples.name,
        split=split,
        n=len(faces),
        correct=int(correct.sum()),
        mean_face=faces.mean(0).round().astype(np.uint8) if len(faces) >= MIN_MEAN_FACE else None,
        examples=tuple(
            replace(face, row=int(row)) for face, row in zip(examples, samples.rows[indices[surest]], strict=True)
        ),
        pointing=_pointing(subject, samples, indices[averaged]) if samples.name == "synthetic" else None,
    )
    findings = _findings(subject, faces, labels, averaged, checked)
    return Explanation(subject.kept.recipe, subject.methods, findings, split=explained)


def explain_pictures(
    run: Run, paths: Iterable[str], detector: FaceDetector, *, accelerator: str = "auto"
) -> Explanation:
    """Explain every face of picture files, emotion by emotion; those that cannot be read come with an ``error``.

    The run's kept weights are explained, on an ``accelerator`` as in :func:`explain_split`.

    Raises:
        ModelError: the network has no map of the face.
        RunError: nothing has been trained yet.
    """
    subject = _subject(run, accelerator)
    pictures = tuple(_explained_picture(subject, path, detector) for path in paths)
    found = [face for picture in pictures for face in picture.faces]
    if not found:
        return Explanation(subject.kept.recipe, subject.methods, (), pictures=pictures)
    faces = np.stack([face.face for face in found])
    named = np.array([face.probabilities.argmax() for face in found])
    everything = np.arange(len(found))
    findings = _findings(subject, faces, named, everything, _spread(everything, MAX_CHECKED))
    return Explanation(subject.kept.recipe, subject.methods, findings, pictures=pictures)


def _subject(run: Run, accelerator: str) -> _Subject:
    device = predictor.device_type(accelerator)
    kept = checkpoint.load_checkpoint(run.best_checkpoint)
    classifier = kept.classifier().to(device)
    twins = faithfulness.randomised(kept.recipe.model, kept.recipe.votes_outputs(), len(kept.labels))
    methods = tuple(saliency.methods_of(classifier))
    return _Subject(kept, classifier, tuple(twin.to(device) for twin in twins), methods)


def _explained_picture(subject: _Subject, path: str, detector: FaceDetector) -> ExplainedPicture:
    try:
        picture = images.read_image(path)
        found = detector.detect(picture)
        data = subject.kept.recipe.data
        size = data.size or crop.FACE_SIZE
        crops = [
            crop.crop_face(picture, each.box, size, detector.framing, points=each.points, color=data.color)
            for each in found
        ]
    except (MediaError, MissingPathError) as error:
        return ExplainedPicture(path, error=str(error))
    height, width = picture.shape[:2]
    if not crops:
        return ExplainedPicture(path, width, height)
    faces = np.stack(crops)
    explained = _explained(subject, faces, subject.probabilities(faces))
    frames = (crop.face_frame(each.box, detector.framing, each.points) for each in found)
    with_frames = tuple(replace(face, frame=frame) for face, frame in zip(explained, frames, strict=True))
    return ExplainedPicture(path, width, height, with_frames)


def _explained(subject: _Subject, faces: saliency.Faces, probabilities: NDArray[np.float32]) -> list[ExplainedFace]:
    """All maps of faces ``(N, S, S)`` with these probabilities ``(N, K)``."""
    by_emotion = [
        saliency.grad_cam(subject.classifier, faces, np.full(len(faces), label))
        for label in range(len(subject.kept.labels))
    ]  # K times (N, S, S)
    labels = probabilities.argmax(1)
    attention = {method.layer: method.explain(subject.classifier, faces, labels) for method in subject.methods[1:]}
    return [
        ExplainedFace(
            face=face,
            probabilities=probabilities[at],
            maps=np.stack([maps[at] for maps in by_emotion]),  # (K, S, S)
            attention={name: maps[at] for name, maps in attention.items()},
            classes=subject.kept.labels,
        )
        for at, face in enumerate(faces)
    ]


def _findings(
    subject: _Subject, faces: saliency.Faces, classes: saliency.Classes, averaged: Indices, checked: Indices
) -> tuple[Findings, ...]:
    """What every method gives of the faces at ``averaged``, and whether it holds on those at ``checked``."""
    if not len(averaged):
        return ()
    checks = faithfulness.check(
        subject.methods, subject.classifier, subject.twins, faces[checked], classes[checked], subject.probabilities
    )
    found = []
    for method in subject.methods:
        maps = method.explain(subject.classifier, faces[averaged], classes[averaged])
        names, present = subject.kept.labels, np.unique(classes[averaged]).tolist()
        by_emotion = [(names[label], maps[classes[averaged] == label]) for label in present]
        alike = float(faithfulness.similarity(maps, np.roll(maps, 1, axis=0)).mean()) if len(maps) > 1 else None
        found.append(
            Findings(
                method=method,
                checks=checks[method.name],
                map=maps.mean(0),
                bands=_bands(maps),
                untrained=_bands(checks[method.name].untrained),
                alike=alike,
                averages=tuple(Average(emotion, len(of), of.mean(0), _bands(of)) for emotion, of in by_emotion),
            )
        )
    return tuple(found)


def _bands(maps: saliency.Maps) -> dict[str, regions.BandFraction]:
    return {name: regions.fraction_in(band, maps) for name, band in regions.BANDS.items()}


def _spread(indices: Indices, maximum: int) -> Indices:
    """At most so many of the indices, at equal steps."""
    if len(indices) <= maximum:
        return indices
    return indices[np.linspace(0, len(indices) - 1, maximum).round().astype(np.int64)]


def _pointing(subject: _Subject, samples: FaceSamples, indices: Indices) -> Pointing | None:
    """Whether Grad-CAM points at brows or mouth of these drawn faces; the neutral ones are left out."""
    indices = indices[samples.labels[indices] != EMOTIONS.index(Emotion.NEUTRAL)]
    if not len(indices):
        return None
    rows = samples.rows[indices]
    drawn = draw_faces(int(rows.max()) + 1)  # the data set's own faces again, with their boxes
    boxes = [drawn.parts[part][rows] for part in POINTED_AT]
    maps = saliency.grad_cam(subject.classifier, samples.images[indices], samples.labels[indices])
    hits, n = int(regions.pointing_game(maps, boxes).sum()), len(rows)
    return Pointing(n, hits / n, wilson_interval(hits, n), regions.pointing_chance(boxes, samples.size))
