"""Averages of the weights on their way, which then take the weights' place.

Sources: Polyak and Juditsky 1992 and TensorFlow's warm-up of the decay (moving average), Izmailov et al. 2018 (SWA).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, update_bn

__all__ = ["equal_average", "moving_average", "renormalise"]


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Of weights and running statistics; it forgets faster while it is young, (1 + n) / (10 + n) at most."""

    def mixed(average: torch.Tensor, new: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        if not new.is_floating_point():
            return new
        number = float(count)
        return average.lerp(new, 1 - min(decay, (1 + number) / (10 + number)))

    return AveragedModel(model, avg_fn=mixed, use_buffers=True)


def equal_average(model: nn.Module) -> AveragedModel:
    """The plain mean of the weights it is updated with; `renormalise` it before it is used."""
    return AveragedModel(model)


def renormalise(average: AveragedModel, inputs: Iterable[torch.Tensor]) -> None:
    """Batch normalisation's statistics of averaged weights: those of a pass over the data, not an average of statistics."""
    if any(isinstance(module, _BatchNorm) for module in average.modules()):
        with torch.no_grad():
            update_bn(inputs, average.module)
