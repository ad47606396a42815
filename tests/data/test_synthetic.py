import hashlib
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from torch import nn

from mien.data import synthetic
from mien.data.samples import FaceSamples, Protocol, RowSource, Split
from mien.data.synthetic import EXPRESSIONS, MIN_COUNT, PARTS, Expression, Person, View, draw_face, draw_faces
from mien.emotions import EMOTIONS, Emotion
from mien.errors import CallError, DataError
from mien.runs.learnt import training_of

TRAINING = 5000
SIZE = 96


@pytest.fixture(scope="module")
def faces():
    return draw_faces(TRAINING + 1000, seed=7)


@pytest.fixture(scope="module")
def samples():
    return synthetic.read_synthetic(210)


def middle_of(settings, **changes):
    """A person or a view in the middle of every range."""
    values = {entry.name: sum(entry.metadata["range"]) / 2 for entry in fields(settings)}
    return settings(**(values | changes))


CLEAR = middle_of(View, roll=0.15, yaw=0.3, blur=0.2, noise=0.0, haze=0.0)


def drawn(expression, person=None, view=CLEAR):
    return draw_face(person or middle_of(Person), expression, view, np.random.default_rng(0), SIZE)


def changed_box(one, other):
    """Left, top, right, bottom of the pixels that differ visibly."""
    rows, columns = np.nonzero(np.abs(one.astype(int) - other.astype(int)) > 12)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def corners(box):
    x, y, width, height = box
    return np.array([x, y, x + width, y + height])


def test_shapes_and_types():
    faces = draw_faces(10)
    assert faces.images.shape == (10, 48, 48)
    assert faces.images.dtype == np.uint8
    assert faces.labels.shape == (10,)
    assert faces.labels.dtype == np.int8
    assert tuple(faces.parts) == PARTS
    assert all(boxes.shape == (10, 4) and boxes.dtype == np.float32 for boxes in faces.parts.values())


def test_no_faces_are_faces_too():
    faces = draw_faces(0)
    assert faces.images.shape == (0, 48, 48)
    assert faces.labels.shape == (0,)


def test_a_face_does_not_depend_on_the_count():
    few, many = draw_faces(30, seed=3), draw_faces(150, seed=3)
    np.testing.assert_array_equal(few.images, many.images[:30])
    np.testing.assert_array_equal(few.labels, many.labels[:30])
    for part in PARTS:
        np.testing.assert_array_equal(few.parts[part], many.parts[part][:30])


def test_equal_in_another_process_and_without_the_global_generator():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    here = hashlib.sha256(draw_faces(20, seed=5).images.tobytes()).hexdigest()
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    code = (
        "import hashlib; from mien.data.synthetic import draw_faces;"
        "print(hashlib.sha256(draw_faces(20, seed=5).images.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there


def test_seeds_draw_different_faces(faces):
    other = draw_faces(50, seed=8)
    assert (other.images != faces.images[:50]).any(axis=(1, 2)).all()
    assert len(np.unique(faces.images[:1000].reshape(1000, -1), axis=0)) == 1000


def test_each_seven_faces_show_each_emotion(faces):
    assert (np.sort(faces.labels[:5600].reshape(-1, 7), axis=1) == np.arange(7)).all()
    assert len(np.unique(faces.labels[:5600].reshape(-1, 70)[:, :7], axis=0)) > 40


@pytest.mark.parametrize("size", [32, 48, 64, 96])
def test_other_sizes_show_the_same_faces(size):
    faces, reference = draw_faces(21, size=size), draw_faces(21, size=192)
    assert faces.images.shape == (21, size, size)
    for part in PARTS:
        np.testing.assert_allclose(faces.parts[part] * 192 / size, reference.parts[part], atol=1.5 * 192 / size)
    shrunk = reference.images.reshape(21, 48, 4, 48, 4).mean(axis=(2, 4))
    pooled = faces.images.reshape(21, 16, size // 16, 16, size // 16).mean(axis=(2, 4))
    assert np.corrcoef(pooled.ravel(), shrunk.reshape(21, 16, 3, 16, 3).mean(axis=(2, 4)).ravel())[0, 1] > 0.98


def test_part_boxes_lie_on_the_picture_and_below_one_another(faces):
    for boxes in faces.parts.values():
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] >= 1).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= 48).all()
    middles = [faces.parts[part][:, 1] + faces.parts[part][:, 3] / 2 for part in PARTS]
    assert (np.diff(middles, axis=0) > 0).all()


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_where_its_box_says(part, emotion, monkeypatch):
    layers_of = synthetic.face_layers

    def with_part_in(tone):
        def layers(person, expression):
            return [replace(x, tone=tone) if x.part == part else x for x in layers_of(person, expression)]

        monkeypatch.setattr(synthetic, "face_layers", layers)
        return drawn(EXPRESSIONS[emotion])

    (black, boxes), (white, _) = with_part_in(0.0), with_part_in(1.0)
    np.testing.assert_allclose(changed_box(black, white), corners(boxes[part]), atol=1.5)


