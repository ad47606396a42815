"""``module:Name``: what is found, and what is said where nothing is."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mien.data import read_samples
from mien.errors import CallError, DataError, UnknownNameError
from mien.evaluation import METRICS
from mien.evaluation.metrics import added
from mien.extensions import is_reference, look_up
from mien.face import Recognizer
from mien.face.detect import create_detector
from mien.models import check_takes_faces, create_classifier, model_defaults
from mien.models.attention_blocks import create_attention
from mien.recipe import ModelSettings

CODE = """
import numpy as np
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_chans, width: int = 4, act: type[nn.Module] = nn.ReLU):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_chans, width, 3, 2), act(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        return self.head(self.body(x))

class Headless(Net):
    def forward(self, x):
        return self.body(x)

class Only64(Net):
    def forward(self, x):
        return super().forward(x.reshape(len(x), -1, 64, 64))

def no_module(num_classes, in_chans):
    return "a network"

class Plain:
    pass

class Greedy(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, 1, 1)

    def forward(self, x):
        return x * self.conv(x)

class Flat(nn.Module):
    def __init__(self):
        super().__init__()

def reads_nothing(tree, options):
    return 1 / 0

def reads_a_number(tree, options):
    return 3

def complex_metric(labels, probabilities):
    return "much"
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder; another one for every test, as imports are kept."""
    name = "mine_" + "".join(letter for letter in tmp_path.name if letter.isalnum())
    (tmp_path / f"{name}.py").write_text(CODE)
    (tmp_path / "faces.csv").write_text("a.png,happy\n")
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a:B", True), ("a.b:c", True), ("a", False), ("a:", False), ("yunet:/x.onnx", False), ("a b:C", False)],
)
def test_what_a_reference_is(name: str, expected: bool) -> None:
    assert is_reference(name) is expected


def test_the_current_folder_is_on_the_path_only_while_a_module_is_imported(mine: str) -> None:
    before = list(sys.path)
    assert look_up({}, f"{mine}:Plain", "model", expected="a class").__name__ == "Plain"
    assert sys.path == before
    Path("numpy.py").write_text("raise SystemExit('the wrong one')")
    assert look_up({}, "numpy:linspace", "metric", expected="a function") is np.linspace


def test_a_package_in_a_folder_is_found(mine: str) -> None:
    package = Path(f"{mine}_package")
    package.mkdir()
    (package / "models.py").write_text(CODE)
    assert create_classifier(ModelSettings(name=f"{package}.models:Net")).num_classes == 7
    with pytest.raises(UnknownNameError, match=f"expected a Python module {package}.other, got none"):
        create_classifier(ModelSettings(name=f"{package}.other:Net"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import not_to_be_had", "imports not_to_be_had"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(: pass", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_reason(mine: str, code: str, message: str) -> None:
    Path(f"{mine}_bad.py").write_text(code)
    with pytest.raises(CallError, match=message):
        create_attention(f"{mine}_bad:Block", 8)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("MINE:Ne", UnknownNameError, "Did you mean 'Net'"),
        ("MINE:Plain", CallError, "expected a class or function that takes num_classes .* got the class Plain of /"),
        ("MINE:no_module", CallError, "got one that makes a str"),
        ("MINE:Headless", CallError, r"fails with ValueError: expected logits \(1, 7\) for one face, got \(1, 16\)"),
        ("MINE:Only64", CallError, "cannot take faces of 48 pixels .* it takes 64$"),
        ("MINE:Net.x", UnknownNameError, "module:Name"),
    ],
)
def test_what_is_no_network_is_refused(mine: str, name: str, error: type[Exception], message: str) -> None:
    settings = ModelSettings(name=name.replace("MINE", mine))
    with pytest.raises(error, match=message):
        check_takes_faces(create_classifier(settings), settings)


def test_options_are_all_parameters_and_what_toml_has_not_stays_out_of_the_defaults(mine: str) -> None:
    settings = ModelSettings(name=f"{mine}:Net", options={"width": 6})
    assert create_classifier(settings).model.state_dict()["head.weight"].shape == (7, 24)
    assert model_defaults(ModelSettings(name=f"{mine}:Net")) == {"width": 4}
    with pytest.raises(CallError, match="width: expected a valid integer"):
        create_classifier(ModelSettings(name=f"{mine}:Net", options={"width": "x"}))


def test_attention_may_be_any_class_of_modules_and_nothing_else(mine: str) -> None:
    settings = ModelSettings(name="timm:test_resnet", input_size=64, options={"attention": "timm.layers:EcaModule"})
    check_takes_faces(create_classifier(settings), settings)
    with pytest.raises(CallError, match=r"expected a class of torch\.nn\.Module"):
        create_attention(f"{mine}:Plain", 8)


def test_a_bad_attention_block_is_blamed_and_not_the_network(mine: str) -> None:
    for block in ("Greedy", "Flat"):
        settings = ModelSettings(name="compact_resnet", options={"attention": f"{mine}:{block}"})
        with pytest.raises(
            CallError, match=rf"^model\.options\.attention: expected .* {mine}:{block} fails in compact"
        ):
            check_takes_faces(create_classifier(settings), settings)


def test_a_detector_has_its_three_parts(mine: str) -> None:
    with pytest.raises(CallError, match="got one without name, framing, detect"):
        create_detector(f"{mine}:Plain")
    with pytest.raises(UnknownNameError, match="expected a Python module nowhere_at_all"):
        Recognizer(detector="nowhere_at_all:Detector")


def test_a_reader_gives_faces(mine: str) -> None:
    with pytest.raises(DataError, match="reads_nothing fails with ZeroDivisionError"):
        read_samples(f"{mine}:reads_nothing:faces.csv")
    with pytest.raises(CallError, match="got one that gives int"):
        read_samples(f"{mine}:reads_a_number:faces.csv")


def test_a_metric_gives_a_number_and_leaves_the_table_as_it_was(mine: str) -> None:
    before = dict(METRICS)
    with pytest.raises(CallError, match="got ValueError for two images"), added([f"{mine}:complex_metric"]):
        pass
    with added(["accuracy"]):
        assert before == METRICS
    assert before == METRICS
