"""Welch's t against SciPy's, and how often its intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from steelyard.errors import InvalidInput
from steelyard.stats.unpaired import contrast, mean_contrast

rows = st.lists(st.floats(-3, 3), min_size=2, max_size=12).map(np.array).filter(lambda row: np.ptp(row) > 1e-3)


@given(rows, rows, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_interval_and_p_are_those_of_scipy(first: np.ndarray, second: np.ndarray, level: float) -> None:
    found = contrast(first, second)
    theirs = stats.ttest_ind(second, first, equal_var=False)
    interval = theirs.confidence_interval(level)
    assert found.p_value() == pytest.approx(theirs.pvalue, rel=1e-7, abs=1e-12)
    assert found.ratio(level) == pytest.approx(
        (math.exp(second.mean() - first.mean()), math.exp(interval.low), math.exp(interval.high)), rel=1e-7
    )


@given(rows, rows)
def test_exchanging_the_sides_inverts_the_ratio(first: np.ndarray, second: np.ndarray) -> None:
    ratio, low, high = contrast(first, second).ratio()
    assert contrast(second, first).ratio() == pytest.approx((1 / ratio, 1 / high, 1 / low), rel=1e-9)


def test_one_process_says_nothing_of_the_spread() -> None:
    found = contrast([0.0], [0.1, 0.2])
    assert found.ratio() == (pytest.approx(math.exp(0.15)), 0.0, math.inf)
    assert found.p_value() == 1.0
    assert mean_contrast([found, contrast([0.0, 0.1], [0.0, 0.1])]).ratio()[1:] == (0.0, math.inf)


def test_readings_that_agree_exactly_leave_no_width() -> None:
    assert contrast([0.5, 0.5], [0.5, 0.5]).ratio() == (1.0, 1.0, 1.0)
    assert contrast([0.5, 0.5], [0.5, 0.5]).p_value() == 1.0
    assert contrast([0.0, 0.0], [0.5, 0.5]).p_value() == 0.0


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [math.inf, 1.0]])
def test_what_is_no_row_of_times_is_refused(bad: list[float]) -> None:
    with pytest.raises(InvalidInput, match="one per process"):
        contrast(bad, [0.0, 1.0])
    with pytest.raises(InvalidInput, match="at least one"):
        mean_contrast([])


def test_the_mean_of_several_covers_with_unequal_spreads() -> None:
    """Four cells of ten and seven processes whose spreads differ by a factor of eight."""
    rng = np.random.default_rng(0)
    truth = np.array([0.0, 0.02, -0.05, 0.1])
    spreads = np.array([0.01, 0.02, 0.04, 0.08])
    held = 0
    for _ in range(2000):
        cells = [contrast(rng.normal(0, s, 10), rng.normal(d, 2 * s, 7)) for d, s in zip(truth, spreads, strict=True)]
        _, low, high = mean_contrast(cells).ratio()
        held += low <= math.exp(truth.mean()) <= high
    assert 0.935 <= held / 2000 <= 0.965
