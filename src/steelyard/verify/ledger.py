"""Which training techniques pay: costs from steps that took turns, quality and steps to the target from whole trainings.

A training's time is seconds a step times steps. Seconds of steps compare to a per cent where they take turns; whole
trainings, minutes apart on a shared machine, do not. So the ratio of times is the ratio of turns, times the ratio of
examples that the trainings took, seed by seed. Every technique is asked two things, whether it costs less and whether
quality holds, and must pass both; the intervals of m techniques are at 1 - 0.05 / m, so that all hold together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.turns import log_ratios
from steelyard.records import (
    Comparison,
    Estimate,
    Ledger,
    LedgerRow,
    LedgerTurns,
    Predictions,
    Sample,
    TrainingRun,
    Unavailable,
)
from steelyard.stats.crossed import crossed_mean_interval
from steelyard.stats.draws import contrast_interval, product_ratio_interval
from steelyard.stats.paired import log_ratio_interval
from steelyard.verify.judge import control_ratio

__all__ = ["BASELINE", "Evidence", "control_of", "drop_between", "examples_to", "ledger_rows"]

BASELINE = "baseline"
Floats = NDArray[np.float64]
Found = Estimate | Unavailable
Ends = tuple[float, float, float]
Outcome = Literal["pays", "does not pay", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was read: trainings by technique and seed, and the turns."""

    ledger: Ledger
    trained: Mapping[tuple[str, int], TrainingRun]  # by technique and seed
    refused: Mapping[tuple[str, int], str]  # why there is none
    turns: Sequence[LedgerTurns]

    def runs(self, technique: str) -> dict[int, TrainingRun]:
        """The trainings of a technique that ran to their end, by seed."""
        return {
            seed: run for (name, seed), run in self.trained.items() if name == technique and run.ended != "diverged"
        }

    def of_turns(self, technique: str) -> Comparison | None:
        """The comparison that a technique's steps took part in."""
        return next((t.comparison for t in self.turns if technique in t.comparison.arms), None)


def ledger_rows(evidence: Evidence, techniques: Sequence[str], alpha: float = 0.05) -> tuple[LedgerRow, ...]:
    """One row a technique, each judged by what the ledger was asked to save."""
    level = 1 - alpha / max(1, len(techniques))
    return tuple(_judged(evidence, _row(evidence, name, level)) for name in techniques)


def control_of(turns: Sequence[LedgerTurns]) -> tuple[Found, bool]:
    """The worst A/A control among the turns, and whether one found a difference that is not there."""
    found = [control_ratio(t.comparison, 1) for t in turns]
    if not found:
        return Unavailable(quantity="control", reason="no steps took turns"), False
    return max(found, key=lambda pair: (pair[1], abs(math.log(pair[0].value))))


# --- one technique -----------------------------------------------------------------------------------


def _row(evidence: Evidence, technique: str, level: float) -> LedgerRow:
    runs, before = evidence.runs(technique), evidence.runs(BASELINE)
    seeds = [seed for seed in evidence.ledger.seeds if seed in runs and seed in before]
    steps, widen = _steps(evidence, technique)
    both = (steps, _examples(evidence, technique, seeds))
    return LedgerRow(
        technique=technique,
        step=_product("step_ratio", (steps, np.zeros(1)), level, widen),
        training=_product("training_ratio", both, level, widen),
        memory=_memory(evidence, technique, level),
        energy=_energy(evidence, technique, seeds, both, level, widen),
        drop=drop_between({s: before[s] for s in seeds}, {s: runs[s] for s in seeds}, "validation", level),
        reached=_reached(evidence, technique),
    )  # fmt: skip


def _steps(evidence: Evidence, technique: str) -> tuple[Floats | Unavailable, float]:
    """Log-ratios of seconds an example, one a round; and how far the control stood from 1 if it alarmed, in logs."""
    refused = next((r for t in evidence.turns for name, r in t.refused if name == technique), None)
    comparison = evidence.of_turns(technique)
    if comparison is None:
        untrained = not evidence.runs(technique) and _no_run(evidence, technique)
        reason = refused.reason if refused is not None else untrained or "its steps did not take turns"
        return Unavailable(quantity="step_ratio", reason=reason), 0.0
    control, alarm = control_ratio(comparison, 1)
    widen = max(abs(math.log(control.low)), abs(math.log(control.high))) if alarm else 0.0
    return log_ratios(comparison, technique), widen


