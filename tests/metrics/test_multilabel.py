"""Multi-label metrics against scikit-learn and brute force."""

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from steelyard.errors import InvalidInput
from steelyard.metrics import multilabel as m
from steelyard.stats.proportion import wilson
from steelyard.stats.sums import interval, mean, spread, sums

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 5))
PAIRS = SHAPES.flatmap(
    lambda s: st.tuples(
        arrays(np.int64, s, elements=st.integers(0, 1)), arrays(np.int64, s, elements=st.integers(0, 1))
    )
)
FUNCTIONS = {
    "precision": lambda y, p, average, beta: skm.precision_score(y, p, average=average, zero_division=0),
    "recall": lambda y, p, average, beta: skm.recall_score(y, p, average=average, zero_division=0),
    "f": lambda y, p, average, beta: skm.fbeta_score(y, p, beta=beta, average=average, zero_division=0),
}


def two_columns(y, p):
    """scikit-learn takes a single column for a binary problem: an empty second one keeps it multi-label."""
    pad = np.zeros((len(y), 1), int)
    return np.hstack([y, pad]), np.hstack([p, pad])


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_subset_accuracy_and_hamming_loss_match_sklearn(pair):
    y, p = pair
    assert mean(sums(m.subset_terms(y, p))) == pytest.approx((y == p).all(1).mean())
    assert mean(sums(m.hamming_terms(y, p))) == pytest.approx(skm.hamming_loss(y.ravel(), p.ravel()))


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("beta", [1.0, 2.0, 0.5])
@settings(max_examples=25, deadline=None)
@given(pair=PAIRS)
def test_averages_match_sklearn_over_the_defined_labels(kind, beta, pair):
    y, p = pair
    total = sums(m.label_terms(y, p))
    seen = (y | p).any(0)
    assert np.isnan(m.per_label(total, kind, beta)).tolist() == (~seen).tolist()
    if not seen.any():
        assert np.isnan(m.label_value(kind, "macro", beta)(total))
        assert np.isnan(m.label_value(kind, "micro", beta)(total))
        assert m.labels_undefined(total) == "undefined: no label has positives or predictions"
        return
    kept = two_columns(y[:, seen], p[:, seen])
    per_label = FUNCTIONS[kind](*kept, None, beta)[:-1]
    assert m.per_label(total, kind, beta)[seen] == pytest.approx(per_label)
    assert m.label_value(kind, "macro", beta)(total) == pytest.approx(per_label.mean())
    assert m.label_value(kind, "micro", beta)(total) == pytest.approx(FUNCTIONS[kind](*kept, "micro", beta))
    if y.any():
        assert m.label_value(kind, "weighted", beta)(total) == pytest.approx(FUNCTIONS[kind](*kept, "weighted", beta))
    else:
        assert np.isnan(m.label_value(kind, "weighted", beta)(total))
        assert "to weigh" in m.labels_undefined(total, "weighted")


@pytest.mark.parametrize("kind", FUNCTIONS)
@settings(max_examples=25, deadline=None)
@given(pair=PAIRS)
def test_samples_average_leaves_out_examples_without_labels_or_predictions(kind, pair):
    y, p = pair
    kept = (y | p).any(1)
    total = sums(m.sample_terms(y, p, kind))
    value = mean(total)
    assert (m.samples_undefined(total) is None) == kept.any()
    if kept.any():
        assert value == pytest.approx(FUNCTIONS[kind](*two_columns(y[kept], p[kept]), "samples", 1.0))
    else:
        assert np.isnan(value)


def test_values_work_on_leading_axes():
    rng = np.random.default_rng(0)
    terms = m.label_terms(rng.integers(0, 2, (50, 3)), rng.integers(0, 2, (50, 3)))
    stacked = np.stack([terms[:20].sum(0), terms[20:].sum(0)])
    for average in ("micro", "macro", "weighted"):
        value = m.label_value("f", average)
        assert value(stacked).tolist() == [float(value(row)) for row in stacked]


def test_a_perfect_score_stands_on_its_trials_not_on_all_examples():
    y = np.zeros((1000, 2), int)
    y[:30, 0] = 1
    terms, value = m.label_terms(y, y), m.label_value("precision", "micro")
    trials = m.label_trials(sums(terms), "precision")
    assert trials == 30
    assert interval(spread(terms, value), low=0, high=1, size=trials) == pytest.approx(wilson(30, 30))


def test_trials_of_a_mean_over_labels_are_harmonic():
    total = sums(m.label_terms([[1, 1, 0]] * 4 + [[1, 0, 0]] * 6, [[1, 1, 0]] * 4 + [[1, 0, 0]] * 6))
    assert m.label_trials(total, "recall", "macro") == pytest.approx(4 / (1 / 10 + 1 / 4))
    assert m.label_trials(total, "recall", "micro") == 14


def test_intervals_of_micro_f1_and_hamming_cover_the_truth():
    rng = np.random.default_rng(1)
    f1, held = m.label_value("f", "micro"), np.zeros(2)
    truth = 2 * 0.2 * 0.8 / (2 * 0.2 * 0.8 + 0.2 * 0.2 + 0.8 * 0.05), 0.2 * 0.2 + 0.8 * 0.05
    for _ in range(500):
        y = rng.random((120, 5)) < 0.2
        p = np.where(y, rng.random(y.shape) < 0.8, rng.random(y.shape) < 0.05)
        for i, (terms, value) in enumerate([(m.label_terms(y, p), f1), (m.hamming_terms(y, p), mean)]):
            low, high = interval(spread(terms, value), low=0, high=1)
            held[i] += low <= truth[i] <= high
    assert (held / 500 >= 0.92).all()
    assert (held / 500 <= 0.975).all()


def test_threshold_may_differ_by_label():
    assert m.decided([[0.4, 0.4]], [0.3, 0.5]).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: m.label_terms([[0, 2]], [[0, 1]]), "label 2 of example 0, column 1"),
        (lambda: m.label_terms([[0, 1]], [[0, np.nan]]), "prediction nan"),
        (lambda: m.label_terms([[0, 1]], [[0]]), "one shape"),
        (lambda: m.label_terms([0, 1], [0, 1]), "a column per label"),
        (lambda: m.label_value("f", "micro", 0), "beta"),
        (lambda: m.decided([[np.nan]]), "finite"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InvalidInput, match=says):
        call()
