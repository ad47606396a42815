"""A small network that has learnt drawn faces whose expression is in brows and mouth alone."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien.data import synthetic
from mien.data.synthetic import EXPRESSIONS, Expression, Person, View, draw_face
from mien.emotions import EMOTIONS, Emotion
from mien.evaluation.predictor import predict_logits
from mien.models import FaceClassifier, create_classifier
from mien.recipe import ModelSettings

# The action units that move neither eyes nor nose.
UNITS = (
    "inner_brow_raiser", "outer_brow_raiser", "brow_lowerer", "upper_lip_raiser", "lip_corner_puller",
    "lip_corner_depressor", "lower_lip_depressor", "lip_stretcher", "lip_tightener", "lips_part", "jaw_drop",
)  # fmt: skip
SETTINGS = ModelSettings(name="compact_resnet", widths=(16, 32), depths=(1, 1), dropout=0.0)


@dataclass(frozen=True)
class LearntFaces:
    """A network, and new faces that it names rightly, none of them neutral, with their parts' boxes ``(N, 4)``."""

    classifier: FaceClassifier
    accuracy: float
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    boxes: list[NDArray[np.float64]]


def learn_faces(seed: int = 0) -> LearntFaces:
    """Train on 490 faces, in some seconds."""
    images, labels, boxes = draw(700)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = trained(images[:490], labels[:490])
    images, labels, boxes = images[490:], labels[490:], [box[490:] for box in boxes]
    right = predict_logits(classifier, images)[0].argmax(1) == labels
    shown = right & (labels != EMOTIONS.index(Emotion.NEUTRAL))
    return LearntFaces(classifier, right.mean(), images[shown], labels[shown], [box[shown] for box in boxes])


def draw(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[NDArray[np.float64]]]:
    """Upright faces, their labels, and the boxes of brows and mouth."""
    drawn, labels = [], np.arange(count) % len(EMOTIONS)
    for number, label in enumerate(labels):
        generator = np.random.default_rng((5, number))
        person, view = synthetic._drawn(Person, generator), synthetic._drawn(View, generator)
        strength = generator.uniform(0.7, 1.1)
        shown = EXPRESSIONS[EMOTIONS[label]]
        expression = Expression(**{unit: strength * getattr(shown, unit) for unit in UNITS})
        upright = replace(view, roll=0.0, yaw=0.0, pitch=0.0, noise=0.01, haze=0.05)
        drawn.append(draw_face(person, expression, upright, generator))
    boxes = [np.array([parts[part] for _, parts in drawn]) for part in ("brows", "mouth")]
    return np.stack([image for image, _ in drawn]), labels, boxes


def trained(images: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int = 14) -> FaceClassifier:
    classifier = create_classifier(SETTINGS)
    faces, targets = torch.from_numpy(images)[:, None], torch.from_numpy(labels)
    batches = [batch for _ in range(epochs) for batch in torch.randperm(len(faces)).split(35)]
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=0.015, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.015, total_steps=len(batches))
    classifier.train()
    for batch in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(classifier.prepare(faces[batch])), targets[batch]).backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()
