"""Tables of pictures with faces, and the collages made of them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.detection_tables import png, write_tables

from mien.data.collages import Composer, Labelled, Sources
from mien.data.detection import Faces, read_detection
from mien.errors import DataError, MissingPathError

COLOURS = np.array([(255, 0, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)])


def test_groups_are_on_one_side_and_the_tables_have_a_hash(tmp_path: Path) -> None:
    samples = write_tables(tmp_path, count=40)
    held_out, training = ({each.group for each in samples.part(held_out=side)} for side in (True, False))
    assert not held_out & training
    assert 0 < len(held_out) < len(training)
    assert samples.sha256 == read_detection(tmp_path).sha256
    first = samples.pictures[0]
    assert first.pixels().shape == (64, 64)
    assert first.faces is not None
    assert first.faces.points.shape == (1, 5, 2)


@pytest.mark.parametrize(
    ("boxes", "points", "said"),
    [([1.0, 2.0, 3.0], None, "row 0: expected four numbers a box"), ([1, 2, 3, 4], [0.0] * 8, "expected 5 points")],
)
def test_bad_rows_are_named(tmp_path: Path, boxes: list[float], points: list[float] | None, said: str) -> None:
    row = {"set": "a", "name": "b", "group": "c", "image": png(np.zeros((8, 8), np.uint8))}
    pq.write_table(pa.Table.from_pylist([{**row, "boxes": boxes, "points": points}]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=said):
        read_detection(tmp_path)


def test_a_folder_without_tables_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected Parquet tables"):
        read_detection(tmp_path)
    with pytest.raises(MissingPathError, match="there is none"):
        read_detection(tmp_path / "nowhere")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="broken"):
        read_detection(tmp_path)


def marked_face() -> Labelled:
    """A black picture with a spot of its own colour at each of a face's points."""
    pixels = np.zeros((90, 90, 3), np.uint8)
    points = np.array([(35, 35), (55, 35), (45, 46), (37, 58), (53, 58)], np.float32)
    for (x, y), colour in zip(points.astype(int), COLOURS, strict=True):
        pixels[y - 3 : y + 3, x - 3 : x + 3] = colour
    return Labelled(pixels, Faces.of([25, 20, 40, 50], points))


def test_boxes_and_points_go_where_the_face_goes() -> None:
    """Pasted at any size and angle, mirrored or not; colours are recognised by which channels are bright."""
    composer = Composer(Sources(((marked_face(),),), (1.0,), []), min_face=60)
    seen = mirrored = 0
    for seed in range(240):
        collage = composer.compose(192, np.random.default_rng(seed))
        assert collage.pixels.shape == (192, 192, 3)
        faces = collage.faces[collage.faces.known]
        for box, points in zip(faces.boxes, faces.points, strict=True):
            if len(collage.faces) > 1 or not ((points > 4) & (points < 188)).all():
                continue
            low, high = points.min(0), points.max(0)
            assert (box[:2] <= low + 1).all()
            assert (box[:2] + box[2:] >= high - 1).all()
            colours = np.array([collage.pixels[round(y), round(x)].astype(int) for x, y in points.tolist()])
            spread = colours.max(1) - colours.min(1)
            if (spread < 60).any():  # grey, or covered
                continue
            bright = colours > colours.mean(1, keepdims=True)
            plain, flipped = COLOURS > 128, COLOURS[[1, 0, 2, 4, 3]] > 128
            assert (bright == plain).all() or (bright == flipped).all()
            mirrored += not (bright == plain).all()
            seen += 1
            # Seen from left to right: a face that is turned by less than a right angle keeps the order.
            assert points[0, 0] < points[1, 0]
    assert seen >= 5
    assert 0 < mirrored < seen


def test_a_collage_follows_from_its_generator_alone() -> None:
    composer = Composer(Sources(((marked_face(),),), (1.0,), [np.full((40, 40), 90, np.uint8)]), 9)
    one, again, other = (composer.compose(96, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (one.pixels == again.pixels).all()
    assert (one.faces.boxes == again.faces.boxes).all()
    assert (one.pixels != other.pixels).any()
    assert marked_face().faces.known.all()  # sources stay as they are


def test_covered_and_tiny_faces_are_neither_right_nor_wrong() -> None:
    composer = Composer(Sources(((marked_face(),),), (1.0,), []), 30)
    found = [composer.compose(96, np.random.default_rng(seed)).faces for seed in range(60)]
    sizes = np.concatenate([each.sizes[each.known] for each in found])
    assert sizes.min() >= 30
    assert any((~each.known).any() for each in found)
