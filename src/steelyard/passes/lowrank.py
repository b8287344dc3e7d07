"""Linear layers and convolutions of low rank: two thin ones in the place of one. Imports torch.

A convolution of kernel k x k becomes one of k x k to `rank` channels and one of 1 x 1 from them (Zhang et al. 2015,
"Accelerating very deep convolutional networks"); a linear layer becomes two. The truncated singular value
decomposition is the nearest product of that rank, and its squared error the sum of the squares of the singular values
left out (Eckart and Young 1936).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["decomposed", "matrix_of", "put", "rank_for", "saves", "take_apart"]

Layer = nn.Linear | nn.Conv2d


def matrix_of(layer: Layer) -> torch.Tensor:
    """The weight as a matrix, outputs by inputs (and kernel positions)."""
    return layer.weight.detach().flatten(1)


def saves(layer: Layer, rank: int) -> bool:
    """Whether two layers through `rank` channels multiply less than one: ``rank (in k^2 + out) < out in k^2``.

    >>> saves(nn.Linear(64, 64), 31), saves(nn.Linear(64, 64), 32)
    (True, False)
    """
    outputs, inputs = matrix_of(layer).shape
    return rank * (inputs + outputs) < outputs * inputs


def rank_for(singular: torch.Tensor, energy: float) -> int:
    """The smallest rank, 1 at least, whose singular values hold this share of the sum of squares.

    >>> rank_for(torch.tensor([3.0, 2.0, 1.0]), 0.9), rank_for(torch.tensor([3.0, 2.0, 1.0]), 1.0)
    (2, 3)
    """
    squares = singular.double().square()
    short = squares.cumsum(0) < (energy - 1e-12) * squares.sum()
    return min(len(singular), 1 + int(short.sum()))


def decomposed(layer: Layer, rank: int) -> nn.Sequential:
    """The two layers, with the singular values' roots on either side."""
    left, singular, right = torch.linalg.svd(matrix_of(layer).double(), full_matrices=False)
    roots = singular[:rank].sqrt()
    first, second = _thin(layer, rank)
    with torch.no_grad():
        first.weight.copy_((roots[:, None] * right[:rank]).reshape(first.weight.shape))
        second.weight.copy_((left[:, :rank] * roots).reshape(second.weight.shape))
        if layer.bias is not None and second.bias is not None:
            second.bias.copy_(layer.bias)
    return nn.Sequential(first, second).train(layer.training)


def take_apart(model: nn.Module, name: str, rank: int) -> None:
    """Put the pair in the layer's place."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    put(model, name, decomposed(layer, rank))


def put(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in another's place, under each name that it goes by."""
    old = model.get_submodule(name)
    names = [other for other, module in model.named_modules(remove_duplicate=False) if module is old]
    for other in names:
        parent = model.get_submodule(other.rpartition(".")[0])
        setattr(parent, other.rpartition(".")[2], new)
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = (
                0  # PyTorch's fused layer would reach for the one weight of linear1, linear2
            )


def _thin(layer: Layer, rank: int) -> tuple[Layer, Layer]:
    """Two layers of the right sizes; the first keeps stride, padding and dilation. `decomposed` fills them."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias)
    how: Any = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    return nn.Conv2d(layer.in_channels, rank, bias=False, **how), nn.Conv2d(rank, layer.out_channels, 1, bias=bias)
