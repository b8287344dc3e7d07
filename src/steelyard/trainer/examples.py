"""Training examples as the model takes them, made a batch at a time: a set larger than memory stays where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.contract import prepare
from steelyard.subject.splits import Encoded, Rows, Split

__all__ = ["Batch", "Examples", "Rewrite", "Unreadable", "first_unreadable", "in_order", "shuffled"]

Index = NDArray[np.int64]
Rewrite = Callable[[Sequence[str], Index, int], Sequence[str]]  # texts, their positions, the epoch


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Inputs ``(n, *contract.shape)``, labels ``(n,)``, and the teacher's outputs ``(n, classes)`` where there is one.

    Labels are class indices, or the shares of the classes ``(n, classes)`` where an augmentation mixed examples.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    teacher: torch.Tensor | None
    index: Index  # positions in the set
    epoch: int = 0  # counted from 0: what augmentation draws belongs to an example and its epoch

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        """The batch on a device."""
        layout = torch.channels_last if channels_last and self.inputs.ndim == 4 else torch.preserve_format
        inputs = self.inputs.to(device, memory_format=layout)
        teacher = None if self.teacher is None else self.teacher.to(device)
        return Batch(inputs, self.labels.to(device), teacher, self.index, self.epoch)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Raw rows with what makes inputs of them. ``teacher`` has a row of outputs for each.

    ``rewrite``, for texts that are encoded when asked for, changes them before that.
    """

    raw: Rows
    labels: NDArray[Any]
    contract: Contract
    teacher: Rows | None = None
    rewrite: Rewrite | None = None

    @classmethod
    def of(cls, split: Split, contract: Contract, teacher: Rows | None = None) -> Examples:
        """Those of a split, in memory, memory-mapped or encoded when asked for."""
        return cls(split.raw, split.labels, contract, teacher)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Index, epoch: int = 0) -> Batch:
        """The examples at these positions, as they are in this epoch. Only they are read."""
        inputs = prepare(self.contract, self._rows(index, epoch))
        labels = torch.from_numpy(np.asarray(self.labels[index]))
        if not labels.is_floating_point():
            labels = labels.long()
        teacher = None if self.teacher is None else torch.from_numpy(np.array(self.teacher[index], dtype=np.float32))
        return Batch(torch.from_numpy(inputs), labels, teacher, index, epoch)

    def _rows(self, index: Index, epoch: int) -> NDArray[Any]:
        if self.rewrite is None or not isinstance(self.raw, Encoded):
            return np.asarray(self.raw[index])
        return self.raw.rows(self.rewrite([self.raw.texts[i] for i in index], index, epoch))


class Unreadable(InvalidInput):
    """An example that cannot be read, such as a corrupt picture."""

    def __init__(self, example: int, reason: str) -> None:
        super().__init__(f"training example {example} cannot be read: {reason}; --skip-bad leaves such examples out")
        self.example, self.reason = example, reason


def first_unreadable(examples: Examples, index: Index, epoch: int) -> Unreadable | None:
    """The first of these that cannot be read; None where each can, or none: then it is not the examples' fault."""
    failed: list[Unreadable] = []
    for position in index:
        try:
            examples.batch(np.array([position]), epoch)
        except Exception as error:  # a user's own reader may raise anything
            failed.append(Unreadable(int(position), " ".join(str(error).split())[:200] or type(error).__name__))
    return failed[0] if 0 < len(failed) < max(2, len(index)) else None


def shuffled(count: int, size: int, seed: int, epoch: int) -> list[Index]:
    """Every position once, in batches of `size`, in an order that seed and epoch decide.

    The last batch holds what is left. A single example would leave batch normalisation nothing to average over, so it
    joins the batch before it.

    >>> [len(batch) for batch in shuffled(10, 4, seed=0, epoch=0)], [len(batch) for batch in shuffled(9, 4, 0, 0)]
    ([4, 4, 2], [4, 5])
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    cuts = list(range(size, count, size))
    if size > 1 and cuts and count - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)


def in_order(examples: Examples, size: int) -> Iterator[Batch]:
    """All examples once, in their order."""
    for start in range(0, len(examples), size):
        yield examples.batch(np.arange(start, min(start + size, len(examples))))
