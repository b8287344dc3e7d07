"""Requirements against raw readings: an interval for each, and verdicts that hold jointly.

Every claim is judged by one interval: met if the whole of it lies on the good side of the limit, broken if the whole
lies on the bad side, undecided otherwise. The level of each interval comes from Holm over all claims of the family, so
what is printed as met or broken is wrong in at most 5 % of runs, all claims together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.turns import log_ratios
from steelyard.metrics.examples import Examples, from_predictions
from steelyard.metrics.slices import gap
from steelyard.metrics.table import Metric, drop, drop_estimate, estimate, evidence, find, pair, quality
from steelyard.records import (
    Comparison,
    Estimate,
    Measurement,
    Predictions,
    Requirement,
    Sample,
    Unavailable,
    Verdict,
)
from steelyard.stats.multiple import holm
from steelyard.stats.order import inflation, serial_percentile_interval
from steelyard.stats.paired import log_ratio_interval, rounds_needed
from steelyard.stats.unpaired import contrast
from steelyard.verify.energy import energy_limit, energy_ratio

__all__ = ["Case", "control_ratio", "judge", "point"]

Interval = Callable[[float], Estimate]  # level -> estimate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One candidate against the baseline: what was read of both, and their times taking turns.

    Without a comparison the two never ran together, and their processes are compared as two independent samples.
    """

    before: Measurement
    after: Measurement
    comparison: Comparison | None = None
    arm: int = 0
    split: str = "test"
    widen: float = 0.0  # in log-ratio: what the A/A control found, added to every interval of a time
    labels: tuple[str, ...] = ()  # class names, for requirements that name one


def control_ratio(comparison: Comparison, arm: int, level: float = 0.95) -> tuple[Estimate, bool]:
    """The A/A control's ratio, and whether it "found" a difference between the baseline and itself."""
    readings = log_ratios(comparison, arm)
    value, low, high = log_ratio_interval(readings, level)
    found = _ratio_estimate("latency", value, low, high, level, len(readings), 0.0)
    return found, not low <= 1.0 <= high


def judge(
    cases: Sequence[Case], requirements: Sequence[Requirement], *, alpha: float = 0.05
) -> tuple[tuple[Verdict, ...], ...]:
    """One row of verdicts per case, one per requirement, under Holm over all that are uncertain."""
    intervals = [[_interval(case, r) for r in requirements] for case in cases]
    family: list[tuple[int, int, float]] = []
    for i, row in enumerate(intervals):
        for j, interval in enumerate(row):
            if not isinstance(interval, Unavailable) and not _exact(interval):
                family.append((i, j, _p_value(interval, requirements[j].limit)))
    claims = holm([p for _, _, p in family], alpha) if family else ()
    decided = {(i, j): (p, claim) for (i, j, p), claim in zip(family, claims, strict=True)}
    rows = []
    for i, case in enumerate(cases):
        row_verdicts = []
        for j, requirement in enumerate(requirements):
            interval = intervals[i][j]
            p, claim = decided.get((i, j), (None, None))
            level = 0.95 if claim is None else 1 - claim.alpha
            row_verdicts.append(_verdict(case, requirement, interval, level, p, claim is None or claim.rejected))
        rows.append(tuple(row_verdicts))
    return tuple(rows)


def point(case: Case, requirement: Requirement) -> float | None:
    """The point estimate that `requirement` is about, or None where it was not read."""
    interval = _interval(case, requirement)
    return None if isinstance(interval, Unavailable) else interval(0.95).value


def _verdict(
    case: Case,
    requirement: Requirement,
    interval: Interval | Unavailable,
    level: float,
    p_value: float | None,
    rejected: bool,
) -> Verdict:
    if isinstance(interval, Unavailable):
        return Verdict(requirement=requirement, outcome="unavailable", estimate=None, advice=interval.reason)
    found = interval(level)
    good = _good(requirement, found)
    if rejected and good is not None:
        return Verdict(requirement=requirement, outcome="met" if good else "broken", estimate=found, p_value=p_value)
    advice = _advice(case, requirement, found, level)
    return Verdict(requirement=requirement, outcome="undecided", estimate=found, p_value=p_value, advice=advice)


def _good(requirement: Requirement, found: Estimate) -> bool | None:
    """True or False where the whole interval lies on one side of the limit, else None."""
    at_most = requirement.kind in ("max", "max_ratio", "max_drop")
    low, high = (found.low, found.high) if at_most else (-found.high, -found.low)
    limit = requirement.limit if at_most else -requirement.limit
    if high <= limit:
        return True
    return False if low > limit else None


