"""The seven classes of FER-2013, their order, and the names that other data sets give them."""

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
"""Label ``i`` is ``EMOTIONS[i]``."""

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


def label_of(name: str) -> int | None:
    """Label of a class name or alias in any case (``"Anger"`` -> 0), or ``None`` where it names no emotion."""
    emotion = ALIASES.get(name.strip().lower())
    return None if emotion is None else EMOTIONS.index(emotion)
