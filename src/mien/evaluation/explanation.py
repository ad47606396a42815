"""The value types of explanations: what a method gave over many faces, and the maps of single ones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.data import Split
from mien.emotions import EMOTIONS, Emotion
from mien.evaluation.faithfulness import Checks
from mien.evaluation.places import Share
from mien.evaluation.saliency import Maps, Method
from mien.face.result import Box

if TYPE_CHECKING:
    from mien.recipe import Recipe


@dataclass(frozen=True)
class Average:
    """A method's maps over faces of one emotion.

    Attributes:
        emotion: that they are labelled with, and that the network names.
        n: faces, one or more.
        map: their mean, float32 ``(S, S)``.
        shares: name of a band -> how much of the maps lies in it.
    """

    emotion: Emotion
    n: int
    map: NDArray[np.float32]
    shares: dict[str, Share]


@dataclass(frozen=True)
class Findings:
    """What a method gave.

    Attributes:
        method: which one.
        checks: what its maps are worth.
        map: mean of the maps, float32 ``(S, S)``.
        shares: name of a band -> how much of all maps lies in it.
        untrained: the same of the network before any training.
        alike: mean rank correlation between the maps of different faces: near 1, a map says little about its face.
            ``None`` for a single face.
        averages: of the emotions that have faces.
    """

    method: Method
    checks: Checks
    map: NDArray[np.float32]
    shares: dict[str, Share]
    untrained: dict[str, Share]
    alike: float | None
    averages: tuple[Average, ...]


@dataclass(frozen=True)
class Pointing:
    """The pointing game on drawn faces; rates in [0, 1].

    Attributes:
        n: rightly named faces with an expression.
        hits: share of Grad-CAM's highest places that lie on what is drawn of brows or mouth.
        interval: of ``hits``, at 95 %.
        chance: share of these faces' pixels that do.
    """

    n: int
    hits: float
    interval: tuple[float, float]
    chance: float


@dataclass(frozen=True)
class ExplainedFace:
    """A face and its maps.

    Attributes:
        face: uint8 ``(S, S)``, as the network sees it.
        probabilities: of the emotions, calibrated, ``(7,)``.
        maps: by Grad-CAM, of each emotion: ``(7, S, S)``.
        attention: name of a module -> its map ``(S, S)``.
        row: its number in the data set, or ``None``.
        square: of the picture that it was cut from, or ``None``.
    """

    face: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    maps: Maps
    attention: dict[str, NDArray[np.float32]]
    row: int | None = None
    square: Box | None = None

    @property
    def emotion(self) -> Emotion:
        """The most probable one."""
        return EMOTIONS[int(self.probabilities.argmax())]

    @property
    def map(self) -> NDArray[np.float32]:
        """By Grad-CAM, of ``emotion``: ``(S, S)``."""
        return np.asarray(self.maps[int(self.probabilities.argmax())])


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
    """Labelled faces over which maps were averaged.

    Attributes:
        data: name of the data set.
        split: which of its faces.
        n: how many.
        right: how many of them are rightly named.
        mean_face: uint8 ``(S, S)``, of all ``n``; ``None`` where they are too few to show nobody.
        examples: of each emotion the face that is rightly named with the most confidence.
        pointing: on drawn faces only.
    """

    data: str
    split: Split
    n: int
    right: int
    mean_face: NDArray[np.uint8] | None
    examples: tuple[ExplainedFace, ...]
    pointing: Pointing | None


@dataclass(frozen=True)
class Explanation:
    """Why a network answers as it does.

    Attributes:
        recipe: of the network.
        methods: by which it is explained, Grad-CAM first.
        findings: of each method; none where there was no face.
        split: the labelled faces, or ``None``.
        pictures: or the pictures.
    """

    recipe: "Recipe"
    methods: tuple[Method, ...]
    findings: tuple[Findings, ...]
    split: ExplainedSplit | None = None
    pictures: tuple[ExplainedPicture, ...] = ()
