"""The published study: its table, as it was reported, and in what a run differs from a row of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from mien import recipe as recipes
from mien.evaluation.compare import ARITHMETIC
from mien.runs import Report, Run


class PublishedRow(TypedDict):
    """One model of the published study; accuracy in [0, 1], input in pixels."""

    accuracy: float
    input_size: int
    epochs: int
    title: str


class PublishedStudy(TypedDict):
    """Accuracy on ``n`` images, one run each, without intervals: by the recipe that re-creates the row.

    ``other`` holds accuracies that were reported of the same models after other numbers of epochs.
    """

    title: str
    year: int
    n: int
    split: str
    rows: dict[str, PublishedRow]
    other: dict[str, dict[str, float]]


PUBLISHED: PublishedStudy = {
    "title": "Enhancing Facial Emotion Recognition using CNNs, Transfer Learning, and Attention Mechanisms",
    "year": 2025,
    "n": 7178,
    "split": "published_test",
    "rows": {
        "baseline_cnn": {"accuracy": 0.589, "input_size": 128, "epochs": 30, "title": "Baseline CNN"},
        "resnet50": {"accuracy": 0.435, "input_size": 224, "epochs": 5, "title": "ResNet-50"},
        "attention_cnn": {"accuracy": 0.454, "input_size": 128, "epochs": 25, "title": "CNN with spatial attention"},
        "resnet50_cbam": {"accuracy": 0.674, "input_size": 224, "epochs": 20, "title": "ResNet-50 with CBAM"},
    },
    "other": {"resnet50_cbam": {"accuracy": 0.662, "epochs": 5}},
}

MAIN_SETTINGS = ("model.name", "model.input_size", "model.weights", "training.epochs", "data.protocol")
"""Settings that a reader asks for first, in this order."""


@dataclass(frozen=True)
class Deviation:
    """A setting such as ``model.input_size`` that is not as published; ``None`` is the default."""

    key: str
    ours: object
    published: object

    @property
    def is_main(self) -> bool:
        """Whether it stands in the comparison table, not only below it."""
        return self.key in MAIN_SETTINGS


def published_row(report: Report) -> PublishedRow | None:
    """The row that a run re-creates; ``None`` for other recipes, and for other data than FER-2013."""
    return PUBLISHED["rows"].get(report.recipe) if report.data == "fer2013" else None


def deviations(run: Run, report: Report) -> tuple[Deviation, ...]:
    """Settings that are not as published, the main ones first.

    The run's ``recipe.toml``, where there is one, is compared with ``recipes/published/<recipe>.toml``; its report,
    whose recipe is a published row's, holds what was really done, such as the epochs until an early end.
    """
    row = PUBLISHED["rows"][report.recipe]
    done = {
        "data.protocol": report.protocol,
        "model.name": report.model,
        "model.input_size": report.input_size,
        "model.weights": report.initialization,
        "training.epochs": report.epochs,
    }
    ours = (flat_settings(recipes.load_recipe(run.recipe_path)) if run.recipe_path.exists() else {}) | done
    theirs: dict[str, object] = {
        **flat_settings(recipes.load_recipe(recipes.find_recipe(f"published/{report.recipe}"))),
        "model.input_size": row["input_size"],
        "training.epochs": row["epochs"],
    }
    return _differences(ours, theirs)


def differences(recipe: recipes.Recipe, reference: recipes.Recipe) -> tuple[Deviation, ...]:
    """Settings of a recipe that are not the reference's, the main ones first."""
    return _differences(flat_settings(recipe), flat_settings(reference))


def _differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> tuple[Deviation, ...]:
    keys = (*MAIN_SETTINGS, *sorted(ours.keys() - set(MAIN_SETTINGS)))
    pairs = [(key, ours[key], theirs.get(key)) for key in keys]
    return tuple(Deviation(key, mine, published) for key, mine, published in pairs if mine != published)


def flat_settings(recipe: recipes.Recipe) -> dict[str, object]:
    """``{"model.input_size": 128, ...}`` without the name, the seed and what only changes the speed.

    Options of the model are called ``model.<name>``; those that are not set are ``None``.
    """
    settings = dict.fromkeys(f"model.{name}" for name in recipes.MOVED_OPTIONS) | {
        key.replace("model.options.", "model."): value for key, value in recipe.flat().items() if "." in key
    }
    return {key: value for key, value in settings.items() if key.rpartition(".")[2] not in ARITHMETIC}
