"""The self-test's own logic: the work it injects, its verdicts on made-up rounds, and its rates."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from scripted_rounds import comparison
from steelyard.measure import workload
from steelyard.measure.arms import load_callable
from steelyard.pipeline import selftest
from steelyard.records import Comparison
from steelyard.stats.proportion import clopper_pearson

EXTRA = {"base": 100, "two_percent_more": 102, "five_percent_more": 105}


def rounds(seed: int, count: int = 25, spread: float = 0.005) -> Comparison:
    """Base, again, two and five, as they should come out."""
    rng = np.random.default_rng(seed)
    logs = {arm: np.log1p(extra) + rng.normal(0, spread, count) for arm, extra in selftest.INJECTED.items()}
    return dataclasses.replace(comparison(logs), arms=("base", *logs))


@pytest.mark.parametrize(("name", "repeats"), EXTRA.items())
def test_the_work_is_exactly_that_much_more(name: str, repeats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(workload, "_work", done.append)
    getattr(workload, name)()
    assert done == [repeats]


def test_every_arm_names_a_function_that_is_there() -> None:
    from pathlib import Path

    for arm in selftest.arms().values():
        load_callable(Path(arm.load["file"]), arm.load["name"])()


def test_the_arrays_lie_alike_in_every_process() -> None:
    assert workload._ROOTS.ctypes.data % 4096 == 0
    assert (workload._OUT.ctypes.data - workload._ROOTS.ctypes.data) % 4096 == 2048 + 64


def test_verdicts_on_known_rounds_take_as_long_as_they_took() -> None:
    found = {f.arm: f for f in selftest.found(rounds(0))}
    assert found["two"].outcome == found["five"].outcome == "slower"
    assert found["again"].outcome == "equivalent"
    assert found["five"].seconds == found["five"].rounds * 2.0


def test_a_comparison_ends_when_all_three_are_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rounds(1, 60, 0.02)

    def parts(*_: Any, **__: Any) -> Any:
        for at in range(60):
            cut = slice(at, at + 1)
            assert whole.ended_s is not None
            yield dataclasses.replace(
                whole,
                seconds=whole.seconds[cut],
                order=whole.order[cut],
                ended_s=whole.ended_s[cut],
                readings=((),) * 4,
            )

    monkeypatch.setattr(selftest, "rounds", parts)
    made = selftest.one_comparison(0)
    needed = max(f.rounds for f in selftest.found(whole))
    assert len(made.seconds) == needed
    assert len(selftest.one_comparison(0, most=11).seconds) == 11


def test_quality_drops_are_found_and_nothing_is_not() -> None:
    nothing, two, five = selftest.quality_tallies(100)
    assert nothing.count("worse", "better") <= stats.binom.ppf(0.999, 100, 0.05)
    assert two.count("worse") >= 85  # z is 3.7 at 2,000 examples
    assert five.count("worse") == 100
    assert two.count("better", "equivalent") == 0


def test_clopper_pearson_is_that_of_scipy() -> None:
    for count, n in ((0, 10), (3, 10), (10, 10), (7, 200)):
        exact = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
        assert clopper_pearson(count, n) == pytest.approx((exact.low, exact.high))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "one_comparison", lambda number, _settings: rounds(number))
    monkeypatch.setattr(selftest, "SIMULATED", 20)


def test_the_command_prints_rates(made_up: None, steelyard: Any) -> None:
    ran = steelyard("doctor", "--self-test", "--budget", "0.01s")
    assert ran.status == 0
    assert "none (A/A)" in ran.out
    assert "comparison(s) in" in ran.out
    told = json.loads(steelyard("doctor", "--self-test", "--budget", "0.01s", "--json").out)
    nothing, two, five = told["times"]
    assert five["outcomes"]["slower"]["count"] == five["n"]
    assert two["injected"] == 0.02
    assert nothing["n"] >= 1


def test_a_machine_with_too_many_false_alarms_fails(monkeypatch: pytest.MonkeyPatch, steelyard: Any) -> None:
    from steelyard.cli import selftest as command

    wrong = selftest.Tally(injected=0.0, outcomes=("slower",) * 3 + ("equivalent",) * 7, seconds=(20.0,) * 10)
    right = selftest.Tally(injected=0.05, outcomes=("slower",) * 10, seconds=(20.0,) * 10)
    drops = (selftest.Tally(injected=0.02, outcomes=("worse",) * 10),)
    found = selftest.SelfTest(times=(wrong, right), drops=drops, wall_s=200.0, flagged=3, rounds=120)
    monkeypatch.setattr(command, "self_test", lambda *_: found)
    ran = steelyard("doctor", "--self-test")
    assert ran.status == 1
    assert "3 of 120 rounds flagged" in ran.out
    assert "not to be trusted now" in ran.out
