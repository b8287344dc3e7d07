"""Draws against SplitMix64's published outputs, the uniform distribution, and their promise to belong to an example."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from steelyard.trainer.augment.chance import _GOLDEN, _mixed, generators, uniforms


def test_the_mixing_is_splitmix64() -> None:
    state = np.uint64(1234567) + _GOLDEN * np.arange(1, 6, dtype=np.uint64)
    published = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip
    assert [int(value) for value in _mixed(state)] == published


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    u = uniforms(0, 0, np.arange(20000), 4)
    assert u.min() >= 0
    assert u.max() < 1
    chances = [
        stats.kstest(column, "uniform").pvalue
        for seed in range(10)
        for column in uniforms(seed, 0, np.arange(4000), 4).T
    ]
    assert stats.kstest(chances, "uniform").pvalue > 1e-3
    other = [uniforms(1, 0, np.arange(20000), 1)[:, 0], uniforms(0, 1, np.arange(20000), 1)[:, 0], u[:, 1]]
    assert all(abs(np.corrcoef(u[:, 0], column)[0, 1]) < 0.03 for column in other)  # 4 standard errors
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.03


@given(
    st.integers(0, 2**31), st.integers(0, 1000), st.lists(st.integers(0, 10**9), min_size=1, max_size=8, unique=True)
)
def test_a_draw_belongs_to_seed_epoch_and_example(seed: int, epoch: int, positions: list[int]) -> None:
    index = np.array(positions)
    together = uniforms(seed, epoch, index, 3)
    alone = np.concatenate([uniforms(seed, epoch, index[i : i + 1], 5)[:, :3] for i in range(len(index))])
    assert np.array_equal(together, alone)


def test_generators_follow_the_same_rule() -> None:
    both = [draw.random() for draw in generators(3, 1, np.array([8, 2]))]
    assert both[1] == generators(3, 1, np.array([2]))[0].random()
    assert both[1] != generators(3, 2, np.array([2]))[0].random()
