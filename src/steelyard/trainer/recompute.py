"""Activation checkpointing: a block keeps its inputs alone, and its activations are made again in the backward pass.

Chen et al. 2016 (sublinear memory), through `torch.utils.checkpoint`. The second pass draws the same dropout, and leaves batch
normalisation's running statistics alone: they moved in the first. Names of weights stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from steelyard.errors import InvalidInput

__all__ = ["blocks_of", "checkpointed"]


@contextmanager
def checkpointed(model: nn.Module, names: str | Sequence[str]) -> Iterator[tuple[str, ...]]:
    """In the block, the named layers (or those `blocks_of` finds, for ``"auto"``) are checkpointed; their names.

    Raises `InvalidInput` for a name that no layer has, and where nothing is found.
    """
    chosen = () if names == "none" else blocks_of(model) if isinstance(names, str) else tuple(names)
    layers = dict(model.named_modules())
    missing = [name for name in chosen if name not in layers]
    if missing:
        raise InvalidInput(f"checkpointing: no layer {missing[0]!r}; it has {', '.join(list(layers)[1:8])} ...")
    blocks = [layers[name] for name in chosen]
    for block in blocks:
        inner = _segments if type(block) is nn.Sequential and _flat(block) else _whole
        block.forward = MethodType(inner, block)  # bound, so that a deep copy of the net is checkpointed too
    try:
        yield chosen
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def blocks_of(model: nn.Module) -> tuple[str, ...]:
    """What repeats: members of sequences that hold layers of their own; else the longest plain sequence, cut into pieces.

    >>> block = lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> blocks_of(nn.Sequential(block(), block(), nn.Linear(2, 2))), blocks_of(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))))
    (('0', '1'), ('',))
    """
    found: list[str] = []
    for name, layer in model.named_modules():
        inside = any(f"{name}.".startswith(f"{outer}.") for outer in found)
        if isinstance(layer, nn.Sequential | nn.ModuleList) and not inside:
            found += [f"{name}.{key}".lstrip(".") for key, child in layer.named_children() if _composed(child)]
    if found:
        return _innermost(found, dict(model.named_modules()))
    flat = [
        (len(layer), name) for name, layer in model.named_modules() if type(layer) is nn.Sequential and _flat(layer)
    ]
    longest = max(flat, default=(0, ""))
    if longest[0] < 4:
        raise InvalidInput(
            "checkpointing: no repeated block is found: name layers, such as checkpointing=[layer1, layer2]"
        )
    return (longest[1],)


def _innermost(found: Sequence[str], layers: dict[str, nn.Module]) -> tuple[str, ...]:
    """A stage, which is a sequence of blocks, gives way to its blocks."""
    out: list[str] = []
    for name in found:
        layer = layers[name]
        inner = [f"{name}.{key}" for key, child in layer.named_children() if _composed(child)]
        out += inner if isinstance(layer, nn.Sequential) and len(inner) == len(layer) else [name]
    return tuple(out)


def _composed(layer: nn.Module) -> bool:
    return any(True for _ in layer.children()) and any(True for _ in layer.parameters())


def _flat(layer: nn.Module) -> bool:
    return not any(_composed(child) for child in layer.children())


def _whole(self: nn.Module, *inputs: Any, **named: Any) -> Any:
    return _run(self, type(self).forward, inputs, named)


def _segments(self: nn.Module, inputs: torch.Tensor) -> Any:
    """A plain sequence in about as many pieces as the root of its length, each checkpointed."""
    for piece in _pieces(list(self.children())):
        inputs = _run(nn.Sequential(*piece).train(self.training), nn.Sequential.forward, (inputs,), {})
    return inputs


def _pieces(layers: Sequence[nn.Module]) -> list[list[nn.Module]]:
    """No piece begins with a layer that works in place: it would change the input that is kept for the second pass."""
    length = math.ceil(len(layers) / math.isqrt(len(layers)))
    pieces: list[list[nn.Module]] = [[]]
    for layer in layers:
        if len(pieces[-1]) >= length and not getattr(layer, "inplace", False):
            pieces.append([])
        pieces[-1].append(layer)
    return pieces


def _run(block: nn.Module, forward: Callable[..., Any], inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(block, *inputs, **named)
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _still(norms)

    more: dict[str, Any] = {"context_fn": contexts} if norms else {}  # a compiled net knows no contexts here
    return checkpoint(forward, block, *inputs, use_reentrant=False, **more, **named)


@contextmanager
def _still(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Normalise by the batch as in training; the running statistics take nothing of it, and it is not counted."""
    kept = [
        (norm, norm.momentum, count, count.clone()) for norm in norms if (count := norm.num_batches_tracked) is not None
    ]
    for norm, *_ in kept:
        norm.momentum = 0.0  # not track_running_stats, which would change what autograd saves
    try:
        yield
    finally:
        for norm, momentum, count, before in kept:
            norm.momentum = momentum
            count.copy_(before)