def _examples(evidence: Evidence, technique: str, seeds: Sequence[int]) -> Floats | Unavailable:
    """Log-ratios of the examples that the trainings took, to the target or in all; one a seed."""
    quantity, target = "examples_ratio", evidence.ledger.target
    if not seeds:
        return Unavailable(quantity=quantity, reason=_no_run(evidence, technique))
    taken = []
    for seed in seeds:
        pair = [examples_to(evidence.runs(name)[seed], target) for name in (technique, BASELINE)]
        if None in pair:
            who = technique if pair[0] is None else "the baseline"
            return Unavailable(quantity=quantity, reason=f"{who} did not reach {target:.4g} with seed {seed}")
        taken.append([float(count) for count in pair if count is not None])
    logs: Floats = np.log(np.array(taken)) @ np.array([1.0, -1.0])
    return logs


def examples_to(run: TrainingRun, target: float | None) -> int | None:
    """Training examples until the first epoch whose validation score is at the target; all without one, None if never."""
    if target is None:
        return int(run.examples.sum())
    epochs = np.flatnonzero(run.validation >= target)
    if not len(epochs):
        return None
    return int(run.examples[: (int(epochs[0]) + 1) * run.steps_per_epoch].sum())


def _reached(evidence: Evidence, technique: str) -> tuple[int, int] | None:
    if evidence.ledger.target is None:
        return None
    counts = [examples_to(run, evidence.ledger.target) for run in evidence.runs(technique).values()]
    return sum(count is not None for count in counts), len(counts)


def _product(quantity: str, factors: tuple[Floats | Unavailable, ...], level: float, widen: float) -> Found:
    """The ratio whose log is the sum of independent logs. Where trainings took the same examples, turns alone decide."""
    missing = next((f for f in factors if isinstance(f, Unavailable)), None)
    if missing is not None:
        return Unavailable(quantity=quantity, reason=missing.reason)
    logs = [f for f in factors if isinstance(f, np.ndarray)]
    steps, examples = logs
    if not np.any(examples):
        return _ratio(
            quantity, _widened(log_ratio_interval(steps, level), widen), level, "t on rounds of turns", len(steps)
        )
    ends = _exp(contrast_interval(logs, (1, 1), level))
    return _ratio(quantity, _widened(ends, widen), level, "turns' steps times seeds' examples", len(examples))  # fmt: skip


def _memory(evidence: Evidence, technique: str, level: float) -> Found:
    """Peaks of the processes whose steps took turns."""
    comparison = evidence.of_turns(technique)
    if comparison is None or not comparison.readings:
        return Unavailable(quantity="memory_ratio", reason="its steps did not take turns")
    found = [comparison.readings[arm][0] for arm in (comparison.arms.index(technique), 0)]
    missing = next((r for r in found if isinstance(r, Unavailable)), None)
    if missing is not None:
        return Unavailable(quantity="memory_ratio", reason=missing.reason)
    after, before = (r.values for r in found if isinstance(r, Sample))
    return _ratio(
        "memory_ratio", log_ratio_interval(np.log(after / before), level), level, "t on rounds of turns", len(after)
    )


def _energy(
    evidence: Evidence,
    technique: str,
    seeds: Sequence[int],
    factors: tuple[Floats | Unavailable, ...],
    level: float,
    widen: float,
) -> Found:
    """Ratio of times, times that of powers; draws of a model are shared, so what both do not know cancels."""
    quantity = "energy_ratio"
    missing = next((f for f in factors if isinstance(f, Unavailable)), None)
    if missing is not None or not seeds:
        return Unavailable(
            quantity=quantity, reason=_no_run(evidence, technique) if missing is None else missing.reason
        )
    powers = [_power_w(evidence.trained[name, seeds[0]]) for name in (BASELINE, technique)]
    unread = next((p for p in powers if isinstance(p, Unavailable)), None)
    if unread is not None:
        return Unavailable(quantity=quantity, reason=unread.reason)
    before, after = (p for p in powers if isinstance(p, Sample))
    steps, examples = (f for f in factors if isinstance(f, np.ndarray))
    logs = steps + float(examples.mean())
    shared = before.provenance == after.provenance == "modelled" and len(before.values) == len(after.values)
    ends = product_ratio_interval(logs, before.values, after.values, shared=shared, level=level)
    return _ratio(quantity, _widened(ends, widen), level, f"turns' times and {after.provenance} power", len(logs))


