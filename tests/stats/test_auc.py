"""Ranked scores against all-pairs definitions, scikit-learn, a published case and simulations with known truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import average_precision_score, roc_auc_score

from steelyard.errors import InvalidInput
from steelyard.stats.auc import auc_interval, auc_supported, clustered_auc_interval, paired_delong, score_interval
from steelyard.stats.average_precision import average_precision, average_precision_interval, resampled_counts
from steelyard.stats.ranked import AucParts, auc, auc_parts, delong_variance, distinct, ranked, thinned

Z = 1.959963984540054


def all_pairs(labels, scores):
    """The area and DeLong's components by definition: every positive beside every negative."""
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    won = (scores[labels][:, None] > scores[~labels]) + 0.5 * (scores[labels][:, None] == scores[~labels])
    return won.mean(), won.mean(axis=1), won.mean(axis=0)


def brute_variance(labels, scores):
    _, on_positives, on_negatives = all_pairs(labels, scores)
    return on_positives.var(ddof=1) / len(on_positives) + on_negatives.var(ddof=1) / len(on_negatives)


finite = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, 5e-324, -5e-324, 0.5, 1.7976931348623157e308, -1.7976931348623157e308]
)
examples = st.lists(st.tuples(st.booleans(), finite), min_size=1, max_size=40)


# --- the sorted form --------------------------------------------------------------------------------


@given(examples, st.randoms(use_true_random=False), st.integers(1, 7))
def test_merging_gives_the_same_arrays_for_any_batches_and_order(pairs, random, size):
    whole = ranked(*map(np.array, zip(*pairs, strict=True)))
    shuffled = random.sample(pairs, len(pairs))
    batches = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    first, *rest = [ranked(*map(np.array, zip(*batch, strict=True))) for batch in batches]
    merged = first.merge(*rest)
    assert merged.below.tobytes() == whole.below.tobytes()
    assert merged.above.tobytes() == whole.above.tobytes()
    assert (merged.positives, merged.negatives) == (whole.positives, whole.negatives)
    assert auc_parts(merged) == auc_parts(whole)


@given(examples)
def test_distinct_gives_back_the_scores_and_their_counts(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    counts = distinct(ranked(labels, scores))
    values, at = np.unique(scores, return_inverse=True)
    np.testing.assert_array_equal(counts.scores, values)
    np.testing.assert_array_equal(counts.positives, np.bincount(at[labels], minlength=len(values)))
    np.testing.assert_array_equal(counts.negatives, np.bincount(at[~labels], minlength=len(values)))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("others", [[0.2, 0.9], [-3.0, 2.0]])
def test_nan_and_infinity_are_refused_by_example(bad, others):
    with pytest.raises(InvalidInput, match=r"of example 2 is not finite"):
        ranked([0, 1, 1], [*others, bad])


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], "label 2 of example 2 is neither 0 nor 1"),
        ([0, 1], [0.1], "2 labels but 1 scores"),
        ([0, 1], [[0.1], [0.2]], "one row of numbers"),
        ([[0], [1]], [0.1, 0.2], "one row of 0 and 1"),
        ([0, 1], ["a", "b"], "one row of numbers"),
    ],
)
def test_what_has_no_rank_is_refused(labels, scores, said):
    with pytest.raises(InvalidInput, match=said):
        ranked(labels, scores)


@pytest.mark.parametrize("decimals", [1, 3, 12])
def test_thinned_counts_are_exact_where_they_stand_and_near_elsewhere(decimals):
    rng = np.random.default_rng(5)
    labels = rng.random(200_000) < 0.02
    scores = np.round(rng.normal(size=200_000) + labels, decimals)
    kept, every = thinned(ranked(labels, scores), 500), distinct(ranked(labels, scores))
    at = np.searchsorted(every.scores, kept.scores)
    assert np.array_equal(every.scores[at], kept.scores)
    assert len(kept.scores) <= 1000 + 512 * (1 + np.log(200_000 / 512)) + 500

    def picked(counts):
        return np.cumsum(counts.positives[::-1])[::-1], np.cumsum(counts.negatives[::-1])[::-1]

    for few, all_of_them in zip(picked(kept), picked(every), strict=True):
        assert np.array_equal(few, all_of_them[at])
    tp, fp = picked(every)
    precision = tp / (tp + fp)
    nearest = at[np.searchsorted(kept.scores, every.scores, side="right") - 1]
    ties = (every.positives + every.negatives).max()
    assert (tp[nearest] - tp).max() <= labels.sum() / 500 + ties
    assert ((tp + fp)[nearest] - (tp + fp)).max() <= 200_000 / 500 + ties
    if decimals == 12:
        assert np.abs(precision[nearest] - precision).max() <= 2 / 512


