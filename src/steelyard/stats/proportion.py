"""Proportions, alone and paired: the counts behind accuracy.

In the paired functions ``b`` (``only_first``) counts the examples that only the first model has right, ``c``
(``only_second``) those that only the second has right, and ``n`` all examples; the difference is
``p1 - p2 = (b - c) / n``. Counts may be fractional where a function says so.
"""

from __future__ import annotations

import math

from scipy.special import bdtr, betaincinv

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import normal_critical, tail

__all__ = [
    "clopper_pearson",
    "examples_needed",
    "mcnemar",
    "mcnemar_midp",
    "newcombe_paired",
    "tango",
    "tango_z",
    "wilson",
]

_BISECTIONS = 60  # 2 / 2**60 is below the spacing of doubles near 1


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), within [0, 1] and never of zero width.

    Fractional counts are allowed, so that an effective sample size can be used.
    Raises `InvalidInput` unless ``0 <= successes <= n`` and ``n > 0``.

    >>> tuple(round(end, 4) for end in wilson(360, 360))
    (0.9894, 1.0)
    """
    if not (n > 0 and 0 <= successes <= n):
        raise InvalidInput(f"a proportion needs 0 <= successes <= n and n > 0; got {successes} of {n}")
    z = normal_critical(level)
    p, scale = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper and Pearson 1934): each tail holds at most half of what `level` leaves.

    It holds at least `level` whatever the truth, and is wider than Wilson's for it. Raises `InvalidInput` as `wilson` does.

    >>> tuple(round(end, 4) for end in clopper_pearson(0, 100))
    (0.0, 0.0362)
    """
    if not (n > 0 and 0 <= successes <= n):
        raise InvalidInput(f"a proportion needs 0 <= successes <= n and n > 0; got {successes} of {n}")
    alpha = tail(level)
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, alpha))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - alpha))
    return low, high


def tango_z(only_first: float, only_second: float, n: float, delta: float) -> float:
    """Tango's score statistic for the paired difference ``p1 - p2`` at a hypothesised `delta` in [-1, 1].

    It falls as `delta` rises and is standard normal when `delta` is true; the one-sided p of "the difference is
    at least `delta`" is its normal distribution function. Fractional counts are allowed.
    Formula: Tango (1998), Statistics in Medicine 17, 891-908, equations 9 to 14.

    >>> round(tango_z(0, 0, 360, 0.01), 3)
    -1.907
    """
    b, c = float(only_first), float(only_second)
    _check_pairs(b, c, n)
    if not -1 <= delta <= 1:
        raise InvalidInput(f"a difference of proportions lies in [-1, 1]; got {delta}")
    gap = b - c - n * delta
    linear = (2 * n - b + c) * delta - b - c
    root = math.sqrt(linear * linear + 8 * n * c * delta * (1 - delta))
    q = max(0.0, (root - linear) / (4 * n))  # restricted estimate of the rate of "only second right"
    variance = n * (2 * q + delta * (1 - delta))
    if variance > 0:
        return gap / math.sqrt(variance)
    return 0.0 if gap == 0 else math.copysign(math.inf, gap)


def tango(only_first: float, only_second: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Tango's score interval of the paired difference ``p1 - p2``, by inverting :func:`tango_z`.

    It does not collapse when no example differs: the half-width is then ``z^2 / (n + z^2)``. Fractional counts
    are allowed. Raises `InvalidInput` for counts that do not fit.

    >>> tuple(round(end, 4) for end in tango(0, 0, 360))
    (-0.0106, 0.0106)
    """
    _check_pairs(only_first, only_second, n)
    z = normal_critical(level)
    return _tango_upper(only_second, only_first, n, z) * -1.0, _tango_upper(only_first, only_second, n, z)


def _tango_upper(b: float, c: float, n: float, z: float) -> float:
    inside, outside = (b - c) / n, 1.0
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        if tango_z(b, c, n, middle) > -z:
            inside = middle
        else:
            outside = middle
    return outside


def newcombe_paired(
    both: int, only_first: int, only_second: int, neither: int, level: float = 0.95
) -> tuple[float, float]:
    """Newcombe's interval of the paired difference ``p1 - p2``: method 10, a cross-check for :func:`tango`.

    Two Wilson intervals joined by square-and-add with a continuity-corrected correlation; Newcombe (1998),
    Statistics in Medicine 17, 2635-2650.
    """
    n = both + only_first + only_second + neither
    _check_pairs(only_first, only_second, n)
    first, second = both + only_first, both + only_second
    difference = (only_first - only_second) / n
    low1, high1 = wilson(first, n, level)
    low2, high2 = wilson(second, n, level)
    p1, p2 = first / n, second / n
    phi = _corrected_phi(both, only_first, only_second, neither)
    down, up = (p1 - low1, high2 - p2), (high1 - p1, p2 - low2)
    return max(-1.0, difference - _joined(*down, phi)), min(1.0, difference + _joined(*up, phi))


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _corrected_phi(a: int, b: int, c: int, d: int) -> float:
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    cross = a * d - b * c
    corrected = max(cross - (a + b + c + d) / 2, 0.0) if cross > 0 else float(cross)
    return corrected / math.sqrt(margins)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided p that both models are right equally often (1.0 where none differ).

    >>> round(mcnemar(1, 7), 4)
    0.0703
    """
    _check_pairs(only_first, only_second, only_first + only_second or 1)
    return min(1.0, 2 * _binomial_half(min(only_first, only_second), only_first + only_second))


def mcnemar_midp(only_first: int, only_second: int) -> float:
    """The mid-p form of :func:`mcnemar`, less conservative (Fagerland, Lydersen and Laake 2013).

    >>> round(mcnemar_midp(1, 7), 4)
    0.0391
    """
    _check_pairs(only_first, only_second, only_first + only_second or 1)
    fewer, differing = min(only_first, only_second), only_first + only_second
    below = _binomial_half(fewer - 1, differing) if fewer else 0.0
    return min(1.0, _binomial_half(fewer, differing) + below)


def _binomial_half(k: int, n: int) -> float:
    """P(X <= k) for X of n fair coins."""
    return float(bdtr(k, n, 0.5)) if n else 1.0


def examples_needed(only_first: float, only_second: float, n: float, limit: float, level: float = 0.95) -> int | None:
    """Paired examples in all at which Tango's upper end of the drop ``p1 - p2`` would be at or under `limit`.

    Assumes that the models go on differing at the observed rates; the score statistic then grows as the root of
    the number of examples, so the answer is exact. `None` where the observed drop is at or beyond `limit`: more
    data would not help.

    >>> examples_needed(0, 0, 360, 0.005)
    765
    """
    z = -tango_z(only_first, only_second, n, limit)
    if z <= 1e-9:  # at the limit, but for rounding
        return None
    return max(1, math.ceil(n * (normal_critical(level) / z) ** 2 - 1e-9))


def _check_pairs(b: float, c: float, n: float) -> None:
    if not (n > 0 and b >= 0 and c >= 0 and b + c <= n * (1 + 1e-12)):
        raise InvalidInput(f"discordant counts must be >= 0 and sum to at most n > 0; got {b} and {c} of {n}")
