"""Quality beside the time of `steelyard compare`: both models on the same test examples, and one error level for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, SteelyardError, WorkerFailed
from steelyard.measure.process import Limits
from steelyard.measure.weigh import predict_split
from steelyard.metrics.examples import from_predictions
from steelyard.metrics.families import Pair
from steelyard.metrics.table import Metric, drop, drop_estimate, estimate, find, pair
from steelyard.pipeline.job import Progress
from steelyard.pipeline.sides import Side
from steelyard.records import Difference, Estimate, Predictions, Unavailable
from steelyard.stats.multiple import holm
from steelyard.stats.sequence import sequence_p_value

__all__ = ["Quality", "difference", "qualities", "settled", "time_level"]

BAND = 0.01  # of shares and areas: drops within it are equivalent, as in `evaluate`


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Metrics of both models, and their paired differences."""

    examples: int = 0
    pairs: tuple[tuple[Estimate | Unavailable, Estimate | Unavailable], ...] = field(default_factory=tuple)
    differences: tuple[Difference, ...] = field(default_factory=tuple)


def qualities(
    sides: tuple[Side, Side],
    names: tuple[str, str],
    metrics: Sequence[str],
    level: float,
    limits: Limits,
    log: Path,
    progress: Progress,
) -> Quality:
    """Both on the test split, by fresh processes; empty where no data was given."""
    if any(side.data is None for side in sides):
        return Quality()
    made = []
    for side, name in zip(sides, names, strict=True):
        progress(f"predicting the test split with {name}", None)
        made.append(_predicted(side, name, limits, log))
    first, second = made
    if not np.array_equal(first.labels, second.labels):
        raise InvalidInput(
            f"{names[0]} and {names[1]} read other test labels from the same data: check the order of classes"
        )
    labels = (sides[0].artifact and sides[0].artifact.contract.labels) or ()
    before, after = (from_predictions(m, labels) for m in made)
    rows = [find(name, before.task, before.classes) for name in metrics]
    both = pair(before, after, rows)
    return Quality(
        examples=len(first.labels),
        pairs=tuple((estimate(both.before, row, level), estimate(both.after, row, level)) for row in rows),
        differences=tuple(difference(both, row, names, level) for row in rows),
    )


def _predicted(side: Side, name: str, limits: Limits, log: Path) -> Predictions:
    assert side.artifact is not None
    assert side.inputs is not None
    assert side.data is not None
    try:
        return predict_split(side.artifact, side.inputs, side.data, "test", limits=limits, log=log)
    except SteelyardError as error:
        kind = error.kind if isinstance(error, WorkerFailed) else "error"
        raise WorkerFailed(kind, f"{name} failed on the test split: {error}") from error


def difference(both: Pair, metric: Metric, names: tuple[str, str], level: float) -> Difference:
    """The paired drop of one metric, before Holm; equivalent where its interval for two one-sided tests lies in the band."""
    found, shown = drop(both, metric), drop_estimate(both, metric, level)
    bare = Difference(metric=metric.name, first=names[0], second=names[1], drop=shown, n=both.n, outcome="undefined")
    if isinstance(found, Unavailable) or isinstance(shown, Unavailable):
        return bare
    below = found.p_value(0.0)
    low, high = found.interval(max(2 * level - 1, 0.5))
    alike = metric.needs in ("predicted", "scores") and metric.unit == "fraction" and max(-low, high) <= BAND
    needed = found.needed(0.0, level) if shown.value > 0 else None
    return dataclasses.replace(
        bare,
        p_value=min(1.0, 2 * min(below, 1 - below)),
        outcome="equivalent" if alike else "undecided",
        advice="" if needed is None else f"about {needed:,} examples would resolve this gap; there are {both.n:,}",
    )


def time_level(p_values: Sequence[float | None], level: float) -> float:
    """The level of the time's interval, so that time and metrics together hold `level` under Holm (1979).

    Holm tests the time at alpha / (m - k), where k is how many of the other claims are rejected before it; and these
    are known before the first round.

    >>> time_level([], 0.95), time_level([0.5], 0.95), time_level([0.001], 0.95)
    (0.95, 0.975, 0.95)
    """
    known = sorted(p for p in p_values if p is not None)
    claims = 1 + len(known)
    alpha = 1 - level
    rejected = 0
    while rejected < len(known) and known[rejected] <= alpha / (claims - rejected):
        rejected += 1
    return round(1 - alpha / (claims - rejected), 12)


def settled(
    differences: Sequence[Difference], log_ratios: NDArray[np.float64] | None, level: float
) -> tuple[Difference, ...]:
    """The metrics' outcomes under Holm over them and the time, whose p is that of its sequence (1 without readings)."""
    tested = [d for d in differences if d.p_value is not None]
    time_p = 1.0 if log_ratios is None else sequence_p_value(log_ratios)
    claims = holm([*(d.p_value for d in tested if d.p_value is not None), time_p], 1 - level)
    decided = dict(zip((d.metric for d in tested), claims, strict=False))
    return tuple(
        _settled(d, decided[d.metric].adjusted, decided[d.metric].rejected) if d.metric in decided else d
        for d in differences
    )


def _settled(found: Difference, adjusted: float, rejected: bool) -> Difference:
    judged = dataclasses.replace(found, adjusted=adjusted)
    if found.outcome == "equivalent" or not isinstance(found.drop, Estimate):
        return judged
    if not rejected:
        return dataclasses.replace(judged, outcome="undecided")
    return dataclasses.replace(judged, outcome="worse" if found.drop.value > 0 else "better")
