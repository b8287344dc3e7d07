"""Classification metrics from arrays and from confusion tables.

A confusion table is ``table[..., true, predicted]``, counts of examples; every function of a table works on all
leading batch axes at once (``(..., k, k)`` in, ``(...)`` out), so that bootstrap draws are evaluated together.

Conventions of the macro means: a class with neither labels nor predictions is left out; a class that has labels but
no predictions has precision 0, one that has predictions but no labels has recall 0 (as scikit-learn with its default
classes and ``zero_division=0``). Balanced accuracy averages over the classes that have labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput

__all__ = [
    "LARGEST_LOSS",
    "accuracy",
    "balanced_accuracy",
    "confusion",
    "log_losses",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "probabilities",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SMALLEST = float(np.finfo(np.float32).eps)  # 1.19e-7: a probability of 0 would make the loss infinite
_SUM_SLACK = 1e-3  # rounding of half-precision softmax

LARGEST_LOSS = -float(np.log(_SMALLEST))
"""The loss of an example given probability 0, in nats: 15.94."""


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """The ``(classes, classes)`` table of counts, true class by row, from class indices ``(n,)``.

    Raises `InvalidInput` for no examples, unequal lengths, or an index outside ``[0, classes)``.

    >>> confusion([0, 1, 1], [0, 1, 0], 2)
    array([[1, 0],
           [1, 1]])
    """
    true, guess = _indices("label", labels, classes), _indices("prediction", predicted, classes)
    if len(true) != len(guess):
        raise InvalidInput(f"{len(true)} labels but {len(guess)} predictions: pass one prediction per example")
    return np.bincount(true * classes + guess, minlength=classes * classes).reshape(classes, classes)


def _indices(what: str, values: ArrayLike, classes: int) -> Ints:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise InvalidInput(f"{what}s must be a non-empty row of class indices; got shape {array.shape}")
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
    wrong = np.flatnonzero((whole != array) | (whole < 0) | (whole >= classes))
    if len(wrong):
        first = int(wrong[0])
        raise InvalidInput(f"{what} {array[first]} of example {first} is not a class index from 0 to {classes - 1}")
    return whole


def accuracy(table: ArrayLike) -> Floats:
    """Share of examples on the diagonal."""
    counts = np.asarray(table)
    return np.asarray(_diagonal(counts).sum(-1) / counts.sum((-2, -1)))


def balanced_accuracy(table: ArrayLike) -> Floats:
    """Mean recall over the classes that have labels."""
    counts = np.asarray(table)
    actual = counts.sum(-1)
    return _mean(_ratio(_diagonal(counts), actual), actual > 0)


def macro_precision(table: ArrayLike) -> Floats:
    """Unweighted mean precision over the classes with labels or predictions."""
    counts = np.asarray(table)
    return _mean(_ratio(_diagonal(counts), counts.sum(-2)), _seen(counts))


def macro_recall(table: ArrayLike) -> Floats:
    """Unweighted mean recall over the classes with labels or predictions."""
    counts = np.asarray(table)
    return _mean(_ratio(_diagonal(counts), counts.sum(-1)), _seen(counts))


def macro_f1(table: ArrayLike) -> Floats:
    """Unweighted mean of ``2 TP / (labels + predictions)`` over the classes with labels or predictions.

    >>> float(macro_f1([[2, 0, 0], [0, 3, 0], [0, 0, 0]]))
    1.0
    """
    counts = np.asarray(table)
    return _mean(_ratio(2 * _diagonal(counts), counts.sum(-1) + counts.sum(-2)), _seen(counts))


def _diagonal(counts: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _seen(counts: NDArray[np.integer]) -> NDArray[np.bool_]:
    return np.asarray(counts.sum(-1) + counts.sum(-2) > 0)


def _ratio(part: NDArray[np.integer], whole: NDArray[np.integer]) -> Floats:
    """``part / whole``, 0 where `whole` is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0), dtype=np.float64)


def _mean(values: Floats, kept: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(kept, values, 0.0).sum(-1) / kept.sum(-1), dtype=np.float64)


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
