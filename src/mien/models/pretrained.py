"""Weights that a network of timm starts from: which ones a name means, and whether they can be had.

``imagenet`` is timm's first choice for a network, ``imagenet:TAG`` another of its choices: ``imagenet:tv_in1k`` and
``imagenet:tv2_in1k`` are torchvision's V1 and V2. Files of torchvision's ResNets fit as they are.
"""

import contextlib
import pickle
import struct
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from mien import errors

SCRATCH, IMAGENET = "scratch", "imagenet"

LISTED = 8
"""Names of weights that an error lists."""

SECONDS = 10.0
"""For the hub to answer whether it has a file."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights on timm's hub, the first one that there is."""

UNREADABLE = (
    pickle.UnpicklingError, struct.error, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What ``torch.load`` raises on a file that is none of its own, by the bytes that it begins with."""


def is_imagenet(weights: str) -> bool:
    """Whether weights are named by ``imagenet`` or ``imagenet:TAG``."""
    return weights.partition(":")[0] == IMAGENET


def pretrained_name(backbone: str, weights: str) -> str:
    """The full name in timm of the weights that ``imagenet`` or ``imagenet:TAG`` mean, such as ``resnet50.a1_in1k``.

    Raises:
        ModelError: timm has none for this network.
        UnknownNameError: none with this tag; lists the tags.
    """
    architecture, _, own_tag = backbone.partition(".")
    tag = weights.partition(":")[2] or own_tag
    known = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if not known:
        raise errors.ModelError(f"timm has no pretrained weights for {backbone}; use model.weights = 'scratch'")
    if tag and tag not in known:
        raise errors.unknown_name(known, tag, f"weights of {architecture}")
    return f"{architecture}.{tag or _entry(architecture).tag}"


def _entry(name: str) -> Any:
    """What timm knows of weights; of a network, of its first choice."""
    return timm.get_pretrained_cfg(name)


def pretrained_arguments(backbone: str, weights: str) -> dict[str, object]:
    """Arguments that make ``timm.create_model`` start from ``weights``: ``scratch``, ``imagenet[:TAG]``, or a path.

    timm then drops the old classifier, converts the first convolution to the number of channels, and resizes
    position embeddings.

    Raises:
        MissingPathError: there is no such file.
        UnknownNameError: no such tag.
        ModelError: no weights for this network, weights that cannot be fetched, or a file that does not fit the
            network, with the list of what does not.
    """
    if weights == SCRATCH:
        return {}
    if not is_imagenet(weights):
        path = find_file(weights)
        with torch.device("meta"):
            reference: Any = timm.create_model(backbone)
        classifiers = reference.pretrained_cfg.get("classifier") or ()
        classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
        check_fits(path, backbone, expected=reference.state_dict(), got=read_state_dict(path), free=classifiers)
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    name = pretrained_name(backbone, weights)
    chosen: dict[str, object] = {"pretrained": True, "pretrained_cfg": name.partition(".")[2]}
    found, repository = find_weights(name), _entry(name).hf_hub_id
    if repository is None:
        return chosen  # the few that are not on its hub timm fetches itself
    path = found if isinstance(found, Path) else Path(huggingface_hub.hf_hub_download(repository, found))
    return {**chosen, "pretrained_cfg_overlay": {"file": str(path), "custom_load": False}}


def find_file(weights: str) -> Path:
    """The path, or ``MissingPathError`` where there is no such file."""
    path = Path(weights)
    if not path.is_file():
        raise errors.MissingPathError(
            f"expected 'scratch', 'imagenet', 'imagenet:TAG' or a file as weights; there is no file {path}"
        )
    return path


def find_weights(name: str) -> Path | str:
    """Where weights of a full name are: a file in this machine's cache, or else the name of the file to be fetched.

    The hub is asked once, for some seconds: its own download would try six times before it gives up.

    Raises:
        ModelError: they are not here, and cannot be fetched.
    """
    entry = _entry(name)
    source: str = entry.hf_hub_id or entry.url
    try:
        if entry.hf_hub_id is None:
            cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(source).name
            if not cached.is_file():
                urllib.request.urlopen(urllib.request.Request(source, method="HEAD"), timeout=SECONDS).close()
            return cached if cached.is_file() else source
        for file in HUB_FILES:
            if isinstance(found := huggingface_hub.try_to_load_from_cache(source, file), str):
                return Path(found)
        for file in HUB_FILES:
            with contextlib.suppress(EntryNotFoundError):
                huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(source, file), timeout=SECONDS)
                return file
        reason = f"no {' or '.join(HUB_FILES)} there"
    except Exception as error:  # which library asks, and what it raises, depends on the hub's version
        reason = type(error).__name__
    raise errors.ModelError(
        f"the weights {name} are not on this machine and could not be fetched from {source} ({reason})."
        " Offline: fetch model.safetensors elsewhere and give it with --set model.weights=FILE, or take scratch"
    )


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
        raise errors.ModelError(
            f"{path}: expected a safetensors file, or a pth file of tensors alone, got a damaged one, or one of another"
            " kind; fetch it again, or save its state_dict()"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise errors.ModelError(f"{path}: expected tensors by name, the weights of a timm network")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def check_fits(
    path: Path,
    name: str,
    *,
    expected: Mapping[str, Tensor],
    got: Mapping[str, Tensor],
    free: tuple[str, ...] = (),
) -> None:
    """Refuse weights at ``path`` whose names or shapes differ from the network's own.

    Layers named in ``free`` may be missing or of another shape.

    Raises:
        ModelError: with the list of what does not fit.
    """

    def is_free(key: str) -> bool:
        return key.endswith("num_batches_tracked") or key.rpartition(".")[0] in free

    missing = sorted(key for key in expected.keys() - got.keys() if not is_free(key))
    foreign = sorted(key for key in got.keys() - expected.keys() if not is_free(key))
    shapes = sorted(
        f"{key} {tuple(got[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & got.keys()
        if got[key].shape != expected[key].shape and not is_free(key)
    )
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:LISTED])}{', ...' if len(keys) > LISTED else ''}"
        for what, keys in (("missing", missing), ("not in the network", foreign), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise errors.ModelError(f"{path} does not fit {name}: " + "; ".join(problems))
