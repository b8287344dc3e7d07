"""The time of a second thing against a first, judged after every round: `steelyard compare` and the self-test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.turns import log_ratios
from steelyard.records import Comparison, Estimate
from steelyard.stats.paired import TimeOutcome, outcome
from steelyard.stats.sequence import FIRST, rounds_until, sequence_interval, t_sequence, widened

__all__ = ["TimeVerdict", "decided_at", "judge_rounds", "more_rounds"]

Floats = NDArray[np.float64]

METHOD = "t confidence sequence on log-ratios of process pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeVerdict:
    """What all rounds so far say. ``ratio`` is second over first, after widening; under 1 the second is faster."""

    outcome: TimeOutcome
    ratio: Estimate
    control: Estimate | None
    alarm: bool  # the control "found" a difference between the first and itself


def judge_rounds(
    comparison: Comparison, arm: int | str, control: int | str | None = None, *, band: float = 0.02, level: float = 0.95
) -> TimeVerdict:
    """The verdict on one arm against the first at the last look.

    Equivalent where the whole interval lies within the band, else faster or slower where it excludes 1, else undecided
    (`steelyard.stats.paired.outcome`). Where the control's own sequence excludes 1, the larger of its ends is added to
    both ends of the arm's, in logs (docs/adr/0005).
    """
    own = None if control is None else _estimate(log_ratios(comparison, control), level, 0.0)
    alarm = own is not None and not own.low <= 1.0 <= own.high
    widen = max(abs(math.log(own.low)), abs(math.log(own.high))) if alarm and own is not None else 0.0
    ratio = _estimate(log_ratios(comparison, arm), level, widen)
    return TimeVerdict(outcome=outcome(ratio.low, ratio.high, band), ratio=ratio, control=own, alarm=alarm)


def decided_at(
    comparison: Comparison, arm: int | str, control: int | str | None = None, *, band: float = 0.02, level: float = 0.95
) -> tuple[TimeOutcome, int]:
    """The verdict of one who stops at the first look that decides, and the rounds it took; undecided after all of them."""
    lows, highs = t_sequence(log_ratios(comparison, arm), level)
    if control is not None:
        lows, highs = widened((lows, highs), t_sequence(log_ratios(comparison, control), level))
    for look in range(FIRST - 1, len(lows)):
        found = outcome(math.exp(lows[look]), math.exp(highs[look]), band)
        if found != "undecided":
            return found, look + 1
    return "undecided", len(lows)


def more_rounds(comparison: Comparison, verdict: TimeVerdict, arm: int | str, *, band: float = 0.02) -> int | None:
    """Rounds still needed if mean and spread stay as seen: until 1 lies outside, or the whole inside the band.

    None where that cannot be told: fewer than two rounds, or a control whose own error is as large as what is sought.
    """
    readings = log_ratios(comparison, arm)
    if len(readings) < 2:
        return None
    mean, spread = abs(float(readings.mean())), float(readings.std(ddof=1))
    widened = 0.0
    if verdict.alarm and verdict.control is not None:
        widened = max(abs(math.log(verdict.control.low)), abs(math.log(verdict.control.high)))
    reach = max(mean, math.log1p(band) - mean) - widened
    needed = rounds_until(spread, reach, verdict.ratio.level)
    return None if needed is None else max(1, needed - len(readings))


def _estimate(readings: Floats, level: float, widen: float) -> Estimate:
    value, low, high = sequence_interval(readings, level)
    return Estimate(
        quantity="latency",
        unit="x",
        value=value,
        low=low * math.exp(-widen),
        high=high * math.exp(widen),
        level=level,
        method=METHOD + (", widened by the A/A control" if widen else ""),
        n=len(readings),
    )
