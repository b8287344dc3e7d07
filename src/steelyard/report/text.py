"""Renderables for the terminal, built from records. Nothing here prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import SCHEMA, Estimate, Measurement, Plan, RunRecords, Sample, Trial, Unavailable
from steelyard.report import derive, energy, loads, memory, numbers, tables
from steelyard.report.derive import Estimates

__all__ = [
    "carbon_table",
    "elsewhere_json",
    "estimate_json",
    "grids_table",
    "machine_table",
    "measurement_table",
    "memory_table",
    "power_table",
    "refusals_table",
    "summary_json",
    "summary_table",
    "trials_table",
    "verdict_lines",
]

MARKS = {
    "met": ("✓", "green"),
    "broken": ("✗", "red"),
    "undecided": ("?", "yellow"),
    "unavailable": ("–", "bright_black"),
}
_STANDING = {"chosen": "bold green", "finalist": "cyan", "weighed": "default"}


def summary_table(records: RunRecords, estimates: Estimates | None = None) -> Table:
    """Before against after on every axis; alone, each number with its interval and what that interval is.

    Two models side by side must fit 80 columns: there only the second shows its interval, and the caption says where
    the rest stands.
    """
    rows = tables.score_rows(records, estimates or {})
    if all(row.after == tables.NONE for row in rows):
        return _alone("Baseline", rows)
    table = _table("Before and after")
    table.add_column("", overflow="fold", min_width=16)
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        before = _cell(_point(row.before), row.missing_before)
        table.add_row(row.name, before, _cell(row.after, row.missing_after), row.change)
    _annotate(table, rows, "In brackets: 95 % intervals or ranges. The report has the rest, and how each is made.")
    return table


def _point(shown: str) -> str:
    """The number without its interval.

    >>> _point("99.2 % (97.6-99.7)")
    '99.2 %'
    """
    return shown.partition(" (")[0]


def measurement_table(measurement: Measurement, estimates: Iterable[Estimate] = ()) -> Table:
    """One model alone: each quantity, its interval and what that interval is."""
    return _alone("Measured", tables.measurement_rows(measurement, tuple(estimates)))


def _alone(title: str, rows: Sequence[tables.ScoreRow]) -> Table:
    table = _table(title)
    table.add_column("")
    table.add_column("value", justify="right", overflow="fold")
    table.add_column("interval", overflow="fold")
    for row in rows:
        table.add_row(row.name, _cell(row.before, row.missing_before), Text(row.interval, style="dim"))
    _annotate(table, rows)
    return table


def trials_table(records: RunRecords) -> Table:
    """The candidates that were weighed, fastest first."""
    table = _table("Candidates weighed")
    table.add_column("plan", overflow="fold")
    for name in ("latency ratio", "accuracy drop", "size", "took"):
        table.add_column(name, justify="right")
    table.add_column("stands as")
    for row in tables.trial_rows(records):
        style = _STANDING.get(row.standing, "default")
        table.add_row(Text(row.plan), row.ratio, row.drop, row.size, row.wall, Text(row.standing, style=style))
    return table


def carbon_table(records: RunRecords) -> Table | None:
    """What the model that the run is about emits on other grids, cleanest first; None where no region was named."""
    pair = derive.compared(records)
    rows = energy.elsewhere(pair.after or pair.before, records.run.grid)
    return grids_table("The same work on other grids", "carbon per inference", rows) if rows else None


def memory_table(measurement: Measurement) -> Table | None:
    """Peak memory by role at each batch size, and how well the roles meet the kernel's peak; None where not read."""
    stacks = memory.stacks(measurement)
    if not stacks:
        return None
    table = _table("Peak memory by role")
    table.add_column("", overflow="fold")
    for stack in stacks:
        table.add_column(f"batch {stack.batch}", justify="right", overflow="fold")
    for role, words in memory.ROLE_WORDS.items():
        table.add_row(words, *(_bytes_cell(stack.roles.get(role)) for stack in stacks))
    table.add_row("together", *(numbers.size(stack.total) for stack in stacks), style="bold")
    table.add_row("peak by the kernel's count", *(_bytes_cell(stack.peak) for stack in stacks))
    words = "\n".join(f"Batch {stack.batch}: {memory.stack_words(stack)}." for stack in stacks)
    table.caption, table.caption_justify = Text(words, style="dim"), "left"
    return table


def _bytes_cell(size: float | Unavailable | None) -> Text:
    if size is None or isinstance(size, Unavailable):
        return _cell("not read" if size is None else f"unavailable: {size.reason}", missing=True)
    return Text(numbers.size(size))


