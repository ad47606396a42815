"""Against independent references: scikit-learn, statsmodels and plain loops."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint

from mien.errors import DataError, MissingPathError
from mien.evaluation import METRICS, Predictions, load_predictions
from mien.evaluation.metrics import (
    Metric,
    class_rates,
    confusion_matrix,
    cross_entropy,
    fit_temperature,
    kl_divergence,
    wilson_interval,
)
from mien.evaluation.predictor import face_views, probabilities_of

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 7, 500).astype(np.int8)
LOGITS = (GENERATOR.normal(size=(500, 7)) + 1.5 * np.eye(7)[LABELS]).astype(np.float32)
PROBABILITIES = probabilities_of(LOGITS[None])


def test_metrics_equal_scikit_learns() -> None:
    predicted = PROBABILITIES.argmax(1)
    scores = reference.precision_recall_fscore_support(LABELS, predicted, zero_division=0)
    assert METRICS["accuracy"](LABELS, PROBABILITIES) == pytest.approx(reference.accuracy_score(LABELS, predicted))
    assert METRICS["macro_f1"](LABELS, PROBABILITIES) == pytest.approx(
        reference.f1_score(LABELS, predicted, average="macro"), abs=1e-9
    )
    assert (confusion_matrix(LABELS, PROBABILITIES) == reference.confusion_matrix(LABELS, predicted)).all()
    rates = class_rates(confusion_matrix(LABELS, PROBABILITIES))
    for name, theirs in zip(("precision", "recall", "f1"), scores, strict=False):
        np.testing.assert_allclose(rates[name], theirs, atol=1e-9)
    doubles = PROBABILITIES.astype(np.float64) / PROBABILITIES.sum(1, dtype=np.float64, keepdims=True)
    assert METRICS["nll"](LABELS, doubles) == pytest.approx(reference.log_loss(LABELS, doubles), abs=1e-9)
    brier = np.mean(
        [(np.eye(7)[label] - row) @ (np.eye(7)[label] - row) for label, row in zip(LABELS, doubles, strict=True)]
    )
    assert METRICS["brier"](LABELS, doubles) == pytest.approx(brier, abs=1e-9)


def test_a_metric_is_given_in_some_way() -> None:
    assert Metric("first class", lambda labels, _: float((labels == 0).mean()))(LABELS, PROBABILITIES) == np.mean(
        LABELS == 0
    )
    with pytest.raises(ValueError, match="got none"):
        Metric("nothing")(LABELS, PROBABILITIES)


def test_divergences_from_shares_equal_scipys() -> None:
    shares = GENERATOR.dirichlet(np.ones(7), 50)
    shares[:10] = np.eye(7)[GENERATOR.integers(0, 7, 10)]  # all agree: nothing is unavoidable
    doubles = PROBABILITIES[:50].astype(np.float64)
    doubles /= doubles.sum(1, keepdims=True)
    divergence = entropy(shares, doubles, axis=1)
    np.testing.assert_allclose(kl_divergence(shares, doubles), divergence, atol=1e-9)
    np.testing.assert_allclose(cross_entropy(shares, doubles), divergence + entropy(shares, axis=1), atol=1e-9)
    assert np.isfinite(cross_entropy(shares, np.eye(7)[:1].repeat(50, 0))).all()


def test_ece_equals_a_plain_loop() -> None:
    faces = sorted(zip(PROBABILITIES.max(1).tolist(), (PROBABILITIES.argmax(1) == LABELS).tolist(), strict=True))
    total, start = 0.0, 0
    for size in [34] * 5 + [33] * 10:  # 500 in 15 bins
        part = faces[start : start + size]
        start += size
        total += abs(sum(c for c, _ in part) / size - sum(r for _, r in part) / size) * size / 500
    assert METRICS["ece"](LABELS, PROBABILITIES) == pytest.approx(total, abs=1e-7)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (674, 1000), (1, 3)])
def test_wilson_interval_equals_statsmodels(successes: int, trials: int) -> None:
    expected = proportion_confint(successes, trials, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_found_and_changes_no_class(temperature: float) -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(20000, 7)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) > generator.random((20000, 1))).argmax(1)
    found = fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    calibrated = probabilities_of(LOGITS[None], found)
    assert (calibrated.argmax(1) == LOGITS.argmax(1)).all()


def test_views_are_mirror_images_and_shifts() -> None:
    import torch

    faces = torch.arange(48 * 48).remainder(251).to(torch.uint8).view(1, 1, 48, 48)
    assert [len(face_views(faces, views)) for views in (1, 2, 10)] == [1, 2, 10]
    views = face_views(faces, 10)
    assert all(view.shape == faces.shape for view in views)
    assert torch.equal(views[1][..., 2:, 2:], faces[..., :-2, :-2])
    assert torch.equal(views[5], faces.flip(-1))
    with pytest.raises(ValueError, match="expected views to be one of"):
        face_views(faces, 3)


def test_predictions_survive_the_disk_and_bad_ones_are_refused(tmp_path: Path) -> None:
    predictions = Predictions(np.arange(500, dtype=np.int32), LABELS, PROBABILITIES)
    path = tmp_path / "some.npz"
    predictions.save(path)
    loaded = load_predictions(path)
    assert (loaded.probabilities == PROBABILITIES).all()
    assert (loaded.row == predictions.row).all()
    broken = {
        "sum to one": {"probabilities": PROBABILITIES * 2},
        "from 0 to 1": {"probabilities": np.where(np.eye(500, 7) == 1, np.nan, PROBABILITIES)},
        "every row once": {"row": np.zeros(500, np.int32)},
        "expected labels from 0 to 6": {"label": LABELS + 7},
        "expected row": {"label": LABELS[:-1]},
    }
    for message, change in broken.items():
        np.savez(path, **{"row": predictions.row, "label": LABELS, "probabilities": PROBABILITIES, **change})
        with pytest.raises(DataError, match=message):
            load_predictions(path)
    np.savez(path, row=predictions.row)
    with pytest.raises(DataError, match="expected an npz"):
        load_predictions(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="expected an npz"):
        load_predictions(path)
    with pytest.raises(MissingPathError):
        load_predictions(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("name", sorted(METRICS))
def test_contract(name: str) -> None:
    """A number, whatever the order of the images, that is best where every answer is correct and certain."""
    metric, order = METRICS[name], np.random.default_rng(0).permutation(len(LABELS))
    value = metric(LABELS, PROBABILITIES)
    assert np.isfinite(value)
    assert metric(LABELS[order], PROBABILITIES[order]) == pytest.approx(value, abs=1e-9)
    perfect = metric(LABELS, np.eye(PROBABILITIES.shape[1])[LABELS])
    assert perfect <= value if metric.lower_is_better else perfect >= value
