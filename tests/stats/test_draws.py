"""Convolutions against quadrature and simulation, Welch against scipy, ranges against their three points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from steelyard.errors import InvalidInput
from steelyard.stats.draws import (
    contrast_interval,
    emission_draws,
    mean_draws,
    product_ratio_interval,
    range_draws,
    shifted_interval,
)
from steelyard.stats.paired import log_ratio_interval


def test_a_convolution_with_normal_shifts_agrees_with_simulation() -> None:
    rng = np.random.default_rng(0)
    logs, shifts = rng.normal(-0.3, 0.02, 10), rng.normal(0.1, 0.03, 4000)
    ratio, low, high = shifted_interval(logs, shifts)
    error = logs.std(ddof=1) / math.sqrt(10)
    simulated = logs.mean() + error * rng.standard_t(9, 400_000) + rng.choice(shifts, 400_000)
    assert np.log([low, high]) == pytest.approx(np.quantile(simulated, [0.025, 0.975]), abs=1e-3)
    assert ratio == pytest.approx(math.exp(logs.mean() + np.median(shifts)))


@given(
    logs=st.lists(st.floats(-1, 1), min_size=2, max_size=15),
    shift=st.floats(-2, 2),
    level=st.sampled_from([0.8, 0.95, 0.999]),
)
@settings(max_examples=50, deadline=None)
def test_a_shift_that_is_known_moves_the_t_interval(logs: list[float], shift: float, level: float) -> None:
    values = np.array(logs)
    moved = shifted_interval(values, np.full(100, shift), level)
    assert moved == pytest.approx(tuple(math.exp(shift) * end for end in log_ratio_interval(values, level)), rel=1e-6)


def test_one_round_bounds_nothing() -> None:
    assert shifted_interval(np.array([0.1]), np.zeros(5))[1:] == (0.0, math.inf)
    assert contrast_interval([np.array([1.0]), np.array([1.0, 2.0])], (1, -1))[1:] == (-math.inf, math.inf)
    assert product_ratio_interval(np.array([0.1]), np.ones(2), np.ones(2), shared=False)[1:] == (0.0, math.inf)


def test_two_groups_are_welch() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(5, 1, 8), rng.normal(4, 3, 12)
    found = contrast_interval([first, second], (1, -1))
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found == pytest.approx((first.mean() - second.mean(), expected.low, expected.high))


def test_three_groups_hold_their_level() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(600):
        groups = [rng.normal(mean, spread, n) for mean, spread, n in ((1, 1, 10), (2, 0.5, 8), (3, 2, 8))]
        _, low, high = contrast_interval(groups, (1, 1, -1))
        held += low <= 0 <= high
    assert stats.binomtest(held, 600, 0.95).pvalue > 0.001


def test_the_product_ratio_of_measured_powers_is_wider_than_that_of_times() -> None:
    rng = np.random.default_rng(3)
    logs = rng.normal(math.log(0.5), 0.01, 10)
    before, after = (np.exp(rng.normal(math.log(w), 0.02, 10)) for w in (40, 60))
    value, low, high = product_ratio_interval(logs, before, after, shared=False)
    assert low < 0.75 < high
    assert high / low > log_ratio_interval(logs)[2] / log_ratio_interval(logs)[1]
    assert value == pytest.approx(0.75, rel=0.03)


@given(central=st.floats(1, 1000), down=st.floats(0.05, 1.0), up=st.floats(1.0, 5.0), n=st.sampled_from([999, 4000]))
@settings(max_examples=50, deadline=None)
def test_a_range_has_its_three_points(central: float, down: float, up: float, n: int) -> None:
    drawn = range_draws(central, down * central, up * central, n, seed=5)
    found = np.quantile(drawn, [0.05, 0.5, 0.95])
    assert found == pytest.approx([down * central, central, up * central], rel=0.01)


def test_ranges_that_are_none_are_refused() -> None:
    for ends in ((1, 0, 2), (1, 2, 3), (math.nan, 1, 2)):
        with pytest.raises(InvalidInput, match="0 < low <= central <= high"):
            range_draws(*ends, 10)


def test_draws_of_a_mean_have_its_t_interval() -> None:
    readings = np.random.default_rng(4).normal(3, 1, 9)
    drawn = mean_draws(readings, 4000)
    expected = stats.t(8, readings.mean(), readings.std(ddof=1) / 3).ppf([0.025, 0.5, 0.975])
    assert np.quantile(drawn, [0.025, 0.5, 0.975]) == pytest.approx(expected, rel=0.01)
    assert mean_draws(readings[:1], 3).tolist() == [readings[0]] * 3


def test_emissions_are_energy_times_factor() -> None:
    drawn = emission_draws(np.array([7.2e6]), 50, 50, 50, 10)
    assert drawn.tolist() == pytest.approx([100.0] * 10)
