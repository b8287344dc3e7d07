"""Terminal tables of a benchmark under load. Nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.records import RunRecords, Sample, Unavailable
from steelyard.report import derive, loads, numbers
from steelyard.report.loads import Cell, Stressed

__all__ = ["load_tables", "scenario_table", "stress_table", "sweep_table"]

_STYLES = {"held": "green", "broken": "red", "undecided": "yellow"}


def load_tables(records: RunRecords) -> Iterator[RenderableType]:
    """Every table for which there are readings, each with its conclusion under it."""
    grid = loads.cells(records.baseline)
    if len(grid) > 1:
        yield sweep_table(records)
    if loads.scenario_rows(records.baseline):
        yield scenario_table(records)
    found = loads.stressed(records.baseline)
    if found is not None and found.steps:
        yield stress_table(found, records.run.budget_s)


def sweep_table(records: RunRecords) -> Table:
    """The grid of batch sizes and callers, with the knee and the cell to run marked."""
    grid = loads.cells(records.baseline)
    several = len({c.callers for c in grid}) > 1
    tail = _tail(records)
    table = _table("Throughput")
    first = ["batch", "callers"] if several else ["batch"]
    last = ["cores", "waits"] if several else ["cores", "memory"]
    for name in (*first, "examples/s", "median", f"p{100 * tail:g}", *last):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    marks = _marks(records)
    for cell in grid:
        if isinstance(cell.rate, Sample):
            shown = _cell_words(cell, grid, cell.rate, tail, several=several)
            table.add_row(*shown, Text(", ".join(marks.get((cell.batch, cell.callers), ())), style="bold green"))
    return _under(table, [*_sweep_notes(records, grid, several=several)])


def _tail(records: RunRecords) -> float:
    """The percentile that matters: the target's, or the highest asked."""
    target = loads.target_of(records)
    return target[0] if target is not None else max(records.run.percentiles, default=99.0) / 100


def _cell_words(cell: Cell, grid: Sequence[Cell], rate: Sample, tail: float, *, several: bool) -> list[str | Text]:
    where = [str(cell.batch), *([str(cell.callers)] if several else [])]
    waits = loads.waiting(cell, grid)
    waiting = loads.NONE if waits is None else numbers.fixed(waits, 2)
    memory = numbers.size(cell.memory.value) if isinstance(cell.memory, Sample) else loads.NONE
    cores = numbers.fixed(float(cell.cores.values.mean()), 2) if isinstance(cell.cores, Sample) else loads.NONE
    return [*where, _rate_words(rate), *_latency_words(cell, tail), cores, waiting if several else memory]


def _rate_words(rate: Sample) -> str:
    """A rate and its interval without the unit, which the column's head gives."""
    found = loads.rate_estimate(rate)
    if found is None:
        return numbers.significant(rate.value)
    value, low, high = (numbers.significant(v) for v in (found.value, found.low, found.high))
    return f"{value} ({low}-{high})"


def _latency_words(cell: Cell, tail: float) -> list[str | Text]:
    if isinstance(cell.latency, Unavailable):
        return [loads.NONE, loads.NONE]
    found = derive.latency_percentile(cell.latency, tail)
    short = Text("too few", style="bright_black")
    return [numbers.seconds(cell.latency.value), short if found is None else numbers.seconds(found.value)]


def _marks(records: RunRecords) -> dict[tuple[int, int], list[str]]:
    marks: dict[tuple[int, int], list[str]] = {}
    for callers, knee in loads.knees(records.baseline).items():
        if knee.outcome in ("knee", "flat") and knee.size is not None:
            marks.setdefault((knee.size, callers), []).append("knee")
    best = loads.recommended(records)
    if best is not None and best.cell is not None:
        marks.setdefault((best.cell.batch, best.cell.callers), []).append("target")
    return marks


def _sweep_notes(records: RunRecords, grid: Sequence[Cell], *, several: bool) -> Iterator[str]:
    for callers, knee in loads.knees(records.baseline).items():
        who = f"{callers} caller{'s' * (callers > 1)}: " if several else ""
        yield who + loads.knee_words(knee)
    best = loads.recommended(records)
    if best is not None:
        yield loads.recommended_words(best, records.run.budget_s)
    yield from _too_few(grid, _tail(records))
    yield from loads.left_out(grid, several=several)
    yield "In brackets: 95 % intervals. cores: busy with this model." + (
        " waits: calls that wait for others, by Little's law against a lone caller." if several else ""
    )


def _too_few(grid: Sequence[Cell], tail: float) -> Iterator[str]:
    short = [
        c.latency for c in grid if isinstance(c.latency, Sample) and derive.latency_percentile(c.latency, tail) is None
    ]
    if short:
        counts = f"{min(s.values.size for s in short):,} to {max(s.values.size for s in short):,} calls"
        needed = min(derive.needed_readings(s, tail) for s in short)
        yield f"too few: {counts} in such a cell; p{100 * tail:g} needs {needed:,} and more"


def scenario_table(records: RunRecords) -> Table:
    """MLPerf's scenarios, in LoadGen's numbers, with our own mean beside its."""
    table = _table("MLPerf scenarios")
    table.add_column("scenario", no_wrap=True)
    for name in ("per s", "p50", "p90", "p99", "mean", "our mean"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("LoadGen says", overflow="fold")
    notes = ["Short runs in MLPerf's terms, not MLPerf results. Our clock starts when a query is issued."]
    for row in loads.scenario_rows(records.baseline):
        word, _, why = row[-1].partition(": ")
        table.add_row(*row[:-1], Text(word, style="green" if word == "VALID" else "yellow"))
        notes += [f"{row[0]}: {why}"] if why else []
    return _under(table, notes)


def stress_table(found: Stressed, budget_s: float) -> Table:
    """Rising load, the proofs and the recovery."""
    table = _table("Rising load")
    table.add_column("phase")
    names = ("per s", "requests", f"p{100 * found.quantile:g}", "late", "in system", "lag")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("", no_wrap=True)
    for step in found.steps:
        table.add_row(
            step.phase,
            numbers.significant(step.rate_per_s),
            f"{step.n:,}",
            *(
                _known(v, u)
                for v, u in ((step.tail_s, "s"), (step.late, "fraction"), (step.waiting, "count"), (step.lag_s, "s"))
            ),
            Text("" if step.phase == "recovery" else step.outcome, style=_STYLES[step.outcome]),
        )
    how = (
        "Poisson arrivals, timed from when each was due. in system: waiting or served, on average (Little's law). "
        "lag: how late the generator was for 1 in 100."
    )
    return _under(table, [*loads.stress_words(found, budget_s), how])


def _known(value: float, unit: str) -> str:
    return numbers.quantity(value, unit) if math.isfinite(value) else loads.NONE


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _under(table: Table, notes: Sequence[str]) -> Table:
    table.caption = Text("\n".join(notes), style="dim")
    table.caption_justify = "left"
    return table
