"""Times to a goal that some never reach: those runs are censored, they are neither dropped nor counted as if they had."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.quantiles import normal_critical

__all__ = ["kaplan_meier", "restricted_mean"]

Floats = NDArray[np.float64]


def kaplan_meier(times: Floats, reached: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The share of runs that have not reached the goal yet: the times at which it falls, and its value from each on.

    ``times`` ``(n,)`` are when each run reached the goal, or when it was last looked at without having reached it (censored
    there, after all that reached it at that very time). Kaplan and Meier (1958), JASA 53, 457-481.

    >>> at, share = kaplan_meier(np.array([3.0, 5.0, 5.0, 8.0]), np.array([True, True, False, True]))
    >>> at.tolist(), share.tolist()
    ([3.0, 5.0, 8.0], [0.75, 0.5, 0.0])
    """
    at, events, at_risk = _table(times, reached)
    return at, np.asarray(np.cumprod(1 - events / at_risk), dtype=np.float64)


def restricted_mean(
    times: Floats, reached: NDArray[np.bool_], horizon: float, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean time to the goal, a run that takes longer than `horizon` counting as `horizon`; with its normal interval.

    The area under `kaplan_meier` up to the horizon, with Greenwood's variance (Klein and Moeschberger 2003, Survival
    Analysis, section 4.5). With no run censored before the horizon it is the plain mean of ``min(time, horizon)``, and the
    standard error that of a mean with divisor n. The interval lies within [0, horizon]; of few runs it is too narrow.

    Raises `InvalidInput` without runs, for a horizon of 0 or less, and where a run was given up before the horizon and
    none longer stood.

    >>> restricted_mean(np.array([3.0, 5.0, 9.0, 9.0]), np.array([True, True, False, False]), 9.0)[0]
    6.5
    """
    if not horizon > 0:
        raise InvalidInput(f"the horizon of a restricted mean is positive, got {horizon}")
    at, events, at_risk = _table(times, reached)
    if float(np.max(times)) < horizon and not bool(np.all(reached[times == np.max(times)])):
        raise InvalidInput(f"no run was followed up to {horizon:g}: give a horizon of at most {float(np.max(times)):g}")
    inside = at < horizon
    at, events, at_risk = at[inside], events[inside], at_risk[inside]
    share = np.cumprod(1 - events / at_risk)
    edges = np.concatenate([[0.0], at, [horizon]])
    areas = np.diff(edges) * np.concatenate([[1.0], share])
    mean = float(areas.sum())
    after = np.cumsum(areas[::-1])[::-1][1:]  # area from each event on
    left = at_risk - events
    weights = np.divide(events, at_risk * left, out=np.zeros_like(after), where=left > 0)
    half = normal_critical(level) * math.sqrt(float((after**2 * weights).sum()))
    return mean, max(0.0, mean - half), min(horizon, mean + half)


def _table(times: Floats, reached: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Distinct times at which the goal was reached, how many did, and how many were still on their way before."""
    if not len(times) or len(times) != len(reached) or not np.isfinite(times).all() or float(np.min(times)) < 0:
        raise InvalidInput("times to a goal need one finite time of 0 or more for each run, and whether it was reached")
    at, events = np.unique(times[reached], return_counts=True)
    at_risk = (times[:, None] >= at).sum(axis=0)
    return at, events.astype(np.float64), at_risk.astype(np.float64)