@pytest.mark.parametrize(
    ("part", "unit"),
    [("brows", "outer_brow_raiser"), ("eyes", "upper_lid_raiser"), ("mouth", "lip_corner_depressor")],
)
def test_a_unit_moves_its_part_alone(part, unit):
    (rest, boxes_at_rest), (moved, boxes_moved) = drawn(Expression()), drawn(Expression(**{unit: 1.0}))
    both = np.stack([corners(boxes_at_rest[part]), corners(boxes_moved[part])])
    left, top, right, bottom = changed_box(rest, moved)
    assert left >= both[:, 0].min() - 1.5
    assert top >= both[:, 1].min() - 1.5
    assert right <= both[:, 2].max() + 1.5
    assert bottom <= both[:, 3].max() + 1.5
    assert right - left > 0.5 * boxes_moved[part][2]


def test_every_emotion_has_an_expression_of_its_own():
    assert tuple(EXPRESSIONS) == EMOTIONS
    assert len(set(EXPRESSIONS.values())) == len(EMOTIONS)
    assert EXPRESSIONS[Emotion.NEUTRAL] == Expression()
    assert all(0 <= strength <= 1 for expression in EXPRESSIONS.values() for strength in vars(expression).values())


def test_every_tone_can_be_painted():
    for label in range(len(EMOTIONS)):
        strongest = Expression(*(1.32 * x + 0.1 for x in vars(EXPRESSIONS[EMOTIONS[label]]).values()))
        tones = [layer.tone for layer in synthetic.face_layers(middle_of(Person), strongest)]
        assert 0 <= min(tones) <= max(tones) <= 1


def test_a_linear_model_does_not_suffice(faces):
    pixels = faces.images.reshape(len(faces.images), -1) / 255.0 - 0.5
    linear = RidgeClassifier(alpha=100.0).fit(pixels[:4000], faces.labels[:4000])
    assert 0.4 < linear.score(pixels[TRAINING:], faces.labels[TRAINING:]) < 0.75


@pytest.fixture
def one_thread():
    """OpenMP threads that wait for a busy core cost such small batches ten times the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_cnn():
    """Three convolutions, 48 -> 24 -> 12 -> 6."""

    def block(in_chans, out_chans):
        convolution = nn.Conv2d(in_chans, out_chans, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(out_chans), nn.ReLU(), nn.MaxPool2d(2)]

    stem = [nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *block(16, 32), *block(32, 64), nn.Flatten(), nn.Linear(64 * 6 * 6, 7))


def cnn_accuracy(faces, count, epochs):
    """Accuracy on the last 1,000 faces after training on the first ``count``."""
    images = (torch.from_numpy(faces.images).float()[:, None] - 128) / 64
    labels = torch.from_numpy(faces.labels).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, batches = small_cnn(), [batch for _ in range(epochs) for batch in torch.randperm(count).split(64)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=len(batches))
    for batch in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        predicted = model.eval()(images[TRAINING:]).argmax(dim=1)
    return (predicted == labels[TRAINING:]).float().mean().item()


@pytest.mark.usefixtures("one_thread")
def test_a_small_cnn_learns_the_faces(faces):
    assert 0.90 < cnn_accuracy(faces, TRAINING, epochs=6) < 0.99


@pytest.mark.usefixtures("one_thread")
def test_three_epochs_on_few_faces_are_clearly_above_chance(faces):
    assert cnn_accuracy(faces, 1600, epochs=3) > 0.5


def test_samples_say_what_they_are(samples):
    assert isinstance(samples, FaceSamples)
    assert samples.name == "synthetic"
    assert samples.row_source is RowSource.FILE
    np.testing.assert_array_equal(samples.rows, np.arange(210))
    np.testing.assert_array_equal(samples.images, draw_faces(210).images)


@pytest.mark.parametrize("count", [MIN_COUNT, 210])
def test_contest_splits_share_no_face_and_show_each_emotion(count):
    samples = synthetic.read_synthetic(count)
    parts = [samples.split(split) for split in (Split.TRAINING, Split.PUBLIC_TEST, Split.PRIVATE_TEST)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    for part, share in zip(parts, (8, 1, 1), strict=True):
        np.testing.assert_array_equal(np.bincount(samples.labels[part], minlength=7), share * count // 70)
        assert training_of(samples).holds(samples, part).any() == (share == 8)


def test_published_splits_share_no_face(samples):
    parts = [
        samples.split(split, Protocol.PUBLISHED) for split in (Split.TRAINING, Split.VALIDATION, Split.PUBLISHED_TEST)
    ]
    assert [len(part) for part in parts] == [147, 21, 42]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(210))


@pytest.mark.parametrize("count", [MIN_COUNT - 1, 0, -5])
def test_too_few_faces_for_the_splits(count):
    with pytest.raises(CallError, match=rf"at least {MIN_COUNT} drawn faces.*got {count};.*synthetic:{MIN_COUNT}"):
        synthetic.read_synthetic(count)


@pytest.mark.parametrize(("count", "size"), [(-1, 48), (10, 8)])
def test_faces_that_cannot_be_drawn(count, size):
    with pytest.raises(DataError, match=f"got {count} and {size}"):
        draw_faces(count, size=size)
