"""Nets of fewer blocks: of repeated blocks that keep their input's shape, only some stay. Imports torch.

Such a block adds to what passes by it, so a net without some of them still computes something near; DistilBERT (Sanh et
al. 2019) begins from every other layer of its teacher in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from steelyard.passes.lowrank import put

__all__ = ["Passed", "kept_of", "repeated", "skip", "skippable"]


class Passed(nn.Module):
    """In the place of a block that is left out: gives its first input."""

    def forward(self, inputs: torch.Tensor, *_rest: Any, **_options: Any) -> torch.Tensor:
        """The input."""
        return inputs


def skip(model: nn.Module, name: str) -> None:
    """Leave a block out; the others keep their names."""
    put(model, name, Passed())


def skippable(model: nn.Module, inputs: torch.Tensor, share: float) -> list[str]:
    """Names of the blocks to leave out for `share` of each row of repeated blocks to stay, evenly spread."""
    keeping = _keeping_shape(model, inputs)
    found = []
    for names in repeated(model):
        needed = [i for i, name in enumerate(names) if i == 0 or name not in keeping]
        kept = kept_of(len(names), max(1, round(share * len(names))), needed)
        found += [name for i, name in enumerate(names) if i not in kept]
    return found


def repeated(model: nn.Module) -> list[list[str]]:
    """Rows of two or more blocks of one kind that stand one behind the other in a Sequential or a ModuleList.

    >>> repeated(nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2)), nn.ReLU()))
    [['0', '1']]
    """
    rows = []
    for name, container in model.named_modules():
        if isinstance(container, nn.Sequential | nn.ModuleList):
            blocks = [(f"{name}.{key}" if name else key, block) for key, block in container.named_children()]
            for (_, block), row in itertools.groupby(blocks, key=lambda pair: (type(pair[1]), _is_block(pair[1]))):
                rows += [[key for key, _ in row]] if block else []
    return [row for row in rows if len(row) > 1]


def _is_block(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def kept_of(count: int, wanted: int, needed: Iterable[int]) -> set[int]:
    """Positions that stay: those `needed`, and as many others, evenly spread, as make `wanted`.

    >>> sorted(kept_of(6, 3, [0])), sorted(kept_of(2, 1, [0])), sorted(kept_of(4, 2, [0, 1]))
    ([0, 2, 4], [0], [0, 1])
    """
    kept = set(needed)
    others = [i for i in range(count) if i not in kept]
    more = max(0, min(wanted - len(kept), len(others)))
    places = (np.arange(more) + 0.5) * len(others) / max(more, 1)
    return kept | {others[int(place)] for place in places}


def _keeping_shape(model: nn.Module, inputs: torch.Tensor) -> set[str]:
    """Modules that were run once and gave a tensor of the shape of their first input."""
    calls: dict[str, list[bool]] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, args: Sequence[Any], options: dict[str, Any], output: Any) -> None:
            given = next((v for v in (*args, *options.values()) if isinstance(v, torch.Tensor)), None)
            same = isinstance(output, torch.Tensor) and given is not None and output.shape == given.shape
            calls.setdefault(name, []).append(same)

        return hook

    hooks = [m.register_forward_hook(watch(name), with_kwargs=True) for name, m in model.named_modules()]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name for name, same in calls.items() if same == [True]}
