"""torchvision's ResNet-18 with ten classes on Fashion-MNIST.

    steelyard optimize examples/fashion_mnist.py --data DIR --require "accuracy drop <= 0.5%" --require "latency <= 0.3x"

DIR holds the four original idx files. Training takes some minutes on two cores and is done once for each run folder.
"""

import torch
import torchvision
from torch import nn

from steelyard import Contract, Splits, Subject

LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CONTRACT = Contract(shape=(1, 28, 28), scale=1 / 255, mean=(0.2860,), std=(0.3530,), labels=LABELS)
EPOCHS, BATCH = 3, 128


def net() -> nn.Module:
    """ResNet-18 as torchvision has it, but for grey pictures and ten classes."""
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return model


def fit(model: nn.Module, splits: Splits) -> None:
    """SGD with momentum under a one-cycle schedule, flipping pictures left to right."""
    torch.manual_seed(0)
    inputs = torch.from_numpy(splits.train.inputs(CONTRACT))
    labels = torch.from_numpy(splits.train.labels).long()
    steps = EPOCHS * -(-len(labels) // BATCH)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=steps)
    model.to(memory_format=torch.channels_last)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            pictures = inputs[batch].contiguous(memory_format=torch.channels_last)
            pictures = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, pictures, pictures.flip(3))
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(pictures), labels[batch]).backward()
            optimiser.step()
            schedule.step()
    model.to(memory_format=torch.contiguous_format)


def subject(data: str | None) -> Subject:
    """The subject; `data` is what --data names."""
    torch.manual_seed(0)
    return Subject(model=net(), contract=CONTRACT, data=data, fit=fit)
