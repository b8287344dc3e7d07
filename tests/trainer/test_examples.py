"""Batches: every example once, in an order that the seed decides, and only those asked for are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from steelyard.records import Contract
from steelyard.subject.splits import Split
from steelyard.trainer.examples import Examples, in_order, shuffled

CONTRACT = Contract(shape=(3,), layout="F", scale=0.5, labels=("a", "b"))


class Counting:
    """Rows that note what was read."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows, self.read = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        self.read += len(self.rows[index])
        return self.rows[index]


@given(count=st.integers(1, 200), size=st.integers(1, 50), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_holds_every_example_once(count: int, size: int, seed: int, epoch: int) -> None:
    batches = shuffled(count, size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert all(np.array_equal(a, b) for a, b in zip(batches, shuffled(count, size, seed, epoch), strict=True))
    assert all(len(batch) > 1 for batch in batches) or size == 1 or count == 1
    assert max(map(len, batches)) <= size + 1


def test_seeds_and_epochs_give_other_orders() -> None:
    orders = {tuple(np.concatenate(shuffled(50, 8, seed, epoch))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_a_batch_reads_its_examples_alone_and_scales_them() -> None:
    rows = Counting(np.arange(30, dtype=np.float32).reshape(10, 3))
    teacher = np.arange(20, dtype=np.float64).reshape(10, 2)
    examples = Examples.of(Split(raw=rows, labels=np.arange(10, dtype=np.int32) % 2), CONTRACT, teacher)
    batch = examples.batch(np.array([7, 2]))
    assert rows.read == 2
    assert batch.inputs.tolist() == [[10.5, 11.0, 11.5], [3.0, 3.5, 4.0]]
    assert batch.labels.tolist() == [1, 0]
    assert batch.labels.dtype == torch.int64
    assert batch.teacher is not None
    assert batch.teacher.tolist() == [[14.0, 15.0], [4.0, 5.0]]
    assert [len(b) for b in in_order(examples, 4)] == [4, 4, 2]
