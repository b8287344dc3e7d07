"""Ranked scores: the area under the ROC curve and the average precision, exact, with intervals.

Scores are sorted once into a :class:`Ranked`, which depends on the examples but not on their order or batches. From it:

=========================  =========================================================================================
``auc``                    P(a positive scores above a negative), ties counted half; counted in whole numbers
``auc_interval``           a score interval whose variance is DeLong's, steadied where few positives are misranked
``clustered_auc_interval`` the same where examples share a source, such as a patient (Obuchowski 1997)
``paired_delong``          two models on the same examples
``average_precision``      the area under the stepwise precision-recall curve, and its bootstrap interval
=========================  =========================================================================================

Where there are no positives or no negatives the answer is None: the area is undefined. NaN and infinity are refused.

The interval of the AUC. The usual one (DeLong's variance on the logit scale) holds the truth 78 % of the time instead
of 95 % with 10 positives at an AUC of 0.99: the variance is estimated from the few positives that are misranked, and it
is low exactly when the estimate is high. So the score principle is used, as Wilson's interval does for a proportion:
``|A - a| <= t sqrt(V(a))`` is solved for ``a``. V has the shape of the binormal model with equal spreads, and its two
components (among positives, among negatives) are scaled by how DeLong's observed components compare with it; the more
misranked examples there are, the more the data's own scale counts, and the closer Student's t is to the normal.
Simulated with 10 to 5,000 positives, 1 to 50 % of all, and an AUC of 0.6 to 0.99, within the limits of `auc_supported`, the
interval holds the truth 93 to 96 % of the time for binormal scores of equal spreads, 93 to 97 % where spreads differ by
half and for scores of other shapes; outside them 90 to 100 %, most often too often. The draws' own error is half a point to a
whole one (``benchmarks/results/coverage.md``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri, owens_t, stdtr, stdtrit

from steelyard.errors import InvalidInput
from steelyard.stats.proportion import wilson
from steelyard.stats.quantiles import normal_critical, tail

__all__ = [
    "AucParts",
    "Counts",
    "PairedAuc",
    "PrecisionSize",
    "Ranked",
    "auc",
    "auc_interval",
    "auc_parts",
    "auc_supported",
    "average_precision",
    "average_precision_interval",
    "clustered_auc_interval",
    "counted_precision_size",
    "delong_variance",
    "distinct",
    "paired_delong",
    "placements",
    "precision_size",
    "ranked",
    "resampled_counts",
    "score_interval",
    "thinned",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Keys = NDArray[np.uint64]
Interval = tuple[float, float, float]  # value, low, high

_ONE = np.uint64(1)
_SIGN = np.uint64(1 << 63)
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
    values, positive = _scores(scores), _labels(labels)
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


def _scores(scores: ArrayLike) -> NDArray[np.floating]:
    """Scores as doubles, or in single precision where they are given so."""
    given = np.asarray(scores)
    if given.ndim != 1 or given.dtype.kind not in "fiu":
        raise InvalidInput(f"scores must be one row of numbers; got shape {given.shape} of {given.dtype}")
    return np.ascontiguousarray(given, dtype=np.float32 if given.dtype == np.float32 else np.float64)


def _labels(labels: ArrayLike) -> Bools:
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
    signs = (_SIGN, np.uint64(0))
    flips = (~np.uint64(0), np.uint64(0))
    scores = [
        (((keys ^ flip) >> _ONE) | sign).view(np.float64)
        for (keys, _, _), sign, flip in zip(parts, signs, flips, strict=True)
    ]
    return Counts(
        scores=np.concatenate(scores),
        positives=np.concatenate([part[1] for part in parts]),
        negatives=np.concatenate([part[2] for part in parts]),
    )


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
    for keys, flip, sign in (
        (examples.below, ~np.uint64(0), _SIGN),
        (examples.above, np.uint64(0), np.uint64(0)),
    ):
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


# --- its interval -----------------------------------------------------------------------------------

_PRIOR = 3.0  # misranked examples' worth of belief in the binormal shape's scale
_WORTH = 8.0  # degrees of freedom that one misranked example gives a component's scale
_LEAST_MISRANKED, _LEAST_EXAMPLES = 4, 10


def auc_interval(examples: Ranked, level: float = 0.95) -> Interval | None:
    """``(value, low, high)`` of the area by the score interval of the module's text; None where it is undefined.

    Within [0, 1] and never of zero width: with every pair in order, the upper end is 1 and the lower end is where the
    binormal shape's variance would still have allowed that.

    >>> tuple(round(end, 3) for end in auc_interval(ranked([0] * 50 + [1] * 10, range(60))))
    (1.0, 0.81, 1.0)
    """
    parts = auc_parts(examples)
    return None if parts is None else score_interval(parts, level)


def score_interval(parts: AucParts, level: float = 0.95) -> Interval:
    """The interval from an area and its components; `positives` and `negatives` may be effective numbers."""
    shape, a = _shape(parts), parts.value
    critical = _student(level, shape.degrees)
    return a, _end(a, 0.0, critical, shape), _end(a, 1.0, critical, shape)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The variance of the area as a function of its true value, and Welch-Satterthwaite degrees of freedom."""

    positives: float
    negatives: float
    scales: tuple[float, float]
    degrees: float

    def variance(self, area: float) -> float:
        among_positives, among_negatives = _components(area, self.positives, self.negatives)
        return among_positives * self.scales[0] / self.positives + among_negatives * self.scales[1] / self.negatives