def test_average_precision_over_many_chunks_matches_sklearn():
    rng = np.random.default_rng(6)
    labels = rng.random(150_000) < 0.05
    for scores in (rng.normal(size=150_000) + labels, np.round(rng.normal(size=150_000) + labels, 1)):
        assert average_precision(ranked(labels, scores)) == pytest.approx(average_precision_score(labels, scores))


def test_inputs_are_left_as_they_were():
    labels, scores = np.array([True, False, True]), np.array([-1.0, 3.0, 2.0])
    kept = labels.copy(), scores.copy()
    ranked(labels, scores)
    np.testing.assert_array_equal(labels, kept[0])
    np.testing.assert_array_equal(scores, kept[1])


# --- the area and its variance ----------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(examples)
def test_area_and_variance_are_those_of_all_pairs(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    found = auc_parts(ranked(labels, scores))
    if labels.all() or not labels.any():
        assert found is None
        return
    value, on_positives, on_negatives = all_pairs(labels, scores)
    assert found.value == pytest.approx(value, abs=1e-14)
    if len(on_positives) > 1:
        assert found.among_positives == pytest.approx(on_positives.var(ddof=1), abs=1e-13)
    if len(on_negatives) > 1:
        assert found.among_negatives == pytest.approx(on_negatives.var(ddof=1), abs=1e-13)


@pytest.mark.parametrize("decimals", [2, 4, 16])
def test_large_samples_match_sklearn_and_midranks(decimals):
    # many chunks of keys, with tied groups that reach over their edges
    rng = np.random.default_rng(decimals)
    labels = rng.random(200_000) < 0.05
    scores = np.round(rng.normal(size=200_000) + labels, decimals)
    found = auc_parts(ranked(labels, scores))
    assert found.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-13)
    above, below = np.sort(scores[labels]), np.sort(scores[~labels])
    on_positives = [np.searchsorted(below, above, side) / len(below) for side in ("left", "right")]
    on_negatives = [np.searchsorted(above, below, side) / len(above) for side in ("left", "right")]
    assert found.among_positives == pytest.approx(np.mean(on_positives, axis=0).var(ddof=1), rel=1e-10)
    assert found.among_negatives == pytest.approx(np.mean(on_negatives, axis=0).var(ddof=1), rel=1e-10)


def test_breast_cancer_matches_all_pairs():
    data = load_breast_cancer()
    labels, scores = data.target == 0, data.data[:, 1]
    assert auc(ranked(labels, scores)) == pytest.approx(roc_auc_score(labels, scores), abs=1e-15)
    assert delong_variance(ranked(labels, scores)) == pytest.approx(brute_variance(labels, scores), rel=1e-12)


