"""Slices: the gap against two independent intervals by hand, its p against a z test, and what is claimed of whom."""

import math

import numpy as np
import pytest
import scipy.stats

from steelyard.metrics.examples import binary, multiclass, regression
from steelyard.metrics.slices import LEAST, MOST_PAIRS, Column, bins, cuts, gap, gap_p_value, judged
from steelyard.metrics.table import evidence, find
from steelyard.records import Estimate, Unavailable
from steelyard.stats.multiple import holm
from steelyard.stats.proportion import wilson


def answered(right):
    """Binary examples, so many of them right."""
    labels = np.arange(len(right)) % 2
    return binary(labels, predicted=np.where(right, labels, 1 - labels))


def side(hits, n):
    return evidence(answered(np.arange(n) < hits), [find("accuracy", "binary")])


@pytest.mark.parametrize(
    ("a", "n", "b", "m"), [(40, 50, 450, 500), (20, 20, 300, 320), (0, 30, 25, 200), (9, 10, 9, 10)]
)
def test_a_gap_is_square_and_add_of_two_wilson_intervals(a, n, b, m):
    """Newcombe (1998), method 10, written out."""
    got = gap(side(a, n), side(b, m), find("accuracy", "binary"))
    (l1, u1), (l2, u2) = wilson(a, n), wilson(b, m)
    worse = b / m - a / n
    low = worse - math.hypot(b / m - l2, u1 - a / n)
    high = worse + math.hypot(u2 - b / m, a / n - l1)
    assert (got.value, got.low, got.high) == pytest.approx((worse, low, high))
    assert got.n == n + m


def test_newcombe_published_example():
    """Newcombe (1998), Statistics in Medicine 17, 873-890, table II: 56/70 and 48/80, 0.0524 to 0.3339."""
    got = gap(side(48, 80), side(56, 70), find("accuracy", "binary"))
    assert (got.value, got.low, got.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("shift", [0.002, 0.004, 0.006])
def test_its_p_is_that_of_a_z_test_where_examples_are_many(shift):
    n, m = 60_000, 90_000
    a, b = round(n * (0.8 - shift)), round(m * 0.8)
    p, q = a / n, b / m
    z = (q - p) / math.sqrt(p * (1 - p) / n + q * (1 - q) / m)
    got = gap_p_value(side(a, n), side(b, m), find("accuracy", "binary"))
    assert scipy.stats.norm.isf(got / 2) == pytest.approx(abs(z), rel=0.005)


def test_a_gap_of_errors_is_positive_where_the_slice_is_worse():
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    metric = find("mae", "regression")
    near, far = (evidence(regression(y, y + s * rng.normal(size=400)), [metric]) for s in (0.1, 1.0))
    assert gap(far, near, metric).low > 0
    assert gap(near, far, metric).high < 0


def column(name, codes):
    levels = tuple(f"{name}{i}" for i in range(max(codes) + 1))
    return Column(name=name, codes=np.asarray(codes), levels=levels)


def test_slices_are_judged_worst_first_under_holm():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 5, 5000)
    made = answered(rng.random(5000) < np.where(codes == 3, 0.75, 0.9))
    metric = find("accuracy", "binary")
    found = judged(made, metric, cuts([column("c", codes)])[0])
    assert [s.gap.value for s in found] == sorted((s.gap.value for s in found), reverse=True)
    assert (found[0].conditions, found[0].verdict) == ((("c", "c3"),), "worse")
    adjusted = [claim.adjusted for claim in holm([s.p_value for s in found], 0.05)]
    assert [s.adjusted for s in found] == pytest.approx(adjusted)
    for score in found:
        inside = codes == int(score.conditions[0][1][1:])
        right = made.labels == made.predicted
        assert isinstance(score.score, Estimate)
        assert isinstance(score.rest, Estimate)
        assert (score.n, score.score.value, score.rest.value) == pytest.approx(
            (inside.sum(), right[inside].mean(), right[~inside].mean())
        )


