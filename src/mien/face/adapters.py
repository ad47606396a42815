"""Results as the dictionaries that users of the packages ``fer`` and ``deepface`` know."""

from typing import Any

from mien.face.result import Face, Picture


def to_fer(picture: Picture) -> list[dict[str, Any]]:
    """As ``fer.FER().detect_emotions``: ``[{"box": (x, y, width, height), "emotions": {"angry": p, ...}}, ...]``.

    Probabilities are rounded to two digits, as there.
    """
    return [
        {
            "box": (face.box.x, face.box.y, face.box.width, face.box.height),
            "emotions": {emotion.value: round(value, 2) for emotion, value in face.probabilities.items()},
        }
        for face in picture.faces
    ]


def to_deepface(picture: Picture) -> list[dict[str, Any]]:
    """As ``deepface.DeepFace.analyze(..., actions=["emotion"])``: probabilities in percent, boxes under ``region``.

    Deviations: eyes are not located, so ``left_eye`` and ``right_eye`` are ``None``. A picture without a face is an
    empty list; there it is an error.
    """
    return [_deepface(face) for face in picture.faces]


def _deepface(face: Face) -> dict[str, Any]:
    x, y, width, height = face.box
    return {
        "emotion": {emotion.value: 100 * value for emotion, value in face.probabilities.items()},
        "dominant_emotion": face.emotion.value,
        "region": {"x": x, "y": y, "w": width, "h": height, "left_eye": None, "right_eye": None},
        "face_confidence": face.detection_confidence,
    }