# S100-beta of 113 patients with subarachnoid haemorrhage (Turck et al. 2010; data set aSAH of R's pROC, Robin et al.
# 2011): patients with a poor and with a good outcome at each distinct score, from the curve that pROC's tests record.
S100B = [
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    30,
    32,
    33,
    34,
    35,
    38,
    41,
]
S100B += [43, 44, 45, 46, 47, 48, 49, 50, 52, 56, 58, 70, 71, 74, 77, 82, 86, 96, 207]
POOR_UP_TO = [
    1,
    1,
    1,
    1,
    4,
    5,
    7,
    9,
    10,
    11,
    13,
    14,
    14,
    15,
    15,
    15,
    15,
    16,
    17,
    17,
    18,
    19,
    20,
    20,
    21,
    22,
    23,
    23,
    24,
    24,
]
POOR_UP_TO += [25, 25, 27, 27, 27, 27, 28, 29, 29, 30, 31, 32, 33, 35, 36, 37, 38, 39, 40, 41]
GOOD_ABOVE = [
    72,
    67,
    64,
    62,
    56,
    50,
    44,
    37,
    33,
    33,
    30,
    26,
    22,
    19,
    17,
    16,
    14,
    14,
    14,
    13,
    13,
    13,
    13,
    12,
    12,
    11,
    10,
    9,
    9,
]
GOOD_ABOVE += [8, 8, 7, 7, 6, 5, 3, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_published_interval_of_the_asah_data():
    poor, good = np.diff(POOR_UP_TO, prepend=0), -np.diff(GOOD_ABOVE, prepend=72)
    scores = np.r_[np.repeat(S100B, poor), np.repeat(S100B, good)] / 100
    examples = ranked(np.r_[np.ones(41), np.zeros(72)], scores)
    value, half = auc(examples), Z * np.sqrt(delong_variance(examples))
    assert value == pytest.approx(0.73136856368563685, abs=1e-14)
    assert (value - half, value + half) == pytest.approx((0.6301, 0.8326), abs=5e-5)
    _, low, high = auc_interval(examples)
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.02)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1], []])
def test_one_class_only_is_undefined(labels):
    scores = np.linspace(0, 1, len(labels))
    assert auc(ranked(labels, scores)) is None
    assert auc_interval(ranked(labels, scores)) is None
    assert delong_variance(ranked(labels, scores)) is None
    assert average_precision(ranked(labels, scores)) is None
    assert average_precision_interval(labels, scores) is None
    assert paired_delong(labels, scores, scores) is None


def test_identical_scores_give_one_half_with_a_wide_interval():
    value, low, high = auc_interval(ranked([0, 1] * 500, np.full(1000, 0.3)))
    assert value == 0.5
    assert low < 0.48 < 0.52 < high


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_logits_give_the_area_of_their_sigmoid_for_any_batch_size(size):
    rng = np.random.default_rng(0)
    labels = rng.random(1000) < 0.3
    logits = np.round(rng.normal(size=1000) + labels, 2)
    batches = [slice(i, i + size) for i in range(0, 1000, size)]
    one, *more = [ranked(labels[b], logits[b]) for b in batches]
    assert auc(one.merge(*more)) == auc(ranked(labels, expit(logits)))


@given(st.lists(st.tuples(st.booleans(), st.floats(allow_nan=False, allow_infinity=False, width=32)), min_size=1))
def test_single_precision_is_ranked_as_the_same_doubles(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    narrow, wide = (ranked(labels, scores.astype(kind)) for kind in (np.float32, np.float64))
    assert np.array_equal(narrow.below, wide.below)
    assert np.array_equal(narrow.above, wide.above)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("other", [-1.0, 1.0])
def test_what_is_not_finite_is_refused_in_single_precision(bad, other):
    with pytest.raises(InvalidInput, match=r"of example 1 is not finite"):
        ranked([0, 1], np.array([other, bad], dtype=np.float32))


def test_signs_are_told_apart_over_many_chunks():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=100_000)
    found = distinct(ranked(rng.random(100_000) < 0.3, scores))
    assert np.array_equal(found.scores, np.sort(scores))


def test_float32_scores_keep_their_ties():
    scores = np.array([0.1, 0.1, 0.3], dtype=np.float32)
    assert auc(ranked([0, 1, 1], scores)) == 0.75


# --- intervals --------------------------------------------------------------------------------------


@given(examples, st.sampled_from([0.5, 0.95, 0.999]))
def test_intervals_hold_the_value_within_zero_and_one_and_have_width(pairs, level):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    for found in (
        auc_interval(ranked(labels, scores), level),
        average_precision_interval(labels, scores, level, resamples=20),
    ):
        if found is not None:
            value, low, high = found
            assert 0 <= low <= value <= high <= 1
            assert low < high


@pytest.mark.parametrize(("p", "n"), [(1, 1), (1, 1000), (1000, 1), (10, 10), (5, 5000)])
def test_perfect_and_inverted_orders_mirror_each_other(p, n):
    labels = np.r_[np.zeros(n), np.ones(p)]
    value, low, high = auc_interval(ranked(labels, np.arange(n + p)))
    other, mirrored_low, mirrored_high = auc_interval(ranked(labels, -np.arange(n + p)))
    assert (value, high, other, mirrored_low) == (1, 1, 0, 0)
    assert mirrored_high == pytest.approx(1 - low, abs=1e-12)
    assert low < 1 - 0.5 / min(p, n)  # at the least what half an error would leave


