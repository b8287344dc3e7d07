"""Several claims at once: Holm's step-down, with the level at which each claim's interval agrees with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steelyard.errors import InvalidInput

__all__ = ["HolmClaim", "holm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HolmClaim:
    """One claim after Holm: its adjusted p, the error level it was tested at, and whether it was rejected.

    ``rejected == (p <= alpha)``, so an interval built at `alpha` (level ``1 - alpha`` for a two-sided p,
    ``1 - 2 * alpha`` for a one-sided p read off a two-sided interval) always agrees with the outcome.
    """

    adjusted: float
    alpha: float
    rejected: bool


def holm(p_values: Sequence[float], alpha: float = 0.05) -> tuple[HolmClaim, ...]:
    """Holm (1979): the family-wise error stays at `alpha` whatever the dependence; one claim per p, in their order.

    The p at rank i (from 0) of m is tested at ``alpha / (m - i)``; testing stops at the first that fails, and those
    after it are shown at the level where it stopped.

    >>> [(round(c.adjusted, 3), round(c.alpha, 3), c.rejected) for c in holm([0.04, 0.01, 0.03])]
    [(0.06, 0.025, False), (0.03, 0.017, True), (0.06, 0.025, False)]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise InvalidInput(f"p-values lie in [0, 1]; got {list(p_values)}")
    m, ranked = len(p_values), sorted(range(len(p_values)), key=lambda i: p_values[i])
    claims: dict[int, HolmClaim] = {}
    adjusted, used, going = 0.0, alpha, True
    for rank, index in enumerate(ranked):
        p = p_values[index]
        adjusted = max(adjusted, min(1.0, p * (m - rank)))
        if going:
            used = alpha / (m - rank)
            going = p <= used
        claims[index] = HolmClaim(adjusted=adjusted, alpha=used, rejected=going)
    return tuple(claims[i] for i in range(m))
