"""Functions of sums: standard errors against the bootstrap and closed forms, intervals against Wilson, Tango and truth."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.stats.proportion import tango, wilson
from steelyard.stats.quantiles import normal_critical, t_critical
from steelyard.stats.sums import (
    Moments,
    Spread,
    difference,
    drop_interval,
    drop_p_value,
    gradient,
    interval,
    side_by_side,
    spread,
    spread_of_moments,
    sums,
)


def ratio(s):
    return s[..., 0] / s[..., 1]


def root(s):
    return np.sqrt(s[..., 0] / s[..., 1])


def f1(s):
    return 2 * s[..., 0] / (2 * s[..., 0] + s[..., 1] + s[..., 2])


def r2(s):
    return 1 - s[..., 0] / (s[..., 2] - s[..., 1] ** 2 / s[..., 3])


def mean_terms(x):
    return np.column_stack([x, np.ones(len(x))])


def cases():
    rng = np.random.default_rng(0)
    y, e = 5 + rng.standard_normal(400), 0.5 * rng.standard_normal(400)
    hits = rng.multinomial(1, [0.3, 0.1, 0.05, 0.55], 400)[:, :3].astype(float)
    return {
        "mean": (mean_terms(rng.exponential(size=400)), ratio),
        "rmse": (mean_terms(e**2), root),
        "f1": (hits, f1),
        "r2": (np.column_stack([e**2, y, y**2, np.ones(400)]), r2),
    }


def resampled(terms, value, groups=None, draws=2000):
    """Standard deviation of the value over multinomial resamples, drawn within groups where there are any."""
    rng = np.random.default_rng(1)
    groups = np.zeros(len(terms), int) if groups is None else groups
    totals = 0.0
    for group in np.unique(groups):
        rows = terms[groups == group]
        totals = totals + rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws) @ rows
    return value(totals).std()


# --- standard errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases())
def test_error_agrees_with_the_bootstrap(name):
    terms, value = cases()[name]
    assert spread(terms, value).error == pytest.approx(resampled(terms, value), rel=0.06)


def test_error_of_a_mean_is_the_textbook_one():
    x = np.random.default_rng(2).exponential(size=50)
    result = spread(mean_terms(x), ratio)
    assert result.value == pytest.approx(x.mean())
    assert result.error == pytest.approx(x.std(ddof=1) / math.sqrt(50), rel=1e-8)


def test_gradient_matches_the_derivatives_written_out():
    at = np.array([30.0, 4.0, 0.0])
    d = 2 * 30 + 4
    expected = [2 / d - 2 * 2 * 30 / d**2, -2 * 30 / d**2, -2 * 30 / d**2]
    assert gradient(f1, at, np.array([5.0, 2.0, 1.0])) == pytest.approx(expected, rel=1e-8)
    assert gradient(f1, at, np.array([5.0, 2.0, 0.0]))[2] == 0.0  # its terms are all 0: it cannot vary


def test_clustered_error_matches_statsmodels():
    rng = np.random.default_rng(3)
    clusters = rng.integers(0, 40, 600)
    x = rng.standard_normal(40)[clusters] + rng.standard_normal(600)
    fit = sm.OLS(x, np.ones(600)).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False})
    ours = spread(mean_terms(x), ratio, clusters=clusters)
    assert ours.error == pytest.approx(float(fit.bse[0]) * math.sqrt(40 / 39), rel=1e-7)
    assert (ours.units, ours.degrees, ours.clustered) == (40, 39, True)


def test_clusters_of_one_are_examples():
    terms, value = cases()["r2"]
    alone = spread(terms, value, clusters=np.arange(len(terms)))
    assert alone.error == pytest.approx(spread(terms, value).error, rel=1e-12)


def test_stratified_error_matches_the_formula_and_the_stratified_bootstrap():
    rng = np.random.default_rng(4)
    strata = np.repeat(["a", "b"], [100, 300])
    x = np.where(strata == "a", 3.0, 0.0) + rng.standard_normal(400)
    ours = spread(mean_terms(x), ratio, strata=strata)
    by_hand = math.sqrt(sum(len(p) * p.var(ddof=1) for p in (x[:100], x[100:]))) / 400
    assert ours.error == pytest.approx(by_hand, rel=1e-8)
    assert ours.degrees == 398
    assert ours.error == pytest.approx(resampled(mean_terms(x), ratio, strata), rel=0.06)


def test_a_stratum_of_one_example_counts_against_the_mean_of_all():
    x = np.array([1.0, 2.0, 3.0, 10.0])
    ours = spread(mean_terms(x), ratio, strata=[0, 0, 0, 1])
    assert ours.error == pytest.approx(math.sqrt(1.5 * 2 + (10 - 4) ** 2) / 4, rel=1e-8)


@pytest.mark.parametrize("name", cases())
def test_moments_give_the_same_error_in_any_batching(name):
    terms, value = cases()[name]
    parts = [Moments.of(part) for part in np.array_split(terms[::-1], 7)]
    merged = parts[0]
    for part in parts[1:]:
        merged = part.merge(merged)
    assert merged == Moments.of(terms)
    ours, expected = spread_of_moments(merged, value), spread(terms, value)
    assert ours.value == expected.value
    assert ours.error == pytest.approx(expected.error, rel=1e-6)
    assert (ours.units, ours.degrees) == (expected.units, expected.degrees)


@given(st.permutations(list(range(30))), st.booleans(), st.booleans())
def test_no_order_changes_a_digit(order, clustered, stratified):
    rng = np.random.default_rng(5)
    terms = np.column_stack([rng.standard_normal(30) ** 2, rng.random(30), rng.random(30)])
    groups = {}
    if clustered:
        groups["clusters"] = np.arange(30) // 3
    if stratified:
        groups["strata"] = np.arange(30) // 15
    shuffled = {name: ids[order] for name, ids in groups.items()}
    assert spread(terms[order], f1, **shuffled) == spread(terms, f1, **groups)


def test_bad_input_is_refused():
    with pytest.raises(InvalidInput, match="no examples"):
        spread(np.empty((0, 2)), ratio)
    with pytest.raises(InvalidInput, match="not finite"):
        spread([[np.nan, 1.0]], ratio)
    with pytest.raises(InvalidInput, match="undefined"):
        spread([[0.0, 0.0]], lambda s: np.where(s[..., 1] > 0, s[..., 0], np.nan))
    with pytest.raises(InvalidInput, match="one per example"):
        spread([[1.0, 1.0]], ratio, clusters=[1, 2])
    with pytest.raises(InvalidInput, match="two strata"):
        spread(np.ones((4, 2)), ratio, clusters=[0, 0, 1, 1], strata=[0, 1, 1, 1])
    with pytest.raises(InvalidInput, match="same examples"):
        side_by_side(np.ones((4, 2)), np.ones((3, 2)))
    with pytest.raises(InvalidInput, match=r"\(n, m\)"):
        sums([1.0, 2.0])


# --- intervals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "n"), [(17, 30), (29, 30), (30, 30), (0, 30), (990, 1000), (1, 2)])
def test_a_share_of_examples_gets_wilsons_interval(right, n):
    x = np.arange(n) < right
    ours = interval(spread(mean_terms(x), ratio), low=0, high=1)
    assert ours == pytest.approx(wilson(right, n), abs=1e-8)


@pytest.mark.parametrize(("b", "c", "n"), [(3, 1, 50), (0, 4, 50), (0, 0, 360), (20, 25, 1000), (30, 0, 30)])
def test_a_difference_of_shares_gets_tangos_interval(b, c, n):
    first, second = np.zeros(n), np.zeros(n)
    first[:b], second[b : b + c] = 1, 1
    drop = spread(side_by_side(mean_terms(first), mean_terms(second)), difference(ratio))
    assert drop_interval(drop, reach=1) == pytest.approx(tango(b, c, n), abs=1e-7)


def test_scales_written_out():
    half = t_critical(0.95, 99) * 0.2
    of = Spread(value=0.5, error=0.2, units=100, degrees=99)
    factor = math.exp(half / 0.5)
    assert interval(of, low=0, high=math.inf) == pytest.approx((0.5 / factor, 0.5 * factor))
    assert interval(of, low=-math.inf, high=1) == pytest.approx((1 - 0.5 * factor, 1 - 0.5 / factor))
    assert interval(of, low=-math.inf, high=math.inf) == pytest.approx((0.5 - half, 0.5 + half))
    assert interval(of, low=0.2, high=math.inf, scale="plain") == pytest.approx((0.2, 0.5 + half))
    assert interval(of, low=0.4, high=math.inf, scale="log") == pytest.approx((0.4, 0.5 * factor))


def test_a_range_other_than_one_is_scaled():
    of = Spread(value=0.7, error=0.03, units=100, degrees=99)
    wide = Spread(value=100 * 0.7 - 50, error=3.0, units=100, degrees=99)
    low, high = interval(of, low=0, high=1)
    assert interval(wide, low=-50, high=50) == pytest.approx((100 * low - 50, 100 * high - 50))
    small = Spread(value=0.02, error=0.01, units=100, degrees=99)
    big = Spread(value=0.2, error=0.1, units=100, degrees=99)
    assert drop_interval(big, reach=10) == pytest.approx(tuple(10 * end for end in drop_interval(small, reach=1)))


def test_clusters_take_ts_quantile():
    few = Spread(value=0.5, error=0.1, units=5, degrees=4, clustered=True)
    t, inverse = t_critical(0.95, 4), 0.1**2 / 0.25
    half = t * math.sqrt(0.01 + (t * inverse / 2) ** 2) / (1 + t * t * inverse)
    assert interval(few, low=0, high=1) == pytest.approx((0.5 - half, 0.5 + half))
    rng = np.random.default_rng(6)
    clusters = np.repeat(np.arange(50), 40)
    first, second = rng.random((2, 50))[:, clusters] < 0.5, rng.random((2, 2000)) < 0.9
    terms = [mean_terms((a & b).astype(float)) for a, b in zip(first, second, strict=True)]
    drop = spread(side_by_side(*terms), difference(ratio), clusters=clusters)
    low, high = drop_interval(drop, reach=1)
    assert (high - low) / 2 == pytest.approx(t_critical(0.95, 49) * drop.error, rel=0.1)


def test_no_spread_leaves_an_honest_interval():
    z2 = normal_critical(0.95) ** 2
    perfect = Spread(value=1.0, error=0.0, units=360, degrees=359)
    assert interval(perfect, low=0, high=1) == pytest.approx(wilson(360, 360))
    assert interval(perfect, low=0, high=1, size=30) == pytest.approx(wilson(30, 30))
    assert interval(perfect, low=0, high=1, size=1e6) == pytest.approx(wilson(360, 360))
    middling = Spread(value=0.5, error=0.0, units=360, degrees=359)
    reach = z2 / (360 + z2)
    assert interval(middling, low=0, high=1) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert interval(middling, low=0, high=math.inf) == (0, math.inf)
    assert interval(perfect, low=-math.inf, high=1) == (-math.inf, 1)
    assert interval(middling, low=-math.inf, high=math.inf) == (-math.inf, math.inf)
    assert drop_interval(Spread(value=0.0, error=0.0, units=9, degrees=8)) == (-math.inf, math.inf)


def test_one_example_says_nothing():
    one = spread([[0.3, 1.0]], ratio)
    assert interval(one, low=0, high=1) == (0, 1)
    assert drop_interval(one, reach=1) == (-1, 1)
    assert drop_p_value(one) == 0.5


def test_unchanged_models_do_not_collapse():
    terms, value = cases()["f1"]
    same = spread(side_by_side(terms, terms), difference(value))
    assert (same.value, same.error) == (0.0, 0.0)
    assert drop_interval(same, reach=1) == pytest.approx(tango(0, 0, 400))
    assert drop_p_value(same, reach=1) == pytest.approx(0.5)


@given(
    st.floats(0, 1),
    st.floats(0, 10),
    st.integers(1, 50),
    st.sampled_from(["score", "log", "complement_log", "plain"]),
    st.booleans(),
)
def test_intervals_stay_in_the_range_around_the_value_and_have_width(value, error, units, scale, clustered):
    of = Spread(
        value=value, error=error if units > 1 else math.inf, units=units, degrees=units - 1, clustered=clustered
    )
    low, high = interval(of, low=0, high=1, scale=scale)
    assert 0 <= low <= value <= high <= 1
    assert low < high or 0 < error < 1e-15


@given(st.floats(-1, 1), st.floats(0, 1), st.integers(2, 500), st.booleans(), st.sampled_from([1.0, math.inf]))
def test_p_agrees_with_the_interval(value, error, units, clustered, reach):
    of = Spread(value=value, error=error, units=units, degrees=units - 1, clustered=clustered)
    low, high = drop_interval(of, reach=reach)
    assert -reach <= low <= value <= high <= reach
    if math.isfinite(high) and -0.999 < low < high < 0.999 and error > 1e-6:
        assert drop_p_value(of, high, reach=reach) == pytest.approx(0.025, rel=1e-3)
        assert drop_p_value(of, low, reach=reach) == pytest.approx(0.975, rel=1e-3)
    assert drop_p_value(of, reach, reach=reach) in (0.0, 0.5)


def nested_changes(rng, clusters):
    """Right answers of two models: 20 examples a cluster, of which some clusters are easier and change more."""
    base = np.repeat(rng.beta(8, 2, clusters), 20)
    fall = 0.05 + np.repeat(rng.uniform(-0.05, 0.05, clusters), 20)
    first = rng.random(len(base)) < base
    return first, np.where(rng.random(len(base)) < fall, False, first)


def test_paired_intervals_of_clusters_cover_the_truth():
    rng = np.random.default_rng(7)
    ids, truth, held = np.repeat(np.arange(40), 20), 0.8 * 0.05, 0
    for _ in range(400):
        first, second = (mean_terms(right.astype(float)) for right in nested_changes(rng, 40))
        low, high = drop_interval(spread(side_by_side(first, second), difference(ratio), clusters=ids), reach=1)
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.985


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_paired_intervals_of_scores_between_0_and_1_cover_the_truth(share):
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(500):
        first = rng.beta(2, 1, 200)
        second = np.where(rng.random(200) < share, 0.9 * first + 0.1 * (rng.random(200) < 0.5), first)
        drop = spread(side_by_side(mean_terms(first), mean_terms(second)), difference(ratio))
        low, high = drop_interval(drop, reach=1)
        held += low <= share * (0.1 * 2 / 3 - 0.05) <= high
    assert 0.92 <= held / 500 <= 0.975


def test_scores_in_0_to_1_keep_their_own_spread():
    # one label of twenty wrong now and then: far less spread than whole examples right or wrong
    rng = np.random.default_rng(9)
    held, widths = 0, []
    for _ in range(500):
        low, high = interval(spread(mean_terms(rng.binomial(20, 0.02, 200) / 20), ratio), low=0, high=1)
        held += low <= 0.02 <= high
        widths.append(high - low)
    assert 0.92 <= held / 500 <= 0.975
    assert np.mean(widths) == pytest.approx(2 * 1.96 * math.sqrt(0.02 * 0.98 / 4000), rel=0.05)
