"""The decision threshold for a target or a cost matrix: chosen on one set of examples, to be judged on another."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics.curves import OperatingPoints, operating_points

__all__ = ["Choice", "Costs", "Target", "choose_threshold", "parse_costs", "parse_target"]

Floats = NDArray[np.float64]

_RATES = ("recall", "precision", "specificity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``recall >= 0.95``, or with no `least` the highest value of a metric, as in ``f1``."""

    metric: str
    least: float | None
    beta: float = 1.0
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a false positive and a false negative cost, and what right answers do (mostly nothing)."""

    fp: float
    fn: float
    tp: float = 0.0
    tn: float = 0.0

    @property
    def text(self) -> str:
        """As it is written."""
        rights = "".join(f",{name}={value:g}" for name, value in (("tp", self.tp), ("tn", self.tn)) if value)
        return f"costs fp={self.fp:g},fn={self.fn:g}{rights}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A threshold, what it reaches on the examples that chose it, and whether that is the target."""

    threshold: float
    reached: float  # the target's metric; the mean cost of an example
    kept: bool


def parse_target(text: str) -> Target:
    """Read ``recall >= 0.95``, ``precision >= 90%``, ``specificity >= 0.9``, or ``f1`` and ``f2`` for their maximum.

    >>> parse_target("recall >= 95%").least
    0.95
    """
    plain = " ".join(text.strip().lower().split())
    if (match := re.fullmatch(r"(?:max(?:imise)? )?f(\d+(?:\.\d+)?)", plain)) and float(match[1]) > 0:
        return Target(metric=f"f{float(match[1]):g}", least=None, beta=float(match[1]), text=plain)
    match = re.fullmatch(r"([a-z]+) ?(?:>=|≥|>) ?(\d*\.?\d+) ?(%?)", plain)
    if match is None or match[1] not in _RATES:
        raise InvalidInput(
            f"cannot read the target {text!r}: write 'recall >= 0.95', 'precision >= 0.9', 'specificity >= 0.9' or 'f1'"
        )
    least = float(match[2]) / (100 if match[3] else 1)
    if not 0 < least <= 1:
        raise InvalidInput(
            f"the target {text!r} asks for {least:g}, and {match[1]} lies within 0 to 1: did you mean {least:g}%?"
        )
    return Target(metric=match[1], least=least, text=plain)


def parse_costs(text: str) -> Costs:
    """Read ``fp=1,fn=10``; ``tp`` and ``tn`` may be given too.

    >>> parse_costs("fp=1, fn=10")
    Costs(fp=1.0, fn=10.0, tp=0.0, tn=0.0)
    """
    try:
        parts = {name.strip(): float(value) for name, _, value in (part.partition("=") for part in text.split(","))}
        if not {"fp", "fn"} <= parts.keys() <= {"fp", "fn", "tp", "tn"} or not all(map(math.isfinite, parts.values())):
            raise ValueError
        costs = Costs(**parts)
    except (ValueError, TypeError):
        raise InvalidInput(f"cannot read the costs {text!r}: write what each mistake costs, as fp=1,fn=10") from None
    if costs.fp <= costs.tn or costs.fn <= costs.tp:
        raise InvalidInput(f"the costs {text!r} make a mistake no dearer than a right answer: raise fp and fn")
    return costs


def choose_threshold(labels: ArrayLike, scores: ArrayLike, goal: Target | Costs) -> Choice:
    """The threshold (an example at or above it is positive) that fits `goal` best on these examples.

    Recall is reached with the fewest false positives, precision and specificity with the most true positives. Where no
    threshold reaches the target the one that comes nearest is taken, and `kept` is False.
    Raises `InvalidInput` where the examples are of one class.

    >>> choose_threshold([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], parse_target("recall >= 0.9"))
    Choice(threshold=0.35, reached=1.0, kept=True)
    """
    points = operating_points(labels, scores)
    if not points.positives or not points.negatives:
        raise InvalidInput(
            f"a threshold cannot be chosen on {points.positives:,} positives and {points.negatives:,} negatives: both are needed"
        )
    if isinstance(goal, Costs):
        costs = goal.fp * points.fp + goal.fn * points.fn + goal.tp * points.tp + goal.tn * points.tn
        best = int(np.argmin(costs))
        return _choice(points, best, float(costs[best] / (points.positives + points.negatives)), kept=True)
    values = _values(points, goal)
    if goal.least is None:
        best = int(np.argmax(values))
        return _choice(points, best, float(values[best]), kept=True)
    enough = np.flatnonzero(values >= goal.least)
    if not len(enough):
        best = int(np.argmax(values))
        return _choice(points, best, float(values[best]), kept=False)
    best = int(enough[0] if goal.metric == "recall" else enough[np.argmax(points.tp[enough])])
    return _choice(points, best, float(values[best]), kept=True)


def _values(points: OperatingPoints, goal: Target) -> Floats:
    """The target's metric at each threshold; precision with nothing called positive does not count."""
    called = points.tp + points.fp
    if goal.metric == "recall":
        return np.asarray(points.tp / points.positives)
    if goal.metric == "specificity":
        return np.asarray(points.tn / points.negatives)
    if goal.metric == "precision":
        return np.asarray(np.divide(points.tp, called, out=np.zeros(len(called)), where=called > 0))
    square = goal.beta**2
    return np.asarray((1 + square) * points.tp / (square * points.positives + called))


def _choice(points: OperatingPoints, at: int, reached: float, *, kept: bool) -> Choice:
    """Above every score (nothing is called positive) is written as the next number above the highest."""
    threshold = float(points.thresholds[at])
    if math.isinf(threshold):
        threshold = float(np.nextafter(points.thresholds[1], np.inf))
    return Choice(threshold=threshold, reached=reached, kept=kept)
