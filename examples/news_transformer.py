"""A Transformer over the characters of Chinese news titles: six layers, 384 wide, 32 characters.

    steelyard optimize examples/news_transformer.py --data DIR --require "accuracy drop <= 0.5%" --budget 60m

DIR is that of `chinese_news.py`. Most of the training is done with two layers, which then stand on each other three times
and go on as six (Gong et al. 2019, "Efficient training of BERT by progressively stacking"): a third of the work a step.
"""

from collections.abc import Iterator, Sequence

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
LENGTH, BUCKETS = 32, 4096  # characters read of a title, and rows of the table that they share
LAYERS, WIDTH, HEADS = 6, 384, 6
CONTRACT = Contract(shape=(LENGTH,), layout="T", dtype="int64", labels=LABELS)
STAGES = ((2, 1.0, 1e-3), (LAYERS, 0.4, 3e-4))  # layers, epochs, highest rate
BATCH = 128


def encode(titles: Sequence[str]) -> NDArray[np.int64]:
    """A number for each character, from its code point alone, cut or padded with 0 to `LENGTH`."""
    rows = np.zeros((len(titles), LENGTH), dtype=np.int64)
    for row, title in zip(rows, titles, strict=True):
        codes = [1 + ord(character) % (BUCKETS - 1) for character in title[:LENGTH]]
        row[: len(codes)] = codes
    return rows


class NewsTransformer(nn.Module):
    """Embedded characters and positions, layers that normalise first, the mean over positions (Vaswani et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(1, LENGTH, WIDTH))
        self.layers = nn.ModuleList(_layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, len(LABELS))
        self.depth = LAYERS  # layers that are run

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 10)`` for codes ``(n, LENGTH)``."""
        hidden = self.embedding(codes) + self.positions
        for layer in list(self.layers)[: self.depth]:
            hidden = layer(hidden)
        logits: torch.Tensor = self.out(self.norm(hidden).mean(dim=1))
        return logits

    def stack(self, depth: int) -> None:
        """Run so many layers; those that were not run so far begin as copies of those that were, in turn."""
        for index in range(self.depth, depth):
            self.layers[index].load_state_dict(self.layers[index % self.depth].state_dict())
        self.depth = depth


def _layer() -> nn.Module:
    return nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
    )


def train(model: NewsTransformer, inputs: torch.Tensor, labels: torch.Tensor) -> Iterator[float]:
    """AdamW under a one-cycle schedule, stage by stage; gives the loss of each step."""
    model.depth = STAGES[0][0]
    model.train()
    for depth, epochs, rate in STAGES:
        model.stack(depth)
        steps = max(1, round(epochs * len(labels) / BATCH))
        optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.1)
        order = torch.cat([torch.randperm(len(labels)) for _ in range(-(-steps * BATCH // len(labels)))])
        for batch in order.split(BATCH)[:steps]:
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            yield float(loss.detach())
    model.eval()


def fit(model: NewsTransformer, splits: Splits) -> None:
    """Train on all titles."""
    torch.manual_seed(0)
    inputs = torch.from_numpy(splits.train.inputs(CONTRACT))
    labels = torch.from_numpy(splits.train.labels).long()
    for _ in train(model, inputs, labels):
        pass


def subject(data: str | None) -> Subject:
    """The subject; `data` is what --data names."""
    torch.manual_seed(0)
    return Subject(model=NewsTransformer(), contract=CONTRACT, data=data, fit=fit, encode=encode)
