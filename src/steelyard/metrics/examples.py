"""Labelled examples and what a model said of them: all that a metric reads, checked once at the door."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics.classification import check_indices, probabilities
from steelyard.records import Predictions, Task

__all__ = [
    "Examples",
    "Outputs",
    "Undefined",
    "answers",
    "binary",
    "from_predictions",
    "language",
    "multiclass",
    "multilabel",
    "ranking",
    "regression",
]

LARGEST = 1e70  # of a target or a prediction: its fourth power, which standard errors sum, is still a double
Outputs = Literal["probabilities", "logits", "scores"]
Floats = NDArray[np.float64]


class Undefined(Exception):
    """A metric has no value on these examples; the text says why, as in "0 positives"."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """One model's answers to n labelled examples.

    ==========  =============================  =====================================  ====================
    task        labels                         scores                                 predicted
    ==========  =============================  =====================================  ====================
    binary      class indices (n,), 1 positive probability or score of class 1 (n,)   class indices (n,)
    multiclass  class indices (n,)             probabilities or scores (n, classes)   class indices (n,)
    multilabel  0 or 1 (n, classes)            of each label (n, classes)             0 or 1 (n, classes)
    regression  targets (n,)                   predictions (n,)                       none
    ranking     relevance (n,), 0 for none     higher first (n,)                      none
    language    bytes of each token (n,)       log-probabilities (n,)                 none
    answers     right answers (n,), texts      none                                   texts (n,)
    ==========  =============================  =====================================  ====================

    Make them with the functions of this module, which check what they are given.
    """

    task: Task
    labels: NDArray[Any]
    scores: NDArray[np.floating] | None = None
    logits: NDArray[np.floating] | None = None  # of two classes or of labels, where they were given: see `ranks`
    predicted: NDArray[Any] | None = None
    p_true: NDArray[np.floating] | None = None  # probability of the true class, where that alone was kept
    classes: tuple[str, ...] = ()
    calibrated: bool = True  # scores are probabilities, so that losses and calibration make sense
    queries: NDArray[np.int64] | None = None  # the query of each row of a ranking
    clusters: NDArray[np.int64] | None = None  # the source that examples share
    stratified: bool = False  # class sizes were fixed when the examples were drawn

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ranks(self) -> NDArray[np.floating] | None:
        """What orders the examples: the logits where they were given, whose probabilities may round to equal ones."""
        return self.scores if self.logits is None else self.logits

    def take(self, index: NDArray[Any]) -> Examples:
        """The examples at these positions, or where a mask ``(n,)`` is true."""
        rows = {
            name: value[index]
            for name in ("labels", "scores", "logits", "predicted", "p_true", "queries", "clusters")
            if (value := getattr(self, name)) is not None
        }
        return dataclasses.replace(self, **rows)


def binary(
    labels: ArrayLike,
    scores: ArrayLike | None = None,
    *,
    predicted: ArrayLike | None = None,
    outputs: Outputs = "probabilities",
    threshold: float = 0.5,
    classes: tuple[str, ...] = ("0", "1"),
    clusters: NDArray[np.int64] | None = None,
    stratified: bool = False,
) -> Examples:
    """Examples of two classes; an example is called positive where its score is at or above `threshold`.

    `outputs` says once what the scores are: probabilities of class 1, logits (made probabilities by the sigmoid; the
    threshold is one of probability then), or scores that only rank. Given `predicted` wins over the threshold. Raises
    `InvalidInput`, naming the example, for NaN, infinity, probabilities outside [0, 1] or labels that are not 0 or 1.
    """
    true = check_indices("label", labels, 2).astype(np.int8, copy=False)
    given = None if scores is None else _row("score", scores, len(true))
    values = None if given is None else _binary_scores(given, outputs)
    if predicted is not None:
        guess = check_indices("prediction", predicted, 2).astype(np.int8, copy=False)
        _same_length(len(true), "prediction", len(guess))
    elif values is not None:
        guess = (values >= threshold).view(np.int8)
    else:
        raise InvalidInput("binary examples need scores or predicted classes")
    return Examples(
        task="binary",
        labels=true,
        scores=values,
        logits=given if outputs == "logits" else None,
        predicted=guess,
        classes=classes,
        calibrated=outputs != "scores",
        clusters=clusters,
        stratified=stratified,
    )


def multiclass(
    labels: ArrayLike,
    scores: ArrayLike | None = None,
    *,
    predicted: ArrayLike | None = None,
    outputs: Outputs = "probabilities",
    classes: tuple[str, ...] = (),
    clusters: NDArray[np.int64] | None = None,
    stratified: bool = False,
) -> Examples:
    """Examples of several classes; the class of the highest score is predicted, the lower index of equals.

    Raises `InvalidInput`, naming the example, for NaN, infinity, or probabilities that are none.
    """
    values = None if scores is None else _class_scores(scores, outputs)
    if values is None and predicted is None:
        raise InvalidInput("examples need scores or predicted classes")
    count = len(classes) or (values.shape[1] if values is not None else 0)
    if values is not None and values.shape[1] != count:
        raise InvalidInput(f"there are {values.shape[1]} columns of scores for {count} classes: give one for each")
    count = count or 1 + max(int(np.max(np.asarray(labels))), int(np.max(np.asarray(predicted))))
    true = check_indices("label", labels, count).astype(np.int32, copy=False)
    if values is not None:
        _same_length(len(true), "row of scores", len(values))
    guess = check_indices("prediction", np.argmax(values, axis=1) if predicted is None else predicted, count)  # type: ignore[arg-type]
    _same_length(len(true), "prediction", len(guess))
    return Examples(
        task="multiclass",
        labels=true,
        scores=values,
        predicted=guess.astype(np.int32, copy=False),
        classes=classes or tuple(map(str, range(count))),
        calibrated=outputs != "scores",
        clusters=clusters,
        stratified=stratified,
    )


def multilabel(
    labels: ArrayLike,
    scores: ArrayLike | None = None,
    *,
    predicted: ArrayLike | None = None,
    outputs: Outputs = "probabilities",
    threshold: float = 0.5,
    classes: tuple[str, ...] = (),
    clusters: NDArray[np.int64] | None = None,
) -> Examples:
    """Examples that carry any number of labels, each 0 or 1 in its column ``(n, classes)``."""
    true = _flags("label", labels)
    values = table = None
    if scores is not None:
        table = _table("score", scores)
        _same_shape(true, "score", table)
        values = _binary_scores(table.ravel(), outputs).reshape(table.shape)
    if predicted is None and values is None:
        raise InvalidInput("examples need scores or predicted labels")
    guess = _flags("prediction", predicted if predicted is not None else (values >= threshold))  # type: ignore[operator]
    _same_shape(true, "prediction", guess)
    return Examples(
        task="multilabel",
        labels=true,
        scores=values,
        logits=table if outputs == "logits" else None,
        predicted=guess,
        classes=classes or tuple(map(str, range(true.shape[1]))),
        calibrated=outputs != "scores",
        clusters=clusters,
    )


def regression(targets: ArrayLike, predictions: ArrayLike, *, clusters: NDArray[np.int64] | None = None) -> Examples:
    """Targets and predictions ``(n,)``; raises `InvalidInput` for NaN, infinity, or numbers whose powers overflow."""
    true = _row("target", targets)
    guess = _row("prediction", predictions, len(true))
    for what, values in (("target", true), ("prediction", guess)):
        largest = int(np.argmax(np.abs(values)))
        if abs(values[largest]) > LARGEST:
            raise InvalidInput(
                f"{what} {values[largest]:g} of example {largest} is beyond {LARGEST:g}: check it, or give all in a larger unit"
            )
    return Examples(task="regression", labels=true, scores=guess, clusters=clusters)


def ranking(
    relevance: ArrayLike,
    scores: ArrayLike,
    queries: ArrayLike,
    *,
    clusters: NDArray[np.int64] | None = None,
) -> Examples:
    """Documents ``(n,)`` with their relevance (0 for none), score and query."""
    grades = _row("relevance", relevance)
    if (grades < 0).any():
        bad = int(np.argmax(grades < 0))
        raise InvalidInput(f"relevance {grades[bad]:g} of row {bad} is below 0: 0 means not relevant")
    codes = np.unique(np.asarray(queries), return_inverse=True)[1].astype(np.int64)
    _same_length(len(grades), "query", len(codes))
    values = _row("score", scores, len(grades))
    return Examples(task="ranking", labels=grades, scores=values, queries=codes, clusters=clusters)


def language(
    log_probabilities: ArrayLike, byte_counts: ArrayLike, *, clusters: NDArray[np.int64] | None = None
) -> Examples:
    """Tokens ``(n,)`` of texts: the natural logarithm of the probability that the model gave each, and its bytes."""
    counts = _row("byte count", byte_counts)
    scores = _row("log-probability", log_probabilities, len(counts))
    return Examples(task="language", labels=counts, scores=scores, clusters=clusters)


def answers(
    references: Sequence[str], predicted: Sequence[str], *, clusters: NDArray[np.int64] | None = None
) -> Examples:
    """Questions ``(n,)`` with the right answer and the model's, as texts."""
    _same_length(len(references), "answer", len(predicted))
    texts = [np.array(list(side), dtype=object) for side in (references, predicted)]
    return Examples(task="answers", labels=texts[0], predicted=texts[1], clusters=clusters)


