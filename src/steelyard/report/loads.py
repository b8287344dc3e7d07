"""Throughput over batch and concurrency, MLPerf scenarios and rising load, derived from a benchmark's readings.

Plain values first, then the same as rows of words: the terminal, the page, the charts and the JSON show the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.records import Estimate, Measurement, RunRecords, Sample, Unavailable
from steelyard.report import derive, numbers
from steelyard.stats.knee import Knee, find_knee
from steelyard.stats.order import LEAST_SEEN, holding
from steelyard.stats.paired import log_ratio_interval

__all__ = [
    "Cell",
    "Recommended",
    "Step",
    "Stressed",
    "callers_of",
    "cells",
    "knee_words",
    "knees",
    "left_out",
    "load_json",
    "loading_estimate",
    "rate_estimate",
    "recommended",
    "recommended_words",
    "scenario_rows",
    "stress_json",
    "stress_words",
    "stressed",
    "target_of",
    "waiting",
]

NONE = "–"
LEAST_REQUESTS = 20  # of a step, before its generator is judged
LAG_SHARE = 0.1  # of the limit; a generator later than that for one request in a hundred is the bottleneck


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One batch size and number of callers, as the sweep saw it; readings by pass."""

    batch: int
    callers: int
    rate: Sample | Unavailable  # examples a second
    latency: Sample | Unavailable  # of each call
    cores: Sample | Unavailable
    machine_cores: Sample | Unavailable
    memory: Sample | Unavailable
    in_flight: Sample | Unavailable


def cells(measurement: Measurement | None) -> tuple[Cell, ...]:
    """Every cell, by callers and batch; those left out too. Readings of old runs have a rate alone."""
    found = [
        _cell(measurement, reading)
        for reading in (measurement.readings if measurement is not None else ())
        if reading.quantity == "throughput_per_s" and "batch" in reading.conditions
    ]
    return tuple(sorted(found, key=lambda cell: (cell.callers, cell.batch)))


def _cell(measurement: Measurement | None, rate: Sample | Unavailable) -> Cell:
    batch, callers = int(rate.conditions["batch"] or 0), callers_of(rate)

    def read(quantity: str) -> Sample | Unavailable:
        return derive.reading(measurement, quantity, batch=batch, concurrency=callers)

    return Cell(
        batch=batch,
        callers=callers,
        rate=rate,
        latency=read("sweep_latency_s"),
        cores=read("cores_busy"),
        machine_cores=read("machine_cores_busy"),
        memory=read("memory_resident_bytes"),
        in_flight=read("calls_in_flight"),
    )


def left_out(grid: Sequence[Cell], *, several: bool) -> Iterator[str]:
    """Cells without a reading, those of one number of callers together, with the reason of the largest."""
    gone = [(c, c.rate.reason) for c in grid if isinstance(c.rate, Unavailable)]
    for callers in dict.fromkeys(c.callers for c, _ in gone):
        own = [(c.batch, reason) for c, reason in gone if c.callers == callers]
        names = ", ".join(str(batch) for batch, _ in own)
        yield f"left out, batch {names}{f' by {callers}' if several else ''}: {own[-1][1]}"


def callers_of(reading: Sample | Unavailable) -> int:
    """Callers at once; one where nothing is said."""
    return int(reading.conditions.get("concurrency") or 1)


def rate_estimate(rate: Sample) -> Estimate | None:
    """Examples a second: t on the logs of the slots, which took turns. None for readings that are single calls of one slot."""
    if rate.blocks is None:
        return None
    return _on_logs(rate, "t on slots in turns")


def loading_estimate(sample: Sample) -> Estimate | None:
    """A time read once in each of several processes: t on its logs. None for a single process."""
    return _on_logs(sample, "t on processes") if sample.values.size > 1 else None


def _on_logs(sample: Sample, method: str) -> Estimate:
    value, low, high = log_ratio_interval(np.log(sample.values), derive.LEVEL)
    return Estimate(
        quantity=sample.quantity,
        unit=sample.unit,
        value=value,
        low=low,
        high=high,
        level=derive.LEVEL,
        method=method,
        n=int(sample.values.size),
    )


