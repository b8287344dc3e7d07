"""Suites for a terminal: what each cell takes, and what changed between two readings. Nothing here prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import SCHEMA, CellChange, Estimate, Refusal, Sample, Suite, SuiteCell, SuiteChange, Unavailable
from steelyard.report import loads, numbers
from steelyard.report.gating import estimate_json
from steelyard.stats.paired import log_ratio_interval
from steelyard.stats.proportion import wilson

__all__ = [
    "accuracy",
    "cell_words",
    "cells_table",
    "change_lines",
    "change_of",
    "change_table",
    "changes_json",
    "key_parts",
    "latency",
    "refusal_lines",
    "stress_lines",
    "suite_json",
]

_STYLES = {
    "faster": "green", "better": "green", "slower": "red", "worse": "red", "equivalent": "cyan", "undecided": "yellow",
}  # fmt: skip


def latency(cell: SuiteCell, level: float = 0.95) -> Estimate | Unavailable:
    """Seconds of one call at the cell's batch size: the geometric mean of its processes' medians, with its t interval."""
    found = None if cell.measured is None else cell.measured.get("latency_s", batch=cell.batch)
    if not isinstance(found, Sample):
        return Unavailable(quantity="latency", reason="not measured" if found is None else found.reason)
    blocks = np.zeros(len(found.values), dtype=np.int32) if found.blocks is None else found.blocks
    medians = np.array([np.median(found.values[blocks == block]) for block in np.unique(blocks)])
    value, low, high = log_ratio_interval(np.log(medians), level)
    return Estimate(
        quantity="latency", unit="s", value=value, low=low, high=high, level=level,
        method="t on logs of process medians", n=len(medians),
    )  # fmt: skip


def accuracy(cell: SuiteCell, level: float = 0.95) -> Estimate | None:
    """Of the test examples, where the cell has data."""
    made = None if cell.measured is None else cell.measured.on("test")
    if made is None:
        return None
    right, n = int(made.correct.sum()), len(made.labels)
    low, high = wilson(right, n, level)
    return Estimate(
        quantity="accuracy", unit="fraction", value=right / n, low=low, high=high, level=level, method="Wilson", n=n
    )


def cells_table(suite: Suite, cells: Sequence[SuiteCell]) -> Table:
    """One row a cell that was read."""
    table = Table(
        title=f"Suite {suite.name}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    _add_key_columns(table)
    for name in ("latency", "examples/s", "accuracy", "size"):
        table.add_column(name, justify="right")
    for cell in (c for c in cells if c.measured is not None and not c.stress):
        table.add_row(*_key_cells(cell.key), *cell_words(cell))
    table.caption = Text(
        "latency: of one call at that batch, 95 % t on fresh processes; accuracy: 95 % Wilson", style="dim"
    )
    table.caption_justify = "left"
    return table


def stress_lines(cells: Sequence[SuiteCell]) -> tuple[str, ...]:
    """What rising load showed of each cell under stress."""
    found = ((cell, loads.stressed(cell.measured)) for cell in cells if cell.stress)
    return tuple(
        f"{cell.key}: {'; '.join(loads.stress_words(shown, cell.wall_s))}" for cell, shown in found if shown is not None
    )


def refusal_lines(suite: Suite, cells: Sequence[SuiteCell]) -> Text:
    """Cells that could not be read, with their reasons, and how many there are in all."""
    lines = Text()
    reasons: dict[Refusal, list[str]] = {}
    for cell in cells:
        if cell.refusal is not None:
            reasons.setdefault(cell.refusal, []).append(cell.key)
    for refusal, keys in reasons.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        lines.append(f"{keys[0]}{more}: {refusal.kind}: {refusal.reason}\n", style="red")
    read = sum(cell.measured is not None for cell in cells)
    lines.append(f"{read} of {len(suite.cells)} cells read", style="bold")
    if read < len(suite.cells):
        lines.append("; the same command tries the others again")
    return lines


def change_table(change: SuiteChange) -> Table:
    """One row a cell and quantity of a `SuiteChange`."""
    title = f"{change.second} against {change.first}" + (", unlike machines" if change.unlike else "")
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    _add_key_columns(table)
    table.add_column("quantity")
    table.add_column("change", justify="right")
    table.add_column("verdict")
    for row in change.changes:
        verdict = row.outcome or "unavailable"
        table.add_row(
            *_key_cells(row.key),
            row.quantity,
            change_of(row),
            Text(verdict, style=_STYLES.get(verdict, "bright_black")),
        )
    table.caption = Text(
        "latency: ratio; accuracy: drop, jointly (Holm over the table); sustained: ratio of the rates under stress",
        style="dim",
    )
    table.caption_justify = "left"
    return table


def change_lines(change: SuiteChange) -> Text:
    """The mean of the ratios, and what a reader must know."""
    lines = Text()
    for row in change.changes:
        if isinstance(row.found, Unavailable):
            lines.append(f"{row.key}: {row.quantity}: {row.found.reason}\n", style="yellow")
    for note in change.notes:
        lines.append(f"{note}\n", style="dim")
    if change.unlike:
        lines.append(f"unlike machines: {change.unlike}: ratios are of machine and model together\n", style="yellow")
    if change.mean is not None:
        shown = numbers.ratio(change.mean.value, change.mean.low, change.mean.high)
        lines.append(f"geometric mean of {change.mean.n} latency ratios: {shown}", style="bold")
    return lines


def change_of(row: CellChange) -> str:
    """A ratio or a drop with its interval.

    >>> gone = Unavailable(quantity="latency", reason="not measured")
    >>> change_of(CellChange(key="a", quantity="latency", found=gone))
    '–'
    """
    if isinstance(row.found, Unavailable):
        return "–"
    show = numbers.points if row.quantity == "accuracy" else numbers.ratio
    return show(row.found.value, row.found.low, row.found.high)


def _add_key_columns(table: Table) -> None:
    for name in ("model", "data", "engine"):
        table.add_column(name, overflow="fold")
    table.add_column("batch", justify="right")


def _key_cells(key: str) -> tuple[Text, ...]:
    return tuple(map(Text, key_parts(key)))


def key_parts(key: str) -> tuple[str, str, str, str]:
    """Model, data, engine and batch of a cell's key.

    >>> key_parts("cnn/my/data/as-is/batch-8")
    ('cnn', 'my/data', 'as-is', '8')
    """
    (model, *data), engine, batch = key.split("/")[:-2], *key.split("/")[-2:]
    return model, "/".join(data), engine, batch.removeprefix("batch-")


def suite_json(suite: Suite, cells: Sequence[SuiteCell]) -> dict[str, Any]:
    """A suite in plain JSON types."""
    return {
        "schema": SCHEMA,
        "command": "suite run",
        "suite": suite.name,
        "machine": suite.environment.machine,
        "time": suite.time,
        "cells": [_cell_json(cell) for cell in cells],
        "not_read": [key for key in suite.cells if key not in {c.key for c in cells if c.measured is not None}],
    }


def changes_json(changes: Sequence[SuiteChange]) -> dict[str, Any]:
    """Comparisons in plain JSON types."""
    return {"schema": SCHEMA, "command": "suite compare", "comparisons": [_change_json(change) for change in changes]}


def cell_words(cell: SuiteCell) -> tuple[str, str, str, str]:
    """Latency, examples a second, accuracy and size of a cell that was read."""
    found, right = latency(cell), accuracy(cell)
    if isinstance(found, Unavailable):
        shown = rate = "unavailable"
    else:
        shown = numbers.interval(found.value, found.low, found.high, "s")
        rate = numbers.significant(cell.batch / found.value)
    assert cell.measured is not None
    stored = cell.measured.get("stored_bytes")
    return (
        shown,
        rate,
        "–" if right is None else numbers.interval(right.value, right.low, right.high, "fraction"),
        numbers.size(stored.value) if isinstance(stored, Sample) else "–",
    )


def _cell_json(cell: SuiteCell) -> dict[str, Any]:
    refusal = cell.refusal
    found = latency(cell)
    return {
        "key": cell.key,
        "model": cell.model,
        "data": cell.data or None,
        "engine": cell.engine,
        "batch": cell.batch,
        "latency": _known(found),
        "accuracy": estimate_json(accuracy(cell)),
        "stress": loads.stress_json(cell.measured),
        "turns_with": list(cell.beside),
        "refusal": None if refusal is None else {"kind": refusal.kind, "reason": refusal.reason},
        "flags": list(cell.flags),
        "seconds": cell.wall_s,
    }


def _change_json(change: SuiteChange) -> dict[str, Any]:
    return {
        "first": change.first,
        "second": change.second,
        "unlike_machines": change.unlike or None,
        "geometric_mean": estimate_json(change.mean),
        "notes": list(change.notes),
        "cells": [
            {
                "key": row.key,
                "quantity": row.quantity,
                "verdict": row.outcome,
                "estimate": _known(row.found),
                "unavailable": row.found.reason if isinstance(row.found, Unavailable) else None,
                "p_value": row.p_value,
                "adjusted": row.adjusted,
            }
            for row in change.changes
        ],
    }


def _known(found: Estimate | Unavailable) -> dict[str, Any] | None:
    return None if isinstance(found, Unavailable) else estimate_json(found)
