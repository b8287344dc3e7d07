"""A finalist that fails while it is proved ends itself, not the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from steelyard.errors import WorkerFailed
from steelyard.measure.turns import ArmFailed
from steelyard.pipeline import prove
from steelyard.pipeline.job import silent
from steelyard.records import Plan, Step, Trial, Verification
from steelyard.store import RunFolder, read_records


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

    def take_turns(arm: int) -> Any:
        def fail(*_arguments: Any, **_named: Any) -> Any:
            raise ArmFailed(arm, WorkerFailed("crash", "it ended"))

        return fail

    monkeypatch.setattr(prove, "take_turns", take_turns(3))
    with pytest.raises(prove._FinalistFailed) as failed:
        prove._turns(_Shop(tmp_path), trials, 10.0, 0.0, silent)
    assert failed.value.trial is trials[1]
    monkeypatch.setattr(prove, "take_turns", take_turns(0))
    with pytest.raises(ArmFailed):
        prove._turns(_Shop(tmp_path), trials, 10.0, 0.0, silent)
