"""Networks of timm that cannot take a size, or whose features attention does not understand, are refused by trying."""

import pytest
import torch

from mien.errors import CallError, RecipeError
from mien.explain.saliency import methods_of
from mien.models import attention_maps, check_takes_faces, create_classifier
from mien.models.timm_backbone import TimmBackbone
from mien.recipe import ModelSettings


def settings_of(name: str, size: int, **options: object) -> ModelSettings:
    return ModelSettings(name=f"timm:{name}", input_size=size, in_chans=3, options=options)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin_tiny_patch4_window7_224", 48),
        ("vit_tiny_patch16_224", 48),
        ("convnext_atto", 48),
        ("efficientformerv2_s0", 64),
    ],
)
def test_these_take_small_faces(name: str, size: int) -> None:
    torch.manual_seed(0)
    settings = settings_of(name, size)
    classifier = create_classifier(settings)
    before, state = {key: value.clone() for key, value in classifier.state_dict().items()}, torch.get_rng_state()
    check_takes_faces(classifier, settings)
    assert classifier.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in classifier.state_dict().items())


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("efficientformerv2_s0", "32, 64, 96, 128"),
        ("coatnet_nano_rw_224", "32, 64, 96"),
        ("hrnet_w18_small", "32, 64, 96"),
        ("inception_v3", "96, 128, 192"),
        ("crossvit_tiny_240", "240"),
    ],
)
def test_other_sizes_are_named(name: str, sizes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.models.create.SIZES", (48, *(int(size) for size in sizes.split(", "))))
    settings = settings_of(name, 48)
    with pytest.raises(RecipeError, match=f"cannot take faces of 48 pixels .* it takes {sizes}$"):
        check_takes_faces(create_classifier(settings), settings)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mambaout_femto"])
def test_attention_weighs_cells_and_channels_of_features_that_end_in_channels(name: str) -> None:
    settings = settings_of(name, 96, attention="cbam")
    torch.manual_seed(0)
    classifier = create_classifier(settings).eval()
    network = classifier.model
    assert isinstance(network, TimmBackbone)
    faces = torch.rand(2, 1, 96, 96)
    with torch.no_grad(), attention_maps(network) as maps:
        logits = classifier(faces)
        features = network.backbone.forward_features(faces.expand(-1, 3, -1, -1))  # (N, 3, 3, D)
    assert features.shape == (2, 3, 3, network.backbone.num_features)
    assert maps["attention.channel"].shape == (2, network.backbone.num_features, 1, 1)
    assert maps["attention.spatial"].shape == (2, 1, 3, 3)
    with torch.no_grad():
        x = (faces - classifier.mean) / classifier.std
        attended = network.attention(network.backbone.forward_features(x.expand(-1, 3, -1, -1)).permute(0, 3, 1, 2))
        expected = network.backbone.forward_head(attended.permute(0, 2, 3, 1))
    torch.testing.assert_close(logits, expected)
    assert "attention.spatial" in [method.layer for method in methods_of(classifier)]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "crossvit_tiny_240"])
def test_attention_on_tokens_is_refused(name: str) -> None:
    settings = settings_of(name, 240, attention="spatial")
    with pytest.raises(RecipeError, match=r"expected a network whose last features are a map .* attention = 'none'"):
        check_takes_faces(create_classifier(settings), settings)


def test_attention_in_every_block_is_for_networks_that_have_such_blocks() -> None:
    with pytest.raises(CallError, match="vit_tiny_patch16_224 does not take"):
        create_classifier(settings_of("vit_tiny_patch16_224", 48, attention="cbam_blocks"))