def waiting(cell: Cell, grid: Sequence[Cell]) -> float | None:
    """Mean number of calls that wait while others are served: Little's law on the time beyond that of a lone caller.

    rate of calls x (latency in this cell - latency of one caller at the same batch), in calls; None without that one.
    """
    alone = next((c for c in grid if c.batch == cell.batch and c.callers == 1), None)
    if alone is None or cell.callers == 1:
        return None
    if isinstance(cell.rate, Unavailable) or isinstance(cell.latency, Unavailable):
        return None
    if isinstance(alone.latency, Unavailable):
        return None
    longer = float(cell.latency.values.mean() - alone.latency.values.mean())
    return max(0.0, float(cell.rate.values.mean()) / cell.batch * longer)


def knees(measurement: Measurement | None) -> dict[int, Knee]:
    """The knee over batch sizes for each number of callers, from the slots that took turns."""
    grid = [c for c in cells(measurement) if isinstance(c.rate, Sample) and c.rate.blocks is not None]
    return {
        callers: _knee([c for c in grid if c.callers == callers]) for callers in dict.fromkeys(c.callers for c in grid)
    }


def _knee(column: Sequence[Cell]) -> Knee:
    rates = [c.rate.values for c in column if isinstance(c.rate, Sample)]
    passes = min(map(len, rates))
    return find_knee([c.batch for c in column], np.stack([r[:passes] for r in rates], axis=1))


def knee_words(knee: Knee) -> str:
    """The knee in a sentence."""
    near = f"within {100 * knee.within:.0f} % of the best"
    sure = ""
    if len(knee.likely) > 1:
        others = f"{', '.join(map(str, knee.likely[:-1]))} or {knee.likely[-1]}"
        sure = f"; by this run's noise it may be {others} ({100 * knee.probability:.0f} %)"
    if knee.outcome == "rising":
        return f"throughput still rises at batch {knee.size}, the largest measured: no knee yet, try larger{sure}"
    if knee.outcome == "flat":
        return f"throughput is flat: batch {knee.size} is {near} already{sure}"
    if knee.outcome == "knee":
        return f"knee at batch {knee.size}, the smallest {near} throughput{sure}"
    return "no knee can be told from fewer than two batch sizes"


# --- the batch size for a target ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recommended:
    """The cell of the largest throughput whose latency is shown to keep the target, and those that might do better."""

    percentile: float
    limit_s: float
    cell: Cell | None
    open: tuple[Cell, ...] = ()  # more throughput and within the limit as seen, but too few calls to show it


def target_of(records: RunRecords) -> tuple[float, float, str] | None:
    """(quantile, limit in seconds, words) of a benchmark's target."""
    if records.run.command != "benchmark" or not records.run.requirements:
        return None
    target = records.run.requirements[0]
    quantile = round(float(target.quantity[1:]) / 100, 9) if target.quantity.startswith("p") else 0.5
    return quantile, target.limit, target.text


def recommended(records: RunRecords) -> Recommended | None:
    """What to run for the target; None where there is no target or no sweep."""
    target = target_of(records)
    grid = [c for c in cells(records.baseline) if isinstance(c.rate, Sample) and isinstance(c.latency, Sample)]
    if target is None or not grid:
        return None
    quantile, limit_s, _ = target
    fast = sorted(grid, key=lambda c: -_value(c.rate))
    kept = next((c for c in fast if _keeps(c, quantile, limit_s) == "met"), None)
    better = fast if kept is None else fast[: fast.index(kept)]
    return Recommended(
        percentile=100 * quantile,
        limit_s=limit_s,
        cell=kept,
        open=tuple(c for c in better if _keeps(c, quantile, limit_s) == "undecided"),
    )


def _keeps(cell: Cell, quantile: float, limit_s: float) -> str:
    assert isinstance(cell.latency, Sample)
    found = derive.latency_percentile(cell.latency, quantile)
    if found is None:
        return "undecided" if float(np.quantile(cell.latency.values, quantile)) <= limit_s else "broken"
    return "met" if found.high <= limit_s else "broken" if found.low > limit_s else "undecided"


