"""Analysis by scenario: a metric inside each slice against all other examples, worst first, under Holm.

The gap of two independent sets of examples has the interval that the two metrics' own intervals add up to, square-and-add
(MOVER: Newcombe 1998; Zou and Donner 2008), so that any metric with an interval can be sliced. Its p is read off that
interval (of shares it is Fisher's exact one), and Holm goes over all slices that were looked at, the discovered ones that are not shown among them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from steelyard.metrics.examples import Examples
from steelyard.metrics.families import Evidence, Table
from steelyard.metrics.table import Metric, estimate, evidence
from steelyard.records import Estimate, SliceScore, Unavailable
from steelyard.stats.multiple import holm

__all__ = ["MOST_LEVELS", "Column", "Cut", "bins", "cuts", "gap", "gap_p_value", "judged"]

Bools = NDArray[np.bool_]

LEAST = 20  # examples in a slice, and outside it, below which nothing is claimed of it
MOST_LEVELS = 1000  # values of one column
MOST_PAIRS = 400  # slices of two columns looked at, the largest first


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """A column to slice by: ``levels[codes[i]]`` is the value of example i."""

    name: str
    codes: NDArray[np.int64]
    levels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """One slice: its conditions, the places of its values among their columns' levels, and how many examples it holds."""

    conditions: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]
    places: tuple[int, ...]
    n: int
    discovered: bool = False

    @property
    def inside(self) -> Bools:
        """Which examples fulfil the conditions; made when it is asked for, since many slices of many examples fill memory."""
        found: Bools = self.columns[0].codes == self.places[0]
        for column, place in zip(self.columns[1:], self.places[1:], strict=True):
            found &= column.codes == place
        return found


def bins(name: str, values: NDArray[np.float64], spec: str) -> Column:
    """A numeric column as ranges: ``10`` for ten of about as many examples each, ``18,40,65`` for edges.

    At most 1,000. Raises `ValueError` for a spec that is neither.

    >>> bins("age", np.array([20.0, 30.0, 40.0, 70.0]), "40,65").levels
    ('under 40', '40 to 65', '65 and over')
    """
    parts = [float(part) for part in spec.split(",")]
    if len(parts) == 1 and parts[0].is_integer() and 2 <= parts[0] <= MOST_LEVELS:
        shares = np.linspace(0, 1, int(parts[0]) + 1)[1:-1]
        edges = np.unique(np.quantile(values, shares, method="higher"))
        edges = edges[edges > values.min()]
    else:
        edges = np.array(parts)
        if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ValueError(spec)
    names = [f"{edge:.6g}" for edge in edges]
    middle = [f"{low} to {high}" for low, high in pairwise(names)]
    levels = (f"under {names[0]}", *middle, f"{names[-1]} and over") if names else ("all",)
    return Column(name=name, codes=np.searchsorted(edges, values, side="right").astype(np.int64), levels=levels)


def cuts(columns: Sequence[Column]) -> tuple[tuple[Cut, ...], int]:
    """Every value of every column, then every pair of values of two columns that holds enough examples.

    With the number of pairs that were left out because there were more than 400.
    """
    single = tuple(
        Cut(conditions=((column.name, level),), columns=(column,), places=(place,), n=count)
        for column in columns
        for place, (level, count) in enumerate(zip(column.levels, _counts(column), strict=True))
    )
    crossed = sorted(_pairs(columns), key=lambda cut: -cut.n)
    return (*single, *crossed[:MOST_PAIRS]), max(0, len(crossed) - MOST_PAIRS)


def _pairs(columns: Sequence[Column]) -> Iterator[Cut]:
    for one, other in combinations(columns, 2):
        width, total = len(other.levels), len(one.codes)
        counts = np.bincount(one.codes * np.int64(width) + other.codes)
        for code in np.flatnonzero((counts >= LEAST) & (total - counts >= LEAST)).tolist():
            first, second = divmod(code, width)
            conditions = ((one.name, one.levels[first]), (other.name, other.levels[second]))
            yield Cut(
                conditions=conditions,
                columns=(one, other),
                places=(first, second),
                n=int(counts[code]),
                discovered=True,
            )


def _counts(column: Column) -> list[int]:
    found: list[int] = np.bincount(column.codes, minlength=len(column.levels)).tolist()
    return found


def judged(
    examples: Examples, metric: Metric, found: Sequence[Cut], level: float = 0.95, *, shown: int = 20
) -> tuple[SliceScore, ...]:
    """The metric on every slice against the rest, worst first.

    Of the discovered slices at most `shown` are returned, those shown to be worse than the rest at ``1 - level``.
    """
    scores = [_looked_at(examples, metric, cut, level) for cut in found]
    tested = {i: score.p_value for i, score in enumerate(scores) if score.p_value is not None}
    for i, claim in zip(tested, holm(list(tested.values()), 1 - level), strict=True):
        scores[i] = _decided(scores[i], claim.adjusted, rejected=claim.rejected)
    given = [s for s in scores if not s.discovered]
    weak = sorted((s for s in scores if s.discovered and s.verdict == "worse"), key=_worst)
    return (*sorted(given, key=_worst), *weak[:shown])


