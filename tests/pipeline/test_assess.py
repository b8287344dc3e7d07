"""What is found about a model's answers, against the same computed plainly over all examples."""

import numpy as np
import pytest

from steelyard.metrics import examples as made
from steelyard.metrics.classification import log_losses
from steelyard.metrics.table import defaults, evidence, find
from steelyard.pipeline.evaluation import assess
from steelyard.pipeline.evaluation.request import Answers, Request

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def answers(examples):
    return Answers(name="a", source="a.csv", digest="", examples=examples)


@pytest.mark.parametrize("n", [5, 1000, 70_001])
@pytest.mark.parametrize("decimals", [1, 15])
def test_boxes_of_losses_are_quantiles_of_every_loss(n, decimals):
    rng = np.random.default_rng(n)
    labels, scores = rng.integers(0, 2, n), np.round(rng.random(n), decimals)
    labels[:2] = 0, 1
    losses = log_losses(np.where(labels == 1, scores, 1 - scores))
    found = {box.group: box for box in assess._boxes(evidence(made.binary(labels, scores), []))}
    for place, group in enumerate(("0", "1")):
        own = losses[labels == place]
        assert found[group].n == len(own)
        assert found[group].quantiles == pytest.approx(np.quantile(own, SHARES), rel=1e-12)
    assert list(found) == sorted(found, key=lambda group: -losses[labels == int(group)].mean())


@pytest.mark.parametrize("decimals", [1, 15])
def test_mistakes_are_the_surest_of_all_and_the_earliest_of_equals(decimals):
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 5000), np.round(rng.random(5000), decimals)
    sure = np.maximum(scores, 1 - scores)
    wrong = [row for row in range(5000) if (scores[row] >= 0.5) != labels[row]]
    expected = sorted(wrong, key=lambda row: (-sure[row], row))[: assess.MISTAKES]
    shown = list(assess._mistakes(answers(made.binary(labels, scores))))
    assert [one.place for one in shown] == [f"row {row + 1}" for row in expected]
    assert [one.confidence for one in shown] == sure[expected].tolist()


def test_largest_errors_come_first():
    errors = np.array([0.0, 3.0, -5.0, 3.0, 1.0] * 10)
    shown = list(assess._mistakes(answers(made.regression(errors, np.zeros(50)))))
    rows = [int(one.place.removeprefix("row ")) - 1 for one in shown]
    assert rows == sorted(range(50), key=lambda row: (-abs(errors[row]), row))[: assess.MISTAKES]


def test_threads_find_what_one_finds(monkeypatch, tmp_path):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 2000)
    examples = made.binary(labels, np.clip(0.3 * labels + 0.7 * rng.random(2000), 0, 1))
    request = Request(source="a.csv", out=tmp_path)
    metrics = [find(name, "binary") for name in defaults("binary")]
    found = []
    for many in (10**9, 1):
        monkeypatch.setattr(assess, "_MANY", many)
        found.append(repr(assess.assess(answers(examples), metrics, request, None, lambda step: None)))
    assert found[0] == found[1]