def _exact(interval: Interval) -> bool:
    found = interval(0.95)
    return found.low == found.value == found.high


def _p_value(interval: Interval, limit: float) -> float:
    """Two-sided p of "the truth is exactly at the limit": one minus the level at which the interval just reaches it."""
    low, high = -12.0, 0.0  # bisection on log10(p)
    for _ in range(30):
        middle = (low + high) / 2
        found = interval(1 - 10**middle)
        if found.low <= limit <= found.high:
            low = middle
        else:
            high = middle
    return float(10**high)


# --- the interval of each quantity ---------------------------------------------------------------------


def _interval(case: Case, requirement: Requirement) -> Interval | Unavailable:
    if quality(requirement.quantity) is not None:
        return _quality(case, requirement)
    if requirement.quantity == "latency" or requirement.quantity.startswith("p"):
        return _latency(case, requirement)
    if requirement.quantity == "size":
        return _size(case, requirement)
    if requirement.quantity == "energy":
        return _energy(case, requirement)
    if requirement.quantity == "memory":
        return _memory(case, requirement)
    return _throughput(case, requirement)


def _quality(case: Case, requirement: Requirement) -> Interval | Unavailable:
    name = requirement.quantity
    before, after = case.before.on(case.split), case.after.on(case.split)
    if before is None or after is None:
        return Unavailable(quantity=name, reason="no labelled data was given")
    first, second = (from_predictions(made, case.labels) for made in (before, after))
    metric = find(name, second.task, second.classes)
    if requirement.kind == "max_drop" and not _same_examples(before, after):
        return _unpaired_drop(first, second, metric)
    if requirement.kind == "max_drop":
        both = pair(first, second, [metric])
        return _known(lambda level: drop_estimate(both, metric, level))
    of = evidence(second, [metric])
    return _known(lambda level: estimate(of, metric, level))


def _same_examples(before: Predictions, after: Predictions) -> bool:
    return np.array_equal(before.labels, after.labels)


def _unpaired_drop(first: Examples, second: Examples, metric: Metric) -> Interval | Unavailable:
    """Two models on examples of their own: the intervals of the two add up (see `metrics.slices.gap`)."""
    sides = [evidence(examples, [metric]) for examples in (first, second)]
    missing = next((e for e in (estimate(side, metric) for side in sides) if isinstance(e, Unavailable)), None)
    if missing is not None:
        return missing

    def interval(level: float) -> Estimate:
        found = gap(sides[1], sides[0], metric, level)
        return dataclasses.replace(found, quantity=f"{metric.name}_drop", method=f"unpaired, {found.method}")

    return _cached(interval)


def _known(ask: Callable[[float], Estimate | Unavailable]) -> Interval | Unavailable:
    """Whether a metric is defined does not depend on the level, so it is asked once."""
    first = ask(0.95)
    if isinstance(first, Unavailable):
        return first

    def interval(level: float) -> Estimate:
        found = ask(level)
        assert isinstance(found, Estimate)
        return found

    return _cached(interval)


def _latency(case: Case, requirement: Requirement) -> Interval | Unavailable:
    name = requirement.quantity
    q = 0.5 if name == "latency" else float(name[1:]) / 100
    if requirement.kind == "max_ratio":
        return _latency_ratio(case, name, q)
    after = case.after.get("latency_s", batch=1)
    if isinstance(after, Unavailable):
        return after
    if q == 0.5 and after.blocks is not None:
        return _log_interval(name, np.log(_by_block(after, q)), case.widen, ratio=False)
    values = after.values
    worth = inflation(values, q)
    if serial_percentile_interval(values, q, 0.95, inflated=worth) is None:
        said = f", worth {len(values) / worth:.0f} that do not follow each other," if worth > 1 else ""
        reason = f"{len(values)} calls{said} cannot bound {name}: give more time with --budget"
        return Unavailable(quantity=name, reason=reason)
    return _cached(lambda level: _percentile(name, values, q, level, case.widen, worth))


