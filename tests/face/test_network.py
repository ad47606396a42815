"""The ONNX network: right answers, any number of faces, and refusal of whatever is none."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from tests.face.tiny_network import LABELS, band, write_network

from mien.errors import MissingPathError, ModelError, UnknownNameError
from mien.face.network import EmotionNetwork, model_card


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
        ({"labels": LABELS[::-1]}, "expected the labels angry, disgust"),
        ({"labels": None}, "expected the labels"),
        ({"input_name": "input"}, "expected an input 'faces'"),
        ({"input_type": TensorProto.FLOAT}, "expected an input 'faces'"),
        ({"output_name": "softmax"}, "expected an input 'faces'"),
    ],
)
def test_foreign_networks_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        EmotionNetwork(write_network(tmp_path / "tiny.onnx", **changes))


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
    with pytest.raises(MissingPathError, match="no model at"):
        EmotionNetwork(tmp_path / "nothing.onnx")
    with pytest.raises(UnknownNameError, match="unknown model 'bass'"):
        EmotionNetwork("bass")


def test_a_network_without_its_report_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.json"):
        model_card(write_network(tmp_path / "tiny.onnx"))
