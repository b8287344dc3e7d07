"""Regression metrics against scikit-learn, their undefined cases, and the coverage of their intervals."""

import math

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics import regression as r
from steelyard.stats.exact import ExactSum
from steelyard.stats.order import median_interval
from steelyard.stats.sums import interval, spread, sums

METRICS = {
    "mse": (r.squared_terms, r.mse, skm.mean_squared_error),
    "rmse": (r.squared_terms, r.rmse, skm.root_mean_squared_error),
    "mae": (r.absolute_terms, r.mae, skm.mean_absolute_error),
    "r2": (r.r2_terms, r.r2, skm.r2_score),
    "mape": (r.percentage_terms, r.mape, skm.mean_absolute_percentage_error),
}


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_values_match_sklearn(name, data):
    terms, value, oracle = METRICS[name]
    n = data.draw(st.integers(2, 40))
    numbers = st.floats(0.01, 1000)
    y = np.array(data.draw(st.lists(numbers, min_size=n, max_size=n, unique=True)))
    p = np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)))
    if np.ptp(y) > 1e-3:
        assert value(sums(terms(y, p))) == pytest.approx(oracle(y, p), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_batches_of_any_size_and_order_give_the_same_digits(name):
    terms, value, _ = METRICS[name]
    rng = np.random.default_rng(0)
    y, p = 3 + rng.standard_normal((2, 1000))
    centre = {"centre": 3.0} if name == "r2" else {}
    whole = ExactSum.of(terms(y, p, **centre))
    for cuts in ([500], [1, 999], [7, 30, 800]):
        order = rng.permutation(1000)
        parts = [ExactSum.of(terms(y[i], p[i], **centre)) for i in np.split(order, cuts)]
        merged = ExactSum.zero(len(whole.totals))
        for part in parts:
            merged = merged.merge(part)
        assert value(merged.value()) == value(whole.value())


def test_values_work_on_leading_axes():
    stacked = np.stack([sums(r.r2_terms([1.0, 2.0, 4.0], [1.0, 2.5, 3.0], centre=c)) for c in (0.0, 2.0, 9.0)])
    assert r.r2(stacked) == pytest.approx(np.full(3, skm.r2_score([1.0, 2.0, 4.0], [1.0, 2.5, 3.0])))


def test_r2_keeps_its_digits_far_from_zero():
    rng = np.random.default_rng(1)
    y = 1e9 + rng.standard_normal(500)
    p = y + 0.3 * rng.standard_normal(500)
    assert r.r2(sums(r.r2_terms(y, p))) == pytest.approx(skm.r2_score(y, p), rel=1e-9)


@pytest.mark.parametrize("target", [0.0, 0.1, -1e9, 1e-300])
@pytest.mark.parametrize("centre", [None, 0.0])
def test_r2_of_equal_targets_is_undefined(target, centre):
    total = sums(r.r2_terms([target] * 7, np.linspace(-1, 1, 7), centre))
    assert np.isnan(r.r2(total))
    assert r.r2_undefined(total) == "undefined: all targets are equal"
    assert r.r2_undefined(sums(r.r2_terms([1.0, 2.0], [1.0, 1.0]))) is None


def test_mape_with_a_target_of_zero_is_undefined():
    total = sums(r.percentage_terms([0.0, 2.0], [1.0, 2.0]))
    assert np.isnan(r.mape(total))
    assert r.mape_undefined(total) == "undefined: 1 of 2 targets are 0"
    assert r.mape_undefined(sums(r.percentage_terms([-1.0, 2.0], [1.0, 2.0]))) is None


def test_median_absolute_error_is_the_median_of_the_errors():
    y, p = np.random.default_rng(2).standard_normal((2, 101))
    value, low, high = median_interval(r.absolute_errors(y, p))
    assert value == skm.median_absolute_error(y, p)
    assert low < value < high


def test_perfect_predictions_have_no_bound_where_the_range_has_none():
    y = np.arange(50.0)
    assert interval(spread(r.squared_terms(y, y), r.rmse), low=0, high=math.inf) == (0, math.inf)
    assert interval(spread(r.r2_terms(y, y), r.r2), low=-math.inf, high=1) == (-math.inf, 1)


@pytest.mark.parametrize(
    ("terms", "value", "ends", "truth"),
    [
        (r.squared_terms, r.rmse, (0, math.inf), 0.5),
        (r.absolute_terms, r.mae, (0, math.inf), 0.5 * math.sqrt(2 / math.pi)),
        (r.r2_terms, r.r2, (-math.inf, 1), 0.75),
    ],
)
def test_intervals_cover_the_truth(terms, value, ends, truth):
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(600):
        y = rng.standard_normal(150)
        low, high = interval(spread(terms(y, y + 0.5 * rng.standard_normal(150)), value), low=ends[0], high=ends[1])
        held += low <= truth <= high
    assert 0.92 <= held / 600 <= 0.975


@pytest.mark.parametrize(
    ("y", "p", "says"),
    [
        ([1.0, np.nan], [1.0, 1.0], "target nan of example 1"),
        ([1.0, 1.0], [np.inf, 1.0], "prediction inf of example 0"),
        ([1.0], [1.0, 2.0], "1 targets but 2 predictions"),
        ([], [], "non-empty"),
        ([[1.0]], [[1.0]], "shape"),
        (["a"], [1.0], "must be numbers"),
    ],
)
def test_bad_input_is_refused(y, p, says):
    with pytest.raises(InvalidInput, match=says):
        r.squared_terms(y, p)
