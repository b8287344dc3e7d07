"""The decision threshold against a search over every threshold there is."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics.threshold import Costs, choose_threshold, parse_costs, parse_target

EXAMPLES = st.lists(st.tuples(st.booleans(), st.sampled_from([-2.0, 0.0, 0.1, 0.5, 0.7, 1.0])), min_size=2, max_size=25)


def counted(labels, scores, threshold):
    called = scores >= threshold
    return (
        int((called & labels).sum()), int((called & ~labels).sum()), int((~called & labels).sum()),
        int((~called & ~labels).sum()),
    )  # fmt: skip


def rates(labels, scores, threshold):
    tp, fp, fn, tn = counted(labels, scores, threshold)
    return {
        "recall": tp / (tp + fn),
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "specificity": tn / (tn + fp),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "f2": 5 * tp / (5 * tp + fp + 4 * fn),
    }


def all_thresholds(scores):
    return [*np.unique(scores), np.max(scores) + 1]


@settings(deadline=None, max_examples=200)
@given(EXAMPLES, st.sampled_from(["recall", "precision", "specificity"]), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_a_target_is_reached_at_the_least_cost(examples, metric, least):
    labels, scores = (np.array(column) for column in zip(*examples, strict=True))
    assume(labels.any() and not labels.all())
    found = choose_threshold(labels, scores, parse_target(f"{metric} >= {least}"))
    every = [(rates(labels, scores, t)[metric], counted(labels, scores, t)) for t in all_thresholds(scores)]
    enough = [counts for rate, counts in every if rate >= least]
    mine = counted(labels, scores, found.threshold)
    assert found.reached == pytest.approx(rates(labels, scores, found.threshold)[metric])
    assert found.kept == bool(enough)
    if not enough:
        assert found.reached == pytest.approx(max(rate for rate, _ in every))
    elif metric == "recall":
        assert mine[1] == min(fp for _, fp, _, _ in enough)
    else:
        assert mine[0] == max(tp for tp, _, _, _ in enough)


@settings(deadline=None, max_examples=100)
@given(EXAMPLES, st.sampled_from(["f1", "f2"]))
def test_the_highest_f_is_found(examples, metric):
    labels, scores = (np.array(column) for column in zip(*examples, strict=True))
    assume(labels.any() and not labels.all())
    found = choose_threshold(labels, scores, parse_target(metric))
    best = max(rates(labels, scores, t)[metric] for t in all_thresholds(scores))
    assert rates(labels, scores, found.threshold)[metric] == pytest.approx(best)
    assert found.reached == pytest.approx(best)


@settings(deadline=None, max_examples=100)
@given(EXAMPLES, st.tuples(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-3, 0), st.floats(-3, 0)))
def test_the_cheapest_threshold_is_found(examples, costs):
    labels, scores = (np.array(column) for column in zip(*examples, strict=True))
    assume(labels.any() and not labels.all())
    fp, fn, tp, tn = costs

    def cost(threshold):
        counts = counted(labels, scores, threshold)
        return np.dot(counts, (tp, fp, fn, tn)) / len(labels)

    found = choose_threshold(labels, scores, Costs(fp=fp, fn=fn, tp=tp, tn=tn))
    assert cost(found.threshold) == pytest.approx(min(map(cost, all_thresholds(scores))))
    assert found.reached == pytest.approx(cost(found.threshold))


def test_a_threshold_is_never_infinite():
    found = choose_threshold([0, 1, 0], [0.9, 0.2, 0.5], parse_target("specificity >= 1"))
    assert 0.9 < found.threshold < 1
    assert counted(np.array([False, True, False]), np.array([0.9, 0.2, 0.5]), found.threshold)[1] == 0


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_gives_no_threshold(labels):
    with pytest.raises(InvalidInput, match="both are needed"):
        choose_threshold(labels, [0.1, 0.2], parse_target("f1"))


@pytest.mark.parametrize(
    "text",
    ["", "recall", "recall >= ", "recall >= x", "recall <= 0.9", "auc >= 0.9", "f1 >= 0.9", "f", "recall >= 1e400",
     "recall >= nan", "recall >= -1", "recall >= 95", "recall >= 0", "recall\n>= 2"],
)  # fmt: skip
def test_targets_that_mean_nothing_are_refused(text):
    try:
        found = parse_target(text)
    except InvalidInput as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert found.metric in text
        assert text == "f1 >= 0.9"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fp=1",
        "fp=1,fn=x",
        "fp=1,fn=nan",
        "fp=1,fn=1e400",
        "fp=0,fn=1",
        "fp=1,fn=2,zz=3",
        "fp=1 fn=2",
        "fp=1,fn=2,tp=3",
    ],
)
def test_costs_that_mean_nothing_are_refused(text):
    with pytest.raises(InvalidInput):
        parse_costs(text)


@pytest.mark.parametrize(
    ("text", "metric", "least"),
    [("recall >= 95%", "recall", 0.95), ("Precision>=.9", "precision", 0.9), ("f1", "f1", None)],
)
def test_targets_as_people_write_them(text, metric, least):
    found = parse_target(text)
    assert (found.metric, found.least) == (metric, least) if metric != "f1" else found.least is None
