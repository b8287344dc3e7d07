"""Cheaper than training all of a model: its batch statistics anew, or its last layer alone. Imports torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from steelyard.errors import CannotApply
from steelyard.trainer.examples import Examples, shuffled

__all__ = ["has_statistics", "head_of", "only_head", "reestimate"]

_BATCHES, _SIZE = 32, 128  # averages over so many batches differ little from those over all


def has_statistics(module: nn.Module) -> bool:
    """Whether the model keeps running means and variances."""
    return any(isinstance(m, _BatchNorm) and m.track_running_stats for m in module.modules())


def reestimate(module: nn.Module, data: Examples, seed: int = 0) -> None:
    """Running means and variances of batch normalisation anew: the plain averages over batches of training examples.

    A changed layer hands on other means and variances than those recorded; without their correction a pruned net can be
    right no more often than chance (Li et al. 2020, "EagleEye").
    """
    batches = itertools.islice(shuffled(len(data), _SIZE, seed, 0), _BATCHES)
    with torch.no_grad():
        update_bn((data.batch(index).inputs for index in batches), module)


def head_of(module: nn.Module, classes: int) -> str:
    """The last linear layer or convolution that gives so many outputs. Raises `CannotApply` where there is none."""
    widths = {
        name: getattr(layer, "out_features", getattr(layer, "out_channels", None))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    found: list[str] = [name for name, width in widths.items() if width == classes]
    if not found:
        raise CannotApply(f"no linear layer or convolution gives {classes} outputs: there is no head to train alone")
    return found[-1]


@contextmanager
def only_head(module: nn.Module, classes: int) -> Iterator[None]:
    """Let only the head learn: all else keeps its weights, its running statistics, and drops nothing out."""
    head = module.get_submodule(head_of(module, classes))
    own = {id(p) for p in head.parameters()}
    frozen = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
    still = [m for m in module.modules() if all(inner is not head for inner in m.modules())]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for layer in still:
        layer.eval()
    for layer in still:
        layer.train = MethodType(_stay, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in still:
            del layer.train
        for parameter in frozen:
            parameter.requires_grad_(True)


def _stay(layer: nn.Module, _mode: bool = True) -> nn.Module:
    """`train` of a layer that stays in evaluation mode."""
    return layer
