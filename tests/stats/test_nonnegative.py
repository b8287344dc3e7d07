"""Non-negative fits against scipy's bounded least squares and against a power that is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from steelyard.errors import InvalidInput
from steelyard.stats.nonnegative import fit_relative, held_out_errors


def test_it_agrees_with_bounded_least_squares_on_relative_errors() -> None:
    rng = np.random.default_rng(0)
    columns = np.column_stack([np.ones(30), rng.uniform(0, 4, 30), rng.uniform(0, 5e9, 30), rng.uniform(0, 1, 30)])
    watts = columns @ [10, 5, 1e-9, -0.5] * np.exp(0.05 * rng.standard_normal(30))
    found = fit_relative(columns, watts)
    scale = columns.max(axis=0)
    expected = lsq_linear(columns / scale / watts[:, None], np.ones(30), bounds=(0, np.inf), tol=1e-13).x / scale
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert (found >= 0).all()


def test_a_column_of_nothing_draws_nothing() -> None:
    columns = np.column_stack([np.ones(5), np.zeros(5)])
    assert fit_relative(columns, np.full(5, 7.0)).tolist() == pytest.approx([7.0, 0.0])


def test_a_kind_is_judged_by_a_model_that_never_saw_it() -> None:
    columns = np.column_stack([np.ones(6), [0, 1, 2, 0, 1, 2]])
    watts = np.array([10.0, 12, 14, 10, 18, 26])  # the second kind draws four times as much
    errors = held_out_errors(columns, watts, ["a"] * 3 + ["b"] * 3)
    assert errors["b"] == pytest.approx(np.mean([0, 6 / 18, 12 / 26]))
    assert errors["a"] == pytest.approx(np.mean([0, 6 / 12, 12 / 14]))


@pytest.mark.parametrize(
    ("columns", "target", "words"),
    [
        (np.ones((3, 1)), np.array([1.0, 0.0, 2.0]), "positive reading"),
        (np.ones((1, 2)), np.array([1.0]), "cannot tell 2 parts"),
    ],
)
def test_what_cannot_be_fitted_is_refused(columns: np.ndarray, target: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        fit_relative(columns, target)


def test_one_kind_alone_has_no_unseen_error() -> None:
    with pytest.raises(InvalidInput, match="two kinds of load at least, got a"):
        held_out_errors(np.ones((3, 1)), np.ones(3), ["a"] * 3)
