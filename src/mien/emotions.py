"""The seven classes of FER-2013, their order, the names that other data sets give them, and classes of one's own."""

from collections.abc import Sequence
from enum import StrEnum


class Emotion(StrEnum):
    """An emotion as FER-2013 labels it. The order is the label's number and never changes."""

    ANGRY = "angry"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPY = "happy"
    SAD = "sad"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"


EMOTIONS: tuple[Emotion, ...] = tuple(Emotion)
"""Label ``i`` is ``EMOTIONS[i]``, where data and networks have no other classes."""

VOTE_COLUMNS: tuple[str, ...] = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
"""What one of FER+'s voters can say, in the order of its columns (Barsoum et al. 2016, arXiv:1608.01041); ``NF`` is
"not a face"."""

ALIASES: dict[str, Emotion] = {
    **{emotion.value: emotion for emotion in Emotion},
    "anger": Emotion.ANGRY,
    "disgusted": Emotion.DISGUST,
    "fearful": Emotion.FEAR,
    "afraid": Emotion.FEAR,
    "happiness": Emotion.HAPPY,
    "joy": Emotion.HAPPY,
    "sadness": Emotion.SAD,
    "surprised": Emotion.SURPRISE,
}
"""Lower-case class name in use somewhere -> emotion."""


def as_classes(names: Sequence[object]) -> tuple[str, ...]:
    """Class names in the order of their labels; FER-2013's seven, which have one order, become ``EMOTIONS``.

    Raises:
        ValueError: fewer than two, one that cannot be printed, one twice, or the seven in another order; says which.
    """
    found = tuple(name for name in names if isinstance(name, str) and name.strip() and name.isprintable())
    if found == EMOTIONS:
        return EMOTIONS
    twice = sorted({name for name in found if found.count(name) > 1})
    if len(found) < max(2, len(names)):
        raise ValueError(f"expected two class names or more, all of them printable, got {str(list(names))[:200]}")
    if twice:
        raise ValueError(f"expected each class name once, got {', '.join(twice)} twice")
    if set(found) == set(EMOTIONS):
        raise ValueError(f"expected {', '.join(EMOTIONS)} in this order, got {', '.join(found)}")
    return found


def label_of(name: str) -> int | None:
    """Label of a class name or alias in any case (``"Anger"`` -> 0), or ``None`` where it names no emotion."""
    emotion = ALIASES.get(name.strip().lower())
    return None if emotion is None else EMOTIONS.index(emotion)
