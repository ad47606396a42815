"""Architectures, one family a file, and their attention blocks; see ``mien.models.create`` for how to add one."""

from mien.models.attention import attention_maps
from mien.models.create import (
    MODELS,
    FaceClassifier,
    check_takes_faces,
    create_classifier,
    face_tensor,
    model_defaults,
    option_names,
    pretrained_weights,
    weights_available,
)
from mien.models.pretrained import check_fits

__all__ = [
    "MODELS",
    "FaceClassifier",
    "attention_maps",
    "check_fits",
    "check_takes_faces",
    "create_classifier",
    "face_tensor",
    "model_defaults",
    "option_names",
    "pretrained_weights",
    "weights_available",
]
