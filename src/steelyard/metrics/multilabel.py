"""Multi-label metrics as functions of sums over examples; `labels` and `predicted` are 0/1 ``(n, k)``.

Conventions, as for the macro means of `classification`: a label with neither positives nor predictions is undefined and
left out of the means; one with positives but no predictions has precision 0, one with predictions but no positives has
recall 0 (scikit-learn's with ``zero_division=0``, less the undefined ones). The means over examples (``samples``) leave
out examples with neither labels nor predictions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.sums import Value, mean_terms, ratio

__all__ = [
    "Average",
    "Kind",
    "decided",
    "hamming_terms",
    "label_terms",
    "label_trials",
    "label_value",
    "labels_undefined",
    "per_label",
    "sample_terms",
    "samples_undefined",
    "subset_terms",
]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Kind = Literal["precision", "recall", "f"]
Average = Literal["micro", "macro", "weighted"]


def decided(scores: ArrayLike, threshold: ArrayLike = 0.5) -> Flags:
    """Labels ``(n, k)`` predicted where the score is at least the threshold (one, or one per label ``(k,)``).

    >>> decided([[0.2, 0.5], [0.9, 0.4]]).astype(int)
    array([[0, 1],
           [1, 0]])
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InvalidInput(f"scores must be finite, one row per example and one column per label; got {values.shape}")
    return np.asarray(values >= np.asarray(threshold, dtype=np.float64))


def subset_terms(labels: ArrayLike, predicted: ArrayLike) -> Floats:
    """``(all labels right, 1)`` per example; their mean is subset accuracy, in [0, 1]."""
    true, guess = _checked(labels, predicted)
    return mean_terms((true == guess).all(axis=1))


def hamming_terms(labels: ArrayLike, predicted: ArrayLike) -> Floats:
    """``(share of labels wrong, 1)`` per example; their mean is Hamming loss, in [0, 1].

    >>> hamming_terms([[1, 0], [1, 1]], [[1, 1], [1, 1]])[:, 0]
    array([0.5, 0. ])
    """
    true, guess = _checked(labels, predicted)
    return mean_terms((true != guess).mean(axis=1))


def label_terms(labels: ArrayLike, predicted: ArrayLike) -> Floats:
    """True positives, false positives and false negatives of each label ``(n, 3 k)``, one block of k after another."""
    true, guess = _checked(labels, predicted)
    return np.concatenate([true & guess, ~true & guess, true & ~guess], axis=1).astype(np.float64)


def per_label(sums: Floats, kind: Kind = "f", beta: float = 1.0) -> Floats:
    """The score ``(..., k)`` of each label from the sums ``(..., 3 k)`` of :func:`label_terms`; NaN where undefined.

    >>> per_label(label_terms([[1, 0, 0], [1, 0, 1]], [[1, 0, 0], [0, 0, 0]]).sum(0), "recall")
    array([0.5, nan, 0. ])
    """
    return _score(*_counts(sums), kind, beta)


def label_value(kind: Kind = "f", average: Average = "micro", beta: float = 1.0) -> Value:
    """The averaged score as a function of the sums ``(..., 3 k)`` of :func:`label_terms`.

    ``micro`` adds up the labels' counts, ``macro`` is the mean over labels, ``weighted`` weighs labels by their
    positives. In [0, 1]; NaN where no label is defined.

    >>> f1 = label_value("f", "macro")
    >>> float(f1(label_terms([[1, 0], [1, 0]], [[1, 0], [1, 0]]).sum(0)))
    1.0
    """
    if not beta > 0:
        raise InvalidInput(f"beta must be above 0, such as 1 for F1 or 2 for F2; got {beta}")

    def value(sums: Floats) -> Floats:
        tp, fp, fn = _counts(sums)
        if average == "micro":
            return _score(tp.sum(-1), fp.sum(-1), fn.sum(-1), kind, beta)
        scores = _score(tp, fp, fn, kind, beta)
        weights = tp + fn if average == "weighted" else np.where(np.isnan(scores), 0.0, 1.0)
        return ratio((np.nan_to_num(scores) * weights).sum(-1), weights.sum(-1))

    return value


