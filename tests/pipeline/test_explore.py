"""The search on a shop whose candidates are a table: what is skipped and why, what is minimised, and kills at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import scripted_shop as scripted
from steelyard.pipeline import explore
from steelyard.records import Plan, Trial, encode
from steelyard.search.space import plans_for
from steelyard.search.tuner import Neighbours
from steelyard.store import read_records


class _OneByOne(Neighbours):
    """Proposes until so many plans were told of."""

    def propose(self, count: int) -> Sequence[Plan]:
        return super().propose(count) if len(self.told) < 14 else ()


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "proposer_for", _OneByOne)


def _gain(plan: Plan) -> float:
    """Known for every plan of the space; options change it by some per cent."""
    base = {"openvino": 2.0, "nncf_int8": 2.5, "quantize_static": 1.5, "quantize_dynamic": 0.9}
    found = 1.0
    for step in plan.steps:
        found *= base.get(step.name, 1.1) * 1.03 ** len(step.options)
    return found


def _works(plan: Plan) -> dict[str, float]:
    return {"gain": _gain(plan)}


def _reasons(trials: tuple[Trial, ...]) -> dict[str, str]:
    return {str(t.plan): t.refusal.reason for t in trials if t.refusal is not None}


def test_every_named_plan_is_tried_or_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = scripted.searched(tmp_path / "out", monkeypatch, _works)
    named = set(plans_for(scripted.SPACE))
    assert named <= {t.plan for t in trials}
    recorded = read_records(tmp_path / "out").trials
    assert named <= {t.plan for t in recorded}
    assert all(t.refusal is not None or t.comparison is not None for t in recorded)


def test_options_of_what_leads_are_varied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = scripted.searched(tmp_path / "out", monkeypatch, _works)
    others = [t for t in trials if t.plan not in plans_for(scripted.SPACE) and t.comparison is not None]
    assert others
    assert Counter(t.plan.steps[-1].name for t in others).most_common(1)[0][0] == "nncf_int8"
    recorded = {t.plan for t in read_records(tmp_path / "out").trials}
    assert {t.plan for t in others} <= recorded


def test_what_cannot_win_is_skipped_by_its_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(plan: Plan) -> Any:
        low = "dynamic" in str(plan)
        return scripted.foreseen(plan, 1.2 if low else 4.0, ceiling=1.5 if low else 100.0)

    reasons = _reasons(scripted.searched(tmp_path / "out", monkeypatch, _works, predict=predict))
    assert any(reason.startswith("its ceiling of 1.5x lies below") for reason in reasons.values())
    assert all("dynamic" in plan for plan, reason in reasons.items() if "ceiling" in reason)


def test_ceilings_that_were_passed_are_raised_by_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trial is four times as fast as its ceiling allows: then nobody's ceiling is held against them."""
    reasons = _reasons(
        scripted.searched(
            tmp_path / "out", monkeypatch, lambda _: {"gain": 6.0}, predict=lambda p: scripted.foreseen(p, ceiling=1.5)
        )
    )
    assert not any("ceiling" in reason for reason in reasons.values())


def test_the_shortest_hopeless_plan_speaks_for_those_that_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(plan: Plan) -> Any:
        return scripted.foreseen(plan, hopeless="nncf_int8" in str(plan), because="no INT8 here")

    reasons = _reasons(scripted.searched(tmp_path / "out", monkeypatch, _works, predict=predict))
    said = [plan for plan, reason in reasons.items() if "no INT8 here" in reason]
    assert said == ["openvino > nncf_int8"]


def test_without_time_the_first_is_tried_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = scripted.run("accuracy drop <= 1%", budget_s=30.0)
    trials = scripted.searched(
        tmp_path / "out", monkeypatch, lambda p: {**_works(p), "wall_s": 60.0}, began=began, deadline_s=30.0
    )
    assert sum(t.comparison is not None for t in trials) == 1
    recorded = read_records(tmp_path / "out").trials
    assert {t.refusal.kind for t in recorded if t.refusal is not None} == {"budget"}


