"""Quantities known as draws: how they combine with a mean that was measured, and how a range becomes draws.

A mean of few readings is uncertain as Student's t says. Where it meets an input that is known as draws (a Monte Carlo
model, a published range), the two are convolved: exactly where an interval is asked for, by draws that follow the same
law where a further calculation needs them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import t_critical, tail

__all__ = [
    "contrast_interval",
    "emission_draws",
    "mean_draws",
    "name_seed",
    "product_ratio_interval",
    "range_draws",
    "shifted_interval",
]

Floats = NDArray[np.float64]

_Z95 = 1.6448536269514722  # the 95 % point of the normal distribution
_J_PER_KWH = 3.6e6
_DRAWS = 100
_MOST = 500  # draws that an interval is computed from; more would only take longer


def shifted_interval(logs: Floats, shifts: Floats, level: float = 0.95) -> tuple[float, float, float]:
    """``(ratio, low, high)`` of exp(mean + shift): the mean of `logs` is uncertain as t says, `shifts` holds draws.

    Both are natural logarithms of ratios. The distribution function is the average of Student's t over the draws, so the
    convolution is exact but for the draws themselves (neighbours are joined beyond 500), and its tails beyond them are t's. Draws that are
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
    centres = mean + (shifts if error == 0 else _neighbours(shifts))
    ends = [_quantile(centres, error, len(logs) - 1, q) for q in (share, 1 - share)]
    return ratio, math.exp(ends[0]), math.exp(ends[1])


def _neighbours(draws: Floats) -> Floats:
    """At most `_MOST` values that stand for the draws: means of neighbours in order."""
    if np.ptp(draws) == 0:
        return draws[:1]
    ordered = np.sort(draws)
    return ordered if len(ordered) <= _MOST else np.array([part.mean() for part in np.array_split(ordered, _MOST)])


def _quantile(centres: Floats, error: float, degrees: int, q: float) -> float:
    """The q-quantile of an equal mixture of t distributions with one scale."""
    from scipy.optimize import brentq

    if error == 0:
        return float(np.quantile(centres, q))
    reach = (1 + float(stdtrit(degrees, max(q, 1 - q)))) * error
    ends = float(centres.min()) - reach, float(centres.max()) + reach
    return float(brentq(lambda x: float(stdtr(degrees, (x - centres) / error).mean()) - q, *ends, xtol=1e-12))


def product_ratio_interval(
    logs: Floats, before: Floats, after: Floats, *, shared: bool, level: float = 0.95
) -> tuple[float, float, float]:
    """``(ratio, low, high)`` of a product such as energy, time times power, from the log-ratios of its first factor.

    `before` and `after` are readings of the second factor. If `shared`, they are draws made with one seed, so that entry i
    of both belongs to the same state of the world: the ratio is taken draw by draw, and what they share cancels. Else they
    are independent readings, and their logs join those of the first factor under Satterthwaite's t.

    >>> same = np.array([3.0, 5.0, 9.0])  # equal powers: the ratio of energies is the ratio of times
    >>> product_ratio_interval(np.array([-0.10, -0.11, -0.09]), same, same, shared=True) == shifted_interval(
    ...     np.array([-0.10, -0.11, -0.09]), np.zeros(3))
    True
    """
    if shared:
        return shifted_interval(logs, np.log(after / before), level)
    value, low, high = contrast_interval([logs, np.log(after), np.log(before)], (1, 1, -1), level)
    return math.exp(value), math.exp(low) if low > -math.inf else 0.0, math.exp(high) if high < 700 else math.inf


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


def emission_draws(energy_j: Floats, central: float, low: float, high: float, draws: int, seed: int = 0) -> Floats:
    """Draws of grams from an energy in joules and a factor in g/kWh that is `central`, 5 to 95 % `low` to `high`.

    Many readings (100 or more) are draws of a model already, and are used as they are, as often as needed; few are windows that
    were measured, and stand for their mean, uncertain as t says.
    """
    drawn = np.resize(energy_j, draws) if len(energy_j) >= _DRAWS else mean_draws(energy_j, draws, seed + 1)
    return np.asarray(drawn / _J_PER_KWH * range_draws(central, low, high, draws, seed))


def name_seed(name: str) -> int:
    """A seed that belongs to a name: the same everywhere for one, independent between two.

    >>> name_seed("FR") == name_seed("FR"), name_seed("FR") == name_seed("SE")
    (True, False)
    """
    return zlib.crc32(name.encode())


def _row(name: str, values: Floats) -> Floats:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or row.size == 0 or not np.isfinite(row).all():
        raise InvalidInput(f"{name} must be a non-empty row of finite numbers")
    return row
