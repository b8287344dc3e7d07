"""Retrieval metrics per query, from one row per document: query id, relevance and score.

Documents with equal scores have no order. Every metric here is its expected value over all orders of the ties (McSherry
and Najork 2008), so that neither the rows' order nor a sort's choice can change it; scikit-learn's ``ndcg_score`` does
the same. A document is relevant if its relevance is above 0. Queries without a relevant document have no recall, nDCG or
average precision: they are left out of every metric and counted.

The query is the example: means, intervals and paired comparisons are `stats.sums.mean_terms` of the values per query. All
rows of a query belong in one batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from steelyard.errors import InvalidInput

__all__ = [
    "Ranked",
    "average_precisions",
    "ndcgs_at",
    "precisions_at",
    "ranked",
    "ranking_undefined",
    "recalls_at",
    "reciprocal_ranks",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Gain = Literal["exponential", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Documents sorted by query and falling score, with their tie groups; made by :func:`ranked`.

    Positions count from 1 within the query. All but the first three arrays have one entry per document.
    """

    queries: NDArray[Any]  # ids of the queries kept, sorted
    starts: Ints  # of each query's documents
    relevant: Ints  # relevant documents of each query
    left_out: int  # queries without a relevant document
    query: Ints  # index into `queries`
    relevance: Floats
    position: Ints
    before: Ints  # documents ahead of the tie group
    tied: Ints  # documents in the tie group
    hits: Ints  # relevant ones in the tie group
    hits_before: Ints  # relevant ones ahead of it
    tie: Ints  # number of the tie group


def ranked(queries: ArrayLike, relevance: ArrayLike, scores: ArrayLike) -> Ranked:
    """Sorts documents by query and score; all arguments are ``(n,)``, higher scores come first.

    Raises `InvalidInput` for no documents, unequal lengths, NaN or infinity, or a relevance below 0.

    >>> ranked(["a", "a", "b"], [1, 0, 0], [0.2, 0.9, 0.5]).left_out
    1
    """
    ids, grades, values = _checked(queries, relevance, scores)
    names, code = np.unique(ids, return_inverse=True)
    found = np.bincount(code, weights=grades > 0, minlength=len(names)) > 0
    order = np.lexsort((grades, -values, code))  # grades too, so that sums over ties do not depend on the rows' order
    order = order[found[code[order]]]
    return _grouped(
        names[found], int((~found).sum()), (np.cumsum(found) - 1)[code[order]], grades[order], values[order]
    )


def _grouped(names: NDArray[Any], left_out: int, query: Ints, relevance: Floats, scores: Floats) -> Ranked:
    new_query = np.diff(query, prepend=-1) != 0
    starts = np.flatnonzero(new_query)
    new_tie = new_query | (np.diff(scores, prepend=np.nan) != 0)
    firsts, tie = np.flatnonzero(new_tie), np.cumsum(new_tie) - 1
    hit = (relevance > 0).astype(np.int64)
    seen = np.concatenate([[0], np.cumsum(hit)])
    position = np.arange(len(query)) - starts[query] + 1 if len(query) else query
    return Ranked(
        queries=names,
        starts=starts,
        relevant=_per(hit, starts),
        left_out=left_out,
        query=query,
        relevance=relevance,
        position=position,
        before=(position[firsts] - 1)[tie],
        tied=np.diff(firsts, append=len(query))[tie],
        hits=_per(hit, firsts)[tie],
        hits_before=(seen[firsts] - seen[starts[query[firsts]]])[tie],
        tie=tie,
    )


def _per(values: NDArray[Any], starts: Ints) -> NDArray[Any]:
    return np.add.reduceat(values, starts) if len(starts) else values[:0]


def ranking_undefined(of: Ranked) -> str | None:
    """Why no metric is defined here, or None.

    >>> ranking_undefined(ranked([1, 2], [0, 0], [0.5, 0.5]))
    'undefined: none of the 2 queries has a relevant document'
    """
    if len(of.queries):
        return None
    return f"undefined: none of the {of.left_out:,} queries has a relevant document"


def precisions_at(of: Ranked, k: int) -> Floats:
    """Relevant documents among the first k, over k (also where a query has fewer documents), per query.

    >>> precisions_at(ranked([1, 1, 1], [1, 0, 0], [0.5, 0.5, 0.1]), 1)
    array([0.5])
    """
    return _hits_at(of, k) / k


def recalls_at(of: Ranked, k: int) -> Floats:
    """Share of a query's relevant documents that are among its first k, per query."""
    return _hits_at(of, k) / of.relevant


