"""Families of metrics of scores: the area under the ROC curve, the average precision, and the calibration error.

Two classes have the intervals of `steelyard.stats.auc`. Averages over classes, one against the rest, or over labels, leave
out classes that have no positives or no negatives. Their intervals join those of the classes (`steelyard.stats.combined`).
The correlations are those of the examples' placements in each class's area (DeLong, DeLong and Clarke-Pearson 1988), for
the average precision those of its values without each of at most 100 groups of examples (Kott 2001). Drops stand on the
sums of the same effects.

Coverage is simulated with five classes of 40 to 5 % and 100 to 3,000 examples (``benchmarks/results/coverage.md``): one standard
error of the whole mean, without the classes' own intervals, held the truth 86 to 92 % of the time where the smallest class
has 5 examples. The drop of the average precision of two classes: 94 % to nearly always. The drop of the
calibration error is that of the debiased errors: 93 % to always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from steelyard.metrics.calibration import (
    Reliability,
    calibration_drops,
    calibration_error,
    calibration_supported,
    expected_calibration_error,
    reliability,
)
from steelyard.metrics.examples import Examples, Undefined
from steelyard.metrics.families import Drop, Ends, Evidence, Pair
from steelyard.stats.auc import auc_interval, auc_supported, clustered_auc_interval, paired_delong, placements
from steelyard.stats.average_precision import PrecisionSize, average_precision, precision_size
from steelyard.stats.combined import mean_interval
from steelyard.stats.quantiles import normal_critical
from steelyard.stats.ranked import Ranked, auc, auc_parts, ranked
from steelyard.stats.sums import Spread, drop_interval, drop_p_value, interval

__all__ = [
    "Auc",
    "AveragePrecision",
    "CalibrationGap",
    "MacroAuc",
    "MacroAveragePrecision",
    "scored_classes",
    "top_reliability",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Interval = tuple[float, float, float]  # value, low, high

_CELLS_AT_ONCE = 4_000_000  # counts held at once: 32 MB
_LEAST_OF_CLASS = 5  # examples of the smallest class from which the coverage of averages over classes was shown
_RESAMPLES_OF_CLASS = 200  # for each class's variance: what they err by averages out over the classes
_GROUPS = 100  # of the delete-a-group jackknife
_ROUNDING = 1e-14  # a standard error that is no larger is what summing leaves of effects that cancel
_LEAST = 12  # bisections of a level: p to one part in 4,000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Auc:
    """The area under the ROC curve of a binary task."""

    def value(self, on: Evidence) -> float:
        found = auc(_ranked(on))
        if found is None:
            raise Undefined(_why(on.examples))
        return found

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        made, order = on.examples, _ranked(on)
        found = (
            auc_interval(order, level)
            if made.clusters is None
            else clustered_auc_interval(made.labels, _ranks(made), made.clusters, level)
        )
        if found is None:
            return 0.0, 1.0, "DeLong, and one cluster alone bounds nothing"
        over = " over clusters" if made.clusters is not None else ""
        return found[1], found[2], f"DeLong, score{over}{_if_few(order)}"

    def drop(self, of: Pair) -> Drop:
        self.value(of.before), self.value(of.after)
        before = of.before.examples
        scores = _ranks(before), _ranks(of.after.examples)
        found = paired_delong(before.labels, *scores, clusters=before.clusters)
        assert found is not None
        over = " over clusters" if before.clusters is not None else ""
        return Drop(
            value=found.difference,
            interval=found.interval,
            p_value=partial(_p_of_interval, found.interval, found.difference),
            needed=lambda limit, level: _needed(found.difference, found.error, limit, level, of.n),
            method=f"paired DeLong{over}",
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AveragePrecision:
    """The average precision of a binary task.

    Simulated within the limits of `auc_supported`, where the area is the AUC, its interval holds the truth 93 to 97 % of the
    time; outside them, where "too few" is said, 93 to 99 % (``benchmarks/results/coverage.md``).
    """

    def value(self, on: Evidence) -> float:
        found = average_precision(_ranked(on))
        if found is None:
            raise Undefined(_why(on.examples))
        return found

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        made = on.examples
        found: PrecisionSize = on.keep(
            "average precision",
            lambda: precision_size(made.labels, _ranks(made), clusters=made.clusters, stratified=made.stratified),
        )
        low, high = found.interval(level)
        how = "clusters" if made.clusters is not None else ("classes" if made.stratified else "examples")
        return low, high, f"Wilson, effective n by bootstrap of {how}{_if_few(_ranked(on))}"

    def drop(self, of: Pair) -> Drop:
        self.value(of.before), self.value(of.after)
        return _jackknifed_drop(of)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MacroAuc:
    """The mean area over classes, each against the rest (or over the labels of a multi-label task)."""

    def value(self, on: Evidence) -> float:
        return self._spread(on).value

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        found, made = self._spread(on), on.examples
        if found.error == 0 or found.degrees < 1:
            low, high = interval(found, low=0.0, high=1.0, level=level, size=_smallest(made))
        else:
            _, low, high = mean_interval(_areas(made, level))
        return low, high, _of_classes("DeLong, score", made)

    def drop(self, of: Pair) -> Drop:
        found = _difference(self._effects(of.before), self._effects(of.after), of.before.examples)
        return _drop_of_spread(found, of.n, _method("paired placements", of.before.examples))

    def _spread(self, on: Evidence) -> Spread:
        value, effects = self._effects(on)
        return _spread(value, effects, on.examples)

    def _effects(self, on: Evidence) -> tuple[float, Floats]:
        found: tuple[float, Floats] = on.keep("macro placements", lambda: _macro_placements(on.examples))
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MacroAveragePrecision:
    """The mean average precision over classes, each against the rest (or over the labels of a multi-label task)."""

    def value(self, on: Evidence) -> float:
        return self._left_out(on)[0]

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        value, without = self._left_out(on)
        found, made = _jackknife(value, without.mean(axis=0), len(on.examples)), on.examples
        if found.error == 0 or found.degrees < 1:
            low, high = interval(found, low=0.0, high=1.0, level=level, size=_smallest(made))
        else:
            sizes: list[PrecisionSize] = on.keep("macro precision sizes", lambda: _precision_sizes(made))
            ends = [(size.value, *size.interval(level)) for size in sizes]
            _, low, high = mean_interval(zip(ends, without - without.mean(axis=1, keepdims=True), strict=True))
        return low, high, _of_classes("Wilson, effective n by bootstrap", made)

    def drop(self, of: Pair) -> Drop:
        return _jackknifed_drop(of)

    def _left_out(self, on: Evidence) -> tuple[float, Floats]:
        found: tuple[float, Floats] = on.keep(
            "macro average precision", lambda: _macro_precisions(on.examples, _dealt(on.examples))
        )
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationGap:
    """The expected calibration error of the top label (of the positive class where there are two)."""

    def value(self, on: Evidence) -> float:
        return expected_calibration_error(top_reliability(on.examples))

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        bins: Reliability = on.keep("reliability", lambda: top_reliability(on.examples))
        found = calibration_error(bins, level)
        few = "" if calibration_supported(bins) else "; too few for each bin: wide"
        return (
            found.low,
            found.high,
            f"folded normals over {sum(c > 0 for c in bins.counts)} bins, bias allowed for{few}",
        )

    def drop(self, of: Pair) -> Drop:
        asked = calibration_drops(_believed(of.before.examples), _believed(of.after.examples))
        value, low, high = asked(0.95)
        error = (high - low) / (2 * normal_critical(0.95))

        def ends(level: float) -> Ends:
            return asked(level)[1:]

        return Drop(
            value=value,
            interval=ends,
            p_value=partial(_p_of_interval, ends, value),
            needed=lambda limit, level: _needed(value, error, limit, level, of.n),
            method="difference of debiased errors, square-and-add",
        )


def top_reliability(made: Examples) -> Reliability:
    """Confidence and right answers in 15 bins: of the predicted class, or of the positive class of two."""
    return reliability(*_believed(made))


def _believed(made: Examples) -> tuple[Floats, Bools]:
    scores = np.asarray(_scores(made), dtype=np.float64)
    if made.task == "binary":
        return scores, np.asarray(made.labels == 1)
    return scores.max(axis=1), np.asarray(scores.argmax(axis=1) == made.labels)


# --- classes, one against the rest ---------------------------------------------------------------------


def scored_classes(made: Examples) -> list[tuple[int, Bools, Floats]]:
    """(class, whether each example has it, its score) of every class that has both positives and negatives."""
    scores = _ranks(made)
    scores = scores[:, None] if scores.ndim == 1 else scores
    flags = made.labels if made.labels.ndim == 2 else made.labels[:, None]
    if made.task == "multiclass":
        flags = flags == np.arange(scores.shape[1])
    counts = flags.sum(axis=0)
    usable = np.flatnonzero((counts > 0) & (counts < len(made)))
    return [
        (int(k), np.asarray(flags[:, k], dtype=np.bool_), np.ascontiguousarray(scores[:, k], dtype=np.float64))
        for k in usable
    ]


def _macro_placements(made: Examples) -> tuple[float, Floats]:
    """The macro area and each example's effect on it: centred placements over the size of the example's side."""
    classes = scored_classes(made)
    if not classes:
        raise Undefined(_why(made))
    areas, effects = [], np.zeros(len(made))
    for _, positive, scores in classes:
        area = auc(ranked(positive, scores))
        assert area is not None
        areas.append(area)
        sides = np.where(positive, positive.sum(), (~positive).sum())
        effects += (placements(positive, scores) - area) / sides
    return math.fsum(areas) / len(areas), effects / len(areas)


def _areas(made: Examples, level: float) -> Iterator[tuple[Interval, Floats]]:
    """Each class's area with its interval, and what each example or cluster adds to it."""
    ids = None if made.clusters is None else np.unique(made.clusters, return_inverse=True)[1]
    for _, positive, scores in scored_classes(made):
        if made.clusters is None:
            found = auc_interval(ranked(positive, scores), level)
        else:
            found = clustered_auc_interval(positive, scores, made.clusters, level)
        assert found is not None
        effects = (placements(positive, scores) - found[0]) / np.where(positive, positive.sum(), (~positive).sum())
        yield found, effects if ids is None else np.asarray(np.bincount(ids, effects), dtype=np.float64)


