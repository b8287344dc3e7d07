"""Areas under the ROC and precision-recall curves of scores that arrive in chunks, in constant memory, with a bound.

Scores are counted in two million bins cut by their bit pattern, 32 MB whatever the number of examples. A bin is as
narrow as its score is small: probabilities under 0.5 are resolved to one part in 8,192 of themselves, those above to
one part in 8,192 of their distance from 1 (down to 2^-126), so scores squeezed into [0, 0.02] or [0.999, 1] keep their
order. Logits are resolved to one part in 4,096 of themselves.

The error bound is guaranteed. Only pairs inside one bin have an unknown order, so the exact AUC lies within
``sum_b p_b n_b / (2 P N)`` of the value, and the exact average precision between that of the worst and of the best
order inside the bins.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.auc import score_interval
from steelyard.stats.average_precision import counted_precision_size
from steelyard.stats.ranked import AucParts, Counts

__all__ = ["Areas", "Bounded", "StreamingAreas"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Declared = Literal["probabilities", "logits"]

_HALF = 1 << 20  # bins on each side of 0.5 (or of a logit of 0)
_MANTISSA_BITS = {"probabilities": 13, "logits": 12}  # of a score that name its bin; the exponent takes the rest
_LEAST_EXPONENT = 1023 - 126  # of a double; smaller scores share the first bin
_CHUNK = 1 << 16  # scores binned at once, so that they stay in the cache
_ROUNDING = 1e-12  # of sums over two million bins in double precision, generously


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A value and the ends between which the exact one lies, always: a guarantee, not a confidence interval."""

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """The most that the value can be off."""
        return max(self.high - self.value, self.value - self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Areas:
    """Both areas of all scores so far, and the examples they rest on."""

    auc: Bounded
    average_precision: Bounded
    positives: int
    negatives: int


class StreamingAreas:
    """Counts of positives and negatives by score: update with chunks, merge workers', compute at any time.

    The result depends on the examples only, not on chunks, order or workers.

    >>> areas = StreamingAreas("probabilities")
    >>> areas.update([0, 1], [0.1, 0.35])
    >>> areas.update([0, 1], [0.4, 0.8])
    >>> found = areas.compute()
    >>> found.auc
    Bounded(value=0.75, low=0.75, high=0.75)
    """

    def __init__(self, declared: Declared) -> None:
        if declared not in _MANTISSA_BITS:
            raise InvalidInput(f"scores must be declared as 'probabilities' or 'logits'; got {declared!r}")
        self._declared: Declared = declared
        self._counts: Ints = np.zeros((2 * _HALF, 2), dtype=np.int64)  # ascending in score; negatives, positives

    def update(self, labels: ArrayLike, scores: ArrayLike) -> None:
        """Count `scores` ``(n,)`` with `labels` ``(n,)`` (bool, or 0 and 1).

        Raises `InvalidInput`, naming the example by its place in this chunk and counting none of it, for NaN,
        infinity, a declared probability outside [0, 1], or a label that is neither 0 nor 1.
        """
        values, positive = np.asarray(scores), np.asarray(labels)
        if values.ndim != 1 or values.shape != positive.shape:
            raise InvalidInput(f"pass one label per score, each in a row; got {positive.shape} and {values.shape}")
        self._check(values, positive)
        flat = self._counts.reshape(-1)
        for start in range(0, len(values), _CHUNK):
            cells = self._bins(values[start : start + _CHUNK].astype(np.float64)) << 1
            cells += positive[start : start + _CHUNK].astype(np.int64)
            np.add.at(flat, cells, 1)

    def merge(self, other: StreamingAreas) -> StreamingAreas:
        """The counts of both, as if one had seen all examples."""
        if other._declared != self._declared:
            raise InvalidInput(f"{self._declared} cannot be merged with {other._declared}: declare both alike")
        merged = StreamingAreas(self._declared)
        merged._counts = self._counts + other._counts
        return merged

    def compute(self) -> Areas | None:
        """Both areas with their bounds; None where there are no positives or no negatives."""
        kept = self._counts[self._counts[:, 0] + self._counts[:, 1] > 0]
        negatives, positives = kept[:, 0], kept[:, 1]
        p, n = int(positives.sum()), int(negatives.sum())
        if not p or not n:
            return None
        return Areas(
            auc=_auc(positives, negatives),
            average_precision=_average_precision(positives[::-1], negatives[::-1]),
            positives=p,
            negatives=n,
        )

    def precision_interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The average precision's confidence interval (`steelyard.stats.average_precision.precision_size`), widened by its bound."""
        found = self.compute()
        if found is None:
            return None
        kept = np.flatnonzero(self._counts.sum(axis=1))
        counts = Counts(
            scores=kept.astype(np.float64), positives=self._counts[kept, 1], negatives=self._counts[kept, 0]
        )
        low, high = counted_precision_size(counts, found.average_precision.value).interval(level)
        error = found.average_precision.error
        return max(0.0, low - error), min(1.0, high + error)

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The AUC's confidence interval (`steelyard.stats.auc.score_interval`), widened to hold at both ends of its bound.

        Scores of one bin count as tied in the variance. None where there are no positives or no negatives.
        """
        found = self.compute()
        if found is None:
            return None
        parts = _parts(self._counts[:, 1], self._counts[:, 0], found.auc.value)
        low, high = (
            score_interval(dataclasses.replace(parts, value=end), level) for end in (found.auc.low, found.auc.high)
        )
        return low[1], high[2]

    def _bins(self, values: Floats) -> Ints:
        """Bins ``(n,)`` from 0 to 2^21 - 1 that never fall as the score rises."""
        if self._declared == "logits":
            upper, size = values >= 0, np.abs(values)
            near = _magnitude_bins(size, "logits")
            return np.where(upper, _HALF + near, _HALF - 1 - near)
        upper = values >= 0.5
        near = _magnitude_bins(np.where(upper, 1 - values, values), "probabilities")  # 1 - x is exact from 0.5 up
        return np.where(upper, 2 * _HALF - 1 - near, near)

    def _check(self, values: NDArray[Any], positive: NDArray[Any]) -> None:
        if values.dtype.kind not in "fiu":
            raise InvalidInput(f"scores must be numbers; got {values.dtype}")
        if positive.dtype != np.bool_:
            _refuse((positive != 0) & (positive != 1), positive, "label", "is neither 0 nor 1")
        if not len(values):
            return
        low, high = float(np.min(values)), float(np.max(values))  # NaN passes through both
        if self._declared == "probabilities" and not (low >= 0 and high <= 1):
            inside = (values >= 0) & (values <= 1)
            _refuse(~inside, values, "score", "is not a probability in [0, 1]; declare logits if that is what it is")
        if not (np.isfinite(low) and np.isfinite(high)):
            _refuse(~np.isfinite(values), values, "score", "is not finite: its rank is undefined")


def _magnitude_bins(size: Floats, declared: Declared) -> Ints:
    """Bins ``(n,)`` from 0 to 2^20 - 1 of non-negative doubles, by exponent and leading mantissa bits."""
    bits = _MANTISSA_BITS[declared]
    bins = (size.view(np.int64) >> (52 - bits)) - (_LEAST_EXPONENT << bits)
    return np.clip(bins, 0, _HALF - 1, out=bins)


def _refuse(bad: NDArray[np.bool_], values: NDArray[Any], what: str, why: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        raise InvalidInput(f"{what} {values[first]!s} of example {first} {why}")


# --- bounds -----------------------------------------------------------------------------------------


def _auc(positives: Ints, negatives: Ints) -> Bounded:
    """From counts ``(m,)`` in ascending bins, in whole numbers: pairs of one bin are half won, all lost, all won."""
    below = np.cumsum(negatives) - negatives
    won, unknown = _inner(positives, below), _inner(positives, negatives)
    pairs = int(positives.sum()) * int(negatives.sum())
    return Bounded(value=(2 * won + unknown) / (2 * pairs), low=won / pairs, high=(won + unknown) / pairs)


def _parts(positives: Ints, negatives: Ints, area: float) -> AucParts:
    """DeLong's components from counts per bin, ascending in score."""
    p, n = int(positives.sum()), int(negatives.sum())
    on_positives = (np.cumsum(negatives) - negatives / 2) / n
    on_negatives = (p - np.cumsum(positives) + positives / 2) / p
    among = [
        float((counts * (placed - area) ** 2).sum() / max(int(counts.sum()) - 1, 1))
        for counts, placed in ((positives, on_positives), (negatives, on_negatives))
    ]
    return AucParts(value=area, positives=p, negatives=n, among_positives=among[0], among_negatives=among[1])


def _inner(one: Ints, other: Ints) -> int:
    """The exact inner product of counts, in two halves so that it holds for billions of either."""
    high = int((one * (other >> 31)).sum())
    return (high << 31) + int((one * (other & ((1 << 31) - 1))).sum())


def _average_precision(positives: Ints, negatives: Ints) -> Bounded:
    """From counts ``(m,)`` in descending bins.

    With t hits and f false alarms above a bin of p positives and n negatives, the precision at each of its positives
    is at most ``(t + p) / (t + p + f)`` (all tied, ahead of the negatives) and at the i-th at least ``(t + i) / (t + i
    + f + n)`` (all after the negatives). The latter is concave in i, so its sum is at least its integral from 1/2 to
    p + 1/2. The value takes the scores of a bin as tied.
    """
    p, n = positives.astype(np.float64), negatives.astype(np.float64)
    hits, alarms = np.cumsum(p), np.cumsum(n)
    total, before = hits[-1], hits - p
    held = p > 0
    p, n, hits, alarms, before = p[held], n[held], hits[held], alarms[held], before[held]
    tied = p * hits / (hits + alarms)
    best = p * hits / (hits + alarms - n)
    late = p - alarms * np.log1p(p / (before + 0.5 + alarms))
    worst = np.where(p == 1, tied, np.minimum(late, tied))
    value, low, high = (float(part.sum() / total) for part in (tied, worst, best))
    return Bounded(value=min(1.0, value), low=max(0.0, low - _ROUNDING), high=min(1.0, high + _ROUNDING))
