"""Percentiles bounded by order statistics: no assumption about the distribution.

The number of readings below the true q-quantile is binomial(n, q), so two order statistics bracket it with a
known probability (David and Nagaraja 2003, section 7.1). Readings are taken as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import tail

__all__ = ["median_interval", "needed_for_percentile", "percentile_interval"]

Readings = Sequence[float] | NDArray[np.floating]


def percentile_interval(values: Readings, q: float, level: float = 0.95) -> tuple[float, float, float] | None:
    """``(value, low, high)`` of the `q`-quantile (0 < q < 1), or `None` where n readings cannot bound it on both sides.

    `value` is the linearly interpolated sample quantile, the ends are order statistics, each missed with probability
    at most ``(1 - level) / 2``. Raises `InvalidInput` for NaN.

    >>> percentile_interval(range(1, 102), 0.9)
    (91.0, 85.0, 97.0)
    >>> percentile_interval(range(1, 21), 0.99) is None
    True
    """
    _check_q(q)
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if np.isnan(ordered).any():
        raise InvalidInput("readings hold NaN: a percentile of them is undefined; look for the reading that failed")
    ranks = _ranks(len(ordered), q, tail(level))
    if ranks is None:
        return None
    low, high = ranks
    return float(np.quantile(ordered, q)), float(ordered[low - 1]), float(ordered[high - 1])


def _ranks(n: int, q: float, alpha: float) -> tuple[int, int] | None:
    """Ranks (from 1) of the bounding order statistics: the tightest whose tails hold at most `alpha` each."""
    below = bdtr(np.arange(n), n, q)  # P(at most k readings below the quantile), k = 0 .. n - 1
    low = int(np.searchsorted(below, alpha, side="right"))
    high = int(np.searchsorted(below, 1 - alpha, side="left")) + 1
    return (low, high) if low >= 1 and high <= n else None


def median_interval(values: Readings, level: float = 0.95) -> tuple[float, float, float] | None:
    """:func:`percentile_interval` of the median; six readings are the least that bound it at 95 %.

    >>> median_interval([3.0, 1.0, 2.0, 5.0, 4.0, 6.0])
    (3.5, 1.0, 6.0)
    """
    return percentile_interval(values, 0.5, level)


def needed_for_percentile(q: float, level: float = 0.99) -> int:
    """Readings needed for the largest to bound the `q`-quantile from above with probability `level` (one-sided).

    >>> [needed_for_percentile(q) for q in (0.9, 0.99, 0.999)]
    [44, 459, 4603]
    """
    _check_q(q)
    tail(level)
    return math.ceil(math.log(1 - level) / math.log(q))


def _check_q(q: float) -> None:
    if not 0 < q < 1:
        raise InvalidInput(f"a quantile lies between 0 and 1 (0.99 for p99); got {q}")
