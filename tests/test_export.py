"""The ONNX file: its contract over the models, parity with PyTorch, what int8 changes and what it does not touch."""

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from mien import __version__
from mien.data import FaceSamples, Split, draw_faces
from mien.data.samples import Usage
from mien.data.synthetic import read_synthetic
from mien.emotions import EMOTIONS
from mien.errors import DataError, ModelError, RunError
from mien.evaluation import load_predictions
from mien.evaluation.predictor import OnnxPredictor, RunPredictor
from mien.export import export_onnx, write
from mien.face.network import EmotionNetwork
from mien.models import create_classifier
from mien.runs import Report, Run
from mien.runs.checkpoint import Checkpoint, create_run, load_checkpoint, save_checkpoint
from mien.training import fit
from tests.conftest import small_recipe

TEMPERATURE = 0.05
"""Sharpens the answers of networks that have learnt nothing, so that they differ between faces."""

MODELS: dict[str, dict[str, object]] = {
    "resized": {"name": "attention_cnn", "input_size": 24},
    "attention in blocks": {"name": "compact_resnet", "attention": "cbam", "widths": [8, 16], "depths": [1, 1]},
    "batch norm after ReLU": {"name": "baseline_cnn"},
    "three channels": {"name": "resnet50_cbam", "input_size": 32, "in_chans": 3, "normalization": "weights"},
    "transformer": {"name": "timm:test_vit", "in_chans": 3, "input_size": 64},
}


def untrained_run(path: Path, **sections: object) -> Run:
    """A run with weights that have learnt nothing, and the part of a report that an export reads."""
    recipe = small_recipe(**sections)
    run = create_run(path, recipe)
    torch.manual_seed(0)
    classifier = create_classifier(recipe.model, votes=recipe.votes_outputs())
    save_checkpoint(run.best_checkpoint, Checkpoint(recipe, classifier.state_dict(), TEMPERATURE))
    digest = read_synthetic(210).content_sha256()
    report = Report(model="x", recipe="x", data="synthetic", data_sha256=digest, initialization="scratch")
    report.save(run.report_path)
    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, drawn: FaceSamples) -> Run:
    recipe = small_recipe(
        model={"name": "compact_resnet", "widths": [8, 16], "depths": [1, 1], "input_size": 48},
        training={"epochs": 6},
    )
    return fit(recipe, drawn, tmp_path_factory.mktemp("trained") / "run", accelerator="cpu")


@pytest.fixture(scope="session")
def float_file(tmp_path_factory: pytest.TempPathFactory, trained: Run) -> write.Exported:
    return export_onnx(trained, tmp_path_factory.mktemp("float") / "float.onnx")


@pytest.fixture(scope="session")
def int8_file(tmp_path_factory: pytest.TempPathFactory, trained: Run, drawn: FaceSamples) -> write.Exported:
    return export_onnx(trained, tmp_path_factory.mktemp("int8") / "int8.onnx", int8=drawn)


@pytest.mark.parametrize("name", MODELS)
def test_contract(tmp_path: Path, name: str) -> None:
    run = untrained_run(tmp_path / "run", model={"attention": None, **MODELS[name]})
    exported = export_onnx(run, tmp_path / "some.onnx")
    assert [path.name for path in tmp_path.iterdir() if path.name != "run"] == ["some.onnx"]  # one file, no other data
    assert exported.size == exported.path.stat().st_size
    graph = onnx.load(exported.path)
    onnx.checker.check_model(graph, full_check=True)
    assert [(each.domain, each.version >= 18) for each in graph.opset_import] == [("", True)]
    session = onnxruntime.InferenceSession(exported.path)
    assert [(each.name, each.type, each.shape) for each in session.get_inputs()] == [
        ("faces", "tensor(uint8)", ["N", 1, 48, 48])
    ]
    assert [(each.name, each.type, each.shape) for each in session.get_outputs()] == [
        (output, "tensor(float)", ["N", 7]) for output in ("logits", "probabilities")
    ]
    classifier = load_checkpoint(run.best_checkpoint).classifier()
    faces = draw_faces(64, seed=5).images[:, None]
    for count in (1, 7, 64):
        logits, probabilities = session.run(["logits", "probabilities"], {"faces": faces[:count]})
        with torch.no_grad():
            expected = classifier(classifier.prepare(torch.from_numpy(faces[:count]))) / TEMPERATURE
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(probabilities, expected.softmax(1), atol=1e-4)
    assert probabilities.std(0).max() > 1e-3  # faces get different answers, so equal ones mean something
    assert 0 <= exported.difference <= 1e-4


