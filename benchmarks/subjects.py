"""Subjects of the benchmarks that are no examples for users."""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from sklearn.linear_model import LogisticRegression
from torch import nn

from steelyard import Contract, Split, Splits, Subject
from steelyard.subject.data import digits

SIDE = 224
CONTRACT = Contract(
    shape=(3, SIDE, SIDE),
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    labels=tuple("0123456789"),
)


def _enlarged(split: Split, count: int) -> Split:
    """The first digits of a split as colour pictures of 224x224."""
    small = torch.from_numpy(np.array(split.raw[:count])).float()
    large = nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear").round().to(torch.uint8)
    return Split(raw=large.expand(-1, 3, -1, -1).contiguous().numpy(), labels=split.labels[:count])


def _data() -> Splits:
    splits = digits()
    return Splits(
        train=_enlarged(splits.train, 400),
        validation=_enlarged(splits.validation, 100),
        test=_enlarged(splits.test, 200),
        labels=splits.labels,
        method="digits enlarged to 224x224",
    )


def _fit(model: nn.Module, splits: Splits) -> None:
    """Only the last layer, on the features of the untrained rest: latency does not depend on the weights."""
    model.eval()
    head = model.fc
    model.fc = nn.Identity()
    inputs = torch.from_numpy(splits.train.inputs(CONTRACT))
    with torch.inference_mode():
        features = torch.cat([model(part) for part in inputs.split(32)]).numpy()
    found = LogisticRegression(max_iter=2000).fit(features, splits.train.labels)
    head.weight.data = torch.from_numpy(found.coef_).float()
    head.bias.data = torch.from_numpy(found.intercept_).float()
    model.fc = head


def resnet18_224() -> Subject:
    """torchvision's ResNet-18 at 224x224 with ten classes; for latency alone."""
    torch.manual_seed(0)
    return Subject(model=torchvision.models.resnet18(num_classes=10), contract=CONTRACT, data=_data, fit=_fit)
