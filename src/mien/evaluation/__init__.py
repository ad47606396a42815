"""Predictions -> numbers: metrics, intervals, comparisons. Torch is needed only where a run's network is opened."""

from mien.evaluation.metrics import METRICS
from mien.evaluation.predictions import Predictions, load_predictions

__all__ = ["METRICS", "Predictions", "load_predictions"]
