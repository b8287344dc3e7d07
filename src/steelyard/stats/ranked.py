"""Labelled scores sorted once, and what is counted in that form: distinct scores, placements' sums, the area.

The sorted form depends on the examples but not on their order or batches, and neither does any number made of it. The
area under the ROC curve and the average precision (`stats.auc`, `stats.average_precision`) and all curves come from it.
NaN and infinity are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput

__all__ = [
    "AucParts",
    "Counts",
    "Ranked",
    "as_labels",
    "as_scores",
    "auc",
    "auc_parts",
    "cluster_ids",
    "delong_variance",
    "distinct",
    "in_chunks",
    "ranked",
    "scores_of",
    "thinned",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Keys = NDArray[np.uint64]

_ONE = np.uint64(1)
_SIGN = np.uint64(1 << 63)
_SIGNS, _FLIPS = (
    (_SIGN, np.uint64(0)),
    (~np.uint64(0), np.uint64(0)),
)  # that make keys scores: of those below zero, above
_INFINITE: dict[np.dtype[np.unsignedinteger], np.unsignedinteger] = {  # keys of infinity and NaN start here
    np.dtype(np.uint64): np.uint64(0x7FF0_0000_0000_0000 << 1),
    np.dtype(np.uint32): np.uint32(0x7F80_0000 << 1),
}
_CHUNK = 1 << 15  # keys counted at once: a few such arrays stay in the second-level cache


# --- the sorted form --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """Labelled scores in sorted order, eight bytes an example: score and label packed into one whole number.

    A double's bits, without the sign, order non-negative doubles as whole numbers do; shifted left by one they leave
    the lowest bit for the label (1 is positive). Negative scores are kept apart with their bits inverted. Both arrays
    ascend in score; among equal scores negatives come first.
    """

    below: Keys  # of scores under zero
    above: Keys  # of scores from zero up; -0.0 counts as 0.0
    positives: int
    negatives: int

    def __len__(self) -> int:
        return self.positives + self.negatives

    @cached_property
    def parts(self) -> AucParts | None:
        """:func:`auc_parts`, which several answers need, found once."""
        return _auc_parts(self)

    @cached_property
    def some(self) -> Counts:
        """:func:`thinned` to the default number, which every curve and band of very many examples needs, found once."""
        return _thinned(self, _SOME)

    def merge(self, *others: Ranked) -> Ranked:
        """All examples together; the same arrays whatever the order or the number of parts."""
        parts = (self, *others)
        return Ranked(
            below=np.sort(np.concatenate([part.below for part in parts])),
            above=np.sort(np.concatenate([part.above for part in parts])),
            positives=sum(part.positives for part in parts),
            negatives=sum(part.negatives for part in parts),
        )


def ranked(labels: ArrayLike, scores: ArrayLike) -> Ranked:
    """Sort `scores` ``(n,)`` with their `labels` ``(n,)`` (bool, or 0 and 1): any finite floats, higher is more positive.

    Raises `InvalidInput`, naming the first bad example, for NaN, infinity or a label that is neither 0 nor 1.

    >>> len(ranked([0, 1, 1], [0.1, 0.4, 0.35]))
    3
    """
    values, positive = as_scores(scores), as_labels(labels)
    if len(values) != len(positive):
        raise InvalidInput(f"{len(positive)} labels but {len(values)} scores: pass one score per example")
    keys, under = _packed(values, positive)
    below, above = keys[:under], keys[under:]
    below.sort()
    above.sort()
    infinite = _INFINITE[keys.dtype]
    if (len(above) and above[-1] >= infinite) or (len(below) and below[0] <= ~infinite):
        first = int(np.argmin(np.isfinite(values)))
        raise InvalidInput(
            f"score {values[first]} of example {first} is not finite: its rank is undefined; mend or drop it"
        )
    count = int(np.count_nonzero(positive))
    return Ranked(
        below=_widened(below, inverted=True),
        above=_widened(above, inverted=False),
        positives=count,
        negatives=len(values) - count,
    )


def _packed(values: NDArray[np.floating], positive: Bools) -> tuple[NDArray[np.unsignedinteger], int]:
    """Unsorted keys ``(n,)`` of the scores' own width, those of scores under zero first, and how many these are.

    Made in chunks that stay in the cache, without a second array of the same size.
    """
    bits: NDArray[Any] = values.view(np.uint32 if values.dtype == np.float32 else np.uint64)
    keys, one = np.empty_like(bits), bits.dtype.type(1)
    mixed = len(values) > 0 and bool(values.min() < 0)
    low, high = 0, len(keys)
    for start in range(0, len(keys), _CHUNK):
        part = slice(start, start + _CHUNK)
        if not mixed:
            np.left_shift(bits[part], one, out=keys[part])
            keys[part] |= positive[part].view(np.uint8)
            continue
        chunk = (bits[part] << one) | positive[part].view(np.uint8)
        negative = values[part] < 0
        lower, upper = ~(chunk[negative] ^ one), chunk[~negative]
        keys[low : low + len(lower)] = lower
        keys[high - len(upper) : high] = upper
        low, high = low + len(lower), high - len(upper)
    return keys, low


def _widened(keys: NDArray[np.unsignedinteger], *, inverted: bool) -> Keys:
    """Sorted keys of 32 bits as those of the same scores as doubles: half the width is sorted in half the time."""
    if keys.dtype == np.uint64:
        return np.asarray(keys, dtype=np.uint64)
    found, one = np.empty(len(keys), dtype=np.uint64), np.uint32(1)
    for start in range(0, len(keys), _CHUNK):
        part = slice(start, start + _CHUNK)
        narrow = ~keys[part] ^ one if inverted else keys[part]
        wide = ((narrow >> one).view(np.float32).astype(np.float64).view(np.uint64) << _ONE) | (narrow & one)
        found[part] = ~(wide ^ _ONE) if inverted else wide
    return found


def as_scores(scores: ArrayLike) -> NDArray[np.floating]:
    """Scores as doubles, or in single precision where they are given so."""
    given = np.asarray(scores)
    if given.ndim != 1 or given.dtype.kind not in "fiu":
        raise InvalidInput(f"scores must be one row of numbers; got shape {given.shape} of {given.dtype}")
    return np.ascontiguousarray(given, dtype=np.float32 if given.dtype == np.float32 else np.float64)


def as_labels(labels: ArrayLike) -> Bools:
    """Labels as bools; raises `InvalidInput`, naming the example, for what is neither 0 nor 1."""
    given = np.asarray(labels)
    if given.ndim != 1:
        raise InvalidInput(f"labels must be one row of 0 and 1; got shape {given.shape}")
    if given.dtype == np.bool_:
        return np.ascontiguousarray(given)
    positive = np.asarray(given == 1)
    if np.count_nonzero(positive) + np.count_nonzero(given == 0) < len(given):
        first = int(np.flatnonzero((given != 0) & ~positive)[0])
        raise InvalidInput(f"label {given[first]!s} of example {first} is neither 0 nor 1")
    return positive


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Examples at each distinct score, ascending; three arrays of one length ``(m,)``."""

    scores: Floats
    positives: Ints
    negatives: Ints