def _shape(parts: AucParts) -> _Shape:
    """The shape, scaled to the observed components.

    A scale is observed over modelled, weighed by `_WORTH` for each example that is expected to be misranked (at most
    the component's degrees of freedom), and 1 weighed by `_PRIOR`. Where nothing varies (all pairs in order, or all
    scores equal) the model's own scale stands.
    """
    p, n = parts.positives, parts.negatives
    inside = (parts.value * p * n + 0.5) / (p * n + 1)  # so that a perfect order, too, has a modelled variance
    modelled = _components(inside, p, n)
    observed = (parts.among_positives, parts.among_negatives) if parts.variance > 0 else modelled
    weights = [max(0.0, min(size - 1, _WORTH * size * min(inside, 1 - inside))) for size in (p, n)]
    pairs = list(zip(weights, observed, modelled, strict=True))
    scales = [(weight * seen / model + _PRIOR) / (weight + _PRIOR) for weight, seen, model in pairs]
    shares = [scale * model / size for scale, model, size in zip(scales, modelled, (p, n), strict=True)]
    spread = sum(share * share / (weight + _PRIOR) for share, weight in zip(shares, weights, strict=True))
    return _Shape(p, n, (scales[0], scales[1]), sum(shares) ** 2 / spread)


def _components(area: float, p: float, n: float) -> tuple[float, float]:
    """Expected sample variances of the placements for binormal scores with equal spreads, whose true area is `area`.

    With x the normal quantile of the area, two pairs that share one example covary by
    ``area (1 - area) - 2 T(x, 1 / sqrt 3)``, T being Owen's function: a bivariate normal with correlation 1/2 (Owen
    1956). A placement among finitely many examples varies more, by the rest of the pair's own variance.
    """
    rarer = min(area, 1 - area)
    if rarer <= 0:
        return 0.0, 0.0
    pair = rarer * (1 - rarer)
    shared = max(0.0, pair - 2 * float(owens_t(float(ndtri(rarer)), 1 / math.sqrt(3))))
    rest = max(0.0, pair - 2 * shared)
    return shared + rest / n, shared + rest / p


def _end(value: float, outside: float, critical: float, shape: _Shape) -> float:
    """Where the distance from `value` towards `outside` passes `critical` standard errors, by bisection."""
    inside = value
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        if abs(middle - value) <= critical * math.sqrt(shape.variance(middle)):
            inside = middle
        else:
            outside = middle
    return outside


_BISECTIONS = 60  # 2 / 2**60 is below the spacing of doubles near 1


