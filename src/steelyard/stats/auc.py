"""Intervals of the area under the ROC curve: of one model, of examples that share a source, of two models.

=========================  =========================================================================================
``auc_interval``           a score interval whose variance is DeLong's, steadied where few positives are misranked
``clustered_auc_interval`` the same where examples share a source, such as a patient (Obuchowski 1997)
``paired_delong``          two models on the same examples
=========================  =========================================================================================

Where there are no positives or no negatives the answer is None: the area is undefined.

The interval of the AUC. The usual one (DeLong's variance on the logit scale) holds the truth 78 % of the time instead
of 95 % with 10 positives at an AUC of 0.99: the variance is estimated from the few positives that are misranked, and it
is low exactly when the estimate is high. So the score principle is used, as Wilson's interval does for a proportion:
``|A - a| <= t sqrt(V(a))`` is solved for ``a``. V has the shape of the binormal model with equal spreads, and its two
components (among positives, among negatives) are scaled by how DeLong's observed components compare with it; the more
misranked examples there are, the more the data's own scale counts, and the closer Student's t is to the normal.
Simulated with 10 to 5,000 positives, 1 to 50 % of all, and an AUC of 0.6 to 0.99, within the limits of `auc_supported`, the
interval holds the truth 93 to 96 % of the time for binormal scores of equal spreads, 93 to 97 % where spreads differ by
half and for scores of other shapes; outside them 90 to 100 %, most often too often. The draws' own error is half a point to a
whole one (``benchmarks/results/coverage.md``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, owens_t, stdtr

from steelyard.stats.quantiles import normal_critical, t_critical
from steelyard.stats.ranked import AucParts, Ranked, as_labels, as_scores, auc, auc_parts, cluster_ids, ranked

__all__ = [
    "PairedAuc",
    "auc_interval",
    "auc_supported",
    "clustered_auc_interval",
    "paired_delong",
    "placements",
    "score_interval",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Interval = tuple[float, float, float]  # value, low, high

# --- its interval -----------------------------------------------------------------------------------

_PRIOR = 3.0  # misranked examples' worth of belief in the binormal shape's scale
_WORTH = 8.0  # degrees of freedom that one misranked example gives a component's scale
_LEAST_MISRANKED, _LEAST_EXAMPLES = 4, 10


def auc_interval(examples: Ranked, level: float = 0.95) -> Interval | None:
    """``(value, low, high)`` of the area by the score interval of the module's text; None where it is undefined.

    Within [0, 1] and never of zero width: with every pair in order, the upper end is 1 and the lower end is where the
    binormal shape's variance would still have allowed that.

    >>> tuple(round(end, 3) for end in auc_interval(ranked([0] * 50 + [1] * 10, range(60))))
    (1.0, 0.81, 1.0)
    """
    parts = auc_parts(examples)
    return None if parts is None else score_interval(parts, level)


def score_interval(parts: AucParts, level: float = 0.95) -> Interval:
    """The interval from an area and its components; `positives` and `negatives` may be effective numbers."""
    shape, a = _shape(parts), parts.value
    critical = t_critical(level, max(1.0, shape.degrees))
    return a, _end(a, 0.0, critical, shape), _end(a, 1.0, critical, shape)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The variance of the area as a function of its true value, and Welch-Satterthwaite degrees of freedom."""

    positives: float
    negatives: float
    scales: tuple[float, float]
    degrees: float

    def variance(self, area: float) -> float:
        among_positives, among_negatives = _components(area, self.positives, self.negatives)
        return among_positives * self.scales[0] / self.positives + among_negatives * self.scales[1] / self.negatives


def _shape(parts: AucParts) -> _Shape:
    """The shape, scaled to the observed components.

    A scale is observed over modelled, weighed by `_WORTH` for each example that is expected to be misranked (at most
    the component's degrees of freedom), and 1 weighed by `_PRIOR`. Where nothing varies (all pairs in order, or all
    scores equal) the model's own scale stands.
    """
    p, n = parts.positives, parts.negatives
    inside = (parts.value * p * n + 0.5) / (p * n + 1)  # so that a perfect order, too, has a modelled variance
    modelled = _components(inside, p, n)
    observed = (parts.among_positives, parts.among_negatives) if parts.variance > 0 else modelled
    weights = [max(0.0, min(size - 1, _WORTH * size * min(inside, 1 - inside))) for size in (p, n)]
    pairs = list(zip(weights, observed, modelled, strict=True))
    scales = [(weight * seen / model + _PRIOR) / (weight + _PRIOR) for weight, seen, model in pairs]
    shares = [scale * model / size for scale, model, size in zip(scales, modelled, (p, n), strict=True)]
    spread = sum(share * share / (weight + _PRIOR) for share, weight in zip(shares, weights, strict=True))
    return _Shape(p, n, (scales[0], scales[1]), sum(shares) ** 2 / spread)


