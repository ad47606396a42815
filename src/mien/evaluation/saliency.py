"""Maps of a face: where the evidence for an emotion lies, and which places the attention modules weigh.

Sources:
    Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391, computed by pytorch-grad-cam.
    Attention: the weights of the network's own spatial modules (``mien.models.attention``).
Deviations: Grad-CAM's maps are scaled to [0, 1] face by face, as the library does, so that only the shape of a map
means something; the layer is not always the last one, see :func:`map_layer`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError, import_extra

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mien.models import FaceClassifier

Faces = NDArray[np.uint8]
"""``(N, S, S)``, as stored."""
Classes = NDArray[np.integer[Any]]
"""``(N,)``, for each face the emotion to be explained, as index into ``EMOTIONS``."""
Maps = NDArray[np.float32]
"""``(N, S, S)``, not negative: the larger, the more a place of the face counts."""
Explain = Callable[["FaceClassifier", Faces, Classes], Maps]

COARSEST = 4
"""Places on a side that a layer's map must have: on fewer, eyes and mouth cannot be told apart."""
DEEPEST = 2
"""Levels of modules, counted from the network, among which a map is looked for: stages and their blocks."""
BATCH = 64
"""Faces that go through the network together."""


@dataclass(frozen=True)
class MapLayer:
    """The layer that Grad-CAM reads.

    Attributes:
        name: of the module in the network.
        module: whose output it is.
        side: places of its map on a side.
    """

    name: str
    module: "nn.Module"
    side: int


@dataclass(frozen=True)
class Method:
    """A way to explain an answer.

    Attributes:
        name: ``grad_cam``, or ``attention`` and the module's name.
        title: in words, to begin a sentence with.
        layer: whose map it is.
        side: places of that map on a side.
        explain: makes the maps.
    """

    name: str
    title: str
    layer: str
    side: int
    explain: Explain


def methods_of(classifier: "FaceClassifier") -> list[Method]:
    """Grad-CAM, and the weights of every spatial attention module.

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


def grad_cam(classifier: "FaceClassifier", faces: Faces, classes: Classes) -> Maps:
    """Places whose features speak for a class: ``(N, S, S)`` in [0, 1]; all 0 where nothing speaks for it.

    Args:
        classifier: left in evaluation mode, without gradients.
        faces: uint8 ``(N, S, S)``.
        classes: ``(N,)``.

    Raises:
        ModelError: the network has no layer that could be read.
        MissingExtraError: pytorch-grad-cam is not installed.
    """
    library = import_extra("pytorch_grad_cam", "train")
    target = import_extra("pytorch_grad_cam.utils.model_targets", "train").ClassifierOutputTarget
    layer, prefix = map_layer(classifier), _prefix_tokens(classifier.model)
    cam = library.GradCAM(_of_stored_faces(classifier), [layer.module], lambda output: as_map(output, prefix))
    maps = np.zeros(faces.shape, np.float32)
    try:
        for part in _batches(len(faces)):
            maps[part] = cam(_stored(classifier, faces[part]), [target(int(label)) for label in classes[part]])
    finally:
        # Its own context manager would print an IndexError and swallow it.
        cam.activations_and_grads.release()
        classifier.zero_grad(set_to_none=True)
    return maps


def attention_map(classifier: "FaceClassifier", faces: Faces, classes: Classes, *, module: str) -> Maps:
    """The weights that one attention module gives to the places of each face: ``(N, S, S)`` in (0, 1).

    They are the module's own, whatever the class.
    """
    import torch.nn.functional as F  # noqa: N812

    maps = np.zeros(faces.shape, np.float32)
    for part in _batches(len(faces)):
        weights = _attention(classifier, faces[part])[module]  # (n, 1, H, W)
        large = F.interpolate(weights, size=faces.shape[1:], mode="bilinear", align_corners=False)
        maps[part] = large[:, 0].cpu().numpy()  # (n, 1, S, S) -> (n, S, S)
    return maps


def map_layer(classifier: "FaceClassifier") -> MapLayer:
    """The layer whose map of the face is read: the last before the places are put together.

    A transformer's tokens meet only in attention, and behind the last of it a class token is all that counts: there the
    input of the last block's attention is read. In all other networks it is the output of the last stage or block that
    has the shape of a map of at least ``COARSEST`` places on a side; ResNet-50 at 64 pixels ends in 2 x 2.

    Raises:
        ModelError: there is none.
    """
    import torch

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
        if found is not None and found.shape[-1] >= COARSEST:
            return MapLayer(name, module, found.shape[-1])
    raise ModelError(
        f"expected a network with a map of the face of {COARSEST} x {COARSEST} places or more, came none;"
        f" a larger model.input_size than {size} gives larger maps"
    )


def as_map(output: Any, prefix: int = 0) -> "Tensor | None":
    """A layer's output as ``(N, C, h, h)``, or ``None`` where it is no map of a face.

    Faces are square, so that the two equal sides of ``(N, C, h, h)`` or ``(N, h, h, C)`` tell where the channels are.

    Args:
        output: of any module.
        prefix: tokens of ``(N, T, C)`` that stand for no place, such as a class token.
    """
    import torch

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


def _candidates(model: "nn.Module") -> "list[tuple[str, nn.Module]]":
    """Names and modules among which the layer is looked for."""
    backbone = getattr(model, "backbone", model)
    blocks: Any = getattr(backbone, "blocks", None)
    if blocks is not None and hasattr(blocks[-1], "attn") and hasattr(blocks[-1], "norm1"):
        return [(f"blocks.{len(blocks) - 1}.norm1", blocks[-1].norm1)]
    return [
        (name, module)
        for name, module in model.named_modules()
        if name and name.removeprefix("backbone.").count(".") < DEEPEST
    ]


def _prefix_tokens(model: "nn.Module") -> int:
    return int(getattr(getattr(model, "backbone", model), "num_prefix_tokens", 0))


def _attention(classifier: "FaceClassifier", faces: Faces) -> "dict[str, Tensor]":
    """Spatial modules by name, in the order of the network, with their weights for faces: ``(N, 1, H, W)``."""
    import torch

    from mien.models import attention_maps

    classifier.eval()
    with attention_maps(classifier.model) as maps, torch.no_grad():
        classifier(classifier.prepare(_stored(classifier, faces)))
    return {name: weights for name, weights in maps.items() if weights[0, 0].numel() > 1}


def _stored(classifier: "FaceClassifier", faces: Faces) -> "Tensor":
    """Faces ``(N, S, S)`` as the network takes them: uint8 ``(N, 1, S, S)`` on its device."""
    import torch

    return torch.from_numpy(np.array(faces)).unsqueeze(1).to(next(classifier.parameters()).device)


def _of_stored_faces(classifier: "FaceClassifier") -> "nn.Module":
    """A network from stored faces to logits, so that the library makes maps as large as these."""
    from torch import nn

    class OfStoredFaces(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, faces: "Tensor") -> "Tensor":
            logits: Tensor = self.classifier(self.classifier.prepare(faces))
            return logits

    return OfStoredFaces()


def _batches(count: int) -> list[slice]:
    return [slice(start, start + BATCH) for start in range(0, count, BATCH)]
