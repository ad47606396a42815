"""Initial weights: which ones a recipe means, whether they can be had, and that the hub's own client fetches them."""

import http.server
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from mien.errors import ModelError, UnknownNameError
from mien.models import create_classifier, pretrained_weights, weights_available
from mien.models.pretrained import find_weights, pretrained_name
from mien.recipe import ModelSettings

# In a process of its own, since the hub's client reads its settings once.
FETCH = """
import json, sys, torch
from mien.models import create_classifier, pretrained_weights, weights_available
from mien.recipe import ModelSettings

settings = ModelSettings(name="timm:test_resnet", in_chans=3, input_size=64, **json.loads(sys.argv[1]))
reason = weights_available(settings)
weights = {} if reason else create_classifier(settings).state_dict()
total = None if reason else weights["model.backbone.conv1.0.weight"].double().sum().item()
print(json.dumps({"reason": reason, "name": pretrained_weights(settings), "total": total}))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for one file of one repository, and notes what it is asked for."""

    content = b""
    path_of_file = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        found = self.path == self.path_of_file
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("Content-Length", str(len(self.content)))
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if self.path == self.path_of_file:
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model("test_resnet").state_dict()  # type: ignore[no-any-return]


@pytest.fixture
def hub(weights: dict[str, torch.Tensor]) -> Iterator[tuple[str, list[str]]]:
    """Address of a hub with the weights, and what it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Hub,), {"content": safetensors.torch.save(weights), "asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def fetch(folder: Path, endpoint: str, **settings: str) -> dict[str, object]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, json.dumps(settings)], env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_hub_is_asked_once_its_file_is_loaded_and_the_cache_is_enough_afterwards(
    tmp_path: Path, hub: tuple[str, list[str]], weights: dict[str, torch.Tensor]
) -> None:
    address, asked = hub
    found = fetch(tmp_path, address, weights="imagenet")
    assert found["name"] == "test_resnet.r160_in1k"
    assert found["total"] == pytest.approx(weights["conv1.0.weight"].double().sum().item(), abs=1e-9)
    assert any(line == f"GET {Hub.path_of_file}" for line in asked)
    nowhere = "http://127.0.0.1:9"  # nothing listens there
    assert fetch(tmp_path, nowhere, weights="imagenet:r160_in1k") == found
    assert len([line for line in asked if line.startswith("GET")]) == 1
    offline = fetch(tmp_path / "empty", nowhere, weights="imagenet")
    assert "--set model.weights=FILE" in str(offline["reason"])


def test_a_file_that_the_hub_has_not_is_told(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    address, asked = hub
    Hub.path_of_file, before = "/elsewhere", Hub.path_of_file
    try:
        found = fetch(tmp_path, address, weights="imagenet")
    finally:
        Hub.path_of_file = before
    assert "no model.safetensors or pytorch_model.bin" in str(found["reason"])
    assert all(line.startswith("HEAD") for line in asked)


@pytest.mark.parametrize(
    ("backbone", "weights", "name"),
    [
        ("resnet50", "imagenet:tv_in1k", "resnet50.tv_in1k"),
        ("resnet50", "imagenet:tv2_in1k", "resnet50.tv2_in1k"),
        ("resnet50.gluon_in1k", "imagenet", "resnet50.gluon_in1k"),
        ("resnet50", "imagenet", f"resnet50.{timm.get_pretrained_cfg('resnet50').tag}"),
    ],
)
def test_which_weights_a_name_means(backbone: str, weights: str, name: str) -> None:
    assert pretrained_name(backbone, weights) == name
    assert pretrained_weights(ModelSettings(name=f"timm:{backbone}", weights=weights)) == name


def test_what_timm_has_not_is_refused_with_the_tags() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'tv_in1k'.*tv2_in1k"):
        pretrained_name("resnet50", "imagenet:tv_in1")
    with pytest.raises(ModelError, match="no pretrained weights"):
        pretrained_name("resnet10t_nothing", "imagenet")
    reason = weights_available(ModelSettings(name="resnet50", weights="imagenet:tv3_in1k"))
    assert reason is not None
    assert "tv2_in1k" in reason


def test_normalization_follows_the_weights() -> None:
    """Loaded from a checkpoint too, where the weights themselves are not read."""
    settings = ModelSettings(
        name="timm:vit_tiny_patch16_224", in_chans=3, normalization="weights", weights="imagenet:augreg_in21k"
    )
    assert create_classifier(settings, load_weights=False).mean.flatten().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": "resnet50"}, None),
        (
            {"name": "resnet50", "weights": "somewhere/best.ckpt"},
            None,
        ),  # an earlier run's, which is asked for elsewhere
        ({"name": "resnet50", "weights": "nowhere.pth"}, "no file nowhere.pth"),
        ({"name": "baseline_cnn", "weights": "imagenet"}, "has no pretrained weights"),
        ({"name": "timm:resnet10t.nothing", "weights": "imagenet"}, "unknown weights of resnet10t"),
    ],
)
def test_whether_weights_can_be_had(settings: dict[str, str], reason: str | None) -> None:
    found = weights_available(ModelSettings(**settings))  # type: ignore[arg-type]
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_the_cache_of_weights_that_are_on_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("mien.models.pretrained.SECONDS", 0.001)
    with pytest.raises(ModelError, match="could not be fetched from https"):
        find_weights("gcvit_tiny.in1k")
    file = tmp_path / "checkpoints" / Path(str(timm.get_pretrained_cfg("gcvit_tiny.in1k").url)).name
    file.parent.mkdir()
    file.touch()
    assert find_weights("gcvit_tiny.in1k") == file


def test_offline_by_the_hubs_own_switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    reason = weights_available(ModelSettings(name="resnet50", weights="imagenet:tv_in1k"))
    assert reason is not None
    assert "resnet50.tv_in1k" in reason


def test_a_file_of_torchvisions_resnet50_fits(tmp_path: Path) -> None:
    """Its names and shapes, as torchvision writes them: the study's own weights from PyTorch."""
    network = pytest.importorskip("torchvision").models.resnet50(weights=None)
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    (path := tmp_path / "resnet50-0676ba61.pth").write_bytes(content.getvalue())
    for name in ("resnet50", "resnet50_cbam"):
        settings = ModelSettings(name=name, in_chans=3, input_size=64, weights=str(path))
        assert weights_available(settings) is None
        found = create_classifier(settings).state_dict()
        same = [key for key in network.state_dict() if not key.startswith("fc.")]
        assert all(torch.equal(found[f"model.backbone.{key}"], network.state_dict()[key]) for key in same)
        assert found["model.backbone.fc.weight"].shape == (7, 2048)
