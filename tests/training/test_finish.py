"""Batch norm's statistics, taken once more from faces as they are; and the keys of the report."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import small_recipe
from torch import nn

from mien.data import FaceSamples, Split
from mien.evaluation.predictor import predict_logits
from mien.runs.checkpoint import load_checkpoint
from mien.training import fit
from mien.training.finish import NORM_BATCH, reestimate_norm
from mien.training.networks import create_network


def test_statistics_are_those_of_the_training_faces_as_they_are(tmp_path: Path, drawn: FaceSamples) -> None:
    plain = fit(small_recipe(), drawn, tmp_path / "plain", accelerator="cpu")
    run = fit(small_recipe(training={"precise_norm": True}), drawn, tmp_path / "precise", accelerator="cpu")
    before, after = (load_checkpoint(each.best_checkpoint).classifier() for each in (plain, run))
    faces = torch.from_numpy(drawn.images[drawn.split(Split.TRAINING)]).unsqueeze(1)
    conv, norm = after.model.blocks[0][0], after.model.blocks[0][1]
    assert torch.equal(conv.weight, before.model.blocks[0][0].weight)
    maps = conv((after.prepare(faces) - after.mean) / after.std)
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)))  # 168 faces are one batch
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)))
    assert not torch.allclose(norm.running_mean, before.model.blocks[0][1].running_mean)
    # What is stored is what the report speaks of.
    indices = drawn.split(Split.VALIDATION)
    accuracy = np.mean(predict_logits(after, drawn.images[indices])[0].argmax(1) == drawn.labels[indices])
    assert run.load_report().headline().accuracy.value == pytest.approx(accuracy)


def test_only_statistics_change_and_dropout_stays_off() -> None:
    recipe = small_recipe(model={"name": "baseline_cnn", "block_dropout": 0.5, "input_size": 48})
    network = create_network(recipe.model, recipe.data)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    faces = torch.randint(0, 256, (NORM_BATCH + 9, 1, 48, 48), dtype=torch.uint8)
    weights = [parameter.clone() for parameter in network.parameters()]
    momenta = [norm.momentum for norm in norms]
    reestimate_norm(network, faces)
    first = {name: value.clone() for name, value in network.state_dict().items()}
    reestimate_norm(network, faces)
    for name, value in network.state_dict().items():
        assert torch.equal(value, first[name]), name
    assert all(torch.equal(one, other) for one, other in zip(weights, network.parameters(), strict=True))
    assert [norm.momentum for norm in norms] == momenta
    assert not any(module.training for module in network.modules())
