"""Multinomial resampling against resampling of the examples themselves and closed-form variances."""

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.stats import bootstrap
from steelyard.stats.bootstrap import confusion_bootstrap, paired_confusion_bootstrap, percentile_bounds

TABLE = np.array([[50, 5, 0], [4, 30, 2], [0, 1, 8]])


def accuracy(tables):
    return np.trace(tables, axis1=-2, axis2=-1) / tables.sum((-2, -1))


def test_variance_of_accuracy_is_binomial():
    p = 88 / 100
    assert confusion_bootstrap(TABLE, accuracy, 8000).var() == pytest.approx(p * (1 - p) / 100, rel=0.06)


def test_resampling_cells_is_resampling_examples():
    true, guess = (np.repeat(axis.ravel(), TABLE.ravel()) for axis in np.indices(TABLE.shape))

    def recall_of_last(tables):
        return tables[:, 2, 2] / np.maximum(tables[:, 2].sum(-1), 1)

    rng = np.random.default_rng(0)
    direct = []
    for _ in range(3000):
        rows = rng.integers(0, 100, 100)
        table = np.zeros((1, 3, 3), dtype=int)
        np.add.at(table[0], (true[rows], guess[rows]), 1)
        direct.append(recall_of_last(table)[0])
    draws = confusion_bootstrap(TABLE, recall_of_last, 3000)
    assert draws.mean() == pytest.approx(np.mean(direct), abs=0.01)
    assert draws.std() == pytest.approx(np.std(direct), rel=0.1)


def test_stratified_draws_keep_the_class_sizes():
    seen = []
    confusion_bootstrap(TABLE, lambda t: seen.append(t) or accuracy(t), 50, stratified=True)
    assert (np.concatenate(seen).sum(-1) == TABLE.sum(-1)).all()


def test_same_seed_same_draws_whatever_the_chunks(monkeypatch):
    whole = confusion_bootstrap(TABLE, accuracy, 100)
    assert np.array_equal(whole, confusion_bootstrap(TABLE, accuracy, 100))
    assert not np.array_equal(whole, confusion_bootstrap(TABLE, accuracy, 100, seed=1))
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 9 * 7)
    assert np.array_equal(whole, confusion_bootstrap(TABLE, accuracy, 100))


def test_paired_draws_keep_the_pairing_and_ignore_the_order():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 300)
    first, second = (np.where(rng.random(300) < 0.9, labels, rng.integers(0, 3, 300)) for _ in range(2))
    one, other = paired_confusion_bootstrap(labels, first, second, 3, accuracy, 8000)
    right, left = first == labels, second == labels
    difference = right.astype(float) - left
    assert (one - other).var() == pytest.approx(difference.var() / 300, rel=0.06)
    assert one.mean() == pytest.approx(right.mean(), abs=0.002)
    shuffled = rng.permutation(300)
    again = paired_confusion_bootstrap(labels[shuffled], first[shuffled], second[shuffled], 3, accuracy, 8000)
    assert np.array_equal(one, again[0])
    assert np.array_equal(other, again[1])


def test_identical_models_never_differ():
    labels = np.arange(30) % 3
    one, other = paired_confusion_bootstrap(labels, labels[::-1], labels[::-1], 3, accuracy, 100)
    assert np.array_equal(one, other)


def test_percentile_bounds_are_quantiles():
    draws = np.random.default_rng(7).random(1000)
    assert percentile_bounds(draws, 0.9) == pytest.approx(tuple(np.percentile(draws, [5, 95])))


@pytest.mark.parametrize("table", [np.zeros((2, 2), int), np.ones((2, 3), int), np.array([[-1, 2], [0, 1]])])
def test_bad_tables_are_refused(table):
    with pytest.raises(InvalidInput):
        confusion_bootstrap(table, accuracy)


def test_no_examples_are_refused():
    with pytest.raises(InvalidInput):
        paired_confusion_bootstrap(np.array([], int), np.array([], int), np.array([], int), 2, accuracy)
