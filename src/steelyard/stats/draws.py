"""Quantities known as draws: how they combine with a mean that was measured, and how a range becomes draws.

A mean of few readings is uncertain as Student's t says. Where it meets an input that is known as draws (a Monte Carlo
model, a published range), the two are convolved: exactly where an interval is asked for, by draws that follow the same
law where a further calculation needs them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import t_critical, tail

__all__ = ["contrast_interval", "mean_draws", "range_draws", "shifted_interval"]

Floats = NDArray[np.float64]

_Z95 = 1.6448536269514722  # the 95 % point of the normal distribution
_HALVINGS = 200


def shifted_interval(logs: Floats, shifts: Floats, level: float = 0.95) -> tuple[float, float, float]:
    """``(ratio, low, high)`` of exp(mean + shift): the mean of `logs` is uncertain as t says, `shifts` holds draws.

    Both are natural logarithms of ratios. The distribution function is the average of Student's t over the draws, so the
    convolution is exact but for the draws themselves, and its tails beyond them are those of t. Draws that are
    all alike give the t interval, moved. With one log nothing bounds the mean, and the answer is ``(ratio, 0, inf)``.

    >>> ratio, low, high = shifted_interval(np.array([-0.10, -0.11, -0.09]), np.array([0.0]))
    >>> round(ratio, 3), round(low, 3), round(high, 3)  # as log_ratio_interval has it
    (0.905, 0.883, 0.928)
    """
    logs, shifts = _row("logs", logs), _row("shifts", shifts)
    mean = float(logs.mean())
    ratio = math.exp(mean + float(np.median(shifts)))
    if len(logs) < 2:
        return ratio, 0.0, math.inf
    error = 0.0 if np.ptp(logs) == 0 else float(logs.std(ddof=1)) / math.sqrt(len(logs))
    share = tail(level)
    ends = [_quantile(mean + shifts, error, len(logs) - 1, q) for q in (share, 1 - share)]
    return ratio, math.exp(ends[0]), math.exp(ends[1])


def _quantile(centres: Floats, error: float, degrees: int, q: float) -> float:
    """The q-quantile of an equal mixture of t distributions with one scale, by bisection."""
    if error == 0:
        return float(np.quantile(centres, q))
    reach = float(stdtrit(degrees, max(q, 1 - q))) * error
    low, high = float(centres.min()) - reach, float(centres.max()) + reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        below = float(stdtr(degrees, (middle - centres) / error).mean()) < q
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def contrast_interval(
    groups: Sequence[Floats], signs: Sequence[float], level: float = 0.95
) -> tuple[float, float, float]:
    """``(value, low, high)`` of the signed sum of the groups' means; t with Satterthwaite's degrees of freedom.

    Each group is a row of independent readings; groups are independent of each other. With signs (1, -1) it is Welch's
    interval (1947); more groups follow the same approximation (Satterthwaite 1946). A group of one reading bounds
    nothing: ``(value, -inf, inf)``.

    >>> contrast_interval([np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0])], (1, -1))[0]
    1.0
    """
    rows = [_row("readings", group) for group in groups]
    value = sum(sign * float(row.mean()) for sign, row in zip(signs, rows, strict=True))
    if min(map(len, rows)) < 2:
        return value, -math.inf, math.inf
    parts = [float(row.var(ddof=1)) / len(row) for row in rows]
    variance = sum(parts)
    if variance == 0:
        return value, value, value
    degrees = variance**2 / sum(part**2 / (len(row) - 1) for part, row in zip(parts, rows, strict=True))
    half = t_critical(level, degrees) * math.sqrt(variance)
    return value, value - half, value + half


def mean_draws(readings: Floats, draws: int, seed: int = 0) -> Floats:
    """`draws` values that the mean of `readings` may have: t around it, evenly spaced quantiles in random order.

    One reading says nothing of its spread; it is given as it is.
    """
    values = _row("readings", readings)
    if len(values) < 2 or np.ptp(values) == 0:
        return np.full(draws, float(values.mean()))
    order = np.random.default_rng(seed).permutation(draws)
    t = stdtrit(len(values) - 1, (order + 0.5) / draws)
    return np.asarray(values.mean() + values.std(ddof=1) / math.sqrt(len(values)) * t)


def range_draws(central: float, low: float, high: float, draws: int, seed: int = 0) -> Floats:
    """Draws whose median is `central` and whose 5 and 95 % points are `low` and `high`: a log-normal in two halves.

    Each half has the spread of its own side. Evenly spaced quantiles in random order, so that the three points hold
    closely for any number of draws. Raises `InvalidInput` unless 0 < low <= central <= high.

    >>> np.quantile(range_draws(50, 20, 60, 999), [0.05, 0.5, 0.95]).round(1).tolist()
    [20.0, 50.0, 60.0]
    """
    if not 0 < low <= central <= high < math.inf:
        raise InvalidInput(f"a range needs 0 < low <= central <= high, got {low:g}, {central:g}, {high:g}")
    order = np.random.default_rng(seed).permutation(draws)
    z = ndtri((order + 0.5) / draws)
    below, above = math.log(central / low) / _Z95, math.log(high / central) / _Z95
    return np.asarray(central * np.exp(np.where(z < 0, below, above) * z))


def _row(name: str, values: Floats) -> Floats:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or row.size == 0 or not np.isfinite(row).all():
        raise InvalidInput(f"{name} must be a non-empty row of finite numbers")
    return row
