"""How good the weights of an epoch are: means over all examples, each counted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from steelyard.trainer.examples import Examples, in_order
from steelyard.trainer.objectives import Loss

__all__ = ["Judge", "Score", "right", "score_of"]

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (outputs, labels) to a number an example, higher better


def right(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 where the largest output is the label's, else 0: its mean is the accuracy."""
    return (outputs.argmax(dim=-1) == labels).float()


def score_of(model: nn.Module, data: Examples, score: Score = right, *, size: int = 256) -> float:
    """The mean score over all examples, each counted once; the model is left in the mode it was in."""
    return _means(model, data, (score,), size)[0]


class Judge:
    """What an epoch's weights are scored by."""

    def __init__(self, data: Examples | None, score: Score, loss: Loss | None) -> None:
        self._data, self._scores = data, [score]
        if loss is not None:
            self._scores.append(lambda outputs, labels: loss(outputs, labels).expand(len(labels)))

    def __call__(self, model: nn.Module) -> list[float]:
        """The mean score and, where it is known, the mean loss; nothing without validation data."""
        return [] if self._data is None else _means(model, self._data, self._scores)


def _means(model: nn.Module, data: Examples, scores: Sequence[Score], size: int = 256) -> list[float]:
    """Of each score over all examples, in one pass."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    sums = [0.0] * len(scores)
    with torch.no_grad():
        for batch in (made.to(device) for made in in_order(data, size)):
            outputs = model(batch.inputs)
            sums = [s + float(f(outputs, batch.labels).double().sum()) for s, f in zip(sums, scores, strict=True)]
    model.train(training)
    return [s / len(data) for s in sums]
