"""Confidence sequences: intervals that may be looked at after every round, and stopped on.

An ordinary 95 % interval that is looked at until it says something is wrong far more often than 5 %. A confidence
sequence holds at all looks together, so a comparison may end as soon as the answer is clear.

The model is that of Student's t: readings x of one unknown mean m and unknown variance. Mixing the effect size
(x - m) / sigma over a normal prior of variance 1 / c2, and sigma over the right Haar measure, gives the ratio of
likelihoods (Lai 1976; Wang and Ramdas 2023)

    G_n(m) = sqrt(c2 / (n + c2)) * (V / (V - S^2 / (n + c2)))^(n / 2),    S = sum(x - m),  V = sum((x - m)^2)

which at the true m is a martingale of mean 1. The sequence holds every m with G_n(m) < A. No look is taken before
round `FIRST`, so A need not be 1 / alpha (Ville): for a martingale G, P(G_n >= A for some n >= k) is at most
E[min(1, G_k / A)] (Robbins 1970; Lai 1976 uses it with a flat prior). At round k the statistic is Student's t with
k - 1 degrees of freedom, scaled by sqrt(1 + k / c2) under the mixture, which gives that expectation in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import normal_critical, tail

__all__ = [
    "FIRST",
    "half_width",
    "least_detectable",
    "noise_floor",
    "rounds_until",
    "sequence_interval",
    "sequence_p_value",
    "t_sequence",
    "widened",
]

Floats = NDArray[np.float64]
LogRatios = Sequence[float] | Floats

FIRST = 10  # rounds before the first look
PRIOR = 0.5  # c2: widths of 1.56 to 1.6 times those of the fixed-n t interval from 10 to 40 rounds
MOST_ROUNDS = 1_000_000
_LEAST_HISTORY = 5


def t_sequence(log_ratios: LogRatios, level: float = 0.95) -> tuple[Floats, Floats]:
    """``(lows, highs)`` in logs after each round; the interval of a look is cut by those of all looks before it.

    All of them hold the mean at once with probability `level`, if the readings are normal. Before round `FIRST` nothing
    is said: ``(-inf, inf)``. Where looks contradict each other the readings did not keep one mean; from there on the
    whole range from the lowest end to the highest is given. Raises `InvalidInput` for NaN, infinity or no readings.
    """
    values = _checked(log_ratios)
    n = np.arange(1, len(values) + 1)
    means, spreads = _running(values)
    reach = np.full(len(values), math.inf)
    looked = n >= FIRST
    reach[looked] = np.where(spreads[looked] > 0, spreads[looked] * _widths(n[looked], level), 0.0)
    lows = np.maximum.accumulate(means - reach)
    highs = np.minimum.accumulate(means + reach)
    broken = np.maximum.accumulate(lows > highs)
    hull_low, hull_high = _hull(means - reach), -_hull(-(means + reach))
    return np.where(broken, hull_low, lows), np.where(broken, hull_high, highs)


def widened(sequence: tuple[Floats, Floats], control: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """A sequence's ``(lows, highs)`` in logs, wider at each look at which the control's excludes 0.

    The larger of the control's ends is added to both of its own (docs/adr/0005).

    >>> lows, highs = widened((np.array([0.1, 0.1]), np.array([0.2, 0.2])), (np.array([-1.0, 0.01]), np.array([1.0, 0.03])))
    >>> lows.round(2).tolist(), highs.round(2).tolist()
    ([0.1, 0.07], [0.2, 0.23])
    """
    (lows, highs), (control_lows, control_highs) = sequence, control
    alarm = (control_lows > 0) | (control_highs < 0)
    more = np.where(alarm, np.maximum(np.abs(control_lows), np.abs(control_highs)), 0.0)
    return lows - more, highs + more


def sequence_interval(log_ratios: LogRatios, level: float = 0.95) -> tuple[float, float, float]:
    """``(ratio, low, high)`` at the last look: the geometric mean of the rounds' ratios, within its interval.

    >>> sequence_interval([0.05, 0.04, 0.06])
    (1.0512710963760241, 0.0, inf)
    >>> ratio, low, high = sequence_interval([0.05, 0.04, 0.06] * 5)
    >>> round(ratio, 3), round(low, 3), round(high, 3)
    (1.051, 1.044, 1.058)
    """
    lows, highs = t_sequence(log_ratios, level)
    low, high = float(lows[-1]), float(highs[-1])
    mean = min(max(float(np.mean(log_ratios)), low), high)
    return math.exp(mean), math.exp(low), _exp(high)


def sequence_p_value(log_ratios: LogRatios, limit_log: float = 0.0) -> float:
    """p of "the mean is `limit_log`", valid whenever one stops: the smallest over all looks; 1 before round `FIRST`.

    The sequence at a level excludes `limit_log` at some look exactly where p is under one minus that level.

    >>> sequence_p_value([0.05, 0.04, 0.06] * 3), round(sequence_p_value([0.05, 0.04, 0.06] * 5), 6)
    (1.0, 0.0)
    """
    values = _checked(log_ratios) - limit_log
    if len(values) < FIRST:
        return 1.0
    n = np.arange(1, len(values) + 1)
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = -0.5 * n * np.log1p(-(sums**2) / ((n + PRIOR) * squares))
    logs = np.where(squares > 0, grown, 0.0) + 0.5 * np.log(PRIOR / (n + PRIOR))
    return _crossing(float(np.max(logs[FIRST - 1 :])))


def half_width(rounds: int, level: float = 0.95) -> float:
    """Half of one look's interval in standard deviations of the readings; infinite before round `FIRST`.

    >>> half_width(9), round(half_width(10), 3), round(half_width(40), 3)
    (inf, 1.119, 0.513)
    """
    return float(_widths(np.array([rounds]), level)[0]) if rounds >= FIRST else math.inf


def rounds_until(spread: float, reach: float, level: float = 0.95) -> int | None:
    """Rounds in all after which half of the interval is at most `reach` (log), at a `spread` (log) a reading.

    None where that takes more than a million rounds, or `reach` is not above 0.

    >>> rounds_until(0.01, 0.02), rounds_until(0.01, 0.005), rounds_until(0.01, 0.0)
    (10, 43, None)
    """
    if not reach > 0 or spread * half_width(MOST_ROUNDS, level) > reach:
        return None
    low, high = FIRST - 1, MOST_ROUNDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if spread * half_width(middle, level) <= reach else (middle, high)
    return high


def least_detectable(spread: float, rounds: int, level: float = 0.95, power: float = 0.9) -> float:
    """The difference, as a share of the first's time, that so many rounds find with probability `power`.

    The mean of the rounds must then lie beyond half of the last interval: ``h(n) s + z s / sqrt(n)`` in logs, for a
    `spread` s of the rounds' log-ratios. Infinite before round `FIRST`.

    >>> round(least_detectable(0.01, 20), 4), least_detectable(0.01, 5)
    (0.0103, inf)
    """
    if rounds < FIRST:
        return math.inf
    quantile = normal_critical(2 * power - 1)
    return math.expm1(spread * (half_width(rounds, level) + quantile / math.sqrt(rounds)))


def noise_floor(log_ratios: LogRatios) -> float | None:
    """The ratio less 1 that this machine "finds" between a model and itself: Q3 + 3 IQR of the A/A controls' ``|log|``.

    That fence is Tukey's for far outliers (1977), laid around what earlier controls found. None for fewer than five.

    >>> noise_floor([0.001, -0.002, 0.0005]) is None
    True
    >>> round(noise_floor([0.001, -0.002, 0.0005, 0.0, 0.003]), 5)
    0.00652
    """
    found = np.abs(np.asarray(log_ratios, dtype=np.float64))
    if len(found) < _LEAST_HISTORY:
        return None
    low, high = np.quantile(found, [0.25, 0.75])
    return math.expm1(float(high + 3 * (high - low)))


# --- the threshold ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _log_threshold(level: float) -> float:
    """log A: the largest chance of ever crossing is 1 - level."""
    alpha = 2 * tail(level)
    low, high = 0.5 * math.log(PRIOR / (FIRST + PRIOR)), -math.log(alpha)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _crossing(middle) > alpha else (low, middle)
    return high


def _crossing(log_threshold: float) -> float:
    """E[min(1, G_k / A)] at the first look k: the bound on the chance that G ever reaches A."""
    share = _excess(np.array([FIRST]), log_threshold)[0]
    if share <= 0:
        return 1.0
    if math.isinf(share):  # no reading at the first look reaches A
        return math.exp(-log_threshold)
    t = math.sqrt(share * (FIRST - 1))
    beyond = 2 * float(stdtr(FIRST - 1, -t))
    within = 1 - 2 * float(stdtr(FIRST - 1, -t / math.sqrt(1 + FIRST / PRIOR)))
    return min(1.0, beyond + math.exp(-log_threshold) * within)


def _widths(n: NDArray[np.int64], level: float) -> Floats:
    """Half-widths in standard deviations (n - 1) of the readings: G_n(m) < A solved for m."""
    excess = _excess(n, _log_threshold(level))
    return np.asarray(np.sqrt(excess * (n - 1) / n), dtype=np.float64)


def _excess(n: NDArray[np.int64], log_threshold: float) -> Floats:
    """The largest (mean - m)^2 over the mean square deviation with G_n(m) < A; infinite where every m has it."""
    share = -np.expm1(-(2 * log_threshold + np.log((n + PRIOR) / PRIOR)) / n)
    left = n - (n + PRIOR) * share
    return np.asarray(np.divide((n + PRIOR) * share, left, out=np.full(len(n), math.inf), where=left > 0))


# --- running ---------------------------------------------------------------------------------------------


def _running(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (n - 1) of the first n values, for each n; equal values have a spread of exactly 0."""
    n = np.arange(1, len(values) + 1)
    shifted = values - values[0]
    means = np.cumsum(shifted) / n
    squares = np.maximum(np.cumsum(shifted**2) - n * means**2, 0.0)
    alike = np.maximum.accumulate(values) == np.minimum.accumulate(values)
    spreads = np.where(alike, 0.0, np.sqrt(squares / np.maximum(n - 1, 1)))
    return values[0] + means, spreads


def _hull(lows: Floats) -> Floats:
    """The lowest end so far of the looks that said anything."""
    return np.asarray(np.minimum.accumulate(np.where(np.isfinite(lows), lows, math.inf)), dtype=np.float64)


def _checked(log_ratios: LogRatios) -> Floats:
    values = np.asarray(log_ratios, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise InvalidInput("log-ratios must be a non-empty row of finite numbers, one per round; times must be > 0")
    return values


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
