"""The incremental form of every metric: batches in, from any number of workers, and one answer out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import Examples
from steelyard.metrics.table import estimates
from steelyard.records import Estimate, Unavailable

__all__ = ["Meter", "joined"]

_ROWS = ("labels", "scores", "logits", "predicted", "p_true", "queries", "clusters")


class Meter:
    """Collects `Examples` and judges them as one set: no mean of batch means, nothing counted twice.

    The answer is the same for any batching, order and number of workers, since every metric depends on the multiset of
    examples alone. Examples are kept (`steelyard.metrics.streaming` answers in constant memory, within a bound). All rows of
    a query belong in one batch.

    >>> from steelyard.metrics.examples import binary
    >>> one, other = Meter(["accuracy"]), Meter(["accuracy"])
    >>> one.update(binary([0, 1], [0.2, 0.9]))
    >>> other.update(binary([1], [0.3]))
    >>> round(one.merge(other).compute()[0].value, 3)
    0.667
    """

    def __init__(self, metrics: Sequence[str] = (), level: float = 0.95) -> None:
        self._metrics, self._level = tuple(metrics), level
        self._parts: list[Examples] = []

    def update(self, examples: Examples) -> None:
        """Add a batch. Raises `InvalidInput` where it is of another task or other classes than those before."""
        if self._parts:
            _check_alike(self._parts[0], examples)
        self._parts.append(examples)

    def merge(self, other: Meter) -> Meter:
        """A meter of the examples of both, such as of two workers."""
        merged = Meter(self._metrics, self._level)
        for part in (*self._parts, *other._parts):
            merged.update(part)
        return merged

    def compute(self) -> tuple[Estimate | Unavailable, ...]:
        """Every metric with its interval."""
        if not self._parts:
            raise InvalidInput("no examples yet: call update first")
        return estimates(joined(self._parts), self._metrics, self._level)


def joined(parts: Sequence[Examples]) -> Examples:
    """The examples of all parts as one set; queries of different parts are different queries."""
    rows: dict[str, Any] = {}
    for name in _ROWS:
        columns = [getattr(part, name) for part in parts]
        if columns[0] is not None:
            rows[name] = np.concatenate(_apart(columns) if name == "queries" else columns)
    return dataclasses.replace(parts[0], **rows)


def _apart(columns: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    starts = np.cumsum([0, *(int(column.max()) + 1 for column in columns)])
    return [column + start for column, start in zip(columns, starts[:-1], strict=True)]


def _check_alike(first: Examples, other: Examples) -> None:
    given = [tuple(getattr(e, name) is not None for name in _ROWS) for e in (first, other)]
    if (first.task, first.classes) != (other.task, other.classes) or given[0] != given[1]:
        raise InvalidInput(
            f"a batch of {other.task} examples with {len(other.classes)} classes does not belong to {first.task} examples with "
            f"{len(first.classes)}: give every batch the same classes, and scores to all or none"
        )