def test_upper_end_stays_under_one_where_raw_delong_leaves_it():
    labels = np.r_[np.zeros(40), np.ones(4)]
    scores = np.r_[np.arange(40), [41, 42, 43, 20.5]]
    raw = auc(ranked(labels, scores)) + Z * np.sqrt(delong_variance(ranked(labels, scores)))
    assert raw > 1.05
    assert auc_interval(ranked(labels, scores))[2] < 1


def test_large_samples_agree_with_the_delong_interval():
    rng = np.random.default_rng(2)
    labels = rng.random(40_000) < 0.3
    examples = ranked(labels, rng.normal(size=40_000) + labels)
    value, low, high = auc_interval(examples)
    half = Z * np.sqrt(delong_variance(examples))
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.02 * half)


def binormal(rng, positives, negatives, area, spread):
    scores = np.r_[
        norm.ppf(area) * np.hypot(1, spread) + spread * rng.normal(size=positives), rng.normal(size=negatives)
    ]
    return np.r_[np.ones(positives, dtype=bool), np.zeros(negatives, dtype=bool)], scores


@pytest.mark.parametrize(
    ("positives", "negatives", "area", "spread", "least", "most"),
    [
        (10, 990, 0.6, 1.0, 0.93, 0.98),
        (20, 180, 0.8, 1.0, 0.93, 0.97),
        (100, 400, 0.95, 1.0, 0.925, 0.975),
        (50, 50, 0.9, 1.5, 0.93, 0.97),
        (10, 990, 0.99, 1.0, 0.94, 0.995),  # "too few": on the safe side, where the logit interval holds 78 %
        (100, 100, 0.999, 1.0, 0.93, 0.995),
    ],
)
def test_coverage_with_known_truth(positives, negatives, area, spread, least, most):
    rng = np.random.default_rng(positives + negatives)
    held = 0
    for _ in range(800):
        _, low, high = auc_interval(ranked(*binormal(rng, positives, negatives, area, spread)))
        held += low <= area <= high
    assert least <= held / 800 <= most


@pytest.mark.slow
def test_coverage_of_a_rare_class_ranked_well():
    # a cell that 800 repeats can miss by luck: their standard error is 0.008, that of 8,000 is 0.0024
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(8000):
        _, low, high = auc_interval(ranked(*binormal(rng, 100, 900, 0.95, 1.0)))
        held += low <= 0.95 <= high
    assert 0.94 <= held / 8000 <= 0.96


def test_too_few_is_said():
    assert auc_supported(50, 950, 0.9)
    assert not auc_supported(50, 950, 0.99)
    assert not auc_supported(9, 9, 0.6)
    assert auc_supported(100, 900, 0.04) == auc_supported(900, 100, 0.96)


def test_level_widens_the_interval():
    parts = AucParts(value=0.8, positives=50, negatives=100, among_positives=0.05, among_negatives=0.05)
    _, low, high = score_interval(parts, 0.9)
    _, lower, higher = score_interval(parts, 0.99)
    assert lower < low < 0.8 < high < higher


# --- clusters ---------------------------------------------------------------------------------------


def obuchowski(labels, scores, clusters):
    """Obuchowski's variance written out, cluster by cluster."""
    value, on_positives, on_negatives = all_pairs(labels, scores)
    labels, clusters = np.asarray(labels, dtype=bool), np.asarray(clusters)
    ids = np.unique(clusters)
    p, n = labels.sum(), (~labels).sum()
    of_p = np.array([(on_positives[clusters[labels] == c] - value).sum() for c in ids])
    of_n = np.array([(on_negatives[clusters[~labels] == c] - value).sum() for c in ids])
    held_p, held_n = len(np.unique(clusters[labels])), len(np.unique(clusters[~labels]))
    s10 = held_p / ((held_p - 1) * p) * (of_p**2).sum()
    s01 = held_n / ((held_n - 1) * n) * (of_n**2).sum()
    s11 = len(ids) / (len(ids) - 1) * (of_p * of_n).sum()
    return s10 / p + s01 / n + 2 * s11 / (p * n)


