"""A small net, some digits, and weights as one vector."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from steelyard.records import Contract
from steelyard.subject.data import digits
from steelyard.trainer.examples import Examples

CONTRACT = Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789"))


def some(count: int = 300) -> Examples:
    """Training digits."""
    return Examples.of(digits().train.take(np.arange(count)), CONTRACT)


def held() -> Examples:
    """Validation digits."""
    return Examples.of(digits().validation, CONTRACT)


def net(*, norm: bool = False, dropout: float = 0.0) -> nn.Module:
    """The same weights each time."""
    torch.manual_seed(0)
    normed = [nn.BatchNorm2d(8)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), *normed, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(72, 10)
    )


def weights(model: nn.Module) -> torch.Tensor:
    """Parameters and buffers, one after the other."""
    return torch.cat([value.detach().double().flatten() for value in model.state_dict().values()])
