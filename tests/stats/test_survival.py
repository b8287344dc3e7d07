import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.duration.survfunc import SurvfuncRight

from steelyard.errors import InvalidInput
from steelyard.stats.survival import kaplan_meier, restricted_mean

runs = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=2, max_size=30).filter(
    lambda found: any(reached for _, reached in found)
)


def parts(found):
    return np.array([t for t, _ in found], dtype=float), np.array([r for _, r in found])


@given(runs)
def test_kaplan_meier_is_statsmodels(found):
    times, reached = parts(found)
    at, share = kaplan_meier(times, reached)
    other = SurvfuncRight(times, reached.astype(int))
    assert at == pytest.approx(other.surv_times)
    assert share == pytest.approx(other.surv_prob)


@settings(max_examples=40, deadline=None)
@given(runs, st.integers(1, 12))
def test_restricted_mean_and_its_error_are_the_integrals_written_out(found, horizon):
    """The area under statsmodels' curve; Greenwood's sum over events, each with the area after it."""
    times, reached = parts(found)
    if times.max() < horizon and not reached[times == times.max()].all():
        return
    other = SurvfuncRight(times, reached.astype(int))
    grid = np.linspace(0, horizon, 2400, endpoint=False) + horizon / 4800  # events are whole numbers
    curve = np.array([other.surv_prob[other.surv_times <= t][-1] if (other.surv_times <= t).any() else 1 for t in grid])
    mean = float(curve.mean() * horizon)
    variance = 0.0
    for t, d, n in zip(other.surv_times, other.n_events, other.n_risk, strict=True):
        if t < horizon and n > d:
            variance += (curve[grid > t].sum() * horizon / len(grid)) ** 2 * d / (n * (n - d))
    value, low, high = restricted_mean(times, reached, horizon)
    half = norm.ppf(0.975) * np.sqrt(variance)
    assert value == pytest.approx(mean, abs=horizon / 300)
    assert low == pytest.approx(max(0, mean - half), abs=horizon / 60)
    assert high == pytest.approx(min(horizon, mean + half), abs=horizon / 60)


def test_without_censoring_it_is_the_mean_and_its_standard_error():
    times = np.random.default_rng(0).exponential(3, 40)
    value, low, high = restricted_mean(times, np.ones(40, dtype=bool), 100.0)
    assert value == pytest.approx(times.mean())
    assert (high - low) / 2 == pytest.approx(norm.ppf(0.975) * times.std() / np.sqrt(40))


def test_runs_that_never_got_there_are_neither_dropped_nor_counted_as_done():
    """Exponential times to the goal, given up at 4: the restricted mean of the truth is 3 (1 - exp(-4/3))."""
    rng = np.random.default_rng(1)
    truth = 3 * (1 - np.exp(-4 / 3))
    inside = 0
    for _ in range(200):
        times = rng.exponential(3, 30)
        _, low, high = restricted_mean(np.minimum(times, 4), times <= 4, 4.0)
        inside += low <= truth <= high
    assert 0.89 < inside / 200 < 0.99


@pytest.mark.parametrize(
    ("times", "reached", "horizon"),
    [([], [], 1), ([1.0], [True], 0), ([1.0, 2.0], [True, False], 5), ([-1.0], [True], 1)],
)
def test_what_cannot_be_told_is_refused(times, reached, horizon):
    with pytest.raises(InvalidInput):
        restricted_mean(np.array(times), np.array(reached, dtype=bool), horizon)