def distinct(examples: Ranked) -> Counts:
    """The distinct scores of `examples` with the positives and negatives at each.

    >>> counts = distinct(ranked([0, 1, 1], [-0.5, 2.0, -0.5]))
    >>> counts.scores.tolist(), counts.positives.tolist(), counts.negatives.tolist()
    ([-0.5, 2.0], [1, 1], [1, 0])
    """
    parts = [_counted(keys) for keys in (examples.below, examples.above)]
    scores = [
        (((keys ^ flip) >> _ONE) | sign).view(np.float64)
        for (keys, _, _), sign, flip in zip(parts, _SIGNS, _FLIPS, strict=True)
    ]
    return Counts(
        scores=np.concatenate(scores),
        positives=np.concatenate([part[1] for part in parts]),
        negatives=np.concatenate([part[2] for part in parts]),
    )


def scores_of(examples: Ranked, ranks: ArrayLike, *, positive: bool) -> Floats:
    """The scores at `ranks` ``(m,)``, from 0 in ascending order, among the examples of one class.

    >>> scores_of(ranked([0, 1, 0, 1], [0.4, 0.1, -0.2, 0.9]), [0, 1], positive=False).tolist()
    [-0.2, 0.4]
    """
    wanted, found, before = np.asarray(ranks, dtype=np.int64), np.empty(np.shape(ranks)), 0
    for keys, sign, flip in zip((examples.below, examples.above), _SIGNS, _FLIPS, strict=True):
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            own = np.flatnonzero(_label_bits(chunk) == positive)
            here = (wanted >= before) & (wanted < before + len(own))
            if here.any():
                found[here] = (((chunk[own[wanted[here] - before]] ^ flip) >> _ONE) | sign).view(np.float64)
            before += len(own)
    return found


def _counted(keys: Keys) -> tuple[Keys, Ints, Ints]:
    ends = np.append(np.flatnonzero((keys[1:] ^ keys[:-1]) > _ONE), len(keys) - 1)[: len(keys)]
    return _up_to(keys, ends)


