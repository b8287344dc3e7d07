"""Streamed areas: the bound always holds the exact value; batches, order and workers change nothing."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from steelyard.errors import InvalidInput
from steelyard.metrics.streaming import StreamingAreas
from steelyard.stats.average_precision import average_precision
from steelyard.stats.ranked import auc, ranked

edges = [0.0, -0.0, 1.0, 0.5, 5e-324, 1e-310, 1e-38, 1 - 2**-53, 0.5 - 2**-54, 2**-126]
probability = st.floats(0, 1) | st.sampled_from(edges)
logit = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 1e-310, -1e-310, 1e300, -1e300])


def streamed(declared, labels, scores):
    areas = StreamingAreas(declared)
    areas.update(labels, scores)
    return areas.compute()


def check_bound(declared, pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    found = streamed(declared, labels, scores)
    examples = ranked(labels, scores)
    if found is None:
        assert auc(examples) is None
        return
    assert found.auc.low <= auc(examples) <= found.auc.high
    assert found.average_precision.low <= average_precision(examples) <= found.average_precision.high
    assert found.auc.low <= found.auc.value <= found.auc.high
    assert found.average_precision.low <= found.average_precision.value <= found.average_precision.high


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), probability), min_size=1, max_size=60))
@example([(True, 0.3)] * 3 + [(False, 0.3)] * 5)
@example([(True, 0.300001), (False, 0.300002), (True, 0.300003), (True, 0.300003)])
def test_the_bound_holds_the_exact_areas_of_probabilities(pairs):
    check_bound("probabilities", pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), logit), min_size=1, max_size=60))
def test_the_bound_holds_the_exact_areas_of_logits(pairs):
    check_bound("logits", pairs)


@pytest.mark.parametrize("decimals", [2, 5, 7])
@pytest.mark.parametrize("span", [1.0, 1e-3])
def test_the_bound_holds_for_crowded_bins(decimals, span):
    # hundreds of thousands of examples in few bins: orders inside a bin really are lost
    rng = np.random.default_rng(decimals)
    labels = rng.random(100_000) < 0.1
    scores = 0.4 + span * 0.1 * np.round(rng.beta(1 + labels, 2), decimals)
    found = streamed("probabilities", labels, scores)
    assert found.auc.low <= roc_auc_score(labels, scores) <= found.auc.high
    exact = average_precision(ranked(labels, scores))
    assert found.average_precision.low <= exact <= found.average_precision.high
    if span == 1e-3:
        assert found.auc.error > 1e-3


@pytest.mark.parametrize("mirrored", [False, True])
def test_rare_positives_and_squeezed_scores(mirrored):
    """0.1 % positives, scores under 0.02: two hundred even bins of [0, 1] say 0.6 where the area is 0.92."""
    rng = np.random.default_rng(0)
    labels = rng.random(400_000) < 0.001
    scores = 0.02 * rng.beta(np.where(labels, 2.0, 0.3), 6.0)
    if mirrored:
        labels, scores = ~labels, 1 - scores
    exact = roc_auc_score(labels, scores)
    found = streamed("probabilities", labels, scores)
    assert exact > 0.9
    assert found.auc.low <= exact <= found.auc.high
    assert found.auc.error < 1e-3
    assert found.average_precision.low <= average_precision_score(labels, scores) <= found.average_precision.high
    assert abs(roc_auc_score(labels, np.floor(scores * 200)) - exact) > 0.05


def test_batches_order_and_workers_change_nothing():
    rng = np.random.default_rng(1)
    labels, scores = rng.random(5000) < 0.2, rng.random(5000)
    order = rng.permutation(5000)
    one, other = StreamingAreas("probabilities"), StreamingAreas("probabilities")
    for start in range(0, 5000, 37):
        part = order[start : start + 37]
        (one if start % 2 else other).update(labels[part], scores[part])
    assert one.merge(other).compute() == streamed("probabilities", labels, scores)


def test_identical_scores_give_one_half():
    assert streamed("probabilities", [0, 1] * 500, np.full(1000, 0.7)).auc.value == 0.5


def test_one_class_only_is_undefined():
    assert streamed("probabilities", [1, 1], [0.1, 0.2]) is None
    assert StreamingAreas("logits").compute() is None


@pytest.mark.parametrize(
    ("declared", "labels", "scores", "said"),
    [
        ("probabilities", [0, 1], [0.1, np.nan], "score nan of example 1"),
        ("probabilities", [0, 1], [0.1, 1.5], "score 1.5 of example 1 is not a probability"),
        ("logits", [0, 1], [np.inf, 1.5], "score inf of example 0 is not finite"),
        ("logits", [0, 3], [0.1, 1.5], "label 3 of example 1"),
        ("logits", [0], [0.1, 1.5], "one label per score"),
        ("logits", [0], ["a"], "must be numbers"),
    ],
)
def test_bad_chunks_are_refused_whole(declared, labels, scores, said):
    areas = StreamingAreas(declared)
    areas.update([0, 1], [0.2, 0.9])
    before = areas.compute()
    with pytest.raises(InvalidInput, match=said):
        areas.update(labels, scores)
    assert areas.compute() == before


def test_declarations_are_kept():
    with pytest.raises(InvalidInput, match="declared"):
        StreamingAreas("percent")
    with pytest.raises(InvalidInput, match="cannot be merged"):
        StreamingAreas("logits").merge(StreamingAreas("probabilities"))
