"""Metrics against scikit-learn, and what happens to bad input."""

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics import classification as c
from steelyard.stats.bootstrap import Cells, Margins

AVERAGES = {
    "precision": (
        skm.precision_score,
        {"macro": c.macro_precision, "weighted": c.weighted_precision, "micro": c.accuracy},
    ),
    "recall": (skm.recall_score, {"macro": c.macro_recall, "weighted": c.accuracy, "micro": c.accuracy}),
    "f1": (skm.f1_score, {"macro": c.macro_f, "weighted": c.weighted_f, "micro": c.micro_f}),
}
OF_TABLE = [
    c.accuracy,
    c.balanced_accuracy,
    c.macro_precision,
    c.macro_recall,
    c.macro_f,
    c.weighted_precision,
    c.weighted_f,
]


def margins(labels, predicted, classes=5):
    return Margins.of(c.confusion(labels, predicted, classes))


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


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
def test_averages_match_sklearn(case, name, average):
    oracle, ours = AVERAGES[name]
    expected = oracle(*case, average=average, zero_division=0)
    assert ours[average](margins(*case)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("beta", [0.5, 2.0, 3.0])
def test_f_beta_matches_sklearn(case, beta):
    for average, ours in (("macro", c.macro_f), ("weighted", c.weighted_f), ("micro", c.micro_f)):
        expected = skm.fbeta_score(*case, beta=beta, average=average, zero_division=0)
        assert ours(margins(*case), beta=beta) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_each_class_matches_sklearn_and_is_undefined_where_it_would_warn(case, beta):
    expected = skm.precision_recall_fscore_support(*case, beta=beta, labels=range(5), zero_division=np.nan)
    counts = margins(*case)
    for which in range(5):
        ours = (c.class_precision(counts, which), c.class_recall(counts, which), c.class_f(counts, which, beta))
        assert np.allclose(ours, [column[which] for column in expected[:3]], equal_nan=True)


def test_specificity_is_the_recall_of_the_others(case):
    labels, predicted = (np.asarray(side) == 2 for side in case)
    expected = skm.recall_score(~labels, ~predicted, zero_division=np.nan)
    assert float(c.specificity(margins(*case), 2)) == pytest.approx(expected)


def test_accuracy_and_error_rate_match_sklearn(case):
    assert c.accuracy(margins(*case)) == pytest.approx(skm.accuracy_score(*case))
    assert c.error_rate(margins(*case)) == pytest.approx(skm.zero_one_loss(*case))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_matches_sklearn(case):
    assert c.balanced_accuracy(margins(*case)) == pytest.approx(skm.balanced_accuracy_score(*case))


def test_matthews_matches_sklearn_and_is_undefined_for_one_class(case):
    got, spread = float(c.matthews(margins(*case))), len(set(case[0])) > 1 and len(set(case[1])) > 1
    assert got == pytest.approx(skm.matthews_corrcoef(*case)) if spread else np.isnan(got)


def test_perfect_predictions_with_absent_classes_score_one():
    counts = margins([0, 1, 1], [0, 1, 1], 10)
    assert c.macro_f(counts) == c.macro_precision(counts) == c.macro_recall(counts) == 1.0


@pytest.mark.parametrize("metric", OF_TABLE, ids=lambda m: m.__name__)
def test_tables_are_evaluated_together_as_one_by_one(metric):
    tables = np.random.default_rng(1).poisson(2, (3, 4, 5, 5))
    together = metric(Margins.of(tables))
    assert together.shape == (3, 4)
    assert np.array_equal(together, [[metric(Margins.of(table)) for table in row] for row in tables])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.randoms())
def test_order_does_not_matter_and_values_stay_in_range(pairs, random):
    shuffled = pairs[:]
    random.shuffle(shuffled)
    table, again = (c.confusion(*zip(*rows, strict=True), 4) for rows in (pairs, shuffled))
    assert np.array_equal(table, again)
    for metric in OF_TABLE:
        assert 0 <= metric(Margins.of(table)) <= 1


def test_sparse_and_dense_counting_agree(monkeypatch):
    rng = np.random.default_rng(4)
    labels, predicted = rng.integers(0, 30, (2, 500))
    dense = Cells.counted(labels, predicted, 30)
    monkeypatch.setattr("steelyard.stats.bootstrap._DENSE", 0)
    sparse = Cells.counted(labels, predicted, 30)
    parts = Cells.counted(labels[:100], predicted[:100], 30).merge(Cells.counted(labels[100:], predicted[100:], 30))
    expected = skm.confusion_matrix(labels, predicted, labels=range(30))
    for cells in (dense, sparse, parts):
        assert np.array_equal(cells.dense(), expected)
        assert cells.n == 500
        for ours, theirs in zip(
            (cells.margins().hits, cells.margins().actual, cells.margins().predicted),
            (np.diag(expected), expected.sum(1), expected.sum(0)),
            strict=True,
        ):
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_matches_sklearn(k):
    rng = np.random.default_rng(5)
    scores, labels = rng.random((300, 6)), rng.integers(0, 6, 300)
    expected = skm.top_k_accuracy_score(labels, scores, k=k, labels=range(6))
    assert c.top_k_hits(scores, labels, k).mean() == pytest.approx(expected)


def test_top_1_of_equal_scores_is_the_prediction():
    scores = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]])
    for labels in ([0, 1], [1, 2]):
        hits = c.top_k_hits(scores, np.array(labels), 1)
        assert np.array_equal(hits, scores.argmax(axis=1) == labels)


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
