"""The models of the built-in suite: small enough to be trained in seconds, the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steelyard.records import Contract
from steelyard.subject.splits import Splits
from steelyard.subject.subject import Subject

if TYPE_CHECKING:
    from torch import nn

__all__ = ["cnn", "mlp"]

CONTRACT = Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789"))
EPOCHS, BATCH = 4, 32


def mlp() -> Subject:
    """Two hidden layers of 256: bound by memory traffic."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    return Subject(model=model, contract=CONTRACT, data="digits", fit=_fit)


def cnn() -> Subject:
    """Three convolutions of 32 to 64 channels: bound by arithmetic."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    return Subject(model=model, contract=CONTRACT, data="digits", fit=_fit)


def _fit(model: nn.Module, splits: Splits) -> None:
    """Four epochs of Adam."""
    import torch
    from torch import nn

    inputs = torch.from_numpy(splits.train.inputs(CONTRACT))
    labels = torch.from_numpy(splits.train.labels).long()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(labels)), BATCH):
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(inputs[batch]), labels[batch]))
            optimiser.step()