def from_predictions(made: Predictions, labels: tuple[str, ...] = ()) -> Examples:
    """A run's recorded predictions, with its class names. Two classes are a binary task, class 1 being the positive one."""
    check_indices("label", made.labels, made.classes)
    check_indices("prediction", made.predicted, made.classes)
    _same_length(len(made.labels), "prediction", len(made.predicted))
    _same_length(len(made.labels), "probability of the true class", len(made.p_true))
    scores: NDArray[np.floating] | None = made.scores
    if made.classes == 2:
        scores = np.where(made.labels == 1, made.p_true, 1 - made.p_true) if scores is None else scores[:, 1]
    return Examples(
        task="binary" if made.classes == 2 else "multiclass",
        labels=made.labels,
        scores=scores,
        predicted=made.predicted,
        p_true=made.p_true,
        classes=labels if len(labels) == made.classes else tuple(map(str, range(made.classes))),
    )


# --- checks ------------------------------------------------------------------------------------------


def _binary_scores(values: Floats, outputs: Outputs) -> Floats:
    if outputs == "scores":
        return values
    if outputs == "logits":
        from scipy.special import expit

        return np.asarray(expit(values))
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        bad = int(np.argmin(values) if low < 0 else np.argmax(values))
        raise InvalidInput(
            f"score {values[bad]:g} of example {bad} is not a probability in [0, 1]: say --outputs logits, or --outputs "
            "scores for scores that only rank"
        )
    return values


