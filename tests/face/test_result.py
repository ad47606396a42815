import math
import pickle

import numpy as np
import pytest

from mien.emotions import EMOTIONS, Emotion
from mien.errors import MediaError
from mien.face.result import Box, Face, Picture, picture_columns, probability_columns, video_columns


def probabilities(*values: float) -> dict[Emotion, float]:
    return dict(zip(EMOTIONS, values, strict=True))


def face(*values: float, **changes: object) -> Face:
    shares = probabilities(*(values or (0.05, 0.05, 0.1, 0.6, 0.1, 0.05, 0.05)))
    arguments: dict[str, object] = {
        "box": Box(-3, 4, 20, 30),
        "detection_confidence": 0.9,
        "probabilities": shares,
        "crop": np.zeros((48, 48), np.uint8),
    }
    return Face(**{**arguments, **changes})  # type: ignore[arg-type]


def test_emotion_and_confidence() -> None:
    assert face().emotion is Emotion.HAPPY
    assert face().confidence == face().probabilities["happy"] == 0.6  # type: ignore[index]
    assert face(0.4, 0.4, 0.2, 0, 0, 0, 0).emotion is Emotion.ANGRY  # the first wins a tie, as argmax
    assert face().reliable
    assert not face(reasons=("small",)).reliable


@pytest.mark.parametrize(
    "values",
    [
        dict.fromkeys(EMOTIONS, 0.5),
        probabilities(-0.1, 1.1, 0, 0, 0, 0, 0),
        probabilities(math.nan, 1, 0, 0, 0, 0, 0),
        dict.fromkeys(reversed(EMOTIONS), 1 / 7),
        {Emotion.HAPPY: 1.0},
        {},
    ],
)
def test_what_are_no_probabilities(values: dict[Emotion, float]) -> None:
    with pytest.raises(MediaError, match="expected probabilities"):
        face(probabilities=values)


def test_values_equal_and_travel() -> None:
    assert face() == face(crop=np.ones((48, 48), np.uint8))
    assert len({face(), face()}) == 1
    picture = Picture("a.jpg", 100, 50, (face(),))
    assert pickle.loads(pickle.dumps(picture)) == picture
    with pytest.raises(AttributeError):
        face().quality = 0.1  # type: ignore[misc]


def test_json_is_the_contract() -> None:
    written = Picture("a.jpg", 100, 50, (face(quality=0.3, reasons=("small", "dark")),)).to_json()
    assert written == {
        "path": "a.jpg",
        "width": 100,
        "height": 50,
        "faces": [
            {
                "box": {"x": -3, "y": 4, "width": 20, "height": 30},
                "points": None,
                "roll": None,
                "detection_confidence": 0.9,
                "emotion": "happy",
                "confidence": 0.6,
                "probabilities": {
                    "angry": 0.05, "disgust": 0.05, "fear": 0.1, "happy": 0.6, "sad": 0.1, "surprise": 0.05,
                    "neutral": 0.05,
                },
                "quality": 0.3,
                "reliable": False,
                "reasons": ["small", "dark"],
                "abstained": False,
            }
        ],
        "error": None,
    }  # fmt: skip
    assert list(written["faces"][0]["probabilities"]) == [emotion.value for emotion in EMOTIONS]


def test_columns_are_the_contract() -> None:
    assert ",".join(picture_columns()) == (
        "path,width,height,face,x,y,box_width,box_height,detection_confidence,emotion,confidence,"
        "angry,disgust,fear,happy,sad,surprise,neutral,quality,reliable,error,"
        "roll,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,left_mouth_x,left_mouth_y,right_mouth_x,right_mouth_y"
    )
    assert list(picture_columns(abstaining=True)).index("abstained") == list(picture_columns()).index("roll")
    assert list(video_columns())[-12:-1] == list(picture_columns())[-11:]
    assert probability_columns(["roll", "happy"]) == {"roll": "probability_roll", "happy": "happy"}


def test_points_are_written() -> None:
    points = ((1.234, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.0, 10.005))
    with_points = face(points=points, roll=12.346)
    assert with_points.to_json()["points"] == [[1.23, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.01]]
    assert with_points.to_json()["roll"] == 12.35
    row = with_points.to_row()
    assert (row["roll"], row["left_eye_x"], row["nose_y"], row["right_mouth_y"]) == (12.35, 1.23, 6.0, 10.01)
    assert [face().to_row()[name] for name in ("roll", "left_eye_x", "right_mouth_y")] == [None, None, None]
    assert pickle.loads(pickle.dumps(with_points)) == with_points != face()


def test_rows() -> None:
    rows = Picture("a.jpg", 100, 50, (face(), face(0, 0, 0, 0, 0, 0, 1))).to_rows()
    assert [(row["face"], row["emotion"]) for row in rows] == [(0, "happy"), (1, "neutral")]
    assert all(list(row) == list(picture_columns()) for row in rows)
    (row,) = Picture("b.jpg", error="no picture").to_rows()
    assert list(row) == list(picture_columns())
    assert {name: value for name, value in row.items() if value is not None} == {"path": "b.jpg", "error": "no picture"}


def test_paths_that_are_no_text() -> None:
    name = b"f\xffce.jpg".decode("utf-8", "surrogateescape")
    assert Picture(name).to_json()["path"] == Picture(name).to_rows()[0]["path"] == r"f\xffce.jpg"


@pytest.mark.parametrize(
    ("box", "share"),
    [
        (Box(0, 0, 10, 10), 1.0),
        (Box(-5, 0, 10, 10), 0.5),
        (Box(95, 45, 10, 10), 0.25),
        (Box(100, 0, 10, 10), 0.0),
        (Box(-10, -10, 200, 200), 100 * 50 / 200**2),
        (Box(0, 0, 0, 10), 0.0),
    ],
)
def test_fraction_inside(box: Box, share: float) -> None:
    assert box.fraction_inside(100, 50) == share