def drop_between(
    before: Mapping[int, TrainingRun], after: Mapping[int, TrainingRun], split: str, level: float
) -> Found:
    """How much of the share that is right is lost on a split, with its interval over seeds and examples at once."""
    pairs = [(_on(before[seed], split), _on(after[seed], split)) for seed in before if seed in after]
    rows = [b.correct.astype(np.float64) - a.correct for b, a in pairs if b is not None and a is not None]
    if not rows or len({len(row) for row in rows}) > 1:
        return Unavailable(quantity="accuracy drop", reason=f"no two trainings of one seed were judged on {split}")
    value, low, high = crossed_mean_interval(np.stack(rows), level)
    return Estimate(
        quantity="accuracy drop", unit="fraction", value=value, low=max(low, -1.0), high=min(high, 1.0), level=level,
        method="t over seeds and examples", n=len(rows),
    )  # fmt: skip


# --- verdict -----------------------------------------------------------------------------------------


def _judged(evidence: Evidence, row: LedgerRow) -> LedgerRow:
    """Pays: costs less for certain, and quality holds for certain. The reason names what decided it."""
    cost = {"time": row.training, "memory": row.memory, "energy": row.energy}[evidence.ledger.pay]
    limit = evidence.ledger.requirement.limit
    outcome, reason = _said(cost, row.drop, evidence.ledger.pay, limit, len(evidence.ledger.seeds))
    return dataclasses.replace(row, outcome=outcome, reason=reason)


def _said(cost: Found, drop: Found, pay: str, limit: float, seeds: int) -> tuple[Outcome, str]:
    missing = next((found for found in (cost, drop) if isinstance(found, Unavailable)), None)
    if missing is not None:
        return "does not pay", missing.reason
    assert isinstance(cost, Estimate)
    assert isinstance(drop, Estimate)
    if drop.low > limit:
        return "does not pay", f"it loses {100 * drop.value:.2g} points of accuracy"
    if cost.low >= 1:
        return "does not pay", f"{pay} does not fall: {cost.value:.3g}x ({cost.low:.3g} to {cost.high:.3g})"
    if cost.high >= 1:
        return (
            "undecided",
            f"{pay} may or may not fall: {cost.low:.3g} to {cost.high:.3g}x; more rounds or seeds would tell",
        )
    falls = f"{pay} falls to {cost.value:.3g}x ({cost.low:.3g} to {cost.high:.3g})"
    if drop.high > limit:
        return (
            "undecided",
            f"{falls}, but a drop of up to {100 * drop.high:.2g} points is not ruled out with {seeds} seeds",
        )
    return "pays", f"{falls}, and accuracy holds"


# --- parts -------------------------------------------------------------------------------------------


def _power_w(run: TrainingRun) -> Sample | Unavailable:
    """Watts of a training: its energy over its time, draw by draw where it is modelled."""
    readings = () if run.watched is None else run.watched.readings
    energy = next((r for r in readings if r.quantity == "energy_j"), None)
    wall = next((r for r in readings if r.quantity == "wall_s"), None)
    if isinstance(energy, Sample) and isinstance(wall, Sample):
        return dataclasses.replace(energy, quantity="power_w", unit="W", values=energy.values / wall.value)
    reason = energy.reason if isinstance(energy, Unavailable) else "the energy of the trainings was not read"
    return Unavailable(quantity="power_w", reason=reason)


def _no_run(evidence: Evidence, technique: str) -> str:
    """Why a technique has no training."""
    reasons = (reason for (name, _), reason in evidence.refused.items() if name == technique)
    diverged = (
        run.note for (name, _), run in evidence.trained.items() if name == technique and run.ended == "diverged"
    )
    return next(reasons, next(diverged, "it was not trained"))


def _on(run: TrainingRun, split: str) -> Predictions | None:
    return next((p for p in run.predictions if p.split == split), None)


def _ratio(quantity: str, ends: Ends, level: float, method: str, n: int) -> Estimate:
    value, low, high = ends
    return Estimate(quantity=quantity, unit="x", value=value, low=low, high=high, level=level, method=method, n=n)


def _widened(ends: Ends, widen: float) -> Ends:
    return ends[0], ends[1] * math.exp(-widen), ends[2] * math.exp(widen)


def _exp(logs: Ends) -> Ends:
    value, low, high = (math.exp(log) if log < 700 else math.inf for log in logs)
    return value, low, high
