"""Maps of a face: where the evidence for an emotion lies, and where attention modules put their weight.

Sources:
    Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391, computed by pytorch-grad-cam.
    Attention: the weights of the network's own modules, where they differ over the face (``models.attention_maps``).
Deviations: Grad-CAM's maps are scaled to [0, 1] face by face, as the library does, so that only the shape of a map
means something; the layer is not always the last one, see :func:`map_layer`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.errors import ModelError, import_extra
from mien.face.network import as_planes
from mien.models import FaceClassifier, attention_maps

Faces = NDArray[np.uint8]
"""``(N, S, S)``, or in colour ``(N, S, S, 3)``, as stored."""
Classes = NDArray[np.integer[Any]]
"""``(N,)``, for each face the class to be explained, by its number."""
Maps = NDArray[np.float32]
"""``(N, S, S)``, not negative: the larger, the more a pixel of the face counts."""
Explain = Callable[[FaceClassifier, Faces, Classes], Maps]

MIN_SIDE = 4
"""Cells on a side that a layer's map must have: on fewer, eyes and mouth cannot be told apart."""
MAX_DEPTH = 2
"""Levels of modules, counted from the network, among which a map is looked for: stages and their blocks."""
BATCH = 64
"""Faces that go through the network together."""


@dataclass(frozen=True)
class MapLayer:
    """The layer that Grad-CAM reads: the output of a module of the network, with ``side`` x ``side`` cells."""

    name: str
    module: nn.Module
    side: int


@dataclass(frozen=True)
class Method:
    """A way to explain an answer.

    Attributes:
        name: ``grad_cam``, or ``attention`` and the module's name.
        title: in words, to begin a sentence with.
        layer: whose map it is.
        side: cells of that map on a side.
    """

    name: str
    title: str
    layer: str
    side: int
    explain: Explain


def methods_of(classifier: FaceClassifier) -> list[Method]:
    """Grad-CAM, and the weights of every attention module that differ over the face.

    Raises:
        ModelError: the network has no layer that Grad-CAM could read.
    """
    layer = map_layer(classifier)
    found = [Method("grad_cam", "Grad-CAM", layer.name, layer.side, grad_cam)]
    blank = np.zeros((1, classifier.input_size, classifier.input_size), np.uint8)
    for name, weights in _attention(classifier, blank).items():
        title = f"Attention of {name}"
        found.append(Method(f"attention:{name}", title, name, weights.shape[-1], partial(attention_map, module=name)))
    return found


def grad_cam(classifier: FaceClassifier, faces: Faces, classes: Classes) -> Maps:
    """Where features speak for a class: ``(N, S, S)`` in [0, 1]; all 0 where nothing speaks for it.

    The network is left in evaluation mode, without gradients.

    Raises:
        ModelError: the network has no layer that could be read.
        MissingExtraError: pytorch-grad-cam is not installed.
    """
    library = import_extra("pytorch_grad_cam", "train")
    target = import_extra("pytorch_grad_cam.utils.model_targets", "train").ClassifierOutputTarget
    layer, prefix = map_layer(classifier), _prefix_tokens(classifier.model)
    cam = library.GradCAM(classifier, [layer.module], lambda output: as_map(output, prefix))
    maps = np.zeros(faces.shape[:3], np.float32)
    try:
        for start in range(0, len(faces), BATCH):
            part = slice(start, start + BATCH)
            maps[part] = cam(_stored(classifier, faces[part]), [target(int(label)) for label in classes[part]])
    finally:
        # Its own context manager would print an IndexError and swallow it.
        cam.activations_and_grads.release()
        classifier.zero_grad(set_to_none=True)
    return maps


def attention_map(classifier: FaceClassifier, faces: Faces, classes: Classes, *, module: str) -> Maps:
    """The weights of one attention module over each face: ``(N, S, S)`` in (0, 1), means over its channels.

    They are the module's own, whatever the class.
    """
    maps = np.zeros(faces.shape[:3], np.float32)
    for start in range(0, len(faces), BATCH):
        part = slice(start, start + BATCH)
        weights = _attention(classifier, faces[part])[module].mean(1, keepdim=True)  # (n, C, H, W) -> (n, 1, H, W)
        large = F.interpolate(weights, size=faces.shape[1:3], mode="bilinear", align_corners=False)
        maps[part] = large[:, 0].cpu().numpy()  # (n, 1, S, S) -> (n, S, S)
    return maps