def _up_to(keys: Keys, ends: Ints) -> tuple[Keys, Ints, Ints]:
    """The keys at the `ends` of runs, and the positives and negatives of each run."""
    starts, bits = np.concatenate([[0], ends[:-1] + 1])[: len(ends)], _label_bits(keys)
    if 2 * len(ends) > len(keys):  # short runs: the one sum that does not start again at each
        positives = np.diff(np.cumsum(bits, dtype=np.int64)[ends], prepend=0)
    else:
        positives = np.add.reduceat(bits, starts, dtype=np.int64) if len(ends) else np.empty(0, dtype=np.int64)
    return keys[ends], positives, ends - starts + 1 - positives


def _label_bits(keys: Keys) -> NDArray[np.uint8]:
    return keys.view(np.uint8)[_LOWEST::8] & np.uint8(1)


_LOWEST = 0 if np.little_endian else 7  # where a key's lowest byte, with the label, stands


_SOME = 8192


def thinned(examples: Ranked, most: int = _SOME) -> Counts:
    """About `most` to ``3 most`` distinct scores in place of all, each with the examples from it up to the next one kept.

    For curves of very many examples. Counts at and above the kept scores are exact. Between two of them lie at most
    ``1 / most`` of the examples and of the positives (ties apart), and at most 1 / 512 of the examples above: precision,
    too, moves little between them, also where few examples are called positive.

    >>> thinned(ranked([0, 1, 1], [0.1, 0.4, 0.4])).scores.tolist()
    [0.1, 0.4]
    """
    return examples.some if most == _SOME else _thinned(examples, most)


def _thinned(examples: Ranked, most: int) -> Counts:
    found = []
    for keys, flip, sign in zip((examples.below, examples.above), _FLIPS, _SIGNS, strict=True):
        over = len(examples.above) if flip else 0
        starts = _kept_starts(keys, over, len(examples), examples.positives, most)
        ends = np.append(starts[1:], len(keys))[: len(starts)] - 1
        _, positives, negatives = _up_to(keys, ends)
        found.append(((((keys[starts] ^ flip) >> _ONE) | sign).view(np.float64), positives, negatives))
    scores, positives, negatives = (np.concatenate(column) for column in zip(*found, strict=True))
    return Counts(scores=scores, positives=positives, negatives=negatives)


