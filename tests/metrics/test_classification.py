"""Metrics against scikit-learn, and what happens to bad input."""

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics import classification as c

MACRO = {
    c.macro_precision: skm.precision_score,
    c.macro_recall: skm.recall_score,
    c.macro_f1: skm.f1_score,
}


def cases():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    noisy = np.where(rng.random(200) < 0.8, labels, rng.integers(0, 5, 200))
    return {
        "noisy": (labels, noisy),
        "perfect": (labels, labels),
        "all wrong": (labels, (labels + 1) % 5),
        "absent class": (labels % 3, noisy % 3),
        "never predicted": (labels, np.where(noisy == 2, 0, noisy)),
        "never labelled": (np.where(labels == 2, 0, labels), noisy),
        "one example": (np.array([3]), np.array([1])),
    }


@pytest.fixture(params=cases().values(), ids=cases().keys())
def case(request):
    return request.param


def test_confusion_matches_sklearn(case):
    assert np.array_equal(c.confusion(*case, 5), skm.confusion_matrix(*case, labels=range(5)))


@pytest.mark.parametrize("metric", MACRO, ids=lambda m: m.__name__)
def test_macro_metrics_match_sklearn(case, metric):
    expected = MACRO[metric](*case, average="macro", zero_division=0)
    assert metric(c.confusion(*case, 5)) == pytest.approx(expected, abs=1e-12)


def test_accuracy_matches_sklearn(case):
    assert c.accuracy(c.confusion(*case, 5)) == pytest.approx(skm.accuracy_score(*case))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_matches_sklearn(case):
    assert c.balanced_accuracy(c.confusion(*case, 5)) == pytest.approx(skm.balanced_accuracy_score(*case))


def test_perfect_predictions_with_absent_classes_score_one():
    table = c.confusion([0, 1, 1], [0, 1, 1], 10)
    assert c.macro_f1(table) == c.macro_precision(table) == c.macro_recall(table) == 1.0


@pytest.mark.parametrize("metric", [*MACRO, c.accuracy, c.balanced_accuracy], ids=lambda m: m.__name__)
def test_tables_are_evaluated_together_as_one_by_one(metric):
    tables = np.random.default_rng(1).poisson(2, (3, 4, 5, 5))
    together = metric(tables)
    assert together.shape == (3, 4)
    assert np.array_equal(together, [[metric(table) for table in row] for row in tables])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.randoms())
def test_order_does_not_matter_and_values_stay_in_range(pairs, random):
    shuffled = pairs[:]
    random.shuffle(shuffled)
    table, again = (c.confusion(*zip(*rows, strict=True), 4) for rows in (pairs, shuffled))
    assert np.array_equal(table, again)
    for metric in (*MACRO, c.accuracy, c.balanced_accuracy):
        assert 0 <= metric(table) <= 1


def test_log_loss_matches_sklearn():
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), 300)
    labels = rng.integers(0, 4, 300)
    assert c.log_losses(p[np.arange(300), labels]).mean() == pytest.approx(skm.log_loss(labels, p, labels=range(4)))


def test_log_loss_is_clipped_at_float32():
    p = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    assert c.log_losses(p[:, 0]).mean() == pytest.approx(skm.log_loss([0, 0], p, labels=[0, 1]), rel=1e-6)
    assert c.log_losses([0.0])[0] == c.LARGEST_LOSS
    assert c.log_losses([1.0])[0] == 0.0


def test_softmax_is_stable_and_shift_free():
    logits = np.random.default_rng(3).normal(0, 50, (20, 6))
    p = c.probabilities(logits, "logits")
    assert p.sum(axis=1) == pytest.approx(1)
    assert c.probabilities(logits + 1e4, "logits") == pytest.approx(p)
    assert np.array_equal(c.probabilities(p, "probabilities"), p)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: c.confusion([0, 5], [0, 1], 5), "label 5 of example 1"),
        (lambda: c.confusion([0, 1], [0, -1], 5), "prediction -1 of example 1"),
        (lambda: c.confusion([0.0, np.nan], [0, 1], 5), "label nan of example 1"),
        (lambda: c.confusion([0.5], [0], 5), "label 0.5 of example 0"),
        (lambda: c.confusion([], [], 5), "non-empty"),
        (lambda: c.confusion([0, 1], [0], 5), "2 labels but 1 predictions"),
        (lambda: c.log_losses([0.5, np.nan]), "example 1"),
        (lambda: c.log_losses([1.5]), "are these logits"),
        (lambda: c.probabilities([[0.0, 1.0], [np.nan, 0.0]], "logits"), "example 1 holds NaN"),
        (lambda: c.probabilities([[0.0, np.inf]], "logits"), "example 0 holds NaN or infinity"),
        (lambda: c.probabilities([[0.5, 0.5], [2.0, -1.0]], "probabilities"), "example 1 is declared probabilities"),
        (lambda: c.probabilities([[0.5, 0.4]], "probabilities"), "does not sum to 1"),
        (lambda: c.probabilities([0.5, 0.5], "probabilities"), "got shape"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(InvalidInput, match=words):
        call()
