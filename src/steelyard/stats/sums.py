"""Standard errors and intervals of values that are functions of sums over examples.

A metric of this family has per-example ``terms`` ``(n, m)`` and a function `value` of their sums, vectorised over
leading axes: ``(..., m)`` in, ``(...)`` out, NaN where undefined. RMSE, for one, has the terms ``e^2, 1`` and the value
``sqrt(s0 / s1)``.

Standard errors are the infinitesimal jackknife (Jaeckel 1972; Efron and Tibshirani 1993, section 21.5), which for
functions of sums is the delta method: ``v = f / (f - 1) * sum(u_i^2)`` over the f independent units, with
``u_i = g . (t_i - mean t)`` and ``g`` the gradient of `value` at the sums, by central differences. Units are examples or,
where examples share a source, clusters: their terms are summed first (Liang and Zeger 1986). Within strata the means,
factors and counts are each stratum's own; the only unit of a stratum is compared with the mean of all.

Intervals, by scale (``se`` is the standard error, t has as many degrees as units less strata):

``score``           for ranges ``[low, high]``: Wilson's score interval on the effective size ``u (1 - u) / se^2``, u being
                    the value as a share of the range. It gives back Wilson's for a share of examples. Clusters: with t's
                    quantile (Korn and Graubard 1998).
``log``             for ``[low, inf)``: t on ``log(value)``, within the range. In simulations it covers better than t on
                    the value itself: 92 against 90 % for the MSE of 30 normal errors, 91 against 89 % for 100 Laplace
                    ones, 94 to 95 % for both from 1,000 on and for the MAE throughout. Errors with heavy tails need
                    more: the MSE of 1,000 lognormal errors is covered 86 % of the time.
``complement_log``  for ``(-inf, high]``, such as R2: t on ``log(high - value)``.
``plain``           t on the value itself, within the range.

Where no unit differs the standard error says nothing. A bounded value then keeps ``z^2 / (size + z^2)`` of its range (what
Wilson's interval leaves open with no failure seen); an unbounded one has no bound on that side. No interval leaves the
range, holds NaN or has zero width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtr

from steelyard.errors import InvalidInput
from steelyard.stats.exact import ExactSum, exact_sum
from steelyard.stats.proportion import tango, tango_z
from steelyard.stats.quantiles import normal_critical, t_critical

__all__ = [
    "Moments",
    "Scale",
    "Spread",
    "Value",
    "difference",
    "drop_interval",
    "drop_p_value",
    "gradient",
    "interval",
    "mean",
    "mean_terms",
    "ratio",
    "scale_of",
    "side_by_side",
    "spread",
    "spread_of_moments",
    "sums",
]

Floats = NDArray[np.float64]
Value = Callable[[Floats], Floats]
"""``(..., m)`` sums to ``(...)`` values, NaN where undefined."""

Scale = Literal["score", "log", "complement_log", "plain"]

_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)  # the best relative step of a central difference
_TINY = float(np.finfo(np.float64).tiny)
_NO_EXAMPLES = "there are no examples: nothing can be said of their spread"
_ROWS_AT_ONCE = 1 << 16  # rows weighed at once: they stay in the cache
_CELLS_AT_ONCE = 4_000_000  # entries of the stepped sums held in memory together
_RESIDUE = 1e-9  # a standard error this small beside the terms' own effects is the gradient's rounding, not spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A value with its standard error: what every interval here is made from.

    `units` vary independently: examples or, where `clustered`, clusters. `degrees` is units less strata; with none the
    standard error is infinite. `jump` is how far one unit that differs typically moves ``units`` times the value: 1 for a
    share of examples; None where it is not known or nothing differs.
    """

    value: float
    error: float
    units: int
    degrees: int
    clustered: bool = False
    jump: float | None = None


# --- sums ---------------------------------------------------------------------------------------------


def sums(terms: ArrayLike) -> Floats:
    """The exact column sums ``(m,)`` of ``(n, m)`` terms: identical for any order of the rows.

    >>> sums([[0.1, 1.0]] * 10)
    array([ 1., 10.])
    """
    return ExactSum.of(_rows(terms)).value()


