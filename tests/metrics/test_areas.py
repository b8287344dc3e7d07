"""Areas of several classes and labels: their standard errors and drops against the plain jackknife."""

import dataclasses

import numpy as np
import pytest
import sklearn.metrics as skm

from steelyard.metrics import table
from steelyard.metrics.areas import scored_classes, top_reliability
from steelyard.metrics.examples import binary, multiclass, multilabel
from steelyard.metrics.table import drop_estimate, estimate, evidence, find, pair
from steelyard.records import Estimate


def several(n=240, seed=0, k=4):
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, n, p=np.arange(k, 0, -1) / np.arange(1, k + 1).sum())
    shares = rng.dirichlet(np.ones(k), n) * 0.7 + 0.3 * np.eye(k)[labels]
    return multiclass(labels, shares)


def pairs_won(positive, scores):
    """The area as the share of pairs that are in order."""
    gaps = scores[positive][:, None] - scores[~positive]
    return np.mean((gaps > 0) + 0.5 * (gaps == 0))


def mean_precision(positive, scores):
    """The average precision of scores without ties."""
    hit = positive[np.argsort(-scores)]
    return (np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean()


def macro(examples, rows, score=pairs_won):
    part = examples.take(rows)
    return np.mean([score(part.labels == c, part.scores[:, c]) for c in range(part.scores.shape[1])])


def spread(values):
    """Jackknife standard error."""
    values = np.asarray(values)
    return np.sqrt((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum())


def half_width(found):
    return (found.high - found.low) / 2


def test_the_macro_area_has_the_width_of_the_jackknife():
    made = several()
    rows = np.arange(len(made))
    error = spread([macro(made, np.delete(rows, i)) for i in rows])
    got = table.estimates(made, ["macro_roc_auc"])[0]
    assert got.value == pytest.approx(skm.roc_auc_score(made.labels, made.scores, multi_class="ovr"))
    assert half_width(got) == pytest.approx(1.96 * error, rel=0.15)  # a class of 22 is given a little more


def test_the_macro_average_precision_has_the_width_of_the_jackknife():
    made = several()
    rows = np.arange(len(made))
    error = spread([macro(made, np.delete(rows, i), mean_precision) for i in rows])
    got = table.estimates(made, ["macro_average_precision"])[0]
    assert got.value == pytest.approx(skm.average_precision_score(np.eye(4)[made.labels], made.scores))
    assert half_width(got) == pytest.approx(1.96 * error, rel=0.2)  # 100 groups stand for 240 examples


@pytest.mark.parametrize("name", ["macro_roc_auc", "macro_average_precision", "ece"])
def test_clusters_of_copies_do_not_narrow_the_interval(name):
    """Each example four times says no more than once; an interval that takes the copies for examples is half as wide."""
    once = several()
    rows = np.repeat(np.arange(len(once)), 4)
    copies = once.take(rows)
    knowing = dataclasses.replace(copies, clusters=rows)
    alone, naive, clustered = (table.estimates(made, [name])[0] for made in (once, copies, knowing))
    assert clustered.value == pytest.approx(alone.value)
    if name != "ece":
        assert half_width(clustered) == pytest.approx(half_width(alone), rel=0.15)
        assert half_width(naive) < 0.7 * half_width(alone)


def test_a_macro_drop_is_paired():
    """On the same examples the difference of like models is known better than either area."""
    before = several(4000)
    rng = np.random.default_rng(1)
    shares = before.scores + 0.02 * rng.random(before.scores.shape)
    after = multiclass(before.labels, shares / shares.sum(axis=1, keepdims=True))
    for name in ("macro_roc_auc", "macro_average_precision"):
        row = find(name, "multiclass")
        got = drop_estimate(pair(before, after, [row]), row)
        alone = estimate(evidence(before, [row]), row)
        assert isinstance(got, Estimate)
        assert isinstance(alone, Estimate)
        assert half_width(got) < 0.5 * half_width(alone)


def test_labels_of_a_multilabel_task_are_classes_of_their_own():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (200, 3))
    scores = np.clip(0.3 * labels + 0.7 * rng.random((200, 3)), 0, 1)
    got = table.estimates(multilabel(labels, scores), ["macro_roc_auc"])[0]
    assert got.value == pytest.approx(skm.roc_auc_score(labels, scores, average="macro"))


def test_classes_without_positives_are_left_out():
    made = multiclass([0, 1, 0, 1], np.full((4, 3), 1 / 3))
    assert [place for place, _, _ in scored_classes(made)] == [0, 1]


def test_effects_that_cancel_to_rounding_leave_the_interval_its_width():
    """Two classes' areas mirror each other; what summing leaves of their effects, 1e-17, is no standard error."""
    scores = np.array(
        [[0.48, 0.12, 0.117], [0.21, 0.68, 0.047], [0.25, 0.38, 0.105], [0.26, 0.03, 0.2], [0.16, 0.37, 0.009]]
    )
    got = table.estimates(multiclass([2, 2, 0, 2, 0], scores, outputs="scores"), ["macro_roc_auc"])[0]
    assert got.value == 0.5
    assert got.low < 0.4 < 0.6 < got.high


def test_confidence_is_that_of_the_predicted_class_or_of_the_positive_one():
    assert top_reliability(binary([0, 1], [0.1, 0.2])).right[1] == 0
    bins = top_reliability(multiclass([0, 1], [[0.9, 0.1], [0.7, 0.3]]))
    assert sum(bins.counts[10:]) == 2
    assert sum(bins.right) == 1


def test_logits_beyond_what_a_probability_tells_apart_still_rank():
    """The sigmoid of 38 and of 45 is 1 in doubles; an area of probabilities would call them ties."""
    labels, logits = np.array([0, 1, 0, 1]), np.array([38.0, 45.0, -800.0, 39.0])
    made = binary(labels, logits, outputs="logits")
    assert len(set(made.scores[[0, 1, 3]])) == 1
    auc, precision = table.estimates(made, ["roc_auc", "average_precision"])
    assert (auc.value, precision.value) == (1.0, 1.0)
    flags, columns = np.column_stack([labels, 1 - labels]), np.column_stack([logits, -logits])
    assert table.estimates(multilabel(flags, columns, outputs="logits"), ["macro_roc_auc"])[0].value == 1.0
    assert table.estimates(made.take(np.array([0, 1])), ["roc_auc"])[0].value == 1.0