def map_layer(classifier: FaceClassifier) -> MapLayer:
    """The layer whose map of the face is read: the last before its cells are pooled.

    A transformer's tokens meet only in attention, and behind the last of it a class token is all that counts: there the
    input of the last block's attention is read. In all other networks it is the output of the last stage or block that
    has the shape of a map of at least ``MIN_SIDE`` cells on a side; ResNet-50 at 64 pixels ends in 2 x 2.

    Raises:
        ModelError: there is none.
    """
    prefix = _prefix_tokens(classifier.model)
    outputs: list[tuple[str, nn.Module, Any]] = []
    hooks = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: outputs.append((name, module, output)))
        for name, module in _candidates(classifier.model)
    ]
    device, size = next(classifier.parameters()).device, classifier.input_size
    classifier.eval()
    try:
        with torch.inference_mode():
            classifier(torch.zeros(1, 1, size, size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    for name, module, output in reversed(outputs):
        found = as_map(output, prefix)
        if found is not None and found.shape[-1] >= MIN_SIDE:
            return MapLayer(name, module, found.shape[-1])
    raise ModelError(
        f"expected a network with a map of the face of {MIN_SIDE} x {MIN_SIDE} cells or more, got none;"
        f" choose a larger model.input_size than {size}, which gives larger maps"
    )


def as_map(output: Any, prefix: int = 0) -> Tensor | None:
    """A layer's output as ``(N, C, h, h)``, or ``None`` where it is no map of a face.

    Faces are square, so that the two equal sides of ``(N, C, h, h)`` or ``(N, h, h, C)`` tell where the channels are.
    The first ``prefix`` tokens of ``(N, T, C)`` stand for no cell, such as a class token.
    """
    if not isinstance(output, torch.Tensor):
        return None
    if output.ndim == 4 and output.shape[2] == output.shape[3]:
        return output
    if output.ndim == 4 and output.shape[1] == output.shape[2]:
        return output.permute(0, 3, 1, 2)  # (N, h, h, C) -> (N, C, h, h)
    if output.ndim == 3:
        count, side = output.shape[1] - prefix, math.isqrt(max(0, output.shape[1] - prefix))
        if side * side == count:
            tokens = output[:, prefix:].transpose(1, 2)  # (N, T, C) -> (N, C, h * h)
            return tokens.reshape(*tokens.shape[:2], side, side)
    return None


def _candidates(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules among which the layer is looked for."""
    backbone = getattr(model, "backbone", model)
    blocks: Any = getattr(backbone, "blocks", None)
    if blocks is not None and hasattr(blocks[-1], "attn") and hasattr(blocks[-1], "norm1"):
        return [(f"blocks.{len(blocks) - 1}.norm1", blocks[-1].norm1)]
    named = [(name, name.removeprefix("backbone.").count("."), module) for name, module in model.named_modules()]
    return [(name, module) for name, depth, module in named if name and depth < MAX_DEPTH]


def _prefix_tokens(model: nn.Module) -> int:
    return int(getattr(getattr(model, "backbone", model), "num_prefix_tokens", 0))


def _attention(classifier: FaceClassifier, faces: Faces) -> dict[str, Tensor]:
    """Modules whose weights differ over the face, in the order of the network -> the weights, ``(N, C, H, W)``."""
    classifier.eval()
    with attention_maps(classifier.model) as maps, torch.no_grad():
        classifier(_stored(classifier, faces))
    return {name: weights for name, weights in maps.items() if weights[0, 0].numel() > 1}


def _stored(classifier: FaceClassifier, faces: Faces) -> Tensor:
    """Faces as the network takes them: uint8 ``(N, C, S, S)`` on its device."""
    return torch.from_numpy(as_planes(np.asarray(faces)).copy()).to(next(classifier.parameters()).device)
