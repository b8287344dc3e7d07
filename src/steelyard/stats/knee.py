"""Where throughput over the batch size (or the concurrency) stops paying.

The knee is the smallest size whose throughput is within a share (5 %) of the best measured. No curve is fitted: past the
knee throughput may stay, sink or wave as caches fill, and a law with a maximum of curvature (Kneedle: Satopaa, Albrecht,
Irwin and Raghavan 2011) finds one in noise too and moves with the range that happened to be measured. Sizes that take
turns share the weather of their pass, so whole passes are redrawn: a multiplier bootstrap (Barbe and Bertail 1995) of the
mean log-rates, widened by Student's factor, gives each size its probability of being the knee.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput

__all__ = ["Knee", "find_knee"]

Floats = NDArray[np.float64]

WITHIN = 0.05
_DRAWS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """The knee, and every size it may be.

    ``rising``: the largest size measured is still the only one near the best, so the knee lies beyond. ``flat``: the
    smallest is as good as any. ``unknown``: fewer than two sizes or two passes.
    """

    outcome: Literal["knee", "rising", "flat", "unknown"]
    size: int | None = None
    likely: tuple[int, ...] = ()  # the smallest set of sizes that holds the knee with probability `level`
    probability: float = math.nan  # of that set
    within: float = WITHIN


def find_knee(
    sizes: Sequence[int], rates: Floats, *, within: float = WITHIN, level: float = 0.95, seed: int = 0
) -> Knee:
    """The knee of `rates` ``(passes, sizes)``, in examples per second, over ascending `sizes`.

    Raises `InvalidInput` for sizes out of order, and rates that are not above 0.

    >>> find_knee([1, 2, 4, 8], np.array([[10, 19, 30, 30.5], [10.1, 19.2, 30.1, 30.4], [9.9, 19, 29.9, 30.6]])).size
    4
    """
    _check(sizes, rates, within)
    passes, count = rates.shape
    if passes < 2 or count < 2:
        return Knee(outcome="unknown", within=within)
    logs = np.log(rates)
    found = int(_smallest_near_best(logs.mean(axis=0), within))
    chances = np.bincount(_smallest_near_best(_redrawn(logs, seed), within), minlength=count) / _DRAWS
    ranked = sorted(range(count), key=lambda i: (i != found, -chances[i]))  # the estimate itself stands in its set
    needed = int(np.searchsorted(np.cumsum(chances[ranked]), level - 1e-9)) + 1
    likely = sorted(ranked[:needed])
    return Knee(
        outcome="rising" if found == count - 1 else "flat" if found == 0 else "knee",
        size=int(sizes[found]),
        likely=tuple(int(sizes[i]) for i in likely),
        probability=float(chances[likely].sum()),
        within=within,
    )


def _smallest_near_best(logs: Floats, within: float) -> NDArray[np.intp]:
    """Along the last axis, the first place that lies within a share of the largest."""
    near = logs >= logs.max(axis=-1, keepdims=True) + math.log1p(-within)
    return np.asarray(near.argmax(axis=-1))


def _redrawn(logs: Floats, seed: int) -> Floats:
    """Draws ``(draws, sizes)`` of the mean log-rates, with the passes' own covariance and Student's tails."""
    rng = np.random.default_rng(seed)
    passes = len(logs)
    centred = logs - logs.mean(axis=0)
    spread = rng.standard_normal((_DRAWS, passes)) @ centred / math.sqrt(passes * (passes - 1))
    student = np.sqrt((passes - 1) / rng.chisquare(passes - 1, size=(_DRAWS, 1)))
    return np.asarray(logs.mean(axis=0) + spread * student)


def _check(sizes: Sequence[int], rates: Floats, within: float) -> None:
    if rates.ndim != 2 or rates.shape[1] != len(sizes):
        raise InvalidInput(f"a knee needs rates of shape (passes, {len(sizes)}), one column a size; got {rates.shape}")
    if list(sizes) != sorted(set(sizes)):
        raise InvalidInput(f"a knee needs ascending sizes, each once; got {list(sizes)}")
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise InvalidInput("a knee needs rates above 0; look for the reading that failed")
    if not 0 < within < 1:
        raise InvalidInput(f"the share of the best that counts as near lies between 0 and 1; got {within}")
