"""A small convolutional net on scikit-learn's digits: the subject of `make demo`.

    steelyard optimize examples/digits.py --require "accuracy drop <= 3%" --require "latency <= 0.7x"

Its 360 test images cannot prove a smaller drop than about 1 point, so the demo asks for 3.
"""

import torch
from torch import nn

from steelyard import Contract, Splits, Subject


def net() -> nn.Module:
    """About 0.3 million parameters; trains in seconds on two cores."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 64), *block(64, 128), nn.MaxPool2d(2), *block(128, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip


CONTRACT = Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789"))


def fit(model: nn.Module, splits: Splits) -> None:
    """Six epochs of Adam under a one-cycle schedule; called once, when the run begins."""
    torch.manual_seed(0)
    inputs = torch.from_numpy(splits.train.inputs(CONTRACT))
    labels = torch.from_numpy(splits.train.labels).long()
    epochs, size = 6, 32
    optimiser = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=8e-3, total_steps=epochs * -(-len(labels) // size))
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(size):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimiser.step()
            schedule.step()


def subject() -> Subject:
    """What Steelyard asks for: model, contract, data, and how to train it."""
    torch.manual_seed(0)
    return Subject(model=net(), contract=CONTRACT, data="digits", fit=fit)
