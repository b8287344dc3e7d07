"""Windows of a program (`steelyard.window`) as tables."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steelyard.records import Sample, Unavailable
from steelyard.report import numbers
from steelyard.stats.order import median_interval

__all__ = ["rendered", "summary_table", "window_table"]

_WORDS = {
    "wall_s": "Time",
    "cpu_s": "Processor time, all threads",
    "peak_bytes": "Memory, highest",
    "growth_bytes": "Memory, growth",
    "gpu_time_s": "GPU time",
    "gpu_memory_bytes": "GPU memory",
    "gpu_energy_j": "GPU energy",
    "energy_j": "Energy",
}


_TELLS_S = 1e-4


def window_table(
    name: str, readings: Iterable[Sample | Unavailable], *, failed: bool = False, unasked: Sequence[str] = ()
) -> Table:
    """One window: each quantity, or why it is not known."""
    found = list(readings)
    table = _table(f"{name or 'window'}{' (raised an error)' if failed else ''}", "", "value")
    for reading in found:
        shown = _missing(reading) if isinstance(reading, Unavailable) else Text(_value(reading))
        table.add_row(_WORDS[reading.quantity], shown)
    notes = [f"{_WORDS[r.quantity]}: {r.note}" for r in found if isinstance(r, Sample) and r.note]
    notes += [f"Not asked for: {', '.join(unasked)}."] if unasked else []
    table.caption, table.caption_justify = Text("\n".join(notes), style="dim"), "left"
    return table


def summary_table(windows: Sequence[tuple[str, Sample, Sample, int]]) -> Table:
    """Windows by name: how many, total and median time with its interval, cores busy."""
    table = _table("Windows", "", "windows", "total time", "median", "cores busy", "raised")
    for name, wall, cpu, failed in windows:
        total = float(wall.values.sum())
        table.add_row(
            name or "window", f"{wall.values.size:,}", numbers.seconds(total), _median(wall),
            _cores(wall, cpu), str(failed or ""),
        )  # fmt: skip
    table.caption = Text("Median in brackets: 95 % order statistics. Windows inside others count in both.", style="dim")
    table.caption_justify = "left"
    return table


def rendered(table: Table) -> str:
    """The table as plain text of at most 100 columns."""
    page = io.StringIO()
    Console(file=page, width=100).print(table)
    return page.getvalue().rstrip("\n")


def _cores(wall: Sample, cpu: Sample) -> str:
    """Of windows shorter than `_TELLS_S` the clock of processor time says too little."""
    return "–" if wall.value < _TELLS_S else numbers.fixed(float(cpu.values.sum() / wall.values.sum()), 2)


def _median(wall: Sample) -> str:
    found = median_interval(wall.values)
    return numbers.seconds(wall.value) if found is None else numbers.interval(*found, "s")


def _value(sample: Sample) -> str:
    if sample.values.size == 1:
        return numbers.quantity(sample.value, sample.unit)
    low, high = (float(end) for end in np.quantile(sample.values, (0.05, 0.95)))
    return numbers.interval(sample.value, low, high, sample.unit)


def _missing(reading: Unavailable) -> Text:
    return Text(f"unavailable: {reading.reason}", style="bright_black")


def _table(title: str, first: str, *rest: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in rest:
        table.add_column(name, justify="right" if len(rest) > 1 else "left", overflow="fold")
    return table
