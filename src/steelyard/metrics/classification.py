"""Metrics of hard predictions, from the margins of a confusion table.

A confusion table is ``table[..., true, predicted]``, counts of examples. Every metric reads its `Margins`
(`steelyard.stats.bootstrap`): the diagonal and the two margins, ``(..., k)`` in, ``(...)`` out, so that bootstrap draws
are evaluated together. Where a metric is undefined its value is NaN.

Conventions of the averages over classes: a class with neither labels nor predictions is left out; a class that has
labels but no predictions has precision 0, one that has predictions but no labels has recall 0 (as scikit-learn with
its default classes and ``zero_division=0``). Balanced accuracy averages over the classes that have labels. For one class
alone these cases are undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.bootstrap import Margins, pair_counts

__all__ = [
    "LARGEST_LOSS",
    "accuracy",
    "balanced_accuracy",
    "class_f",
    "class_precision",
    "class_recall",
    "confusion",
    "error_rate",
    "log_losses",
    "macro_f",
    "macro_precision",
    "macro_recall",
    "matthews",
    "micro_f",
    "probabilities",
    "specificity",
    "top_k_hits",
    "weighted_f",
    "weighted_precision",
    "weighted_recall",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SMALLEST = float(np.finfo(np.float32).eps)  # 1.19e-7: a probability of 0 would make the loss infinite
_SUM_SLACK = 1e-3  # rounding of half-precision softmax

LARGEST_LOSS = -float(np.log(_SMALLEST))
"""The loss of an example given probability 0, in nats: 15.94."""


# --- counting ----------------------------------------------------------------------------------------


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """The ``(classes, classes)`` table of counts, true class by row, from class indices ``(n,)``.

    Raises `InvalidInput` for no examples, unequal lengths, or an index outside ``[0, classes)``.

    >>> confusion([0, 1, 1], [0, 1, 0], 2)
    array([[1, 0],
           [1, 1]])
    """
    true, guess = check_indices("label", labels, classes), check_indices("prediction", predicted, classes)
    if len(true) != len(guess):
        raise InvalidInput(f"{len(true)} labels but {len(guess)} predictions: pass one prediction per example")
    return pair_counts(true, guess, classes).reshape(classes, classes)


def check_indices(what: str, values: ArrayLike, classes: int) -> NDArray[np.integer]:
    """Class indices ``(n,)`` as whole numbers. Raises `InvalidInput`, naming the first that is none."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise InvalidInput(f"{what}s must be a non-empty row of class indices; got shape {array.shape}")
    if array.dtype.kind in "iu":
        if array.min() >= 0 and array.max() < classes:
            return array
        whole: NDArray[np.integer] = array
    else:
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.int64)
    wrong = np.flatnonzero((whole != array) | (whole < 0) | (whole >= classes))
    if len(wrong):
        first = int(wrong[0])
        raise InvalidInput(f"{what} {array[first]} of example {first} is not a class index from 0 to {classes - 1}")
    return whole


# --- all classes together ----------------------------------------------------------------------------


def accuracy(counts: Margins) -> Floats:
    """Share of examples on the diagonal."""
    return np.asarray(counts.hits.sum(-1) / counts.actual.sum(-1))


def error_rate(counts: Margins) -> Floats:
    """One minus accuracy."""
    n = counts.actual.sum(-1)
    return np.asarray((n - counts.hits.sum(-1)) / n)


def balanced_accuracy(counts: Margins) -> Floats:
    """Mean recall over the classes that have labels."""
    return _mean(_ratio(counts.hits, counts.actual), counts.actual > 0)


def matthews(counts: Margins) -> Floats:
    """Matthews' correlation of labels and predictions for any number of classes (Gorodkin 2004), in [-1, 1].

    Undefined where all labels, or all predictions, are of one class.
    """
    hits, actual, predicted = (x.astype(np.float64) for x in (counts.hits, counts.actual, counts.predicted))
    n = actual.sum(-1)
    covariance = n * hits.sum(-1) - (actual * predicted).sum(-1)
    spread = np.sqrt((n * n - (actual**2).sum(-1)) * (n * n - (predicted**2).sum(-1)))
    return np.asarray(np.divide(covariance, spread, out=np.full(np.shape(n), np.nan), where=spread > 0))


# --- averages over classes ---------------------------------------------------------------------------


def macro_precision(counts: Margins) -> Floats:
    """Unweighted mean precision over the classes with labels or predictions."""
    return _mean(_ratio(counts.hits, counts.predicted), _seen(counts))


def macro_recall(counts: Margins) -> Floats:
    """Unweighted mean recall over the classes with labels or predictions."""
    return _mean(_ratio(counts.hits, counts.actual), _seen(counts))


def macro_f(counts: Margins, beta: float = 1.0) -> Floats:
    """Unweighted mean of `class_f` over the classes with labels or predictions.

    >>> float(macro_f(Margins.of([[2, 0, 0], [0, 3, 0], [0, 0, 0]])))
    1.0
    """
    return _mean(_f(counts.hits, counts.actual, counts.predicted, beta), _seen(counts))


def weighted_precision(counts: Margins) -> Floats:
    """Mean precision, each class weighted by its labels."""
    return _weighted(_ratio(counts.hits, counts.predicted), counts)


def weighted_recall(counts: Margins) -> Floats:
    """Mean recall, each class weighted by its labels: the same number as accuracy."""
    return accuracy(counts)


