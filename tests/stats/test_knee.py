"""The knee against curves whose knee is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.knee import find_knee

SIZES = (1, 2, 4, 8, 16, 32)


def fixed_cost(sizes: tuple[int, ...], cost: float) -> NDArray[np.float64]:
    """Examples per second where a call costs `cost` once and 1 for each example."""
    batch = np.array(sizes, dtype=float)
    return batch / (cost + batch)


def noisy(curve: NDArray[np.float64], passes: int, spread: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rates of several passes, with weather that a whole pass shares and noise of each slot."""
    weather = rng.normal(0, 0.1, size=(passes, 1))
    return np.asarray(curve * np.exp(weather + rng.normal(0, spread, size=(passes, len(curve)))))


@pytest.mark.parametrize(("cost", "knee"), [(0.2, 4), (0.5, 8), (1.0, 16)])
def test_the_knee_of_a_fixed_cost_a_call(cost: float, knee: int) -> None:
    """b / (c + b) is within 5 % of its value at 32 from the first b on that satisfies it: counted by hand."""
    curve = fixed_cost(SIZES, cost)
    by_hand = min(b for b, rate in zip(SIZES, curve, strict=True) if rate >= 0.95 * curve.max())
    found = find_knee(SIZES, np.tile(curve, (3, 1)))
    assert by_hand == knee
    assert (found.outcome, found.size, found.likely) == ("knee", knee, (knee,))


def test_rising_and_flat_are_said() -> None:
    linear = np.tile(np.array(SIZES, dtype=float), (4, 1))
    assert find_knee(SIZES, linear).outcome == "rising"
    assert find_knee(SIZES, np.full((4, 6), 100.0)).outcome == "flat"
    assert find_knee(SIZES, linear[:1]).outcome == "unknown"
    assert find_knee((8,), linear[:, :1]).outcome == "unknown"


def test_a_throughput_that_sinks_past_the_knee_has_one() -> None:
    curve = np.array([100.0, 180.0, 240.0, 235.0, 200.0, 150.0])
    assert find_knee(SIZES, np.tile(curve, (3, 1))).size == 4


@pytest.mark.parametrize("passes", [3, 8])
@pytest.mark.parametrize("cost", [0.2, 0.5, 1.0, 3.0])
def test_the_set_holds_the_true_knee(passes: int, cost: float) -> None:
    """At 3 % noise a slot, over 150 draws: never under 95 % but by chance (binomial, 0.1 %)."""
    rng = np.random.default_rng(7)
    curve = fixed_cost(SIZES, cost)
    truth = find_knee(SIZES, np.tile(curve, (2, 1))).size
    held = sum(truth in find_knee(SIZES, noisy(curve, passes, 0.03, rng)).likely for _ in range(150))
    assert held >= 133


def test_more_passes_narrow_the_set() -> None:
    rng = np.random.default_rng(8)
    curve = fixed_cost(SIZES, 0.45)
    few, many = (
        np.mean([len(find_knee(SIZES, noisy(curve, n, 0.03, rng)).likely) for _ in range(30)]) for n in (3, 40)
    )
    assert many < few


@given(rates=st.lists(st.floats(1, 1e6), min_size=4, max_size=4), scale=st.floats(0.01, 100), passes=st.integers(2, 5))
def test_the_unit_of_the_rate_does_not_matter(rates: list[float], scale: float, passes: int) -> None:
    table = np.tile(np.array(rates), (passes, 1)) * np.linspace(1, 1.1, passes)[:, None]
    assert find_knee((1, 2, 4, 8), table).likely == find_knee((1, 2, 4, 8), table * scale).likely


def test_bad_tables_are_refused() -> None:
    with pytest.raises(InvalidInput, match="ascending"):
        find_knee((2, 1), np.ones((2, 2)))
    with pytest.raises(InvalidInput, match="shape"):
        find_knee((1, 2), np.ones((2, 3)))
    with pytest.raises(InvalidInput, match="above 0"):
        find_knee((1, 2), np.zeros((2, 2)))
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        find_knee((1, 2), np.ones((2, 2)), within=1.0)
