"""What the simulations share: a metric asked through the table, and a count of how often its interval held the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steelyard.metrics.examples import Examples
from steelyard.metrics.table import drop_estimate, estimate, evidence, find, pair
from steelyard.records import Estimate, Unavailable

__all__ = ["Floats", "Held", "Row", "Section", "ask", "ask_all", "ask_drop", "following", "held", "spoken"]

Floats = NDArray[np.float64]
Row = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """How often an interval held the truth; printed as that share, with a star where the tool says "too few"."""

    repeats: int
    under: int  # intervals that end below the truth
    over: int  # intervals that begin above it
    half: float  # mean half-width
    few: bool  # the tool said "too few" in most repeats

    @property
    def share(self) -> float:
        """The coverage."""
        return 1 - (self.under + self.over) / self.repeats

    @property
    def falsely_safe(self) -> float:
        """The share whose upper end lies below the truth: of a drop, those that promise too much."""
        return self.under / self.repeats

    def __str__(self) -> str:
        return f"{self.share:.3f}{'*' if self.few else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table: its name on the command line, what stands above it, and its rows."""

    name: str
    title: str
    text: str
    header: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]


def held(found: Iterable[Estimate | Unavailable], truth: float) -> Held:
    """The tally of the intervals that were given; where a metric is undefined there is none."""
    given = [each for each in found if isinstance(each, Estimate)]
    return Held(
        repeats=len(given),
        under=sum(each.high < truth for each in given),
        over=sum(each.low > truth for each in given),
        half=float(np.mean([each.high - each.low for each in given])) / 2,
        few=2 * sum("too few" in each.method for each in given) > len(given),
    )


def ask(examples: Examples, name: str) -> Estimate | Unavailable:
    """One metric with its interval, as a user gets it."""
    return ask_all(examples, (name,))[0]


def ask_all(examples: Examples, names: tuple[str, ...]) -> list[Estimate | Unavailable]:
    """Several metrics that share their resamples."""
    metrics = [find(name, examples.task) for name in names]
    of = evidence(examples, metrics)
    return [estimate(of, metric) for metric in metrics]


def ask_drop(before: Examples, after: Examples, name: str) -> Estimate | Unavailable:
    """How much worse the second model is, with its interval."""
    metric = find(name, before.task)
    return drop_estimate(pair(before, after, [metric]), metric)


def following(rng: np.random.Generator, shape: tuple[int, int], correlation: float) -> Floats:
    """Rows of standard normal values that each follow the one before: an autoregression of the first order."""
    values = rng.standard_normal(shape)
    for at in range(1, shape[1]):
        values[:, at] = correlation * values[:, at - 1] + math.sqrt(1 - correlation**2) * values[:, at]
    return values


def spoken(rows: Iterable[Row]) -> str:
    """The range of the coverages in a table, in one sentence, those called "too few" apart."""
    cells = [cell for row in rows for cell in row if isinstance(cell, Held)]
    if not cells:
        return ""
    kept = [cell for cell in cells if not cell.few]
    starred = [cell for cell in cells if cell.few]
    said = [_range(kept, "cells" if not starred else "cells without a star")] if kept else []
    if starred:
        said.append(f"{_range(starred, 'starred ones')}; a star marks where the tool itself says 'too few'")
    return " ".join(sentence + "." for sentence in said)


def _range(cells: list[Held], what: str) -> str:
    shares = [cell.share for cell in cells]
    inside = sum(0.94 <= round(share, 3) <= 0.96 for share in shares)
    under = sum(round(share, 3) < 0.94 for share in shares)
    repeats = [cell.repeats for cell in cells]
    error = math.sqrt(0.95 * 0.05 / min(repeats))
    return (
        f"Measured: the {len(cells)} {what} run from {min(shares):.3f} to {max(shares):.3f}, {inside} of them within 0.94 to "
        f"0.96, {under} under it ({_span(repeats)} draws each, standard error up to {error:.3f})"
    )


def _span(repeats: list[int]) -> str:
    low, high = min(repeats), max(repeats)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
