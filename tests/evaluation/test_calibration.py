"""Risk and coverage, and the threshold that an accuracy asks for."""

import numpy as np
import pytest

from mien.evaluation.metrics import abstention, risk_coverage

CONFIDENCE = np.array([0.9, 0.9, 0.8, 0.6, 0.5])
LABELS = np.array([0, 0, 1, 0, 1])  # the answer is 0 throughout: correct, correct, wrong, correct, wrong
PROBABILITIES = np.stack([CONFIDENCE, 1 - CONFIDENCE], axis=1)


def test_risk_falls_on_each_face_once_and_ties_go_together() -> None:
    confidence, coverage, risk = risk_coverage(LABELS, PROBABILITIES)
    np.testing.assert_allclose(confidence, [0.9, 0.8, 0.6, 0.5])
    np.testing.assert_allclose(coverage, [0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(risk, [0, 1 / 3, 1 / 4, 2 / 5])


def test_the_threshold_gives_as_many_answers_as_it_may() -> None:
    found = abstention(LABELS, PROBABILITIES, 0.6)
    assert found is not None
    assert (found.threshold, found.coverage) == (0.5, 1.0)
    assert found.accuracy == pytest.approx(0.6)
    assert abstention(LABELS, PROBABILITIES, 0.61) is None  # only fewer answers than MIN_ANSWERS would reach it


def test_a_threshold_reaches_its_accuracy_on_other_faces() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1.0, 20_000)
    labels = (generator.random(20_000) > confidence).astype(int)  # a perfectly calibrated answer of 0
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    half = slice(None, 10_000), slice(10_000, None)
    found = abstention(labels[half[0]], probabilities[half[0]], 0.9)
    assert found is not None
    assert found.threshold == pytest.approx(0.8, abs=0.02)  # answers above it average 0.9
    kept = confidence[half[1]] >= found.threshold
    assert (labels[half[1]][kept] == 0).mean() == pytest.approx(0.9, abs=0.015)
    assert kept.mean() == pytest.approx(found.coverage, abs=0.02)
    assert abstention(np.ones_like(labels), probabilities, 0.5) is None  # the answer is 0, and it is never correct
