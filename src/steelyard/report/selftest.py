"""The rates of a self-test, as tables and as plain JSON. Nothing here prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from rich import box
from rich.table import Table

from steelyard.report import numbers
from steelyard.stats.proportion import clopper_pearson

__all__ = ["drop_table", "rate", "rates_json", "time_table"]


class Tallied(Protocol):
    """Verdicts on one injected change."""

    @property
    def injected(self) -> float:
        """The slow-down or the drop, a fraction."""
        ...

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What each verdict said."""
        ...

    @property
    def seconds(self) -> tuple[float, ...]:
        """How long each took, where that was measured."""
        ...


def rate(outcomes: Sequence[str], *wanted: str) -> str:
    """How many of the verdicts are one of these, and below it the exact interval of their share.

    >>> rate(["slower", "slower", "undecided"], "slower")
    '2 of 3\\n(9-99 %)'
    """
    count, n = sum(outcome in wanted for outcome in outcomes), len(outcomes)
    low, high = clopper_pearson(count, n)
    return f"{count} of {n}\n({100 * low:.0f}-{100 * high:.0f} %)"


def time_table(tallies: Sequence[Tallied], band: float) -> Table:
    """What was said of known slow-downs, with exact 95 % intervals of the shares, and how long a verdict took."""
    table = _table(f"Verdicts on known work, band {100 * band:g} %", "extra work")
    table.add_column("seconds a verdict", justify="right")
    for found in tallies:
        name = f"+{100 * found.injected:g} %" if found.injected else "none (A/A)"
        shown = [rate(found.outcomes, word) for word in ("slower", "faster", "equivalent", "undecided")]
        table.add_row(name, *shown, numbers.significant(float(np.median(found.seconds))))
    table.caption = "In brackets: exact 95 % intervals of the share (Clopper and Pearson). Seconds: the median."
    return table


def drop_table(tallies: Sequence[Tallied], examples: int) -> Table:
    """What was said of simulated drops of accuracy."""
    table = _table(f"Verdicts on simulated drops of accuracy, {examples:,} examples", "drop")
    for found in tallies:
        name = f"{100 * found.injected:g} points" if found.injected else "none"
        table.add_row(name, *(rate(found.outcomes, word) for word in ("worse", "better", "equivalent", "undecided")))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False)
    table.add_column(first)
    bad = ("slower", "faster") if first != "drop" else ("worse", "better")
    for name in (*bad, "equivalent", "undecided"):
        table.add_column(name, justify="right", overflow="fold")
    return table


def rates_json(tallies: Sequence[Tallied]) -> list[dict[str, Any]]:
    """Counts and exact intervals of each outcome."""
    return [
        {
            "injected": found.injected,
            "n": len(found.outcomes),
            "median_s": float(np.median(found.seconds)) if found.seconds else None,
            "outcomes": {
                word: {"count": found.outcomes.count(word), "interval": clopper_pearson(found.outcomes.count(word), len(found.outcomes))}
                for word in sorted(set(found.outcomes))
            },
        }
        for found in tallies
    ]  # fmt: skip
