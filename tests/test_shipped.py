"""Every network in the package is the one that its card speaks of, and its figures follow from what is committed."""

import hashlib
import json
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.data import FaceSamples, Split, read_samples
from mien.emotions import EMOTIONS
from mien.errors import MienError
from mien.evaluation import load_predictions
from mien.evaluation.evaluate import about_data, measure
from mien.evaluation.predictor import OnnxPredictor
from mien.face.network import ASSETS, EmotionNetwork, read_card
from mien.runs import Run
from mien.runs.learnt import training_of
from mien.training import fit
from tests.conftest import SHARED, small_recipe
from tests.fake_runs import content

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "shipped"
SPLITS = (Split.VALIDATION, Split.PUBLIC_TEST, Split.PRIVATE_TEST)
SHIPPED = sorted(ASSETS.glob("*.onnx"))
each_network = pytest.mark.parametrize(
    "path",
    SHIPPED or [pytest.param(None, marks=pytest.mark.skip(reason="no network is shipped yet"))],
    ids=lambda path: getattr(path, "stem", "none"),
)
SHIP = runpy.run_path(str(ROOT / "tools" / "ship.py"))


@each_network
def test_evaluated_again_it_is_described_as_its_card_describes_it(path: Path, drawn: FaceSamples) -> None:
    """Whatever way the file is named."""
    card = read_card(path)
    predictor = OnnxPredictor(EmotionNetwork(Path(os.path.relpath(path))))
    found = json.loads(about_data(predictor.report, drawn).to_json())
    alike = card.keys() - {"results", "data", "data_sha256", "row_source", "skipped", "mien_version"}
    assert {key: found[key] for key in alike} == {key: card[key] for key in alike}
    assert (found["data"], found["data_sha256"]) == ("synthetic", drawn.content_sha256())
    assert (found["trained_on"], found["row_source"]) == ("fer2013", "file")


def test_networks_cards_and_results_belong_together() -> None:
    names = {path.stem for path in SHIPPED}
    assert {path.stem for path in ASSETS.glob("*.json")} == names
    assert {path.name for path in RESULTS.glob("*")} == names
    if not names:
        pytest.skip("no network is shipped yet")


def check_file(path: Path, card: dict[str, Any]) -> None:
    graph = path.read_bytes()
    assert card["sha256"] == hashlib.sha256(graph).hexdigest()
    assert card["bytes"] == len(graph) <= 12_000_000
    metadata = EmotionNetwork(path).metadata
    assert json.loads(metadata["labels"]) == [emotion.value for emotion in EMOTIONS]
    for key in ("model", "recipe_sha256", "license", "training_data", "mien_version", "protocol"):
        assert metadata[key] == card[key]
    assert float(metadata["temperature"]) == card["temperature"]
    assert card["faces_per_second"] > 0
    assert card["parity_difference"] <= 1e-4
    assert (card["arithmetic"] == "int8") == (b"QuantizeLinear" in graph)


def check_figures(card: dict[str, Any], results: Path) -> None:
    """The card's figures are those of the stored predictions, all of them."""
    assert card == json.loads((results / "report.json").read_text())
    for split in SPLITS:
        stored = load_predictions(results / "predictions" / f"{split}.npz")
        for name, value in content(measure(split, stored)[0]).items():
            np.testing.assert_allclose(card["results"][split][name], value, atol=1e-9, err_msg=f"{split} {name}")
    looked = {json.loads(line)["split"] for line in (results / "looks.jsonl").read_text().splitlines()}
    assert {"public_test", "private_test"} <= looked


def check_on_data(path: Path, card: dict[str, Any], results: Path, samples: FaceSamples) -> None:
    """ONNX Runtime gives the stored predictions again, and from them the stated accuracy."""
    assert card["data_sha256"] == samples.content_sha256()
    positions = samples.split(Split.PRIVATE_TEST)
    stored = load_predictions(results / "predictions" / "private_test.npz")
    np.testing.assert_array_equal(stored.row, samples.rows[positions])
    np.testing.assert_array_equal(stored.label, samples.labels[positions])
    found = EmotionNetwork(path).probabilities(samples.images[positions])
    assert np.abs(found - stored.probabilities).mean() < 1e-3  # 8-bit kernels of other processors may round otherwise
    correct = found.argmax(1) == samples.labels[positions]
    assert np.mean(correct) == pytest.approx(card["results"]["private_test"]["accuracy"], abs=1e-3)
    unseen = ~training_of(samples).holds(samples, positions)
    assert card["results"]["private_test_unseen"]["n"] == unseen.sum()
    assert np.mean(correct[unseen]) == pytest.approx(card["results"]["private_test_unseen"]["accuracy"], abs=1e-3)


