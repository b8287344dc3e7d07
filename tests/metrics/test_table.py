"""Intervals beside every metric, alone and paired: against the counts' own intervals, scipy and simulation."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from steelyard.errors import InvalidInput
from steelyard.metrics import table
from steelyard.metrics.classification import LARGEST_LOSS, log_losses, macro_f
from steelyard.metrics.examples import from_predictions
from steelyard.metrics.table import evidence, find, pair
from steelyard.records import Predictions
from steelyard.stats.bootstrap import Margins
from steelyard.stats.proportion import tango, wilson

TABLE_METRICS = ["accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1"]
METRICS = [*TABLE_METRICS, "log_loss"]


def estimate(p, metric, level=0.95):
    made = from_predictions(p)
    row = find(metric, made.task)
    return table.estimate(evidence(made, [row]), row, level)


def estimates(p, names=METRICS):
    return table.estimates(from_predictions(p), names)


def both(before, after, metric):
    first, second = from_predictions(before), from_predictions(after)
    row = find(metric, first.task)
    return pair(first, second, [row]), row


def paired(before, after, metric, level=0.95):
    return table.drop_estimate(*both(before, after, metric), level)


def paired_p_value(before, after, metric, limit):
    return table.drop(*both(before, after, metric)).p_value(limit)


def drop_examples_needed(before, after, metric, limit, level=0.95):
    return table.drop(*both(before, after, metric)).needed(limit, level)


def predictions(labels, predicted, p_true=None, classes=4):
    p = np.where(labels == predicted, 0.9, 0.1) if p_true is None else p_true
    return Predictions(
        split="test",
        labels=np.asarray(labels, np.int32),
        predicted=np.asarray(predicted, np.int32),
        p_true=np.asarray(p, np.float32),
        classes=classes,
    )


def model(n=360, right=0.9, seed=0, classes=4):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    wrong = (labels + rng.integers(1, classes, n)) % classes
    predicted = np.where(rng.random(n) < right, labels, wrong)
    return predictions(labels, predicted, rng.uniform(0.05, 1, n), classes)


def permuted(p, seed=9):
    order = np.random.default_rng(seed).permutation(len(p.labels))
    return dataclasses.replace(p, labels=p.labels[order], predicted=p.predicted[order], p_true=p.p_true[order])


@pytest.mark.parametrize("n", [1, 2, 30, 360])
@pytest.mark.parametrize("right", [0.0, 0.5, 0.9, 1.0])
def test_every_interval_holds_its_value_stays_in_range_and_has_width(n, right):
    for got in estimates(model(n, right)):
        row = find(got.quantity, "multiclass")
        assert row.low <= got.low <= got.value <= got.high <= row.high
        assert got.low < got.high
        assert (got.n, got.level, got.unit) == (n, 0.95, row.unit)


def test_accuracy_is_wilson():
    p = model()
    got = estimate(p, "accuracy", 0.9)
    assert (got.low, got.high) == wilson(int(p.correct.sum()), 360, 0.9)


@pytest.mark.parametrize("metric", TABLE_METRICS)
def test_a_perfect_score_on_even_classes_is_as_uncertain_as_accuracy(metric):
    got = estimate(model(right=1.0), metric)
    assert (got.value, got.low, got.high) == pytest.approx((1.0, *wilson(360, 360)))


def test_a_perfect_score_is_less_certain_where_a_class_is_rare():
    labels = np.repeat([0, 1], [350, 10])
    got = estimate(predictions(labels, labels, classes=2), "macro_f1")
    assert got.low < wilson(360, 360)[0]


@pytest.mark.parametrize("metric", METRICS)
def test_results_do_not_depend_on_the_order_of_examples(metric):
    before, after = model(seed=0), model(seed=1, right=0.87)
    assert estimate(permuted(before), metric) == estimate(before, metric)
    assert paired(permuted(before), permuted(after), metric) == paired(before, after, metric)


def test_log_loss_is_the_t_interval():
    p = model()
    losses = log_losses(p.p_true)
    expected = scipy.stats.ttest_1samp(losses, 0).confidence_interval(0.95)
    got = estimate(p, "log_loss")
    assert (got.value, got.low, got.high) == pytest.approx((losses.mean(), *expected))


def test_log_loss_of_certain_predictions_keeps_width():
    labels = np.arange(360) % 4
    got = estimate(predictions(labels, labels, np.ones(360)), "log_loss")
    assert (got.value, got.low) == (0.0, 0.0)
    assert got.high == pytest.approx(LARGEST_LOSS * (1 - wilson(360, 360)[0]))


# --- paired ----------------------------------------------------------------------------------------


def test_accuracy_drop_is_tango():
    before, after = model(seed=0), model(seed=1, right=0.85)
    b = int((before.correct & ~after.correct).sum())
    c = int((after.correct & ~before.correct).sum())
    got = paired(before, after, "accuracy", 0.9)
    assert got.quantity == "accuracy_drop"
    assert got.value == pytest.approx((b - c) / 360)
    assert (got.low, got.high) == tango(b, c, 360, 0.9)


@pytest.mark.parametrize("metric", METRICS)
def test_positive_is_always_worse(metric):
    labels = np.arange(400) % 4
    good = predictions(labels, np.where(np.arange(400) % 20 == 0, (labels + 1) % 4, labels))
    bad = predictions(labels, np.where(np.arange(400) % 3 == 0, (labels + 1) % 4, labels))
    assert paired(good, bad, metric).low > 0
    assert paired(bad, good, metric).high < 0


@pytest.mark.parametrize("metric", TABLE_METRICS)
def test_no_changed_prediction_leaves_a_drop_open(metric):
    same = model()
    z2 = 1.959963984540054**2
    got = paired(same, same, metric)
    assert (got.value, got.low, got.high) == pytest.approx((0.0, -z2 / (360 + z2), z2 / (360 + z2)))
    assert drop_examples_needed(same, same, metric, 0.005) == 765


def test_unchanged_losses_leave_a_rise_open():
    same = model()
    got = paired(same, same, "log_loss")
    assert got.value == 0.0
    assert got.low < 0 < got.high


def test_recall_on_even_classes_is_tango_up_to_resampling_error():
    before, after = model(4000, seed=0), model(4000, seed=1, right=0.88)
    accuracy, recall = (paired(before, after, m) for m in ("accuracy", "macro_recall"))
    assert recall.value == pytest.approx(accuracy.value)
    assert recall.high - recall.low == pytest.approx(accuracy.high - accuracy.low, rel=0.1)


def test_log_loss_drop_is_the_paired_t_interval():
    before, after = model(seed=0), model(seed=1)
    expected = scipy.stats.ttest_rel(log_losses(after.p_true), log_losses(before.p_true)).confidence_interval(0.95)
    got = paired(before, after, "log_loss")
    assert (got.low, got.high) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("same", [True, False])
def test_p_value_agrees_with_the_interval(metric, same):
    before = model(seed=0)
    after = before if same else model(seed=1, right=0.89)
    for level in (0.9, 0.95, 0.99):
        high = paired(before, after, metric, level).high
        for limit, below in ((high - 1e-6, False), (high + 1e-6, True)):
            assert (paired_p_value(before, after, metric, limit) <= (1 - level) / 2) == below
    assert paired_p_value(before, after, metric, 20.0) == pytest.approx(0.0)
    assert paired_p_value(before, after, metric, -20.0) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_more_examples_would_decide_or_would_not_help(metric):
    before, after = model(seed=0), model(seed=1, right=0.85)
    drop = paired(before, after, metric)
    assert drop_examples_needed(before, after, metric, drop.high * 1.01 + 1e-9) <= 361
    assert drop_examples_needed(before, after, metric, (drop.value + drop.high) / 2) > 360
    assert drop_examples_needed(before, after, metric, drop.value) is None


@pytest.mark.parametrize(
    "after",
    [
        model(359),
        dataclasses.replace(model(), labels=(model().labels + 1) % 4),
        dataclasses.replace(model(), classes=5),
    ],
)
def test_predictions_on_different_examples_are_refused(after):
    with pytest.raises(InvalidInput, match="same examples"):
        paired(model(), after, "accuracy")


@pytest.mark.parametrize(
    "change",
    [
        {"p_true": np.full(360, np.nan, np.float32)},
        {"p_true": np.ones(3, np.float32)},
        {"labels": np.full(360, 9, np.int32)},
        {"predicted": np.full(360, -1, np.int32)},
    ],
)
def test_damaged_predictions_are_refused(change):
    with pytest.raises(InvalidInput):
        estimates(dataclasses.replace(model(), **change))


def test_an_unknown_metric_names_the_known_ones():
    with pytest.raises(InvalidInput, match="macro_f1"):
        estimate(model(), "makro_f1")


def test_no_examples_are_refused():
    empty = predictions(np.array([], int), np.array([], int))
    for metric in METRICS:
        with pytest.raises(InvalidInput):
            estimate(empty, metric)


def test_macro_f1_interval_covers_near_a_perfect_score():
    rng = np.random.default_rng(10)
    cells = np.full((4, 4), 0.01 / 12)
    np.fill_diagonal(cells, 0.99 / 4)
    truth = float(macro_f(Margins.of((cells * 1e6).round().astype(int))))
    covered = 0
    for _ in range(60):
        counts = rng.multinomial(100, cells.ravel())
        labels, predicted = (np.repeat(axis.ravel(), counts) for axis in np.indices((4, 4)))
        got = estimate(predictions(labels, predicted), "macro_f1")
        covered += got.low <= truth <= got.high
    assert covered >= 53
    assert not math.isnan(truth)