def machine_table(measurement: Measurement) -> Table | None:
    """What the machine did during the timed run; None where it was not watched."""
    rows = memory.machine_rows(measurement)
    if not rows:
        return None
    table = _table("The machine meanwhile")
    table.add_column("", overflow="fold")
    table.add_column("mean", overflow="fold")
    table.add_column("range of readings", overflow="fold")
    for words, mean, span in rows:
        table.add_row(words, mean, Text(span, style="dim"))
    notes = Text("\n".join(memory.machine_gaps(measurement)), style="dim")
    flags = memory.machine_flags(measurement)
    if flags:
        notes = Text(f"Take the times with care: {'; '.join(flags)}.\n", style="yellow") + notes
    table.caption, table.caption_justify = notes, "left"
    return table


def grids_table(title: str, column: str, rows: Sequence[energy.Elsewhere]) -> Table:
    """Carbon on several grids, and how that compares with here."""
    table = _table(title)
    table.add_column("grid", overflow="fold")
    for name in (column, "against here"):
        table.add_column(name, justify="right", overflow="fold")
    for name, grams, against, _ in tables.grid_rows(rows):
        table.add_row(name, grams, against, style="bold" if against == "here" else "")
    words = "In brackets: 5-95 %. Averages of a year; a single hour can be half or double: steelyard carbon --forecast."
    table.caption, table.caption_justify = Text(words, style="dim"), "left"
    return table


def power_table(coefficients: Mapping[str, float], errors: Mapping[str, float]) -> Table:
    """A fitted model of power: what each part draws, and the error on each kind of load that was left out of the fit."""
    table = _table("Power of this machine, fitted to its counter")
    for name in ("part", "draws", "load left out", "missed by"):
        table.add_column(name, justify="right" if name in ("draws", "missed by") else "left")
    parts = [(_part(name, value)) for name, value in coefficients.items()]
    kinds = [(name, numbers.quantity(error, "fraction")) for name, error in errors.items()]
    for left, right in zip_longest(parts, kinds, fillvalue=("", "")):
        table.add_row(*left, *right)
    return table


def _part(name: str, watts: float) -> tuple[str, str]:
    """A column of the model in words, with its watts in a unit that reads well.

    >>> _part("moved_bytes_per_s", 2e-9), _part("rest", 12.5)
    (('moved bytes', '2.00 W for 1 G/s'), ('rest', '12.5 W'))
    """
    if name == "rest":
        return name, numbers.quantity(watts, "W")
    if name.endswith("_per_s"):
        return name.removesuffix("_per_s").replace("_", " "), f"{numbers.quantity(1e9 * watts, 'W')} for 1 G/s"
    return name.replace("_", " "), f"{numbers.quantity(watts, 'W')} each"


def refusals_table(records: RunRecords) -> Table:
    """The candidates that were refused or skipped, each with its reason; those of one reason together."""
    table = _table("Candidates not measured")
    for name in ("plan", "kind", "reason"):
        table.add_column(name, overflow="fold")
    for cells in tables.refusal_groups(records):
        table.add_row(*map(Text, cells))
    return table


def verdict_lines(records: RunRecords) -> Text:
    """One line per requirement of the chosen plan (of every finalist where none passed), then the conclusion."""
    lines = Text()
    chosen = derive.compared(records).plan
    rows = tables.verdict_rows(records)
    own = [row for row in rows if row.plan == str(chosen)]
    for row in own or rows:
        mark, style = MARKS[row.outcome]
        lines.append(f"{mark} {row.outcome:<11} ", style=style)
        lines.append(row.requirement if own else f"{row.plan}: {row.requirement}")
        lines.append(f"  measured {row.estimate}")
        lines.append(f"  ({row.advice})\n" if row.advice else "\n", style="dim")
    lines.append(conclusion(records), style="bold")
    return lines


def conclusion(records: RunRecords) -> str:
    """How the run ended, in one sentence."""
    outcome = records.outcome
    if outcome is not None:
        return f"{outcome.chosen}: {outcome.reason}"
    if records.verification is not None:
        return "Verified on test data; the run ended before it named an outcome."
    if records.run.command == "optimize":
        return "Unfinished: nothing is verified yet. The same command resumes where it stood."
    return "Measured; no requirement was judged."


def summary_json(records: RunRecords, estimates: Estimates | None = None) -> dict[str, Any]:
    """The run in plain JSON types: base units, intervals as [low, high], absent things as null with their reason."""
    pair = derive.compared(records)
    outcome = records.outcome
    known = estimates or {}
    return {
        "schema": SCHEMA,
        "command": records.run.command,
        "status": outcome.status if outcome else None,
        "exit_status": derive.exit_status(records),
        "reason": outcome.reason if outcome else conclusion(records),
        "chosen": str(outcome.chosen) if outcome else None,
        "compared": {"plan": str(pair.plan), "split": pair.split, "verified": pair.verified},
        "latency_ratio": estimate_json(pair.ratio),
        "verdicts": [_verdict_json(records, plan) for plan in _plans(records)],
        "before": _measurement_json(pair.before, known.get(("baseline", pair.split), ())),
        "after": _measurement_json(pair.after, known.get((str(pair.plan), pair.split), ())),
        "load": loads.load_json(records),
        "trials": [_trial_json(records, trial) for trial in records.trials],
        "energy": _energy_json(records),
    }


