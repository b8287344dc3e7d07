"""Ratios of times, from rounds in which two arms took turns.

A log-ratio is ``log(candidate seconds / baseline seconds)`` of one round (one pair of fresh processes), so a ratio
under 1 means that the candidate is faster. The round is the unit: never pass iterations of one process.
With fewer than two rounds nothing is known of the spread, and the interval is the honest ``(0, inf)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import t_critical, tail

__all__ = [
    "TimeOutcome",
    "equivalent",
    "judge",
    "log_ratio_interval",
    "outcome",
    "rounds_needed",
    "sign_flip_interval",
    "t_p_value",
]

TimeOutcome = Literal["faster", "slower", "equivalent", "undecided"]
LogRatios = Sequence[float] | NDArray[np.floating]

_ENUMERATED = 16  # rounds up to which all sign patterns are listed
_DRAWN = 99_999  # sign patterns drawn beyond that
_MOST_ROUNDS = 1_000_000


def log_ratio_interval(log_ratios: LogRatios, level: float = 0.95) -> tuple[float, float, float]:
    """``(ratio, low, high)``: the geometric mean of the rounds' ratios, with its t interval.

    Rounds that agree exactly give an interval of zero width. Raises `InvalidInput` for no rounds, NaN or infinity.

    >>> ratio, low, high = log_ratio_interval([-0.10, -0.11, -0.09])
    >>> round(ratio, 3), round(low, 3), round(high, 3)
    (0.905, 0.883, 0.928)
    """
    values = _checked(log_ratios)
    mean, error = _mean_and_error(values)
    if len(values) < 2:
        return math.exp(mean), 0.0, math.inf
    half = t_critical(level, len(values) - 1) * error
    return math.exp(mean), _exp(mean - half), _exp(mean + half)


def sign_flip_interval(log_ratios: LogRatios, level: float = 0.95) -> tuple[float, float, float]:
    """``(ratio, low, high)`` by inverting the sign-flip test: it assumes symmetry, not normality.

    A mean is rejected by the one-sided test exactly when too few of the means over subsets of rounds lie beyond
    it, so the ends are order statistics of the subset means (Hartigan 1969, "typical values"). All subsets are
    listed up to 16 rounds; beyond, 99,999 are drawn with a fixed seed, which keeps the level. Fewer than six rounds
    cannot give a 95 % interval, and the answer is ``(0, inf)``.
    """
    values = np.sort(_checked(log_ratios))
    means = _subset_means(values) if len(values) <= _ENUMERATED else _drawn_subset_means(values)
    rank = math.floor(tail(level) * (len(means) + 1) + 1e-9)
    ratio = math.exp(float(values.mean()))
    if rank < 1:
        return ratio, 0.0, math.inf
    ends = np.partition(means, (rank - 1, len(means) - rank))
    return ratio, _exp(float(ends[rank - 1])), _exp(float(ends[-rank]))


def _subset_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over all non-empty subsets: 2^n - 1 of them."""
    sums, sizes = np.zeros(1), np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
        sizes = np.concatenate([sizes, sizes + 1])
    return np.asarray(sums[1:] / sizes[1:])


def _drawn_subset_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    chosen = np.random.default_rng(0).random((_DRAWN, len(values)), dtype=np.float32) < 0.5
    sizes = chosen.sum(axis=1)
    return np.asarray((chosen @ values)[sizes > 0] / sizes[sizes > 0])


def t_p_value(log_ratios: LogRatios, limit_log: float, alternative: Literal["less", "greater"] = "less") -> float:
    """One-sided p of "the mean log-ratio is at or beyond `limit_log`".

    ``"less"`` tests for a mean under the limit (the null says ``>=``), ``"greater"`` for one above it. Agrees with
    :func:`log_ratio_interval`: the upper end at level L is under the limit exactly when p < (1 - L) / 2.
    With fewer than two rounds p is 1.

    >>> round(t_p_value([-0.10, -0.11, -0.09], 0.0), 4)
    0.0017
    """
    values = _checked(log_ratios)
    sign = 1.0 if alternative == "less" else -1.0
    mean, error = _mean_and_error(values)
    gap = sign * (mean - limit_log)
    if len(values) < 2:
        return 1.0
    if error == 0:
        return 0.0 if gap < 0 else 1.0
    return float(stdtr(len(values) - 1, gap / error))


def equivalent(low: float, high: float, band: float = 0.02) -> bool:
    """Whether a ratio's interval lies inside ``[1 / (1 + band), 1 + band]``.

    With the 90 % interval this is TOST at 5 % (Schuirmann 1987).

    >>> equivalent(0.99, 1.01), equivalent(0.99, 1.03)
    (True, False)
    """
    if not band > 0:
        raise InvalidInput(f"the equivalence band must be above 0, such as 0.02; got {band}")
    return low >= 1 / (1 + band) and high <= 1 + band


def outcome(low: float, high: float, band: float = 0.02, *, inner: tuple[float, float] | None = None) -> TimeOutcome:
    """The verdict on a ratio from its interval ``(low, high)``.

    `inner` is the interval for TOST (90 % beside a 95 % one); without it ``(low, high)`` is used, which is stricter.
    Equivalence comes first: a difference shown to lie inside the band is too small to be called one.

    >>> outcome(0.80, 0.90), outcome(0.98, 1.10), outcome(0.985, 0.995)
    ('faster', 'undecided', 'equivalent')
    """
    if equivalent(*(inner or (low, high)), band):
        return "equivalent"
    if high < 1:
        return "faster"
    return "slower" if low > 1 else "undecided"


def judge(log_ratios: LogRatios, band: float = 0.02, level: float = 0.95) -> TimeOutcome:
    """:func:`outcome` of the rounds: the difference from the interval at `level`, TOST from that at ``2 * level - 1``.

    At 95 % that is the usual 90 % interval for TOST, so that each of the two errors is 5 %.
    """
    _, low, high = log_ratio_interval(log_ratios, level)
    _, inner_low, inner_high = log_ratio_interval(log_ratios, max(2 * level - 1, 0.5))
    return outcome(low, high, band, inner=(inner_low, inner_high))


def rounds_needed(log_ratios: LogRatios, limit_log: float = 0.0, level: float = 0.95) -> int | None:
    """Rounds in all at which the t interval would exclude `limit_log`, if mean and spread stay as seen.

    `None` where that cannot be told: fewer than two rounds, a mean on the limit, or over a million rounds.

    >>> rounds_needed([-0.02, 0.01, -0.03, 0.02, -0.01])
    49
    """
    values = _checked(log_ratios)
    gap = abs(float(values.mean()) - limit_log)
    if len(values) < 2 or gap == 0:
        return None
    spread = float(values.std(ddof=1))
    if not _decides(_MOST_ROUNDS, spread, gap, level):
        return None
    low, high = 1, _MOST_ROUNDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _decides(middle, spread, gap, level) else (middle, high)
    return high


def _decides(rounds: int, spread: float, gap: float, level: float) -> bool:
    return t_critical(level, rounds - 1) * spread / math.sqrt(rounds) < gap


def _checked(log_ratios: LogRatios) -> NDArray[np.float64]:
    values = np.asarray(log_ratios, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise InvalidInput("log-ratios must be a non-empty row of finite numbers, one per round; times must be > 0")
    return values


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and its standard error; exact equality gives an error of exactly 0, not a rounding residue."""
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values[0]) if np.ptp(values) == 0 else mean, 0.0
    return mean, float(values.std(ddof=1)) / math.sqrt(len(values))


def _exp(value: float) -> float:
    """`math.exp` that goes to infinity instead of raising."""
    return math.exp(value) if value < 700 else math.inf
