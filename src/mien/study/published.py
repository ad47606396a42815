"""The published study's table, and what its code did, as it was reported."""

from typing import Any

PUBLISHED: dict[str, Any] = {
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
"""Accuracy on Public and Private together, by the recipe that re-creates the row; one run each, no intervals."""

DIFFERENCES: tuple[tuple[str, str, str], ...] = (
    (
        "Model 2",
        "ResNet-50, ImageNet weights, fine-tuned at 224 px",
        "a frozen ResNet-18 at 128 px with a 512-unit head and no augmentation",
    ),
    (
        "Models 3 and 4",
        "flip, rotation and brightness in training",
        "no augmentation: training and validation were two views of one dataset object,"
        " and the test transform was set on it",
    ),
    ("Model 4", "CBAM: channel, then spatial attention", "the spatial half only, lr 1e-4 and a step schedule"),
    (
        "Validation",
        "10 % of all pictures (3,589)",
        "20 % of Training (5,742); here that is --set data.validation_rows=5742",
    ),
    ("Model 1", "128 px, no batch norm between the convolutions", "48 px grey, batch norm and dropout .25"),
    ("Runs", "not stated", "one run of each model"),
)
"""What, as the text states it, and what the code did instead."""