def _plans(records: RunRecords) -> tuple[Plan, ...]:
    return records.verification.plans if records.verification else ()


def _verdict_json(records: RunRecords, plan: Plan) -> dict[str, Any]:
    judged = [
        {
            "requirement": v.requirement.text,
            "outcome": v.outcome,
            "estimate": estimate_json(v.estimate),
            "advice": v.advice or None,
        }
        for v in derive.verdicts_of(records, plan)
    ]
    return {"plan": str(plan), "requirements": judged}


def estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    ends = [_finite(estimate.low), _finite(estimate.high)]
    shown = {"quantity": estimate.quantity, "unit": estimate.unit, "value": _finite(estimate.value), "interval": ends}
    return {**shown, "level": estimate.level, "method": estimate.method, "n": estimate.n}


def _measurement_json(measurement: Measurement | None, quality: Iterable[Estimate]) -> dict[str, Any] | None:
    if measurement is None:
        return None
    readings = [
        {
            "quantity": r.quantity,
            "conditions": dict(r.conditions),
            **(
                {"median": _finite(r.value), "unit": r.unit, "n": r.values.size, **_label(r)}
                if isinstance(r, Sample)
                else {}
            ),
            **({} if isinstance(r, Sample) else {"median": None, "unavailable": r.reason}),
        }
        for r in measurement.readings
    ]
    return {"quality": [estimate_json(e) for e in quality], "readings": readings}


def _energy_json(records: RunRecords) -> dict[str, Any]:
    """What is derived from the energies of both models, and the carbon on each grid; missing things with their reason."""
    pair, grid = derive.compared(records), records.run.grid
    sides = {"before": pair.before, "after": pair.after}
    logs = derive.turn_logs(records)
    paired = pair.after is not None and logs is not None and logs.size > 0
    found: dict[str, Any] = {
        name: {
            "energy": _found_json(energy.per_inference(model)),
            "inferences_per_joule": _found_json(energy.per_joule(model)),
            "correct_per_joule": _found_json(energy.correct_per_joule(model, pair.split)),
            "carbon": [elsewhere_json(row, "per_inference") for row in energy.elsewhere(model, grid)],
        }
        for name, model in sides.items()
        if model is not None
    }
    if paired and logs is not None:
        found["ratio"] = _found_json(energy.ratio(pair.before, pair.after, logs))
    return found


def _found_json(found: Estimate | Unavailable) -> dict[str, Any] | None:
    if isinstance(found, Unavailable):
        return {"quantity": found.quantity, "value": None, "unavailable": found.reason}
    return estimate_json(found)


def elsewhere_json(row: energy.Elsewhere, of: str) -> dict[str, Any]:
    factor = row.factor
    return {
        "region": factor.region,
        "name": factor.name,
        "g_per_kwh": factor.g_per_kwh,
        "range": [factor.low, factor.high],
        "year": factor.year,
        "source": factor.source,
        of: estimate_json(row.grams),
        "ratio": estimate_json(row.ratio),
    }


def _label(sample: Sample) -> dict[str, Any]:
    """Where a reading comes from, and the 5 to 95 % range of what was drawn."""
    drawn = sample.provenance in ("modelled", "calibrated")
    spread = {"range_5_95": [_finite(end) for end in derive.spread(sample)]} if drawn else {}
    return {"provenance": sample.provenance, **spread, **({"note": sample.note} if sample.note else {})}


def _trial_json(records: RunRecords, trial: Trial) -> dict[str, Any]:
    refusal = trial.refusal
    return {
        "plan": str(trial.plan),
        "standing": derive.standing(records, trial),
        "latency_ratio": estimate_json(derive.trial_ratio(trial)),
        "refusal": {"kind": refusal.kind, "reason": refusal.reason} if refusal else None,
        "seconds": trial.wall_s,
    }


def _finite(value: float) -> float | None:
    return float(value) if abs(value) < float("inf") else None


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _annotate(table: Table, rows: Iterable[tables.ScoreRow], *first: str) -> None:
    """Where modelled numbers come from, under the table."""
    notes = [*first, *(f"{row.name}: {row.note}" for row in rows if row.note)]
    table.caption = Text("\n".join(notes), style="dim") if notes else None
    table.caption_justify = "left"


def _cell(text: str, missing: bool) -> Text:
    return Text(text, style="bright_black" if missing else "")
