"""Verdicts on two sides that never ran together: processes as independent samples, examples of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from steelyard.probe.host import environment
from steelyard.records import Measurement, Predictions, Sample, Verdict
from steelyard.verify.judge import Case, judge
from steelyard.verify.requirements import parse_requirement

HOST = environment(())


def _measured(medians: Any, calls: int = 5, right: Any = None) -> Measurement:
    """Processes whose every call takes the same time, and their memory."""
    medians = np.asarray(medians, dtype=float)
    latency = Sample(
        quantity="latency_s", unit="s", values=np.repeat(medians, calls), conditions={"batch": 1},
        blocks=np.repeat(np.arange(len(medians), dtype=np.int32), calls),
    )  # fmt: skip
    memory = Sample(quantity="memory_running_bytes", unit="byte", values=1e9 * medians)
    made = () if right is None else (_predictions(np.asarray(right)),)
    return Measurement(subject="0" * 16, environment=HOST, readings=(latency, memory), predictions=made)


def _predictions(right: Any) -> Predictions:
    labels = (np.arange(len(right)) % 2).astype(np.int32)
    return Predictions(
        split="test", labels=labels, predicted=np.where(right, labels, 1 - labels).astype(np.int32),
        p_true=np.where(right, 0.9, 0.1).astype(np.float32), classes=2,
    )  # fmt: skip


def _one(before: Measurement, after: Measurement, words: str) -> Verdict:
    return judge([Case(before=before, after=after)], [parse_requirement(words)])[0][0]


@pytest.mark.parametrize("quantity", ["latency", "p90", "memory"])
def test_ratios_are_those_of_welch(quantity: str) -> None:
    rng = np.random.default_rng(0)
    before, after = np.exp(rng.normal(0, 0.01, 10)), np.exp(rng.normal(0.05, 0.02, 8))
    found = _one(_measured(before), _measured(after), f"{quantity} <= 1.02x")
    theirs = stats.ttest_ind(np.log(after), np.log(before), equal_var=False).confidence_interval(0.95)
    assert found.outcome == "broken"
    assert found.estimate is not None
    assert (found.estimate.low, found.estimate.high) == pytest.approx(np.exp([theirs.low, theirs.high]))
    assert "unpaired" in found.estimate.method


def test_one_process_cannot_be_judged_and_is_named() -> None:
    many, one = _measured([1.0, 1.1, 0.9]), _measured([1.0])
    assert "one process of the baseline" in _one(one, many, "latency <= 2x").advice
    found = _one(many, one, "latency <= 2x")
    assert found.outcome == "unavailable"
    assert "one process of the candidate" in found.advice


def test_an_undecided_ratio_advises_without_rounds() -> None:
    found = _one(_measured([1.0, 1.5, 0.7]), _measured([1.0, 1.5, 0.7]), "latency <= 1.02x")
    assert found.outcome == "undecided"
    assert "rounds" not in found.advice


def test_other_examples_are_compared_by_square_and_add() -> None:
    """Newcombe's (1998) first method for two independent proportions is square-and-add of two Wilson intervals."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    before, after = np.arange(200) % 10 > 0, np.arange(301) % 5 > 0
    found = _one(_measured([1.0, 1.1], right=before), _measured([1.0, 1.1], right=after), "accuracy drop <= 1%")
    low, high = confint_proportions_2indep(
        int(before.sum()), 200, int(after.sum()), 301, compare="diff", method="newcomb"
    )
    assert found.estimate is not None
    assert (found.estimate.low, found.estimate.high) == pytest.approx((low, high), abs=1e-9)
    assert found.estimate.method.startswith("unpaired")
    assert found.outcome == "broken"


def test_too_few_other_examples_advise_the_same_ones() -> None:
    before, after = np.arange(20) % 10 > 0, np.arange(31) % 10 > 0
    found = _one(_measured([1.0, 1.1], right=before), _measured([1.0, 1.1], right=after), "accuracy drop <= 1%")
    assert found.outcome == "undecided"
    assert "on the same ones" in found.advice
