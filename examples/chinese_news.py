"""A small convolutional net over the characters of Chinese news titles: topics in ten classes.

    steelyard evaluate examples/chinese_news.py --data DIR --robustness

DIR holds ``train.txt``, ``dev.txt``, ``test.txt`` (title, tab, class index) and ``class.txt``, as the THUCNews titles of
https://github.com/649453932/Chinese-Text-Classification-Pytorch come. Training takes about a minute on two cores.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard import Contract, Splits, Subject

LABELS = (
    "finance",
    "realty",
    "stocks",
    "education",
    "science",
    "society",
    "politics",
    "sports",
    "game",
    "entertainment",
)
LENGTH, BUCKETS = 24, 4096  # characters read of a title, and rows of the table that they share
CONTRACT = Contract(shape=(LENGTH,), layout="T", dtype="int64", labels=LABELS)
EPOCHS, BATCH = 4, 128


def encode(titles: Sequence[str]) -> NDArray[np.int64]:
    """A number for each character, cut or padded with 0 to `LENGTH`.

    The number comes from the character's code point alone, so no vocabulary has to travel with the model; few of the
    common characters share one.
    """
    rows = np.zeros((len(titles), LENGTH), dtype=np.int64)
    for row, title in zip(rows, titles, strict=True):
        codes = [1 + ord(character) % (BUCKETS - 1) for character in title[:LENGTH]]
        row[: len(codes)] = codes
    return rows


class TextCNN(nn.Module):
    """Embedding, convolutions two and three characters wide, the largest answer of each (Kim 2014)."""

    def __init__(self, width: int = 64, filters: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, width, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, size) for size in (2, 3))
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(2 * filters, len(LABELS))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 10)`` for codes ``(n, LENGTH)``."""
        embedded = self.embedding(codes).transpose(1, 2)
        answers = [torch.relu(convolution(embedded)).amax(dim=2) for convolution in self.convolutions]
        logits: torch.Tensor = self.out(self.dropout(torch.cat(answers, dim=1)))
        return logits


def fit(model: nn.Module, splits: Splits) -> None:
    """Adam under a one-cycle schedule."""
    torch.manual_seed(0)
    inputs = torch.from_numpy(splits.train.inputs(CONTRACT))
    labels = torch.from_numpy(splits.train.labels).long()
    optimiser = torch.optim.Adam(model.parameters())
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=6e-3, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimiser.step()
            schedule.step()


def subject(data: str | None) -> Subject:
    """The subject; `data` is what --data names."""
    torch.manual_seed(0)
    return Subject(model=TextCNN(), contract=CONTRACT, data=data, fit=fit, encode=encode)
