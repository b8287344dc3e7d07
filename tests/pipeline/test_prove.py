"""What the proof costs, who comes into it, and that a finalist that fails ends itself, not the run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steelyard.errors import WorkerFailed
from steelyard.measure.turns import ArmFailed, TurnSettings
from steelyard.pipeline import explore, objective, optimize, prove
from steelyard.pipeline.job import silent
from steelyard.pipeline.optimize import _stands
from steelyard.records import Comparison, Measurement, Plan, Sample, Step, Trial, Verdict, Verification
from steelyard.store import RunFolder, read_records
from steelyard.verify.requirements import parse_requirement


class _Shop:
    """As much of a workshop as the calls below look at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.baseline = root / "baseline"
        self.inputs = root / "inputs.npy"
        self.limits = self.log = None


def _trials(records: Any) -> list[Trial]:
    """The weighed trial, and a copy of it under another plan that is just as good."""
    (weighed,) = (t for t in records.trials if t.after is not None)
    other = dataclasses.replace(weighed, plan=Plan(steps=(Step(name="export"),)))
    return [weighed, other]


@pytest.mark.parametrize("kind", ["crash", "timeout", "out-of-memory"])
def test_a_failing_finalist_is_refused_and_the_rest_are_proved(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    records = finished.result.records
    trials = _trials(records)
    proved: list[list[Trial]] = []

    def judged(_shop: Any, _run: Any, _baseline: Any, finalists: list[Trial], *_rest: Any) -> Verification:
        proved.append(list(finalists))
        if len(proved) == 1:
            raise prove._FinalistFailed(finalists[0], WorkerFailed(kind, "it ended"))
        return records.verification

    monkeypatch.setattr(prove, "_judged", judged)
    with RunFolder(tmp_path / "out") as folder:
        folder.append(records.run)
        found = prove.prove(_Shop(tmp_path), records.run, records.baseline, trials, folder, 0.0, silent)
    assert found is records.verification
    assert len(proved[0]) == 2
    assert proved[1] == [t for t in trials if t.plan != proved[0][0].plan]
    (refused,) = read_records(tmp_path / "out").trials
    assert refused.plan == proved[0][0].plan
    assert refused.refusal.kind == kind
    assert refused.refusal.reason == "failed in the verification: it ended"


def test_none_is_left_when_all_fail(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = finished.result.records

    def judged(_shop: Any, _run: Any, _baseline: Any, finalists: list[Trial], *_rest: Any) -> Verification:
        raise prove._FinalistFailed(finalists[0], WorkerFailed("crash", "it ended"))

    monkeypatch.setattr(prove, "_judged", judged)
    with RunFolder(tmp_path / "out") as folder:
        folder.append(records.run)
        shop = _Shop(tmp_path)
        assert prove.prove(shop, records.run, records.baseline, _trials(records), folder, 0.0, silent) is None
    assert all(t.refusal is not None for t in read_records(tmp_path / "out").trials)


def test_the_arm_that_failed_is_blamed_and_the_baseline_is_no_finalist(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = _trials(finished.result.records)
    measured = [finished.result.records.baseline] * 3

    def take_turns(arm: int) -> Any:
        def fail(*_arguments: Any, **_named: Any) -> Any:
            raise ArmFailed(arm, WorkerFailed("crash", "it ended"))

        return fail

    monkeypatch.setattr(prove, "take_turns", take_turns(3))
    with pytest.raises(prove._FinalistFailed) as failed:
        prove._turns(_Shop(tmp_path), measured, trials, 10.0, 0.0, silent)
    assert failed.value.trial is trials[1]
    monkeypatch.setattr(prove, "take_turns", take_turns(0))
    with pytest.raises(ArmFailed):
        prove._turns(_Shop(tmp_path), measured, trials, 10.0, 0.0, silent)


# --- what the proof costs ------------------------------------------------------------------------------


def _measured(records: Any, **readings: float) -> Measurement:
    """The run's baseline with other readings."""
    conditions: Mapping[str, Mapping[str, int]] = {"latency_s": {"batch": 1}, "throughput_per_s": {"batch": 32}}
    samples = [
        Sample(quantity=name, unit="", values=np.array([value]), conditions=conditions.get(name, {}))
        for name, value in readings.items()
    ]
    return dataclasses.replace(records.baseline, readings=tuple(samples))


def test_the_cost_of_an_arm_is_read_from_its_weighing(finished: Any) -> None:
    slow = _measured(finished.result.records, latency_s=0.05, load_s=2.0, first_prediction_s=0.5, throughput_per_s=40.0)
    cost = prove.cost_of(slow, 1000)
    warm_s = TurnSettings().warm_s
    assert cost.start_s == pytest.approx(0.5 + 2.0 + 0.5 + warm_s)
    assert cost.turn_s == pytest.approx(0.004 + 4 * 0.05)  # three timed calls and one before them
    assert cost.test_s == pytest.approx(cost.start_s + 1000 / 40)
    quick = prove.cost_of(_measured(finished.result.records, latency_s=1e-4, load_s=0.1), 1000)
    assert quick.turn_s == prove.TURN_S
    assert quick.test_s == pytest.approx(quick.start_s + 1000 * 1e-4)  # no throughput was read: one at a time


def test_the_proof_has_the_baseline_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "ROUNDS", 10)
    baseline = prove.Cost(start_s=4.0, turn_s=0.2, test_s=10.0)
    finalist = prove.Cost(start_s=1.0, turn_s=0.05, test_s=3.0)
    rounds = 10 * ((2 * 4.0 + 1.0) / 2 + 12 * (2 * 0.2 + 0.05))  # slow models: 12 slots, not 40
    assert prove.proof_s([baseline, finalist]) == pytest.approx(10.0 + 3.0 + rounds)


# --- who comes into it -------------------------------------------------------------------------------------


def _rivals(records: Any, ratios: Mapping[str, float]) -> list[Trial]:
    """Copies of the weighed trial under other names, with given times over the baseline's, fastest first."""
    (weighed,) = (t for t in records.trials if t.after is not None)
    made = []
    for name, ratio in ratios.items():
        seconds = np.full((1, 4, 2), [1.0, ratio])
        comparison = Comparison(arms=("baseline", name), batch=1, seconds=seconds, order=np.zeros((1, 4, 2), np.int32))
        made.append(dataclasses.replace(weighed, plan=Plan(steps=(Step(name=name),)), comparison=comparison))
    return made


def _names(trials: list[Trial]) -> list[str]:
    return [str(t.plan) for t in trials]


def test_the_fastest_that_promise_come_first(finished: Any) -> None:
    records = finished.result.records
    trials = _rivals(records, {"slow": 0.9, "quick": 0.2, "middling": 0.5, "unweighed": 0.1})
    trials[3] = dataclasses.replace(trials[3], after=None)
    found = objective.promising(records.baseline, trials, records.run.requirements)
    assert _names(found) == ["quick", "middling", "slow"]


def test_a_candidate_contends_unless_it_is_clearly_slower_than_the_last_finalist(finished: Any) -> None:
    goal = objective.goal_of(finished.result.records)
    best = _rivals(finished.result.records, {"first": 0.2, "second": 0.4})
    near, far = _rivals(finished.result.records, {"near": 0.45, "far": 0.6})
    assert explore._contends(goal, best)(near.after, near.comparison)
    assert not explore._contends(goal, best)(far.after, far.comparison)
    assert explore._contends(goal, best[:1])(far.after, far.comparison)  # there is room for a second


def _untied(
    finished: Any, monkeypatch: pytest.MonkeyPatch, left_s: float, again: Mapping[str, float]
) -> tuple[list[str], list[str]]:
    """Finalists out of four, three of them near ties; `again` are their ratios in the rounds that break the tie."""
    taken: list[str] = []

    def turns(arms: Mapping[str, Path], _inputs: Path, settings: TurnSettings, **_: Any) -> Any:
        taken.extend(arms)
        row = [1.0, *(again[name] for name in list(arms)[1:])]
        seconds = np.full((settings.rounds, 4, len(arms)), row)
        order = np.zeros(seconds.shape, np.int32)
        return SimpleNamespace(comparison=Comparison(arms=tuple(arms), batch=1, seconds=seconds, order=order))

    monkeypatch.setattr(prove, "take_turns", turns)
    records = finished.result.records
    passing = _rivals(records, {"a": 0.200, "b": 0.205, "c": 0.210, "d": 0.4})
    found = prove._untied(_Shop(Path()), records.run, records.baseline, passing, time.monotonic() + left_s, silent)
    return _names(found), taken


def test_near_ties_get_more_rounds_where_there_is_time(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found, taken = _untied(finished, monkeypatch, 1e6, {"a": 0.22, "b": 0.20, "c": 0.19})
    assert found == ["c", "b"]
    assert taken == ["baseline", "a", "b", "c"]


def test_without_time_one_round_decides(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _untied(finished, monkeypatch, 1.0, {}) == (["a", "b"], [])


# --- the outcome -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("require", "slower", "steps"),
    [("accuracy drop <= 50%", 1.5, 0), ("accuracy drop <= 50%", 0.5, 1), ("size <= 0.9999x", 1.5, 1)],
    ids=["a slower one for nothing", "a faster one", "a slower one for its size"],
)
def test_a_slower_candidate_is_chosen_only_for_what_the_baseline_lacks(
    finished: Any, monkeypatch: pytest.MonkeyPatch, require: str, slower: float, steps: int
) -> None:
    monkeypatch.setattr(optimize, "_stands", _stands)  # which short runs do without
    records = finished.result.records
    requirement = parse_requirement(require)
    proof = records.verification
    seconds = proof.comparison.seconds.copy()
    seconds[:, :, 2] = slower * seconds[:, :, 0]
    met = Verdict(requirement=requirement, outcome="met", estimate=None)
    proof = dataclasses.replace(
        proof,
        plans=proof.plans[:1],
        verdicts=((met,),),
        comparison=dataclasses.replace(proof.comparison, seconds=seconds),
    )
    run = dataclasses.replace(records.run, requirements=(requirement,))
    outcome = optimize._decide(run, records.trials, proof, 0.0)
    assert outcome.status == "met"
    assert len(outcome.chosen.steps) == steps * len(proof.plans[0].steps)
