"""Cheap bounds that end a hopeless candidate before it costs more: a small paired sample, and the roofline.

The sample is drawn from the validation split at random and looked at in small parts. After each, a test by betting
(`steelyard.stats.betting`) asks whether the whole split could still keep the requirement; it is wrong about at most one
candidate in a hundred that keeps it, however often it looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.process import Child
from steelyard.records import Requirement, Trial
from steelyard.search.ordered import gain_of
from steelyard.stats.betting import capital
from steelyard.subject.splits import read_split

__all__ = ["QualityBound", "allowance", "quality_bounds", "shown_to_miss"]

ALPHA = 0.01  # of candidates that keep a requirement, so many may be called hopeless
PART = 64  # examples between two looks
SHARE, MOST = 0.25, 1024  # of the validation split, and at most so many: what is not hopeless is read again as a whole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QualityBound:
    """A requirement on accuracy as a mean loss over the validation split that may be at most `most`.

    The loss of an example is 1 where the candidate is wrong; with the baseline's answers, that minus the baseline's loss.
    """

    text: str
    most: float
    baseline: NDArray[np.bool_] | None = None  # whether the baseline is right, ``(n,)``

    def is_broken(self, right: NDArray[np.bool_], rows: NDArray[np.intp], population: int, alpha: float) -> bool:
        """Whether answers to so many `rows`, in the order drawn, show that the whole split misses the requirement."""
        losses = (~right).astype(float)
        low = 0.0
        if self.baseline is not None:
            losses, low = losses - ~self.baseline[rows], -1.0
        return bool((capital(losses, self.most, population=population, low=low) >= 1 / alpha).any())


def quality_bounds(requirements: Sequence[Requirement], baseline: NDArray[np.bool_] | None) -> tuple[QualityBound, ...]:
    """Those of the requirements that a sample can show to be missed: a drop in accuracy, or too low an accuracy."""
    if baseline is None:
        return ()
    asked = [r for r in requirements if r.quantity == "accuracy"]
    drops = [QualityBound(text=r.text, most=r.limit, baseline=baseline) for r in asked if r.kind == "max_drop"]
    return (*drops, *(QualityBound(text=r.text, most=1 - r.limit) for r in asked if r.kind == "min"))


def shown_to_miss(child: Child, data: Path, bounds: Sequence[QualityBound], split: str = "validation") -> str:
    """Which requirement the model loaded in `child` is shown to miss, and how soon; empty where none is."""
    labels: NDArray[Any] = np.asarray(read_split(data, split).labels)
    count = len(labels)
    rows = np.random.default_rng(0).permutation(count)[: min(MOST, max(PART, int(SHARE * count)))]
    right = np.zeros(0, dtype=bool)
    for part in np.split(rows, range(PART, len(rows), PART)) if bounds else ():
        outputs = child.call("predict", folder=str(data), split=split, batch=PART, rows=part)
        right = np.append(right, outputs.argmax(axis=1) == labels[part])
        for bound in bounds:
            if bound.is_broken(right, rows[: len(right)], count, ALPHA / len(bounds)):
                return f"{len(right):,} of {count:,} {split} examples show that it misses {bound.text} (p < {ALPHA:g})"
    return ""


def allowance(trials: Sequence[Trial]) -> float:
    """By how much the ceilings of these trials' predictions were passed at most: they are rules of thumb, not laws; 1 at least.

    A ceiling holds the arithmetic to the peak of one large product, which algorithms that multiply less can pass.
    """
    passed = [
        gain_of(t.comparison) / t.prediction.ceiling
        for t in trials
        if t.comparison is not None and t.prediction is not None
    ]
    return max([1.0, *(p for p in passed if math.isfinite(p))])
