"""Regression metrics as functions of sums over examples; `targets` and `predicted` are finite floats ``(n,)``.

=========  =======================================  ==========================  ====================
metric     terms                                    value of the sums           range, unit
=========  =======================================  ==========================  ====================
MSE        :func:`squared_terms`                    :func:`mse`                 [0, inf), squared
RMSE       :func:`squared_terms`                    :func:`rmse`                [0, inf), the target's
MAE        :func:`absolute_terms`                   :func:`mae`                 [0, inf), the target's
R2         :func:`r2_terms`                         :func:`r2`                  (-inf, 1]
MAPE       :func:`percentage_terms`                 :func:`mape`                [0, inf), a fraction
=========  =======================================  ==========================  ====================

The median absolute error is no function of sums: it is `stats.order.median_interval` of :func:`absolute_errors`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.exact import exact_sum
from steelyard.stats.sums import mean, mean_terms, ratio

__all__ = [
    "absolute_errors",
    "absolute_terms",
    "mae",
    "mape",
    "mape_undefined",
    "mse",
    "percentage_terms",
    "r2",
    "r2_terms",
    "r2_undefined",
    "rmse",
    "squared_terms",
]

Floats = NDArray[np.float64]

_SAME = 1e-12  # of the targets' squares around the centre: below it their spread is rounding


def squared_terms(targets: ArrayLike, predicted: ArrayLike) -> Floats:
    """``(e^2, 1)`` per example."""
    y, p = _checked(targets, predicted)
    return mean_terms((y - p) ** 2)


def mse(sums: Floats) -> Floats:
    """Mean squared error of ``(..., 2)`` sums.

    >>> float(mse(squared_terms([1.0, 2.0], [1.0, 4.0]).sum(0)))
    2.0
    """
    return mean(sums)


def rmse(sums: Floats) -> Floats:
    """Root mean squared error of ``(..., 2)`` sums."""
    return np.sqrt(mean(sums))


def absolute_terms(targets: ArrayLike, predicted: ArrayLike) -> Floats:
    """``(|e|, 1)`` per example."""
    return mean_terms(absolute_errors(targets, predicted))


def absolute_errors(targets: ArrayLike, predicted: ArrayLike) -> Floats:
    """``|e|`` per example, in the target's unit."""
    y, p = _checked(targets, predicted)
    return np.abs(y - p)


def mae(sums: Floats) -> Floats:
    """Mean absolute error of ``(..., 2)`` sums."""
    return mean(sums)


def r2_terms(targets: ArrayLike, predicted: ArrayLike, centre: float | None = None) -> Floats:
    """``(e^2, y - c, (y - c)^2, 1)`` per example, with the centring constant c.

    R2 is the same for every c; one near the targets keeps its digits. Without one it is their mean, which batches that
    are summed together do not share: give them one.
    """
    y, p = _checked(targets, predicted)
    centred = y - (exact_sum(y) / len(y) if centre is None else centre)
    return np.column_stack([(y - p) ** 2, centred, centred**2, np.ones(len(y))])


def r2(sums: Floats) -> Floats:
    """``1 - sum(e^2) / sum((y - mean y)^2)`` of ``(..., 4)`` sums; NaN where all targets are equal.

    >>> float(r2(r2_terms([1.0, 2.0, 3.0], [1.0, 2.0, 2.0]).sum(0)))
    0.5
    """
    total = _total_squares(sums)
    return 1 - ratio(sums[..., 0], np.where(total > _SAME * sums[..., 2], total, 0.0))


def _total_squares(sums: Floats) -> Floats:
    return np.asarray(sums[..., 2] - sums[..., 1] * ratio(sums[..., 1], sums[..., 3]))


def r2_undefined(sums: Floats) -> str | None:
    """Why R2 of these sums ``(4,)`` is undefined, or None.

    >>> r2_undefined(r2_terms([0.1, 0.1, 0.1], [0.0, 0.1, 0.2]).sum(0))
    'undefined: all targets are equal'
    """
    return "undefined: all targets are equal" if np.isnan(r2(sums)) else None


def percentage_terms(targets: ArrayLike, predicted: ArrayLike) -> Floats:
    """``(|e / y|, 1, [y = 0])`` per example; the first is 0 where the target is."""
    y, p = _checked(targets, predicted)
    relative = np.abs(np.divide(y - p, y, out=np.zeros(len(y)), where=y != 0))
    return np.column_stack([relative, np.ones(len(y)), y == 0])


def mape(sums: Floats) -> Floats:
    """Mean absolute percentage error of ``(..., 3)`` sums, as a fraction; NaN where a target is 0.

    >>> round(float(mape(percentage_terms([1.0, 4.0], [1.1, 2.0]).sum(0))), 3)
    0.3
    """
    return np.where(sums[..., 2] > 0, np.nan, mean(sums[..., :2]))


def mape_undefined(sums: Floats) -> str | None:
    """Why MAPE of these sums ``(3,)`` is undefined, or None.

    >>> mape_undefined(percentage_terms([0.0, 1.0, 0.0], [1.0, 1.0, 1.0]).sum(0))
    'undefined: 2 of 3 targets are 0'
    """
    zeros, n = int(sums[2]), int(sums[1])
    return f"undefined: {zeros:,} of {n:,} targets are 0" if zeros else None


def _checked(targets: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    y, p = (_finite(what, values) for what, values in (("target", targets), ("prediction", predicted)))
    if len(y) != len(p):
        raise InvalidInput(f"{len(y)} targets but {len(p)} predictions: pass one prediction per example")
    return y, p


def _finite(what: str, values: ArrayLike) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{what}s must be numbers; look for text or missing values") from None
    if array.ndim != 1 or array.size == 0:
        raise InvalidInput(f"{what}s must be a non-empty row of numbers; got shape {array.shape}")
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise InvalidInput(f"{what} {array[wrong[0]]} of example {wrong[0]} is not finite: leave such examples out")
    return array
