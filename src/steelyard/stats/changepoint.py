"""Where warm-up ends: change-points in the mean, and whether a steady stretch follows.

The series is winsorised around its running median (an outlier must not make a segment), averaged into at most 256
blocks, and split by penalised least squares solved exactly (optimal partitioning; Jackson et al. 2005, Killick et al.
2012). Steady state begins where all later segments agree with the last one (after Barrett et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput

__all__ = ["segments", "steady_from"]

Floats = NDArray[np.float64]

_LEAST = 8  # readings below which nothing can be said
_BLOCKS = 256  # blocks at most, so that 5,000 readings cost no more than 256
_WINDOW = 7  # of the running median; a level must last half as long to be believed
_CLIP = 3.0  # noise units kept around the running median
_PENALTY = 5.0  # times variance x log(blocks), for each change


def steady_from(values: Sequence[float] | Floats, tolerance: float = 0.02, share: float = 0.25) -> int | None:
    """The index of the first steady reading, or `None` where there is no steady state.

    Segments whose mean is within `tolerance` (relative; or two standard errors, where that is more) of the last
    segment's count as one with it. There is no steady state where this last stretch holds less than `share` of the
    readings: a trend, a late jump, or fewer than 8 readings. With more than 256 readings the index falls on a block's
    edge. Raises `InvalidInput` for NaN or infinity.

    >>> steady_from([9.0, 7.0, 6.0, 5.0] + [1.0, 1.01, 0.99, 1.0] * 10)
    4
    >>> steady_from(range(100)) is None
    True
    """
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise InvalidInput("readings hold NaN or infinity: look for the reading that failed")
    if len(series) < _LEAST:
        return None
    clean = _winsorised(series)
    starts = segments(series)
    means = [float(clean[a:b].mean()) for a, b in zip(starts, [*starts[1:], len(series)], strict=True)]
    slack = max(tolerance * abs(means[-1]), 2 * _noise(clean) / np.sqrt(len(series) - starts[-1]))
    first = len(starts) - 1
    while first > 0 and abs(means[first - 1] - means[-1]) <= slack:
        first -= 1
    return starts[first] if len(series) - starts[first] >= share * len(series) else None


def segments(values: Sequence[float] | Floats) -> list[int]:
    """Indices at which stretches of constant mean begin; the first is 0."""
    clean = _winsorised(np.asarray(values, dtype=np.float64))
    size = -(-len(clean) // _BLOCKS)
    edges = np.arange(0, len(clean), size)
    counts = np.diff(np.append(edges, len(clean))).astype(np.float64)
    means = np.add.reduceat(clean, edges) / counts
    scale = max(_noise(means), 1e-9 * float(np.abs(means).max()), np.finfo(np.float64).tiny)
    return [int(edges[i]) for i in _partition(means / scale, counts / size)]


def _partition(means: Floats, weights: Floats) -> list[int]:
    """Optimal partitioning of unit-noise block means: for each end, the best last change before it."""
    n = len(means)
    total, first, second = (np.concatenate([[0.0], np.cumsum(weights * means**p)]) for p in (0, 1, 2))
    best, last = np.zeros(n + 1), np.zeros(n + 1, dtype=np.int64)
    penalty = _PENALTY * np.log(max(n, 2))
    best[0] = -penalty
    for end in range(1, n + 1):
        size, s1, s2 = total[end] - total[:end], first[end] - first[:end], second[end] - second[:end]
        costs = best[:end] + (s2 - s1 * s1 / size) + penalty
        last[end] = int(np.argmin(costs))
        best[end] = costs[last[end]]
    starts = [int(last[n])]
    while starts[-1] > 0:
        starts.append(int(last[starts[-1]]))
    return starts[::-1]


def _winsorised(series: Floats) -> Floats:
    """Readings pulled in to within three noise units of their running median."""
    half = _WINDOW // 2
    padded = np.pad(series, half, mode="reflect") if len(series) > half else np.pad(series, half, mode="edge")
    centre = np.median(np.lib.stride_tricks.sliding_window_view(padded, _WINDOW), axis=1)
    reach = _CLIP * _noise(series)
    return np.asarray(np.clip(series, centre - reach, centre + reach))


def _noise(series: Floats) -> float:
    """Standard deviation around a slowly changing mean, from the median absolute successive difference."""
    return float(1.4826 * np.median(np.abs(np.diff(series))) / np.sqrt(2)) if len(series) > 1 else 0.0
