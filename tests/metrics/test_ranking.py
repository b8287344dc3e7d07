"""Retrieval metrics against scikit-learn and against the mean over every order of the ties."""

import itertools
import math
import time

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics import ranking as k

DOCUMENTS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.2, 0.5])), min_size=1, max_size=6)


def one_order(grades, cut):
    """The textbook definitions for one strict order of the documents."""
    hits = [g > 0 for g in grades]
    total = sum(hits)
    gains = [2.0**g - 1 for g in grades]
    first = hits.index(True)
    return {
        "precision": sum(hits[:cut]) / cut,
        "recall": sum(hits[:cut]) / total,
        "rr": 1 / (first + 1),
        "rr_cut": 1 / (first + 1) if first < cut else 0.0,
        "ap": sum(sum(hits[: i + 1]) / (i + 1) for i, h in enumerate(hits) if h) / total,
        "ndcg": dcg(gains[:cut]) / dcg(sorted(gains, reverse=True)[:cut]),
    }


def dcg(gains):
    return sum(g / math.log2(i + 2) for i, g in enumerate(gains))


def over_all_orders(documents, cut):
    """The mean over every order that respects the scores."""
    groups = [[g for g, s in documents if s == score] for score in sorted({s for _, s in documents}, reverse=True)]
    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    rows = [one_order([g for group in order for g in group], cut) for order in orders]
    return {name: np.mean([row[name] for row in rows]) for name in rows[0]}


@settings(deadline=None)
@given(DOCUMENTS, st.integers(1, 7))
def test_ties_give_the_expected_value_over_their_orders(documents, cut):
    grades, scores = zip(*documents, strict=True)
    of = k.ranked([7] * len(documents), grades, scores)
    if not any(grades):
        assert (of.left_out, len(of.queries)) == (1, 0)
        return
    expected = over_all_orders(documents, cut)
    ours = {
        "precision": k.precisions_at(of, cut),
        "recall": k.recalls_at(of, cut),
        "rr": k.reciprocal_ranks(of),
        "rr_cut": k.reciprocal_ranks(of, cut),
        "ap": k.average_precisions(of),
        "ndcg": k.ndcgs_at(of, cut),
    }
    assert {name: value[0] for name, value in ours.items()} == pytest.approx(expected, abs=1e-9)


def many(queries=40, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(queries), rng.integers(2, 30, queries))
    return ids, rng.integers(0, 4, len(ids)) * (rng.random(len(ids)) < 0.4), rng.integers(0, 12, len(ids)) / 12


@pytest.mark.parametrize("cut", [1, 5, None])
def test_linear_ndcg_matches_sklearn_with_ties(cut):
    ids, grades, scores = many()
    of = k.ranked(ids, grades, scores)
    expected = [skm.ndcg_score([grades[ids == q]], [scores[ids == q]], k=cut) for q in of.queries]
    assert k.ndcgs_at(of, cut, "linear") == pytest.approx(expected)


def test_average_precision_matches_sklearn_without_ties():
    ids, grades, _ = many()
    scores = np.random.default_rng(1).random(len(ids))
    of = k.ranked(ids, grades, scores)
    expected = [skm.average_precision_score(grades[ids == q] > 0, scores[ids == q]) for q in of.queries]
    assert k.average_precisions(of) == pytest.approx(expected)


def test_no_order_of_rows_changes_a_digit():
    ids, grades, scores = many()
    order = np.random.default_rng(2).permutation(len(ids))
    one, other = k.ranked(ids, grades, scores), k.ranked(ids[order], grades[order], scores[order])
    assert one.queries.tolist() == other.queries.tolist()
    for metric in (k.ndcgs_at, k.average_precisions, k.reciprocal_ranks):
        assert metric(one).tolist() == metric(other).tolist()
    assert k.recalls_at(one, 3).tolist() == k.recalls_at(other, 3).tolist()


def test_queries_without_relevant_documents_are_left_out_and_counted():
    of = k.ranked(["x", "y", "y", "z"], [0, 1, 0, 0], [0.1, 0.2, 0.3, 0.4])
    assert (of.queries.tolist(), of.left_out) == (["y"], 2)
    assert k.reciprocal_ranks(of).tolist() == [0.5]
    assert k.ranking_undefined(of) is None
    none = k.ranked(["x"], [0], [0.5])
    assert k.ranking_undefined(none) == "undefined: none of the 1 queries has a relevant document"
    for values in (k.ndcgs_at(none), k.average_precisions(none), k.reciprocal_ranks(none), k.precisions_at(none, 3)):
        assert len(values) == 0


def test_a_million_documents_in_seconds():
    rng = np.random.default_rng(3)
    ids, grades, scores = rng.integers(0, 10_000, 1_000_000), rng.integers(0, 2, 1_000_000), rng.random(1_000_000)
    start = time.process_time()
    of = k.ranked(ids, grades, scores)
    for metric in (k.ndcgs_at, k.average_precisions, k.reciprocal_ranks):
        metric(of)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: k.ranked([1], [-1], [0.5]), "relevance -1.0 of row 0 must be finite and at least 0"),
        (lambda: k.ranked([1, 1], [1, 0], [0.5, np.nan]), "score nan of row 1"),
        (lambda: k.ranked([1], [1, 2], [0.5]), "per document"),
        (lambda: k.ranked([], [], []), "per document"),
        (lambda: k.recalls_at(k.ranked([1], [1], [0.5]), 0), "at least 1"),
        (lambda: k.ndcgs_at(k.ranked([1], [2000], [0.5])), "linear"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InvalidInput, match=says):
        call()