def clustered(rng, patients, images):
    shift = np.repeat(rng.normal(size=patients), images)
    labels = rng.random(patients * images) < 0.4
    return labels, rng.normal(size=len(labels)) + shift + labels, np.repeat(np.arange(patients), images)


def test_clusters_of_one_change_nothing():
    rng = np.random.default_rng(4)
    labels = rng.random(60) < 0.4
    scores = rng.normal(size=60) + labels
    assert clustered_auc_interval(labels, scores, rng.permutation(60)) == pytest.approx(
        auc_interval(ranked(labels, scores))
    )


def test_clustered_width_follows_obuchowski():
    labels, scores, clusters = clustered(np.random.default_rng(5), 300, 10)
    value, low, high = clustered_auc_interval(labels, scores, clusters)
    half = Z * np.sqrt(obuchowski(labels, scores, clusters))
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.05 * half)


def test_clustered_coverage_and_what_ignoring_clusters_would_do():
    truth = norm.cdf(1 / np.sqrt(2 * 2))  # patient and image each add a unit of variance to each score
    rng = np.random.default_rng(6)
    held, ignored = 0, 0
    for _ in range(300):
        shift = np.repeat(rng.normal(size=60), 8)
        labels = np.repeat(rng.random(60) < 0.5, 8)
        scores = rng.normal(size=480) + shift + labels
        found = clustered_auc_interval(labels, scores, np.repeat(np.arange(60), 8))
        held += found[1] <= truth <= found[2]
        plain = auc_interval(ranked(labels, scores))
        ignored += plain[1] <= truth <= plain[2]
    assert held / 300 >= 0.92
    assert ignored / 300 < 0.8


def test_one_cluster_says_nothing():
    assert clustered_auc_interval([0, 1], [0.1, 0.2], ["a", "a"]) is None
    with pytest.raises(InvalidInput, match="one id per example"):
        clustered_auc_interval([0, 1], [0.1, 0.2], ["a"])


# --- two models -------------------------------------------------------------------------------------


def test_paired_matches_delong_by_definition():
    data = load_breast_cancer()
    labels = data.target == 0
    a, b = data.data[:, 1], data.data[:, 4]
    found = paired_delong(labels, a, b)
    (value_a, pos_a, neg_a), (value_b, pos_b, neg_b) = all_pairs(labels, a), all_pairs(labels, b)
    error = np.sqrt(np.var(pos_a - pos_b, ddof=1) / len(pos_a) + np.var(neg_a - neg_b, ddof=1) / len(neg_a))
    assert found.difference == pytest.approx(value_a - value_b, abs=1e-15)
    assert (found.high - found.low) / 2 == pytest.approx(Z * error, rel=0.02)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.difference) / error), rel=0.05, abs=1e-3)


def test_nothing_changed_still_leaves_room():
    labels, scores = np.r_[np.zeros(340), np.ones(20)], np.arange(360.0)
    found = paired_delong(labels, scores, scores)
    m = 20 * 340 / 360
    assert (found.low, found.difference, found.high) == pytest.approx((-(Z**2) / (m + Z**2), 0, Z**2 / (m + Z**2)))
    assert found.p_value == 1


def test_one_changed_example_borrows_the_same_room():
    labels, scores = np.r_[np.zeros(340), np.ones(20)], np.arange(360.0)
    moved = scores.copy()
    moved[-1] = 338.5
    found = paired_delong(labels, scores, moved)
    m = 20 * 340 / 360
    assert found.high - found.difference >= Z**2 / (m + Z**2) - 1e-12
    assert found.p_value > 0.3


def test_opposite_models_differ_by_one():
    labels, scores = np.r_[np.zeros(50), np.ones(50)], np.arange(100.0)
    found = paired_delong(labels, scores, -scores)
    assert (found.difference, found.high) == (1, 1)
    assert found.low > 0.8
    assert found.p_value < 1e-6


@pytest.mark.parametrize(("positives", "negatives"), [(15, 285), (100, 100)])
def test_paired_coverage_with_known_truth(positives, negatives):
    rng = np.random.default_rng(positives)
    labels = np.r_[np.ones(positives), np.zeros(negatives)]
    truth = norm.cdf(1.2 / np.sqrt(2)) - norm.cdf(1.0 / np.sqrt(2))
    held = 0
    for _ in range(600):
        common = rng.normal(size=len(labels))
        a, b = (0.9 * common + np.sqrt(0.19) * rng.normal(size=len(labels)) + s * labels for s in (1.2, 1.0))
        found = paired_delong(labels, a, b)
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 600 <= 0.98


