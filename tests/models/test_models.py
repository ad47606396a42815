"""The contract of models, run over the whole table and the controls."""

from pathlib import Path

import pytest
import torch
from tests.conftest import SHARED
from torch import nn

from mien.emotions import EMOTIONS
from mien.errors import MissingPathError, ModelError, UnknownNameError
from mien.models import ATTENTIONS, MODELS, attention_maps, create_attention, create_classifier, create_model
from mien.models.pretrained import read_state_dict
from mien.recipe import ModelSettings, load_recipe
from mien.study.suites import suite_recipes

SETTINGS = {path.stem: load_recipe(path).model for path in suite_recipes("controlled")}
SETTINGS["published_resnet50_cbam"] = ModelSettings(name="resnet50_cbam", input_size=48, in_chans=3)
LITE0 = SHARED.parent / "weights" / "tf_efficientnet_lite0.in1k.safetensors"


def test_every_model_of_the_table_is_tested() -> None:
    assert {settings.name for settings in SETTINGS.values()} >= set(MODELS)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_contract(name: str) -> None:
    """Shapes, a gradient for every parameter, and the same network from the same seed."""
    torch.manual_seed(0)
    classifier = create_classifier(SETTINGS[name])
    faces = torch.randint(0, 256, (8, 1, 48, 48), dtype=torch.uint8)
    logits = classifier(classifier.prepare(faces))
    assert logits.shape == (8, len(EMOTIONS))
    logits.square().sum().backward()
    without = [name for name, parameter in classifier.named_parameters() if parameter.grad is None]
    assert not without
    classifier.eval()
    torch.manual_seed(0)
    twin = create_classifier(SETTINGS[name])
    twin.load_state_dict(classifier.state_dict())
    twin.eval()
    with torch.no_grad():
        assert torch.equal(classifier(classifier.prepare(faces)), twin(twin.prepare(faces)))
        together, alone = classifier(classifier.prepare(faces))[:1], classifier(classifier.prepare(faces[:1]))
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["baseline_cnn", "attention_cnn", "compact_resnet_cbam", "resnet50_cbam"])
def test_learns_sixteen_faces_by_heart(name: str) -> None:
    torch.manual_seed(0)
    classifier = create_classifier(SETTINGS[name].model_copy(update={"dropout": 0.0}))
    images = torch.rand(16, 1, 48, 48)
    labels = torch.arange(16) % 7
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-3)
    for _ in range(150):
        loss = nn.functional.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    assert loss < 0.1


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, [0.25, 0.25, 0.25]),  # the published code
        ({"batch_norm": False}, []),  # the published text
        ({"batch_norm": False, "block_dropout": 0.1}, [0.1, 0.1, 0.1]),
        ({"block_dropout": 0.0}, []),
    ],
)
def test_dropout_between_the_blocks_of_the_baseline(options: dict[str, object], rates: list[float]) -> None:
    network = create_model("baseline_cnn", **options)  # type: ignore[arg-type]
    found = [layer.p for layer in network.get_submodule("blocks").modules() if isinstance(layer, nn.Dropout)]
    assert found == rates


@pytest.mark.parametrize("name", sorted(ATTENTIONS))
def test_attention_keeps_shapes_and_scales_by_weights_in_zero_to_one(name: str) -> None:
    block = create_attention(name, 32)
    x = torch.rand(2, 32, 6, 6) + 0.1
    with attention_maps(nn.Sequential(block)) as maps:
        out = block(x)
    assert out.shape == x.shape
    share = out / x
    assert (share > 0).all()
    assert (share <= 1).all()
    assert bool(maps) == (name != "none")
    for weights in maps.values():
        assert weights.shape in {(2, 32, 1, 1), (2, 1, 6, 6)}
        assert not weights.requires_grad


def test_attention_maps_leave_no_hooks_behind() -> None:
    model = create_model("attention_cnn")
    with attention_maps(model) as maps:
        model(torch.rand(1, 1, 48, 48))
    taken = maps["attention"].clone()
    model(torch.rand(1, 1, 48, 48))
    assert torch.equal(taken, maps["attention"])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"name": "baseline_cn"}, UnknownNameError, "Did you mean 'baseline_cnn'"),
        ({"name": "timm:resnet5"}, UnknownNameError, "resnet50"),
        ({"name": "baseline_cnn", "widths": [4]}, ModelError, "no option widths"),
        ({"name": "baseline_cnn", "weights": "imagenet"}, ModelError, "no pretrained weights"),
        ({"name": "resnet50", "weights": "nowhere.safetensors"}, MissingPathError, "no file"),
        ({"name": "attention_cnn", "attention": "cbam_blocks"}, UnknownNameError, "cbam_blocks"),
    ],
)
def test_what_is_refused(settings: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_classifier(ModelSettings(**settings))  # type: ignore[arg-type]


def test_weights_of_a_file_are_taken_over_but_for_the_classifier(tmp_path: Path) -> None:
    original = create_model("timm:resnet18", in_chans=3)
    path = tmp_path / "weights.pth"
    import timm

    torch.manual_seed(1)
    state = timm.create_model("resnet18").state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    loaded = create_model("timm:resnet18", in_chans=3, weights=str(path))
    assert torch.equal(loaded.state_dict()["backbone.layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    assert loaded.state_dict()["backbone.fc.weight"].shape == original.state_dict()["backbone.fc.weight"].shape
    grey = create_model("timm:resnet18", in_chans=1, weights=str(path))
    torch.testing.assert_close(grey.state_dict()["backbone.conv1.weight"], state["conv1.weight"].sum(1, keepdim=True))


def test_wrong_and_partial_weights_are_refused_with_the_list(tmp_path: Path) -> None:
    import timm

    state = timm.create_model("resnet18").state_dict()
    del state["layer1.0.conv1.weight"]
    state["foreign.weight"] = torch.zeros(1)
    path = tmp_path / "partial.pth"
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"1 missing: layer1\.0\.conv1\.weight; 1 not in the network: foreign\.weight"):
        create_model("timm:resnet18", in_chans=3, weights=str(path))
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="no readable"):
        read_state_dict(path)


@pytest.mark.shared
@pytest.mark.skipif(not LITE0.exists(), reason="the ImageNet weights are not beside the project")
def test_real_imagenet_weights_fit() -> None:
    classifier = create_classifier(
        ModelSettings(
            name="timm:tf_efficientnet_lite0", in_chans=3, weights=str(LITE0), normalization="weights", attention="cbam"
        )
    )
    expected = read_state_dict(LITE0)["blocks.1.0.conv_pw.weight"].float()
    assert torch.equal(classifier.state_dict()["model.backbone.blocks.1.0.conv_pw.weight"], expected)
    assert classifier.mean.flatten().tolist() == [0.5, 0.5, 0.5]