def recommended_words(found: Recommended, budget_s: float) -> str:
    """The recommendation in a sentence."""
    aim = f"p{found.percentile:g} <= {numbers.seconds(found.limit_s)}"
    still = ""
    if found.open:
        names = ", ".join(map(_name, found.open[:3]))
        still = f"; {names} might keep it too: too few calls to show it, {_budget_words(found, budget_s)} would"
    if found.cell is None:
        return f"no batch size is shown to keep {aim}{still}"
    rate = numbers.quantity(_value(found.cell.rate), "1/s")
    return f"for {aim} run {_name(found.cell)}: {rate} is the most that is shown to keep it{still}"


def _name(cell: Cell) -> str:
    return f"batch {cell.batch}" + (f" by {cell.callers} callers" if cell.callers > 1 else "")


def _budget_words(found: Recommended, budget_s: float) -> str:
    shares = [
        derive.needed_readings(c.latency, found.percentile / 100) / c.latency.values.size
        for c in found.open[:3]
        if isinstance(c.latency, Sample)
    ]
    return f"--budget {math.ceil(budget_s * max([1.5, *shares])):d}s"


def _value(sample: Sample | Unavailable) -> float:
    return sample.value if isinstance(sample, Sample) else math.nan


# --- scenarios and stress ----------------------------------------------------------------------------


def scenario_rows(measurement: Measurement | None) -> tuple[tuple[str, ...], ...]:
    """(scenario, samples a second, LoadGen's p50, p90, p99 and mean, our mean, ruling with its reasons)."""
    readings = measurement.readings if measurement is not None else ()
    own = [r for r in readings if r.quantity == "scenario_latency_s"]
    return tuple(_scenario_row(measurement, reading) for reading in own)


