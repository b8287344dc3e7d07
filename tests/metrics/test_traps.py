"""Traps seen in well-known libraries, one test each: the right number where another tool gives a wrong one."""

import math

import numpy as np
import pytest
import sklearn.metrics as skm

from steelyard.errors import InvalidInput
from steelyard.metrics import table
from steelyard.metrics.calibration import reliability
from steelyard.metrics.examples import binary, multiclass
from steelyard.metrics.meter import Meter
from steelyard.metrics.streaming import StreamingAreas
from steelyard.records import Estimate, Unavailable


def asked(examples, name):
    (found,) = table.estimates(examples, [name])
    return found


@pytest.mark.parametrize("share", [0.001, 0.05])
def test_rare_positives_and_squeezed_scores_leave_the_area_exact(share):
    """Ten bins over [0, 1] see one place in these scores, and a binned area is 0.5."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.arange(50_000) < 50_000 * share)
    scores = 0.02 / (1 + np.exp(-(rng.normal(size=50_000) + 2 * labels)))
    assert scores.max() < 0.02
    got = asked(binary(labels, scores), "roc_auc")
    assert got.value == pytest.approx(skm.roc_auc_score(labels, scores), abs=1e-12)
    assert got.low < got.value < got.high
    binned = skm.roc_auc_score(labels, np.floor(scores * 10))
    assert abs(binned - got.value) > 0.3  # the trap itself


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_an_error_and_not_a_perfect_area(bad):
    with pytest.raises(InvalidInput, match="of example 2 is not a finite number"):
        binary([0, 1, 1, 0], [0.1, 0.9, bad, 0.2])
    with pytest.raises(InvalidInput):
        multiclass([0, 1], [[0.5, 0.5], [bad, 0.5]])


@pytest.mark.parametrize("batch", [1, 3, 7, 40])
def test_logits_declared_once_give_one_area_whatever_the_batch(batch):
    """Half of these batches hold no value outside [0, 1] and would be taken for probabilities by a look at them."""
    rng = np.random.default_rng(4)
    labels = rng.random(40) < 0.5
    logits = np.where(np.arange(40) < 20, rng.random(40), rng.normal(0, 4, 40)) + labels
    meter = Meter(["roc_auc", "log_loss", "accuracy"])
    for start in range(0, 40, batch):
        part = slice(start, start + batch)
        meter.update(binary(labels[part], logits[part], outputs="logits"))
    got = {e.quantity: e.value for e in meter.compute()}
    shares = 1 / (1 + np.exp(-logits))
    assert got["roc_auc"] == pytest.approx(skm.roc_auc_score(labels, logits))
    assert got["log_loss"] == pytest.approx(skm.log_loss(labels, shares))
    assert got["accuracy"] == pytest.approx(np.mean(labels == (logits >= 0)))


def test_a_confidence_of_exactly_one_falls_into_the_last_bin():
    bins = reliability([1.0, 1.0, 0.97], [1, 0, 1])
    assert len(bins.counts) == 15
    assert bins.counts[-1] == 3
    assert asked(binary([1, 0, 1], [1.0, 1.0, 0.97]), "ece").value == pytest.approx(abs(2.97 / 3 - 2 / 3))


def test_perfect_predictions_have_macro_f1_of_one_though_classes_are_absent():
    labels = np.array([0, 1, 3] * 20)
    scores = np.eye(5)[labels]
    for made in (multiclass(labels, scores), multiclass(labels, predicted=labels, classes=tuple("abcde"))):
        for name in ("macro_f1", "macro_precision", "macro_recall", "balanced_accuracy", "weighted_f1"):
            assert asked(made, name).value == 1.0


@pytest.mark.parametrize(("positives", "negatives"), [(2, 2), (5, 40), (30, 1000)])
@pytest.mark.parametrize("swaps", [0, 1])
def test_the_upper_limit_of_an_area_is_never_above_one(positives, negatives, swaps):
    labels = np.repeat([1, 0], [positives, negatives])
    scores = np.concatenate([np.linspace(0.8, 0.9, positives), np.linspace(0.1, 0.7, negatives)])
    scores[positives : positives + swaps] = 0.85
    got = asked(binary(labels, scores), "roc_auc")
    assert 0 <= got.low < got.value <= got.high <= 1


def test_ten_samples_on_four_ranks_are_ten():
    """Samplers pad ten to twelve by repeating two; here a rank has what it has."""
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 1])
    scores = np.linspace(0.1, 0.9, 10)
    ranks = []
    for rank in range(4):
        ranks.append(Meter(["accuracy", "roc_auc"]))
        ranks[-1].update(binary(labels[rank::4], scores[rank::4]))
    whole = ranks[0].merge(ranks[1]).merge(ranks[2]).merge(ranks[3])
    accuracy, area = whole.compute()
    assert (accuracy.n, area.n) == (10, 10)
    assert accuracy.value == np.mean(labels == (scores >= 0.5))
    assert area.value == pytest.approx(skm.roc_auc_score(labels, scores))


def test_a_mean_of_batch_means_is_not_what_is_reported():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1])
    scores = np.array([0.9] * 8 + [0.1])
    meter = Meter(["accuracy", "f1"])
    for part in (slice(0, 4), slice(4, 8), slice(8, 9)):  # batch means of 1, 0 and 0
        meter.update(binary(labels[part], scores[part]))
    accuracy, f1 = meter.compute()
    assert accuracy.value == pytest.approx(4 / 9)
    assert accuracy.value != pytest.approx(1 / 3)
    assert f1.value == pytest.approx(skm.f1_score(labels, scores >= 0.5))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "recall"])
def test_no_positives_is_said(name):
    got = asked(binary([0, 0, 0], [0.1, 0.6, 0.3]), name)
    assert isinstance(got, Unavailable)
    assert "0 positives" in got.reason


def test_streamed_areas_keep_their_bound_where_positives_are_rare_and_scores_squeezed():
    rng = np.random.default_rng(5)
    labels = rng.random(100_000) < 0.001
    scores = 0.02 / (1 + np.exp(-(rng.normal(size=100_000) + 2 * labels)))
    streamed = StreamingAreas("probabilities")
    for part in np.array_split(np.arange(100_000), 7):
        streamed.update(labels[part], scores[part])
    found = streamed.compute().auc
    exact = asked(binary(labels, scores), "roc_auc")
    assert isinstance(exact, Estimate)
    assert found.low <= exact.value <= found.high
    assert found.high - found.low < 0.01
