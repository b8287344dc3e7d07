"""Losses of each example, in nats unless stated: what training minimised, without the framework that minimised it.

Every function gives one loss per example ``(n,)``. The loss of a data set is their mean: `stats.sums.mean_terms` and
`mean`. Probabilities are clipped at float32's epsilon, so that a cross-entropy lies in ``[0, 15.94]``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from steelyard.errors import InvalidInput
from steelyard.metrics.classification import LARGEST_LOSS, log_losses, probabilities

__all__ = ["binary_cross_entropies", "class_indices", "contrastive_losses", "cross_entropies", "info_nce_losses"]

Floats = NDArray[np.float64]
Declared = Literal["logits", "probabilities"]


def cross_entropies(outputs: ArrayLike, labels: ArrayLike, declared: Declared) -> Floats:
    """``-log p`` of the true class, from outputs ``(n, k)`` and class indices ``(n,)``.

    Logits go through a log-softmax, which no size of logit overflows. Raises `InvalidInput` as
    :func:`~steelyard.metrics.classification.probabilities` does, and for labels outside ``[0, k)``.

    >>> cross_entropies([[2.0, 2.0], [1000.0, 0.0]], [0, 1], "logits").round(3)
    array([ 0.693, 15.942])
    """
    if declared == "probabilities":
        shares = probabilities(outputs, declared)
        return log_losses(shares[np.arange(len(shares)), class_indices(labels, *shares.shape)])
    logits = _finite_rows(outputs)
    true = class_indices(labels, *logits.shape)
    below = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(below).sum(axis=1)) - below[np.arange(len(below)), true]
    return np.asarray(np.minimum(losses, LARGEST_LOSS) + 0.0)


def _finite_rows(outputs: ArrayLike) -> Floats:
    values = np.asarray(outputs, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InvalidInput(f"outputs must have one row per example and two or more classes; got shape {values.shape}")
    _refuse(~np.isfinite(values), values, "output", "is not finite")
    return values


def class_indices(labels: ArrayLike, n: int, classes: int) -> NDArray[np.int64]:
    """Labels ``(n,)`` as class indices; raises `InvalidInput`, naming the first bad one, outside ``[0, classes)``."""
    true = np.asarray(labels)
    if true.shape != (n,) or true.dtype.kind not in "biuf":
        raise InvalidInput(f"labels must be one number per example: got {true.dtype} {true.shape} for {n} examples")
    wrong = np.flatnonzero((true < 0) | (true >= classes) | (true != np.floor(true)))
    if len(wrong):
        raise InvalidInput(f"label {true[wrong[0]]} of example {wrong[0]} is not a class index from 0 to {classes - 1}")
    return true.astype(np.int64)


def binary_cross_entropies(outputs: ArrayLike, labels: ArrayLike, declared: Declared) -> Floats:
    """Mean over labels of ``-(y log p + (1 - y) log(1 - p))``, from ``(n, k)`` or ``(n,)`` outputs and 0/1 labels.

    ``-log(sigmoid(x))`` is ``log(1 + exp(-x))``, which no size of logit overflows. Raises `InvalidInput` for NaN or
    infinity, unequal shapes, labels other than 0 and 1, or probabilities outside [0, 1].

    >>> binary_cross_entropies([[0.5, 1.0]], [[1, 1]], "probabilities").round(3)
    array([0.347])
    """
    values, truth = np.asarray(outputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if values.shape != truth.shape or values.ndim not in (1, 2):
        raise InvalidInput(f"labels and outputs must have one shape, (n,) or (n, k); got {truth.shape}, {values.shape}")
    _refuse(~np.isin(truth, (0, 1)), truth, "label", "is not 0 or 1")
    _refuse(~np.isfinite(values), values, "output", "is not finite")
    losses = _of_logits(values, truth) if declared == "logits" else _of_shares(values, truth)
    return losses if losses.ndim == 1 else np.asarray(losses.mean(axis=1))


def _of_logits(values: Floats, truth: Floats) -> Floats:
    return np.minimum(np.logaddexp(0.0, np.where(truth == 1, -values, values)), LARGEST_LOSS)


def _of_shares(values: Floats, truth: Floats) -> Floats:
    _refuse((values < 0) | (values > 1), values, "probability", "is not in [0, 1]; are these logits?")
    return log_losses(np.where(truth == 1, values, 1 - values).ravel()).reshape(values.shape)


def _refuse(bad: NDArray[np.bool_], values: Floats, what: str, why: str) -> None:
    if bad.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(bad))
        raise InvalidInput(f"{what} {values[place]} of example {place[0]} {why}")


def contrastive_losses(distances: ArrayLike, same: ArrayLike, margin: float = 1.0) -> Floats:
    """``d^2 / 2`` for pairs of the same kind, ``max(0, margin - d)^2 / 2`` for others; in squared units of distance.

    Hadsell, Chopra and LeCun (2006), CVPR, equation 4. `distances` ``(n,)`` are at least 0, `same` ``(n,)`` is true for
    pairs that belong together. Raises `InvalidInput` otherwise, and for a margin that is not above 0.

    >>> contrastive_losses([1.0, 0.5, 3.0], [True, False, False])
    array([0.5  , 0.125, 0.   ])
    """
    d, together = np.asarray(distances, dtype=np.float64), np.asarray(same)
    if d.ndim != 1 or together.shape != d.shape:
        raise InvalidInput(f"pass one distance and one 'same' per pair; got shapes {d.shape} and {together.shape}")
    if not margin > 0:
        raise InvalidInput(f"the margin must be above 0; got {margin}")
    _refuse(~(np.isfinite(d) & (d >= 0)), d, "distance", "is not finite and at least 0")
    kinds = together.astype(np.float64)
    _refuse(~np.isin(kinds, (0, 1)), kinds, "'same'", "is not 0 or 1")
    return np.where(kinds == 1, d * d, np.maximum(0.0, margin - d) ** 2) / 2


def info_nce_losses(similarities: ArrayLike, temperature: float = 0.07) -> Floats:
    """InfoNCE of each anchor in a batch: cross-entropy of finding its own partner, the diagonal of ``(n, n)``.

    Van den Oord, Li and Vinyals (2018), equation 4, with similarities divided by the temperature as in Wu et al. (2018);
    not clipped. Depends on who else is in the batch, so batches must be kept. Raises `InvalidInput` for a table that is
    not square or not finite, or a temperature that is not above 0.

    >>> info_nce_losses([[1.0, 1.0], [0.0, 0.0]]).round(4)
    array([0.6931, 0.6931])
    """
    table = np.asarray(similarities, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        raise InvalidInput(f"similarities must be square, anchors by partners; got shape {table.shape}")
    if not temperature > 0:
        raise InvalidInput(f"the temperature must be above 0; got {temperature}")
    _refuse(~np.isfinite(table), table, "similarity", "is not finite")
    return np.asarray(-np.diagonal(log_softmax(table / temperature, axis=1)) + 0.0)