def _kept_starts(keys: Keys, over: int, examples: int, positives: int, most: int) -> Ints:
    """Where kept runs of equal scores start in ascending `keys`, above which `over` more stand in another array."""
    if not len(keys):
        return np.empty(0, dtype=np.int64)
    ranks = np.unique(np.concatenate([_geometric(examples), np.linspace(1, examples, most).astype(np.int64)]))
    picked = len(keys) + over - ranks
    hits = np.flatnonzero(_label_bits(keys))[:: max(1, positives // most)]
    at = np.unique(np.concatenate([[0], picked[(picked >= 0) & (picked < len(keys))], hits]))
    return np.unique(np.searchsorted(keys, keys[at] & ~_ONE))


def _geometric(most: int, share: int = 512) -> Ints:
    """Whole numbers from 1 to `most`, each at most about a 512th above the one before."""
    steps = int(math.log(max(most / share, 1)) * share) + 1
    above = share * np.exp(np.arange(steps) / share)
    return np.concatenate([np.arange(1, min(share, most) + 1), above.astype(np.int64)])


def in_chunks(examples: Ranked) -> Iterator[tuple[Ints, Ints]]:
    """Positives and negatives at each distinct score, ascending, in chunks that stay in the cache and split no tie."""
    for keys in (examples.below, examples.above):
        start = 0
        while start < len(keys):
            last = keys[min(start + _CHUNK, len(keys)) - 1]
            stop = int(np.searchsorted(keys, last | _ONE, side="right"))
            yield _counted(keys[start:stop])[1:]
            start = stop


def cluster_ids(clusters: ArrayLike, examples: int) -> Ints:
    """Whole numbers ``(n,)`` from 0 on for ids of any hashable kind."""
    given = np.asarray(clusters)
    if given.shape != (examples,):
        raise InvalidInput(f"clusters must be one id per example, {examples} of them; got shape {given.shape}")
    return np.asarray(np.unique(given, return_inverse=True)[1], dtype=np.int64)


# --- the area under the ROC curve -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AucParts:
    """The area and what its variance is made of (DeLong, DeLong and Clarke-Pearson 1988).

    An example's placement is the share of the other class that it is ranked on the right side of, ties counted half.
    """

    value: float
    positives: float
    negatives: float
    among_positives: float  # sample variance of the positives' placements; 0 where there is one positive
    among_negatives: float

    @property
    def variance(self) -> float:
        """DeLong's variance of the area."""
        return self.among_positives / self.positives + self.among_negatives / self.negatives


def auc(examples: Ranked) -> float | None:
    """The area under the ROC curve, ties counted half; None without positives or negatives.

    The wrong pairs are counted in whole numbers, so the order of the examples cannot change a digit.

    >>> auc(ranked([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    parts = auc_parts(examples)
    return None if parts is None else parts.value


def delong_variance(examples: Ranked) -> float | None:
    """DeLong's variance of the area; None with fewer than two positives or two negatives.

    >>> delong_variance(ranked([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.125
    """
    parts = auc_parts(examples)
    return None if parts is None or min(examples.positives, examples.negatives) < 2 else parts.variance


def auc_parts(examples: Ranked) -> AucParts | None:
    """The area and its variance's components in one pass over the sorted keys, O(n); None where it is undefined."""
    return examples.parts


def _auc_parts(examples: Ranked) -> AucParts | None:
    """Only the positives' positions are needed. With ``D_j`` negatives above the j-th positive (from 0, ascending), the
    squared numbers of positives below the negatives sum to ``sum (2 j + 1) D_j``: no mid-ranks are made (Sun and Xu
    2014 make them). Tied groups with both labels are then put right, one by one.
    """
    p, n = examples.positives, examples.negatives
    if not p or not n:
        return None
    lost, squares, weighted, ties = _sums(examples)
    doubled = 2 * lost + ties.pairs  # twice the wrong pairs
    loss = doubled / (2 * p * n)
    on_positives = (squares + ties.on_positives / 4) / n**2
    on_negatives = (weighted + ties.on_negatives / 4) / p**2
    return AucParts(
        value=(2 * p * n - doubled) / (2 * p * n),
        positives=p,
        negatives=n,
        among_positives=_spread(on_positives, loss, p),
        among_negatives=_spread(on_negatives, loss, n),
    )


def _spread(squares: float, mean: float, n: int) -> float:
    """Sample variance from a sum of squares; never below zero by rounding."""
    return max(0.0, (squares - n * mean * mean) / (n - 1)) if n > 1 else 0.0


@dataclass(slots=True)
class _Ties:
    """Sums over groups of equal scores that hold both labels, and what they add to the doubled sums."""

    pairs: int = 0
    on_positives: float = 0.0
    on_negatives: float = 0.0


def _sums(examples: Ranked) -> tuple[int, float, float, _Ties]:
    """Sums of ``D_j``, ``D_j^2`` and ``(2 j + 1) D_j`` over the positives, with tied negatives counted as below."""
    lost, squares, weighted, ties = 0, 0.0, 0.0, _Ties()
    seen = 0  # positives so far
    for offset, keys in ((0, examples.below), (len(examples.below), examples.above)):
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            at = np.flatnonzero(_label_bits(chunk).view(np.bool_))
            rank = np.arange(seen, seen + len(at))
            missed = rank - at
            missed += examples.negatives - offset - start
            lost += int(missed.sum())
            as_float = missed.astype(np.float64)
            squares += float(np.einsum("i,i->", as_float, as_float))
            weighted += float(2 * np.einsum("i,i->", as_float, rank.astype(np.float64)) + as_float.sum())
            edges = _mixed(keys, start)
            if len(edges):
                before = seen + np.searchsorted(at, edges - start)
                _add_ties(ties, keys, edges, before, offset, examples.negatives)
            seen += len(at)
    return lost, squares, weighted, ties


def _mixed(keys: Keys, start: int) -> NDArray[np.intp]:
    """Positions in this chunk whose key is the positive twin of the key before: there a tied group changes label."""
    begin = max(start, 1)
    now = keys[begin : start + _CHUNK]
    return np.flatnonzero((now ^ keys[begin - 1 : begin - 1 + len(now)]) == _ONE) + begin


def _add_ties(ties: _Ties, keys: Keys, edges: NDArray[np.intp], before: Ints, offset: int, negatives: int) -> None:
    """Each positive of a group gains half its tied negatives as lost, and each negative half its tied positives.

    `edges` are positions of the groups' first positives, `before` the positives before them.
    """
    twins = keys[edges]
    low = int(np.searchsorted(keys, twins[0] - _ONE))
    window = keys[low : int(np.searchsorted(keys, twins[-1], side="right"))]
    n = (edges - low - np.searchsorted(window, twins - _ONE)).astype(np.float64)
    p = (np.searchsorted(window, twins, side="right") + low - edges).astype(np.float64)
    above = negatives - (offset + edges - before).astype(np.float64)
    ties.pairs += int((p * n).sum())
    ties.on_positives += float((p * n * (4 * above + n)).sum())
    ties.on_negatives += float((n * p * (4 * before + p)).sum())
