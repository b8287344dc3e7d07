"""The confidence sequence against integrals of its mixture, the t distribution, and simulations with known truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from steelyard.errors import InvalidInput
from steelyard.stats import sequence
from steelyard.stats.paired import log_ratio_interval
from steelyard.stats.sequence import (
    FIRST,
    PRIOR,
    half_width,
    least_detectable,
    noise_floor,
    rounds_until,
    sequence_interval,
    sequence_p_value,
    t_sequence,
)

Floats = NDArray[np.float64]


def mixture(values: Floats) -> float:
    """G_n(0) by brute force: the likelihoods summed over a grid of log sigma and effect size, and over log sigma alone."""
    log_sigmas = math.log(float(np.std(values))) + np.linspace(-4, 8, 400)
    effects = np.linspace(-10, 10, 801)
    sigma = np.exp(log_sigmas)[:, None, None]
    likelihood = stats.norm.pdf(values, effects[None, :, None] * sigma, sigma).prod(axis=2)
    prior = stats.norm.pdf(effects, 0, 1 / math.sqrt(PRIOR))
    mixed = integrate.trapezoid(integrate.trapezoid(likelihood * prior, effects, axis=1), log_sigmas)
    null = integrate.trapezoid(stats.norm.pdf(values, 0, sigma[:, 0]).prod(axis=1), log_sigmas)
    return float(mixed / null)


def test_the_ratio_is_that_of_the_integrated_likelihoods() -> None:
    values = np.array([0.5, -0.1, 0.8, 0.3])
    n, s, v = len(values), values.sum(), (values**2).sum()
    closed = math.sqrt(PRIOR / (n + PRIOR)) * (v / (v - s * s / (n + PRIOR))) ** (n / 2)
    assert mixture(values) == pytest.approx(closed, rel=1e-3)


def test_an_interval_ends_where_the_ratio_reaches_the_threshold() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.01, 14)
    lows, highs = t_sequence(values, 0.9)
    n, threshold = len(values), math.exp(sequence._log_threshold(0.9))
    mean, reach = values.mean(), half_width(n, 0.9) * values.std(ddof=1)
    for end in (mean - reach, mean + reach):
        s, v = (values - end).sum(), ((values - end) ** 2).sum()
        assert math.sqrt(PRIOR / (n + PRIOR)) * (v / (v - s * s / (n + PRIOR))) ** (n / 2) == pytest.approx(threshold)
    assert lows[-1] >= mean - reach - 1e-12
    assert highs[-1] <= mean + reach + 1e-12


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_bound_on_ever_crossing_is_an_expectation_at_the_first_look(level: float) -> None:
    """E[min(1, G / A)] at round 10, drawn instead of solved."""
    values = np.random.default_rng(1).standard_normal((200_000, FIRST))
    s, v = values.sum(axis=1), (values**2).sum(axis=1)
    ratio = math.sqrt(PRIOR / (FIRST + PRIOR)) * (v / (v - s**2 / (FIRST + PRIOR))) ** (FIRST / 2)
    drawn = np.minimum(1.0, ratio / math.exp(sequence._log_threshold(level)))
    assert drawn.mean() == pytest.approx(1 - level, abs=5 * drawn.std() / math.sqrt(len(drawn)))


def missed(values: Floats, truth: float = 0.0, level: float = 0.95) -> float:
    """Share of rows whose sequence excludes the truth at any look."""
    out = 0
    for row in values:
        lows, highs = t_sequence(row, level)
        out += bool(((lows > truth) | (highs < truth)).any())
    return out / len(values)


def test_the_truth_is_missed_at_any_of_200_looks_in_at_most_five_percent() -> None:
    values = np.random.default_rng(2).normal(0.03, 0.01, (4_000, 200))
    assert stats.binom.ppf(0.999, 4_000, 0.05) / 4_000 >= missed(values, 0.03) >= 0.025  # and it is not idle


def test_a_fixed_interval_looked_at_as_often_misses_far_more() -> None:
    """What the sequence is for: the same looks with Student's t."""
    values = np.random.default_rng(3).standard_normal((1_000, 60))
    n = np.arange(1, 61)
    means = np.cumsum(values, axis=1) / n
    spreads = np.sqrt((np.cumsum(values**2, axis=1) - n * means**2)[:, 1:] / n[:-1])
    t = np.abs(means[:, FIRST - 1 :]) * np.sqrt(n[FIRST - 1 :]) / spreads[:, FIRST - 2 :]
    peeked = (t > stats.t.ppf(0.975, n[FIRST - 1 :] - 1)).any(axis=1).mean()
    assert peeked > 0.12
    assert missed(values) < 0.06