def _precision_sizes(made: Examples) -> list[PrecisionSize]:
    """What the interval of each class's average precision stands on."""
    found = (
        precision_size(
            positive, scores, clusters=made.clusters, stratified=made.stratified, resamples=_RESAMPLES_OF_CLASS
        )
        for _, positive, scores in scored_classes(made)
    )
    return [size for size in found if size is not None]


def _macro_precisions(made: Examples, groups: NDArray[np.int64]) -> tuple[float, Floats]:
    """The macro average precision (of a binary task the one there is), and each class's without each group ``(k, g)``."""
    classes = scored_classes(made)
    if not classes:
        raise Undefined(_why(made))
    values = np.array([_precisions(positive, scores, groups) for _, positive, scores in classes])
    return float(values[:, 0].mean()), values[:, 1:]


def _precisions(positive: Bools, scores: Floats, groups: NDArray[np.int64]) -> Floats:
    """Average precision of all examples, then without each group in turn."""
    order = np.argsort(-scores, kind="stable")
    hit, group, ordered = positive[order], groups[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(ordered) != 0), len(ordered) - 1)
    ends = ends[np.diff(np.cumsum(hit)[ends], prepend=0) > 0]  # precision counts where positives are
    hits, picked = np.cumsum(hit)[ends], ends + 1
    place = np.searchsorted(ends, np.arange(len(ordered)))  # the first end that counts the example
    found, count = [_stepwise(hits[None], picked[None])], int(groups.max()) + 1
    size = min(count, max(1, _CELLS_AT_ONCE // len(ends)))
    for start in range(0, count, size):
        inside = (group >= start) & (group < start + size) & (place < len(ends))
        code = (group[inside] - start) * len(ends) + place[inside]
        without = [
            whole - np.cumsum(np.bincount(part, minlength=size * len(ends)).reshape(size, -1), axis=1)
            for whole, part in ((hits, code[hit[inside]]), (picked, code))
        ]
        found.append(_stepwise(*without)[: count - start])
    return np.concatenate(found)


def _stepwise(hits: NDArray[np.int64], picked: NDArray[np.int64]) -> Floats:
    """Average precision ``(m,)`` from the positives and the examples up to each threshold ``(m, thresholds)``."""
    precision = np.divide(hits, picked, out=np.zeros(hits.shape), where=picked > 0)
    return np.asarray((np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1) / np.maximum(hits[:, -1], 1))


def _dealt(made: Examples) -> NDArray[np.int64]:
    """Groups of about equal size: whole clusters, or examples at random.

    Examples are put in an order that is their own, not the file's, and then dealt out by a fixed shuffle: dealt in the
    order of their scores, groups would be more alike than random ones and the error too small.
    """
    if made.clusters is not None:
        codes = np.unique(made.clusters, return_inverse=True)[1]
        return np.asarray(codes % _GROUPS, dtype=np.int64)
    keys = made.labels.T if made.labels.ndim == 2 else made.labels[None]
    order = np.lexsort((*np.atleast_2d(_scores(made).T), *keys))
    groups = np.empty(len(made), dtype=np.int64)
    groups[order] = np.random.default_rng(0).permutation(len(made)) % min(_GROUPS, len(made))
    return groups


def _smallest(made: Examples) -> float:
    """The trials that a perfect score stands on: the smaller side of each class, averaged as a mean over classes is."""
    sizes = np.array([min(positive.sum(), (~positive).sum()) for _, positive, _ in scored_classes(made)], dtype=float)
    return float(len(sizes) ** 2 / np.sum(1 / sizes))


# --- shared ------------------------------------------------------------------------------------------


def _scores(made: Examples) -> NDArray[np.floating]:
    assert made.scores is not None  # `table` asks no metric of scores where there are none
    return made.scores


def _ranks(made: Examples) -> NDArray[np.floating]:
    assert made.ranks is not None
    return made.ranks


def _ranked(on: Evidence) -> Ranked:
    made = on.examples
    found: Ranked = on.keep("ranked", lambda: ranked(made.labels, _ranks(made)))
    return found


def _if_few(order: Ranked) -> str:
    """What is said where the simulations do not bear out the level."""
    parts = auc_parts(order)
    assert parts is not None
    return "" if auc_supported(order.positives, order.negatives, parts.value) else "; too few: coverage not shown"


def _why(made: Examples) -> str:
    if made.task != "binary":
        return "undefined: no class has both positives and negatives"
    return f"undefined: 0 {'negatives' if np.any(made.labels == 1) else 'positives'}"


def _of_classes(each: str, made: Examples) -> str:
    """The method of a mean over classes, and what is said where the simulations do not bear out the level."""
    few = min(min(positive.sum(), (~positive).sum()) for _, positive, _ in scored_classes(made))
    over = " over clusters" if made.clusters is not None else ""
    said = f"; too few: a class has {few}, coverage was shown from {_LEAST_OF_CLASS}" if few < _LEAST_OF_CLASS else ""
    return f"{each}, joined over classes{over}{said}"


def _method(what: str, made: Examples) -> str:
    return f"effective n by {what}" + (" over clusters" if made.clusters is not None else "")


def _spread(value: float, effects: Floats, made: Examples) -> Spread:
    """The standard error of a value from its examples' effects, summed within clusters."""
    if made.clusters is not None:
        effects = np.asarray(np.bincount(np.unique(made.clusters, return_inverse=True)[1], effects), dtype=np.float64)
    n = len(effects)
    error = math.sqrt(n / (n - 1) * math.fsum(effects**2)) if n > 1 else math.inf
    error = error if error > _ROUNDING else 0.0
    return Spread(value=value, error=error, units=n, degrees=n - 1, clustered=made.clusters is not None)


def _difference(first: tuple[float, Floats], second: tuple[float, Floats], made: Examples) -> Spread:
    return _spread(first[0] - second[0], first[1] - second[1], made)


def _jackknifed_drop(of: Pair) -> Drop:
    """Both models without the same groups of examples."""
    groups = _dealt(of.before.examples)
    first, some = _macro_precisions(of.before.examples, groups)
    second, others = _macro_precisions(of.after.examples, groups)
    found = _jackknife(first - second, (some - others).mean(axis=0), of.n)
    return _drop_of_spread(found, of.n, f"Tango, effective counts by jackknife over {some.shape[1]} groups")


def _jackknife(value: float, without: Floats, n: int) -> Spread:
    """The standard error of a value on n examples from its values without each group; t with groups less one."""
    g = len(without)
    error = math.sqrt((g - 1) / g * math.fsum((without - without.mean()) ** 2)) if g > 1 else math.inf
    error = error if error > _ROUNDING else 0.0
    return Spread(value=value, error=error, units=n, degrees=g - 1, clustered=True)


def _drop_of_spread(found: Spread, n: int, method: str) -> Drop:
    def needed(limit: float, level: float) -> int | None:
        return _needed(found.value, found.error, limit, level, n)

    return Drop(
        value=found.value,
        interval=lambda level: drop_interval(found, reach=1.0, level=level),
        p_value=partial(drop_p_value, found, reach=1.0),
        needed=needed,
        method=method,
    )


def _p_of_interval(ends: Callable[[float], Ends], value: float, limit: float) -> float:
    """One-sided p of "the difference is at or beyond `limit`": from the level whose end just reaches it."""
    if abs(limit) >= 1:
        return 0.0 if limit > 0 else 1.0
    under = value < limit
    low, high = -12.0, math.log10(0.5)  # of the tail's probability
    for _ in range(_LEAST * 2):
        middle = (low + high) / 2
        found = ends(1 - 2 * 10**middle)
        reached = found[1] >= limit if under else found[0] <= limit
        low, high = (middle, high) if reached else (low, middle)
    p = 10 ** ((low + high) / 2)
    return p if under else 1 - p


def _needed(value: float, error: float, limit: float, level: float, n: int) -> int | None:
    gap = limit - value
    if gap <= 1e-12 or not math.isfinite(error):
        return None
    return max(1, math.ceil(n * (normal_critical(level) * error / gap) ** 2))
