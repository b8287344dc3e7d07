"""Holm against statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from steelyard.errors import InvalidInput
from steelyard.stats.multiple import holm


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.0125, 0.02, 0.025, 0.04, 0.2, 1.0]), min_size=1, max_size=8))
def test_matches_statsmodels_also_with_ties(p_values):
    rejected, adjusted, _, _ = multipletests(p_values, 0.05, method="holm")
    claims = holm(p_values, 0.05)
    assert [c.adjusted for c in claims] == pytest.approx(list(adjusted))
    assert [c.rejected for c in claims] == list(rejected)


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([0.01, 0.05, 0.1]))
def test_outcome_agrees_with_the_level_shown(p_values, alpha):
    for p, claim in zip(p_values, holm(p_values, alpha), strict=True):
        assert claim.rejected == (p <= claim.alpha)
        assert alpha / len(p_values) <= claim.alpha <= alpha


def test_levels_stop_stepping_down_at_the_first_failure():
    claims = holm([0.001, 0.03, 0.04, 0.9], 0.05)
    assert [c.alpha for c in claims] == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 3, 0.05 / 3])


def test_no_claims_and_bad_claims():
    assert holm([]) == ()
    with pytest.raises(InvalidInput):
        holm([float("nan")])


def test_family_wise_error_with_every_null_true():
    p = np.random.default_rng(3).random((3000, 5))
    alarms = np.mean([any(c.rejected for c in holm(list(row))) for row in p])
    assert 0.035 <= alarms <= 0.065