def weighted_f(counts: Margins, beta: float = 1.0) -> Floats:
    """Mean F-beta, each class weighted by its labels."""
    return _weighted(_f(counts.hits, counts.actual, counts.predicted, beta), counts)


def micro_f(counts: Margins, beta: float = 1.0) -> Floats:
    """F-beta of all decisions together; with one label an example it is accuracy, whatever `beta`."""
    hits, actual, predicted = (x.sum(-1) for x in (counts.hits, counts.actual, counts.predicted))
    return _f(hits, actual, predicted, beta)


# --- one class ---------------------------------------------------------------------------------------


def class_precision(counts: Margins, which: int) -> Floats:
    """Share of the examples given this class that have it; NaN where none was given it."""
    return _defined(counts.hits[..., which], counts.predicted[..., which])


def class_recall(counts: Margins, which: int) -> Floats:
    """Share of the examples of this class that were given it; NaN where there are none."""
    return _defined(counts.hits[..., which], counts.actual[..., which])


def class_f(counts: Margins, which: int, beta: float = 1.0) -> Floats:
    """``(1 + beta^2) TP / (beta^2 labels + predictions)`` of one class (van Rijsbergen 1979); NaN without either."""
    square = beta * beta
    whole = square * counts.actual[..., which] + counts.predicted[..., which]
    return _defined((1 + square) * counts.hits[..., which], whole)


def specificity(counts: Margins, which: int) -> Floats:
    """Share of the examples of all other classes that were not given this one; NaN where there are none."""
    others = counts.actual.sum(-1) - counts.actual[..., which]
    false = counts.predicted[..., which] - counts.hits[..., which]
    return _defined(others - false, others)


# --- arithmetic --------------------------------------------------------------------------------------


def _f(hits: Ints, actual: Ints, predicted: Ints, beta: float) -> Floats:
    square = beta * beta
    return _ratio((1 + square) * hits, square * actual + predicted)


def _seen(counts: Margins) -> NDArray[np.bool_]:
    return np.asarray(counts.actual + counts.predicted > 0)


def _ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """``part / whole``, 0 where `whole` is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0), dtype=np.float64)


def _defined(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """``part / whole``, NaN where `whole` is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0))


def _mean(values: Floats, kept: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(kept, values, 0.0).sum(-1) / kept.sum(-1), dtype=np.float64)


def _weighted(values: Floats, counts: Margins) -> Floats:
    return np.asarray((values * counts.actual).sum(-1) / counts.actual.sum(-1))


# --- scores ------------------------------------------------------------------------------------------


def top_k_hits(scores: NDArray[np.floating], labels: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the `k` highest scores ``(n, classes)``; ties go to the lower class index.

    >>> top_k_hits(np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]), np.array([2, 2]), 2)
    array([ True, False])
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    return np.asarray(before.sum(axis=1) < k)


def log_losses(p_true: ArrayLike) -> Floats:
    """Cross-entropy of each example in nats, ``-log p``, from the probability ``(n,)`` given to its true class.

    Probabilities are clipped from below at float32's epsilon (1.19e-7), so a loss lies in ``[0, 15.94]``; log-loss is
    their mean. Raises `InvalidInput` for NaN or a value outside [0, 1].

    >>> log_losses([1.0, 0.5]).round(3)
    array([0.   , 0.693])
    """
    p = np.asarray(p_true, dtype=np.float64)
    wrong = np.flatnonzero(~((p >= 0) & (p <= 1 + _SUM_SLACK)))
    if len(wrong):
        raise InvalidInput(f"probability {p[wrong[0]]} of example {wrong[0]} is not in [0, 1]; are these logits?")
    return np.asarray(-np.log(np.clip(p, _SMALLEST, 1.0)) + 0.0)


def probabilities(outputs: ArrayLike, declared: Literal["logits", "probabilities"]) -> Floats:
    """Class probabilities ``(n, k)`` from a model's outputs ``(n, k)``, by what they were declared to be.

    Nothing is guessed: logits go through a stable softmax; probabilities must lie in [0, 1] and sum to 1 within 0.001.
    Raises `InvalidInput`, naming the first bad example, for NaN, infinity or probabilities that are none.

    >>> probabilities([[1000.0, 1000.0]], "logits")
    array([[0.5, 0.5]])
    """
    values = np.asarray(outputs, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InvalidInput(f"outputs must have one row per example and two or more classes; got shape {values.shape}")
    _refuse(~np.isfinite(values).all(axis=1), values, "holds NaN or infinity")
    if declared == "logits":
        with np.errstate(over="ignore"):  # a difference beyond the largest double is a share of 0
            powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    outside = ((values < -_SUM_SLACK) | (values > 1 + _SUM_SLACK)).any(axis=1)
    cure = "declare the outputs as logits if that is what they are"
    _refuse(outside, values, f"is declared probabilities but leaves [0, 1]: {cure}")
    _refuse(
        np.abs(values.sum(axis=1) - 1) > _SUM_SLACK, values, f"is declared probabilities but does not sum to 1: {cure}"
    )
    return np.clip(values, 0.0, 1.0)


def _refuse(bad: ArrayLike, rows: Floats, why: str) -> None:
    if np.any(bad):
        first = int(np.argmax(bad))
        shown: Sequence[float] = [round(float(v), 4) for v in rows[first][:4]]
        raise InvalidInput(f"output of example {first} {why} (it begins {shown})")
