"""Order statistics against sums of scipy's binomial and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import binom, norm

from steelyard.errors import InvalidInput
from steelyard.stats.order import (
    inflation,
    median_interval,
    needed_for_percentile,
    percentile_interval,
    readings_to_bound,
    serial_percentile_interval,
)


def brute_ranks(n, q, level):
    """The tightest ranks whose tails each hold at most (1 - level) / 2, by trying all."""
    alpha = (1 - level) / 2
    ranks = np.arange(1, n + 1)
    lows, highs = ranks[binom.cdf(ranks - 1, n, q) <= alpha], ranks[binom.sf(ranks - 1, n, q) <= alpha]
    return (lows[-1], highs[0]) if len(lows) and len(highs) else None


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [1, 5, 6, 36, 100, 461, 1000])
def test_ranks_match_brute_force(n, q, level):
    got = percentile_interval(np.arange(1, n + 1), q, level)
    assert (got and got[1:]) == brute_ranks(n, q, level)


@pytest.mark.parametrize(("q", "n"), [(0.9, 44), (0.99, 459), (0.999, 4603)])
def test_readings_needed_at_99_percent(q, n):
    assert needed_for_percentile(q) == n
    assert 1 - q**n >= 0.99 > 1 - q ** (n - 1)


@pytest.mark.parametrize("q", [0.9, 0.99])
def test_refused_exactly_when_the_largest_reading_cannot_bound_it(q):
    least = math.ceil(math.log(0.025) / math.log(q))
    assert percentile_interval(np.arange(least - 1.0), q) is None
    assert percentile_interval(np.arange(float(least)), q) is not None


def test_median_needs_six_readings():
    assert median_interval([1.0] * 5) is None
    assert median_interval([1.0] * 6) == (1.0, 1.0, 1.0)
    assert median_interval([]) is None


@given(st.lists(st.floats(0, 1e6), min_size=6, max_size=200), st.sampled_from([0.5, 0.75, 0.9]), st.randoms())
def test_value_lies_inside_and_order_does_not_matter(values, q, random):
    got = percentile_interval(values, q)
    shuffled = values[:]
    random.shuffle(shuffled)
    assert percentile_interval(shuffled, q) == got
    if got:
        assert min(values) <= got[1] <= got[0] * (1 + 1e-12)
        assert got[0] <= got[2] * (1 + 1e-12) <= max(values) * (1 + 1e-12)


def test_coverage_of_p90_of_an_exponential():
    readings = np.random.default_rng(2).exponential(size=(400, 120))
    covered = np.mean([low <= math.log(10) <= high for _, low, high in (percentile_interval(r, 0.9) for r in readings)])
    assert 0.925 <= covered <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: percentile_interval([1.0, math.nan], 0.5),
        lambda: percentile_interval([1.0], 99),
        lambda: needed_for_percentile(1.0),
        lambda: needed_for_percentile(0.9, 1.0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInput):
        call()


def autoregressive(n, phi, rng):
    """A stationary series of standard normal readings, each `phi` of the last."""
    noise = rng.standard_normal(n + 400) * np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise)[400:]


@pytest.mark.parametrize(("q", "phi"), [(0.5, 0.9), (0.9, 0.9), (0.99, 0.5)])
def test_readings_that_follow_each_other_are_covered_too(q, phi):
    """Where plain order statistics fall far short, the serial interval holds: 300 draws of 3,000, truth by the normal law."""
    rng = np.random.default_rng(11)
    truth = norm.ppf(q)
    draws = [autoregressive(3000, phi, rng) for _ in range(300)]
    plain = [percentile_interval(x, q) for x in draws]
    serial = [serial_percentile_interval(x, q) for x in draws]
    covered = [np.mean([e is not None and e[1] <= truth <= e[2] for e in ends]) for ends in (plain, serial)]
    assert covered[1] >= 0.92
    assert covered[0] < covered[1] - 0.02


def test_the_inflation_is_that_of_an_autoregression():
    """Of the median of AR(1): 1 + 2 sum (2 / pi) asin(phi^k), since P(both below) = 1/4 + asin(rho) / 2 pi."""
    rng = np.random.default_rng(12)
    phi = 0.8
    exact = 1 + 2 * sum(2 / np.pi * np.arcsin(phi**k) for k in range(1, 200))
    seen = np.median([inflation(autoregressive(20_000, phi, rng), 0.5) for _ in range(20)])
    assert exact == pytest.approx(6.5, abs=0.3)
    assert 0.9 * exact <= seen <= 1.6 * exact  # the largest of three cuts leans to the safe side


def test_an_inflation_asks_for_as_many_more_readings():
    readings = np.arange(368.0)
    assert serial_percentile_interval(readings, 0.99, inflated=1.0) == percentile_interval(readings, 0.99)
    assert serial_percentile_interval(readings, 0.99, inflated=2.0) is None
    assert serial_percentile_interval(np.arange(740.0), 0.99, inflated=2.0) is not None


@pytest.mark.parametrize("inflated", [1.0, 1.3, 5.72])
@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_as_many_readings_as_are_asked_for_do(q, inflated):
    for had in (0, 37, 216, 400):
        n = readings_to_bound(q, inflated=inflated, more_than=had)
        assert serial_percentile_interval(np.arange(float(n)), q, inflated=inflated) is not None
        assert n > had or inflated == 1


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_the_readings_to_bound_a_percentile_are_the_least(q):
    n = readings_to_bound(q)
    assert percentile_interval(np.arange(float(n)), q) is not None
    assert percentile_interval(np.arange(float(n - 1)), q) is None
