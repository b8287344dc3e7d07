"""Confusion tables resampled from their cells: the same cost for ten examples or a billion.

A confusion table is a sufficient statistic for every metric of hard predictions, so resampling its cells as one
multinomial is resampling the examples (Efron and Tibshirani 1993, chapter 6). Clustered, whole clusters are drawn
(Field and Welsh 2007); stratified, the size of each true class stays fixed. Draws depend on counts and seed alone,
never on the examples' order nor on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import tail

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "Cells",
    "Margins",
    "TableStatistic",
    "clustered_confusion_bootstrap",
    "confusion_bootstrap",
    "pair_counts",
    "paired_confusion_bootstrap",
    "percentile_bounds",
    "resamples_for",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DRAWS_AT_ONCE = 2_000_000  # numbers drawn in one piece: 16 MB
_DRAWS = 100_000_000  # numbers drawn for one answer at the most
_DENSE = 4_000_000  # cells up to which a table is counted in place, and not by sorting
_CHUNK = 1 << 16  # examples counted at once: their codes stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Margins:
    """What metrics of hard predictions read of a confusion table: its diagonal and its two margins, ``(..., k)`` each."""

    hits: Ints  # examples of the class that are predicted right
    actual: Ints  # examples that have the class
    predicted: Ints  # examples that were given the class

    @classmethod
    def of(cls, table: ArrayLike) -> Margins:
        """From tables ``(..., k, k)``, true class by row.

        >>> Margins.of([[2, 1], [0, 3]]).predicted
        array([2, 4])
        """
        counts = np.asarray(table)
        return cls(hits=np.diagonal(counts, axis1=-2, axis2=-1), actual=counts.sum(-1), predicted=counts.sum(-2))


TableStatistic = Callable[[Margins], Floats]  # margins (..., k) -> (...) values, NaN where undefined


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """The cells of a confusion table that are not empty, by row and column; 10,000 classes need no 10^8 numbers."""

    rows: Ints
    columns: Ints
    counts: Ints
    classes: int

    @classmethod
    def of(cls, table: ArrayLike) -> Cells:
        """From a dense table ``(k, k)``. Raises `InvalidInput` for one that is none, or empty."""
        counts = np.asarray(table, dtype=np.int64)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.sum() == 0 or counts.min() < 0:
            raise InvalidInput(f"a confusion table is square, of counts, with examples in it; got shape {counts.shape}")
        rows, columns = np.nonzero(counts)
        return cls(rows=rows, columns=columns, counts=counts[rows, columns], classes=len(counts))

    @classmethod
    def counted(cls, labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Cells:
        """From class indices ``(n,)`` in ``[0, classes)``, which are not checked here."""
        if classes * classes <= _DENSE:
            table = pair_counts(labels, predicted, classes)
            found = np.flatnonzero(table)
            counts = table[found]
        else:
            found, counts = np.unique(np.asarray(labels, dtype=np.int64) * classes + predicted, return_counts=True)
        return cls(rows=found // classes, columns=found % classes, counts=counts.astype(np.int64), classes=classes)

    @property
    def n(self) -> int:
        """How many examples were counted."""
        return int(self.counts.sum())

    def margins(self) -> Margins:
        """The diagonal and the margins ``(k,)``."""
        size = self.classes
        hits = np.zeros(size, dtype=np.int64)
        right = self.rows == self.columns
        hits[self.rows[right]] = self.counts[right]
        actual, predicted = (
            np.bincount(axis, self.counts, size).astype(np.int64) for axis in (self.rows, self.columns)
        )
        return Margins(hits=hits, actual=actual, predicted=predicted)

    def dense(self) -> Ints:
        """The table ``(k, k)``."""
        table = np.zeros((self.classes, self.classes), dtype=np.int64)
        table[self.rows, self.columns] = self.counts
        return table

    def merge(self, other: Cells) -> Cells:
        """The table of the examples of both."""
        codes = np.concatenate([self.rows * self.classes + self.columns, other.rows * self.classes + other.columns])
        found, places = np.unique(codes, return_inverse=True)
        counts = np.zeros(len(found), dtype=np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Cells(rows=found // self.classes, columns=found % self.classes, counts=counts, classes=self.classes)


def pair_counts(labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Ints:
    """Examples of each (label, prediction), ``(classes**2,)`` by label, from class indices ``(n,)`` of any whole type.

    Indices are widened a chunk at a time, in the cache, where small types cost less to read than to convert at once.
    They are in ``[0, classes)``, which is not checked here.

    >>> pair_counts(np.array([0, 1, 1], dtype=np.int8), np.array([0, 1, 0], dtype=np.int8), 2)
    array([1, 0, 1, 1])
    """
    cells = classes * classes
    table = np.zeros(cells, dtype=np.int64)
    size = max(_CHUNK, 4 * cells)  # adding up the table must not cost more than counting into it
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        codes = np.multiply(labels[part], classes, dtype=np.intp, casting="unsafe")
        codes += predicted[part].astype(np.intp, copy=False)
        table += np.bincount(codes, minlength=cells)
    return table


# --- one model ---------------------------------------------------------------------------------------


def resamples_for(cells: int, wanted: int = 2000) -> int:
    """Resamples to draw from so many cells: 2,000, and fewer (at least 200) where that would take minutes.

    A standard error from B draws is itself off by about ``1 / sqrt(2 B)``: 1.6 % of 2,000, 5 % of 200.

    >>> resamples_for(100), resamples_for(10**6)
    (2000, 200)
    """
    return int(np.clip(_DRAWS // max(cells, 1), min(200, wanted), wanted))


def confusion_bootstrap(
    cells: Cells,
    statistics: Sequence[TableStatistic],
    resamples: int = 2000,
    seed: int = 0,
    *,
    stratified: bool = False,
) -> Floats:
    """Values ``(len(statistics), resamples)`` on resampled tables; all statistics read the same tables.

    `stratified` keeps the number of examples of each true class (row) fixed; otherwise class sizes vary too.
    """
    where = _incidence(cells.rows, cells.columns, cells.classes)
    strata = cells.rows if stratified else None
    return np.asarray(_drawn(cells.counts, strata, (where,), statistics, resamples, seed)[0])


def paired_confusion_bootstrap(
    labels: NDArray[np.integer],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    classes: int,
    statistics: Sequence[TableStatistic],
    resamples: int = 2000,
    seed: int = 0,
    *,
    clusters: NDArray[np.integer] | None = None,
    stratified: bool = False,
) -> Floats:
    """Values ``(2, len(statistics), resamples)`` of two models on the same resampled examples.

    The distinct (label, first, second) triples and their counts are resampled as one multinomial, so the pairing is
    kept. `labels`, `first` and `second` are class indices ``(n,)`` in ``[0, classes)``; `clusters` ``(n,)`` names the
    source that examples share, and then whole clusters are drawn.
    """
    if not len(labels):
        raise InvalidInput("there are no examples to resample")
    codes = (np.asarray(labels, dtype=np.int64) * classes + first) * classes + second
    triples, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rows = triples // classes**2
    where = [_incidence(rows, columns, classes) for columns in (triples // classes % classes, triples % classes)]
    strata = rows if stratified else None
    if clusters is not None:
        where, counts, strata = _by_cluster(where, places, clusters)
    return _drawn(counts.astype(np.int64), strata, where, statistics, resamples, seed)


def clustered_confusion_bootstrap(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    clusters: NDArray[np.integer],
    classes: int,
    statistics: Sequence[TableStatistic],
    resamples: int = 2000,
    seed: int = 0,
) -> Floats:
    """:func:`confusion_bootstrap` where whole clusters ``(n,)`` of examples are drawn."""
    codes, places = np.unique(np.asarray(labels, dtype=np.int64) * classes + predicted, return_inverse=True)
    where, counts, _ = _by_cluster([_incidence(codes // classes, codes % classes, classes)], places, clusters)
    return np.asarray(_drawn(counts, None, where, statistics, resamples, seed)[0])


# --- how ---------------------------------------------------------------------------------------------


def _incidence(rows: Ints, columns: Ints, classes: int) -> csr_array:
    """``(cells, 3 classes)``: the entries of hits, actual and predicted that one example in a cell adds to."""
    from scipy.sparse import csr_array

    right = np.flatnonzero(rows == columns)
    cell = np.arange(len(rows))
    at = np.concatenate([right, cell, cell])
    to = np.concatenate([rows[right], classes + rows, 2 * classes + columns])
    return csr_array((np.ones(len(at), dtype=np.int64), (at, to)), shape=(len(rows), 3 * classes))


def _by_cluster(
    where: Sequence[csr_array], places: NDArray[np.integer], clusters: NDArray[np.integer]
) -> tuple[list[csr_array], Ints, None]:
    """Units that are clusters: what each of them adds, and one of each."""
    from scipy.sparse import csr_array

    names, member = np.unique(clusters, return_inverse=True)
    ones = np.ones(len(member), dtype=np.int64)
    contents = csr_array((ones, (member, places)), shape=(len(names), where[0].shape[0]))
    return [contents @ one for one in where], np.ones(len(names), dtype=np.int64), None


def _drawn(
    counts: Ints,
    strata: Ints | None,
    where: Sequence[csr_array],
    statistics: Sequence[TableStatistic],
    resamples: int,
    seed: int,
) -> Floats:
    """Values ``(models, statistics, resamples)``, piece by piece, each piece from its own stream of random numbers."""
    size = max(1, min(resamples, _DRAWS_AT_ONCE // max(len(counts), where[0].shape[1] // 3, 1)))
    sizes = [min(size, resamples - start) for start in range(0, resamples, size)]
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    turned = [one.T.tocsr() for one in where]  # sparse times dense is the fast side

    def piece(job: tuple[np.random.SeedSequence, int]) -> Floats:
        rng = np.random.Generator(np.random.SFC64(job[0]))
        units = _multinomial(rng, counts, job[1]) if strata is None else _by_stratum(rng, counts, strata, job[1])
        upright = np.ascontiguousarray(units.T)
        found = [_margins(one @ upright) for one in turned]
        return np.array([[np.asarray(s(m), dtype=np.float64) for s in statistics] for m in found])

    if len(sizes) == 1:
        return piece((seeds[0], sizes[0]))
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:  # NumPy draws without holding the interpreter
        return np.concatenate(list(pool.map(piece, zip(seeds, sizes, strict=True))), axis=-1)


def _margins(sums: Any) -> Margins:
    """``(3k, B)`` sums as margins ``(B, k)``."""
    hits, actual, predicted = (np.ascontiguousarray(part.T) for part in np.split(np.asarray(sums), 3))
    return Margins(hits=hits, actual=actual, predicted=predicted)


def _multinomial(rng: np.random.Generator, counts: Ints, size: int) -> Ints:
    return np.asarray(rng.multinomial(int(counts.sum()), counts / counts.sum(), size=size), dtype=np.int64)


def _by_stratum(rng: np.random.Generator, counts: Ints, strata: Ints, size: int) -> Ints:
    units = np.empty((size, len(counts)), dtype=np.int64)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        units[:, own] = _multinomial(rng, counts[own], size)
    return units


def percentile_bounds(draws: Floats, level: float = 0.95) -> tuple[float, float]:
    """The bootstrap percentile interval of `draws` ``(B,)``.

    >>> percentile_bounds(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    alpha = tail(level)
    low, high = np.quantile(draws, (alpha, 1 - alpha))
    return float(low), float(high)
