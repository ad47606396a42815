"""The ONNX network: right answers, any number of faces, and refusal of whatever is none."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.face.tiny_network import LABELS, band, weights, write_network

from mien.errors import CallError, MissingPathError, ModelError, UnknownNameError
from mien.face.network import EmotionNetwork, Threshold, read_card


@pytest.mark.parametrize("count", [0, 1, 7, 64, 65, 200])
def test_every_face_gets_the_answer_it_gets_alone(tmp_path: Path, count: int) -> None:
    network = EmotionNetwork(write_network(tmp_path / "tiny.onnx"), threads=1)
    faces = np.random.default_rng(0).integers(0, 256, (count, 48, 48), dtype=np.uint8)
    found = network.probabilities(faces)
    assert found.shape == (count, 7)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    for number in range(count):
        np.testing.assert_allclose(found[number], network.probabilities(faces[number : number + 1])[0], atol=1e-6)


def test_labels_come_in_the_order_of_the_emotions(tmp_path: Path) -> None:
    network = EmotionNetwork(write_network(tmp_path / "tiny.onnx", size=14))
    assert network.size == 14
    for label, name in enumerate(LABELS):
        assert network.probabilities(band(name, 14)[None])[0].argmax() == label


@pytest.mark.parametrize(
    "faces", [np.zeros((1, 48, 48), np.float32), np.zeros((48, 48), np.uint8), np.zeros((1, 47, 48), np.uint8)]
)
def test_wrong_arrays_are_refused(tmp_path: Path, faces: np.ndarray) -> None:
    network = EmotionNetwork(write_network(tmp_path / "tiny.onnx"))
    with pytest.raises(ValueError, match=r"uint8 \(N, 48, 48\)"):
        network.probabilities(faces)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LABELS[::-1]}, "labels: expected angry, disgust, .* in this order, got neutral"),
        ({"labels": None}, "labels: expected two class names or more"),
        ({"input_name": "input"}, "expected an input 'faces'"),
        ({"input_type": TensorProto.FLOAT}, "expected an input 'faces'"),
        ({"output_name": "softmax"}, "expected an input 'faces'"),
        ({"batch": 1}, "expected an input 'faces'"),
    ],
)
def test_foreign_networks_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        EmotionNetwork(write_network(tmp_path / "tiny.onnx", **changes))


@pytest.mark.parametrize("labels", ['["angry"', "[" * 100_000, '{"labels": []}', "angry,disgust"])
def test_labels_that_are_no_list_of_the_emotions(tmp_path: Path, labels: str) -> None:
    path = write_network(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"labels": labels})
    onnx.save(model, path)
    with pytest.raises(ModelError, match="labels: expected two class names or more") as caught:
        EmotionNetwork(path)
    assert len(str(caught.value)) < 1000


def first_row() -> list[onnx.NodeProto]:
    """One answer, whatever the number of faces."""
    return [
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("ReduceMean", ["logits", "axes"], ["mean"]),
        helper.make_node("Softmax", ["mean"], ["probabilities"], axis=1),
    ]


def only_one() -> list[onnx.NodeProto]:
    """An answer for one face, and a failure for several."""
    return [
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 7]),
        helper.make_node("Reshape", ["logits", "shape"], ["probabilities"]),
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([helper.make_node("Identity", ["logits"], ["probabilities"])], "that sum to one"),
        ([helper.make_node("Div", ["logits", "logits"], ["probabilities"])], "that sum to one"),  # 0 / 0
        ([helper.make_node("Identity", ["flat"], ["probabilities"])], r"got float32 \(3, 2304\)"),
        (first_row(), r"got float32 \(1, 7\)"),
        (only_one(), "expected an answer, got"),
    ],
)
def test_what_is_no_probability_is_refused(tmp_path: Path, answer: list[onnx.NodeProto], message: str) -> None:
    network = EmotionNetwork(write_network(tmp_path / "tiny.onnx", answer=answer))
    with pytest.raises(ModelError, match=message):
        network.probabilities(np.zeros((3, 48, 48), np.uint8))


@pytest.mark.parametrize(("name", "count"), [(b"logits", -1), (b"flat", 1), (b"labels", 1)])
def test_damaged_text_in_a_network_is_refused_without_a_word_on_stdout(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: bytes, count: int
) -> None:
    path = write_network(tmp_path / "tiny.onnx")
    path.write_bytes(path.read_bytes().replace(name, name[:2] + b"\xff" + name[3:], count))
    with pytest.raises(ModelError, match="expected an ONNX network"):
        EmotionNetwork(path)
    assert capfd.readouterr().out == ""


def test_a_network_of_the_package_is_the_one_in_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.face.network.ASSETS", tmp_path)
    path = write_network(tmp_path / "base.onnx")
    content = bytearray(path.read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))
    faces = np.full((1, 48, 48), 255, np.uint8)
    before = EmotionNetwork("base").probabilities(faces)
    content[content.index(weights(48)[0, 0].tobytes()) + 3] ^= 0x02  # it still loads, and says something else
    own = tmp_path / "elsewhere" / "base.onnx"
    own.parent.mkdir()
    own.write_bytes(content)
    assert (EmotionNetwork(own).probabilities(faces) != before).any()
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"sha256 .*install mien again"):
        EmotionNetwork("base")


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x09" * 400])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="expected an ONNX network"):
        EmotionNetwork(path)


def test_a_truncated_network_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path / "tiny.onnx")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ModelError):
        EmotionNetwork(path)


def test_missing_files_and_unknown_names_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.face.network.ASSETS", tmp_path)
    with pytest.raises(ModelError, match="brings no model"):
        EmotionNetwork("base")
    write_network(tmp_path / "base.onnx")
    assert EmotionNetwork("base").path == tmp_path / "base.onnx"
    (tmp_path / "a run").mkdir()
    (tmp_path / "a run" / "recipe.toml").touch()
    with pytest.raises(MissingPathError, match=r"mien export '.*/a run' --out mine\.onnx"):
        EmotionNetwork(tmp_path / "a run")
    with pytest.raises(MissingPathError, match="no model at"):
        EmotionNetwork(tmp_path / "nothing.onnx")
    with pytest.raises(UnknownNameError, match="unknown model 'bass'"):
        EmotionNetwork("bass")


def test_a_network_without_its_report_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.json"):
        read_card(write_network(tmp_path / "tiny.onnx"))


def test_a_wanted_accuracy_has_a_threshold(tmp_path: Path) -> None:
    network = EmotionNetwork(write_network(tmp_path / "a.onnx", abstention="[[0.8, 0.6, 0.9], [0.9, 0.75, 0.5]]"))
    assert network.threshold(0.85) == network.threshold(0.9) == Threshold(0.9, 0.75, 0.5)
    assert network.threshold(0.3) == Threshold(0.8, 0.6, 0.9)
    with pytest.raises(CallError, match=r"90\.0% at most, got 95\.0%"):
        network.threshold(0.95)
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(CallError, match="above 0"):
            network.threshold(wrong)


@pytest.mark.parametrize("changes", [{}, {"abstention": "[[1]]"}, {"abstention": "nothing"}, {"abstention": "{}x"}])
def test_a_network_that_knows_no_threshold_says_so(tmp_path: Path, changes: dict[str, str]) -> None:
    network = EmotionNetwork(write_network(tmp_path / "a.onnx", **changes))
    with pytest.raises(ModelError, match="a table of abstention, got none"):
        network.threshold(0.9)