def _components(area: float, p: float, n: float) -> tuple[float, float]:
    """Expected sample variances of the placements for binormal scores with equal spreads, whose true area is `area`.

    With x the normal quantile of the area, two pairs that share one example covary by
    ``area (1 - area) - 2 T(x, 1 / sqrt 3)``, T being Owen's function: a bivariate normal with correlation 1/2 (Owen
    1956). A placement among finitely many examples varies more, by the rest of the pair's own variance.
    """
    rarer = min(area, 1 - area)
    if rarer <= 0:
        return 0.0, 0.0
    pair = rarer * (1 - rarer)
    shared = max(0.0, pair - 2 * float(owens_t(float(ndtri(rarer)), 1 / math.sqrt(3))))
    rest = max(0.0, pair - 2 * shared)
    return shared + rest / n, shared + rest / p


def _end(value: float, outside: float, critical: float, shape: _Shape) -> float:
    """Where the distance from `value` towards `outside` passes `critical` standard errors, by bisection."""
    inside = value
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        if abs(middle - value) <= critical * math.sqrt(shape.variance(middle)):
            inside = middle
        else:
            outside = middle
    return outside


_BISECTIONS = 60  # 2 / 2**60 is below the spacing of doubles near 1


def auc_supported(positives: int, negatives: int, area: float) -> bool:
    """Whether the area's intervals were shown to hold as often as they say at such numbers of examples.

    At least 10 examples of each class, and at least 4 of the smaller class expected on the wrong side
    (``min(P, N) min(A, 1 - A)``). Elsewhere the tool says "too few".

    >>> auc_supported(100, 900, 0.95), auc_supported(20, 1980, 0.95)
    (True, False)
    """
    smaller = min(positives, negatives)
    return smaller >= _LEAST_EXAMPLES and smaller * min(area, 1 - area) >= _LEAST_MISRANKED - 1e-9


# --- per example: clusters and pairs ----------------------------------------------------------------


def placements(positive: Bools, scores: Floats) -> Floats:
    """Each example's placement ``(n,)``: the share of the other class that it is on the right side of."""
    found = np.empty(len(scores))
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    found[positive] = _share_under(below, scores[positive])
    found[~positive] = 1 - _share_under(above, scores[~positive])
    return found


def _share_under(ordered: Floats, values: Floats) -> Floats:
    under = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    return np.asarray(under / (2 * len(ordered)))


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats]:
    ranked(labels, scores)  # refuses what has no rank
    return as_labels(labels), np.asarray(as_scores(scores), dtype=np.float64)


def clustered_auc_interval(
    labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike, level: float = 0.95
) -> Interval | None:
    """``(value, low, high)`` where examples come in `clusters` ``(n,)`` (any hashable ids), such as a patient's images.

    The variance is Obuchowski's (1997, Biometrics 53, 567-578); its ratio to DeLong's divides the numbers of examples
    in the interval of :func:`auc_interval`. None without positives or negatives, or with a single cluster.
    """
    positive, values = _checked(labels, scores)
    ids = cluster_ids(clusters, len(values))
    parts = auc_parts(ranked(positive, values))
    if parts is None or int(ids.max()) == 0:
        return None
    effect = _design_effect(parts, positive, values, ids)
    effective = AucParts(
        value=parts.value,
        positives=parts.positives / effect,
        negatives=parts.negatives / effect,
        among_positives=parts.among_positives,
        among_negatives=parts.among_negatives,
    )
    return score_interval(effective, level)


def _design_effect(parts: AucParts, positive: Bools, values: Floats, ids: Ints) -> float:
    """The clustered variance over the unclustered one; where nothing varies, the examples of a class per cluster."""
    if parts.variance > 0:
        centred = placements(positive, values) - parts.value
        found = _clustered_variance(centred, positive, ids) / parts.variance
        if found > 0:
            return found
    return max(len(np.atleast_1d(ids[which])) / len(np.unique(ids[which])) for which in (positive, ~positive))