def auc_supported(positives: int, negatives: int, area: float) -> bool:
    """Whether the area's intervals were shown to hold as often as they say at such numbers of examples.

    At least 10 examples of each class, and at least 4 of the smaller class expected on the wrong side
    (``min(P, N) min(A, 1 - A)``). Elsewhere the tool says "too few".

    >>> auc_supported(100, 900, 0.95), auc_supported(20, 1980, 0.95)
    (True, False)
    """
    smaller = min(positives, negatives)
    return smaller >= _LEAST_EXAMPLES and smaller * min(area, 1 - area) >= _LEAST_MISRANKED - 1e-9


# --- per example: clusters and pairs ----------------------------------------------------------------


def placements(positive: Bools, scores: Floats) -> Floats:
    """Each example's placement ``(n,)``: the share of the other class that it is on the right side of."""
    found = np.empty(len(scores))
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    found[positive] = _share_under(below, scores[positive])
    found[~positive] = 1 - _share_under(above, scores[~positive])
    return found


def _share_under(ordered: Floats, values: Floats) -> Floats:
    under = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    return np.asarray(under / (2 * len(ordered)))


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats]:
    ranked(labels, scores)  # refuses what has no rank
    return _labels(labels), np.asarray(_scores(scores), dtype=np.float64)


def clustered_auc_interval(
    labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike, level: float = 0.95
) -> Interval | None:
    """``(value, low, high)`` where examples come in `clusters` ``(n,)`` (any hashable ids), such as a patient's images.

    The variance is Obuchowski's (1997, Biometrics 53, 567-578); its ratio to DeLong's divides the numbers of examples
    in the interval of :func:`auc_interval`. None without positives or negatives, or with a single cluster.
    """
    positive, values = _checked(labels, scores)
    ids = _cluster_ids(clusters, len(values))
    parts = auc_parts(ranked(positive, values))
    if parts is None or int(ids.max()) == 0:
        return None
    effect = _design_effect(parts, positive, values, ids)
    effective = AucParts(
        value=parts.value,
        positives=parts.positives / effect,
        negatives=parts.negatives / effect,
        among_positives=parts.among_positives,
        among_negatives=parts.among_negatives,
    )
    return score_interval(effective, level)


def _design_effect(parts: AucParts, positive: Bools, values: Floats, ids: Ints) -> float:
    """The clustered variance over the unclustered one; where nothing varies, the examples of a class per cluster."""
    if parts.variance > 0:
        centred = placements(positive, values) - parts.value
        found = _clustered_variance(centred, positive, ids) / parts.variance
        if found > 0:
            return found
    return max(len(np.atleast_1d(ids[which])) / len(np.unique(ids[which])) for which in (positive, ~positive))


def _cluster_ids(clusters: ArrayLike, examples: int) -> Ints:
    given = np.asarray(clusters)
    if given.shape != (examples,):
        raise InvalidInput(f"clusters must be one id per example, {examples} of them; got shape {given.shape}")
    return np.asarray(np.unique(given, return_inverse=True)[1], dtype=np.int64)


