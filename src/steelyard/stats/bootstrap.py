"""Confusion tables resampled as multinomials: the same cost for ten examples or a billion.

A confusion table ``table[true, predicted]`` is a sufficient statistic for every metric of hard predictions, so
resampling its cells is resampling the examples. Draws depend on counts and seed alone, never on the examples' order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import tail

__all__ = ["TableStatistic", "confusion_bootstrap", "paired_confusion_bootstrap", "percentile_bounds"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TableStatistic = Callable[[Ints], Floats]  # (B, k, k) tables -> (B,) values

_CELLS_AT_ONCE = 4_000_000  # entries of the resampled tables held in memory together


def confusion_bootstrap(
    table: NDArray[np.integer],
    statistic: TableStatistic,
    resamples: int = 2000,
    seed: int = 0,
    *,
    stratified: bool = False,
) -> Floats:
    """`resamples` values of `statistic` on resampled confusion tables ``(k, k)``.

    `stratified` keeps the number of examples of each true class (row) fixed; otherwise class sizes vary too.
    """
    counts = np.asarray(table, dtype=np.int64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.sum() == 0 or counts.min() < 0:
        raise InvalidInput(f"a confusion table is square, of counts, with examples in it; got shape {counts.shape}")
    rng = np.random.default_rng(seed)
    draw = _by_row if stratified else _whole
    chunks = _chunks(resamples, counts.size)
    return np.concatenate([np.asarray(statistic(draw(rng, counts, size)), dtype=np.float64) for size in chunks])


def _whole(rng: np.random.Generator, counts: Ints, size: int) -> Ints:
    cells = np.flatnonzero(counts)  # empty cells stay empty, so only the others are drawn
    tables = np.zeros((size, counts.size), dtype=np.int64)
    tables[:, cells] = _multinomial(rng, counts.ravel()[cells], size)
    return tables.reshape(size, *counts.shape)


def _by_row(rng: np.random.Generator, counts: Ints, size: int) -> Ints:
    tables = np.zeros((size, *counts.shape), dtype=np.int64)
    for row in np.flatnonzero(counts.sum(axis=1)):
        tables[:, row] = _multinomial(rng, counts[row], size)
    return tables


def paired_confusion_bootstrap(
    labels: NDArray[np.integer],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    classes: int,
    statistic: TableStatistic,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Values of `statistic` for two models on the same resampled examples: two rows of `resamples` values.

    The distinct (label, first, second) triples and their counts are resampled as one multinomial, so the pairing is
    kept. `labels`, `first` and `second` are class indices ``(n,)`` in ``[0, classes)``.
    """
    codes = (np.asarray(labels, dtype=np.int64) * classes + first) * classes + second
    triples, counts = np.unique(codes, return_counts=True)
    if not len(triples):
        raise InvalidInput("there are no examples to resample")
    rng = np.random.default_rng(seed)
    row = triples // classes**2
    cells = (row * classes + triples // classes % classes, row * classes + triples % classes)
    values: tuple[list[Floats], list[Floats]] = ([], [])
    for size in _chunks(resamples, classes**2):
        drawn = _multinomial(rng, counts.astype(np.int64), size)
        for model, into in zip(values, cells, strict=True):
            model.append(np.asarray(statistic(_gathered(drawn, into, classes)), dtype=np.float64))
    return np.concatenate(values[0]), np.concatenate(values[1])


def _gathered(drawn: Ints, cells: Ints, classes: int) -> Ints:
    """Sums the draws ``(B, triples)`` that fall in one cell of the ``(B, k, k)`` tables."""
    order = np.argsort(cells, kind="stable")
    distinct, starts = np.unique(cells[order], return_index=True)
    tables = np.zeros((len(drawn), classes * classes), dtype=np.int64)
    tables[:, distinct] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return tables.reshape(len(drawn), classes, classes)


def _multinomial(rng: np.random.Generator, counts: Ints, size: int) -> Ints:
    return np.asarray(rng.multinomial(int(counts.sum()), counts / counts.sum(), size=size), dtype=np.int64)


def _chunks(resamples: int, cells: int) -> Iterator[int]:
    most = max(1, _CELLS_AT_ONCE // cells)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def percentile_bounds(draws: Floats, level: float = 0.95) -> tuple[float, float]:
    """The bootstrap percentile interval of `draws` ``(B,)``.

    >>> percentile_bounds(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    alpha = tail(level)
    low, high = np.quantile(draws, (alpha, 1 - alpha))
    return float(low), float(high)
