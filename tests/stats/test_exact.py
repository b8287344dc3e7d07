"""Exact sums against math.fsum and exact fractions, for any order and any split."""

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.stats.exact import ExactSum, exact_sum

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, max_size=60), st.randoms())
def test_rounds_the_exact_fraction_once_in_any_order_and_split(values, random):
    total = sum((Fraction(v) for v in values), Fraction(0))
    shuffled = random.sample(values, len(values))
    cut = random.randint(0, len(values))
    merged = ExactSum.of(shuffled[cut:]).merge(ExactSum.of(shuffled[:cut]))
    assert merged == ExactSum.of(values)
    if abs(total) < Fraction(2) ** 1024 - Fraction(2) ** 970:
        assert merged.value()[0] == total.numerator / total.denominator
    else:
        with pytest.raises(InvalidInput, match="beyond the largest double"):
            merged.value()


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.standard_normal(200_000),
        lambda rng: rng.standard_normal(200_000) * np.exp(100 * rng.standard_normal(200_000)),
        lambda rng: rng.integers(0, 2, 200_000).astype(float),
        lambda rng: 5e-324 * rng.integers(-1000, 1000, 200_000),
        lambda rng: np.full(200_000, 0.1),
        lambda rng: rng.choice([1e303, -1e303, 1e-308, 5e-324, 1.0], 200_000),
    ],
    ids=["normal", "wide", "counts", "denormal", "equal", "extremes"],
)
def test_equals_fsum_over_many_chunks(draw):
    values = draw(np.random.default_rng(0))
    parts = [ExactSum.of(part) for part in np.array_split(values[::-1], [1, 70_000, 150_001])]
    whole = parts[3].merge(parts[0]).merge(parts[2]).merge(parts[1])
    assert whole == ExactSum.of(values)
    assert whole.value()[0] == math.fsum(values)


def test_sums_beyond_the_largest_double_cancel():
    values = np.repeat([1.7e308, -1.7e308, 1e-308], 70_000)
    assert exact_sum(values) == math.fsum([1e-308] * 70_000)


def test_columns_are_summed_apart_whatever_their_layout():
    table = np.random.default_rng(1).standard_normal((5000, 7)).astype(np.float32)
    expected = [math.fsum(column) for column in table.T.astype(float)]
    for layout in (table, np.asfortranarray(table), table[::-1]):
        assert ExactSum.of(layout).value().tolist() == expected


def test_zero_rows_change_nothing():
    some = ExactSum.of([[1.0, 2.0]])
    assert ExactSum.zero(2).merge(some) == some == some.merge(ExactSum.of(np.empty((0, 2))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_with_its_row(bad):
    values = np.ones(100_000)
    values[70_001] = bad
    with pytest.raises(InvalidInput, match="row 70001 is not finite"):
        ExactSum.of(values)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match="shape"):
        ExactSum.of(np.ones((2, 2, 2)))
    with pytest.raises(InvalidInput, match="2 and 3 columns"):
        ExactSum.zero(2).merge(ExactSum.zero(3))


def test_adds_twenty_million_values_a_second():
    values = np.random.default_rng(2).standard_normal(2_000_000)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        ExactSum.of(values)
        seconds.append(time.process_time() - start)
    assert len(values) / min(seconds) > 20e6
