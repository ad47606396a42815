"""The robustness report: what each corruption does to a face, and what is counted."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fake_runs import FakePredictor

from mien.data import FaceSamples
from mien.data.samples import RowSource, Usage
from mien.errors import DataError
from mien.evaluation.robustness import (
    CORRUPTIONS,
    EYES,
    MOUTH,
    corrupt,
    load_robustness,
    measure_robustness,
    save_robustness,
    weakest,
)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_is_worse_than_the_one_before_and_depends_on_the_seed_alone(
    name: str, drawn: FaceSamples
) -> None:
    faces, corruption = drawn.images[:40], CORRUPTIONS[name]
    before = faces.copy()
    distances = []
    for severity in range(1, 6):
        corrupted = corrupt(faces, corruption, severity)
        assert (corrupted.shape, corrupted.dtype) == (faces.shape, np.uint8)
        distances.append(float(np.abs(corrupted.astype(float) - faces).mean()))
    assert np.array_equal(faces, before)
    assert distances[0] > 0.3
    assert all(later > earlier for earlier, later in itertools.pairwise(distances))
    again = corrupt(faces, corruption, 3)
    assert np.array_equal(again, corrupt(faces, corruption, 3))
    assert np.array_equal(again[:5], corrupt(faces[:5], corruption, 3))  # a face's chance is its own


def test_bands_hide_what_they_are_called_after() -> None:
    for name, band in (("eyes", EYES), ("mouth", MOUTH)):
        face = np.tile(np.arange(48, dtype=np.uint8), (1, 48, 1)).reshape(1, 48, 48)
        hidden = corrupt(face, CORRUPTIONS[name], 5)[0]
        top, bottom = (round(48 * share) for share in band)
        assert (hidden[top:bottom] == hidden[top, 0]).all()
        assert np.array_equal(np.delete(hidden, np.s_[top:bottom], 0), np.delete(face[0], np.s_[top:bottom], 0))
    assert EYES[1] < MOUTH[0]


def test_shapes_are_moved_as_said() -> None:
    face = np.zeros((1, 48, 48), np.uint8)
    face[0, 20:28, 20:28] = 255

    def centre(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.argwhere(image > 127).mean(0)

    moved = centre(corrupt(face, CORRUPTIONS["shift"], 4)[0]) - centre(face[0])
    assert np.hypot(*moved) == pytest.approx(CORRUPTIONS["shift"].amounts[3], abs=0.8)
    area = (corrupt(face, CORRUPTIONS["scale"], 5)[0] > 127).sum() / (face > 127).sum()
    assert area == pytest.approx(1.5**2, rel=0.25) or area == pytest.approx(1.5**-2, rel=0.25)
    assert centre(corrupt(face, CORRUPTIONS["rotation"], 5)[0]) == pytest.approx(centre(face[0]), abs=0.6)


def test_the_report_counts_what_a_network_gets_correct(tmp_path: Path) -> None:
    """A network that sees how bright a face is, and nothing else."""
    images = np.repeat(np.linspace(70, 250, 7).astype(np.uint8), 10)[:, None, None] * np.ones((1, 48, 48), np.uint8)
    labels = np.repeat(np.arange(7, dtype=np.int8), 10)

    def predict(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        nearest = np.abs(faces.mean((1, 2))[:, None] - np.linspace(70, 250, 7)).argmin(1)
        return np.eye(7, dtype=np.float32)[nearest]

    public = np.full(70, Usage.PUBLIC_TEST, np.int8)
    samples = FaceSamples(images, labels, np.arange(70, dtype=np.int32), public, "grey", RowSource.FILE)
    report = measure_robustness(FakePredictor(predict), samples)
    assert (report["n"], report["clean"]) == (70, 1.0)
    assert report["corruptions"]["blur"] == {
        "amounts": [0.5, 0.75, 1.0, 1.5, 2.0],
        "accuracy": [1.0] * 5,
        "relative": 1.0,
    }
    dark = report["corruptions"]["darkness"]["accuracy"]
    assert dark[-1] == pytest.approx(1 / 7)  # all are taken for the darkest
    assert weakest(report) == "darkness"
    save_robustness(tmp_path, report)
    assert load_robustness(tmp_path) == json.loads(json.dumps(report))
    (tmp_path / "robustness.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        load_robustness(tmp_path)
    assert load_robustness(tmp_path / "none") is None