@pytest.mark.parametrize("minimise", ["latency", "size", "memory"])
def test_what_is_minimised_decides_who_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minimise: str) -> None:
    def gives(plan: Plan) -> dict[str, float]:
        return {
            "gain": 3.0 if plan.steps[0].name == "openvino" else 1.5,
            "size": 1e6 if plan.steps[-1].name == "quantize_static" else 3e6,
            "memory": 5e7 if plan.steps[-1].name == "quantize_dynamic" else 9e7,
        }

    began = scripted.run("accuracy drop <= 1%", minimise=minimise)
    scripted.searched(tmp_path / "out", monkeypatch, gives, began=began)
    records = read_records(tmp_path / "out")
    best = explore.goal_of(records).promising(records.trials)[0]
    expected = {"latency": "openvino", "size": "quantize_static", "memory": "quantize_dynamic"}[minimise]
    assert expected in str(best.plan)


def test_who_breaks_the_requirements_leads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gives(plan: Plan) -> dict[str, float]:
        broken = plan.steps[-1].name == "nncf_int8"
        return {"gain": 9.0 if broken else 2.0, "right": 0.7 if broken else 0.9}

    scripted.searched(tmp_path / "out", monkeypatch, gives)
    records = read_records(tmp_path / "out")
    goal = explore.goal_of(records)
    assert goal.promising(records.trials)
    assert all(t.plan.steps[-1].name != "nncf_int8" for t in goal.promising(records.trials))
    broke = [t for t in records.trials if t.plan.steps[-1].name == "nncf_int8" and t.after and t.after.predictions]
    assert broke
    assert all(not goal.obtained(t).kept for t in broke)  # type: ignore[union-attr]


def test_crashes_end_their_candidates_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = scripted.searched(tmp_path / "out", monkeypatch, lambda p: {} if len(p.steps) == 2 else _works(p))
    kinds = {t.refusal.kind for t in trials if t.refusal is not None}
    assert "crash" in kinds
    assert any(t.after is not None for t in trials)


# --- kill -9 at any moment ---------------------------------------------------------------------------------


def _lines(out: Path) -> list[str]:
    path = out / "records.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def _attempts(out: Path) -> list[str]:
    path = out.with_suffix(".attempts")
    return path.read_text().splitlines() if path.exists() else []


def _killed(out: Path, monkeypatch: pytest.MonkeyPatch, begun: int, after_s: float) -> bool:
    """Search in a process of its own, and kill it some time after it began so many candidates; whether it had ended before."""
    before = len(_attempts(out))
    pid = os.fork()
    if pid == 0:
        try:
            scripted.searched(out, monkeypatch, _works, takes_s=0.003)
        finally:
            os._exit(0)
    while len(_attempts(out)) < before + begun and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(after_s)
    try:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return True  # it was waited for above
    return os.WIFEXITED(status)


def test_kill_9_at_any_moment_loses_at_most_the_candidate_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, chance, kills = tmp_path / "out", random.Random(0), 0
    while not _killed(out, monkeypatch, chance.randrange(5), chance.uniform(0, 0.02)):
        kills += 1
        assert kills < 100
        if chance.random() < 0.3 and _lines(out):  # a kill in the middle of a write
            with (out / "records.jsonl").open("a") as file:
                file.write('{"schema":2,"record":{"type":"Tri')
    assert kills >= 3
    records = read_records(out)
    assert set(plans_for(scripted.SPACE)) <= {t.plan for t in records.trials}
    tried = Counter(_attempts(out))
    recorded = Counter(str(t.plan) for t in records.trials if t.comparison is not None)
    assert set(recorded) <= set(tried)
    assert sum(tried.values()) - sum(recorded.values()) <= kills  # each kill cost one candidate at the most
    done = [encode(t) for t in records.trials if t.comparison is not None]
    assert Counter(line for line in _lines(out) if line in done) == Counter(done)  # none was done twice
