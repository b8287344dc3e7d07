"""Smaller passes: the same step as the whole batch's, however often memory ended on the way."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from small_training import net, some, weights
from steelyard.errors import InvalidInput
from steelyard.trainer.examples import Batch
from steelyard.trainer.loop import fit
from steelyard.trainer.microbatch import MicroBatch, OutOfMemory, is_out_of_memory, parts, peak_bytes
from steelyard.trainer.recipe import Recipe


@given(st.integers(1, 300), st.integers(1, 64))
def test_parts_are_the_batch_none_larger_than_allowed(count: int, size: int) -> None:
    made = parts(np.arange(count), size)
    assert np.concatenate(made).tolist() == list(range(count))
    lengths = [len(part) for part in made]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("micro", [7, 16, 33])
def test_a_step_in_parts_is_the_whole_batchs(micro: int) -> None:
    """300 examples in batches of 64: the last of 44 is uneven too."""
    whole, ours = net(), net()
    expected = fit(whole, some(), Recipe(lr=0.1, epochs=1, batch=64))
    history = fit(ours, some(), Recipe(lr=0.1, epochs=1, batch=64, micro_batch=micro))
    torch.testing.assert_close(weights(ours), weights(whole), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-5)
    assert history.examples.tolist() == expected.examples.tolist()


class Cramped(nn.Module):
    """A net and a loss for which memory ends with more than some examples at once."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error, self.sizes = room, error, list[int]()

    def forward(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        self.sizes.append(len(batch))
        outputs = model(batch.inputs)
        if len(batch) > self.room:
            raise self.error
        return nn.functional.cross_entropy(outputs, batch.labels)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_where_memory_ends_half_pass_at_once_and_the_step_stays_the_same(error: Exception) -> None:
    whole, ours = net(norm=False, dropout=0.0), net()
    recipe = Recipe(lr=0.1, epochs=1, batch=64)
    fit(whole, some(), recipe)
    cramped = Cramped(20, error)
    history = fit(ours, some(), Recipe(lr=0.1, epochs=1, batch=64, micro_batch="auto"), objective=cramped)
    torch.testing.assert_close(weights(ours), weights(whole), rtol=1e-4, atol=1e-6)
    assert cramped.sizes[:6] == [64, 32, 16, 16, 16, 16]
    assert history.said == (
        "step 1: memory ended: 32 examples pass the net at once instead of 64, and the step stays the same",
        "step 1: memory ended: 16 examples pass the net at once instead of 32, and the step stays the same",
    )


def test_a_step_begun_again_draws_the_same_dropout_and_leaves_no_trace() -> None:
    """Batch normalisation's statistics and the random state are those of the step's beginning."""
    free, ours = net(norm=True, dropout=0.5), net(norm=True, dropout=0.5)
    fit(free, some(), Recipe(lr=0.05, epochs=1, batch=64, micro_batch=32))
    fit(ours, some(), Recipe(lr=0.05, epochs=1, batch=64, micro_batch="auto"), objective=Cramped(32, MemoryError()))
    assert torch.equal(weights(ours), weights(free))


def test_without_auto_the_end_of_memory_is_an_error() -> None:
    with pytest.raises(MemoryError):
        fit(net(), some(), Recipe(epochs=1, batch=64), objective=Cramped(20, MemoryError()))


def test_an_example_that_does_not_fit_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="even one example at a time is too much memory"):
        fit(net(), some(), Recipe(epochs=1, batch=4, micro_batch="auto"), objective=Cramped(0, MemoryError()))


def test_what_the_recipe_allows_is_kept() -> None:
    held = iter([0, 3_000_000_000, 0, 900_000_000])
    micro = MicroBatch(Recipe(epochs=1, batch=64, micro_batch="auto", memory_gb=1), lambda: next(held))
    micro.begin()
    with pytest.raises(OutOfMemory, match="3 GB were held, 1 are allowed") as found:
        micro.check()
    assert "32 examples pass the net at once instead of 64" in micro.halve(found.value)
    micro.begin()
    micro.check()
    assert is_out_of_memory(found.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_the_high_water_mark_of_this_process_falls_and_rises() -> None:
    peak_bytes()
    low = peak_bytes()
    with mmap.mmap(-1, 50_000_000) as block:  # from the kernel: the heap may have room left for it
        block.write(b"x" * 50_000_000)
        assert peak_bytes() >= low + 40_000_000
