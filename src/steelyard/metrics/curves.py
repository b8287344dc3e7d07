"""ROC and precision-recall curves: exact points, bands, one-vs-rest, and the counts behind every threshold.

A threshold t calls an example positive where its score is at least t. Points run from the highest threshold down; the
first has the threshold infinity, where nothing is called positive, as scikit-learn's curves do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.average_precision import average_precision, resampled_counts
from steelyard.stats.bootstrap import percentile_bounds
from steelyard.stats.proportion import wilson
from steelyard.stats.ranked import Ranked, auc, distinct, ranked, thinned

__all__ = [
    "Band",
    "Curve",
    "OneVsRest",
    "OperatingPoints",
    "drawn",
    "one_vs_rest",
    "operating_points",
    "pr_band",
    "pr_band_of",
    "pr_curve",
    "pr_curve_of",
    "roc_band",
    "roc_band_of",
    "roc_curve",
    "roc_curve_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OperatingPoints:
    """What each threshold ``(m,)`` calls positive, from infinity down through every distinct score."""

    thresholds: Floats
    tp: Ints
    fp: Ints
    positives: int
    negatives: int

    @property
    def fn(self) -> Ints:
        """Positives that are missed ``(m,)``."""
        return self.positives - self.tp

    @property
    def tn(self) -> Ints:
        """Negatives that are left alone ``(m,)``."""
        return self.negatives - self.fp


def operating_points(labels: ArrayLike, scores: ArrayLike) -> OperatingPoints:
    """Counts of true and false positives at every distinct threshold, exact; for choosing a decision threshold.

    Raises `InvalidInput`, naming the example, for NaN, infinity or a label that is neither 0 nor 1. One class only is
    allowed: counts are defined where rates are not.

    >>> points = operating_points([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> points.thresholds.tolist(), points.tp.tolist(), points.fp.tolist()
    ([inf, 0.8, 0.4, 0.35, 0.1], [0, 1, 1, 2, 2], [0, 0, 1, 1, 2])
    """
    return _points(ranked(labels, scores))


_WHOLE = 1 << 20  # examples above which what is drawn goes through some thousands of the exact points


def _points(examples: Ranked, *, drawn: bool = False) -> OperatingPoints:
    """Every exact point; to be drawn, those of `thinned` scores where there are very many examples."""
    counts = thinned(examples) if drawn and len(examples) > _WHOLE else distinct(examples)
    return OperatingPoints(
        thresholds=np.concatenate([[np.inf], counts.scores[::-1]]),
        tp=_from_zero(counts.positives),
        fp=_from_zero(counts.negatives),
        positives=examples.positives,
        negatives=examples.negatives,
    )


def _from_zero(ascending: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(ascending[::-1])])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Points ``(m,)`` of a curve, from the highest threshold down.

    ROC: `x` is the false positive rate, `y` the true positive rate. PR: `x` is the recall, `y` the precision.
    """

    kind: Literal["roc", "pr"]
    x: Floats
    y: Floats
    thresholds: Floats
    area: float  # exact, of the whole curve: AUC, or the average precision
    thinned: float = 0.0  # every exact point lies this near a kept one, |dx| + |dy|; 0 where none was left out


def roc_curve(labels: ArrayLike, scores: ArrayLike, *, most_points: int | None = None) -> Curve | None:
    """The exact ROC curve; None without positives or negatives.

    Points on straight stretches draw nothing and are left out. `most_points` (3 or more) thins what remains, for
    plots: every exact point then lies within ``thinned`` (in x and y together) of a kept one, at most
    ``2 / (most_points - 1)``; of more than a million examples, 1 / 8,192 of either class further.
    """
    return roc_curve_of(ranked(labels, scores), most_points=most_points)


def roc_curve_of(examples: Ranked, *, most_points: int | None = None) -> Curve | None:
    """:func:`roc_curve` of examples that are ranked already."""
    area = auc(examples)
    return None if area is None else _roc(examples, most_points, area)


def _roc(examples: Ranked, most_points: int | None, area: float) -> Curve:
    points = _points(examples, drawn=most_points is not None)
    x, y = points.fp / points.negatives, points.tp / points.positives
    return _thinned("roc", _corners(points), x, y, points.thresholds, area, most_points)


def drawn(kind: Literal["roc", "pr"], examples: Ranked, most_points: int) -> tuple[Floats, Floats] | None:
    """x and y of a curve to be drawn, without its area; None without positives or negatives."""
    if not examples.positives or not examples.negatives:
        return None
    line = (_roc if kind == "roc" else _pr)(examples, most_points, np.nan)
    return line.x, line.y


def pr_curve(labels: ArrayLike, scores: ArrayLike, *, most_points: int | None = None) -> Curve | None:
    """The exact precision-recall curve; None without positives or negatives.

    The first point has recall 0 and, by the field's convention, precision 1. The area is the step-wise average
    precision: precision is not interpolated between thresholds (Davis and Goadrich 2006). `most_points` thins as in
    :func:`roc_curve`, within the curve's length (in x and y together) over ``most_points - 1``.
    """
    return pr_curve_of(ranked(labels, scores), most_points=most_points)


def pr_curve_of(examples: Ranked, *, most_points: int | None = None) -> Curve | None:
    """:func:`pr_curve` of examples that are ranked already."""
    area = average_precision(examples)
    return None if area is None else _pr(examples, most_points, area)


def _pr(examples: Ranked, most_points: int | None, area: float) -> Curve:
    points = _points(examples, drawn=most_points is not None)
    picked = np.maximum(points.tp + points.fp, 1)
    y = np.where(points.tp + points.fp > 0, points.tp / picked, 1.0)
    x = points.tp / points.positives
    return _thinned("pr", np.ones(len(x), dtype=np.bool_), x, y, points.thresholds, area, most_points)


def _corners(points: OperatingPoints) -> NDArray[np.bool_]:
    """Points ``(m,)`` where the ROC curve turns; those on a straight stretch draw nothing."""
    dx, dy = np.diff(points.fp), np.diff(points.tp)
    turns = dx[1:] * dy[:-1] != dx[:-1] * dy[1:]
    return np.concatenate([[True], turns, [True]])


def _thinned(
    kind: Literal["roc", "pr"],
    kept: NDArray[np.bool_],
    x: Floats,
    y: Floats,
    thresholds: Floats,
    area: float,
    most_points: int | None,
) -> Curve:
    """The kept points, thinned to one for each cell of equal length along the curve where they are too many."""
    x, y, thresholds, thinned = x[kept], y[kept], thresholds[kept], 0.0
    if most_points is not None and most_points < 3:
        raise InvalidInput(f"a curve needs 3 points or more; got most_points={most_points}")
    if most_points is not None and len(x) > most_points:
        along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        thinned = float(along[-1]) / (most_points - 1)
        cells = np.floor(along / thinned)
        cells[-1] = most_points - 1  # the last point is always kept
        first = np.concatenate([[True], np.diff(np.minimum(cells, most_points - 1)) > 0])
        first[-1] = True
        x, y, thresholds = x[first], y[first], thresholds[first]
    return Curve(kind=kind, x=x, y=y, thresholds=thresholds, area=area, thinned=thinned)


# --- bands ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """A pointwise band ``(m,)`` around a curve: at each x the interval of y. Not simultaneous over x."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats
    level: float


def roc_band(
    labels: ArrayLike, scores: ArrayLike, level: float = 0.95, *, points: int = 101, resamples: int = 500, seed: int = 0
) -> Band | None:
    """The true positive rate at even false positive rates ``(points,)``, by stratified bootstrap percentiles.

    Never narrower than Wilson's interval on the positives, so it does not vanish where the rate is 0 or 1. None
    without positives or negatives.
    """
    return roc_band_of(ranked(labels, scores), level, points=points, resamples=resamples, seed=seed)


def roc_band_of(
    examples: Ranked, level: float = 0.95, *, points: int = 101, resamples: int = 500, seed: int = 0
) -> Band | None:
    """:func:`roc_band` of examples that are ranked already."""
    if not examples.positives or not examples.negatives:
        return None
    grid = np.linspace(0, 1, points)
    exact = _points(examples, drawn=True)
    draws = _rates_at(grid, *resampled_counts(examples, resamples, seed, stratified=True))
    y = np.interp(grid, exact.fp / exact.negatives, exact.tp / exact.positives)
    return _band(grid, y, draws, np.full(points, float(examples.positives)), level)


def _rates_at(grid: Floats, positives: Ints, negatives: Ints) -> Floats:
    """True positive rates ``(B, points)`` at the false positive rates of `grid`, from counts ``(m, B)``."""
    zero = np.zeros((1, positives.shape[1]))
    tpr = np.concatenate([zero, np.cumsum(positives, axis=0) / positives.sum(axis=0)])
    fpr = np.concatenate([zero, np.cumsum(negatives, axis=0) / negatives.sum(axis=0)])
    return np.stack([np.interp(grid, fpr[:, b], tpr[:, b]) for b in range(positives.shape[1])])


def pr_band(
    labels: ArrayLike, scores: ArrayLike, level: float = 0.95, *, points: int = 101, resamples: int = 500, seed: int = 0
) -> Band | None:
    """The precision at even recalls ``(points,)``, by bootstrap percentiles; recall 0 stands for the first positive.

    The precision at a recall is that of the highest threshold which reaches it. Never narrower than Wilson's interval
    on the examples called positive there. None without positives or negatives.
    """
    return pr_band_of(ranked(labels, scores), level, points=points, resamples=resamples, seed=seed)


def pr_band_of(
    examples: Ranked, level: float = 0.95, *, points: int = 101, resamples: int = 500, seed: int = 0
) -> Band | None:
    """:func:`pr_band` of examples that are ranked already."""
    if not examples.positives or not examples.negatives:
        return None
    grid = np.linspace(0, 1, points)
    exact = _points(examples, drawn=True)
    y, picked = _precisions_at(grid, exact.tp[1:], exact.fp[1:])
    positives, negatives = resampled_counts(examples, resamples, seed)
    hits, alarms = np.cumsum(positives, axis=0), np.cumsum(negatives, axis=0)
    with_hits = np.flatnonzero(hits[-1])
    draws = np.stack([_precisions_at(grid, hits[:, b], alarms[:, b])[0] for b in with_hits])
    return _band(grid, y, draws, picked, level)


def _precisions_at(grid: Floats, hits: Ints, alarms: Ints) -> tuple[Floats, Floats]:
    """Precision, and the examples called positive, at the highest threshold that reaches each recall."""
    needed = np.maximum(1, np.ceil(grid * hits[-1] - 1e-9))
    at = np.searchsorted(hits, needed)
    picked = (hits[at] + alarms[at]).astype(np.float64)
    return hits[at] / picked, picked


def _band(x: Floats, y: Floats, draws: Floats, sizes: Floats, level: float) -> Band:
    ends = np.array([percentile_bounds(column, level) for column in draws.T])
    least = np.array([wilson(value * size, size, level) for value, size in zip(y, sizes, strict=True)])
    low, high = np.minimum(ends[:, 0], least[:, 0]), np.maximum(ends[:, 1], least[:, 1])
    return Band(x=x, y=y, low=low, high=high, level=level)


# --- many classes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneVsRest:
    """One curve for each class against all others, and the means of their areas over the classes that have both."""

    curves: dict[str, Curve]
    macro: float | None  # the plain mean of the areas
    weighted: float | None  # weighed by the classes' positives
    left_out: tuple[str, ...]  # classes without positives, or that all examples belong to


def one_vs_rest(
    labels: ArrayLike,
    scores: ArrayLike,
    kind: Literal["roc", "pr"] = "roc",
    *,
    names: tuple[str, ...] | None = None,
    most_points: int | None = None,
) -> OneVsRest:
    """Curves of each column of `scores` ``(n, k)`` against class indices ``(n,)`` in ``[0, k)``; `names` default to 0..k-1.

    Classes for which the curve is undefined are left out of the means and named. Raises `InvalidInput` for shapes,
    indices or scores that do not fit.

    >>> found = one_vs_rest([0, 1, 1], [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])
    >>> found.macro, found.left_out
    (1.0, ('2',))
    """
    values, true = np.asarray(scores), np.asarray(labels)
    if values.ndim != 2 or true.shape != (len(values),):
        raise InvalidInput(f"pass scores (n, k) and n class indices; got shapes {values.shape} and {true.shape}")
    wrong = np.flatnonzero(~np.isin(true, np.arange(values.shape[1])))
    if len(wrong):
        raise InvalidInput(
            f"label {true[wrong[0]]!s} of example {wrong[0]} is not a class index from 0 to {values.shape[1] - 1}"
        )
    called = names or tuple(str(index) for index in range(values.shape[1]))
    draw = roc_curve if kind == "roc" else pr_curve
    found = {name: draw(true == index, values[:, index], most_points=most_points) for index, name in enumerate(called)}
    curves = {name: curve for name, curve in found.items() if curve is not None}
    areas = np.array([curve.area for curve in curves.values()])
    held = np.array([np.count_nonzero(true == index) for index, name in enumerate(called) if name in curves])
    return OneVsRest(
        curves=curves,
        macro=float(areas.mean()) if len(areas) else None,
        weighted=float(np.average(areas, weights=held)) if len(areas) else None,
        left_out=tuple(name for name in called if name not in curves),
    )
