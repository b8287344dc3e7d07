"""Ratios of times whose two sides never ran together: Welch's t on logs, one reading a process.

What drifted between the two measurements stays in the ratio, and no interval shows it: readings that took turns
(:mod:`steelyard.stats.paired`) are the better witness wherever both sides can still be run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import tail

__all__ = ["Contrast", "contrast", "mean_contrast"]

Logs = Sequence[float] | NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A difference of two means of logs, its standard error and degrees of freedom; an infinite error bounds nothing."""

    mean: float
    error: float
    degrees: float

    def ratio(self, level: float = 0.95) -> tuple[float, float, float]:
        """``(ratio, low, high)``: exp of the difference, with its t interval.

        >>> [round(end, 3) for end in contrast([0.0, 0.01, -0.01], [0.10, 0.11, 0.09]).ratio()]
        [1.105, 1.08, 1.131]
        """
        if not math.isfinite(self.error):
            return math.exp(self.mean), 0.0, math.inf
        half = -float(stdtrit(self.degrees, tail(level))) * self.error if self.error else 0.0
        return math.exp(self.mean), _exp(self.mean - half), _exp(self.mean + half)

    def p_value(self, limit_log: float = 0.0) -> float:
        """Two-sided p of "the difference is `limit_log`"; 1 where nothing bounds it.

        >>> round(contrast([0.0, 0.01, -0.01], [0.10, 0.11, 0.09]).p_value(), 5)
        0.00026
        """
        gap = abs(self.mean - limit_log)
        if not math.isfinite(self.error):
            return 1.0
        if self.error == 0:
            return 1.0 if gap == 0 else 0.0
        return 2 * float(stdtr(self.degrees, -gap / self.error))


def contrast(first: Logs, second: Logs) -> Contrast:
    """How much the mean of `second` lies above that of `first` (Welch 1947; Satterthwaite's degrees of freedom).

    One entry a process. Fewer than two on either side say nothing of the spread. Raises `InvalidInput` for no
    readings, NaN or infinity.
    """
    sides = [_checked(first), _checked(second)]
    mean = float(sides[1].mean() - sides[0].mean())
    if min(map(len, sides)) < 2:
        return Contrast(mean=mean, error=math.inf, degrees=1.0)
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1.0) for side in sides]
    return _joined(mean, parts)


def mean_contrast(contrasts: Sequence[Contrast]) -> Contrast:
    """The mean of independent differences: the log of the geometric mean of their ratios, for these very ones.

    >>> pair = contrast([0.0, 0.01, -0.01], [0.10, 0.11, 0.09])
    >>> both = mean_contrast([pair, pair])
    >>> round(both.mean, 3), round(both.error / pair.error, 3), both.degrees / pair.degrees
    (0.1, 0.707, 2.0)
    """
    if not contrasts:
        raise InvalidInput("a mean of ratios needs at least one ratio")
    mean = float(np.mean([c.mean for c in contrasts]))
    if any(not math.isfinite(c.error) for c in contrasts):
        return Contrast(mean=mean, error=math.inf, degrees=1.0)
    return _joined(mean, [((c.error / len(contrasts)) ** 2, c.degrees) for c in contrasts])


def _joined(mean: float, parts: Sequence[tuple[float, float]]) -> Contrast:
    """Variances of a sum of independent parts, each with its degrees of freedom (Satterthwaite 1946)."""
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Contrast(mean=mean, error=0.0, degrees=sum(degrees for _, degrees in parts))
    degrees = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    return Contrast(mean=mean, error=math.sqrt(variance), degrees=degrees)


def _checked(logs: Logs) -> NDArray[np.float64]:
    values = np.asarray(logs, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise InvalidInput(
            "logs of times must be a non-empty row of finite numbers, one per process; times must be > 0"
        )
    return values


def _exp(value: float) -> float:
    """`math.exp` that goes to infinity instead of raising."""
    return math.exp(value) if value < 700 else math.inf
