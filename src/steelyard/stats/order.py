"""Percentiles bounded by order statistics: no assumption about the distribution.

The number of readings below the true q-quantile is binomial(n, q), so two order statistics bracket it with a
known probability (David and Nagaraja 2003, section 7.1). Readings are taken as independent; those of one process
follow each other and are not, so :func:`serial_percentile_interval` counts how many independent ones they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betainc

from steelyard.errors import InvalidInput
from steelyard.stats.proportion import wilson
from steelyard.stats.quantiles import tail

__all__ = [
    "LEAST_LATE",
    "LEAST_SEEN",
    "flag_inflation",
    "holding",
    "inflation",
    "median_interval",
    "needed_for_percentile",
    "percentile_interval",
    "readings_to_bound",
    "serial_percentile_interval",
]

Readings = Sequence[float] | NDArray[np.floating]

_STRETCHES = (10, 20, 40)  # a series is cut into so many; the cut that shows the most dependence counts
LEAST_LATE = 3  # late requests of which one may say "broken": one of five says nothing of a p99
LEAST_SEEN = 5 * max(_STRETCHES)  # readings in a row below which their dependence cannot be seen


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


def serial_percentile_interval(
    values: Readings, q: float, level: float = 0.95, *, inflated: float | None = None
) -> tuple[float, float, float] | None:
    """:func:`percentile_interval` of readings in the order they were taken, which may depend on their neighbours.

    n readings bound the quantile like n / `inflated` independent ones (:func:`inflation` of these readings, unless
    given): ranks are found for that many and stretched to n. With an inflation of 1 the two functions agree.

    >>> serial_percentile_interval([1.0, 2.0] * 50, 0.5) == percentile_interval([1.0, 2.0] * 50, 0.5)
    True
    """
    _check_q(q)
    series = np.asarray(values, dtype=np.float64)
    worth = inflation(series, q) if inflated is None else inflated
    if worth <= 1 or not len(series) or np.isnan(series).any():
        return percentile_interval(series, q, level)
    ordered = np.sort(series)
    ranks = _real_ranks(len(ordered) / worth, q, tail(level))
    if ranks is None:
        return None
    low, high = max(1, math.floor(ranks[0] * worth)), min(len(ordered), math.ceil(ranks[1] * worth))
    return float(np.quantile(ordered, q)), float(ordered[low - 1]), float(ordered[high - 1])


def inflation(values: Readings, q: float) -> float:
    """How many readings in a row are worth one independent reading of the `q`-quantile; 1 or more.

    Whether each lies below the sample quantile is counted in contiguous stretches, 10, 20 and 40 of them. Of independent
    readings the counts vary as a binomial; what they vary more is the inflation, and the largest of the three is taken
    (batch means: Alexopoulos and Seila 1998). Under 200 readings nothing can be seen and the answer is 1.
    """
    _check_q(q)
    series = np.asarray(values, dtype=np.float64)
    if len(series) < LEAST_SEEN:
        return 1.0
    below = series <= np.quantile(series, q, method="inverted_cdf")
    return _inflated(below, q)


def flag_inflation(flags: NDArray[np.bool_]) -> float:
    """:func:`inflation` for a share: how many flags in a row are worth one independent one.

    >>> flag_inflation(np.zeros(1000, dtype=bool))
    1.0
    """
    share = float(np.mean(flags)) if len(flags) else 0.0
    return _inflated(flags, share) if len(flags) >= LEAST_SEEN and 0 < share < 1 else 1.0


def holding(late: NDArray[np.bool_], quantile: float, level: float = 0.95) -> str:
    """Whether a rate held: ``held``, ``broken`` or ``undecided``, by Wilson's interval of the share of late requests.

    `late` says of each request, in order, whether it came later than the limit. Late ones come in bunches, so the interval is
    taken at the number of independent requests they are worth; of fewer than 200 that cannot be seen, and none are said to hold.

    >>> [holding(np.arange(n) < k, 0.99) for n, k in ((400, 0), (180, 20), (100, 0))]
    ['held', 'broken', 'undecided']
    """
    if not len(late):
        return "undecided"
    worth = flag_inflation(late)
    low, high = wilson(float(late.sum()) / worth, len(late) / worth, level)
    if high <= 1 - quantile and len(late) >= LEAST_SEEN:
        return "held"
    return "broken" if low > 1 - quantile and late.sum() >= LEAST_LATE else "undecided"


def _inflated(flags: NDArray[np.bool_], share: float) -> float:
    return max(1.0, *(_overdispersion(flags, stretches) / (share * (1 - share)) for stretches in _STRETCHES))


def _overdispersion(below: NDArray[np.bool_], stretches: int) -> float:
    """Variance of a stretch's count, by reading; readings that fill no whole stretch are left out at the start."""
    size = len(below) // stretches
    counts = below[len(below) - size * stretches :].reshape(stretches, size).sum(axis=1)
    return float(counts.var(ddof=1)) / size


def _real_ranks(n: float, q: float, alpha: float) -> tuple[int, int] | None:
    """:func:`_ranks` for a number of readings that need not be whole: the binomial through the beta function."""
    whole = np.arange(math.ceil(n))
    below = betainc(n - whole, whole + 1, 1 - q)
    low = int(np.searchsorted(below, alpha, side="right"))
    high = int(np.searchsorted(below, 1 - alpha, side="left")) + 1
    return (low, high) if low >= 1 and high <= n else None


def readings_to_bound(q: float, level: float = 0.95, *, inflated: float = 1.0, more_than: int = 0) -> int:
    """Readings that :func:`serial_percentile_interval` needs at least, where so many in a row are worth an independent one.

    `more_than` is a number known not to do; parts of a reading make the least number jump.

    >>> [readings_to_bound(q) for q in (0.5, 0.9, 0.99, 0.999)]
    [6, 36, 368, 3688]
    >>> readings_to_bound(0.9, inflated=5.7), readings_to_bound(0.9, inflated=5.7, more_than=216)
    (211, 217)
    """
    _check_q(q)
    n = math.ceil(math.log(tail(level)) / math.log(max(q, 1 - q)) - 1e-9)
    if inflated <= 1:
        return n
    n = max(math.ceil(n * inflated), more_than + 1)
    while _real_ranks(n / inflated, q, tail(level)) is None:
        n += 1
    return n


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
