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


TOKENS, VOCABULARY = 128, 30_522


class Encoder(nn.Module):
    """Embedded tokens and positions, Transformer layers, a linear layer on the first token's output."""

    def __init__(self, layers: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(TOKENS, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, classes)`` for tokens ``(n, TOKENS)``."""
        hidden = self.norm(self.tokens(tokens) + self.positions.weight)
        logits: torch.Tensor = self.out(self.encoder(hidden)[:, 0])
        return logits


def bert_base() -> Subject:
    """The shape of BERT-base (Devlin et al. 2019: 12 layers, 768 wide, 12 heads) with random weights; for latency alone."""
    torch.manual_seed(0)
    contract = Contract(shape=(TOKENS,), layout="T", dtype="int64", labels=("no", "yes"))
    return Subject(model=Encoder(12, 768, 12, 2).eval(), contract=contract)
