"""The words of `steelyard carbon`: tables and JSON of a `Footprint`'s parts. Nothing here prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from steelyard.records import Estimate
from steelyard.report import numbers
from steelyard.report.energy import Elsewhere
from steelyard.report.text import elsewhere_json, estimate_json, grids_table

__all__ = ["begin_line", "footprint_json", "footprint_table", "head_lines"]


def head_lines(model: str, inferences: int, seconds: float, energy: Estimate) -> Text:
    """What is counted: how many inferences, how long they take one after the other, and their energy with its label."""
    lines = Text()
    lines.append(f"{inferences:,} inferences of {model}", style="bold")
    lines.append(f", one after the other: {duration(seconds)}\n")
    lines.append(f"energy  {numbers.interval(energy.value, energy.low, energy.high, energy.unit)}")
    lines.append(f"  {energy.method}", style="dim")
    return lines


def footprint_table(grids: Sequence[Elsewhere]) -> Table:
    """Carbon of all of them, on every grid."""
    return grids_table("Carbon", "carbon", grids)


def begin_line(time: str, g_per_kwh: float, at_once: float, saved: float) -> Text:
    """When to begin, by the forecast."""
    line = Text("begin   ", style="bold")
    line.append(f"{time}", style="bold")
    line.append(f": {g_per_kwh:.3g} g/kWh instead of {at_once:.3g} at once, {max(0.0, saved):.0%} less carbon")
    return line


def duration(seconds: float) -> str:
    """A length of time as people plan with it.

    >>> duration(0.5), duration(90), duration(7000), duration(300_000)
    ('500 ms', '1.50 min', '1.94 h', '3.47 days')
    """
    if seconds < 3600:
        return numbers.seconds(seconds)
    unit, word = (3600, "h") if seconds < 86400 else (86400, "days")
    return f"{numbers.significant(seconds / unit)} {word}"


def footprint_json(
    model: str,
    inferences: int,
    seconds: float,
    energy: Estimate,
    grids: Sequence[Elsewhere],
    begin: dict[str, Any] | None,
) -> dict[str, Any]:
    """All of it in plain JSON types, base units."""
    return {
        "model": model,
        "inferences": inferences,
        "seconds": seconds,
        "energy": estimate_json(energy),
        "grids": [elsewhere_json(row, "total") for row in grids],
        "begin": begin,
    }
