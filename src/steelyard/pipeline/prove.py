"""The proof: baseline, control and finalists afresh, on test data that nothing has seen, judged jointly."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steelyard.errors import SteelyardError, StorageFull, WorkerFailed
from steelyard.measure.turns import ArmFailed, Turns, TurnSettings, fitting_slots, log_ratios, take_turns
from steelyard.measure.weigh import predict_split
from steelyard.pipeline.job import Progress, share_done
from steelyard.pipeline.objective import promising
from steelyard.records import (
    Measurement,
    Refusal,
    Run,
    Sample,
    Trial,
    Unavailable,
    Verification,
)
from steelyard.search.attempt import Workshop
from steelyard.search.ordered import gain_of
from steelyard.store import RunFolder
from steelyard.subject.artifact import read_artifact
from steelyard.verify.judge import Case, control_ratio, judge

__all__ = ["FINALISTS", "ROUNDS", "SLOTS", "Cost", "cost_of", "proof_s", "prove"]

FINALISTS = 2
ROUNDS = 10
SLOTS, MOST_SLOTS = 40, 200  # of fast models, at the least and at the most
TIE, TIE_ROUNDS, TIE_ARMS = 1.1, 3, 4  # within this factor of the last finalist: so many rounds, of at most so many
TURN_S = 0.010  # one turn of a fast model, with the rest before it
_PROCESS_S = 0.5  # a fresh process before it loads anything


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
    while passing := promising(baseline, left, run.requirements, run.contract.labels, run.minimise):
        try:
            finalists = _untied(shop, run, baseline, passing, deadline, progress)
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


# --- what the proof costs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one arm costs the proof, in seconds."""

    start_s: float  # a fresh process, until the model is warm
    turn_s: float
    test_s: float  # predicting the test split


def cost_of(measured: Measurement, test_examples: int) -> Cost:
    """From what was read when the model was weighed."""
    (call_s,) = _values(measured, "latency_s", batch=1)
    settings = TurnSettings()
    start_s = _PROCESS_S + sum(_values(measured, "load_s") + _values(measured, "first_prediction_s")) + settings.warm_s
    turn_s = settings.rest_s + call_s + max(settings.slot_s, 3 * call_s)
    each_s = min([call_s, *(1 / s.value for s in measured.all("throughput_per_s"))])
    return Cost(start_s=start_s, turn_s=max(TURN_S, turn_s), test_s=start_s + test_examples * each_s)


def proof_s(arms: Sequence[Cost]) -> float:
    """Seconds that the proof takes at the least. The first arm is the baseline, which stands in it twice."""
    return sum(arm.test_s for arm in arms) + _rounds_s((arms[0], *arms), ROUNDS)


def _rounds_s(arms: Sequence[Cost], rounds: int) -> float:
    """Processes start side by side, so that two cores halve the time at best; turns are taken one by one."""
    pass_s = sum(arm.turn_s for arm in arms)
    return rounds * (sum(arm.start_s for arm in arms) / 2 + fitting_slots(pass_s, SLOTS) * pass_s)


def _values(measured: Measurement, quantity: str, **conditions: float) -> list[float]:
    found = measured.get(quantity, **conditions)
    return [found.value] if isinstance(found, Sample) else []


# --- the finalists ----------------------------------------------------------------------------------------


def _untied(
    shop: Workshop, run: Run, baseline: Measurement, passing: Sequence[Trial], deadline: float, progress: Progress
) -> list[Trial]:
    """The least costly. Near ties in time for the last place get a few more rounds, where the budget has room: one is too noisy."""
    if run.minimise != "latency":
        return list(passing[:FINALISTS])
    tied = [t for t in passing if _gain(t) * TIE >= _gain(passing[:FINALISTS][-1])][:TIE_ARMS]
    costs = [cost_of(m, run.splits["test"]) for m in (baseline, *(t.after for t in tied)) if m is not None]
    room_s = deadline - time.monotonic() - proof_s([*costs[:1], *costs[1 : FINALISTS + 1]])
    if len(tied) <= FINALISTS or room_s < _rounds_s(costs, TIE_ROUNDS):
        return list(passing[:FINALISTS])
    progress(f"breaking a tie between {len(tied)} candidates", None)
    slots = fitting_slots(sum(cost.turn_s for cost in costs), SLOTS)
    turns = _in_turns(shop, {"baseline": shop.baseline}, tied, TurnSettings(rounds=TIE_ROUNDS, slots=slots))
    means = [float(log_ratios(turns.comparison, arm).mean()) for arm in range(1, len(tied) + 1)]
    return [tied[place] for place in np.argsort(means)[:FINALISTS]]


def _gain(trial: Trial) -> float:
    assert trial.comparison is not None
    return gain_of(trial.comparison)


# --- the proof --------------------------------------------------------------------------------------------


def _judged(
    shop: Workshop, run: Run, baseline: Measurement, finalists: Sequence[Trial], deadline: float, progress: Progress
) -> Verification:
    progress("predicting the test split", None)
    measured = [_on_test(baseline, shop.baseline, shop), *(_finalist_on_test(t, shop) for t in finalists)]
    turns = _turns(shop, measured, finalists, run.budget_s, deadline, progress)
    places = (0, *range(2, len(measured) + 1))  # arm 1, the control, is the baseline again
    measured = [_renewed(m, turns.readings[arm]) for m, arm in zip(measured, places, strict=True)]
    control, alarm = control_ratio(turns.comparison, 1)
    widen = max(abs(np.log(control.low)), abs(np.log(control.high))) if alarm else 0.0
    cases = [
        Case(
            before=measured[0],
            after=after,
            comparison=turns.comparison,
            arm=arm,
            widen=float(widen),
            labels=run.contract.labels,
        )
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


def _turns(
    shop: Workshop,
    measured: Sequence[Measurement],
    finalists: Sequence[Trial],
    budget_s: float,
    deadline: float,
    progress: Progress,
) -> Turns:
    """All arms in rounds of fresh processes."""
    costs = [cost_of(m, 0) for m in (measured[0], *measured)]
    settings = _turn_settings(sum(cost.turn_s for cost in costs) / TURN_S, deadline - time.monotonic())
    began = time.monotonic()

    def say(done: int) -> None:
        left_s = (time.monotonic() - began) / done * (settings.rounds - done)
        progress(f"taking turns, round {done} of {settings.rounds}", share_done(left_s, budget_s))

    return _in_turns(shop, {"baseline": shop.baseline, "control": shop.baseline}, finalists, settings, say)


def _in_turns(
    shop: Workshop,
    first: Mapping[str, Path],
    trials: Sequence[Trial],
    settings: TurnSettings,
    on_round: Callable[[int], None] | None = None,
) -> Turns:
    """`first` and the trials' artifacts; the failure of a trial's process is that trial's."""
    arms = {**first, **{str(t.plan): shop.root / str(t.artifact) for t in trials}}
    try:
        return take_turns(arms, shop.inputs, settings, limits=shop.limits, log=shop.log, on_round=on_round)
    except ArmFailed as failed:
        if failed.arm < len(first):
            raise
        raise _FinalistFailed(trials[failed.arm - len(first)], failed) from failed


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


def _turn_settings(arms: float, left_s: float) -> TurnSettings:
    """At least ten rounds; where the budget has more, longer ones. A slow model counts for several `arms`."""
    per_round = left_s / ROUNDS
    pass_s = arms * TURN_S
    slots = int(np.clip(0.5 * per_round / pass_s, fitting_slots(pass_s, SLOTS), MOST_SLOTS))
    return TurnSettings(rounds=ROUNDS, slots=slots - slots % 2)
