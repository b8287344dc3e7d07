"""A test by betting, for a mean over a finite set that is looked at one value after another, in random order.

Against the claim that the mean of all `population` values is at most `most`, a gambler stakes a part of what he has on each
next value being larger than the claim allows. If the claim holds he cannot be expected to grow rich: the chance that his
capital ever reaches 1 / alpha is at most alpha (Ville 1939). So one may look after every value, and stop when one likes.

Values are drawn without replacement, so what is left to come changes with what came: before the t-th value the claim allows
it a mean of at most ``m_t = (population * most - sum so far) / (population - t + 1)``. The capital is
``product(1 + stake_t * (x_t - m_t))`` (Waudby-Smith and Ramdas 2024, section 4), with their stake that approximates the one
of fastest growth, from the mean and the variance of the values before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput

__all__ = ["capital"]

_BOLD = 0.75  # of what would be lost at the worst value: a gambler who stakes all may lose all
_PRIOR = 0.25  # variance of the value that is taken for seen beforehand


def capital(
    values: ArrayLike, most: float, *, population: int, low: float = -1.0, high: float = 1.0
) -> NDArray[np.float64]:
    """What the gambler has after each value, ``(n,)``, having begun with 1; infinite once the claim is impossible.

    `values` lie within `low` and `high` and come from `population` in random order. The largest capital so far is at least
    1 / alpha with a chance of at most alpha if the mean of all is at most `most`. Raises `InvalidInput` for values outside,
    or more of them than there are.

    >>> capital([1.0, 1.0, 1.0, 1.0], 0.01, population=1000).round(1).tolist()
    [1.0, 1.7, 3.0, 5.3]
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) > population or not ((found >= low) & (found <= high)).all():
        raise InvalidInput(
            f"a bet needs at most {population} values from {low:g} to {high:g}; got {found.size} of them"
        )
    before = np.arange(len(found))
    sums = np.concatenate([[0.0], np.cumsum(found)[:-1]])
    allowed = (population * most - sums) / (population - before)
    stakes = _stakes(found, allowed, low)
    logs = np.cumsum(np.log1p(stakes * (found - allowed)))
    left = population * most - np.cumsum(found)
    impossible = np.maximum.accumulate(left < low * (population - before - 1) - 1e-9)  # no values to come could mend it
    return np.where(impossible, np.inf, np.exp(logs))


def _stakes(values: NDArray[np.float64], allowed: NDArray[np.float64], low: float) -> NDArray[np.float64]:
    """From what came before alone: the distance of its mean from what is allowed, over its mean square from there."""
    count = np.arange(1, len(values) + 1)  # one value taken for seen, of mean `allowed` at the first
    sums = np.concatenate([[0.0], np.cumsum(values)[:-1]])
    squares = np.concatenate([[0.0], np.cumsum(values**2)[:-1]])
    ahead = (sums + allowed[:1].sum()) / count - allowed
    spread = np.maximum((squares + _PRIOR) / count - (sums / count) ** 2, 1e-3)
    worst = np.maximum(allowed - low, 1e-12)  # none is staked where nothing can be lost
    return np.asarray(np.clip(ahead / (spread + ahead**2), 0.0, _BOLD / worst))
