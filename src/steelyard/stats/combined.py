"""The interval of a mean of correlated quantities from the interval of each.

Every quantity is recovered from its own interval, so that what is known of its shape at few examples (Wilson's, the score
interval of an area) is not lost in one symmetric standard error: the method of variance estimates recovery (Zou and
Donner 2008, Statistics in Medicine 27, 1693-1702; with correlations Zou 2007, Psychological Methods 12, 399-413). For
``m = sum(x_k) / K`` with ends ``l_k <= x_k <= u_k`` and correlations ``r_jk``

    low  = m - sqrt(sum_jk r_jk (x_j - l_j) (x_k - l_k)) / K
    high = m + sqrt(sum_jk r_jk (u_j - x_j) (u_k - x_k)) / K

The correlations come from what each unit adds to each quantity: with ``e_k`` the effects ``(n,)`` on quantity k,
``r_jk = e_j . e_k / (|e_j| |e_k|)``, so a sum of effects stands for the whole matrix. A quantity on which no unit has an
effect is taken to be independent of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_interval"]

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]  # value, low, high


def mean_interval(parts: Iterable[tuple[Interval, Floats]]) -> Interval:
    """``(value, low, high)`` of the mean of quantities, each with its interval and its units' effects ``(n,)``.

    >>> same = ((0.8, 0.7, 0.85), np.array([0.1, -0.1]))
    >>> tuple(round(end, 3) for end in mean_interval([same, same]))  # nothing is gained by asking twice
    (0.8, 0.7, 0.85)
    """
    values: list[float] = []
    together: Floats | float = 0.0  # (2, n): of the correlated ones, towards both ends
    alone = np.zeros(2)
    for (value, low, high), effects in parts:
        values.append(value)
        distances = np.array([value - low, high - value])
        length = math.sqrt(float(effects @ effects))
        if length > 0:
            together = together + distances[:, None] * (effects / length)
        else:
            alone += distances**2
    below, above = np.sqrt(np.sum(np.square(np.atleast_1d(together)), axis=-1) + alone) / len(values)
    mean = math.fsum(values) / len(values)
    return mean, float(mean - below), float(mean + above)
