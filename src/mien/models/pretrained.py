"""Pretrained weights for timm networks: from timm's hub, or from a file that is checked key by key."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mien.errors import UNREADABLE, MissingPathError, ModelError, first_line

LISTED = 8


def pretrained_arguments(backbone: str, weights: str, create: Callable[..., nn.Module]) -> dict[str, Any]:
    """Arguments that make ``timm.create_model`` start from ``weights``.

    timm then drops the old classifier, converts the first convolution to the number of channels, and resizes
    position embeddings.

    Args:
        backbone: a timm name.
        weights: ``scratch``, ``imagenet``, or a path.
        create: builds the network to be filled, for the check of a file.

    Raises:
        MissingPathError: there is no such file.
        ModelError: no weights for this network, or a file that does not fit it, with the list of what does not.
    """
    if weights == "scratch":
        return {}
    if weights == "imagenet":
        _reachable_on_hub(backbone)
        return {"pretrained": True}
    path = Path(weights)
    if not path.is_file():
        raise MissingPathError(f"weights must be 'scratch', 'imagenet' or a file; there is no file {path}")
    _check_backbone(path, backbone)
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or pth file by name; training wrappers (``state_dict``, ``module.``) removed.

    Raises:
        ModelError: not such a file, or one that would run code when loaded.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, *UNREADABLE) as error:
        raise ModelError(f"{path} is no readable safetensors or weights-only pth file: {first_line(error)}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path} holds no table of tensors; expected the weights of a timm network")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def normalization_of(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels in [0, 1], that the pretrained weights expect."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        raise ModelError(f"timm states no mean and standard deviation for {backbone}; use normalization = 'unit'")
    return tuple(config.mean), tuple(config.std)


def _reachable_on_hub(backbone: str) -> None:
    """Say clearly what to do where the hub cannot be reached, before timm fails deep inside."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        raise ModelError(f"timm has no pretrained weights for {backbone}; use model.weights = 'scratch'")
    if config.hf_hub_id is None:
        return
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        huggingface_hub.hf_hub_download(config.hf_hub_id, "model.safetensors")
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"the weights of {backbone} could not be fetched from {config.hf_hub_id}: {type(error).__name__}."
            " Offline: fetch model.safetensors elsewhere and give it with --set model.weights=FILE"
        ) from error


def check_fits(
    path: Path,
    name: str,
    *,
    expected: Mapping[str, Tensor],
    came: Mapping[str, Tensor],
    free: tuple[str, ...] = (),
) -> None:
    """Refuse weights whose names or shapes differ from the network's own.

    Args:
        path: where the weights come from.
        name: of the network.
        expected: the network's tensors by name.
        came: the weights.
        free: names of layers that may be missing or of another shape.

    Raises:
        ModelError: with the list of what does not fit.
    """

    def is_free(key: str) -> bool:
        return key.endswith("num_batches_tracked") or key.rpartition(".")[0] in free

    missing = sorted(key for key in expected.keys() - came.keys() if not is_free(key))
    foreign = sorted(key for key in came.keys() - expected.keys() if not is_free(key))
    shapes = sorted(
        f"{key} {tuple(came[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & came.keys()
        if came[key].shape != expected[key].shape and not is_free(key)
    )
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:LISTED])}{', ...' if len(keys) > LISTED else ''}"
        for what, keys in (("missing", missing), ("not in the network", foreign), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise ModelError(f"{path} does not fit {name}: " + "; ".join(problems))


def _check_backbone(path: Path, backbone: str) -> None:
    """Refuse a file that does not fit timm's network, the classifier's shape aside."""
    with torch.device("meta"):
        reference: Any = timm.create_model(backbone)
    classifiers = reference.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    check_fits(path, backbone, expected=reference.state_dict(), came=read_state_dict(path), free=classifiers)