def _hits_at(of: Ranked, k: int) -> Floats:
    """Expected relevant documents in the first k: a position's chance is the share of relevant ones in its tie group."""
    _check_cut(k)
    return np.asarray(_per(np.where(of.position <= k, of.hits / of.tied, 0.0), of.starts), dtype=np.float64)


def reciprocal_ranks(of: Ranked, k: int | None = None) -> Floats:
    """One over the position of the first relevant document, 0 where it comes after `k`, per query; their mean is MRR.

    In a tie group of t documents with r relevant, the first relevant one stands at place j with probability
    ``C(t - j, r - 1) / C(t, r)``.

    >>> reciprocal_ranks(ranked([1, 1, 1], [0, 1, 0], [0.9, 0.5, 0.5])).round(4)
    array([0.4167])
    """
    place, left = of.position - of.before, of.tied - (of.position - of.before)
    first = (of.hits_before == 0) & (of.hits > 0) & (left >= of.hits - 1)
    if k is not None:
        _check_cut(k)
        first &= of.position <= k
    t, r, j = of.tied[first], of.hits[first], place[first]
    chance = np.exp(_log_choose(t - j, r - 1) - _log_choose(t, r))
    summed = np.bincount(of.query[first], weights=chance / of.position[first], minlength=len(of.queries))
    return np.asarray(summed, dtype=np.float64)


def _log_choose(n: Ints, k: Ints) -> Floats:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))


def average_precisions(of: Ranked) -> Floats:
    """Mean over a query's relevant documents of the precision at their positions, per query; their mean is MAP.

    At place j of a tie group of t documents with r relevant after R, the expected summand is
    ``r / t * (R + 1 + (j - 1) (r - 1) / (t - 1)) / position`` (McSherry and Najork 2008, section 2.5).

    >>> average_precisions(ranked([1, 1, 1], [1, 0, 1], [0.9, 0.5, 0.1])).round(4)
    array([0.8333])
    """
    earlier = (of.position - of.before - 1) * (of.hits - 1) / np.maximum(of.tied - 1, 1)
    expected = of.hits / of.tied * (of.hits_before + 1 + earlier) / of.position
    return np.asarray(_per(expected, of.starts) / of.relevant, dtype=np.float64)


def ndcgs_at(of: Ranked, k: int | None = None, gain: Gain = "exponential") -> Floats:
    """Discounted cumulative gain over the best possible, of the first `k` documents (all without one), per query.

    Järvelin and Kekäläinen (2002), with the discount ``1 / log2(1 + position)``; the gain of a relevance is
    ``2^relevance - 1`` (Burges et al. 2005) or, ``linear``, the relevance itself. In [0, 1].

    >>> ndcgs_at(ranked([1, 1], [1, 0], [0.1, 0.9]), gain="linear").round(4)
    array([0.6309])
    """
    discount = 1 / np.log2(1 + of.position)
    if k is not None:
        _check_cut(k)
        discount = np.where(of.position <= k, discount, 0.0)
    gains = _gains(of.relevance, gain)
    firsts = np.flatnonzero(np.diff(of.tie, prepend=-1))
    expected = (_per(gains, firsts) / of.tied[firsts])[of.tie]
    best = gains[np.lexsort((-gains, of.query))]
    found, ideal = _per(expected * discount, of.starts), _per(best * discount, of.starts)
    return np.asarray(np.minimum(found / ideal, 1.0), dtype=np.float64)


def _gains(relevance: Floats, gain: Gain) -> Floats:
    if gain == "linear":
        return relevance
    if len(relevance) and relevance.max() > 1000:
        raise InvalidInput(f"2^relevance overflows at relevance {relevance.max()}: use the linear gain")
    small = np.expm1(np.minimum(relevance, 1.0) * math.log(2))  # which does not round what is next to 0 to 0
    return np.where(relevance < 1e-3, small, np.exp2(relevance) - 1)


def _check_cut(k: int) -> None:
    if k < 1:
        raise InvalidInput(f"the number of documents looked at must be at least 1; got {k}")


def _checked(queries: ArrayLike, relevance: ArrayLike, scores: ArrayLike) -> tuple[NDArray[Any], Floats, Floats]:
    ids, grades, values = np.asarray(queries), *(np.asarray(a, dtype=np.float64) for a in (relevance, scores))
    if ids.ndim != 1 or not ids.size or not ids.shape == grades.shape == values.shape:
        raise InvalidInput(
            f"pass one query id, relevance and score per document; got {ids.shape}, {grades.shape}, {values.shape}"
        )
    for what, column, bad in (
        ("relevance", grades, ~(np.isfinite(grades) & (grades >= 0))),
        ("score", values, ~np.isfinite(values)),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidInput(
                f"{what} {column[row]} of row {row} must be finite{' and at least 0' * (column is grades)}"
            )
    return ids, grades, values
