"""Curves against scikit-learn; bands by simulation with known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk

from steelyard.errors import InvalidInput
from steelyard.metrics.curves import one_vs_rest, operating_points, pr_band, pr_curve, roc_band, roc_curve

examples = st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=50)


def simulated(seed, size=3000, share=0.2, shift=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < share
    return labels, rng.normal(size=size) + shift * labels


@given(examples)
def test_curves_match_sklearn(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    if labels.all() or not labels.any():
        assert roc_curve(labels, scores) is None
        assert pr_curve(labels, scores) is None
        return
    roc, pr = roc_curve(labels, scores), pr_curve(labels, scores)
    x, y, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(np.interp(x, roc.x, roc.y), [y[x == v].max() for v in x], atol=1e-12)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(roc.area, abs=1e-12)
    assert roc.area == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    precision, recall, thresholds = sk.precision_recall_curve(labels, scores)
    np.testing.assert_allclose(pr.y, precision[::-1])
    np.testing.assert_allclose(pr.x, recall[::-1])
    np.testing.assert_array_equal(pr.thresholds[1:], thresholds[::-1])
    assert pr.area == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-12)


@given(examples)
def test_operating_points_count_what_each_threshold_calls(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    points = operating_points(labels, scores)
    for at, threshold in enumerate(points.thresholds):
        called = scores >= threshold
        counted = (points.tp[at], points.fp[at], points.fn[at], points.tn[at])
        assert counted == (
            (called & labels).sum(),
            (called & ~labels).sum(),
            (~called & labels).sum(),
            (~called & ~labels).sum(),
        )


@pytest.mark.parametrize("draw", [roc_curve, pr_curve])
@pytest.mark.parametrize("most", [3, 20, 200])
def test_thinned_curves_stay_within_their_bound(draw, most):
    labels, scores = simulated(0)
    whole, thin = draw(labels, scores), draw(labels, scores, most_points=most)
    assert len(thin.x) <= most
    assert thin.area == whole.area
    away = np.abs(whole.x[:, None] - thin.x) + np.abs(whole.y[:, None] - thin.y)
    assert 0 < away.min(axis=1).max() <= thin.thinned + 1e-12
    assert (thin.x[-1], thin.y[-1]) == (whole.x[-1], whole.y[-1])
    with pytest.raises(InvalidInput, match="3 points"):
        draw(labels, scores, most_points=2)


def test_bands_hold_the_curve_and_never_vanish():
    labels, scores = np.r_[np.zeros(50), np.ones(10)], np.arange(60.0)
    for band in (roc_band(labels, scores), pr_band(labels, scores)):
        assert np.all((band.low <= band.y) & (band.y <= band.high))
        assert np.all(band.low < band.high)
        assert np.all((band.low >= 0) & (band.high <= 1))
    assert roc_band([1, 1], [0.1, 0.2]) is None
    assert pr_band([1, 1], [0.1, 0.2]) is None


def test_bands_hold_the_true_curve():
    false = np.linspace(0, 1, 11)[1:-1]
    true = norm.sf(norm.isf(false) - 1.5)
    held = []
    for seed in range(60):
        band = roc_band(*simulated(seed, size=1000), points=11, resamples=200)
        held.append((band.low[1:-1] <= true) & (true <= band.high[1:-1]))
    assert np.mean(held) >= 0.93


def test_one_vs_rest_matches_sklearn_and_names_what_it_leaves_out():
    rng = np.random.default_rng(3)
    labels = rng.choice(3, 600, p=[0.6, 0.3, 0.1])
    scores = rng.normal(size=(600, 4))
    scores[np.arange(600), labels] += 1
    found = one_vs_rest(labels, scores, names=("cat", "dog", "eel", "fox"))
    areas = [sk.roc_auc_score(labels == k, scores[:, k]) for k in range(3)]
    assert [found.curves[name].area for name in ("cat", "dog", "eel")] == pytest.approx(areas)
    assert found.left_out == ("fox",)
    assert found.macro == pytest.approx(np.mean(areas))
    assert found.weighted == pytest.approx(np.average(areas, weights=np.bincount(labels)))
    precise = one_vs_rest(labels, scores, "pr")
    assert precise.curves["0"].area == pytest.approx(sk.average_precision_score(labels == 0, scores[:, 0]))


def test_one_vs_rest_of_a_single_class_is_undefined():
    found = one_vs_rest([0, 0], [[0.1, 0.9], [0.2, 0.8]])
    assert (found.macro, found.weighted, found.left_out) == (None, None, ("0", "1"))


def test_bad_input_is_refused():
    with pytest.raises(InvalidInput, match="label 2 of example 1"):
        one_vs_rest([0, 2], [[0.1, 0.9], [0.2, 0.8]])
    with pytest.raises(InvalidInput, match="got shapes"):
        one_vs_rest([0, 1], [0.1, 0.9])
    with pytest.raises(InvalidInput, match="score nan of example 1"):
        operating_points([0, 1], [0.1, np.nan])
