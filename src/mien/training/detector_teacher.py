"""YuNet as a teacher: what it finds in pictures of any size, and its score at every place of a collage."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien import errors
from mien.data.detection import FacePicture, Faces, Pixels
from mien.evaluation.detection import Found, as_rgb, matched, overlaps
from mien.face.detect import yunet
from mien.face.runtime import create_session

SURE, DOUBTFUL = 0.6, 0.3
"""Scores from which on the teacher's faces are faces, and below which they are nothing."""

SIDES = (320, 640, 1280)
"""Longest sides at which a picture is searched: what is small at one is larger at the next."""

MAX_ENLARGEMENT = 3

CROP_SIDES = (192, 128, 96)
"""Sides at which a picture that is a face is searched, in a field of grey, until it is found."""

FIELD, GREY = 224, 128


@dataclass(frozen=True)
class Search:
    """What the teacher says at all places of pictures."""

    scores: NDArray[np.float32]  # (N, K)
    boxes: NDArray[np.float32]  # (N, K, 4): x, y, width, height
    points: NDArray[np.float32]  # (N, K, 5, 2)


class Teacher:
    """A YuNet file with free height and width."""

    def __init__(self, path: Path) -> None:
        """Raises ``MissingPathError`` or ``ModelError`` where it is no such file."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise errors.MissingPathError(
                f"training.teacher: expected a YuNet file, got {path}: {error.strerror}; check the path"
            ) from error
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self._session = create_session(content, threads=1)
            self._input = self._session.get_inputs()[0].name
            self.search(np.zeros((1, 64, 96, 3), np.uint8))
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise errors.ModelError(
                f"{path}: expected a YuNet network of free height and width, got {errors.first_line(error)};"
                " give another training.teacher"
            ) from error

    def search(self, pictures: Pixels) -> Search:
        """RGB pictures ``(N, H, W, 3)``, sides multiples of 32."""
        x = np.ascontiguousarray(pictures[..., ::-1].transpose(0, 3, 1, 2), np.float32)  # it was trained on BGR
        values = self._session.run(list(yunet.OUTPUTS), {self._input: x})
        parts = [
            yunet.decode(dict(zip(yunet.OUTPUTS, each, strict=True)), x.shape[2], x.shape[3], threshold=0)
            for each in zip(*values, strict=True)
        ]
        boxes, points, scores = (np.stack(each) for each in zip(*parts, strict=True))
        return Search(scores, boxes, points)

    def places(self, picture: Pixels) -> Found:
        """What it says of all places of a picture ``(H, W)`` or ``(H, W, 3)`` at its own size."""
        seen = as_rgb(picture)
        padded = np.pad(seen, [(0, -side % 32) for side in seen.shape[:2]] + [(0, 0)])
        found = self.search(padded[None])
        return Found(found.boxes[0], found.points[0], found.scores[0])

    def find(self, picture: Pixels, threshold: float = DOUBTFUL) -> Found:
        """The faces of a picture ``(H, W)`` or ``(H, W, 3)``, searched at several sizes, the most confident first."""
        longest = max(picture.shape[:2])
        parts = [_search_at(self, picture, side) for side in SIDES if side <= max(SIDES[0], MAX_ENLARGEMENT * longest)]
        scores, boxes, points = (np.concatenate([part[index] for part in parts]) for index in range(3))
        return Found(boxes, points, scores).suppressed(threshold)


def _search_at(teacher: Teacher, picture: Pixels, side: int) -> tuple[NDArray[np.float32], ...]:
    """Scores, boxes and points at all places of a picture whose longest side is made ``side``."""
    factor = side / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    image = Image.fromarray(picture).convert("RGB").resize(size, Image.Resampling.BILINEAR)
    found = teacher.places(np.asarray(image))
    likely = found.scores >= DOUBTFUL
    return found.scores[likely], found.boxes[likely] / factor, found.points[likely] / factor


Told = Callable[[int, int], None]
"""Told of pictures that were searched, and how many there are; may raise to end the search."""


def find_in_pictures(teacher: Teacher, pictures: Sequence[FacePicture], told: Told = lambda *_: None) -> list[Found]:
    """The teacher's faces in each picture."""
    found = []
    for picture in pictures:
        found.append(teacher.find(picture.pixels()))
        told(len(found), len(pictures))
    return found


