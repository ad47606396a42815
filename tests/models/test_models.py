"""The contract of models, run over the whole table and the controls."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from tests.conftest import SHARED, small_recipe
from torch import nn

from mien.data import FaceSamples
from mien.emotions import EMOTIONS
from mien.errors import MissingPathError, ModelError, RecipeError, RunError, UnknownNameError
from mien.explain.saliency import methods_of
from mien.export import export_onnx
from mien.models import MODELS, attention_maps, create_classifier, model_defaults
from mien.models.attention import Attention
from mien.models.attention_blocks import ATTENTIONS, Cbam, create_attention
from mien.models.pretrained import read_state_dict
from mien.recipe import ModelSettings, Rate, load_recipe
from mien.runs.checkpoint import Checkpoint, create_run, load_checkpoint, save_checkpoint
from mien.study import load_suite
from mien.training import fit

SETTINGS = {row.name: load_recipe(row.recipe).model for row in load_suite("controlled").rows}
SETTINGS["published_resnet50_cbam"] = ModelSettings(name="resnet50_cbam", input_size=48, in_chans=3)
LITE0 = SHARED.parent / "weights" / "tf_efficientnet_lite0.in1k.safetensors"


def create_model(name: str, in_chans: Literal[1, 3] = 1, weights: str = "scratch", **options: object) -> nn.Module:
    """The network alone, without its input."""
    settings = ModelSettings(name=name, in_chans=in_chans, weights=weights, options=options)
    return create_classifier(settings).model


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
    classifier = create_classifier(
        SETTINGS[name].model_copy(update={"options": SETTINGS[name].options | {"dropout": 0.0}})
    )
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
    network = create_model("baseline_cnn", **options)
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
        ({"name": "baseline_cnn", "widths": [4]}, RecipeError, "options of baseline_cnn: unknown key 'widths'"),
        ({"name": "baseline_cnn", "options": {"droput": 0}}, RecipeError, "Did you mean 'dropout'"),
        (
            {"name": "timm:resnet18", "options": {"batch_norm": True}},
            RecipeError,
            "Known: attention, dropout, patch_size",
        ),
        ({"name": "resnet50_cbam", "options": {"weights": "x"}}, ValueError, "weights is a key of"),
        ({"name": "baseline_cnn", "dropout": 1}, RecipeError, "dropout: expected a number less than 1, got 1.0"),
        ({"name": "timm:resnet18", "dropout": "x"}, RecipeError, "dropout: expected a valid number, got 'x'"),
        ({"name": "baseline_cnn", "batch_norm": 1}, RecipeError, "batch_norm: expected a valid boolean, got 1"),
        (
            {"name": "compact_resnet", "widths": [8, 0]},
            RecipeError,
            "widths.1: expected a number greater than 0, got 0",
        ),
        ({"name": "compact_resnet", "widths": []}, RecipeError, "widths: .* at least 1 item"),
        ({"name": "compact_resnet", "stem_stride": 3}, RecipeError, "stem_stride: expected 1 or 2, got 3"),
        ({"name": "compact_resnet", "widths": [8, 16]}, ModelError, "as many depths as widths"),
        ({"name": "resnet50", "attention": 3}, RecipeError, "attention: expected a valid string, got 3"),
        ({"name": "compact_resnet", "attention": "gate"}, UnknownNameError, "Known: cbam, none, se, spatial"),
        ({"name": "timm:resnet18", "attention": "gate_blocks"}, UnknownNameError, "Known: cbam, none, se, spatial"),
        ({"name": "baseline_cnn", "weights": "imagenet"}, ModelError, "no pretrained weights"),
        ({"name": "baseline_cnn", "normalization": "weights"}, ModelError, "use normalization = 'unit'"),
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
    with pytest.raises(ModelError, match="expected a safetensors file, or a pth file of tensors alone"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "attention_cnn"}, {"dropout": 0.4, "attention": "spatial"}),
        ({"name": "baseline_cnn", "dropout": 0.1}, {"batch_norm": True, "attention": "none"}),
        (
            {"name": "compact_resnet", "attention": "se", "depths": [1, 1, 1]},
            {"widths": (64, 128, 256), "stem_stride": 2, "dropout": 0.2},
        ),
        ({"name": "resnet50"}, {"attention": "none", "dropout": 0.0}),
        ({"name": "resnet50_cbam"}, {"attention": "cbam", "dropout": 0.4}),
        ({"name": "timm:resnet18", "attention": "se"}, {"dropout": 0.0}),
    ],
)
def test_defaults_are_the_constructors(settings: dict[str, object], expected: dict[str, object]) -> None:
    assert model_defaults(ModelSettings(**settings)) == expected  # type: ignore[arg-type]


def test_a_run_tells_the_attention_that_its_model_has_by_itself(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", small_recipe())
    assert run.settings()["model"]["defaults"]["attention"] == "spatial"
    assert load_recipe(run.recipe_path) == small_recipe()


def test_a_checkpoint_of_format_1_is_the_same_network(tmp_path: Path) -> None:
    """Options in the model's table itself, those that are not set among them, as None."""
    recipe = small_recipe(model={"name": "compact_resnet", "attention": "cbam", "widths": [8, 16], "depths": [1, 1]})
    weights = create_classifier(recipe.model).state_dict()
    save_checkpoint(tmp_path / "new.ckpt", Checkpoint(recipe, weights, 1.5))
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert content["format"] == 2
    content["format"] = 1
    model = content["recipe"]["model"]
    model |= {"batch_norm": None, "block_dropout": None, "dropout": None, **model.pop("options")}
    torch.save(content, tmp_path / "old.ckpt")
    old, new = load_checkpoint(tmp_path / "old.ckpt"), load_checkpoint(tmp_path / "new.ckpt")
    assert old.recipe == new.recipe == recipe
    assert old.recipe.sha256() == recipe.sha256()
    faces = torch.rand(2, 1, 24, 24)
    assert torch.equal(old.classifier()(faces), new.classifier()(faces))
    torch.save({**content, "format": 3}, tmp_path / "newer.ckpt")
    with pytest.raises(RunError, match="expected a checkpoint of format 1 or 2, got 3"):
        load_checkpoint(tmp_path / "newer.ckpt")


