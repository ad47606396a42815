"""Which parameters decay."""

import pytest

from mien.models import create_classifier
from mien.recipe import ModelSettings, OptimizerSettings
from mien.training.engine import create_optimizer


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("timm:vit_tiny_patch16_224", {"model.backbone.pos_embed", "model.backbone.cls_token"}),
        ("timm:test_resnet", set()),
        ("attention_cnn", set()),
    ],
)
def test_what_a_network_names_is_spared_on_request_alone(name: str, spared: set[str]) -> None:
    classifier = create_classifier(ModelSettings(name=name))
    parameters = dict(classifier.named_parameters())
    for decay_embeddings in (True, False):
        settings = OptimizerSettings(name="adamw", weight_decay=0.1, decay_embeddings=decay_embeddings)
        decaying, sparing = create_optimizer(classifier, settings).param_groups
        assert (decaying["weight_decay"], sparing["weight_decay"]) == (0.1, 0.0)
        expected = {key for key, each in parameters.items() if each.ndim > 1} - (set() if decay_embeddings else spared)
        found = {key for key, each in parameters.items() if any(each is one for one in decaying["params"])}
        assert found == expected
        assert len(decaying["params"]) + len(sparing["params"]) == len(parameters)