def find_in_crops(teacher: Teacher, crops: Pixels, told: Told = lambda *_: None) -> list[Found]:
    """The one face of each picture ``(N, S, S)`` that is a face; none where it is not found at any size."""
    found: list[Found] = [Found(*_nothing()) for _ in crops]
    for side in CROP_SIDES:
        rest = [index for index, each in enumerate(found) if not len(each.scores) or each.scores[0] < SURE]
        for start in range(0, len(rest), 16):
            part = rest[start : start + 16]
            for index, best in zip(part, _search_crops(teacher, crops[part], side), strict=True):
                if len(best.scores) and (not len(found[index].scores) or best.scores[0] > found[index].scores[0]):
                    found[index] = best
            told(min(start + 16, len(rest)), len(rest))
    return found


def _nothing() -> tuple[NDArray[np.float32], ...]:
    return np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32)


def _search_crops(teacher: Teacher, crops: Pixels, side: int) -> list[Found]:
    fields = np.full((len(crops), FIELD, FIELD, 3), GREY, np.uint8)
    start = (FIELD - side) // 2
    for field, crop in zip(fields, crops, strict=True):
        image = Image.fromarray(crop).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        field[start : start + side, start : start + side] = np.asarray(image)
    search, factor, answers = teacher.search(fields), side / crops.shape[1], []
    for scores, boxes, points in zip(search.scores, search.boxes, search.points, strict=True):
        middles = (boxes[:, :2] + boxes[:, 2:] / 2 - start) / side
        best = int(np.where((np.abs(middles - 0.5) < 0.25).all(1), scores, 0).argmax())
        box = np.concatenate([(boxes[best, :2] - start) / factor, boxes[best, 2:] / factor])
        kept = slice(0, int(scores[best] >= DOUBTFUL))
        answers.append(Found(box[None][kept], ((points[best] - start) / factor)[None][kept], scores[best][None][kept]))
    return answers


def merge(picture: FacePicture, found: Found, rule: NDArray[np.float64] | None) -> Faces:
    """What is known of a picture's faces: the boxes by hand, in the teacher's manner, and what it finds besides.

    A box by hand that the teacher finds as well becomes the teacher's, since people follow many rules; points by hand
    stay. One that it does not find is brought to its manner by ``rule`` (:func:`box_rule`).
    """
    by_teacher = Faces(found.boxes, found.points, found.scores >= SURE)
    by_hand = picture.faces
    if by_hand is None or not len(by_hand):
        return by_teacher
    pairs = matches(by_hand.boxes, found.boxes)
    mine, theirs = pairs[:, 0], pairs[:, 1]
    boxes, points = by_hand.boxes.copy(), by_hand.points.copy()
    alone = np.setdiff1d(np.arange(len(boxes)), mine)
    boxes[alone] = boxes[alone] if rule is None else follow(boxes[alone], rule)
    boxes[mine] = found.boxes[theirs]
    without = mine[np.isnan(points[mine]).all((1, 2))]
    points[without] = found.points[theirs[np.isin(mine, without)]]
    rest = np.setdiff1d(np.arange(len(found.boxes)), theirs)
    return Faces.joined([Faces(boxes, points, np.ones(len(boxes), bool)), by_teacher[rest]])


def matches(by_hand: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.int64]:
    """Pairs of boxes that mean one face, ``(m, 2)``: those that overlap most, by a quarter at least."""
    return np.array(list(matched(overlaps(by_hand, found), least=0.25)), np.int64).reshape(-1, 2)


def box_rule(pictures: Sequence[FacePicture], found: Sequence[Found]) -> NDArray[np.float64] | None:
    """How the teacher's boxes lie against those by hand of one set, medians: shift right and down, width, height.

    Shifts of the middle and sizes are in widths and heights of the box by hand; ``None`` with fewer than ten pairs.
    """
    rows = []
    for picture, each in zip(pictures, found, strict=True):
        if picture.faces is not None:
            for mine, theirs in matches(picture.faces.boxes, each.boxes):
                hand, theirs_box = picture.faces.boxes[mine], each.boxes[theirs]
                shift = (theirs_box[:2] + theirs_box[2:] / 2 - hand[:2] - hand[2:] / 2) / hand[2:]
                rows.append(np.concatenate([shift, theirs_box[2:] / hand[2:]]))
    return np.median(rows, axis=0) if len(rows) >= 10 else None


def follow(boxes: NDArray[np.float32], rule: NDArray[np.float64]) -> NDArray[np.float32]:
    """Boxes by hand ``(n, 4)`` as the teacher would draw them."""
    middles = boxes[:, :2] + boxes[:, 2:] * (0.5 + rule[:2])
    sizes = boxes[:, 2:] * rule[2:]
    return np.concatenate([middles - sizes / 2, sizes], 1).astype(np.float32)
