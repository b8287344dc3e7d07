"""Intervals of means of correlated quantities: what must hold exactly, and coverage under a known truth."""

import math

import numpy as np
import pytest

from steelyard.stats.combined import mean_interval
from steelyard.stats.proportion import wilson


def test_opposite_quantities_cancel_and_like_ones_do_not_help():
    effects = np.array([0.3, -0.1, -0.2])
    one = (0.6, 0.5, 0.7)
    assert mean_interval([(one, effects), (one, -effects)]) == pytest.approx((0.6, 0.6, 0.6))
    assert mean_interval([(one, effects), (one, 5 * effects)]) == pytest.approx(one)


def test_independent_quantities_add_in_squares_each_side_by_itself():
    parts = [((0.9, 0.6, 1.0), np.array([1.0, 0.0])), ((0.5, 0.1, 0.6), np.array([0.0, 2.0]))]
    low, high = 0.7 - math.hypot(0.3, 0.4) / 2, 0.7 + math.hypot(0.1, 0.1) / 2
    assert mean_interval(parts) == pytest.approx((0.7, low, high))


def test_a_quantity_that_nothing_moves_keeps_what_its_own_interval_leaves_open():
    still = ((1.0, 0.8, 1.0), np.zeros(2))
    assert mean_interval([still]) == pytest.approx((1.0, 0.8, 1.0))
    assert mean_interval([still, still]) == pytest.approx((1.0, 1 - math.hypot(0.2, 0.2) / 2, 1.0))


def test_it_agrees_with_the_covariance_matrix_written_out():
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))
    ends = np.sort(rng.random((4, 3)), axis=1)[:, [1, 0, 2]]
    shares = np.corrcoef(np.concatenate([effects, -effects]).T)  # around zero, as effects are
    below, above = ends[:, 0] - ends[:, 1], ends[:, 2] - ends[:, 0]
    half = [math.sqrt(side @ shares @ side) / 4 for side in (below, above)]
    mean = ends[:, 0].mean()
    parts = [((v, low, high), column) for (v, low, high), column in zip(ends, effects.T, strict=True)]
    assert mean_interval(parts) == pytest.approx((mean, mean - half[0], mean + half[1]))


def test_the_mean_of_rare_shares_is_covered_where_one_standard_error_is_not():
    """Three recalls of 0.9 on 12, 30 and 300 examples: often no failure is seen, and one standard error says 0."""
    rng = np.random.default_rng(1)
    sizes, truth, repeats = (12, 30, 300), 0.9, 2_000
    hits = np.array([rng.binomial(n, truth, repeats) for n in sizes]).T
    ours = wald = 0
    for row in hits:
        shares = row / np.array(sizes)
        parts = []
        for k, (share, n) in enumerate(zip(shares, sizes, strict=True)):
            effects = np.zeros(len(sizes))
            effects[k] = share * (1 - share)  # what varies in one class varies in no other
            parts.append(((share, *wilson(share * n, n)), effects))
        mean, low, high = mean_interval(parts)
        error = math.sqrt(sum(s * (1 - s) / n for s, n in zip(shares, sizes, strict=True))) / len(sizes)
        ours += low <= truth <= high
        wald += abs(mean - truth) <= 1.96 * error
    assert 0.94 < ours / repeats < 0.98
    assert wald / repeats < 0.9
