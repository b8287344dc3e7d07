"""Limits: what is read, what is asked of each kind, and what fails the command."""

import numpy as np
import pytest

from steelyard.api import evaluate
from steelyard.errors import InvalidInput
from steelyard.pipeline.evaluation import evaluate as pipeline
from steelyard.pipeline.evaluation.gates import limit_of
from steelyard.stats.proportion import wilson

N, RIGHT = 100, 90
LOW, HIGH = wilson(RIGHT, N)


@pytest.fixture
def judged(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "render_evaluation", lambda _: "")
    labels = np.arange(N) % 2
    guess = np.where(np.arange(N) < RIGHT, labels, 1 - labels)
    np.savez(tmp_path / "t.npz", y=labels, pred=guess)
    return lambda **words: evaluate(tmp_path / "t.npz", out=tmp_path / "out", **words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("f1=0.9", ("f1", None, 0.9)), ("f1 >= 90%", ("f1", True, 0.9)), ("log_loss<=.3", ("log_loss", False, 0.3)),
        ("recall[a b] ≥ 1", ("recall[a b]", True, 1.0)), ("rmse < 1e-3", ("rmse", False, 1e-3)), ("mcc>-0.5", ("mcc", True, -0.5)),
    ],
)  # fmt: skip
def test_limits_as_people_write_them(text, found):
    assert limit_of(text) == found


@pytest.mark.parametrize("text", ["", "f1", "f1=", "=0.9", "f1 0.9", "f1=nan", "f1=high", "f1 == 0.9", "f1=0.9=1"])
def test_limits_that_mean_nothing(text):
    try:
        metric, _, limit = limit_of(text)
    except InvalidInput:
        return
    assert (metric, limit) in (("f1=0.9", 1.0), ("f1 =", 0.9), ("f1", 0.9))


@pytest.mark.parametrize(
    ("limit", "outcome", "by_value", "proved"),
    [
        (LOW - 0.001, "met", True, True), (LOW + 0.001, "undecided", True, False), (RIGHT / N, "undecided", True, False),
        (RIGHT / N + 0.001, "undecided", False, False), (HIGH + 0.001, "broken", False, False),
    ],
)  # fmt: skip
def test_a_value_is_asked_for_or_a_proof(judged, limit, outcome, by_value, proved):
    found = judged(fail_under=(f"accuracy={limit}",), require=(f"accuracy >= {limit}",)).evaluation.gates
    assert [(g.outcome, g.passed) for g in found] == [(outcome, by_value), (outcome, proved)]
    errors = judged(fail_under=(f"error_rate={1 - limit}",), require=(f"error_rate <= {1 - limit}",)).evaluation.gates
    assert [g.outcome for g in errors] == [outcome, outcome]
    assert errors[1].passed == proved


def test_a_limit_may_be_on_the_mean_cost(judged):
    cost = (10 * 5 + 5) / N  # of ten mistakes the five at even places are false positives
    words = {"costs": "fp=1,fn=10", "predicted": "pred"}
    found = judged(fail_under=(f"mean_cost={cost + 0.01}",), require=("mean_cost <= 0.05",), **words).evaluation
    assert [(g.outcome, g.passed) for g in found.gates] == [("undecided", True), ("broken", False)]
    assert found.gates[0].estimate.value == pytest.approx(cost)
    assert [m.name for m in found.metrics].count("mean_cost") == 1
    named = judged(require=("mean_cost[fp=1,fn=10] <= 2",)).evaluation
    assert named.gates[0].estimate.value == pytest.approx(cost)
    with pytest.raises(InvalidInput, match="needs what each mistake costs: give --costs fp=1,fn=20"):
        judged(require=("mean_cost <= 2",))
    with pytest.raises(InvalidInput, match="write what each mistake costs, as fp=1,fn=10"):
        judged(require=("mean_cost[fp=1] <= 2",))


def test_one_gate_that_fails_fails_all(judged):
    assert judged(fail_under=("accuracy=0.5",)).passed
    assert not judged(fail_under=("accuracy=0.5", "f1=0.99")).passed
    assert judged().passed


def test_a_metric_that_a_limit_names_is_measured(judged):
    found = judged(metrics=("accuracy",), fail_under=("f2=0.5",)).evaluation
    assert "f2" in [s.quantity for s in found.models[0].scores]


@pytest.mark.parametrize("text", ["accuracy <= 0.5", "error_rate >= 0.5"])
def test_a_limit_that_asks_for_a_worse_model_is_refused(judged, text):
    with pytest.raises(InvalidInput, match="would ask for a worse model: write"):
        judged(fail_under=(text,))