def test_paired_clusters_widen():
    rng = np.random.default_rng(7)
    labels, a, clusters = clustered(rng, 40, 10)
    b = a + np.repeat(rng.normal(size=40), 10)
    plain, grouped = paired_delong(labels, a, b), paired_delong(labels, a, b, clusters=clusters)
    assert grouped.high - grouped.low > 1.2 * (plain.high - plain.low)


# --- average precision ------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(examples)
def test_average_precision_matches_sklearn(pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    if labels.any() and not labels.all():
        with np.errstate(over="ignore"):
            expected = average_precision_score(labels, np.unique(scores, return_inverse=True)[1])
        assert average_precision(ranked(labels, scores)) == pytest.approx(expected, abs=1e-12)


def test_resampled_counts_are_multinomial_and_keep_the_strata():
    rng = np.random.default_rng(0)
    labels = rng.random(5000) < 0.1
    examples = ranked(labels, rng.normal(size=5000) + labels)
    positives, negatives = resampled_counts(examples, 200, stratified=True)
    assert positives.shape == negatives.shape
    assert len(positives) <= 1024
    assert set(positives.sum(axis=0)) == {labels.sum()}
    free, others = resampled_counts(examples, 400)
    assert set((free + others).sum(axis=0)) == {5000}
    assert free.sum(axis=0).var() == pytest.approx(5000 * 0.1 * 0.9, rel=0.3)


def test_binned_resamples_have_the_spread_of_exact_ones():
    rng = np.random.default_rng(1)
    labels = rng.random(4000) < 0.1
    scores = rng.normal(size=4000) + 1.5 * labels
    _, low, high = average_precision_interval(labels, scores, resamples=2000)
    by_rows = []
    for _ in range(200):
        rows = rng.integers(0, 4000, 4000)
        by_rows.append(average_precision_score(labels[rows], scores[rows]))
    assert high - low == pytest.approx(2 * Z * np.std(by_rows), rel=0.15)


def test_average_precision_ignores_order_and_follows_its_seed():
    rng = np.random.default_rng(8)
    labels = rng.random(300) < 0.2
    scores = rng.normal(size=300) + labels
    order = rng.permutation(300)
    assert average_precision_interval(labels, scores) == average_precision_interval(labels[order], scores[order])
    assert average_precision_interval(labels, scores) != average_precision_interval(labels, scores, seed=1)


def test_clustered_average_precision_is_wider_and_agrees_for_clusters_of_one():
    rng = np.random.default_rng(9)
    shift = np.repeat(rng.normal(size=100), 10)
    labels = np.repeat(rng.random(100) < 0.4, 10)
    scores = rng.normal(size=1000) + shift + labels
    _, low, high = average_precision_interval(labels, scores)
    _, lower, higher = average_precision_interval(labels, scores, clusters=np.repeat(np.arange(100), 10))
    _, alone_low, alone_high = average_precision_interval(labels, scores, clusters=np.arange(1000))
    assert higher - lower > 1.5 * (high - low)
    assert alone_high - alone_low == pytest.approx(high - low, rel=0.15)


@pytest.mark.parametrize(("positives", "negatives"), [(100, 900), (50, 950)])
def test_average_precision_coverage(positives, negatives):
    rng = np.random.default_rng(positives)
    shift = 1.5
    grid = np.linspace(-8, 12, 20_001)
    recall, false = norm.sf(grid - shift), norm.sf(grid)
    precision = positives * recall / (positives * recall + negatives * false)
    truth = np.trapezoid(precision[::-1], recall[::-1])
    labels = np.r_[np.ones(positives, dtype=bool), np.zeros(negatives, dtype=bool)]
    held = 0
    for seed in range(100):
        scores = rng.normal(size=len(labels)) + shift * labels
        _, low, high = average_precision_interval(labels, scores, resamples=200, stratified=True, seed=seed)
        held += low <= truth <= high
    assert 0.88 <= held / 100 <= 0.99