def test_two_columns_deep_finds_the_planted_corner_and_shows_no_other():
    rng = np.random.default_rng(2)
    one, other = rng.integers(0, 3, 6000), rng.integers(0, 3, 6000)
    weak = (one == 1) & (other == 2)
    made = answered(rng.random(6000) < np.where(weak, 0.7, 0.92))
    found, left = cuts([column("a", one), column("b", other)])
    scores = judged(made, find("accuracy", "binary"), found)
    shown = [s.conditions for s in scores if s.discovered]
    assert shown[0] == (("a", "a1"), ("b", "b2"))
    assert left == 0
    assert all(s.verdict == "worse" for s in scores if s.discovered)


def test_small_and_empty_slices_are_shown_and_nothing_is_claimed_of_them():
    codes = np.array([0] * 100 + [1] * (LEAST - 1))
    made = answered(np.arange(len(codes)) % 9 != 0)
    found = judged(made, find("accuracy", "binary"), cuts([column("c", [*codes[:-1], 3])])[0])
    by = {s.conditions[0][1]: s for s in found}
    assert by["c2"].n == 0
    assert isinstance(by["c2"].score, Unavailable)
    assert by["c2"].score.reason == "undefined: no examples"
    for name in ("c1", "c2", "c3"):
        assert (by[name].verdict, by[name].gap, by[name].p_value) == ("too few", None, None)


def test_a_slice_where_the_metric_is_undefined_says_why():
    labels = np.array([0] * 50 + [0, 1] * 50)
    made = binary(labels, predicted=labels)
    found = judged(made, find("recall", "binary"), cuts([column("c", [0] * 50 + [1] * 100)])[0])
    undefined = next(s for s in found if s.conditions == (("c", "c0"),))
    assert isinstance(undefined.score, Unavailable)
    assert "0 positives" in undefined.score.reason
    assert undefined.gap is None


def test_a_slice_of_all_examples_has_no_rest():
    found = judged(answered(np.ones(60, bool)), find("accuracy", "binary"), cuts([column("c", [0] * 60)])[0])
    assert isinstance(found[0].rest, Unavailable)
    assert found[0].verdict == "too few"


def test_pairs_beyond_the_limit_are_counted():
    rng = np.random.default_rng(3)
    found, left = cuts([column("a", rng.integers(0, 30, 60_000)), column("b", rng.integers(0, 30, 60_000))])
    assert len(found) == 60 + MOST_PAIRS
    assert left == 900 - MOST_PAIRS


@pytest.mark.parametrize(("spec", "levels"), [("2", 2), ("10", 10), ("30,40", 3), ("500", 100)])
def test_ranges_hold_every_value_once(spec, levels):
    values = np.arange(100.0)
    made = bins("age", values, spec)
    assert len(made.levels) == levels
    assert len(made.codes) == 100
    assert set(made.codes) <= set(range(levels))
    assert (np.diff(made.codes) >= 0).all()


def test_ranges_of_one_value_are_one():
    assert bins("age", np.full(9, 7.0), "4").levels == ("all",)


@pytest.mark.parametrize("spec", ["", "x", "nan", "inf", "-inf", "40,30", "40,40", "1,nan", "1e400,2", "30,,40"])
def test_ranges_that_mean_nothing(spec):
    with pytest.raises(ValueError):  # noqa: PT011
        bins("age", np.arange(100.0), spec)


def test_a_huge_number_is_an_edge_and_not_so_many_ranges():
    assert bins("age", np.arange(100.0), "1e18").levels == ("under 1e+18", "1e+18 and over")


def test_ranks_of_classes_can_be_sliced():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 300)
    made = multiclass(labels, rng.dirichlet(np.ones(3), 300))
    found = judged(made, find("macro_roc_auc", "multiclass"), cuts([column("c", labels % 2)])[0])
    assert len(found) == 2
