"""Tables about plans: what would be tried before any time is spent, and the front of what was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import Prediction, RunRecords
from steelyard.report import numbers
from steelyard.report.frontier import candidates, shown

__all__ = ["front_table", "hopeless_table", "plans_json", "plans_table"]

MOST = 25  # plans listed: a space may hold hundreds

_STANDINGS = {"chosen": "bold green", "finalist": "cyan"}


def plans_table(predictions: Sequence[Prediction], budget_s: float) -> Table:
    """The plans in the order in which they would be tried, as far as the budget is likely to reach, and why."""
    hopeful = [p for p in predictions if not p.hopeless]
    table = _table("Plans, in the order in which they would be tried")
    for name in ("", "gain", "ceiling", "takes", "done after"):
        table.add_column(name, justify="right")
    table.add_column("plan and reason", overflow="fold")
    minutes = 0.0
    for place, plan in enumerate(hopeful[:MOST], 1):
        minutes += plan.minutes
        late = 60 * minutes > budget_s
        words = Text(str(plan.plan), style="dim" if late else "bold")
        words.append(f"\n{plan.because}", style="dim")
        gains = (f"{numbers.significant(v)}x" if v < float("inf") else "not known" for v in (plan.gain, plan.ceiling))
        table.add_row(
            str(place), *gains, numbers.seconds(60 * plan.minutes), numbers.seconds(60 * minutes), words,
            style="dim" if late else "",
        )  # fmt: skip
    more = f" {len(hopeful) - MOST:,} more follow." if len(hopeful) > MOST else ""
    caption = (
        f"Predicted by rules of thumb; what is measured corrects the order.{more} Dim: beyond the budget of "
        f"{numbers.seconds(budget_s)}, which the proof has a part of."
    )
    table.caption, table.caption_justify = Text(caption, style="dim"), "left"
    return table


def hopeless_table(predictions: Sequence[Prediction]) -> Table | None:
    """The shortest plans that cannot help here, each with the reason; None where all may."""
    hopeless = [p for p in predictions if p.hopeless]
    if not hopeless:
        return None
    table = _table("Will not help here")
    for name in ("plan", "because"):
        table.add_column(name, overflow="fold")
    for prediction in hopeless:
        table.add_row(Text(str(prediction.plan)), Text(prediction.because))
    return table


def plans_json(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Every plan in order, with what is foreseen of it."""
    return [
        {
            "plan": str(p.plan),
            "gain": p.gain,
            "ceiling": p.ceiling if p.ceiling < float("inf") else None,
            "minutes": p.minutes,
            "because": p.because,
            "hopeless": p.hopeless,
        }
        for p in predictions
    ]


def front_table(records: RunRecords, axes: Sequence[str]) -> Table:
    """Every candidate that was read on all axes; a mark where no other beats it on all of them."""
    table = _table(f"Pareto front of {' and '.join(axes)}")
    table.add_column("")
    table.add_column("plan", overflow="fold")
    for name in axes:
        table.add_column(name, justify="right")
    table.add_column("stands as")
    for candidate in candidates(records, axes):
        style = _STANDINGS.get(candidate.standing, "")
        table.add_row(
            "●" if candidate.on_front else "",
            Text(str(candidate.plan)),
            *(shown(name, candidate.values[name]) for name in axes),
            Text(candidate.standing, style=style),
            style="" if candidate.on_front else "dim",
        )
    words = "● nothing beats it on all of these at once. Validation data; the proof is another matter."
    table.caption, table.caption_justify = Text(words, style="dim"), "left"
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