def _heavy(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_t(3, shape)


def _skewed(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.exponential(size=shape) - 1


def _following(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Neighbours correlate by 0.3."""
    found = rng.standard_normal(shape)
    for at in range(1, shape[1]):
        found[:, at] = 0.3 * found[:, at - 1] + math.sqrt(1 - 0.09) * found[:, at]
    return found


@pytest.mark.parametrize(("draw", "most"), [(_heavy, 0.05), (_skewed, 0.15), (_following, 0.20)])
def test_what_other_readings_do_to_it(draw: Callable[..., Floats], most: float) -> None:
    """Heavy tails keep the level. Skew and, worse, readings that follow each other do not; the page says by how much."""
    assert missed(draw(np.random.default_rng(4), (1_000, 100))) <= most


def test_the_width_is_about_one_and_a_half_times_that_of_a_fixed_number_of_rounds() -> None:
    rounds = np.array([10, 15, 20, 30, 40])
    fixed = stats.t.ppf(0.975, rounds - 1) / np.sqrt(rounds)
    ratios = np.array([half_width(int(n)) for n in rounds]) / fixed
    assert ratios.min() > 1.5
    assert ratios.max() < 1.61


@given(seed=st.integers(0, 2**32), rounds=st.integers(FIRST, 60), mean=st.floats(-0.05, 0.05))
def test_p_is_under_five_percent_exactly_where_the_sequence_excludes_one(seed: int, rounds: int, mean: float) -> None:
    values = np.random.default_rng(seed).normal(mean, 0.02, rounds)
    lows, highs = t_sequence(values)
    excluded = bool((lows > 0).any() or (highs < 0).any())
    assert (sequence_p_value(values) < 0.05) == excluded


@given(seed=st.integers(0, 2**32), rounds=st.integers(1, 40))
def test_nothing_is_said_before_the_first_look(seed: int, rounds: int) -> None:
    lows, highs = t_sequence(np.random.default_rng(seed).normal(0, 1, rounds))
    assert np.isinf(lows[: FIRST - 1]).all()
    assert (lows <= highs).all()


def test_looks_only_narrow() -> None:
    lows, highs = t_sequence(np.random.default_rng(10).normal(0.01, 0.02, 80))
    assert (np.diff(lows[FIRST - 1 :]) >= 0).all()
    assert (np.diff(highs[FIRST - 1 :]) <= 0).all()


def test_a_single_round_bounds_nothing() -> None:
    assert sequence_interval([0.3]) == (math.exp(0.3), 0.0, math.inf)


def test_the_sequence_mirrors() -> None:
    values = np.random.default_rng(5).normal(0.01, 0.02, 25)
    lows, highs = t_sequence(values)
    other_lows, other_highs = t_sequence(-values)
    assert np.allclose(lows, -other_highs)
    assert np.allclose(highs, -other_lows)


def test_readings_that_jump_contradict_themselves_and_the_whole_range_is_given() -> None:
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.normal(0, 0.001, 15), rng.normal(0.1, 0.001, 60)])
    lows, highs = t_sequence(values)
    assert (lows <= highs).all()
    assert lows[-1] < 0.002
    assert highs[-1] > 0.07


def test_equal_readings_leave_no_doubt() -> None:
    assert sequence_interval([0.1] * 12) == pytest.approx((math.exp(0.1),) * 3)
    assert sequence_p_value([0.1] * 12) < 1e-4
    assert sequence_p_value([0.0] * 12) == 1.0


@given(spread=st.floats(1e-4, 0.1), reach=st.floats(1e-3, 0.2))
def test_the_rounds_needed_are_the_first_that_reach_it(spread: float, reach: float) -> None:
    needed = rounds_until(spread, reach)
    assert needed is not None
    assert spread * half_width(needed) <= reach
    assert needed == FIRST or spread * half_width(needed - 1) > reach


def test_the_least_detectable_effect_is_found_nine_times_in_ten() -> None:
    rng, rounds, spread = np.random.default_rng(7), 20, 0.01
    effect = math.log1p(least_detectable(spread, rounds))
    found = np.mean([t_sequence(rng.normal(effect, spread, rounds))[0][-1] > 0 for _ in range(2_000)])
    assert found == pytest.approx(0.9, abs=0.03)


def test_the_noise_floor_is_tukeys_far_fence() -> None:
    found = np.random.default_rng(8).normal(0, 0.003, 40)
    low, high = np.percentile(np.abs(found), [25, 75])
    assert noise_floor(found) == pytest.approx(math.exp(high + 3 * (high - low)) - 1)
    assert noise_floor(found[:4]) is None


@pytest.mark.parametrize("values", [[], [math.nan] * 12, [0.1, math.inf]])
def test_what_is_no_reading_is_refused(values: list[float]) -> None:
    with pytest.raises(InvalidInput, match="log-ratios must be"):
        t_sequence(values)


def test_it_agrees_with_students_t_on_the_mean() -> None:
    values = np.random.default_rng(9).normal(0.02, 0.01, 30)
    ratio, low, high = log_ratio_interval(values)
    wide = sequence_interval(values)
    assert wide[0] == pytest.approx(ratio)
    assert wide[1] < low < high < wide[2]