class Halving(Attention):
    """A block as anybody would add one: a file with this class."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, 1, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = self.gate(self.conv(x))  # (N, 1, H, W)
        return x * weights


class Tiny(nn.Module):
    """A model as anybody would add one."""

    def __init__(
        self, num_classes: int = 7, in_chans: int = 1, input_size: int = 48, *, sizes: list[int], dropout: Rate = 0.1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, sizes[0], 3, 2)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(sizes[0], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.dropout(self.conv(x).relu().mean((2, 3))))
        return logits


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        ({"name": "attention_cnn"}, ["attention"]),
        ({"name": "baseline_cnn"}, ["attention"]),
        ({"name": "compact_resnet", "widths": [8, 16], "depths": [1, 1]}, ["stages.0.attention", "stages.1.attention"]),
        ({"name": "timm:test_resnet", "input_size": 64}, ["attention"]),
        ({"name": "timm:test_resnet", "input_size": 64, "attention": "halving_blocks"}, ["backbone.layer1.0.se"]),
    ],
)
def test_an_attention_block_is_one_class_and_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    drawn: FaceSamples,
    model: dict[str, object],
    blocks: list[str],
) -> None:
    monkeypatch.setitem(ATTENTIONS, "halving", Halving)
    recipe = small_recipe(model={"attention": "halving", **model}, training={"epochs": 1})
    run = fit(recipe, drawn, tmp_path / "run", accelerator="cpu")
    checkpoint = load_checkpoint(run.best_checkpoint)
    assert checkpoint.recipe == recipe
    layers = [method.layer for method in methods_of(checkpoint.classifier())]
    assert set(blocks) <= set(layers)
    assert export_onnx(run, tmp_path / "some.onnx").difference <= 1e-4


def test_a_block_says_how_it_sits_in_residual_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    cbam = create_attention("cbam", 8, in_block=True)
    assert isinstance(cbam, Cbam)
    assert isinstance(cbam.spatial.norm, nn.BatchNorm2d)
    assert isinstance(create_attention("se", 8, in_block=True), ATTENTIONS["se"])


def test_a_model_is_one_class_one_line_and_four_lines_of_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: FaceSamples
) -> None:
    monkeypatch.setitem(MODELS, "tiny", Tiny)
    path = tmp_path / "tiny.toml"
    path.write_text('extends = "smoke/_base"\n[model]\nname = "tiny"\noptions.sizes = [4]\n')
    run = fit(load_recipe(path, ["training.epochs=1"]), drawn, tmp_path / "run", accelerator="cpu")
    assert run.settings()["model"]["options"] == {"sizes": [4]}
    assert run.settings()["model"]["defaults"] == {"dropout": 0.1}
    assert [method.name for method in methods_of(load_checkpoint(run.best_checkpoint).classifier())] == ["grad_cam"]
    assert export_onnx(run, tmp_path / "some.onnx").difference <= 1e-4
    with pytest.raises(RecipeError, match="options of tiny: sizes: expected a value, got none"):
        model_defaults(ModelSettings(name="tiny"))
    with pytest.raises(RecipeError, match=r"sizes\.0: expected a valid integer, got 'a'"):
        create_model("tiny", sizes=["a"])


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
