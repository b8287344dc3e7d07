"""Batch normalisation over the whole batch, whatever ranks its examples are on.

PyTorch's `SyncBatchNorm` does the same on accelerators only; this runs on the processor too, and leaves the modules where they
are, so that weights keep their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["idle", "synced"]

_counts: ContextVar[bool] = ContextVar("_counts", default=True)


@contextmanager
def synced(model: nn.Module) -> Iterator[None]:
    """In the block every batch normalisation of `model` that trains does so over all ranks' examples."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.forward = partial(_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


@contextmanager
def idle(resting: bool) -> Iterator[None]:
    """In the block, where `resting`, this rank's examples count nothing: it takes part for the others' sake."""
    token = _counts.set(not resting)
    try:
        yield
    finally:
        _counts.reset(token)


def _forward(norm: Any, inputs: torch.Tensor) -> torch.Tensor:
    if not norm.training:
        return type(norm).forward(norm, inputs)  # type: ignore[no-any-return]
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    shape = [1, -1] + [1] * (inputs.ndim - 2)
    count, mean, variance = _moments(inputs.float(), axes)
    if norm.running_mean is not None:
        _remember(norm, mean.detach(), variance.detach() * count / (count - 1).clamp_min(1))
    normal = (inputs.float() - mean.view(shape)) * torch.rsqrt(variance.view(shape) + norm.eps)
    if norm.affine:
        normal = normal * norm.weight.view(shape) + norm.bias.view(shape)
    return normal.to(inputs.dtype)


def _moments(inputs: torch.Tensor, axes: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How many values each channel has on all ranks, their mean, and their variance.

    Means and squared distances are joined as by Chan, Golub and LeVeque (1979): nothing large is subtracted from anything large.
    """
    live = float(_counts.get())
    count = inputs.new_tensor([live * inputs.numel() / inputs.shape[1]])
    mean = inputs.mean(axes)
    apart = live * (inputs - mean.view([1, -1] + [1] * (inputs.ndim - 2))).square().sum(axes)
    each = _Gathered.apply(torch.cat([count, mean, apart]))
    channels = len(mean)
    counts, means, aparts = each[:, :1], each[:, 1 : 1 + channels], each[:, 1 + channels :]
    total = counts.detach().sum()
    joint = (counts * means).sum(0) / total
    return total, joint, (aparts + counts * (means - joint).square()).sum(0) / total


def _remember(norm: Any, mean: torch.Tensor, variance: torch.Tensor) -> None:
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


class _Gathered(torch.autograd.Function):
    """The rows of all ranks ``(count, k)``; backward, what all ranks' losses say of this rank's row."""

    @staticmethod
    def forward(context: Any, row: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        rows = row.new_zeros(dist.get_world_size(), *row.shape)
        rows[dist.get_rank()] = row
        dist.all_reduce(rows)
        return rows

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]
