"""Proportions against statsmodels, published tables and a grid inversion."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erfinv
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.proportion import proportion_confint

from steelyard.errors import InvalidInput
from steelyard.stats.proportion import (
    examples_needed,
    mcnemar,
    mcnemar_midp,
    newcombe_paired,
    tango,
    tango_z,
    wilson,
)

Z2 = 1.959963984540054**2


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 30), (17, 30), (359, 360), (9_950, 10_000)])
def test_wilson_matches_statsmodels(successes, n, level):
    assert wilson(successes, n, level) == pytest.approx(
        proportion_confint(successes, n, 1 - level, method="wilson"), abs=1e-12
    )


# Both tables: airway hyper-responsiveness (Bentur et al. 2009) and complete response (Cavo et al. 2012), with limits as
# published by Fagerland, Lydersen and Laake (2014, 2017) and their R package contingencytables.
AIRWAY, RESPONSE = (1, 1, 7, 12), (59, 6, 16, 80)


@pytest.mark.parametrize(("table", "limits"), [(AIRWAY, (-0.517, -0.026)), (RESPONSE, (-0.1240, -0.0054))])
def test_tango_matches_published_limits(table, limits):
    a, b, c, d = table
    assert tango(b, c, a + b + c + d) == pytest.approx(limits, abs=5e-4)


def test_tango_matches_propcis():
    # R: PropCIs::scoreci.mp(25, 28, 618, 0.90), whose difference is second minus first
    assert tango(28, 25, 618, 0.90) == pytest.approx((-0.0148, 0.0247), abs=5e-5)


@pytest.mark.parametrize(("table", "limits"), [(AIRWAY, (-0.507, -0.026)), (RESPONSE, (-0.1186, -0.0046))])
def test_newcombe_matches_published_limits(table, limits):
    assert newcombe_paired(*table) == pytest.approx(limits, abs=5e-4)


def restricted_likelihood_z(b, c, n, delta):
    """Tango's statistic with the restricted estimate found on a grid instead of by its formula."""
    q = np.linspace(max(0.0, -delta), (1 - delta) / 2, 400_001)[1:-1]
    loglik = (n - b - c) * np.log1p(-2 * q - delta)
    loglik = loglik + (b * np.log(q + delta) if b else 0) + (c * np.log(q) if c else 0)
    best = q[np.argmax(loglik)]
    return (b - c - n * delta) / math.sqrt(n * (2 * best + delta * (1 - delta)))


@pytest.mark.parametrize("counts", [(0, 0, 360), (3, 0, 50), (0, 4, 50), (12, 9, 44), (5, 40, 1000)])
@pytest.mark.parametrize("delta", [-0.2, -0.01, 0.03, 0.15])
def test_tango_z_maximises_the_restricted_likelihood(counts, delta):
    assert tango_z(*counts, delta) == pytest.approx(restricted_likelihood_z(*counts, delta), rel=2e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_tango_limits_solve_the_score_equation(b, c, rest, level):
    n = b + c + rest or 1
    low, high = tango(b, c, n, level)
    z = math.sqrt(2) * erfinv(level)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert low < high
    if low > -1 + 1e-9:
        assert tango_z(b, c, n, low) == pytest.approx(z, abs=1e-5)
    if high < 1 - 1e-9:
        assert tango_z(b, c, n, high) == pytest.approx(-z, abs=1e-5)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400))
def test_tango_mirrors_when_the_models_swap(b, c, rest):
    low, high = tango(b, c, b + c + rest)
    assert tango(c, b, b + c + rest) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize("n", [1, 30, 360, 10_000])
def test_tango_does_not_collapse_when_nothing_changed(n):
    half = Z2 / (n + Z2)
    assert tango(0, 0, n) == pytest.approx((-half, half), abs=1e-12)


def test_tango_agrees_with_newcombe_on_large_samples():
    assert tango(60, 40, 2000) == pytest.approx(newcombe_paired(1800, 60, 40, 100), abs=3e-4)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 7), (6, 16), (5, 5), (100, 140)])
def test_mcnemar_matches_statsmodels(b, c):
    assert mcnemar(b, c) == pytest.approx(sm_mcnemar([[3, b], [c, 4]], exact=True).pvalue, abs=1e-12)


@pytest.mark.parametrize(("counts", "exact", "midp"), [((6, 16), 0.052479, 0.034690), ((1, 7), 0.0703125, 0.0390625)])
def test_mcnemar_matches_published_values(counts, exact, midp):
    assert mcnemar(*counts) == pytest.approx(exact, abs=1e-6)
    assert mcnemar_midp(*counts) == pytest.approx(midp, abs=1e-6)


def test_mcnemar_is_one_when_nothing_or_nothing_in_sum_changed():
    assert mcnemar(0, 0) == mcnemar_midp(0, 0) == 1.0
    assert mcnemar_midp(5, 5) == pytest.approx(1.0)


@pytest.mark.parametrize(("b", "c", "n", "limit"), [(0, 0, 360, 0.005), (3, 1, 360, 0.02), (0, 2, 100, 0.001)])
def test_examples_needed_is_the_first_size_that_decides(b, c, n, limit):
    needed = examples_needed(b, c, n, limit)
    scale = needed / n
    assert tango(b * scale, c * scale, needed)[1] <= limit + 1e-9
    scale = (needed - 1) / n
    assert tango(b * scale, c * scale, needed - 1)[1] > limit


def test_examples_needed_for_half_a_point_is_as_the_closed_form():
    assert examples_needed(0, 0, 360, 0.005) == math.ceil(Z2 * (1 / 0.005 - 1)) == 765


def test_more_examples_do_not_help_a_drop_at_the_limit():
    assert examples_needed(5, 0, 100, 0.05) is None
    assert examples_needed(0, 0, 100, 0.0) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: wilson(math.nan, 5),
        lambda: wilson(1, 5, level=95),
        lambda: tango(3, 3, 5),
        lambda: tango(-1, 0, 5),
        lambda: tango_z(1, 1, 5, 1.5),
    ],
)
def test_impossible_counts_are_refused(call):
    with pytest.raises(InvalidInput):
        call()
