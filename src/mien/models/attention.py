"""What an attention block is, and how to see its weights from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn


class Attention(nn.Module):
    """Base of all blocks, built with the number of channels.

    Attributes:
        gate: the module that gives the weights, ``(N, C, 1, 1)`` or ``(N, 1, H, W)``, such as a sigmoid; a block that
            is made of other blocks, or that weighs nothing, has none. :func:`attention_maps` reads it from outside
            with hooks: nothing is kept and nothing is spent unless somebody asks.
    """

    gate: nn.Module

    def __init__(self, channels: int) -> None:
        super().__init__()

    @classmethod
    def in_block(cls, channels: int) -> "Attention":
        """The block as it sits inside residual blocks; the same, unless its authors built it in another way."""
        return cls(channels)


@contextmanager
def attention_maps(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the weights of every attention block of ``model`` while the context lasts.

    Yields:
        name of the block -> its weights in the last forward pass, ``(N, C, 1, 1)`` or ``(N, 1, H, W)``; empty
        before the first pass.
    """
    maps: dict[str, Tensor] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, weights: Tensor) -> None:
        maps[name] = weights.detach()

    hooks = [
        module.gate.register_forward_hook(partial(keep, name))
        for name, module in model.named_modules()
        if isinstance(module, Attention) and hasattr(module, "gate")
    ]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
