"""The words and figures of each table, as plain strings: the terminal and the page show the same ones."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from steelyard.records import (
    Estimate,
    GridFactor,
    Measurement,
    Prediction,
    RunRecords,
    Sample,
    Trial,
    Unavailable,
    Verdict,
)
from steelyard.report import derive, energy, loads, numbers
from steelyard.report.derive import Estimates, Pair

__all__ = [
    "ScoreRow",
    "TrialRow",
    "VerdictRow",
    "forecast_rows",
    "grid_rows",
    "measurement_rows",
    "metric_name",
    "refusal_groups",
    "refusal_rows",
    "score_rows",
    "trial_rows",
    "verdict_estimate",
    "verdict_rows",
]

NONE = "–"
METRICS = {
    "accuracy": "Accuracy",
    "macro_precision": "Precision, macro",
    "macro_recall": "Recall, macro",
    "macro_f1": "F1, macro",
    "log_loss": "Log-loss",
}
FASTER = ("faster", "slower")
SMALLER = ("smaller", "larger")
HIGHER = ("lower", "higher")
PERCENTILES = (50.0, 90.0, 99.0)
NAMED = 4  # plans that one reason is said of by name; of the others there are so many more
UNTRIED = 12  # predictions shown of plans that were not tried
CACHED = (("load_s", "Time to load"), ("first_prediction_s", "Time to first prediction"))
READINGS = (
    ("stored_bytes", "Stored size", SMALLER),
    ("memory_before_load_bytes", "Memory, before loading", SMALLER),
    ("memory_loaded_bytes", "Memory, loaded", SMALLER),
    ("memory_running_bytes", "Memory, running", SMALLER),
    ("load_s", "Time to load", FASTER),
    ("first_prediction_s", "Time to first prediction", FASTER),
    ("parameters", "Parameters", ("fewer", "more")),
    ("parameters_nonzero", "Parameters, non-zero", ("fewer", "more")),
    ("macs", "Multiply-accumulates per example", ("fewer", "more")),
    ("macs_coverage", "Operator time that the count covers", HIGHER),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One line of the score table. ``missing_*`` says that the text is a reason, not a number."""

    name: str
    before: str
    after: str
    change: str
    interval: str  # what the brackets mean
    note: str = ""  # what a reader must know about the number: its model, its convention, what was not counted
    missing_before: bool = False
    missing_after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    """One requirement judged for one plan."""

    plan: str
    requirement: str
    outcome: str
    estimate: str
    level: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One candidate that was weighed."""

    plan: str
    standing: str
    ratio: str
    drop: str
    size: str
    wall: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    text: str
    interval: str = ""
    note: str = ""
    value: float | None = None
    missing: bool = False


CellOf = Callable[[Measurement | None], _Cell]


# --- score -----------------------------------------------------------------------------------------


def score_rows(records: RunRecords, estimates: Estimates) -> tuple[ScoreRow, ...]:
    """Before and after on every axis that was read."""
    pair = derive.compared(records)
    costs = _cost_rows(pair, records.run.percentiles, records.run.budget_s)
    rows = [*_quality_rows(pair, estimates), *_ratio_rows(pair), *costs, *_energy_rows(records, pair)]
    return tuple(rows)


def measurement_rows(measurement: Measurement, estimates: tuple[Estimate, ...]) -> tuple[ScoreRow, ...]:
    """One model alone: value and what its interval is."""
    alone = Pair(before=measurement, after=None, plan=derive.BASELINE, split="", verified=False, ratio=None)
    quality = [_row(_metric_name(e), _estimate_cell(e), None) for e in estimates]
    return (*quality, *_cost_rows(alone))


def _quality_rows(pair: Pair, estimates: Estimates) -> Iterator[ScoreRow]:
    before = {e.quantity: e for e in estimates.get(("baseline", pair.split), ())}
    after = {e.quantity: e for e in estimates.get((str(pair.plan), pair.split), ())} if pair.after else {}
    for name in dict.fromkeys([*before, *after]):
        first, second = before.get(name), after.get(name)
        known = first or second
        assert known is not None
        row = _row(f"{_metric_name(known)} ({pair.split})", _maybe(first), _maybe(second) if pair.after else None)
        yield dataclasses.replace(row, change=_metric_change(first, second))
    if pair.after is not None and pair.before is not None:
        drop = derive.accuracy_drop(pair.before.on(pair.split), pair.after.on(pair.split))
        if drop is not None:
            yield _drop_row(drop, pair.split)


def _drop_row(drop: Estimate, split: str) -> ScoreRow:
    return ScoreRow(
        name=f"Accuracy drop, same examples ({split})",
        before=NONE,
        after=numbers.points(drop.value, drop.low, drop.high),
        change="",
        interval=_interval_name(drop),
    )


def _metric_change(first: Estimate | None, second: Estimate | None) -> str:
    if first is None or second is None:
        return ""
    if first.unit != "fraction":
        return numbers.fixed(second.value - first.value, 3)
    return numbers.points(second.value - first.value)


def _ratio_rows(pair: Pair) -> Iterator[ScoreRow]:
    if pair.ratio is None:
        return
    shown = numbers.ratio(pair.ratio.value, pair.ratio.low, pair.ratio.high)
    yield ScoreRow(
        name="Latency, taking turns",
        before="1x",
        after=shown,
        change=numbers.change(1.0, pair.ratio.value, *FASTER),
        interval=_interval_name(pair.ratio),
    )


def _cost_rows(pair: Pair, percentiles: tuple[float, ...] = (), budget_s: float = 0.0) -> Iterator[ScoreRow]:
    for percentile in percentiles or PERCENTILES:
        name = "median" if percentile == 50 else f"p{percentile:g}"
        cell = partial(_percentile_cell, q=round(percentile / 100, 9), budget_s=budget_s)
        yield _pair_row(f"Latency, {name}", pair, cell, FASTER)
    for batch in _batches(pair):
        yield _pair_row(f"Throughput, batch {batch}", pair, partial(_throughput_cell, batch=batch), HIGHER)
    for quantity, name, words in READINGS:
        if _seen(pair, quantity) and not _seen(pair, quantity, cache="warm"):
            yield _pair_row(name, pair, partial(_reading_cell, quantity=quantity), words)
    if any(_unread(m, "memory_role_bytes") for m in (pair.before, pair.after) if m is not None):
        yield _pair_row("Memory by role", pair, partial(_reading_cell, quantity="memory_role_bytes"))
    for quantity, name in CACHED:
        for cache in ("cold", "warm"):
            if _seen(pair, quantity, cache=cache):
                cell = partial(_loading_cell, quantity=quantity, cache=cache)
                yield _pair_row(f"{name}, {cache}", pair, cell, FASTER)
    yield _pair_row("Energy per inference", pair, _energy_cell, ("less", "more"))
    if _seen(pair, "energy_above_idle_j"):
        yield _pair_row("Energy per inference, above idle", pair, _above_idle_cell, ("less", "more"))


def _energy_rows(records: RunRecords, pair: Pair) -> Iterator[ScoreRow]:
    """What a joule buys, the ratio of energies, and the carbon on the grid that the user named."""
    logs = derive.turn_logs(records)
    if pair.after is not None and logs is not None and logs.size:
        yield _energy_ratio_row(energy.ratio(pair.before, pair.after, logs))
    yield _pair_row("Inferences per joule", pair, lambda m: _found_cell(energy.per_joule(m)), HIGHER)
    if pair.before is not None and pair.before.on(pair.split) is not None:
        name = f"Correct answers per joule ({pair.split})"
        yield _pair_row(name, pair, lambda m: _found_cell(energy.correct_per_joule(m, pair.split)), HIGHER)
    for factor in records.run.grid[:1]:
        row = _pair_row(f"Carbon per inference, {factor.name}", pair, partial(_carbon_cell, factor=factor))
        yield row


def _energy_ratio_row(found: Estimate | Unavailable) -> ScoreRow:
    cell = _found_cell(found)
    change = "" if cell.value is None else numbers.change(1.0, cell.value, "less", "more")
    return ScoreRow(
        name="Energy, after / before",
        before="1x",
        after=cell.text,
        change=change,
        interval=cell.interval,
        note=energy.SAME if energy.SAME in cell.interval else "",
        missing_after=cell.missing,
    )


def _pair_row(name: str, pair: Pair, cell: CellOf, words: tuple[str, str] = ("less", "more")) -> ScoreRow:
    return _row(name, cell(pair.before), cell(pair.after) if pair.after is not None else None, words)


def _row(name: str, before: _Cell, after: _Cell | None, words: tuple[str, str] = ("less", "more")) -> ScoreRow:
    change = ""
    if after is not None and before.value is not None and after.value is not None:
        change = numbers.change(before.value, after.value, *words)
    return ScoreRow(
        name=name,
        before=before.text,
        after=after.text if after is not None else NONE,
        change=change,
        interval=before.interval or (after.interval if after is not None else ""),
        note=before.note or (after.note if after is not None else ""),
        missing_before=before.missing,
        missing_after=after is not None and after.missing,
    )


def _maybe(estimate: Estimate | None) -> _Cell:
    if estimate is None:
        return _Cell(text="unavailable: not evaluated on this split", missing=True)
    return _estimate_cell(estimate)


def _estimate_cell(estimate: Estimate) -> _Cell:
    shown = numbers.interval(estimate.value, estimate.low, estimate.high, estimate.unit)
    return _Cell(text=shown, interval=_interval_name(estimate), value=estimate.value)


def _interval_name(estimate: Estimate) -> str:
    return f"{100 * estimate.level:.3g} % {estimate.method}, n = {estimate.n:,}"


def _percentile_cell(measurement: Measurement | None, q: float, budget_s: float = 0.0) -> _Cell:
    sample = derive.reading(measurement, "latency_s", batch=1)
    if isinstance(sample, Unavailable):
        return _missing(sample)
    estimate = derive.latency_percentile(sample, q)
    if estimate is None:
        return _Cell(text=f"unavailable: {_too_few(sample, q, budget_s)}", missing=True)
    return dataclasses.replace(_estimate_cell(estimate), note=sample.note if q == 0.5 else "")


def _too_few(sample: Sample, q: float, budget_s: float) -> str:
    """How many readings would bound a percentile, and the budget that would bring them at the rate seen."""
    had, needed = sample.values.size, derive.needed_readings(sample, q)
    cure = f", --budget {math.ceil(budget_s * needed / had):d}s" if budget_s and had else ""
    return f"{had:,} readings cannot bound it; it needs about {needed:,}{cure}"


def _throughput_cell(measurement: Measurement | None, batch: int) -> _Cell:
    sample = derive.reading(measurement, "throughput_per_s", batch=batch)
    found = loads.rate_estimate(sample) if isinstance(sample, Sample) else None
    return _median_cell(sample, "1/s") if found is None else _estimate_cell(found)


def _loading_cell(measurement: Measurement | None, quantity: str, cache: str) -> _Cell:
    sample = derive.reading(measurement, quantity, cache=cache)
    found = loads.loading_estimate(sample) if isinstance(sample, Sample) else None
    cell = _median_cell(sample, None) if found is None else _estimate_cell(found)
    note = "" if isinstance(sample, Unavailable) or quantity != "load_s" else sample.note
    return dataclasses.replace(cell, note=note)


def _reading_cell(measurement: Measurement | None, quantity: str) -> _Cell:
    return _median_cell(derive.reading(measurement, quantity), None)


def _median_cell(sample: Sample | Unavailable, unit: str | None) -> _Cell:
    if isinstance(sample, Unavailable):
        return _missing(sample)
    unit = unit or sample.unit
    if sample.provenance == "counted" or sample.values.size == 1:
        how = "exact" if sample.provenance == "counted" else "one reading: no interval"
        return _Cell(text=numbers.quantity(sample.value, unit), interval=how, value=sample.value, note=sample.note)
    low, high = float(sample.values.min()), float(sample.values.max())
    return _Cell(
        text=numbers.interval(sample.value, low, high, unit),
        interval=f"range of {sample.values.size:,} readings",
        value=sample.value,
    )


def _energy_cell(measurement: Measurement | None) -> _Cell:
    note = getattr(derive.reading(measurement, "energy_j", batch=1), "note", "")
    return dataclasses.replace(_found_cell(energy.per_inference(measurement)), note=note)


def _above_idle_cell(measurement: Measurement | None) -> _Cell:
    note = getattr(derive.reading(measurement, "energy_above_idle_j", batch=1), "note", "")
    return dataclasses.replace(_found_cell(energy.above_idle(measurement)), note=note)


def _carbon_cell(measurement: Measurement | None, factor: GridFactor) -> _Cell:
    words = (
        f"{numbers.quantity(factor.g_per_kwh, 'gCO2e')} ({factor.low:.3g}-{factor.high:.3g}) per kWh in {factor.year}"
    )
    return dataclasses.replace(_found_cell(energy.carbon(measurement, factor)), note=f"{words}; {factor.source}")


def _found_cell(found: Estimate | Unavailable) -> _Cell:
    """A derived estimate, with what its interval is: 5 to 95 % of draws, or its level and method."""
    if isinstance(found, Unavailable):
        return _missing(found)
    drawn = found.level == energy.LEVEL
    how = found.method if drawn else f"{100 * found.level:.3g} % {found.method}, n = {found.n:,}"
    return dataclasses.replace(_estimate_cell(found), interval=how)


def _missing(reading: Unavailable) -> _Cell:
    return _Cell(text=f"unavailable: {reading.reason}", missing=True)


def _unread(measured: Measurement, quantity: str) -> bool:
    """Whether a quantity that has several readings has none at all, but a reason."""
    missing = (r for r in measured.readings if isinstance(r, Unavailable) and r.quantity == quantity)
    return any(not r.conditions for r in missing)


def _seen(pair: Pair, quantity: str, **conditions: str) -> bool:
    """Whether either model has this reading or a reason for its absence."""
    sides = [m for m in (pair.before, pair.after) if m is not None]
    return any(r.quantity == quantity and conditions.items() <= r.conditions.items() for m in sides for r in m.readings)


def _batches(pair: Pair) -> list[int]:
    """The smallest and the largest batch of the sweeps; the chart shows those between."""
    sides = [m for m in (pair.before, pair.after) if m is not None]
    found = sorted({int(b) for m in sides for s in m.all("throughput_per_s") if (b := s.conditions.get("batch"))})
    return sorted({found[0], found[-1]}) if found else []


def _metric_name(estimate: Estimate) -> str:
    return metric_name(estimate.quantity)


def metric_name(quantity: str) -> str:
    """A metric in words.

    >>> metric_name("macro_f1"), metric_name("top5_accuracy")
    ('F1, macro', 'Top5 accuracy')
    """
    return METRICS.get(quantity, quantity.replace("_", " ").capitalize())


def grid_rows(rows: Sequence[energy.Elsewhere]) -> tuple[tuple[str, str, str, str], ...]:
    """(grid, carbon, against here, source) of each grid."""
    return tuple(
        (
            row.factor.name if row.factor.name == row.factor.region else f"{row.factor.name} ({row.factor.region})",
            numbers.interval(row.grams.value, row.grams.low, row.grams.high, row.grams.unit),
            "here" if row.ratio is None else numbers.ratio(row.ratio.value, row.ratio.low, row.ratio.high),
            f"{row.factor.g_per_kwh:.3g} ({row.factor.low:.3g}-{row.factor.high:.3g}) g/kWh, {row.factor.year}; {row.factor.source}",
        )
        for row in rows
    )


# --- verdicts and trials ---------------------------------------------------------------------------


def verdict_rows(records: RunRecords) -> tuple[VerdictRow, ...]:
    """Every requirement, for every finalist; the chosen plan first."""
    if records.verification is None:
        return ()
    chosen = records.outcome.chosen if records.outcome else None
    plans = sorted(records.verification.plans, key=lambda plan: plan != chosen)
    return tuple(
        VerdictRow(
            plan=str(plan),
            requirement=verdict.requirement.text,
            outcome=verdict.outcome,
            estimate=verdict_estimate(verdict),
            level="" if verdict.estimate is None else _interval_name(verdict.estimate),
            advice=verdict.advice,
        )
        for plan in plans
        for verdict in derive.verdicts_of(records, plan)
    )


def verdict_estimate(verdict: Verdict) -> str:
    """The interval that decided, in the words of its requirement."""
    estimate = verdict.estimate
    if estimate is None:
        return "unavailable"
    requirement = verdict.requirement
    if requirement.kind == "max_ratio":
        return numbers.ratio(estimate.value, estimate.low, estimate.high)
    if requirement.kind == "max_drop" and estimate.unit == "fraction":
        return numbers.points(estimate.value, estimate.low, estimate.high)
    return numbers.interval(estimate.value, estimate.low, estimate.high, estimate.unit)


def trial_rows(records: RunRecords) -> tuple[TrialRow, ...]:
    """The candidates that were weighed, fastest first."""
    weighed = [t for t in records.trials if t.refusal is None]
    return tuple(_trial_row(records, t) for t in sorted(weighed, key=_speed))


def refusal_rows(records: RunRecords) -> tuple[tuple[str, str, str], ...]:
    """(plan, kind, reason) of every candidate that was refused or skipped."""
    return tuple((str(t.plan), t.refusal.kind, t.refusal.reason) for t in records.trials if t.refusal is not None)


def refusal_groups(records: RunRecords) -> tuple[tuple[str, str, str], ...]:
    """(plans, kind, reason) of those that were refused or skipped, where one reason serves many plans once."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for plan, kind, reason in refusal_rows(records):
        groups.setdefault((kind, re.sub(r"[\d.,]+", "#", reason)), []).append((plan, reason))
    return tuple((_several([plan for plan, _ in rows]), kind, rows[0][1]) for (kind, _), rows in groups.items())


