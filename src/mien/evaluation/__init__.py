"""Predictions -> numbers, figures and reports."""

from mien.evaluation.metrics import METRICS
from mien.evaluation.predict import Predictions, load_predictions, predict_split

__all__ = ["METRICS", "Predictions", "load_predictions", "predict_split"]
