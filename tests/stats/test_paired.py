"""Ratios of times against scipy, brute-force sign flips and simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.stats.paired import (
    equivalent,
    judge,
    log_ratio_interval,
    outcome,
    rounds_needed,
    sign_flip_interval,
    t_p_value,
)

ROUNDS = np.array([-0.11, -0.09, -0.14, -0.10, -0.02, -0.12, -0.08, -0.13, -0.10, -0.09])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.995])
def test_interval_matches_scipy(level):
    expected = scipy.stats.ttest_1samp(ROUNDS, 0).confidence_interval(level)
    ratio, low, high = log_ratio_interval(ROUNDS, level)
    assert (math.log(ratio), math.log(low), math.log(high)) == pytest.approx((ROUNDS.mean(), *expected))


@pytest.mark.parametrize("alternative", ["less", "greater"])
@pytest.mark.parametrize("limit", [-0.1, -0.05, 0.0, 0.05])
def test_p_value_matches_scipy(alternative, limit):
    expected = scipy.stats.ttest_1samp(ROUNDS, limit, alternative=alternative).pvalue
    assert t_p_value(ROUNDS, limit, alternative) == pytest.approx(expected)


def flip_p_value(values, centre, side):
    """One-sided p of the sign-flip test of the mean, all patterns listed."""
    shifted = side * (values - centre)
    signs = np.array(list(itertools.product([1, -1], repeat=len(values))))
    return float(np.mean(signs @ shifted >= shifted.sum() - 1e-12))


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_sign_flip_interval_inverts_the_listed_test(level):
    _, low, high = sign_flip_interval(ROUNDS, level)
    alpha, step = (1 - level) / 2, 1e-9
    assert flip_p_value(ROUNDS, math.log(low) - step, 1) <= alpha < flip_p_value(ROUNDS, math.log(low) + step, 1)
    assert flip_p_value(ROUNDS, math.log(high) + step, -1) <= alpha < flip_p_value(ROUNDS, math.log(high) - step, -1)


def test_drawn_sign_flips_agree_with_t_on_many_normal_rounds():
    values = np.random.default_rng(0).normal(-0.1, 0.02, 40)
    assert sign_flip_interval(values) == pytest.approx(log_ratio_interval(values), abs=1e-3)


def test_too_few_rounds_leave_the_interval_open():
    assert log_ratio_interval([0.1]) == (math.exp(0.1), 0.0, math.inf)
    assert sign_flip_interval([0.1] * 5) == (pytest.approx(math.exp(0.1)), 0.0, math.inf)
    assert t_p_value([0.1], 0.0) == 1.0
    assert rounds_needed([0.1]) is None


def test_rounds_that_agree_exactly_are_not_nan():
    assert log_ratio_interval([0.1] * 4) == (math.exp(0.1),) * 3
    assert [t_p_value([0.1] * 4, limit) for limit in (0.0, 0.1, 0.2)] == [1.0, 1.0, 0.0]
    assert rounds_needed([0.1] * 4) == 2


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [math.inf, 0.0], [[0.1, 0.2]]])
def test_bad_rounds_are_refused(bad):
    with pytest.raises(InvalidInput):
        log_ratio_interval(bad)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.80, 0.90, "faster"),
        (1.10, 1.30, "slower"),
        (0.985, 1.015, "equivalent"),
        (0.990, 0.998, "equivalent"),  # shown to differ, and shown to differ by less than the band
        (0.970, 0.995, "faster"),
        (0.970, 1.010, "undecided"),
        (0.0, math.inf, "undecided"),
    ],
)
def test_outcomes(low, high, expected):
    assert outcome(low, high, 0.02) == expected


def test_the_band_is_symmetric_in_ratio():
    assert equivalent(1 / 1.02, 1.02, 0.02)
    assert not equivalent(0.98, 1.0, 0.02)
    with pytest.raises(InvalidInput):
        equivalent(0.9, 1.1, 0.0)


def test_tost_uses_the_narrower_interval():
    values = np.array([-0.018, 0.018, -0.017, 0.017, 0.016, -0.016])
    _, low, high = log_ratio_interval(values, 0.90)
    band = high - 1 + 1e-6
    assert low > 1 / (1 + band)
    assert judge(values, band) == "equivalent"
    assert outcome(*log_ratio_interval(values)[1:], band) == "undecided"


@pytest.mark.parametrize(("values", "limit"), [([-0.02, 0.01, -0.03, 0.02, -0.01], 0.0), (list(ROUNDS), -0.09)])
def test_rounds_needed_is_the_first_number_that_decides(values, limit):
    spread, gap = np.std(values, ddof=1), abs(np.mean(values) - limit)

    def half(n):
        return scipy.stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n)

    needed = rounds_needed(values, limit)
    assert half(needed) < gap <= half(needed - 1)


def test_rounds_needed_gives_up_on_a_mean_at_the_limit():
    assert rounds_needed([-0.01, 0.01]) is None
    assert rounds_needed([-1.0, 1.0 + 1e-6]) is None


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=12), st.sampled_from([0.9, 0.95]))
def test_p_value_and_interval_agree(values, level):
    _, _, high = log_ratio_interval(values, level)
    for limit in (-0.5, 0.0, 0.3):
        if abs(math.log(high) - limit) > 1e-9:
            assert (math.log(high) < limit) == (t_p_value(values, limit) < (1 - level) / 2)


def test_coverage_with_known_truth():
    rounds = np.random.default_rng(1).normal(0.03, 0.01, (400, 10))
    truth = math.exp(0.03)
    for interval in (log_ratio_interval, sign_flip_interval):
        covered = sum(low <= truth <= high for _, low, high in map(interval, rounds))
        assert 0.925 <= covered / 400 <= 0.98
