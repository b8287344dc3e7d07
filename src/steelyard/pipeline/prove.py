"""The proof: baseline, control and finalists afresh, on test data that nothing has seen, judged jointly."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steelyard.errors import SteelyardError, StorageFull, WorkerFailed
from steelyard.measure.turns import ArmFailed, Turns, TurnSettings, log_ratios, take_turns
from steelyard.measure.weigh import predict_split
from steelyard.pipeline.job import Progress, share_done
from steelyard.records import (
    Measurement,
    Refusal,
    Requirement,
    Run,
    Sample,
    Trial,
    Unavailable,
    Verification,
)
from steelyard.search.attempt import Workshop
from steelyard.store import RunFolder
from steelyard.subject.artifact import read_artifact
from steelyard.verify.judge import Case, control_ratio, judge, point

__all__ = ["FINALISTS", "ROUNDS", "SLOTS", "prove"]

FINALISTS = 2
ROUNDS, SLOTS = 10, 12  # at the least


def prove(
    shop: Workshop,
    run: Run,
    baseline: Measurement,
    trials: Sequence[Trial],
    folder: RunFolder,
    deadline: float,
    progress: Progress,
) -> Verification | None:
    """Judge the finalists, or None where no trial promises every requirement.

    A finalist that fails now becomes a refused trial, recorded, and the next best takes its place.
    """
    left = list(trials)
    while finalists := _finalists(baseline, left, run.requirements):
        try:
            return _judged(shop, run, baseline, finalists, deadline, progress)
        except _FinalistFailed as failed:
            refused = dataclasses.replace(failed.trial, after=None, comparison=None, refusal=failed.refusal)
            folder.append(refused)
            left = [refused if t.plan == refused.plan else t for t in left]
    return None


class _FinalistFailed(Exception):
    """One finalist cannot be proved; the others may."""

    def __init__(self, trial: Trial, error: SteelyardError) -> None:
        super().__init__(str(error))
        self.trial = trial
        kind = error.kind if isinstance(error, WorkerFailed) else "error"
        self.refusal = Refusal(kind=kind, reason=f"failed in the verification: {error}")


def _finalists(baseline: Measurement, trials: Sequence[Trial], requirements: Sequence[Requirement]) -> list[Trial]:
    """The fastest trials whose point estimates on validation data promise every requirement."""
    passing = []
    for trial in trials:
        if trial.after is None or trial.comparison is None:
            continue
        case = Case(before=baseline, after=trial.after, comparison=trial.comparison, arm=1, split="validation")
        if all(_promises(case, r) for r in requirements):
            passing.append((float(log_ratios(trial.comparison, 1).mean()), trial))
    return [trial for _, trial in sorted(passing, key=lambda pair: pair[0])][:FINALISTS]


def _promises(case: Case, requirement: Requirement) -> bool:
    value = point(case, requirement)
    if value is None:
        return False
    return value >= requirement.limit if requirement.kind in ("min", "min_ratio") else value <= requirement.limit


def _judged(
    shop: Workshop, run: Run, baseline: Measurement, finalists: Sequence[Trial], deadline: float, progress: Progress
) -> Verification:
    progress("predicting the test split", None)
    measured = [_on_test(baseline, shop.baseline, shop), *(_finalist_on_test(t, shop) for t in finalists)]
    turns = _turns(shop, finalists, run.budget_s, deadline, progress)
    places = (0, *range(2, len(measured) + 1))  # arm 1, the control, is the baseline again
    measured = [_renewed(m, turns.readings[arm]) for m, arm in zip(measured, places, strict=True)]
    control, alarm = control_ratio(turns.comparison, 1)
    widen = max(abs(np.log(control.low)), abs(np.log(control.high))) if alarm else 0.0
    cases = [
        Case(before=measured[0], after=after, comparison=turns.comparison, arm=arm, widen=float(widen))
        for arm, after in enumerate(measured[1:], 2)
    ]
    return Verification(
        plans=tuple(t.plan for t in finalists),
        comparison=turns.comparison,
        measurements=tuple(measured),
        verdicts=judge(cases, run.requirements),
        control=control,
        control_alarm=alarm,
    )


def _turns(shop: Workshop, finalists: Sequence[Trial], budget_s: float, deadline: float, progress: Progress) -> Turns:
    """All arms in rounds of fresh processes."""
    arms = {"baseline": shop.baseline, "control": shop.baseline}
    arms |= {str(t.plan): shop.root / str(t.artifact) for t in finalists}
    settings = _turn_settings(len(arms), deadline - time.monotonic())
    began = time.monotonic()

    def say(done: int) -> None:
        left_s = (time.monotonic() - began) / done * (settings.rounds - done)
        progress(f"taking turns, round {done} of {settings.rounds}", share_done(left_s, budget_s))

    try:
        return take_turns(arms, shop.inputs, settings, limits=shop.limits, log=shop.log, on_round=say)
    except ArmFailed as failed:
        if failed.arm < 2:
            raise
        raise _FinalistFailed(finalists[failed.arm - 2], failed) from failed


def _finalist_on_test(trial: Trial, shop: Workshop) -> Measurement:
    assert trial.after is not None
    try:
        return _on_test(trial.after, shop.root / str(trial.artifact), shop)
    except StorageFull:
        raise
    except SteelyardError as error:
        raise _FinalistFailed(trial, error) from error


def _on_test(measured: Measurement, folder: Path, shop: Workshop) -> Measurement:
    """The measurement with predictions on the test split, made now and by a fresh process."""
    assert shop.data is not None
    artifact = read_artifact(folder)
    made = predict_split(artifact, shop.inputs, shop.data, "test", limits=shop.limits, log=shop.log)
    return dataclasses.replace(measured, predictions=(made,))


def _renewed(measured: Measurement, newer: Sequence[Sample | Unavailable]) -> Measurement:
    """The measurement with some readings taken again, taking turns."""
    replaced = {(r.quantity, *r.conditions.items()) for r in newer}
    kept = [r for r in measured.readings if (r.quantity, *r.conditions.items()) not in replaced]
    return dataclasses.replace(measured, readings=(*newer, *kept))


def _turn_settings(arms: int, left_s: float) -> TurnSettings:
    """At least ten rounds; where the budget has more, longer ones."""
    per_round = left_s / ROUNDS
    slots = int(np.clip(0.5 * per_round / (arms * 0.035), SLOTS, 60))
    return TurnSettings(rounds=ROUNDS, slots=slots - slots % 2)