def test_the_file_says_what_it_is_and_not_where_it_was_made(tmp_path: Path) -> None:
    sections = {"data": {"protocol": "published", "validation_rows": 20}, "training": {"votes_weight": 0.5}}
    run = untrained_run(tmp_path / "run", **sections)
    Report(model="x", recipe="x", data="fer2013", initialization="imagenet").save(run.report_path)
    path = export_onnx(run, tmp_path / "some.onnx", license="MIT").path
    network = EmotionNetwork(path)  # seven classes: what learnt the votes is cut off
    assert network.metadata == {
        "labels": json.dumps([emotion.value for emotion in EMOTIONS]),
        "model": "attention_cnn",
        "recipe_sha256": load_checkpoint(run.best_checkpoint).recipe.sha256(),
        "training_data": "fer2013, FER+ votes, initial weights: imagenet",
        "temperature": "0.05",
        "license": "MIT",
        "mien_version": __version__,
        "protocol": "published",
        "validation_rows": "20",
    }
    content = path.read_bytes()
    for word in (b".py", b"mien.models", b"site-packages", str(Path(__file__).parent.parent).encode()):
        assert word not in content


def test_the_file_knows_how_sure_it_must_be(trained: Run, float_file: write.Exported) -> None:
    """Thresholds hold on the validation predictions that they were read off."""
    network, stored = EmotionNetwork(float_file.path), load_predictions(trained.predictions_path("validation"))
    reached = np.mean(stored.probabilities.argmax(1) == stored.label)  # when all are answered
    wanted = math.floor(100 * reached) / 100
    found = network.threshold(wanted)
    given = stored.probabilities.max(1) >= found.confidence
    assert given.mean() == pytest.approx(found.coverage, abs=0.05)
    assert (stored.probabilities.argmax(1) == stored.label)[given].mean() >= wanted - 0.05


@pytest.mark.parametrize("views", [1, 2])
def test_the_file_knows_what_it_said_before_the_temperature(
    trained: Run, float_file: write.Exported, drawn: FaceSamples, views: int
) -> None:
    ours, images = RunPredictor(trained, "cpu"), drawn.images[drawn.split(Split.VALIDATION)]
    assert abs(ours.temperature - 1) > 0.05
    _, expected = ours.predict(images, views)
    _, found = OnnxPredictor(EmotionNetwork(float_file.path)).predict(images, views)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("written", ["0", "nan", "inf", "warm"])
def test_a_temperature_that_is_none_is_refused(float_file: write.Exported, written: str) -> None:
    network = EmotionNetwork(float_file.path)
    network.metadata["temperature"] = written
    with pytest.raises(ModelError, match=f"temperature above 0, got '{written}'"):
        OnnxPredictor(network)


def test_the_same_run_gives_the_same_file(tmp_path: Path, trained: Run, float_file: write.Exported) -> None:
    assert export_onnx(trained, tmp_path / "again.onnx").path.read_bytes() == float_file.path.read_bytes()


@pytest.mark.parametrize("bias", [3.0, np.nan])
def test_a_graph_that_differs_from_pytorch_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Run, float_file: write.Exported, bias: float
) -> None:
    graph = onnx.load(float_file.path)
    biases = next(each for each in graph.graph.initializer if each.name.endswith("classifier.bias"))
    biases.CopyFrom(numpy_helper.from_array(np.array([bias, *[0.0] * 6], np.float32), biases.name))
    monkeypatch.setattr(write, "build_graph", lambda network: graph)
    out = tmp_path / "some.onnx"
    with pytest.raises(ModelError, match=r"within 0\.0001 of PyTorch's, got"):
        export_onnx(trained, out)
    assert not any(tmp_path.iterdir())
    out.write_bytes(b"what was there")
    with pytest.raises(ModelError):
        export_onnx(trained, out)
    assert out.read_bytes() == b"what was there"


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    run.report_path.unlink()
    with pytest.raises(RunError, match="its training has not ended"):
        export_onnx(run, tmp_path / "some.onnx")
    assert not (tmp_path / "some.onnx").exists()


def producers(graph: onnx.GraphProto) -> dict[str, str]:
    """Name of a value -> kind of the node that computes it."""
    return {output: node.op_type for node in graph.node for output in node.output}


def test_int8_quantises_the_body_and_nothing_else(int8_file: write.Exported) -> None:
    model = onnx.load(int8_file.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version >= 18) for each in model.opset_import] == [("", True)]
    graph, made_by = model.graph, producers(model.graph)
    inputs = {(node.op_type, made_by.get(name)) for node in graph.node for name in node.input}
    first, *others = [node for node in graph.node if node.op_type == "Conv"]
    assert "DequantizeLinear" not in {made_by.get(name) for name in first.input}
    # Maps, weights and biases:
    assert {made_by.get(name) for node in others for name in node.input} == {"DequantizeLinear"}
    for kind in ("Cast", "Sub", "Gemm", "Softmax"):  # before the first convolution, from the classifier on
        assert (kind, "DequantizeLinear") not in inputs
    assert ("QuantizeLinear", "Gemm") not in inputs
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert made_by[quantized[0].input[0]] in {"Conv", "Relu"}  # the first is of the first convolution's maps