def _looked_at(examples: Examples, metric: Metric, cut: Cut, level: float) -> SliceScore:
    mask, inside, outside = cut.inside, cut.n, len(examples) - cut.n
    here, there = _side(examples, metric, mask), _side(examples, metric, ~mask)
    score, rest = _asked(here, metric, level), _asked(there, metric, level)
    known = isinstance(score, Estimate) and isinstance(rest, Estimate)
    difference, p = None, None
    if known and here is not None and there is not None and min(inside, outside) >= LEAST:
        difference = gap(here, there, metric, level)
        p = gap_p_value(here, there, metric)
    return SliceScore(
        conditions=cut.conditions,
        n=inside,
        score=score,
        rest=rest,
        gap=difference,
        p_value=p,
        verdict="undecided" if p is not None else "too few",
        discovered=cut.discovered,
    )


def _side(examples: Examples, metric: Metric, inside: Bools) -> Evidence | None:
    return evidence(examples.take(inside), [metric]) if inside.any() else None


def _asked(of: Evidence | None, metric: Metric, level: float) -> Estimate | Unavailable:
    return (
        Unavailable(quantity=metric.name, reason="undefined: no examples")
        if of is None
        else estimate(of, metric, level)
    )


def _decided(score: SliceScore, adjusted: float, *, rejected: bool) -> SliceScore:
    assert score.gap is not None
    verdict = score.verdict
    if rejected:
        verdict = "worse" if score.gap.value > 0 else "better"
    return dataclasses.replace(score, adjusted=adjusted, verdict=verdict)


def _worst(score: SliceScore) -> tuple[bool, float]:
    """Slices that nothing is claimed of come last."""
    return score.gap is None, -(score.gap.value if score.gap is not None else 0.0)


# --- the gap between two sets of examples ---------------------------------------------------------------


def gap(here: Evidence, there: Evidence, metric: Metric, level: float = 0.95) -> Estimate:
    """How much worse `metric` is `here` than `there`, two sets without common examples: positive is worse."""
    one, other = estimate(here, metric, level), estimate(there, metric, level)
    assert isinstance(one, Estimate)
    assert isinstance(other, Estimate)
    better, worse = (other, one) if metric.higher_is_better else (one, other)
    value = better.value - worse.value
    low = value - math.hypot(better.value - better.low, worse.high - worse.value)
    high = value + math.hypot(better.high - better.value, worse.value - worse.low)
    return Estimate(
        quantity=f"{metric.name}_gap",
        unit=metric.unit,
        value=value,
        low=low,
        high=high,
        level=level,
        method=f"square-and-add of two intervals: {one.method}",
        n=one.n + other.n,
    )


def gap_p_value(here: Evidence, there: Evidence, metric: Metric) -> float:
    """Two-sided p of "no gap".

    Of shares of counted examples by Fisher's exact test: under many slices the p that counts is far out in the tail,
    where the intervals of small slices are not to be relied on. Else one minus the level at which the gap's interval
    just reaches 0.
    """
    counts = [_counted(of, metric) for of in (here, there)]
    if None not in counts:
        return _fisher(counts)  # type: ignore[arg-type]
    low, high = -12.0, 0.0  # bisection on log10(p)
    for _ in range(24):
        middle = (low + high) / 2
        found = gap(here, there, metric, 1 - 10**middle)
        low, high = (middle, high) if found.low <= 0 <= found.high else (low, middle)
    return float(10 ** ((low + high) / 2))


def _counted(of: Evidence, metric: Metric) -> tuple[int, int] | None:
    """(successes, failures) of a share of counted, unclustered examples; None for other metrics."""
    family = metric.family
    if not isinstance(family, Table) or not family.share or of.examples.clusters is not None:
        return None
    trials = round(family.trials(of.margins))
    successes = round(family.value(of) * trials)
    return successes, trials - successes


def _fisher(counts: Sequence[tuple[int, int]]) -> float:
    """Fisher's exact two-sided p: tables as rare as the one seen, or rarer (Fisher 1934)."""
    (a, b), (c, d) = counts
    total, right, size = a + b + c + d, a + c, a + b
    possible = np.arange(max(0, size - (total - right)), min(size, right) + 1, dtype=np.float64)
    cells = np.stack([possible, right - possible, size - possible, total - right - size + possible])
    logs = -gammaln(cells + 1).sum(axis=0)
    weights = np.exp(logs - logs.max())
    seen = weights[a - int(possible[0])]
    return min(1.0, float(weights[weights <= seen * (1 + 1e-7)].sum() / weights.sum()))
