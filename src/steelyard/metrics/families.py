"""Families of metrics: how a value, its interval and a paired drop are made from examples.

``Table``   metrics of hard predictions. A share of counted examples (accuracy, recall) has Wilson's interval, paired
            Tango's. For the others the variance ``v`` comes from 2,000 multinomial resamples of the confusion table and
            gives an effective number of examples ``m (1 - m) / v`` (at most n), used in Wilson's interval around the
            metric ``m``. Paired, the joint table of (label, before, after) is resampled, and the variance of the
            difference gives effective discordant counts for Tango's interval. For accuracy both recipes give back
            Wilson and Tango. Where nothing varies (a perfect score, no changed prediction) the bootstrap is degenerate and
            the effective number is ``k^2 / sum(1 / n_i)`` over the k class sizes: n for classes of equal size, fewer where
            rare classes carry weight. With clusters, whole clusters are drawn.
``Sums``    metrics of sums of per-example terms: `steelyard.stats.sums`.

Each family answers from an `Evidence` or a `Pair`, which keep what several metrics share: counts, resamples, sorted scores.
Results depend on the multiset of examples, not on their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from threading import RLock
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import Examples, Undefined
from steelyard.records import Task
from steelyard.stats.bootstrap import (
    Cells,
    Margins,
    TableStatistic,
    clustered_confusion_bootstrap,
    confusion_bootstrap,
    paired_confusion_bootstrap,
    resamples_for,
)
from steelyard.stats.proportion import examples_needed, tango, tango_z, wilson
from steelyard.stats.quantiles import normal_critical
from steelyard.stats.sums import (
    Scale,
    Spread,
    Value,
    difference,
    drop_interval,
    drop_p_value,
    interval,
    scale_of,
    side_by_side,
    spread,
    sums,
)

__all__ = ["Drop", "Evidence", "Family", "Pair", "Sums", "Table"]

Floats = NDArray[np.float64]
Ends = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """How much higher a metric is before than after, and everything that follows from its one statistic."""

    value: float
    interval: Callable[[float], Ends]  # level -> (low, high)
    p_value: Callable[[float], float]  # limit -> one-sided p of "the difference is at or beyond it"
    needed: Callable[[float, float], int | None]  # (limit, level) -> examples that would show it to be under the limit
    method: str


class Family(Protocol):
    """How one kind of metric answers."""

    def value(self, on: Evidence) -> float:
        """The metric's value. Raises `Undefined` with the reason where it has none."""
        ...

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        """Both ends, and the method in words."""
        ...

    def drop(self, of: Pair) -> Drop:
        """``before - after`` on the same examples."""
        ...