def _scenario_row(measurement: Measurement | None, own: Sample | Unavailable) -> tuple[str, ...]:
    name = str(own.conditions.get("scenario"))
    if isinstance(own, Unavailable):
        return (name, *(6 * [NONE]), own.reason)
    rate = derive.reading(measurement, "scenario_per_s", scenario=name)

    def said(statistic: str) -> str:
        found = derive.reading(measurement, "loadgen_latency_s", scenario=name, statistic=statistic)
        return numbers.seconds(found.value) if isinstance(found, Sample) else NONE

    per_s = numbers.significant(rate.value) if isinstance(rate, Sample) else NONE
    ours = numbers.seconds(float(own.values.mean()))
    return (name, per_s, *map(said, ("p50", "p90", "p99", "mean")), ours, own.note.partition(", ")[2])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Requests at one rate: what came, how late, and whether the rate held."""

    phase: str  # ramp | recovery | proof
    rate_per_s: float
    n: int
    tail_s: float  # the target's percentile, as seen
    late: float  # share of requests later than the limit
    outcome: str  # held | broken | undecided
    waiting: float  # mean number in the queue and in service, by Little's law
    lag_s: float  # of the generator, 99 % of requests


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stressed:
    """Rising load: its steps, the rate sustained, and the recovery."""

    quantile: float
    limit_s: float
    asked: str
    steps: tuple[Step, ...]
    held_per_s: float | None  # the highest rate shown to hold
    broken_per_s: float | None  # the lowest that broke
    recovery: Sample | Unavailable
    unbroken: str  # why there is no rate that broke

    @property
    def late_generator(self) -> bool:
        """Whether the generator was the bottleneck of a step that was not yet broken."""
        below = math.inf if self.broken_per_s is None else self.broken_per_s
        steps = [s for s in self.steps if s.rate_per_s < below and s.n >= LEAST_REQUESTS]
        return any(s.lag_s > LAG_SHARE * self.limit_s for s in steps)


def stressed(measurement: Measurement | None) -> Stressed | None:
    """What rising load showed; None where none was asked."""
    limits = measurement.all("latency_limit_s") if measurement is not None else ()
    if measurement is None or not limits:
        return None
    quantile, limit_s = float(limits[0].conditions["percentile"] or 0) / 100, limits[0].value
    steps = tuple(_step(measurement, s, quantile, limit_s) for s in measurement.all("request_latency_s"))
    broken = measurement.get("broken_per_s")
    held = [s.rate_per_s for s in steps if s.outcome == "held" and s.phase != "recovery"]
    broke = [s.rate_per_s for s in steps if s.outcome == "broken" and s.phase == "proof"]
    broke += [broken.value] if isinstance(broken, Sample) else []
    lowest = min(broke, default=None)
    return Stressed(
        quantile=quantile,
        limit_s=limit_s,
        asked=limits[0].note,
        steps=steps,
        held_per_s=max((r for r in held if lowest is None or r < lowest), default=None),
        broken_per_s=lowest,
        recovery=measurement.get("recovery_s"),
        unbroken=broken.reason if isinstance(broken, Unavailable) else "",
    )


def _step(measurement: Measurement, sample: Sample, quantile: float, limit_s: float) -> Step:
    due = measurement.get("request_due_s", **sample.conditions)
    lag = measurement.get("generator_lag_s", **sample.conditions)
    late = sample.values > limit_s
    span = float(np.ptp(due.values)) if isinstance(due, Sample) and due.values.size > 1 else 0.0
    return Step(
        phase=str(sample.conditions["phase"]),
        rate_per_s=float(sample.conditions["rate_per_s"] or 0),
        n=int(sample.values.size),
        tail_s=float(np.quantile(sample.values, quantile)) if sample.values.size else math.nan,
        late=float(late.mean()) if sample.values.size else math.nan,
        outcome=holding(late, quantile),
        waiting=(sample.values.size - 1) / span * float(sample.values.mean()) if span else math.nan,
        lag_s=float(np.quantile(lag.values, 0.99)) if isinstance(lag, Sample) and lag.values.size else math.nan,
    )


def stress_words(found: Stressed, budget_s: float) -> tuple[str, ...]:
    """What rising load showed, a sentence a line."""
    aim = f"p{100 * found.quantile:g} <= {numbers.seconds(found.limit_s)}"
    words = [_sustained_words(found, aim, budget_s)]
    if isinstance(found.recovery, Sample):
        words.append(f"back within the target {numbers.seconds(found.recovery.value)} after it broke")
    elif found.broken_per_s is not None:
        words.append(found.recovery.reason)
    if found.late_generator:
        words.append("the generator was the bottleneck: requests started late although a caller was free (lag)")
    if not found.asked.startswith("asked"):
        words.append(found.asked)
    return tuple(words)


def _sustained_words(found: Stressed, aim: str, budget_s: float) -> str:
    per_s = [None if r is None else numbers.quantity(r, "1/s") for r in (found.held_per_s, found.broken_per_s)]
    if per_s[0] and per_s[1]:
        return f"sustains {per_s[0]} at {aim}; breaks at {per_s[1]}, so the limit lies between"
    if per_s[0]:
        return f"sustains {per_s[0]} at {aim} and {found.unbroken}"
    where = f"breaks at {per_s[1]}" if per_s[1] else found.unbroken
    return f"no rate was shown to keep {aim}; it {where}{_more_words(found, budget_s)}"


def _more_words(found: Stressed, budget_s: float) -> str:
    """The budget that would prove a rate, where the proofs had too few requests."""
    n = max((s.n for s in found.steps if s.phase == "proof"), default=0)
    needed = 2 * max(LEAST_SEEN, math.ceil(1.96**2 * found.quantile / (1 - found.quantile)))
    return "" if n >= needed else f": --budget {math.ceil(budget_s * needed / max(1, n))}s would show more"


# --- JSON --------------------------------------------------------------------------------------------


def load_json(records: RunRecords) -> dict[str, Any]:
    """Sweep, knees, recommendation, scenarios and stress in plain types; absent things are null."""
    grid = cells(records.baseline)
    best = recommended(records)
    return {
        "sweep": [_cell_json(cell, grid, _shown(records)) for cell in grid],
        "knees": [
            {
                "concurrency": callers,
                "outcome": knee.outcome,
                "batch": knee.size,
                "likely": list(knee.likely),
                "probability": _finite(knee.probability),
                "within": knee.within,
            }
            for callers, knee in knees(records.baseline).items()
        ],
        "recommended": None if best is None else _recommended_json(best),
        "scenarios": list(_scenarios_json(records.baseline)),
        "stress": stress_json(records.baseline),
    }


def _shown(records: RunRecords) -> tuple[float, ...]:
    return tuple(p / 100 for p in records.run.percentiles) or (0.5, 0.9, 0.99)


def _cell_json(cell: Cell, grid: Sequence[Cell], shown: Sequence[float]) -> dict[str, Any]:
    where = {"batch": cell.batch, "concurrency": cell.callers}
    if isinstance(cell.rate, Unavailable):
        return {**where, "unavailable": cell.rate.reason}
    rate = rate_estimate(cell.rate)
    latency = [derive.latency_percentile(cell.latency, q) for q in shown] if isinstance(cell.latency, Sample) else []
    return {
        **where,
        "examples_per_s": cell.rate.value if rate is None else rate.value,
        "interval": None if rate is None else [_finite(rate.low), _finite(rate.high)],
        "latency_s": {e.quantity: [e.value, e.low, e.high] for e in latency if e is not None},
        "cores_busy": _mean(cell.cores),
        "machine_cores_busy": _mean(cell.machine_cores),
        "memory_resident_bytes": _mean(cell.memory),
        "calls_in_flight": _mean(cell.in_flight),
        "calls_waiting": waiting(cell, grid),
    }


def _recommended_json(found: Recommended) -> dict[str, Any]:
    cell = found.cell
    return {
        "percentile": found.percentile,
        "limit_s": found.limit_s,
        "batch": None if cell is None else cell.batch,
        "concurrency": None if cell is None else cell.callers,
        "undecided": [{"batch": c.batch, "concurrency": c.callers} for c in found.open],
    }


def _scenarios_json(measurement: Measurement | None) -> Iterator[dict[str, Any]]:
    for reading in measurement.readings if measurement is not None else ():
        if reading.quantity != "scenario_latency_s":
            continue
        name = str(reading.conditions.get("scenario"))
        if isinstance(reading, Unavailable):
            yield {"scenario": name, "unavailable": reading.reason}
            continue
        own = derive.reading(measurement, "scenario_per_s", scenario=name)
        valid = derive.reading(measurement, "scenario_valid", scenario=name)
        yield {
            "scenario": name,
            "samples_per_s": own.value if isinstance(own, Sample) else None,
            "valid": isinstance(valid, Sample) and valid.value == 1.0,
            "ruling": reading.note,
            "mean_latency_s": float(reading.values.mean()) if reading.values.size else None,
        }


def stress_json(measurement: Measurement | None) -> dict[str, Any] | None:
    """Rising load in plain types; None where none was asked."""
    found = stressed(measurement)
    if found is None:
        return None
    return {
        "percentile": 100 * found.quantile,
        "limit_s": found.limit_s,
        "held_per_s": found.held_per_s,
        "broken_per_s": found.broken_per_s,
        "recovery_s": found.recovery.value if isinstance(found.recovery, Sample) else None,
        "generator_was_the_bottleneck": found.late_generator,
        "steps": [
            {
                "phase": s.phase,
                "rate_per_s": s.rate_per_s,
                "requests": s.n,
                "tail_s": _finite(s.tail_s),
                "late": _finite(s.late),
                "in_system": _finite(s.waiting),
                "generator_lag_p99_s": _finite(s.lag_s),
                "outcome": s.outcome,
            }
            for s in found.steps
        ],
    }


def _mean(sample: Sample | Unavailable) -> float | None:
    return float(sample.values.mean()) if isinstance(sample, Sample) and sample.values.size else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
