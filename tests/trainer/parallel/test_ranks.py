"""Parts of a batch, times that overlap, cuts of a chain: what needs one process alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from steelyard.errors import CannotApply, InvalidInput
from steelyard.records import Contract
from steelyard.trainer.examples import Examples
from steelyard.trainer.parallel import Ranks, holding, whole
from steelyard.trainer.parallel.stages import cuts, fit_stages
from steelyard.trainer.parallel.traffic import covered
from steelyard.trainer.recipe import Recipe


@given(st.lists(st.integers(0, 999), max_size=40), st.integers(1, 6))
def test_parts_are_the_batch_each_example_once(positions: list[int], count: int) -> None:
    index = np.array(positions, dtype=np.int64)
    parts = [Ranks(rank, count).part(index) for rank in range(count)]
    assert np.concatenate(parts).tolist() == positions
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_is_alone() -> None:
    alone = Ranks.here()
    assert (alone.rank, alone.count, alone.lead) == (0, 1, True)
    assert alone.totals([1.5, 2.0]) == [1.5, 2.0]
    assert alone.first(3.0) == 3.0
    assert alone.device == torch.device("cpu")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=12))
def test_overlapping_times_count_once(spans: list[tuple[int, int]]) -> None:
    inside = {moment for begin, length in spans for moment in range(begin, begin + length)}
    assert covered([(begin, begin + length) for begin, length in spans]) == len(inside)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=8), st.integers(1, 4))
def test_cuts_make_the_costliest_part_cheapest(costs: list[int], count: int) -> None:
    count = min(count, len(costs))
    names = [f"layer{i}" for i in range(len(costs))]
    found = [names.index(name) for name in cuts(dict(zip(names, costs, strict=True)), count)]
    assert len(set(found)) == count - 1

    def worst(places: list[int]) -> int:
        edges = [0, *places, len(costs)]
        return max(sum(costs[a:b]) for a, b in itertools.pairwise(edges))

    every = itertools.combinations(range(1, len(costs)), count - 1)
    assert worst(found) == min(worst(list(places)) for places in every)


def test_a_model_alone_holds_nothing_back_and_is_whole() -> None:
    model = nn.Linear(2, 2)
    with holding(model):
        assert torch.equal(whole(model)["weight"], model.weight)


@pytest.mark.parametrize(
    ("model", "changes", "error", "said"),
    [
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), {}, CannotApply, "batch normalisation"),
        (nn.Sequential(nn.Linear(4, 2)), {"ema": 0.9}, InvalidInput, "stages do not know ema"),
        (nn.Linear(4, 2), {}, CannotApply, "0 layers to cut between"),
    ],
)
def test_what_stages_cannot_do_is_said(model, changes, error, said) -> None:  # type: ignore[no-untyped-def]
    contract = Contract(shape=(4,), layout="F", labels=("a", "b"))
    data = Examples(np.zeros((8, 4), dtype=np.float32), np.array([0, 1] * 4), contract)
    with pytest.raises(error, match=said):
        fit_stages(model, data, Recipe(epochs=1, batch=4, **changes))
