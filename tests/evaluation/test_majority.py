"""Whether a network is better than always the same answer."""

import numpy as np
import pytest

from mien.evaluation.majority import better_than_always
from mien.evaluation.significance import mcnemar

CLASSES = ("a", "b", "c")


def test_the_test_against_always_the_same_answer_is_mcnemars() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(3, 200, p=(0.5, 0.3, 0.2))
    predicted = np.where(generator.random(200) < 0.6, labels, generator.integers(0, 3, 200))
    counts = np.bincount(3 * labels + predicted, minlength=9).reshape(3, 3)
    expected = mcnemar(predicted == labels, labels == 0)
    assert 0 < expected < 0.05
    assert better_than_always("a", [counts], CLASSES) == pytest.approx(expected)
    assert better_than_always("a", [counts, counts], CLASSES) == pytest.approx(expected)  # equal seeds tell no more
    assert better_than_always("a", [counts[:, [1, 0, 2]]], CLASSES) == 1.0  # worse than always "a"
