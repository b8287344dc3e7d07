"""Convolutions rewritten as a depthwise and a pointwise one (Howard et al. 2017, "MobileNets"). Imports torch.

Each input channel is looked at through `filters` kernels of its own, and a 1 x 1 convolution mixes what they see. The
kernels that bring this nearest to the convolution it replaces are, for each input channel, the first right singular
vectors of its weights, outputs by kernel positions; the squared error is the sum of the squares of the singular values
left out (Eckart and Young 1936).
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn

from steelyard.passes.lowrank import put

__all__ = ["separable_layers", "separate", "separated"]

Convolution = nn.Conv1d | nn.Conv2d

_PICTURE = 3  # channels of a picture: through one kernel a channel the first layer would see next to nothing


def separable_layers(model: nn.Module, filters: int = 1, *, but: frozenset[str] = frozenset()) -> list[str]:
    """Names of the convolutions that multiply less when rewritten; not those that read the picture, nor those in `but`."""
    return [
        name
        for name, layer in model.named_modules()
        if type(layer) in (nn.Conv1d, nn.Conv2d)
        and name not in but
        and layer.groups == 1
        and layer.in_channels > _PICTURE
        and saves(layer, filters)
    ]


def saves(layer: Convolution, filters: int) -> bool:
    """Whether ``filters (k^2 + out) < k^2 out``, the multiplications an input channel and output position.

    >>> saves(nn.Conv2d(64, 64, 3), 1), saves(nn.Conv2d(64, 64, 1), 1)
    (True, False)
    """
    positions = prod(layer.kernel_size)
    return filters * (positions + layer.out_channels) < positions * layer.out_channels


def separated(layer: Convolution, filters: int = 1) -> nn.Sequential:
    """The nearest pair; the first keeps stride, padding and dilation, the second the bias."""
    weight = layer.weight.detach().double().flatten(2).transpose(0, 1)  # (in, out, positions)
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    filters = min(filters, singular.shape[1])
    roots = singular[:, :filters].sqrt()
    depthwise, pointwise = _pair(layer, filters)
    with torch.no_grad():
        depthwise.weight.copy_((roots[..., None] * right[:, :filters]).reshape(depthwise.weight.shape))
        mixing = (left[:, :, :filters] * roots[:, None]).transpose(0, 1)  # (out, in, filters)
        pointwise.weight.copy_(mixing.reshape(pointwise.weight.shape))
        if layer.bias is not None and pointwise.bias is not None:
            pointwise.bias.copy_(layer.bias)
    return nn.Sequential(depthwise, pointwise).train(layer.training)


def separate(model: nn.Module, name: str, filters: int = 1) -> None:
    """Put the pair in the layer's place."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    put(model, name, separated(layer, filters))


def _pair(layer: Convolution, filters: int) -> tuple[Convolution, Convolution]:
    """Two convolutions of the right sizes. `separated` fills them."""
    how: Any = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    wide = layer.in_channels * filters
    kind = type(layer)
    first = kind(layer.in_channels, wide, groups=layer.in_channels, bias=False, **how)
    return first, kind(wide, layer.out_channels, 1, bias=layer.bias is not None)
