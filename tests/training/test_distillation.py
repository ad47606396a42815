"""Learning from earlier networks: what they see, how much they weigh, and which are refused."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import small_recipe
from torch import nn

from mien.data import FaceSamples
from mien.errors import Interrupted, MissingPathError, RecipeError, RunError, UnknownNameError
from mien.evaluation import load_predictions
from mien.export import export_onnx
from mien.models import FaceClassifier
from mien.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mien.training import fit
from mien.training.engine import Batch, Teacher, distill
from mien.training.networks import classifier_teacher, create_network, load_teachers


def teacher(bias: list[float], size: int = 24) -> Teacher:
    """Gives the same logits for every face of its own size."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(size * size, 3))
    nn.init.zeros_(network[1].weight)
    network[1].bias.data = torch.tensor(bias)
    return classifier_teacher(FaceClassifier(network, size, 1, (0.0,), (1.0,), 3).eval())


def test_targets_are_a_mixture_of_the_labels_and_the_mean_of_the_teachers() -> None:
    batch = Batch(torch.rand(2, 1, 16, 16), torch.tensor([[1.0, 0, 0], [0, 0.25, 0.75]]), torch.tensor([0, 2]))
    teachers = [teacher([0.0, 1.0, 2.0]), teacher([3.0, 0.0, 0.0], size=20)]  # faces of 16 pixels are enlarged
    mean = (torch.tensor([0.0, 1.0, 2.0]).softmax(0) + torch.tensor([3.0, 0.0, 0.0]).softmax(0)) / 2
    found = distill(batch, teachers, 0.4)
    torch.testing.assert_close(found.targets, 0.6 * batch.targets + 0.4 * mean)
    assert not found.targets.requires_grad
    assert (found.images is batch.images, found.labels is batch.labels, found.votes) == (True, True, None)


def test_a_student_of_a_teacher_alone_comes_to_its_answers_whatever_the_labels(
    tmp_path: Path, drawn: FaceSamples
) -> None:
    recipe = small_recipe()
    network = create_network(recipe.model, recipe.data)
    nn.init.zeros_(network.model.classifier.weight)
    network.model.classifier.bias.data = torch.tensor([0.0, 0, 0, 4.0, 0, 0, 0])  # always happy
    path = tmp_path / "teacher.ckpt"
    save_checkpoint(path, Checkpoint(recipe, network.state_dict()))
    training = {"teachers": [str(path)], "teacher_weight": 1.0, "epochs": 4}
    run = fit(small_recipe(training=training, optimizer={"lr": 0.01}), drawn, tmp_path / "run", accelerator="cpu")
    answers = load_predictions(run.predictions_path("validation")).probabilities.argmax(1)
    assert (answers == 3).mean() > 0.9


def test_a_file_teaches_as_its_checkpoint_does(tmp_path: Path, drawn: FaceSamples) -> None:
    """What a face gets from both is the same, but for the rounding to whole grey levels."""
    run = fit(small_recipe(training={"epochs": 2}), drawn, tmp_path / "run", accelerator="cpu")
    assert abs(load_checkpoint(run.best_checkpoint).temperature - 1) > 0.05
    written = export_onnx(run, tmp_path / "teacher.onnx").path
    teachers = [str(run.best_checkpoint), str(written)]
    recipe = small_recipe(training={"teachers": teachers, "teacher_weight": 0.5, "epochs": 1})
    faces = torch.rand(5, 1, 48, 48)
    checkpoint, file = (each(faces) for each in load_teachers(recipe.training, recipe.data, torch.device("cpu")))
    torch.testing.assert_close(file, checkpoint, atol=5e-3, rtol=0)
    student = fit(recipe, drawn, tmp_path / "student", accelerator="cpu")
    expected = [hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in teachers]
    assert student.load_report().teachers_sha256 == tuple(expected)
    assert run.load_report().teachers_sha256 is None


def test_a_training_does_not_go_on_under_another_teacher(tmp_path: Path, drawn: FaceSamples) -> None:
    plain, path = small_recipe(), tmp_path / "teacher.ckpt"
    recipe = small_recipe(training={"teachers": [str(path)], "teacher_weight": 0.5, "epochs": 1})
    save_checkpoint(path, Checkpoint(plain, create_network(plain.model, plain.data).state_dict()))
    with pytest.raises(Interrupted):
        fit(recipe, drawn, tmp_path / "run", accelerator="cpu", stop_signal=lambda: 15)
    other = small_recipe(seed=1)
    torch.manual_seed(1)
    save_checkpoint(path, Checkpoint(other, create_network(other.model, other.data).state_dict()))
    with pytest.raises(RunError, match=r"run: expected the teachers .* got files that have changed"):
        fit(recipe, drawn, tmp_path / "run", accelerator="cpu", resume=True)


def test_a_file_of_another_split_is_refused(tmp_path: Path, drawn: FaceSamples) -> None:
    taught_by_base = {"teachers": ["base"], "teacher_weight": 0.5}
    recipe = small_recipe(training=taught_by_base)
    assert len(load_teachers(recipe.training, recipe.data, torch.device("cpu"))) == 1
    for data in ({"protocol": "published"}, {"fold": 0}):
        with pytest.raises(RecipeError, match="trained with protocol contest"):
            fit(small_recipe(data=data, training=taught_by_base), drawn, tmp_path / "run", accelerator="cpu")
    with pytest.raises(UnknownNameError, match="base"):
        fit(small_recipe(training={**taught_by_base, "teachers": ["bass"]}), drawn, tmp_path / "run", accelerator="cpu")


@pytest.mark.parametrize("other", [{"protocol": "published"}, {"fold": 1, "folds": 4}])
def test_a_file_that_was_split_otherwise_is_refused(tmp_path: Path, drawn: FaceSamples, other: Any) -> None:
    """By subject, by fold, by the number of folds."""
    own = {"fold": 1, "group": "(x)"} if "fold" in other else {**other, "group": "(x)"}
    run = fit(small_recipe(data=own, training={"epochs": 1}), drawn, tmp_path / "run", accelerator="cpu")
    taught = {"teachers": [str(export_onnx(run, tmp_path / "file.onnx").path)], "teacher_weight": 0.5}
    for data in (other, {**other, "group": "(y)"}):
        recipe = small_recipe(data=data, training=taught)
        with pytest.raises(RecipeError, match=r"got one trained with protocol .* group \(x\)"):
            load_teachers(recipe.training, recipe.data, torch.device("cpu"))
    recipe = small_recipe(data=own, training=taught)
    assert len(load_teachers(recipe.training, recipe.data, torch.device("cpu"))) == 1


def test_a_teacher_of_another_split_or_none_at_all_is_refused(tmp_path: Path, drawn: FaceSamples) -> None:
    other = small_recipe(data={"protocol": "published"})
    path = tmp_path / "teacher.ckpt"
    save_checkpoint(path, Checkpoint(other, create_network(other.model, other.data).state_dict()))
    for name, error in ((str(path), RecipeError), ("no-such.ckpt", MissingPathError)):
        recipe = small_recipe(training={"teachers": [name], "teacher_weight": 0.5})
        with pytest.raises(error):
            fit(recipe, drawn, tmp_path / error.__name__, accelerator="cpu")
    assert not (tmp_path / "MissingPathError").exists()  # nothing stands in the way of the next try
    with pytest.raises(RecipeError, match="go together"):
        small_recipe(training={"teachers": [str(path)]})
    with pytest.raises(RecipeError, match="go together"):
        small_recipe(training={"teacher_weight": 0.5})