class Evidence:
    """One model's examples with what its metrics share, each made once, when it is first asked for by any thread."""

    def __init__(self, examples: Examples, statistics: Sequence[TableStatistic] = ()) -> None:
        if not len(examples):
            raise InvalidInput("there are no examples to measure quality on")
        self.examples = examples
        self._statistics = tuple(statistics)
        self._draws: dict[TableStatistic, Floats] = {}
        self._kept: dict[Any, Any] = {}
        self._locks: dict[Any, RLock] = {}

    @classmethod
    def counted(cls, cells: Cells, classes: tuple[str, ...]) -> Evidence:
        """Of examples that passed by and left a confusion table only: enough for every metric of hard predictions."""
        found = cls.__new__(cls)
        nobody = np.empty(0, dtype=np.int8)
        task: Task = "binary" if len(classes) == 2 else "multiclass"
        found.examples = Examples(task=task, labels=nobody, predicted=nobody, classes=classes)
        found._statistics, found._draws, found._kept, found._locks = (), {}, {}, {}
        found.__dict__["cells"] = cells
        return found

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(self.examples) or self.cells.n

    @cached_property
    def cells(self) -> Cells:
        """The confusion table's cells."""
        made = self.examples
        assert made.predicted is not None
        return Cells.counted(made.labels, made.predicted, len(made.classes))

    @cached_property
    def margins(self) -> Margins:
        """The confusion table's diagonal and margins."""
        return self.cells.margins()

    def draws(self, statistic: TableStatistic) -> Floats:
        """The statistic on resampled tables; all the statistics that are expected share the tables."""
        with self._locks.setdefault("draws", RLock()):
            if statistic not in self._draws:
                expected = tuple(s for s in self._statistics if s not in self._draws)
                wanted = expected if statistic in expected else (statistic,)
                self._draws |= dict(zip(wanted, self._resampled(wanted), strict=True))
            return self._draws[statistic]

    def expect(self, statistics: Sequence[TableStatistic]) -> None:
        """Resample for these together, once the first of them is asked for."""
        self._statistics = tuple(dict.fromkeys((*self._statistics, *statistics)))

    def _resampled(self, statistics: Sequence[TableStatistic]) -> Floats:
        made, cells = self.examples, self.cells
        resamples = resamples_for(len(cells.counts))
        if made.clusters is None:
            return confusion_bootstrap(cells, statistics, resamples, stratified=made.stratified)
        assert made.predicted is not None
        return clustered_confusion_bootstrap(
            made.labels, made.predicted, made.clusters, len(made.classes), statistics, resamples
        )

    def keep(self, name: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once under this name."""
        with self._locks.setdefault(name, RLock()):
            if name not in self._kept:
                self._kept[name] = make()
            return self._kept[name]


class Pair:
    """Two models on the same examples, in the same order."""

    def __init__(self, before: Examples, after: Examples, statistics: Sequence[TableStatistic] = ()) -> None:
        same = before.classes == after.classes and np.array_equal(before.labels, after.labels)
        if not same:
            raise InvalidInput(
                f"a paired comparison needs the same examples in the same order; got {len(before)} labels of "
                f"{len(before.classes)} classes and {len(after)} other ones of {len(after.classes)}"
            )
        self.before, self.after = Evidence(before, statistics), Evidence(after, statistics)
        self._statistics = tuple(statistics)
        self._draws: dict[TableStatistic, Floats] = {}

    @cached_property
    def swapped(self) -> Pair:
        """The same with the roles exchanged: for metrics that are better when lower, a drop is a rise."""
        return Pair(self.after.examples, self.before.examples, self._statistics)

    @property
    def n(self) -> int:
        """How many examples both answered."""
        return len(self.before.examples)

    def changes(self, statistic: TableStatistic) -> Floats:
        """``before - after`` of the statistic on resampled examples, the same ones for both models."""
        if statistic not in self._draws:
            wanted = self._statistics if statistic in self._statistics else (statistic,)
            first, second = self._resampled(wanted)
            self._draws |= dict(zip(wanted, first - second, strict=True))
        return self._draws[statistic]

    def _resampled(self, statistics: Sequence[TableStatistic]) -> Floats:
        before, after = self.before.examples, self.after.examples
        assert before.predicted is not None
        assert after.predicted is not None
        cells = max(len(self.before.cells.counts), len(self.after.cells.counts))
        return paired_confusion_bootstrap(
            before.labels,
            before.predicted,
            after.predicted,
            len(before.classes),
            statistics,
            resamples_for(cells),
            clusters=before.clusters,
            stratified=before.stratified,
        )


# --- hard predictions --------------------------------------------------------------------------------


def all_examples(counts: Margins) -> float:
    """Every example is one trial."""
    return float(counts.actual.sum())


def even_classes(counts: Margins) -> float:
    """Examples that a mean over classes is worth when every class has the same error rate."""
    sizes = counts.actual[counts.actual > 0]
    return float(len(sizes) ** 2 / np.sum(1 / sizes))


def always_wrong(counts: Margins) -> float:
    """Matthews' correlation of answers to k classes of equal size that are all wrong, evenly: ``-1 / (k - 1)``.

    From there to 1 it is the accuracy of even answers to even classes, and its interval is then Wilson's.
    """
    classes = int(np.count_nonzero((counts.actual > 0) | (counts.predicted > 0)))
    return -1 / max(1, classes - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A metric of the confusion table; `trials` says how many examples a score without spread stands on."""

    name: str
    statistic: TableStatistic
    trials: Callable[[Margins], float] = even_classes
    share: bool = False  # the value is a plain share of the trials, so nothing need be resampled
    right: Callable[[Examples], tuple[NDArray[np.bool_], NDArray[np.bool_]]] | None = None  # (trials, which succeed)
    why: str = "no class has labels"  # when it has no value
    least: int = 0  # examples of the smallest class below which the interval's coverage was not shown
    low: float = 0.0
    high: float = 1.0
    origin: Callable[[Margins], float] | None = None  # where Wilson's share starts; at the low end of the range

    def value(self, on: Evidence) -> float:
        found = float(self.statistic(on.margins))
        if math.isnan(found):
            raise Undefined(f"undefined: {self.why}")
        return found

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        value = self.value(on)
        start = self._start(on, value)
        reach = self.high - start
        share = min(1.0, max(0.0, (value - start) / reach))
        size = self._size(on, share, reach)
        low, high = wilson(share * size, size, level)
        return start + reach * low, start + reach * high, self._method(on)

    def drop(self, of: Pair) -> Drop:
        b, c, size = self._discordance(of)
        reach = self.high - self.low

        def p_value(limit: float) -> float:
            if abs(limit) >= reach:
                return 0.0 if limit > 0 else 1.0
            return float(ndtr(tango_z(b, c, size, limit / reach)))

        def needed(limit: float, level: float) -> int | None:
            found = examples_needed(b, c, size, min(limit / reach, 1.0), level)
            return None if found is None else math.ceil(found * of.n / size)

        def ends(level: float) -> Ends:
            low, high = tango(b, c, size, level)
            return reach * low, reach * high

        value = self.value(of.before) - self.value(of.after)
        return Drop(value=value, interval=ends, p_value=p_value, needed=needed, method=self._paired_method(of))

    def _start(self, on: Evidence, value: float) -> float:
        """Where the value is a share from; values below the origin are shares of the whole range."""
        start = self.low if self.origin is None else self.origin(on.margins)
        return start if value >= start else self.low

    def _size(self, on: Evidence, share: float, reach: float) -> float:
        """The number of examples in Wilson's interval: counted, or effective."""
        most = self.trials(on.margins)
        if self.share and on.examples.clusters is None:
            return most
        variance = _variance(on.draws(self.statistic)) / reach**2
        if variance == 0 or not 0 < share < 1:
            return _clustered_size(most, on.examples)
        return min(float(on.cells.n), share * (1 - share) / variance)

    def _method(self, on: Evidence) -> str:
        if on.examples.clusters is not None:
            return "Wilson, effective n by bootstrap of clusters"
        if self.share:
            return "Wilson"
        sizes = on.margins.actual
        smallest = int(sizes[sizes > 0].min())
        few = (
            f"; too few: a class has {smallest}, coverage was shown from {self.least}" if smallest < self.least else ""
        )
        return f"Wilson, effective n by {'stratified ' if on.examples.stratified else ''}bootstrap{few}"

    def _paired_method(self, of: Pair) -> str:
        if self._counted(of):
            return "Tango"
        whose = " of clusters" if of.before.examples.clusters is not None else ""
        return f"Tango, effective counts by paired bootstrap{whose}"

    def _counted(self, of: Pair) -> bool:
        """Whether both are shares of the same examples, so that discordant ones can be counted: accuracy, recall."""
        return self.right is not None and of.before.examples.clusters is None

    def _discordance(self, of: Pair) -> tuple[float, float, float]:
        """Discordant counts and size ``(b, c, n)``: counted, or effective.

        Effective counts solve ``(b - c) / n = d`` and ``(b + c) / n - d^2 = n v`` for the drop d and its variance v, as
        observed counts do for accuracy.
        """
        if self.right is not None and self._counted(of):
            return _discordant_counts(self.right, of)
        first, second = self.value(of.before), self.value(of.after)
        reach = self.high - self.low
        size = _clustered_size(min(self.trials(of.before.margins), self.trials(of.after.margins)), of.before.examples)
        drop = (first - second) / reach
        variance = _variance(of.changes(self.statistic)) / reach**2
        rate = min(1.0, max(abs(drop), variance * size + drop * drop))
        return size * (rate + drop) / 2, size * (rate - drop) / 2, size


def _discordant_counts(
    right: Callable[[Examples], tuple[NDArray[np.bool_], NDArray[np.bool_]]], of: Pair
) -> tuple[float, float, float]:
    trials, first = right(of.before.examples)
    _, second = right(of.after.examples)
    n = int(trials.sum())
    return int((trials & first & ~second).sum()), int((trials & second & ~first).sum()), float(n)


def _variance(draws: Floats) -> float:
    """The variance of the draws in which the metric is defined."""
    kept = draws[np.isfinite(draws)]
    return float(kept.var()) if len(kept) > 1 else 0.0


def _clustered_size(most: float, examples: Examples) -> float:
    """No more trials than clusters, where examples share a source."""
    return most if examples.clusters is None else min(most, float(len(np.unique(examples.clusters))))


# --- sums of terms -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """A metric that is a function of sums of per-example terms ``(n, m)``."""

    name: str
    terms: Callable[[Examples], Floats]
    of_sums: Value
    why: Callable[[Examples], str]  # the reason where it is undefined
    low: float = 0.0
    high: float = math.inf
    scale: Scale | None = None
    units: Literal["examples", "queries", "documents"] = "examples"
    trials: Callable[[Floats], float] | None = None  # of the sums: what a value without spread stands on

    def value(self, on: Evidence) -> float:
        found = float(self.of_sums(self._sums(on)))
        if math.isnan(found):
            raise Undefined(self.why(on.examples))
        return found

    def interval(self, on: Evidence, level: float) -> tuple[float, float, str]:
        self.value(on)
        of = self._spread(on)
        size = None if self.trials is None else self.trials(self._sums(on))
        low, high = interval(of, low=self.low, high=self.high, level=level, scale=self.scale, size=size)
        return low, high, self._method(on.examples)

    def drop(self, of: Pair) -> Drop:
        self.value(of.before), self.value(of.after)
        both = side_by_side(self._terms(of.before), self._terms(of.after))
        found = spread(both, difference(self.of_sums), clusters=self._clusters(of.before.examples))
        reach = self.high - self.low

        def needed(limit: float, level: float) -> int | None:
            gap = limit - found.value
            if gap <= 0:
                return None
            if found.error == 0:
                return (
                    examples_needed(0, 0, found.units, min(1.0, limit / reach), level) if math.isfinite(reach) else None
                )
            return math.ceil((normal_critical(level) * found.error / gap) ** 2 * found.units)

        plain = self.scale == "plain"
        return Drop(
            value=found.value,
            interval=partial(_drop_ends, found, reach, plain),
            p_value=partial(_drop_p, found, reach, plain),
            needed=needed,
            method=f"paired {self._method(of.before.examples)}",
        )

    def units_of(self, on: Evidence) -> int:
        """How many units vary independently: examples, queries, or clusters of them."""
        return self._spread(on).units

    def _terms(self, on: Evidence) -> Floats:
        kept: Floats = on.keep((self.terms, "terms"), lambda: self.terms(on.examples))
        return kept

    def _sums(self, on: Evidence) -> Floats:
        kept: Floats = on.keep((self.terms, "sums"), lambda: sums(self._terms(on)))
        return kept

    def _spread(self, on: Evidence) -> Spread:
        made = on.examples
        strata = made.labels if made.stratified and made.labels.ndim == 1 and made.clusters is None else None
        found: Spread = on.keep(
            (self.name, "spread"),
            lambda: spread(
                self._terms(on),
                self.of_sums,
                clusters=self._clusters(made),
                strata=strata,
                at=self._sums(on),
                jump=False,
            ),
        )
        return found

    def _clusters(self, examples: Examples) -> NDArray[np.int64] | None:
        """The units that vary independently: given clusters, for rankings those of the queries."""
        if self.units != "queries" or examples.clusters is None or examples.queries is None:
            return examples.clusters
        first = np.unique(examples.queries, return_index=True)[1]
        return np.asarray(examples.clusters[first])

    def _method(self, examples: Examples) -> str:
        scale = self.scale or scale_of(self.low, self.high)
        whose = "clusters" if examples.clusters is not None else self.units
        over = "" if whose == "examples" else f" over {whose}"
        return f"{_WORDS[scale]}{over}"


_WORDS: dict[Scale, str] = {
    "score": "Wilson, effective n by jackknife",
    "log": "t on the logarithm, jackknife",
    "complement_log": "t on log(1 - value), jackknife",
    "plain": "t",
}


def _drop_ends(found: Spread, reach: float, plain: bool, level: float) -> Ends:
    if plain and found.error > 0 and found.degrees > 0:
        low, high = drop_interval(found, level=level)
        return max(-reach, low), min(reach, high)
    return drop_interval(found, reach=reach, level=level)


def _drop_p(found: Spread, reach: float, plain: bool, limit: float) -> float:
    if plain and found.error > 0 and found.degrees > 0:
        return drop_p_value(found, limit)
    return drop_p_value(found, limit, reach=reach)
