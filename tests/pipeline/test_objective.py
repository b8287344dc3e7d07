"""What is minimised, how far a requirement is missed, and what can be said before anything is built."""

from __future__ import annotations

import dataclasses
import math

import pytest

import scripted_shop as scripted
from steelyard.diagnose.findings import diagnose
from steelyard.errors import InvalidInput
from steelyard.pipeline.foresee import forewarnings, in_order, trimmed
from steelyard.pipeline.objective import Goal, foreseen_gain
from steelyard.pipeline.optimize import words_of
from steelyard.records import Plan, Refusal, Step, Trial

PLAN = Plan(steps=(Step(name="openvino"),))
LONGER = Plan(steps=(Step(name="openvino"), Step(name="nncf_int8")))


def _goal(*requirements: str, minimise: str = "latency") -> Goal:
    wanted = tuple(map(scripted.requirement, requirements))
    return Goal(before=scripted.measurement(), requirements=wanted, minimise=minimise)


@pytest.mark.parametrize(("minimise", "gain"), [("latency", 2.0), ("size", 4.0), ("memory", 0.5)])
def test_the_gain_is_of_what_is_minimised(minimise: str, gain: float) -> None:
    found = _goal(minimise=minimise).obtained(scripted.trial(PLAN, 2.0, size=1e6, memory=2e8))
    assert found is not None
    assert found.gain == pytest.approx(gain)
    assert found.kept


@pytest.mark.parametrize(
    ("requirement", "missed"),
    [
        ("accuracy drop <= 5%", (0.10 - 0.05) / 0.05),
        ("accuracy drop <= 0%", 0.10 / 1e-3),
        ("accuracy >= 0.9", 0.10 / 0.9),
        ("latency <= 0.25x", 1.0),
        ("latency <= 1 ms", -0.5),
        ("size <= 8 MB", -0.5),
    ],
)
def test_how_far_a_requirement_is_missed_is_relative_to_its_limit(requirement: str, missed: float) -> None:
    found = _goal(requirement).obtained(scripted.trial(PLAN, 2.0, right=0.8))
    assert found is not None
    assert found.missed == pytest.approx((missed,))
    assert found.kept == (missed <= 0)


def test_quality_that_was_not_asked_for_misses_nothing() -> None:
    """A candidate left behind by its speed was not weighed further."""
    found = _goal("accuracy drop <= 1%", "size <= 8 MB").obtained(scripted.trial(PLAN, 0.5, right=None))
    assert found is not None
    assert found.missed == pytest.approx((-0.5,))


def test_a_hopeless_sample_is_a_miss_and_its_speed_is_kept() -> None:
    refused = Trial(plan=PLAN, comparison=scripted.compared(3.0), refusal=Refusal(kind="hopeless", reason="64 of 200"))
    found = _goal("accuracy drop <= 1%").obtained(refused)
    assert found is not None
    assert found.gain == pytest.approx(3.0)
    assert not found.kept
    assert _goal().obtained(Trial(plan=PLAN, refusal=Refusal(kind="crash", reason="r"))) is None


def test_the_least_costly_of_those_that_promise_comes_first() -> None:
    small, quick = scripted.trial(PLAN, 1.5, size=1e6), scripted.trial(LONGER, 4.0, size=3e6)
    broken = scripted.trial(Plan(steps=(Step(name="onnx"),)), 9.0, size=1e3, right=0.5)
    for minimise, first in (("latency", quick), ("size", small)):
        found = _goal("accuracy drop <= 1%", minimise=minimise).promising([small, broken, quick])
        assert found[0].plan == first.plan
        assert len(found) == 2


# --- before anything is built ------------------------------------------------------------------------------


def test_size_is_foreseen_from_what_is_stored() -> None:
    slow_here = scripted.foreseen(LONGER, 0.8, hopeless=True)
    seen = foreseen_gain(slow_here, "size")
    assert (seen.gain, seen.hopeless, seen.ceiling) == (4.0, False, math.inf)
    assert foreseen_gain(slow_here, "energy") == slow_here
    quarter = Plan(steps=(Step(name="prune", options=(("macs", 0.25),)), Step(name="openvino")))
    assert foreseen_gain(scripted.foreseen(quarter), "memory").gain == pytest.approx(4.0)


def test_a_reason_is_given_once_for_all_that_share_it() -> None:
    short = scripted.foreseen(PLAN, hopeless=True)
    long, other = scripted.foreseen(LONGER, hopeless=True), scripted.foreseen(Plan(steps=(Step(name="onnx"),)))
    assert trimmed([long, other, short]) == (other, short)
    assert in_order([short, other]) == (other, short)


def test_requirements_and_budgets_out_of_reach_are_said_beforehand() -> None:
    run = scripted.run("latency <= 0.01x", "latency <= 5 us", "size <= 1 MB", budget_s=20.0)
    predictions = [
        scripted.foreseen(PLAN, 2.0, ceiling=12.0),
        scripted.foreseen(LONGER, 9.0, ceiling=90.0, hopeless=True),
    ]
    found = list(forewarnings(scripted.measurement(), run, predictions))
    assert [f.name for f in found] == ["out of reach", "out of reach", "short budget"]
    assert "latency <= 0.01x asks for 100 times" in found[0].claim
    assert "the highest ceiling of any plan is 12" in found[0].claim
    assert "asks for 200 times" in found[1].claim
    assert found[2].evidence == {"candidate_s": 60.0, "budget_s": 20.0}
    enough = dataclasses.replace(run, budget_s=600.0, requirements=(scripted.requirement("latency <= 0.1x"),))
    assert list(forewarnings(scripted.measurement(), enough, predictions)) == []


def test_a_model_that_cannot_be_diagnosed_is_warned_of_nothing() -> None:
    (found, *_) = diagnose(scripted.measurement(), (), [PLAN])
    assert found.name == "undiagnosed"
    assert list(forewarnings(scripted.measurement(), scripted.run("latency <= 0.01x"), found.predictions)) == []


def test_the_words_of_the_command_are_those_that_differ() -> None:
    assert words_of("latency", (), ()) == ()
    assert words_of("size", ("int8", "prune"), ("torch",)) == (
        "--minimise", "size", "--techniques", "int8,prune", "--engine", "torch",
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="takes latency, energy, size, memory; got 'cost'"):
        words_of("cost", (), ())
