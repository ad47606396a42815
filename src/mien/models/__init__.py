"""Architectures, one family a file, and their attention blocks; see ``mien.models.create`` for how to add one."""

from mien.models.attention import attention_maps
from mien.models.create import MODELS, FaceClassifier, create_classifier, model_defaults, option_names
from mien.models.timm_backbone import check_fits

__all__ = [
    "MODELS",
    "FaceClassifier",
    "attention_maps",
    "check_fits",
    "create_classifier",
    "model_defaults",
    "option_names",
]
