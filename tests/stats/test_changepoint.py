"""Warm-up ends found in series whose truth is known."""

import itertools

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.stats.changepoint import _PENALTY, _partition, segments, steady_from

SIZES = (50, 200, 1000, 5000)


def noisy(n, spread=0.02, seed=1):
    return 1 + spread * np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("n", SIZES)
def test_a_flat_series_is_steady_from_the_start(n):
    assert steady_from(noisy(n)) == 0


@pytest.mark.parametrize("n", SIZES)
def test_a_slow_start_is_cut_where_it_ends(n):
    series = noisy(n)
    series[: n // 5] *= 1.5
    assert steady_from(series) == n // 5


@pytest.mark.parametrize("n", SIZES)
def test_an_exponential_warm_up_is_cut_once_it_is_within_the_band(n):
    start = steady_from(noisy(n) + 3 * np.exp(-np.arange(n) / 4))
    assert 10 <= start <= 40


@pytest.mark.parametrize("n", SIZES)
def test_a_trend_and_a_late_jump_have_no_steady_state(n):
    assert steady_from(noisy(n) + np.arange(n) / n) is None
    late = noisy(n)
    late[-n // 8 :] *= 1.5
    assert steady_from(late) is None


@pytest.mark.parametrize("n", SIZES)
def test_lone_outliers_make_no_segment(n):
    series = noisy(n)
    series[[n // 7, n // 2, -3]] = 50.0
    assert segments(series) == [0]
    assert steady_from(series) == 0


def test_a_brief_return_does_not_count_as_steady():
    series = noisy(200)
    series[60:100] *= 1.3
    assert steady_from(series) == 100


def test_small_shifts_within_the_tolerance_are_one_state():
    series = noisy(400, spread=0.001)
    series[200:] *= 1.01
    assert segments(series) == [0, 200]
    assert steady_from(series) == 0
    assert steady_from(series, tolerance=0.001) == 200


def test_constant_and_short_series():
    assert steady_from([2.0] * 100) == 0
    assert steady_from([0.0] * 100) == 0
    assert steady_from([5.0] * 10 + [1.0] * 90) == 10
    assert steady_from([1.0] * 7) is None
    assert steady_from([]) is None


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_the_unit_does_not_matter(scale):
    series = noisy(300)
    series[:46] *= 2  # 300 readings are read in blocks of two
    assert steady_from(series * scale) == steady_from(series) == 46


def test_nan_is_refused():
    with pytest.raises(InvalidInput):
        steady_from([1.0] * 20 + [float("nan")])


def test_the_partition_is_optimal():
    means, weights = np.random.default_rng(4).normal([0] * 4 + [3] * 5, 1), np.ones(9)

    def cost(cuts):
        edges = [0, *cuts, 9]
        return sum(means[a:b].var() * (b - a) for a, b in itertools.pairwise(edges)) + _PENALTY * np.log(9) * len(cuts)

    every = (cuts for size in range(9) for cuts in itertools.combinations(range(1, 9), size))
    assert _partition(means, weights)[1:] == list(min(every, key=cost))


def test_rarely_alarms_on_skewed_noise():
    draws = np.exp(0.2 * np.random.default_rng(5).standard_normal((100, 200)))
    assert sum(steady_from(series) != 0 for series in draws) <= 5