def _class_scores(scores: ArrayLike, outputs: Outputs) -> NDArray[np.floating]:
    if outputs != "scores":
        return probabilities(scores, outputs)
    table = _table("score", scores)
    if table.shape[1] < 2:
        raise InvalidInput(f"scores must have two or more classes; got shape {table.shape}")
    return table


def _row(what: str, values: ArrayLike, length: int | None = None) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InvalidInput(f"{what}s must be a non-empty row of numbers; got shape {array.shape}")
    if length is not None:
        _same_length(length, what, len(array))
    _check_finite(what, array)
    return array


def _table(what: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise InvalidInput(f"{what}s must have one row per example and one column per class; got shape {array.shape}")
    _check_finite(what, array)
    return array


def _check_finite(what: str, array: Floats) -> None:
    """NaN and infinity are found by one sum; where it is finite every value is (or the sum overflowed: look then)."""
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.isfinite(array.sum())
    if not whole and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise InvalidInput(f"{what} {array[tuple(bad)]} of example {bad[0]} is not a finite number: clean it first")


def _flags(what: str, values: Any) -> NDArray[np.int8]:
    array = np.asarray(values)
    if array.ndim != 2 or not array.size:
        raise InvalidInput(
            f"{what}s must have one row per example and one column per class, of 0 and 1; got shape {array.shape}"
        )
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InvalidInput(f"{what} {array[row, column]} of example {row}, column {column} is neither 0 nor 1")
    return array.astype(np.int8)


def _same_length(expected: int, what: str, got: int) -> None:
    if got != expected:
        raise InvalidInput(f"{expected} labels but {got} of {what}: pass one per example")


def _same_shape(labels: NDArray[Any], what: str, other: NDArray[Any]) -> None:
    if labels.shape != other.shape:
        raise InvalidInput(
            f"labels have shape {labels.shape}, {what}s {other.shape}: one for each label of each example"
        )