def mean_terms(values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The terms ``(n, 2)`` of a mean of `values` ``(n,)``: ``(w x, w)``, all weights 1 where none are given."""
    column = np.asarray(values, dtype=np.float64)
    terms = np.empty((2, len(column))).T  # each sum's terms side by side, as they are added
    terms[:, 1] = 1.0 if weights is None else weights
    np.multiply(column, terms[:, 1], out=terms[:, 0])
    return terms


def mean(sums: Floats) -> Floats:
    """The mean of which ``(..., 2)`` are the sums of :func:`mean_terms`; NaN where the weights sum to 0.

    >>> float(mean(np.array([3.0, 4.0])))
    0.75
    """
    return ratio(sums[..., 0], sums[..., 1])


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """``part / whole``, NaN where `whole` is not above 0: undefined, and without a warning."""
    above, below = np.broadcast_arrays(np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64))
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Sufficient statistics of terms ``(n, m)`` that arrive in batches: exact sums of the terms and of their products.

    Identical for any order, batching and number of workers. Costs ``m (m + 3) / 2`` sums, so it is meant for few terms.

    >>> whole = Moments.of([[1.0, 2.0], [3.0, 4.0]])
    >>> whole == Moments.of([[3.0, 4.0]]).merge(Moments.of([[1.0, 2.0]]))
    True
    """

    first: ExactSum
    second: ExactSum  # products of terms i <= j, row by row of the upper triangle

    @classmethod
    def of(cls, terms: ArrayLike) -> Moments:
        """The moments of one batch ``(n, m)``; raises `InvalidInput` for NaN or infinity."""
        rows = _rows(terms)
        i, j = np.triu_indices(rows.shape[1])
        return cls(first=ExactSum.of(rows), second=ExactSum.of(rows[:, i] * rows[:, j]))

    def merge(self, other: Moments) -> Moments:
        """The moments of both batches together."""
        return Moments(first=self.first.merge(other.first), second=self.second.merge(other.second))

    @property
    def products(self) -> Floats:
        """The symmetric ``(m, m)`` sums of products."""
        m = len(self.first.totals)
        i, j = np.triu_indices(m)
        table = np.empty((m, m))
        table[i, j] = table[j, i] = self.second.value()
        return table


def _rows(terms: ArrayLike) -> Floats:
    rows = np.asarray(terms, dtype=np.float64)
    if rows.ndim != 2:
        raise InvalidInput(f"terms have one row per example and one column per sum (n, m); got shape {rows.shape}")
    return rows


# --- standard errors -----------------------------------------------------------------------------------


def spread(
    terms: ArrayLike,
    value: Value,
    *,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    at: Floats | None = None,
    jump: bool = True,
) -> Spread:
    """The value of the summed `terms` ``(n, m)`` with its standard error.

    `clusters` and `strata` are ids ``(n,)`` of any type that sorts. A cluster lies within one stratum. `at` are the
    :func:`sums`, where they are known; without `jump`, which only drops need, that is left out. Raises `InvalidInput`
    for no examples, NaN or infinity in the terms, ids of another length, or a value that is undefined on these sums.

    >>> mean = spread([[1.0, 1.0], [3.0, 1.0]], lambda s: s[..., 0] / s[..., 1])
    >>> mean.value, round(mean.error, 6), mean.units
    (2.0, 1.0, 2)
    """
    rows = _rows(terms)
    if not len(rows):
        raise InvalidInput(_NO_EXAMPLES)
    groups = None if strata is None else _codes("stratum", strata, len(rows))
    at = sums(rows) if at is None else at
    result = _defined(value, at)
    slope = gradient(value, at, np.sqrt(np.einsum("ij,ij->j", rows, rows)))
    effects, rounding = _weighted(rows, slope)
    if clusters is not None:
        effects, groups = _by_cluster(effects, _codes("cluster", clusters, len(rows)), groups)
    error, degrees = _error(effects, groups)
    return Spread(
        value=result,
        error=error if error > rounding else 0.0,
        units=len(effects),
        degrees=degrees,
        clustered=clusters is not None,
        jump=_jump(len(effects) * effects + result) if jump and error > rounding else None,
    )


def spread_of_moments(moments: Moments, value: Value) -> Spread:
    """:func:`spread` of unclustered, unstratified terms from their moments alone.

    Agrees with the per-example form to about 1e-8 of the standard error, less where terms are large beside their
    spread.
    """
    n, at, products = moments.first.rows, moments.first.value(), moments.products
    if n == 0:
        raise InvalidInput(_NO_EXAMPLES)
    result = _defined(value, at)
    slope = gradient(value, at, np.sqrt(np.diag(products)))
    squares = float(slope @ (products - np.outer(at, at) / n) @ slope)
    rounding = _RESIDUE * float(np.abs(slope) @ np.abs(products) @ np.abs(slope))
    error = math.sqrt(max(0.0, squares) * n / (n - 1)) if n > 1 else math.inf
    return Spread(value=result, error=error if squares > rounding else 0.0, units=n, degrees=n - 1)


def gradient(value: Value, at: Floats, lengths: Floats) -> Floats:
    """The gradient ``(m,)`` of `value` at the sums `at` ``(m,)``, by central differences.

    `lengths` are the roots of the terms' summed squares: the natural steps where a sum itself is 0. A sum whose terms
    are all 0 cannot vary, and its slope is given as 0.
    """
    steps = _STEP * np.maximum(np.abs(at), lengths)
    moving = np.flatnonzero(steps)
    slope = np.zeros(len(at))
    size = max(1, _CELLS_AT_ONCE // len(at))
    for start in range(0, len(moving), size):
        chunk = moving[start : start + size]
        slope[chunk] = _differences(value, at, chunk, steps[chunk])
    return slope


def _differences(value: Value, at: Floats, moving: NDArray[np.int64], steps: Floats) -> Floats:
    stepped = np.broadcast_to(at, (2, len(moving), len(at))).copy()
    rows = np.arange(len(moving))
    stepped[0, rows, moving] += steps
    stepped[1, rows, moving] -= steps
    above, below = value(stepped)
    return np.asarray((above - below) / (stepped[0, rows, moving] - stepped[1, rows, moving]))


def _defined(value: Value, at: Floats) -> float:
    result = float(value(at))
    if math.isnan(result):
        raise InvalidInput("the value is undefined on these examples: ask the metric why before asking for its error")
    return result


def _weighted(rows: Floats, slope: Floats) -> tuple[Floats, float]:
    """``rows @ slope`` ``(n,)``, and the standard error that its rounding could feign.

    Added column by column, so that a row's result does not depend on where it stands.
    """
    effects, squares = np.zeros(len(rows)), 0.0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        sizes = np.zeros(len(effects[some]))
        for column in np.flatnonzero(slope):
            part = rows[some, column] * slope[column]
            effects[some] += part
            sizes += np.abs(part)
        squares += float(np.einsum("i,i->", sizes, sizes))  # without BLAS, whose threads would spin
    return effects, _RESIDUE * math.sqrt(squares)


def _codes(what: str, ids: ArrayLike, n: int) -> NDArray[np.int64]:
    """Ids as numbers from 0."""
    array = np.asarray(ids)
    if array.shape != (n,):
        raise InvalidInput(f"{what} ids must be one per example: got shape {array.shape} for {n} examples")
    return np.asarray(np.unique(array, return_inverse=True)[1], dtype=np.int64)


def _by_cluster(
    effects: Floats, clusters: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> tuple[Floats, NDArray[np.int64] | None]:
    """Sums of effects and the stratum per cluster; sorted within clusters, so that no order of examples matters."""
    order = np.lexsort((effects, clusters) if groups is None else (effects, groups, clusters))
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    if groups is None:
        return np.add.reduceat(effects[order], starts), None
    low, high = np.minimum.reduceat(groups[order], starts), np.maximum.reduceat(groups[order], starts)
    if not np.array_equal(low, high):
        raise InvalidInput("a cluster has examples in two strata: let the clusters lie within strata, or leave one out")
    return np.add.reduceat(effects[order], starts), low


def _error(effects: Floats, groups: NDArray[np.int64] | None) -> tuple[float, int]:
    """The root of the summed squares around the strata's means, and the degrees of freedom."""
    sizes = np.array([len(effects)]) if groups is None else np.bincount(groups)
    degrees = len(effects) - len(sizes)
    if degrees < 1:
        return math.inf, 0
    if groups is None or len(sizes) == 1:  # without an array of the examples' groups, factors or means
        around = effects - exact_sum(effects) / len(effects)
        around *= around
        return math.sqrt(len(effects) / degrees * exact_sum(around)), degrees
    means = np.where(sizes > 1, _group_totals(effects, groups) / sizes, exact_sum(effects) / len(effects))
    factors = np.where(sizes > 1, sizes / np.maximum(sizes - 1, 1), 1.0)
    return math.sqrt(exact_sum(factors[groups] * (effects - means[groups]) ** 2)), degrees


def _group_totals(effects: Floats, groups: NDArray[np.int64]) -> Floats:
    """Sums per group, added from small to large so that no order of examples matters."""
    order = np.lexsort((effects, groups))
    return np.asarray(np.add.reduceat(effects[order], np.flatnonzero(np.diff(groups[order], prepend=-1))))


def _jump(moves: Floats) -> float | None:
    """The root of ``sum(x^4) / sum(x^2)``: the common size of moves that are 0 or plus or minus one size."""
    largest = float(np.abs(moves).max())
    squares = (moves / largest) ** 2 if largest > 0 else np.zeros(1)
    return largest * math.sqrt(exact_sum(squares * squares) / exact_sum(squares)) if largest > 0 else None


# --- intervals of one model --------------------------------------------------------------------------------


def scale_of(low: float, high: float) -> Scale:
    """The interval scale that a range calls for.

    >>> scale_of(0, 1), scale_of(0, math.inf), scale_of(-math.inf, 1), scale_of(-math.inf, math.inf)
    ('score', 'log', 'complement_log', 'plain')
    """
    if math.isfinite(low) and math.isfinite(high):
        return "score"
    if math.isfinite(low):
        return "log"
    return "complement_log" if math.isfinite(high) else "plain"


def interval(
    of: Spread,
    *,
    low: float,
    high: float,
    level: float = 0.95,
    scale: Scale | None = None,
    size: float | None = None,
) -> tuple[float, float]:
    """The two-sided interval of a value whose range is ``[low, high]`` (either may be infinite).

    `scale` is taken from the range where it is not given. `size` is the number of independent trials that a value
    without spread stands on (precision: the positive predictions); without it, and at most, the units. See the module's
    text for the methods.

    >>> half = Spread(value=0.5, error=0.05, units=100, degrees=99)
    >>> tuple(round(end, 3) for end in interval(half, low=0, high=1))
    (0.404, 0.596)
    """
    if of.degrees < 1:
        return low, high
    if of.error == 0:
        return _unvaried(of, low, high, level, size)
    ends = _SCALES[scale or scale_of(low, high)](of, low, high, level)
    return max(low, min(of.value, ends[0])), min(high, max(of.value, ends[1]))


def _unvaried(of: Spread, low: float, high: float, level: float, size: float | None) -> tuple[float, float]:
    """What no spread leaves open: the share of Wilson's interval with no failure, of the whole range."""
    z2 = _critical(of, level) ** 2
    trials = of.units if size is None else min(size, of.units)
    reach = (high - low) * z2 / (trials + z2)  # infinite where the range is
    return max(low, of.value - reach), min(high, of.value + reach)


def _critical(of: Spread, level: float) -> float:
    return t_critical(level, of.degrees) if of.clustered else normal_critical(level)


def _score(of: Spread, low: float, high: float, level: float) -> tuple[float, float]:
    """Wilson's interval; without clusters the variance has no small-sample factor, as in Wilson's."""
    reach, z = high - low, _critical(of, level)
    share, error = (of.value - low) / reach, of.error / reach
    variance = error**2 * (1 if of.clustered else of.degrees / of.units)
    inverse = variance / max(share * (1 - share), variance, _TINY)  # one over the effective size, which is 1 or more
    variance = inverse * share * (1 - share)
    stretch = 1 + z * z * inverse
    centre = (share + z * z * inverse / 2) / stretch
    half = z * math.sqrt(variance + (z * inverse / 2) ** 2) / stretch
    return low + reach * (centre - half), low + reach * (centre + half)


def _log(of: Spread, low: float, high: float, level: float) -> tuple[float, float]:
    if of.value <= 0:
        return low, high
    factor = _exp(t_critical(level, of.degrees) * of.error / of.value)
    return of.value / factor, of.value * factor


def _complement_log(of: Spread, low: float, high: float, level: float) -> tuple[float, float]:
    gap = high - of.value
    if gap <= 0:
        return low, high
    factor = _exp(t_critical(level, of.degrees) * of.error / gap)
    return high - gap * factor, high - gap / factor


def _plain(of: Spread, low: float, high: float, level: float) -> tuple[float, float]:
    half = t_critical(level, of.degrees) * of.error
    return max(low, of.value - half), min(high, of.value + half)


_SCALES: dict[Scale, Callable[[Spread, float, float, float], tuple[float, float]]] = {
    "score": _score,
    "log": _log,
    "complement_log": _complement_log,
    "plain": _plain,
}


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


# --- two models on the same examples ---------------------------------------------------------------------


def side_by_side(first: ArrayLike, second: ArrayLike) -> Floats:
    """The terms ``(n, 2 m)`` of two models on the same examples, for :func:`spread` with :func:`difference`."""
    one, other = _rows(first), _rows(second)
    if one.shape != other.shape:
        raise InvalidInput(f"a paired comparison needs the same examples; got terms of {one.shape} and {other.shape}")
    return np.concatenate([one, other], axis=1)


def difference(value: Value) -> Value:
    """``value(first) - value(second)`` as one function of the sums of both models side by side.

    >>> mean_gap = difference(lambda s: s[..., 0] / s[..., 1])
    >>> float(mean_gap(np.array([3.0, 4.0, 1.0, 4.0])))
    0.5
    """

    def gap(both: Floats) -> Floats:
        m = both.shape[-1] // 2
        return np.asarray(value(both[..., :m]) - value(both[..., m:]))

    return gap


def drop_interval(
    of: Spread, *, reach: float = math.inf, level: float = 0.95, size: float | None = None
) -> tuple[float, float]:
    """The two-sided interval of a paired difference that lies in ``[-reach, reach]``.

    Bounded: Tango's score interval on effective discordant counts, in units of the spread's `jump`, with t's quantile
    where the units are clusters. It gives back Tango's own for a share of examples, and does not collapse where nothing
    changed: ``z^2 / (size + z^2)`` of the reach then stays open. Unbounded: t; where no example changed differently from
    another, no bound.

    >>> same = Spread(value=0.0, error=0.0, units=360, degrees=359)
    >>> tuple(round(end, 4) for end in drop_interval(same, reach=1.0))
    (-0.0106, 0.0106)
    """
    if of.degrees < (2 if of.clustered else 1):  # the difference of two clusters says next to nothing
        return -reach, reach
    if math.isinf(reach):
        return _plain(of, -reach, reach, level) if of.error > 0 else (-reach, reach)
    jump = _jump_or(of, reach)
    low, high = tango(*_discordance(of, jump, size), _normal_level(of, level))
    return max(-reach, jump * low), min(reach, jump * high)


def drop_p_value(of: Spread, limit: float = 0.0, *, reach: float = math.inf, size: float | None = None) -> float:
    """One-sided p of "the difference is at or beyond `limit`", from the same statistic as :func:`drop_interval`.

    The interval's upper end at level L is at or under `limit` exactly when p <= (1 - L) / 2. One minus p is the p of the
    opposite claim, so p is a half where nothing can be said. The two-sided p of "no difference" is
    ``2 * min(p, 1 - p)`` at the limit 0.

    >>> same = Spread(value=0.0, error=0.0, units=360, degrees=359)
    >>> round(drop_p_value(same, 0.0106, reach=1.0), 3), drop_p_value(same, 0.0, reach=1.0), drop_p_value(same, 1.0)
    (0.025, 0.5, 0.5)
    """
    if abs(limit) >= reach:
        return 0.0 if limit > 0 else 1.0
    if of.degrees < (2 if of.clustered else 1) or (of.error == 0 and math.isinf(reach)):
        return 0.5
    if math.isinf(reach):
        return float(stdtr(of.degrees, (of.value - limit) / of.error))
    jump = _jump_or(of, reach)
    if abs(limit) >= jump:
        return 0.0 if limit > 0 else 1.0
    z = tango_z(*_discordance(of, jump, size), limit / jump)
    return float(stdtr(of.degrees, z) if of.clustered else ndtr(z))


def _normal_level(of: Spread, level: float) -> float:
    """The level at which the normal quantile is the one wanted: t's for clusters, up to 8 standard errors."""
    return 1 - 2 * float(ndtr(-min(8.0, t_critical(level, of.degrees)))) if of.clustered else level


def _jump_or(of: Spread, reach: float) -> float:
    """The unit of Tango's counts: the jump, but no less than the drop itself; the reach where it is not known."""
    return reach if of.jump is None else max(of.jump, abs(of.value))


def _discordance(of: Spread, jump: float, size: float | None) -> tuple[float, float, float]:
    """Effective counts and size ``(b, c, n)`` with ``(b - c) / n = d`` and ``(b + c) / n - d^2 = n v``.

    That is how counts, drop d and variance v (in jumps) of a share of examples hang together. The size shrinks where v is
    more than it allows, as for means in which rare classes weigh much.
    """
    drop = of.value / jump
    variance = (of.error / jump) ** 2 * (1 if of.clustered else of.degrees / of.units)
    trials = float(of.units if size is None or of.jump is not None else min(size, of.units))
    if variance > 0 and abs(drop) < 1:
        trials = min(trials, (1 - drop * drop) / variance)
    rate = min(1.0, max(abs(drop), variance * trials + drop * drop))
    return trials * (rate + drop) / 2, trials * (rate - drop) / 2, trials
