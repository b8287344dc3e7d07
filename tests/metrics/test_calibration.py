"""Calibration against definitions written out, scikit-learn, scipy's own minimiser and populations of known error."""

import math
import time

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from scipy.stats import foldnorm

from steelyard.errors import InvalidInput
from steelyard.metrics import calibration as c
from steelyard.stats.proportion import wilson
from steelyard.stats.sums import mean, sums


def binary(n, seed=0, bend=1.5):
    """Scores, and answers drawn with the probability that a temperature of `bend` gives them."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n) * 0.998 + 0.001
    return scores, rng.random(n) < expit(logit(scores) / bend)


def classes(n, k=4, seed=0, bend=2.0):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((n, k))
    shares = softmax(logits / bend, axis=1).cumsum(1)
    return logits, np.minimum((rng.random((n, 1)) > shares).sum(1), k - 1)


def bin_by_bin(confidence, right, edges):
    """Bins as sets, gap by gap: (share of examples, gap) of each filled bin."""
    for j in range(len(edges) - 1):
        inside = [i for i, s in enumerate(confidence) if edges[j] < s <= edges[j + 1] or (j == 0 and s == 0)]
        if inside:
            gap = abs(np.mean([right[i] for i in inside]) - np.mean([confidence[i] for i in inside]))
            yield len(inside) / len(confidence), gap


# --- bins and error ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 1 / 3, 0.4, 0.99, 1.0]), st.booleans()), min_size=1, max_size=30))
def test_error_matches_the_definition(rows):
    confidence, right = map(list, zip(*rows, strict=True))
    for bins in (1, 5, 15):
        of = c.reliability(confidence, right, c.equal_width_edges(bins))
        parts = list(bin_by_bin(confidence, right, c.equal_width_edges(bins)))
        assert c.expected_calibration_error(of) == pytest.approx(sum(w * gap for w, gap in parts))
        assert c.maximum_calibration_error(of) == pytest.approx(max(gap for _, gap in parts))


def test_a_confidence_of_one_lies_in_the_last_bin():
    of = c.reliability([1.0, 0.95, 0.0], [1, 1, 0])
    assert len(of.counts) == 15
    assert (of.counts[-1], of.counts[0], sum(of.counts)) == (2, 1, 3)


def test_no_order_or_batching_changes_a_digit():
    scores, right = binary(5000)
    whole = c.reliability(scores, right)
    order = np.random.default_rng(1).permutation(5000)
    parts = [c.reliability(scores[i], right[i]) for i in np.split(order, [10, 2000, 2001])]
    merged = parts[2].merge(parts[0]).merge(parts[3]).merge(parts[1])
    assert merged == whole
    assert c.calibration_error(merged) == c.calibration_error(whole)
    with pytest.raises(InvalidInput, match="different bin edges"):
        whole.merge(c.reliability(scores, right, [0, 0.5, 1]))


def test_top_label_and_class_wise():
    logits, labels = classes(500)
    shares = softmax(logits, axis=1)
    confidence, right = c.top_label(logits, labels, "logits")
    assert confidence == pytest.approx(shares.max(1))
    assert right.mean() == skm.accuracy_score(labels, shares.argmax(1))
    each = [sum(w * g for w, g in bin_by_bin(shares[:, j], labels == j, c.equal_width_edges())) for j in range(4)]
    assert c.class_wise_error(c.class_wise(logits, labels, "logits")) == pytest.approx(np.mean(each))


def test_equal_mass_bins_hold_equally_many():
    scores = np.random.default_rng(2).beta(8, 1, 1500)
    of = c.reliability(scores, np.ones(1500), c.equal_mass_edges(scores, 15))
    assert of.counts == (100,) * 15
    assert c.equal_mass_edges([0.5, 0.5, 0.5], 15).tolist() == [0.0, 0.5, 1.0]


def test_diagram_shows_filled_bins_with_wilson():
    bins = c.reliability_bins(c.reliability([0.9, 0.92, 0.2, 0.22, 0.24], [1, 0, 0, 0, 1], [0, 0.5, 0.8, 1]))
    assert [(b.low, b.high, b.n) for b in bins] == [(0, 0.5, 3), (0.8, 1, 2)]
    assert [b.confidence for b in bins] == pytest.approx([0.22, 0.91])
    assert [b.accuracy for b in bins] == pytest.approx([1 / 3, 0.5])
    assert (bins[0].accuracy_low, bins[0].accuracy_high) == wilson(1, 3)


# --- interval ---------------------------------------------------------------------------------------------


def test_noise_is_what_a_calibrated_model_shows():
    rng = np.random.default_rng(3)
    shown, said = [], []
    for _ in range(300):
        scores = rng.random(400)
        of = c.reliability(scores, rng.random(400) < scores)
        shown.append(c.expected_calibration_error(of))
        said.append(c.calibration_error(of).noise)
    assert np.mean(said) == pytest.approx(np.mean(shown), rel=0.05)


def test_debiased_error_is_the_one_under_which_the_observed_is_expected():
    # one bin: the ECE is |X| for one normal X, whose mean scipy knows
    confidence, right = np.full(200, 0.6), np.arange(200) < 130
    of = c.calibration_error(c.reliability(confidence, right))
    chance = 130.5 / 201
    error = math.sqrt((chance * (1 - chance) + 0.05**2 - 0.05**2) / 200)
    assert of.value == pytest.approx(0.05)
    assert foldnorm.mean(of.debiased / error, scale=error) == pytest.approx(0.05, rel=1e-6)
    spread = foldnorm.std(of.high / error, scale=error)
    assert foldnorm.mean(of.high / error, scale=error) - 1.959964 * spread == pytest.approx(0.05, rel=1e-5)


def covered(draw, truth, n, repeats=300):
    found = [c.calibration_error(c.reliability(*draw(n, seed))) for seed in range(repeats)]
    assert all(0 <= e.low <= e.value <= e.high <= 1 and e.low < e.high for e in found)
    return np.mean([e.low <= truth <= e.high for e in found]), np.mean([e.debiased for e in found]), found


def population_error(bend):
    scores = (np.arange(2_000_000) + 0.5) / 2_000_000 * 0.998 + 0.001
    place = np.ceil(scores * 15).astype(int)
    gaps = np.bincount(place, weights=expit(logit(scores) / bend) - scores)
    return np.abs(gaps).sum() / len(scores)


@pytest.mark.parametrize(("bend", "n"), [(1.5, 2000), (3.0, 1000), (1.2, 10_000)])
def test_interval_covers_the_populations_error(bend, n):
    truth = population_error(bend)
    share, debiased, found = covered(lambda size, seed: binary(size, seed, bend), truth, n)
    assert 0.92 <= share <= 0.985
    plug_in = np.mean([e.value for e in found])
    assert abs(debiased - truth) < 0.5 * abs(plug_in - truth) + 0.002  # nearer than the plug-in value


def test_a_calibrated_model_is_not_shown_to_be_miscalibrated():
    share, _, found = covered(lambda size, seed: binary(size, seed, 1.0), 0.0, 1000)
    assert share >= 0.93
    assert min(e.high for e in found) > 0.01  # and luck does not prove it calibrated


def test_rates_that_match_by_luck_do_not_prove_calibration():
    confidence = np.repeat((np.arange(10) + 0.5) / 10, 20)
    right = np.concatenate([np.arange(20) < 2 * j + 1 for j in range(10)])
    of = c.calibration_error(c.reliability(confidence, right, c.equal_width_edges(10)))
    assert of.value == pytest.approx(0.0, abs=1e-15)
    assert (of.low, of.debiased) == (0.0, 0.0)
    assert of.high > of.noise / 2 > 0.02


@pytest.mark.parametrize("right", [1, 0])
@pytest.mark.parametrize("n", [1, 2, 30, 10_000])
def test_equal_answers_keep_an_honest_interval(right, n):
    of = c.calibration_error(c.reliability([1.0] * n, [right] * n))
    assert 0 <= of.low <= of.value <= of.high <= 1
    assert of.high - of.low > 1 / (n + 1) / 2


@pytest.mark.parametrize(("bend", "scaled", "n"), [(1.5, 1.5, 2000), (1.5, 3.0, 1000), (1.5, 1.2, 1000)])
def test_the_difference_of_two_models_covers_the_truth(bend, scaled, n):
    scores = (np.arange(1_000_000) + 0.5) / 1_000_000 * 0.998 + 0.001
    truth = expit(logit(scores) / bend)

    def error(confidence):
        gaps = np.bincount(np.ceil(confidence * 15).astype(int), weights=truth - confidence)
        return np.abs(gaps).sum() / len(scores)

    expected = error(scores) - error(expit(logit(scores) / scaled))
    held = 0
    for seed in range(150):
        some, right = binary(n, seed, bend)
        value, low, high = c.calibration_drop((some, right), (expit(logit(some) / scaled), right))
        assert -1 <= low <= value <= high <= 1
        held += low <= expected <= high
    assert held / 150 >= 0.89


def test_the_difference_does_not_collapse_where_nothing_changed():
    scores, right = binary(500)
    value, low, high = c.calibration_drop((scores, right), (scores, right))
    assert value == 0
    assert high == pytest.approx(-low)
    assert high > 0.01
    with pytest.raises(InvalidInput, match="same examples; got 500, 499"):
        c.calibration_drop((scores, right), (scores[1:], right[1:]))


def test_too_few_examples_are_said():
    scores, right = binary(890)
    assert not c.calibration_supported(c.reliability(scores, right))
    scores, right = binary(910)
    assert c.calibration_supported(c.reliability(scores, right))


# --- Brier --------------------------------------------------------------------------------------------------


def test_brier_scores_match_sklearn():
    scores, right = binary(300)
    assert mean(sums(c.binary_brier_terms(scores, right))) == pytest.approx(skm.brier_score_loss(right, scores))
    logits, labels = classes(300)
    shares = softmax(logits, axis=1)
    assert mean(sums(c.brier_terms(logits, labels, "logits"))) == pytest.approx(
        np.mean(((shares - np.eye(4)[labels]) ** 2).sum(1))
    )


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_brier_parts_add_up_to_the_score(bins):
    scores, right = binary(300)
    parts = c.brier_parts(scores, right, c.equal_width_edges(bins))
    assert parts.score == pytest.approx(skm.brier_score_loss(right, scores))
    assert parts.uncertainty == pytest.approx(right.var())


def test_brier_parts_match_murphy_where_scores_are_discrete():
    scores = np.repeat([0.1, 0.5, 0.9], [10, 10, 20])
    right = np.concatenate([np.arange(10) < 2, np.arange(10) < 5, np.arange(20) < 15])
    parts = c.brier_parts(scores, right)
    assert parts.reliability == pytest.approx((10 * 0.1**2 + 20 * 0.15**2) / 40)
    assert parts.resolution == pytest.approx((10 * 0.35**2 + 10 * 0.05**2 + 20 * 0.2**2) / 40)
    assert parts.within == pytest.approx(0.0, abs=1e-15)


# --- temperature ----------------------------------------------------------------------------------------------


def test_temperature_is_recovered_and_matches_scipys_minimiser():
    logits, labels = classes(20_000, bend=2.0)
    fitted = c.fit_temperature(logits, labels, "logits")

    def nll(t):
        return -log_softmax(logits / t, axis=1)[np.arange(len(labels)), labels].mean()

    oracle = minimize_scalar(nll, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9})
    assert fitted.value == pytest.approx(oracle.x, rel=1e-5)
    assert fitted.value == pytest.approx(2.0, rel=0.03)
    assert (fitted.nll_before, fitted.nll_after) == pytest.approx((nll(1.0), oracle.fun))
    assert (fitted.n, fitted.at_limit) == (20_000, False)


def test_probabilities_and_binary_scores_go_in_through_their_logs():
    logits, labels = classes(2000)
    shares = softmax(logits, axis=1)
    one, other = c.fit_temperature(logits, labels, "logits"), c.fit_temperature(shares, labels, "probabilities")
    assert one.value == pytest.approx(other.value, rel=1e-3)  # the smallest probabilities are clipped
    scores, right = binary(2000)
    pair = c.fit_temperature(np.column_stack([1 - scores, scores]), right, "probabilities")
    assert c.fit_temperature(scores, right, "probabilities").value == pytest.approx(pair.value)
    assert c.fit_temperature(logit(scores), right, "logits").value == pytest.approx(pair.value, rel=1e-4)


def test_scaling_mends_calibration_and_keeps_the_answers():
    logits, labels = classes(5000)
    fitted = c.fit_temperature(logits, labels, "logits")
    mended = c.calibrated(logits, fitted, "logits")
    assert mended == pytest.approx(softmax(logits / fitted.value, axis=1))
    before, after = (
        c.expected_calibration_error(c.reliability(*c.top_label(shares, labels, "probabilities")))
        for shares in (softmax(logits, axis=1), mended)
    )
    assert after < before / 3
    assert np.array_equal(mended.argmax(1), logits.argmax(1))
    assert c.calibrated([0.2, 0.9], 1.0, "probabilities") == pytest.approx([0.2, 0.9])


@pytest.mark.parametrize(("labels", "limit"), [([0, 1], 0.05), ([1, 0], 20.0)])
def test_models_without_or_with_only_errors_end_at_a_limit(labels, limit):
    fitted = c.fit_temperature([[2.0, -2.0], [-2.0, 2.0]], labels, "logits")
    assert fitted.value == pytest.approx(limit)
    assert fitted.at_limit
    assert fitted.nll_after <= fitted.nll_before


def test_a_million_examples_in_about_a_second():
    scores, right = binary(1_000_000)
    start = time.process_time()
    c.calibration_error(c.reliability(scores, right))
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: c.reliability([0.5, np.nan], [1, 0]), "probability nan of example 1"),
        (lambda: c.reliability([1.5], [1]), "are these logits"),
        (lambda: c.reliability([0.5], [2]), "0 .* and 1"),
        (lambda: c.reliability([0.5], [1, 0]), "1 confidences but 2"),
        (lambda: c.reliability([], []), "non-empty"),
        (lambda: c.reliability([0.5], [1], [0.1, 1.0]), "rise from 0 to 1"),
        (lambda: c.equal_width_edges(0), "at least 1"),
        (lambda: c.binary_brier_terms([0.5], [1, 0]), "1 scores but 2"),
        (lambda: c.fit_temperature([[0.5, 0.6]], [0], "probabilities"), "sum to 1"),
        (lambda: c.fit_temperature([[0.5, np.inf]], [0], "logits"), "NaN or infinity"),
        (lambda: c.fit_temperature([[0.5, 0.5]], [2], "logits"), "label 2"),
        (lambda: c.calibrated([0.5], 0.0, "probabilities"), "temperature"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InvalidInput, match=says):
        call()