@each_network
def test_the_file_is_the_cards(path: Path) -> None:
    check_file(path, read_card(path))


@each_network
def test_every_figure_follows_from_the_committed_predictions(path: Path) -> None:
    check_figures(read_card(path), RESULTS / path.stem)


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "fer2013").exists(), reason="FER-2013 is not beside the project")
@each_network
def test_the_file_has_the_stated_accuracy_on_the_real_pictures(path: Path) -> None:
    samples = read_samples(f"fer2013:{SHARED / 'fer2013'}")
    card = read_card(path)
    assert card["results"]["private_test"]["n"] == 3589
    check_on_data(path, card, RESULTS / path.stem, samples)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> Run:
    command = "mien train small --data fer2013:/secret/place --votes /secret/votes.csv --out /secret/run"
    recipe = small_recipe(training={"epochs": 2})
    return fit(recipe, drawn, tmp_path_factory.mktemp("ship") / "run", accelerator="cpu", command=command)


def test_what_ship_writes_passes_these_tests(tmp_path: Path, run: Run, drawn: FaceSamples) -> None:
    places = tmp_path / "assets", tmp_path / "results"
    places[0].mkdir()
    looks = run.path / "looks.jsonl"
    before = len(looks.read_text().splitlines()) if looks.exists() else 0
    SHIP["ship"](run, "drawn", drawn, int8=False, command="tools/ship RUN", places=places)
    path, results = places[0] / "drawn.onnx", places[1] / "drawn"
    card = read_card(path)
    check_file(path, card)
    check_figures(card, results)
    check_on_data(path, card, results, drawn)
    assert {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()} == {
        "recipe.toml", "report.json", "looks.jsonl", "robustness.json",
        "predictions/validation.npz", "predictions/public_test.npz", "predictions/private_test.npz",
    }  # fmt: skip
    for key in ("validation_accuracy_float32", "validation_accuracy_int8"):  # not compared
        assert key in card
        assert card[key] is None
    noted = [json.loads(line) for line in looks.read_text().splitlines()[before:]]
    assert [(look["split"], look["model_sha256"]) for look in noted] == [
        ("public_test", card["sha256"]),
        ("private_test", card["sha256"]),
    ]
    assert not [path for path in results.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert b"secret" not in (places[0] / "drawn.json").read_bytes()
    # A card that speaks of other figures or another file does not pass.
    with pytest.raises(AssertionError):
        check_file(path, {**card, "sha256": "0" * 64})
    wrong = json.loads(json.dumps(card))
    wrong["results"]["private_test"]["accuracy"] += 0.01
    (results / "report.json").write_text(json.dumps(wrong))
    with pytest.raises(AssertionError, match="private_test accuracy"):
        check_figures(wrong, results)
    with pytest.raises(AssertionError):
        check_on_data(path, wrong, results, drawn)


def test_ship_refuses_a_recipe_that_cannot_be_published_as_it_is(tmp_path: Path, drawn: FaceSamples) -> None:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.recipe_path.write_text('[model]\nweights = "/secret/lite0.safetensors"\n')
    with pytest.raises(MienError, match=r"recipe\.toml: expected paths below the project"):
        SHIP["ship"](run, "drawn", drawn, int8=False, command="tools/ship RUN", places=(tmp_path, tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["recipe.toml"]


def test_ship_refuses_what_is_too_large_or_loses_too_much() -> None:
    written = SHIP["Exported"](Path("x.onnx"), 12_000_001, 0.0)
    with pytest.raises(MienError, match="12,000,000 bytes"):
        SHIP["check"](written)
    with pytest.raises(MienError, match=r"loses 0\.5%"):
        SHIP["check"](SHIP["Exported"](Path("x.onnx"), 1000, 0.0, 0.7, 0.695))
    SHIP["check"](SHIP["Exported"](Path("x.onnx"), 1000, 0.0, 0.7, 0.698))
