"""Losses against scikit-learn, the formulas written out and PyTorch's stable forms at extreme logits."""

import math

import numpy as np
import pytest
import sklearn.metrics as skm

from steelyard.errors import InvalidInput
from steelyard.metrics.classification import LARGEST_LOSS
from steelyard.metrics.losses import (
    binary_cross_entropies,
    contrastive_losses,
    cross_entropies,
    info_nce_losses,
)


def outputs(n=200, k=4):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((n, k))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return logits, shares, rng.integers(0, k, n)


def test_cross_entropy_matches_sklearn_from_logits_and_probabilities():
    logits, shares, labels = outputs()
    expected = skm.log_loss(labels, shares, labels=range(4))
    assert cross_entropies(shares, labels, "probabilities").mean() == pytest.approx(expected, rel=1e-9)
    assert cross_entropies(logits, labels, "logits") == pytest.approx(cross_entropies(shares, labels, "probabilities"))


def test_logits_of_any_size_and_shift_stay_finite():
    losses = cross_entropies([[1e4, 0.0], [-1e4, -1e4 - 2], [5.0, 5.0]], [1, 0, 0], "logits")
    assert losses == pytest.approx([LARGEST_LOSS, math.log1p(math.exp(-2)), math.log(2)])


def test_a_sure_and_right_answer_costs_nothing():
    assert cross_entropies([[900.0, 0.0]], [0], "logits").tolist() == [0.0]
    assert np.signbit(cross_entropies([[900.0, 0.0]], [0], "logits")).tolist() == [False]


def test_binary_cross_entropy_is_the_mean_of_sklearns_per_label():
    logits, _, _ = outputs()
    labels = np.random.default_rng(1).integers(0, 2, logits.shape)
    shares = 1 / (1 + np.exp(-logits))
    expected = np.mean([skm.log_loss(labels[:, j], shares[:, j]) for j in range(4)])
    assert binary_cross_entropies(logits, labels, "logits").mean() == pytest.approx(expected, rel=1e-9)
    assert binary_cross_entropies(shares, labels, "probabilities").mean() == pytest.approx(expected, rel=1e-9)
    assert binary_cross_entropies(logits[:, 0], labels[:, 0], "logits").shape == (200,)


def test_binary_cross_entropy_is_stable_at_extreme_logits():
    losses = binary_cross_entropies([800.0, -800.0, 800.0], [1, 1, 0], "logits")
    assert losses == pytest.approx([0.0, LARGEST_LOSS, LARGEST_LOSS])


def test_contrastive_loss_written_out():
    d, same = [0.3, 0.3, 1.9, 1.9], [1, 0, 1, 0]
    expected = [0.3**2 / 2, (1.5 - 0.3) ** 2 / 2, 1.9**2 / 2, 0.0]
    assert contrastive_losses(d, same, margin=1.5) == pytest.approx(expected)


def test_info_nce_is_cross_entropy_over_the_partners():
    table = np.random.default_rng(2).standard_normal((6, 6))
    expected = cross_entropies(table / 0.5, np.arange(6), "logits")
    assert info_nce_losses(table, 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cross_entropies([[0.2, 0.8]], [2], "probabilities"), "label 2 of example 0"),
        (lambda: cross_entropies([[0.2, 0.8]], [0.5], "probabilities"), "label 0.5"),
        (lambda: cross_entropies([[0.2, 0.8]], [0, 1], "probabilities"), "one number per example"),
        (lambda: cross_entropies([[0.2, 0.8]], ["cat"], "probabilities"), "one number per example"),
        (lambda: cross_entropies([[2.0, -1.0]], [0], "probabilities"), "declared probabilities"),
        (lambda: cross_entropies([[np.nan, 1.0]], [0], "logits"), "output nan of example 0 is not finite"),
        (lambda: cross_entropies([1.0, 2.0], [0, 1], "logits"), "two or more classes"),
        (lambda: binary_cross_entropies([0.5, np.nan], [0, 1], "logits"), "output nan of example 1"),
        (lambda: binary_cross_entropies([[0.5, 1.5]], [[0, 1]], "probabilities"), "probability 1.5 of example 0"),
        (lambda: binary_cross_entropies([0.5], [2], "logits"), "label 2.0 of example 0"),
        (lambda: binary_cross_entropies([0.5], [[1]], "logits"), "one shape"),
        (lambda: contrastive_losses([-1.0], [1]), "distance -1.0 of example 0"),
        (lambda: contrastive_losses([1.0], [2]), "'same' 2.0"),
        (lambda: contrastive_losses([1.0], [1], margin=0), "margin"),
        (lambda: contrastive_losses([1.0, 2.0], [1]), "shapes"),
        (lambda: info_nce_losses(np.ones((2, 3))), "square"),
        (lambda: info_nce_losses(np.eye(2), 0), "temperature"),
        (lambda: info_nce_losses([[1.0, np.inf], [0.0, 1.0]]), "not finite"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InvalidInput, match=says):
        call()
