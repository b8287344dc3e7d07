"""Multinomial resampling against resampling of the examples themselves and closed-form variances."""

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.stats import bootstrap
from steelyard.stats.bootstrap import (
    Cells,
    clustered_confusion_bootstrap,
    confusion_bootstrap,
    paired_confusion_bootstrap,
    percentile_bounds,
)

TABLE = np.array([[50, 5, 0], [4, 30, 2], [0, 1, 8]])


CELLS = Cells.of(TABLE)


def accuracy(counts):
    return counts.hits.sum(-1) / counts.actual.sum(-1)


def recall_of_last(counts):
    return counts.hits[..., 2] / np.maximum(counts.actual[..., 2], 1)


def test_variance_of_accuracy_is_binomial():
    p = 88 / 100
    assert confusion_bootstrap(CELLS, [accuracy], 8000).var() == pytest.approx(p * (1 - p) / 100, rel=0.06)


def test_resampling_cells_is_resampling_examples():
    true, guess = (np.repeat(axis.ravel(), TABLE.ravel()) for axis in np.indices(TABLE.shape))

    rng = np.random.default_rng(0)
    direct = []
    for _ in range(3000):
        rows = rng.integers(0, 100, 100)
        last = true[rows] == 2
        direct.append((guess[rows][last] == 2).sum() / max(last.sum(), 1))
    (draws,) = confusion_bootstrap(CELLS, [recall_of_last], 3000)
    assert draws.mean() == pytest.approx(np.mean(direct), abs=0.01)
    assert draws.std() == pytest.approx(np.std(direct), rel=0.1)


def test_stratified_draws_keep_the_class_sizes():
    seen = []
    confusion_bootstrap(CELLS, [lambda counts: seen.append(counts.actual) or accuracy(counts)], 50, stratified=True)
    assert (np.concatenate(seen) == TABLE.sum(-1)).all()


def test_statistics_share_the_tables():
    both = confusion_bootstrap(CELLS, [accuracy, recall_of_last], 100)
    assert np.array_equal(both[0], confusion_bootstrap(CELLS, [accuracy], 100)[0])
    assert np.array_equal(both[1], confusion_bootstrap(CELLS, [recall_of_last], 100)[0])


def test_same_seed_same_draws_whatever_the_threads(monkeypatch):
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 9 * 7)
    whole = confusion_bootstrap(CELLS, [accuracy], 100)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert np.array_equal(whole, confusion_bootstrap(CELLS, [accuracy], 100))
    assert not np.array_equal(whole, confusion_bootstrap(CELLS, [accuracy], 100, seed=1))


def test_clusters_of_one_are_examples_and_copies_add_nothing():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, 200)
    predicted = np.where(rng.random(200) < 0.8, labels, (labels + 1) % 3)
    alone = clustered_confusion_bootstrap(labels, predicted, np.arange(200), 3, [accuracy], 4000)
    assert alone.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 200), rel=0.15)
    copied = clustered_confusion_bootstrap(
        np.repeat(labels, 5), np.repeat(predicted, 5), np.repeat(np.arange(200), 5), 3, [accuracy], 4000
    )
    assert copied.std() == pytest.approx(alone.std(), rel=0.05)


def test_paired_draws_keep_the_pairing_and_ignore_the_order():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 300)
    first, second = (np.where(rng.random(300) < 0.9, labels, rng.integers(0, 3, 300)) for _ in range(2))
    one, other = paired_confusion_bootstrap(labels, first, second, 3, [accuracy], 8000)[:, 0]
    right, left = first == labels, second == labels
    difference = right.astype(float) - left
    assert (one - other).var() == pytest.approx(difference.var() / 300, rel=0.06)
    assert one.mean() == pytest.approx(right.mean(), abs=0.002)
    shuffled = rng.permutation(300)
    again = paired_confusion_bootstrap(labels[shuffled], first[shuffled], second[shuffled], 3, [accuracy], 8000)[:, 0]
    assert np.array_equal(one, again[0])
    assert np.array_equal(other, again[1])


def test_identical_models_never_differ():
    labels = np.arange(30) % 3
    one, other = paired_confusion_bootstrap(labels, labels[::-1], labels[::-1], 3, [accuracy], 100)
    assert np.array_equal(one, other)


def test_percentile_bounds_are_quantiles():
    draws = np.random.default_rng(7).random(1000)
    assert percentile_bounds(draws, 0.9) == pytest.approx(tuple(np.percentile(draws, [5, 95])))


@pytest.mark.parametrize("table", [np.zeros((2, 2), int), np.ones((2, 3), int), np.array([[-1, 2], [0, 1]])])
def test_bad_tables_are_refused(table):
    with pytest.raises(InvalidInput):
        Cells.of(table)


def test_no_examples_are_refused():
    with pytest.raises(InvalidInput):
        paired_confusion_bootstrap(np.array([], int), np.array([], int), np.array([], int), 2, [accuracy])
