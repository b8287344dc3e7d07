"""A training ledger for the terminal, and as plain JSON. Nothing here prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import SCHEMA, Estimate, Ledger, LedgerEnd, LedgerRow, Unavailable
from steelyard.report import numbers

__all__ = ["conclusion", "ledger_json", "ledger_notes", "ledger_table", "row_cells"]

MARKS = {"pays": ("✓", "green"), "does not pay": ("✗", "red"), "undecided": ("?", "yellow")}
COLUMNS = ("step", "training", "peak memory", "energy", "accuracy drop")


def conclusion(ledger: Ledger, end: LedgerEnd) -> str:
    """What is left, in one sentence."""
    paying = [row.technique for row in end.rows if row.outcome == "pays" and row.technique != "combined"]
    if end.chosen == "baseline":
        return f"No technique saves {ledger.pay} for certain at {ledger.requirement.text}: the recipe stays as it is."
    row = next(row for row in end.rows if row.technique == end.chosen)
    what = " + ".join(paying) if end.chosen == "combined" else end.chosen
    cost = {"time": row.training, "memory": row.memory, "energy": row.energy}[ledger.pay]
    assert isinstance(cost, Estimate)
    return f"{what} pays: {ledger.pay} {numbers.ratio(cost.value, cost.low, cost.high)} of the baseline's."


def ledger_table(ledger: Ledger, end: LedgerEnd) -> Table:
    """One row a technique: ratios to the baseline with their intervals, and the verdict."""
    table = Table(
        title="Training ledger", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("technique", no_wrap=True, overflow="ellipsis")
    for name in COLUMNS:
        table.add_column(name, justify="right", overflow="fold")
    if ledger.target is not None:
        table.add_column("reached", justify="right")
    table.add_column("verdict")
    for row in end.rows:
        mark, style = MARKS[row.outcome]
        reached = (
            [] if ledger.target is None else ["" if row.reached is None else f"{row.reached[0]} of {row.reached[1]}"]
        )
        stacked = (cell.replace(" (", "\n(") for cell in row_cells(row))  # five columns side by side are wide
        table.add_row(Text(row.technique), *stacked, *reached, Text(f"{mark} {row.outcome}", style=style))
    table.caption = Text("\n".join(_captions(ledger, end)), style="dim")
    table.caption_justify = "left"
    return table


def row_cells(row: LedgerRow) -> tuple[str, ...]:
    """The five readings of a technique in words; a dash for what was not read."""
    ratios = (row.step, row.training, row.memory, row.energy)
    return (*(_found(ratio) for ratio in ratios), _drop(row.drop))


def ledger_notes(end: LedgerEnd) -> Text:
    """Why each technique pays or does not, and what the test split says of what was chosen."""
    lines = Text()
    for row in end.rows:
        lines.append(f"{row.technique}: {row.reason}\n", style=MARKS[row.outcome][1])
    if isinstance(end.test_drop, Estimate):
        lines.append(f"on the test split, judged once: accuracy drop {_drop(end.test_drop)}\n")
    return lines


def ledger_json(ledger: Ledger, end: LedgerEnd) -> dict[str, Any]:
    """Plain types: ratios and drops as value, low and high; what was not read as its reason."""
    return {
        "schema": SCHEMA,
        "pay": ledger.pay,
        "requirement": ledger.requirement.text,
        "target": ledger.target,
        "seeds": list(ledger.seeds),
        "level": end.level,
        "techniques": [_row_json(row) for row in end.rows],
        "chosen": end.chosen,
        "recipe": dict(end.recipe),
        "passes": str(end.plan) if end.plan.steps else None,
        "test_drop": None if end.test_drop is None else _plain(end.test_drop),
        "control": _plain(end.control),
        "control_alarm": end.control_alarm,
        "wall_s": end.wall_s,
    }


def _captions(ledger: Ledger, end: LedgerEnd) -> Iterator[str]:
    what = (
        "the whole training" if ledger.target is None else f"training until {100 * ledger.target:.3g} % on validation"
    )
    yield f"ratios to the baseline, under 1 is less; step: time of one example; training: {what}"
    yield f"intervals at {100 * end.level:.4g} %, so that all hold together at 95 %; {len(ledger.seeds)} seeds"
    if end.control_alarm:
        yield "the A/A control found a difference between the baseline and itself: times were widened by as much"


def _row_json(row: LedgerRow) -> dict[str, Any]:
    names = ("step", "training", "memory", "energy", "drop")
    found = {name: _plain(getattr(row, name)) for name in names}
    reached = None if row.reached is None else list(row.reached)
    return {"technique": row.technique, **found, "reached": reached, "outcome": row.outcome, "reason": row.reason}


def _plain(found: Estimate | Unavailable) -> dict[str, Any]:
    if isinstance(found, Unavailable):
        return {"unavailable": found.reason}
    return {"value": found.value, "low": found.low, "high": found.high, "method": found.method, "n": found.n}


def _found(found: Estimate | Unavailable) -> str:
    return "–" if isinstance(found, Unavailable) else numbers.ratio(found.value, found.low, found.high)


def _drop(found: Estimate | Unavailable) -> str:
    return "–" if isinstance(found, Unavailable) else numbers.points(found.value, found.low, found.high)