@pytest.mark.parametrize(("channels", "inputs"), [(32, {"Div"}), (64, {"DequantizeLinear"})])
def test_int8_takes_in_a_first_convolution_that_is_wide(
    tmp_path: Path, drawn: FaceSamples, channels: int, inputs: set[str]
) -> None:
    run = untrained_run(tmp_path / "run", model={"name": "compact_resnet", "widths": [channels], "depths": [1]})
    graph = onnx.load(export_onnx(run, tmp_path / "some.onnx", int8=drawn).path).graph
    first = next(node for node in graph.node if node.op_type == "Conv")
    assert {producers(graph).get(name) for name in first.input} - {None} == inputs


def test_int8_weights_leave_room_for_16_bit_sums(int8_file: write.Exported) -> None:
    """255 x 64 x 2 is less than 2**15: the multiply-add of processors without VNNI gives exact sums too."""
    arrays = [numpy_helper.to_array(each) for each in onnx.load(int8_file.path).graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim == 4]
    assert len(weights) == 5
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) == 64


def test_int8_convolutions_run_in_8_bits(int8_file: write.Exported, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns that what it writes is for this machine only
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(int8_file.path, options, providers=["CPUExecutionProvider"])
    before = Counter(node.op_type for node in onnx.load(int8_file.path).graph.node)
    after = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert before["Conv"] == 6
    assert after["QLinearConv"] == 5
    assert after["Conv"] + after["FusedConv"] == 1  # the first
    assert "ConvInteger" not in after


def test_int8_states_both_accuracies_on_validation(
    tmp_path: Path, trained: Run, drawn: FaceSamples, int8_file: write.Exported
) -> None:
    positions = drawn.split(Split.VALIDATION)
    network = EmotionNetwork(int8_file.path)
    found = network.probabilities(drawn.images[positions])
    assert int8_file.float32_accuracy == trained.load_report().headline().accuracy.value
    assert int8_file.int8_accuracy == np.mean(found.argmax(1) == drawn.labels[positions])
    exact, _ = RunPredictor(trained, "cpu").predict(drawn.images[positions])
    assert 0 < np.abs(found - exact).mean() < 0.02
    for count in (1, 7, 21):
        np.testing.assert_allclose(network.probabilities(drawn.images[positions[:count]]), found[:count], atol=1e-6)


def with_noise(drawn: FaceSamples, where: NDArray[np.bool_]) -> FaceSamples:
    images = np.array(drawn.images)
    images[where] = np.random.default_rng(0).integers(0, 256, images[where].shape, dtype=np.uint8)
    return dataclasses.replace(drawn, images=images)


def test_only_training_pictures_calibrate(drawn: FaceSamples) -> None:
    settings = small_recipe().data
    faces = write.calibration_faces(drawn, settings)
    poisoned = with_noise(drawn, drawn.usages != Usage.TRAINING)
    np.testing.assert_array_equal(write.calibration_faces(poisoned, settings), faces)
    other = write.calibration_faces(with_noise(drawn, drawn.usages == Usage.TRAINING), settings)
    assert (other != faces).any((1, 2)).all()


def test_other_data_than_the_runs_are_refused(tmp_path: Path, trained: Run, drawn: FaceSamples) -> None:
    with pytest.raises(DataError, match="the data that the run was trained on, synthetic with sha256"):
        export_onnx(trained, tmp_path / "some.onnx", int8=with_noise(drawn, drawn.usages == Usage.PRIVATE_TEST))
    assert not any(tmp_path.iterdir())


def test_calibration_faces_are_of_the_protocols_training_split(drawn: FaceSamples) -> None:
    settings = small_recipe(data={"protocol": "published", "validation_rows": 42}).data
    faces = write.calibration_faces(drawn, settings)
    held_out = drawn.images[drawn.split(Split.VALIDATION, "published", 42)]
    assert len(faces) == 168 - 42
    assert not {face.tobytes() for face in faces} & {face.tobytes() for face in held_out}


def test_int8_leaves_the_last_of_two_linear_layers_alone(tmp_path: Path, drawn: FaceSamples) -> None:
    run = untrained_run(tmp_path / "run", model={"attention": None, **MODELS["batch norm after ReLU"]})
    exported = export_onnx(run, tmp_path / "some.onnx", int8=drawn)
    graph = onnx.load(exported.path).graph
    made_by = producers(graph)
    weights = [made_by.get(node.input[1]) for node in graph.node if node.op_type == "Gemm"]
    assert weights == ["DequantizeLinear", None]
    assert EmotionNetwork(exported.path).probabilities(drawn.images[:7]).shape == (7, 7)
