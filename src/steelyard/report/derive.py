"""Statistics and choices that every rendering needs, derived from raw records and never stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from steelyard.records import (
    Comparison,
    Estimate,
    Floats,
    Measurement,
    Plan,
    Predictions,
    RunRecords,
    Sample,
    Trial,
    Unavailable,
    Verdict,
    Verification,
)
from steelyard.stats.order import inflation, readings_to_bound, serial_percentile_interval
from steelyard.stats.paired import log_ratio_interval
from steelyard.stats.proportion import tango

__all__ = [
    "BASELINE",
    "Estimates",
    "Pair",
    "accuracy_drop",
    "arm_logs",
    "arm_ratio",
    "compared",
    "exit_status",
    "latency_percentile",
    "leading",
    "needed_readings",
    "plan_ratio",
    "reading",
    "spread",
    "standing",
    "trial_of",
    "trial_ratio",
    "turn_logs",
    "verdicts_of",
]

LEVEL = 0.95
BASELINE = Plan()

Estimates = Mapping[tuple[str, str], tuple[Estimate, ...]]  # (str(plan), split) -> metrics with intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The two measurements that the score table sets side by side."""

    before: Measurement | None
    after: Measurement | None
    plan: Plan  # what `after` was made by; the empty plan where nothing was chosen
    split: str  # the split that quality was judged on
    verified: bool
    ratio: Estimate | None  # latency of `after` over `before`


def arm_logs(comparison: Comparison, arm: int) -> Floats:
    """log(arm / baseline) of each round, ``(rounds,)``: the median over its slots."""
    logs = np.log(comparison.seconds[:, :, arm] / comparison.seconds[:, :, 0])
    return np.asarray([np.median(row[np.isfinite(row)]) for row in logs if np.isfinite(row).any()])


def arm_ratio(comparison: Comparison, arm: int) -> Estimate:
    """Latency of `arm` over the baseline's; the unit of replication is the round.

    A round's reading is the median over its slots of log(arm / baseline). One round alone bounds nothing: its
    interval is (0, infinity).
    """
    readings = arm_logs(comparison, arm)
    value, low, high = log_ratio_interval(readings, LEVEL) if readings.size else (np.nan, 0.0, np.inf)
    return Estimate(
        quantity="latency_ratio",
        unit="ratio",
        value=value,
        low=low,
        high=high,
        level=LEVEL,
        method="t on rounds of fresh processes",
        n=int(readings.size),
    )


def trial_ratio(trial: Trial) -> Estimate | None:
    """Quick latency ratio of a trial (arm 1 against arm 0), where it was weighed."""
    arm = _trial_arm(trial)
    return None if trial.comparison is None or arm is None else arm_ratio(trial.comparison, arm)


def _trial_arm(trial: Trial) -> int | None:
    names = trial.comparison.arms if trial.comparison is not None else ()
    return next((i for i, name in enumerate(names) if i and name != "control"), None)


def plan_ratio(verification: Verification, plan: Plan) -> Estimate:
    """Verified latency ratio of a finalist. Arms are the baseline, the control where there is one, then the plans."""
    return arm_ratio(verification.comparison, _plan_arm(verification, plan))


def _plan_arm(verification: Verification, plan: Plan) -> int:
    first = 2 if "control" in verification.comparison.arms else 1
    return first + verification.plans.index(plan)


def turn_logs(records: RunRecords) -> Floats | None:
    """log(after / before) of each round of the two models that `compared` sets side by side; None where there is one."""
    verification, plan = records.verification, _subject_of(records)
    if verification is not None and plan in verification.plans:
        return arm_logs(verification.comparison, _plan_arm(verification, plan))
    trial = None if plan is None else trial_of(records, plan)
    arm = None if trial is None else _trial_arm(trial)
    return None if trial is None or trial.comparison is None or arm is None else arm_logs(trial.comparison, arm)


def accuracy_drop(before: Predictions | None, after: Predictions | None) -> Estimate | None:
    """Accuracy lost on the same examples (negative is a gain), or None where the two were not predicted alike.

    Tango's paired score interval, which stays open even where no prediction changed.
    """
    if before is None or after is None or before.labels.size != after.labels.size or not before.labels.size:
        return None
    n = int(before.labels.size)
    lost = int(np.sum(before.correct & ~after.correct))
    won = int(np.sum(after.correct & ~before.correct))
    low, high = tango(lost, won, n, LEVEL)
    return Estimate(
        quantity="accuracy_drop",
        unit="fraction",
        value=(lost - won) / n,
        low=low,
        high=high,
        level=LEVEL,
        method="Tango, paired",
        n=n,
    )


