"""``tools.shorten``, by which the package's network ``base`` was made of a larger one."""

import pytest
import torch

from mien.errors import ModelError
from mien.models import create_classifier
from mien.runs.checkpoint import Checkpoint
from tests.conftest import small_recipe
from tools.shorten import shortened


def test_it_keeps_the_first_blocks_of_each_stage_and_says_what_the_layers_left_say() -> None:
    recipe = small_recipe(
        model={"name": "compact_resnet", "input_size": 48, "options": {"widths": [8, 16], "depths": [2, 3]}},
        training={"votes_weight": 0.5},
    )
    whole = create_classifier(recipe.model, votes=10)
    short = shortened(Checkpoint(recipe, whole.state_dict()), [1, 2])
    assert short.recipe.model.options["depths"] == [1, 2]
    classifier, faces = short.classifier(), torch.rand(3, 1, 48, 48)
    whole.eval()
    kept = torch.nn.Sequential(*(whole.model.stages[block] for block in (0, 2, 3)))
    expected = whole.model.classifier(kept(whole.model.stem((faces - whole.mean) / whole.std)).mean((2, 3)))[:, :7]
    torch.testing.assert_close(classifier(faces), expected)


def test_it_knows_how_deep_a_recipe_is_that_does_not_say() -> None:
    recipe = small_recipe(model={"name": "compact_resnet", "options": {"widths": [8, 16, 16]}})
    short = shortened(Checkpoint(recipe, create_classifier(recipe.model).state_dict()), [1, 2, 1])
    assert len(short.classifier().model.stages) == 4
    other = small_recipe(model={"name": "baseline_cnn"})
    with pytest.raises(ModelError, match="expected a run of a compact_resnet, got one of baseline_cnn"):
        shortened(Checkpoint(other, {}), [1, 2, 1])


@pytest.mark.parametrize("depths", [[2, 4], [0, 1], [2]])
def test_it_cannot_add_blocks_or_leave_a_stage_empty(depths: list[int]) -> None:
    options = {"widths": [8, 16], "depths": [2, 3]}
    recipe = small_recipe(model={"name": "compact_resnet", "options": options})
    with pytest.raises(ModelError, match="expected depths of"):
        shortened(Checkpoint(recipe, create_classifier(recipe.model).state_dict()), depths)