def _clustered_variance(centred: Floats, positive: Bools, ids: Ints) -> float:
    """Obuchowski's variance from centred placements ``(n,)``: clusters' sums, and how both classes' sums covary.

    With one example in each cluster it is DeLong's.
    """
    size = int(ids.max()) + 1
    sums, factors = [], []
    for which in (positive, ~positive):
        sums.append(np.bincount(ids[which], centred[which], minlength=size) / which.sum())
        held = len(np.unique(ids[which]))
        factors.append(held / (held - 1) if held > 1 else 1.0)
    own = sum(factor * float((total**2).sum()) for factor, total in zip(factors, sums, strict=True))
    return max(0.0, own + 2 * size / (size - 1) * float((sums[0] * sums[1]).sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedAuc:
    """The difference of two areas on the same examples, ``first - second``, its interval and two-sided p."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    error: float  # the standard error of the difference
    worth: float  # changed examples (or clusters) that it rests on
    trials: float  # examples that a difference without change stands on

    def interval(self, level: float) -> tuple[float, float]:
        """Both ends at another level, without the scores being ranked again."""
        half, _ = _two_sided(self.difference, self.error, self.worth, self.trials, level)
        return max(-1.0, self.difference - half), min(1.0, self.difference + half)


_FEW = 4.0  # changed examples' worth below which the changes seen say little about those unseen


def paired_delong(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    level: float = 0.95,
    *,
    clusters: ArrayLike | None = None,
) -> PairedAuc | None:
    """Two models' scores ``(n,)`` on the same examples: DeLong's paired variance in O(n log n), by differences.

    The quantile is Student's with as many degrees of freedom as the changes are worth, ``(sum c^2)^2 / sum c^4`` over
    the examples' (or clusters') contributions c to the difference. Where that is under 4 the half-width is at least
    ``z^2 / (m + z^2)`` with ``m = P N / (P + N)``: examples unlike those seen may still differ, also where nothing
    changed. None where the areas are undefined.

    >>> same = paired_delong([0, 1] * 50, range(100), range(100))
    >>> round(same.low, 3), round(same.high, 3), same.p_value
    (-0.133, 0.133, 1.0)
    """
    positive, one = _checked(labels, first)
    _, other = _checked(labels, second)
    if positive.all() or not positive.any():
        return None
    a, b = (auc(ranked(positive, scores)) for scores in (one, other))
    assert a is not None
    assert b is not None
    ids = np.arange(len(positive)) if clusters is None else _cluster_ids(clusters, len(positive))
    centred = placements(positive, one) - placements(positive, other) - (a - b)
    error, worth = _error(centred, positive, ids)
    m = float(positive.sum() * (~positive).sum() / len(positive)) * (int(ids.max()) + 1) / len(ids)
    half, p_value = _two_sided(a - b, error, worth, m, level)
    return PairedAuc(
        first=a,
        second=b,
        difference=a - b,
        low=max(-1.0, a - b - half),
        high=min(1.0, a - b + half),
        p_value=p_value,
        error=error,
        worth=worth,
        trials=m,
    )


def _error(centred: Floats, positive: Bools, ids: Ints) -> tuple[float, float]:
    """The standard error of the difference and how many changed examples (or clusters) it rests on."""
    size = int(ids.max()) + 1
    if size < 2 or np.abs(centred).max() < 1e-12:
        return 0.0, 0.0
    shares = np.where(positive, centred / positive.sum(), centred / (~positive).sum())
    squares = np.bincount(ids, shares, minlength=size) ** 2
    variance = _clustered_variance(centred, positive, ids)
    return math.sqrt(variance), float(squares.sum() ** 2 / (squares**2).sum())


def _two_sided(difference: float, error: float, worth: float, m: float, level: float) -> tuple[float, float]:
    half, p_value = 0.0, 0.0
    if error > 0:
        half = _student(level, worth) * error
        p_value = float(2 * stdtr(max(1.0, worth), -abs(difference) / error))
    if worth < _FEW:
        z2 = normal_critical(level) ** 2
        half = max(half, z2 / (m + z2))
        spare = 1 - abs(difference)
        p_value = max(p_value, float(2 * ndtr(-math.sqrt(m * abs(difference) / spare))) if spare > 0 else 0.0)
    return half, p_value


def _student(level: float, degrees: float) -> float:
    return float(-stdtrit(max(1.0, degrees), tail(level)))


# --- the area under the precision-recall curve ------------------------------------------------------

_HIGHEST_LEVEL = 1 - 1e-12  # Student's quantile with one degree of freedom is beyond it at high levels
_RISES = 2.0  # bias over what resamples show of it: in simulations 1.7 on average, 2.3 where there is most of it
_BINS = 1024  # thresholds kept for resampling; the estimate itself uses all
_WHOLE = 1 << 20  # examples above which those thresholds are chosen among some, not among all distinct scores


def average_precision(examples: Ranked) -> float | None:
    """Precision averaged over the positives, ``sum (R_i - R_(i-1)) P_i`` from the highest threshold down; exact.

    The step-wise area that scikit-learn gives; None without positives or without negatives.

    >>> round(average_precision(ranked([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])), 4)
    0.8333
    """
    if not examples.positives or not examples.negatives:
        return None
    sums, below, hits = [], 0, examples.positives
    for positives, negatives in _in_chunks(examples):
        left = hits - np.cumsum(positives) + positives  # positives at or above each score
        picked = len(examples) - below - np.cumsum(positives + negatives) + positives + negatives
        sums.append(float((positives * (left / picked)).sum()))
        below, hits = below + int(positives.sum() + negatives.sum()), hits - int(positives.sum())
    return math.fsum(sums) / examples.positives


def _in_chunks(examples: Ranked) -> Iterator[tuple[Ints, Ints]]:
    """Positives and negatives at each distinct score, ascending, in chunks that stay in the cache and split no tie."""
    for keys in (examples.below, examples.above):
        start = 0
        while start < len(keys):
            last = keys[min(start + _CHUNK, len(keys)) - 1]
            stop = int(np.searchsorted(keys, last | _ONE, side="right"))
            yield _counted(keys[start:stop])[1:]
            start = stop


def _average_precisions(positives: NDArray[np.number], negatives: NDArray[np.number]) -> Floats:
    """Average precisions ``(B,)`` from counts ``(m, B)`` at thresholds from the highest down."""
    hits = np.cumsum(positives, axis=0)
    picked = hits + np.cumsum(negatives, axis=0)
    precision = np.divide(hits, picked, out=np.zeros(hits.shape), where=picked > 0)
    return np.asarray((positives * precision).sum(axis=0) / np.maximum(hits[-1], 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionSize:
    """An average precision with the effective number of examples that its interval stands on, at any level."""

    value: float
    size: float
    trials: float  # positives, or clusters that hold them: one more than the degrees of freedom
    bias: float  # how far the value is thought to lie above the population's; 0 or more

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's interval with Student's quantile; the lower end is that of the value less its bias."""
        as_normal = 1 - 2 * float(ndtr(-_student(level, self.trials - 1)))  # its normal quantile is Student's
        shares = max(0.0, self.value - self.bias), min(1.0, self.value)
        ends = [wilson(share * self.size, self.size, min(as_normal, _HIGHEST_LEVEL)) for share in shares]
        return ends[0][0], ends[1][1]


def average_precision_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    level: float = 0.95,
    *,
    clusters: ArrayLike | None = None,
    stratified: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """``(value, low, high)`` of the average precision by :func:`precision_size`; None where it is undefined."""
    found = precision_size(labels, scores, clusters=clusters, stratified=stratified, resamples=resamples, seed=seed)
    return None if found is None else (found.value, *found.interval(level))


def precision_size(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    stratified: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> PrecisionSize | None:
    """The average precision and what its interval stands on; None where it is undefined.

    Examples (or whole `clusters`) are resampled as multinomial weights on the sorted scores; `stratified` keeps the
    numbers of positives and negatives. The variance v of the resampled values gives an effective number
    ``a (1 - a) / v`` of examples for Wilson's interval around the exact value a, with Student's quantile at one degree
    of freedom fewer than positives (or clusters that hold them); where nothing varies it is their number. A sample's
    average precision lies above the population's on average, the more so the weaker the scores and the fewer the
    positives. Resamples, in which copies of an example tie, show about half of that, so the lower end is moved down by
    twice what they show. The value uses every threshold; the resamples at most 1,024, cut so that each holds the same
    share of both classes: only variance and bias are approximate, and with no more than 1,024 distinct scores not even
    they. Depends on the examples and `seed`, not on the examples' order.
    """
    examples = ranked(labels, scores)
    value = average_precision(examples)
    if value is None:
        return None
    if clusters is None:
        return counted_precision_size(_for_resampling(examples), value, resamples, seed, stratified=stratified)
    counts = distinct(examples)
    positive, ids = _labels(labels), _cluster_ids(clusters, len(examples))
    at = _bins(counts)[np.searchsorted(counts.scores, _scores(scores))]
    draws = _resampled_clusters(np.random.default_rng(seed), at, positive, ids, resamples)
    trials = float(min(examples.positives, len(np.unique(ids[positive]))))
    return _size_of(value, draws, float(draws.mean()) - _binned_precision(counts), trials, len(examples))


def counted_precision_size(
    counts: Counts, value: float, resamples: int = 1000, seed: int = 0, *, stratified: bool = False
) -> PrecisionSize:
    """:func:`precision_size` of an average precision `value` from counts at distinct scores, or in bins of them."""
    draws = _average_precisions(*resampled(counts, resamples, seed, stratified=stratified))
    positives, negatives = int(counts.positives.sum()), int(counts.negatives.sum())
    rise = float(draws.mean()) - _binned_precision(counts)
    return _size_of(value, draws, rise, float(positives), positives + negatives)


def _size_of(value: float, draws: Floats, rise: float, trials: float, examples: int) -> PrecisionSize:
    """`rise` is how far the resamples' mean lies above what was resampled."""
    variance = float(draws.var())
    size = trials if variance == 0 or value in (0.0, 1.0) else min(examples, value * (1 - value) / variance)
    bias = max(0.0, _RISES * rise) if variance > 0 else 0.0
    return PrecisionSize(value=value, size=size, trials=trials, bias=bias)


def _binned_precision(counts: Counts) -> float:
    """The average precision at the thresholds of the resamples."""
    return float(_average_precisions(*(cells[:, None] for cells in _binned(counts)))[0])


def resampled_counts(
    examples: Ranked, resamples: int = 1000, seed: int = 0, *, stratified: bool = False
) -> tuple[Ints, Ints]:
    """Positives and negatives ``(m, B)`` at m <= 1,024 thresholds from the highest down, in `resamples` resamples B.

    Multinomial; `stratified` keeps the numbers of both classes. Each distinct score is a threshold where they are few
    enough, otherwise neighbours are joined so that each holds about the same share of both classes.
    """
    return resampled(_for_resampling(examples), resamples, seed, stratified=stratified)


def _for_resampling(examples: Ranked) -> Counts:
    """What the resamples' thresholds are chosen from."""
    return distinct(examples) if len(examples) <= _WHOLE else thinned(examples)


def resampled(counts: Counts, resamples: int = 1000, seed: int = 0, *, stratified: bool = False) -> tuple[Ints, Ints]:
    """:func:`resampled_counts` from counts at distinct scores, or in bins of them."""
    table, rng = _binned(counts), np.random.default_rng(seed)
    groups = table if stratified else (np.concatenate(table),)
    drawn = [rng.multinomial(int(cells.sum()), cells / cells.sum(), size=resamples).T for cells in groups]
    positives, negatives = np.split(np.concatenate(drawn), [len(table[0])])
    return positives, negatives


def _binned(counts: Counts) -> tuple[Floats, Floats]:
    """Positives and negatives ``(m,)`` at the thresholds of the resamples, from the highest down."""
    bins = _bins(counts)
    positives, negatives = (
        np.asarray(np.bincount(bins, which), dtype=np.float64) for which in (counts.positives, counts.negatives)
    )
    return positives, negatives


def _bins(counts: Counts) -> Ints:
    """The bin ``(m,)`` of each distinct score, from the highest score down; one each where they are few enough."""
    if len(counts.scores) <= _BINS:
        return np.arange(len(counts.scores))[::-1].copy()
    share = counts.positives / counts.positives.sum() + counts.negatives / counts.negatives.sum()
    above = np.cumsum(share[::-1])[::-1] - share  # of both classes, in [0, 2)
    return np.asarray(np.clip(above * (_BINS / 2), 0, _BINS - 1), dtype=np.int64)


_WEIGHTS_AT_ONCE = 4_000_000


def _resampled_clusters(rng: np.random.Generator, at: Ints, positive: Bools, ids: Ints, resamples: int) -> Floats:
    """Whole clusters drawn with replacement: one weight a cluster, summed over each bin by a sparse product."""
    size, bins = int(ids.max()) + 1, int(at.max()) + 1
    ones = np.ones(len(at))
    tables = [csr_array((ones[which], (at[which], ids[which])), shape=(bins, size)) for which in (positive, ~positive)]
    values = []
    most = max(1, _WEIGHTS_AT_ONCE // max(size, bins))
    for start in range(0, resamples, most):
        weights = rng.multinomial(size, np.full(size, 1 / size), size=min(most, resamples - start)).T.astype(np.float64)
        values.append(_average_precisions(*(np.asarray(table @ weights) for table in tables)))
    return np.concatenate(values)
