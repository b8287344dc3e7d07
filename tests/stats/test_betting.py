"""The test by betting: its error where the claim just holds, its power, and its value step by step."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.stats.betting import capital
from steelyard.stats.proportion import clopper_pearson


def _rejected(population: np.ndarray, most: float, looks: int, alpha: float, runs: int) -> np.ndarray:
    """For each run, after how many values the claim was rejected; 0: never."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(runs):
        rich = capital(rng.permutation(population)[:looks], most, population=len(population)) >= 1 / alpha
        found.append(int(rich.argmax()) + 1 if rich.any() else 0)
    return np.array(found)


def _losses(n: int, lost: int, won: int) -> np.ndarray:
    return np.concatenate([np.ones(lost), -np.ones(won), np.zeros(n - lost - won)])


@pytest.mark.parametrize(("n", "lost", "won", "looks"), [(400, 12, 8, 400), (1000, 110, 100, 300), (500, 5, 0, 250)])
def test_a_claim_that_just_holds_is_rejected_no_more_often_than_said(n: int, lost: int, won: int, looks: int) -> None:
    """However often one looks: the drop of the whole is exactly one per cent."""
    runs = 600
    wrong = int((_rejected(_losses(n, lost, won), 0.01, looks, 0.05, runs) > 0).sum())
    assert clopper_pearson(wrong, runs, 0.99)[0] <= 0.05


@pytest.mark.parametrize(("drop", "within"), [(0.8, 25), (0.3, 70), (0.1, 250)])
def test_a_gross_drop_is_found_in_few_examples(drop: float, within: int) -> None:
    at = _rejected(_losses(2000, int(2000 * drop) + 20, 20), 0.01, 500, 0.01, 200)
    assert (at > 0).mean() >= 0.95
    assert np.median(at[at > 0]) <= within


def test_what_cannot_be_true_any_more_is_worth_anything() -> None:
    assert capital([1, 1, 1], 0.2, population=10, low=0.0)[-1] == np.inf  # three of ten at least are lost already
    assert np.isfinite(capital([1, 1], 0.2, population=10, low=0.0)).all()


def test_the_mean_over_all_orders_is_what_it_began_with_or_less() -> None:
    """By enumeration, in the small: the expected capital at the end of a set whose mean is exactly the claim's."""
    from itertools import permutations

    values = [1.0, 0.0, 0.0, -1.0, 0.0]
    ends = [capital(order, 0.0, population=5)[-1] for order in permutations(values)]
    assert float(np.mean(ends)) == pytest.approx(1.0, abs=1e-9)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40), st.floats(0.0, 0.3))
def test_the_stake_knows_nothing_of_what_is_to_come(values: list[float], most: float) -> None:
    whole = capital(values, most, population=50)
    for count in range(1, len(values)):
        np.testing.assert_allclose(capital(values[:count], most, population=50), whole[:count])
    assert (whole > 0).all()


def test_more_values_than_there_are_or_outside_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 2 values"):
        capital([0, 0, 0], 0.1, population=2)
    with pytest.raises(InvalidInput, match="from 0 to 1"):
        capital([-1.0], 0.1, population=10, low=0.0)
    assert Fraction(capital([0.0], 0.1, population=10)[0]) == 1  # the first stake is nothing