def label_trials(sums: Floats, kind: Kind = "f", average: Average = "micro") -> float:
    """Independent trials that a perfect score stands on, from the sums ``(3 k,)``: the `size` of `stats.sums.interval`.

    Predictions for precision, positives for recall, their mean for F; a mean over k labels with sizes n_i is worth
    ``k^2 / sum(1 / n_i)``. A label without any (its score is 0) counts as one.
    """
    tp, fp, fn = _counts(sums)
    sizes = {"precision": tp + fp, "recall": tp + fn, "f": tp + (fp + fn) / 2}[kind]
    seen = np.maximum(sizes[tp + fp + fn > 0], 1.0)
    return float(len(seen) ** 2 / np.sum(1 / seen)) if average == "macro" and len(seen) else float(seen.sum())


def labels_undefined(sums: Floats, average: Average = "micro") -> str | None:
    """Why the averaged score of these sums ``(3 k,)`` is undefined, or None.

    >>> labels_undefined(label_terms([[0, 0]], [[0, 0]]).sum(0))
    'undefined: no label has positives or predictions'
    """
    tp, fp, fn = _counts(sums)
    if average == "weighted":
        return None if (tp + fn).any() else "undefined: no label has positives to weigh it by"
    return None if (tp + fp + fn).any() else "undefined: no label has positives or predictions"


def sample_terms(labels: ArrayLike, predicted: ArrayLike, kind: Kind = "f", beta: float = 1.0) -> Floats:
    """``(score, 1)`` per example over its labels, ``(0, 0)`` for examples with neither labels nor predictions.

    Their mean is the ``samples`` average, in [0, 1]; undefined where every example is left out.
    """
    true, guess = _checked(labels, predicted)
    tp, fp, fn = (part.sum(1, dtype=np.float64) for part in (true & guess, ~true & guess, true & ~guess))
    scores = _score(tp, fp, fn, kind, beta)
    return mean_terms(np.nan_to_num(scores), ~np.isnan(scores))


def samples_undefined(sums: Floats) -> str | None:
    """Why the mean over examples of these sums ``(2,)`` is undefined, or None.

    >>> samples_undefined(sample_terms([[0, 0]], [[0, 0]]).sum(0))
    'undefined: no example has labels or predictions'
    """
    return None if sums[1] > 0 else "undefined: no example has labels or predictions"


def _score(tp: Floats, fp: Floats, fn: Floats, kind: Kind, beta: float) -> Floats:
    """NaN where neither positives nor predictions exist, 0 where the score's own denominator is empty."""
    weight = {"precision": 0.0, "recall": 1.0, "f": beta**2 / (1 + beta**2)}[kind]
    whole = tp + weight * fn + (1 - weight) * fp
    return np.where(tp + fp + fn > 0, np.nan_to_num(ratio(tp, whole)), np.nan)


def _counts(sums: Floats) -> tuple[Floats, Floats, Floats]:
    k = sums.shape[-1] // 3
    return sums[..., :k], sums[..., k : 2 * k], sums[..., 2 * k :]


def _checked(labels: ArrayLike, predicted: ArrayLike) -> tuple[Flags, Flags]:
    true, guess = _flags("label", labels), _flags("prediction", predicted)
    if true.shape != guess.shape:
        raise InvalidInput(f"labels and predictions must have one shape; got {true.shape} and {guess.shape}")
    return true, guess


def _flags(what: str, values: ArrayLike) -> Flags:
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0:
        raise InvalidInput(f"{what}s must be 0 or 1, a row per example and a column per label; got {array.shape}")
    wrong = np.argwhere((array != 0) & (array != 1))
    if len(wrong):
        row, column = wrong[0]
        raise InvalidInput(f"{what} {array[row, column]} of example {row}, column {column}, is not 0 or 1")
    return np.asarray(array == 1)