def _latency_ratio(case: Case, name: str, q: float) -> Interval | Unavailable:
    """For the median the readings of the turns; for a tail each round's percentile, process against process."""
    if name == "latency" and case.comparison is not None:
        return _log_interval(name, log_ratios(case.comparison, case.arm), case.widen, ratio=True)
    before, after = (m.get("latency_s", batch=1) for m in (case.before, case.after))
    if isinstance(before, Unavailable) or isinstance(after, Unavailable):
        return Unavailable(quantity=name, reason="latency was not read for both")
    if case.comparison is None:
        return _unpaired_latency(name, _by_block(before, q), _by_block(after, q), case.widen)
    logs = np.log(_by_block(after, q)) - np.log(_by_block(before, q))
    return _log_interval(name, logs, case.widen, ratio=True)


def _unpaired_latency(
    name: str, before: NDArray[np.float64], after: NDArray[np.float64], widen: float
) -> Interval | Unavailable:
    if min(len(before), len(after)) < 2:
        side = "baseline" if len(before) < 2 else "candidate"
        reason = f"only one process of the {side} was timed, which says nothing of the spread between processes"
        return Unavailable(quantity=name, reason=reason)
    return _unpaired(name, before, after, widen)


def _unpaired(name: str, before: NDArray[np.float64], after: NDArray[np.float64], widen: float = 0.0) -> Interval:
    """A ratio of two sets of processes that never ran together."""
    of = contrast(np.log(before), np.log(after))
    method = "Welch's t on logs of processes, unpaired"
    count = len(before) + len(after)
    return lambda level: dataclasses.replace(
        _ratio_estimate(name, *of.ratio(level), level, count, widen), method=method
    )


def _percentile(
    name: str, values: NDArray[np.float64], q: float, level: float, widen: float, inflated: float
) -> Estimate:
    """Calls of one process follow each other, so they count for as many as they are worth (`stats.order`)."""
    found = serial_percentile_interval(values, q, level, inflated=inflated)
    value, low, high = found or (float(np.quantile(values, q)), 0.0, math.inf)
    return Estimate(
        quantity=name,
        unit="s",
        value=value,
        low=low * math.exp(-widen),
        high=high * math.exp(widen),
        level=level,
        method="order statistics",
        n=len(values),
    )


def _by_block(sample: Sample, q: float) -> NDArray[np.float64]:
    """The q-quantile of each process."""
    if sample.blocks is None:
        return np.array([np.quantile(sample.values, q)])
    return np.array([np.quantile(sample.values[sample.blocks == b], q) for b in np.unique(sample.blocks)])


def _log_interval(name: str, logs: NDArray[np.float64], widen: float, *, ratio: bool) -> Interval:
    def interval(level: float) -> Estimate:
        found = _ratio_estimate(name, *log_ratio_interval(logs, level), level, len(logs), widen)
        return found if ratio else dataclasses.replace(found, unit="s", method="t on log of process medians")

    return interval


def _ratio_estimate(name: str, value: float, low: float, high: float, level: float, n: int, widen: float) -> Estimate:
    method = "t on log-ratios of process pairs" + (", widened by the A/A control" if widen else "")
    return Estimate(
        quantity=name,
        unit="x",
        value=value,
        low=low * math.exp(-widen),
        high=high * math.exp(widen),
        level=level,
        method=method,
        n=n,
    )


def _size(case: Case, requirement: Requirement) -> Interval | Unavailable:
    after, before = case.after.get("stored_bytes"), case.before.get("stored_bytes")
    if isinstance(after, Unavailable) or isinstance(before, Unavailable):
        return Unavailable(quantity="size", reason="the stored size was not read")
    return _constant(requirement, before.value, after.value, "byte")


def _memory(case: Case, requirement: Requirement) -> Interval | Unavailable:
    before, after = (m.get("memory_running_bytes") for m in (case.before, case.after))
    if isinstance(before, Unavailable) or isinstance(after, Unavailable):
        return Unavailable(quantity="memory", reason="peak memory was not read")
    paired = case.comparison is not None
    if min(len(before.values), len(after.values)) < 2 or (paired and len(after.values) != len(before.values)):
        return _constant(requirement, before.value, after.value, "byte")
    if requirement.kind == "max_ratio" and not paired:
        return _unpaired("memory", before.values, after.values)
    if requirement.kind == "max_ratio":
        return _log_interval("memory", np.log(after.values / before.values), 0.0, ratio=True)
    logs = np.log(after.values)
    unit = "byte"
    method = "t on log of process peaks"
    return lambda level: dataclasses.replace(
        _log_interval("memory", logs, 0.0, ratio=True)(level), unit=unit, method=method
    )


