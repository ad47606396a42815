#!/usr/bin/env python
"""Draw a group of seven people, one with each emotion, as a picture for ``mien predict``: draw_scene.py FILE.png."""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mien.data import synthetic
from mien.emotions import EMOTIONS, Emotion

WIDTH, HEIGHT = 1280, 760
UNIT = 92
"""Pixels of a face unit, which is half of a head's height."""

PLACES = ((240, 210), (640, 190), (1040, 210), (130, 500), (470, 520), (810, 520), (1150, 500))
"""The middle of each face: a row of three behind a row of four."""

SMOOTHING = 3
"""Pixels of the canvas per pixel of the picture, in each direction."""

SEED = 6


def draw_scene() -> Image.Image:
    """The group before a wall, grey as RGB."""
    generator = np.random.default_rng(SEED)
    size = WIDTH * SMOOTHING, HEIGHT * SMOOTHING
    canvas = Image.linear_gradient("L").resize(size).point(lambda tone: 150 + tone // 4)
    for emotion, (x, y) in zip(EMOTIONS, PLACES, strict=True):
        draw_person(ImageDraw.Draw(canvas), emotion, x * SMOOTHING, y * SMOOTHING, generator)
    picture = canvas.resize((WIDTH, HEIGHT), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1.2))
    noisy = np.asarray(picture) + generator.normal(0, 2, (HEIGHT, WIDTH))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert("RGB")


def draw_person(draw: ImageDraw.ImageDraw, emotion: Emotion, x: int, y: int, generator: np.random.Generator) -> None:
    """Paint shoulders, neck and head with their middle at ``(x, y)``."""
    ranges = {each.name: each.metadata["range"] for each in fields(synthetic.Person)}
    person = synthetic.Person(**{name: generator.uniform(*limits) for name, limits in ranges.items()})
    unit, angle = UNIT * SMOOTHING, generator.uniform(-0.12, 0.12)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shoulders = np.array([[-1.3, 8.0], [-1.2, 1.75], [-0.5, 1.3], [0.5, 1.3], [1.2, 1.75], [1.3, 8.0]])
    body = synthetic.Layer(shoulders, generator.uniform(0.15, 0.6))
    for layer in (body, *synthetic.face_layers(person, synthetic.EXPRESSIONS[emotion])):
        points = layer.points @ turn * unit + (x, y)
        outline, tone = [tuple(point) for point in points.tolist()], round(255 * layer.tone)
        if layer.stroke:
            draw.line(outline, tone, width=max(1, round(layer.stroke * unit)), joint="curve")
        else:
            draw.polygon(outline, tone)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    draw_scene().save(target)
