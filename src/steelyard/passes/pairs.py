"""Which layer of a student learns from which of its teacher. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from steelyard.errors import CannotApply
from steelyard.passes.shallow import repeated

__all__ = ["layer_pairs"]


def layer_pairs(student: nn.Module, teacher: nn.Module, inputs: torch.Tensor) -> dict[str, str]:
    """Names of the student's layers with one of the teacher's each.

    Feature maps pair by size: the last layer of either net that gives maps of that many pixels. Where a net gives tokens
    instead, its repeated blocks pair by their share of the depth: of 3 and 6, the first with the second, and so on. Raises
    `CannotApply` where the two have nothing in common.
    """
    found = _by_size(student, teacher, inputs) or _by_depth(student, teacher)
    if not found:
        raise CannotApply(
            "student and teacher have neither feature maps of one size nor repeated blocks to pair: "
            "distil from answers alone, with features=none"
        )
    return found


def _by_size(student: nn.Module, teacher: nn.Module, inputs: torch.Tensor) -> dict[str, str]:
    ours, theirs = _maps(student, inputs), _maps(teacher, inputs)
    return {ours[size]: theirs[size] for size in ours if size in theirs}


def _maps(model: nn.Module, inputs: torch.Tensor) -> dict[tuple[int, ...], str]:
    """The last layer within the model that gives feature maps of each size, if more than one pixel large."""
    seen: dict[tuple[int, ...], str] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                seen[tuple(output.shape[2:])] = name

        return hook

    hooks = [m.register_forward_hook(watch(name)) for name, m in model.named_modules() if name]
    try:
        with torch.no_grad():
            model.eval()(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _by_depth(student: nn.Module, teacher: nn.Module) -> dict[str, str]:
    ours, theirs = _longest(student), _longest(teacher)
    if not ours or not theirs:
        return {}
    return {own: theirs[-(-(i + 1) * len(theirs) // len(ours)) - 1] for i, own in enumerate(ours)}


def _longest(model: nn.Module) -> Sequence[str]:
    return max(repeated(model), key=len, default=[])