def _energy(case: Case, requirement: Requirement) -> Interval | Unavailable:
    if requirement.kind == "max":
        return energy_limit(case.after)
    logs = None if case.comparison is None else log_ratios(case.comparison, case.arm)
    found = energy_ratio(case.before, case.after, logs, case.widen)
    return found if isinstance(found, Unavailable) else _cached(found)


def _throughput(case: Case, requirement: Requirement) -> Interval | Unavailable:
    best = [max(m.all("throughput_per_s"), key=lambda s: s.value, default=None) for m in (case.before, case.after)]
    before, after = best
    if before is None or after is None:
        return Unavailable(quantity="throughput", reason="no throughput was read")
    if requirement.kind == "min":
        return _cached(lambda level: _rate(after, level, _median_rate(after, level), "1/s"))
    return _cached(lambda level: _rate(after, level, _rate_ratio(before, after, level), "x"))


def _median_rate(sample: Sample, level: float) -> tuple[float, float, float]:
    return serial_percentile_interval(sample.values, 0.5, level) or (sample.value, 0.0, math.inf)


def _rate_ratio(before: Sample, after: Sample, level: float) -> tuple[float, float, float]:
    """Ratio of medians; each gets half of the error, so that both hold together at `level` (Bonferroni)."""
    half = (1 + level) / 2
    (b, b_low, b_high), (a, a_low, a_high) = _median_rate(before, half), _median_rate(after, half)
    return a / b, a_low / b_high, a_high / b_low if b_low > 0 else math.inf


def _rate(sample: Sample, level: float, found: tuple[float, float, float], unit: str) -> Estimate:
    value, low, high = found
    batch = sample.conditions.get("batch")
    return Estimate(
        quantity="throughput",
        unit=unit,
        value=value,
        low=low,
        high=high,
        level=level,
        method=f"order statistics at batch {batch}",
        n=len(sample.values),
    )


def _constant(requirement: Requirement, before: float, after: float, unit: str) -> Interval:
    value, shown = (after / before, "x") if requirement.kind == "max_ratio" else (after, unit)
    return lambda level: Estimate(
        quantity=requirement.quantity,
        unit=shown,
        value=value,
        low=value,
        high=value,
        level=level,
        method="counted",
        n=1,
    )


def _cached(interval: Interval) -> Interval:
    """Bootstraps are asked for the same level more than once."""
    known: dict[float, Estimate] = {}

    def asked(level: float) -> Estimate:
        if level not in known:
            known[level] = interval(level)
        return known[level]

    return asked


# --- what would decide -----------------------------------------------------------------------------------


def _advice(case: Case, requirement: Requirement, found: Estimate, level: float) -> str:
    if requirement.kind == "max_drop":
        before, after = case.before.on(case.split), case.after.on(case.split)
        assert before is not None
        assert after is not None
        if not _same_examples(before, after):
            return "the two were judged on other examples: judged on the same ones, far fewer decide"
        return _more_examples(case, before, after, requirement, level)
    if requirement.kind == "max_ratio" and requirement.quantity == "latency" and case.comparison is not None:
        needed = rounds_needed(log_ratios(case.comparison, case.arm), math.log(requirement.limit), level)
        more = None if needed is None else max(1, needed - len(case.comparison.seconds))
        return (
            "the ratio is at the limit"
            if more is None
            else f"about {more} more rounds of processes would decide: give a longer --budget"
        )
    if quality(requirement.quantity) is not None:
        return f"{found.n:,} examples cannot decide it; more test data would"
    if case.comparison is None:
        return "the two never ran together, which leaves this open: run both where they can take turns"
    return "the interval reaches across the limit; a longer --budget would narrow it"


def _more_examples(case: Case, before: Predictions, after: Predictions, requirement: Requirement, level: float) -> str:
    first, second = (from_predictions(made, case.labels) for made in (before, after))
    metric = find(requirement.quantity, second.task, second.classes)
    found = drop(pair(first, second, [metric]), metric)
    needed = None if isinstance(found, Unavailable) else found.needed(requirement.limit, level)
    n = len(before.labels)
    if needed is None:
        return (
            f"the observed drop is already at the limit, so more examples would most likely show it broken (n = {n:,})"
        )
    return f"needs about {needed:,} test examples to decide at this limit; there are {n:,}"
