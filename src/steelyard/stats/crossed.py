"""The mean over trainings and examples at once, where every training is judged on the same examples.

Two trainings of one recipe differ by their seeds, and two sets of examples by chance; an interval that knows one of the
two alone is too narrow. With ``d[s, i]`` what training s gained or lost on example i,

    d[s, i] = mean + a[s] + b[i] + e[s, i],   Var(mean over both) = (MSa + MSb - MSe) / (S N)

where MS are the mean squares of the two-way layout without replication (Searle, Casella and McCulloch 1992, Variance
Components, 4.1), with Satterthwaite's degrees of freedom (1946).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import t_critical

__all__ = ["crossed_mean_interval"]


def crossed_mean_interval(values: NDArray[np.floating], level: float = 0.95) -> tuple[float, float, float]:
    """``(mean, low, high)`` of ``values (trainings, examples)``; a single training or example bounds nothing.

    The interval widens with the spread between trainings and with that between examples. Raises `InvalidInput` for an
    empty or another shape, NaN or infinity.

    >>> crossed_mean_interval(np.zeros((3, 10)))
    (0.0, 0.0, 0.0)
    >>> mean, low, high = crossed_mean_interval(np.array([[1.0, 0, 0, 1], [1, 0, 1, 1], [1, 0, 0, 1]]))
    >>> round(mean, 3), round(low, 3), round(high, 3)
    (0.583, -0.224, 1.39)
    """
    cells = np.asarray(values, dtype=np.float64)
    if cells.ndim != 2 or cells.size == 0 or not np.isfinite(cells).all():
        raise InvalidInput("values must be finite numbers, a row for each training and a column for each example")
    mean = float(cells.mean())
    trainings, examples = cells.shape
    if min(cells.shape) < 2:
        return mean, -math.inf, math.inf
    between = examples * float(cells.mean(axis=1).var(ddof=1))
    among = trainings * float(cells.mean(axis=0).var(ddof=1))
    rest = _residual(cells, mean)
    freedom = trainings - 1, examples - 1
    # Trainings that differ by less than chance would subtract from the spread of the examples: they add nothing.
    parts = [(among, freedom[1])]
    if between > rest:
        parts += [(between, freedom[0]), (-rest, freedom[0] * freedom[1])]
    variance = sum(square for square, _ in parts)
    if variance == 0:
        return mean, mean, mean
    degrees = variance**2 / sum(square**2 / free for square, free in parts)
    half = t_critical(level, max(degrees, 1.0)) * math.sqrt(variance / cells.size)
    return mean, mean - half, mean + half


def _residual(cells: NDArray[np.float64], mean: float) -> float:
    """Mean square of what neither the training nor the example explains."""
    fitted = cells.mean(axis=1)[:, None] + cells.mean(axis=0)[None, :] - mean
    return float(np.sum((cells - fitted) ** 2) / ((cells.shape[0] - 1) * (cells.shape[1] - 1)))