def latency_percentile(sample: Sample, q: float) -> Estimate | None:
    """The `q` quantile (0 to 1) of a sample with its order-statistic interval; None where n cannot bound it.

    The readings of one process follow each other, so they count for as many as they are worth (`stats.order`).
    """
    found = serial_percentile_interval(sample.values, q, LEVEL)
    if found is None:
        return None
    value, low, high = found
    return Estimate(
        quantity=f"p{100 * q:g}",
        unit=sample.unit,
        value=value,
        low=low,
        high=high,
        level=LEVEL,
        method="order statistics",
        n=int(sample.values.size),
    )


def needed_readings(sample: Sample, q: float) -> int:
    """Readings that would bound the `q` quantile, where they depend on each other as those of `sample` do."""
    worth = inflation(sample.values, q)
    return readings_to_bound(q, LEVEL, inflated=worth, more_than=len(sample.values))


def spread(sample: Sample) -> tuple[float, float]:
    """The 5 % and 95 % points of Monte Carlo draws."""
    low, high = np.quantile(sample.values, (0.05, 0.95))
    return float(low), float(high)


def standing(records: RunRecords, trial: Trial) -> str:
    """Where a trial stands: ``chosen``, ``finalist``, ``weighed`` or ``refused``."""
    if trial.refusal is not None:
        return "refused"
    if records.outcome is not None and trial.plan == records.outcome.chosen:
        return "chosen"
    if records.verification is not None and trial.plan in records.verification.plans:
        return "finalist"
    return "weighed"


def leading(records: RunRecords) -> Trial | None:
    """The fastest trial weighed so far: a lead, not a verdict."""
    weighed = [(r.value, i) for i, t in enumerate(records.trials) if (r := trial_ratio(t)) is not None]
    return records.trials[min(weighed)[1]] if weighed else None


def compared(records: RunRecords) -> Pair:
    """What to set side by side: the chosen plan on test data, else the lead on validation data, else the baseline."""
    verification = records.verification
    plan = _subject_of(records)
    if verification is not None and plan in verification.plans:
        return Pair(
            before=verification.measurements[0],
            after=verification.measurements[verification.plans.index(plan) + 1],
            plan=plan,
            split="test",
            verified=True,
            ratio=plan_ratio(verification, plan),
        )
    trial = trial_of(records, plan) if plan is not None else None
    if trial is None:
        return _alone(records)
    return Pair(
        before=records.baseline,
        after=trial.after,
        plan=trial.plan,
        split="validation",
        verified=False,
        ratio=trial_ratio(trial),
    )


def verdicts_of(records: RunRecords, plan: Plan) -> tuple[Verdict, ...]:
    """The verdicts on one plan, in the order of the requirements; empty where it was not verified."""
    if records.verification is None or plan not in records.verification.plans:
        return ()
    return records.verification.verdicts[records.verification.plans.index(plan)]


def trial_of(records: RunRecords, plan: Plan) -> Trial | None:
    """The trial that weighed `plan`, if there is one."""
    return next((t for t in records.trials if t.plan == plan and t.refusal is None), None)


def exit_status(records: RunRecords) -> int | None:
    """The exit status that the outcome stands for: 0 met, 3 nothing passed, None where the run has not ended."""
    return None if records.outcome is None else {"met": 0, "nothing-passed": 3}[records.outcome.status]


def reading(measurement: Measurement | None, quantity: str, **conditions: float | str) -> Sample | Unavailable:
    """A reading of a measurement that may itself be missing."""
    if measurement is None:
        return Unavailable(quantity=quantity, reason="not measured in this run", conditions=conditions)
    return measurement.get(quantity, **conditions)


def _subject_of(records: RunRecords) -> Plan | None:
    """The plan that the run is about, if there is one; `verify` is about its plan whether or not that passed."""
    if records.verification is not None and (records.run.command == "verify" or records.outcome is None):
        return records.verification.plans[0]
    if records.outcome is not None:
        return None if records.outcome.chosen == BASELINE else records.outcome.chosen
    lead = leading(records)
    return None if lead is None else lead.plan


def _alone(records: RunRecords) -> Pair:
    verification = records.verification
    before = verification.measurements[0] if verification is not None else records.baseline
    split = "test" if before is not None and before.on("test") is not None else "validation"
    return Pair(before=before, after=None, plan=BASELINE, split=split, verified=verification is not None, ratio=None)
