"""Linear models whose coefficients cannot be negative, and their error on kinds of readings never seen.

A part of a machine takes power or it does not: it never gives any. So the coefficients of a model of power are found by
non-negative least squares (Lawson and Hanson 1974), on relative errors, because a watt matters more at 10 W than at 300.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput

__all__ = ["fit_relative", "held_out_errors"]

Floats = NDArray[np.float64]


def fit_relative(columns: Floats, target: Floats) -> Floats:
    """Coefficients c >= 0, shape ``(features,)``, that make ``columns @ c`` closest to `target` in relative error.

    Minimises the sum of ``((columns @ c - target) / target) ** 2``. ``columns`` has shape ``(n, features)``; each is scaled
    to a largest value of 1 first, for bytes and cores differ by ten powers of ten. A column of zeros gets 0. Raises
    `InvalidInput` for a target that is not positive, or fewer readings than features.

    >>> fit_relative(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([10.0, 13.0, 16.0])).round(6).tolist()
    [10.0, 3.0]
    """
    from scipy.optimize import nnls

    if columns.ndim != 2 or target.shape != columns.shape[:1] or not (target > 0).all():
        raise InvalidInput("a model of power needs one positive reading for each row of what was running")
    if columns.shape[0] < columns.shape[1]:
        raise InvalidInput(f"{columns.shape[0]} readings cannot tell {columns.shape[1]} parts of the power apart")
    scale = np.abs(columns).max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(columns / scale / target[:, None], np.ones(len(target)))
    return np.asarray(found / scale)


def held_out_errors(columns: Floats, target: Floats, kinds: Sequence[str]) -> dict[str, float]:
    """For each kind, the mean absolute relative error on its readings of a model fitted to all other kinds.

    Readings of one kind resemble each other, so leaving out one by one would flatter the model. Raises `InvalidInput` for
    fewer than two kinds.
    """
    names = np.asarray(kinds)
    known = sorted(set(kinds))
    if len(known) < 2:
        raise InvalidInput(
            f"an error on unseen loads needs two kinds of load at least, got {', '.join(known) or 'none'}"
        )
    errors = {}
    for name in known:
        own = names == name
        made = columns[own] @ fit_relative(columns[~own], target[~own])
        errors[name] = float(np.abs(made / target[own] - 1).mean())
    return errors