def _several(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> _several(["a", "b"]), _several(list("abcdefg"))
    ('a; b', 'a; b; c; d; and 3 more')
    """
    if len(names) <= NAMED + 1:
        return "; ".join(names)
    return "; ".join([*names[:NAMED], f"and {len(names) - NAMED:,} more"])


def forecast_rows(records: RunRecords) -> tuple[tuple[Prediction, Estimate | None], ...]:
    """Each prediction with the latency ratio that was then measured; of those not measured, the first `UNTRIED`."""
    obtained = {t.plan: _best_ratio(records, t) for t in records.trials}
    seen = dict.fromkeys(p.plan for p in _forecasts(records))
    latest = {p.plan: p for p in _forecasts(records)}
    untried = list(islice((plan for plan in seen if obtained.get(plan) is None), UNTRIED))
    return tuple((latest[p], obtained.get(p)) for p in seen if obtained.get(p) is not None or p in untried)


def _forecasts(records: RunRecords) -> list[Prediction]:
    told = [p for finding in records.findings for p in finding.predictions]
    return told + [t.prediction for t in records.trials if t.prediction is not None]


def _best_ratio(records: RunRecords, trial: Trial) -> Estimate | None:
    """The verified ratio where the plan was a finalist, else the quick one."""
    verification = records.verification
    if verification is None or trial.plan not in verification.plans:
        return derive.trial_ratio(trial)
    return derive.plan_ratio(verification, trial.plan)


def _trial_row(records: RunRecords, trial: Trial) -> TrialRow:
    ratio = derive.trial_ratio(trial)
    before = records.baseline.on("validation") if records.baseline else None
    after = trial.after.on("validation") if trial.after else None
    drop = derive.accuracy_drop(before, after)
    stored = derive.reading(trial.after, "stored_bytes")
    return TrialRow(
        plan=str(trial.plan),
        standing=derive.standing(records, trial),
        ratio=NONE if ratio is None else numbers.ratio(ratio.value, *_bounds(ratio)),
        drop=NONE if drop is None else numbers.points(drop.value, drop.low, drop.high),
        size=NONE if isinstance(stored, Unavailable) else numbers.size(stored.value),
        wall=numbers.seconds(trial.wall_s),
    )


def _bounds(ratio: Estimate) -> tuple[float, float] | tuple[None, None]:
    """One round orders candidates and bounds nothing: then the number stands alone."""
    return (ratio.low, ratio.high) if math.isfinite(ratio.high) else (None, None)


def _speed(trial: Trial) -> float:
    ratio = derive.trial_ratio(trial)
    return float("inf") if ratio is None else ratio.value
