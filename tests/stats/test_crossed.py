"""The mean over trainings and examples: against the textbook's layout, a paired t, and a simulation with known truth."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from steelyard.errors import InvalidInput
from steelyard.stats.crossed import crossed_mean_interval


def test_error_is_that_of_the_two_way_layout() -> None:
    """Mean squares by statsmodels' analysis of variance."""
    import pandas as pd

    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 4)[:, None] + rng.normal(0, 1, 12)[None] + rng.normal(0, 1, (4, 12))
    frame = pd.DataFrame({"d": values.ravel(), "s": np.repeat(np.arange(4), 12), "i": np.tile(np.arange(12), 4)})
    squares = anova_lm(ols("d ~ C(s) + C(i)", frame).fit())["mean_sq"].to_numpy()
    variance = (squares[0] + squares[1] - squares[2]) / values.size
    parts = squares / values.size
    degrees = variance**2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 11 + parts[2] ** 2 / 33)
    mean, low, high = crossed_mean_interval(values)
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, degrees) * math.sqrt(variance))


def test_trainings_that_agree_leave_the_spread_of_the_examples() -> None:
    one = np.random.default_rng(2).integers(-1, 2, 200).astype(float)
    mean, low, high = crossed_mean_interval(np.stack([one, one, one]))
    expected = stats.ttest_1samp(one, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((one.mean(), expected.low, expected.high))


@pytest.mark.parametrize("shape", [(1, 50), (50, 1)])
def test_one_training_or_one_example_bounds_nothing(shape: tuple[int, int]) -> None:
    assert crossed_mean_interval(np.ones(shape))[1:] == (-math.inf, math.inf)


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.zeros(3), np.array([[0.0, np.nan]])])
def test_what_is_no_layout_is_refused(values: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="a row for each training"):
        crossed_mean_interval(values)


@pytest.mark.parametrize(
    ("trainings", "examples", "between", "among"), [(3, 300, 0.01, 0.1), (3, 300, 0.0, 0.1), (5, 100, 0.02, 0.0), (2, 300, 0.01, 0.1)]
)  # fmt: skip
def test_the_truth_is_inside_as_often_as_promised(trainings: int, examples: int, between: float, among: float) -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        drawn = rng.normal(0, between, trainings)[:, None] + rng.normal(0, among, examples)
        _, low, high = crossed_mean_interval(drawn + rng.normal(0, 0.2, (trainings, examples)))
        inside += low <= 0 <= high
    assert inside >= 0.95 * 400 - 3 * math.sqrt(400 * 0.95 * 0.05)