def _clustered_variance(centred: Floats, positive: Bools, ids: Ints) -> float:
    """Obuchowski's variance from centred placements ``(n,)``: clusters' sums, and how both classes' sums covary.

    With one example in each cluster it is DeLong's.
    """
    size = int(ids.max()) + 1
    sums, factors = [], []
    for which in (positive, ~positive):
        sums.append(np.bincount(ids[which], centred[which], minlength=size) / which.sum())
        held = len(np.unique(ids[which]))
        factors.append(held / (held - 1) if held > 1 else 1.0)
    own = sum(factor * float((total**2).sum()) for factor, total in zip(factors, sums, strict=True))
    return max(0.0, own + 2 * size / (size - 1) * float((sums[0] * sums[1]).sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedAuc:
    """The difference of two areas on the same examples, ``first - second``, its interval and two-sided p."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    error: float  # the standard error of the difference
    worth: float  # changed examples (or clusters) that it rests on
    trials: float  # examples that a difference without change stands on

    def interval(self, level: float) -> tuple[float, float]:
        """Both ends at another level, without the scores being ranked again."""
        half, _ = _two_sided(self.difference, self.error, self.worth, self.trials, level)
        return max(-1.0, self.difference - half), min(1.0, self.difference + half)


_FEW = 4.0  # changed examples' worth below which the changes seen say little about those unseen


def paired_delong(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    level: float = 0.95,
    *,
    clusters: ArrayLike | None = None,
) -> PairedAuc | None:
    """Two models' scores ``(n,)`` on the same examples: DeLong's paired variance in O(n log n), by differences.

    The quantile is Student's with as many degrees of freedom as the changes are worth, ``(sum c^2)^2 / sum c^4`` over
    the examples' (or clusters') contributions c to the difference. Where that is under 4 the half-width is at least
    ``z^2 / (m + z^2)`` with ``m = P N / (P + N)``: examples unlike those seen may still differ, also where nothing
    changed. None where the areas are undefined.

    >>> same = paired_delong([0, 1] * 50, range(100), range(100))
    >>> round(same.low, 3), round(same.high, 3), same.p_value
    (-0.133, 0.133, 1.0)
    """
    positive, one = _checked(labels, first)
    _, other = _checked(labels, second)
    if positive.all() or not positive.any():
        return None
    a, b = (auc(ranked(positive, scores)) for scores in (one, other))
    assert a is not None
    assert b is not None
    ids = np.arange(len(positive)) if clusters is None else cluster_ids(clusters, len(positive))
    centred = placements(positive, one) - placements(positive, other) - (a - b)
    error, worth = _error(centred, positive, ids)
    m = float(positive.sum() * (~positive).sum() / len(positive)) * (int(ids.max()) + 1) / len(ids)
    half, p_value = _two_sided(a - b, error, worth, m, level)
    return PairedAuc(
        first=a,
        second=b,
        difference=a - b,
        low=max(-1.0, a - b - half),
        high=min(1.0, a - b + half),
        p_value=p_value,
        error=error,
        worth=worth,
        trials=m,
    )


def _error(centred: Floats, positive: Bools, ids: Ints) -> tuple[float, float]:
    """The standard error of the difference and how many changed examples (or clusters) it rests on."""
    size = int(ids.max()) + 1
    if size < 2 or np.abs(centred).max() < 1e-12:
        return 0.0, 0.0
    shares = np.where(positive, centred / positive.sum(), centred / (~positive).sum())
    squares = np.bincount(ids, shares, minlength=size) ** 2
    variance = _clustered_variance(centred, positive, ids)
    return math.sqrt(variance), float(squares.sum() ** 2 / (squares**2).sum())


def _two_sided(difference: float, error: float, worth: float, m: float, level: float) -> tuple[float, float]:
    half, p_value = 0.0, 0.0
    if error > 0:
        half = t_critical(level, max(1.0, worth)) * error
        p_value = float(2 * stdtr(max(1.0, worth), -abs(difference) / error))
    if worth < _FEW:
        z2 = normal_critical(level) ** 2
        half = max(half, z2 / (m + z2))
        spare = 1 - abs(difference)
        p_value = max(p_value, float(2 * ndtr(-math.sqrt(m * abs(difference) / spare))) if spare > 0 else 0.0)
    return half, p_value
