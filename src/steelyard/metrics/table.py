"""The metric table: every metric by name, with its task, range, direction and family, and the questions asked of it.

>>> from steelyard.metrics.examples import binary
>>> found = estimates(binary([0, 0, 1, 1, 1], [0.2, 0.6, 0.7, 0.9, 0.4]), ["recall", "precision"])
>>> [(e.quantity, round(e.value, 3), round(e.low, 3), round(e.high, 3)) for e in found]
[('recall', 0.667, 0.208, 0.939), ('precision', 0.667, 0.208, 0.939)]

A name may carry a number or a class: ``top5_accuracy``, ``f0.5``, ``macro_f2``, ``recall@10``, ``recall[cat]``. Where a
task has no metric of exactly that name but has its average over classes, the short name means the average: ``f1`` of
several classes is ``macro_f1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import Examples, Undefined
from steelyard.metrics.families import Drop, Evidence, Pair, Sums, Table
from steelyard.metrics.rows import DEFAULTS, FORMS, STATIC, Metric, parametric
from steelyard.records import Estimate, MetricInfo, Task, Unavailable
from steelyard.stats.bootstrap import TableStatistic

__all__ = [
    "Metric",
    "defaults",
    "drop",
    "drop_estimate",
    "estimate",
    "estimates",
    "evidence",
    "expect",
    "find",
    "info",
    "names",
    "pair",
    "quality",
]

# --- finding -----------------------------------------------------------------------------------------------


def defaults(task: Task) -> tuple[str, ...]:
    """The metrics that a task is judged by where none are named, the commonest first."""
    return DEFAULTS[task]


@lru_cache(maxsize=4096)
def find(name: str, task: Task, classes: tuple[str, ...] = ()) -> Metric:
    """The metric of that name. Raises `InvalidInput`, with the nearest names, where the task has none.

    >>> find("f1", "multiclass").name, find("f1", "binary").name, find("top3_accuracy", "multiclass").title
    ('macro_f1', 'f1', 'Accuracy, top 3')
    """
    word = name.strip().lower().replace("-", "_")
    known = STATIC[task]
    found = known.get(word) or known.get(f"macro_{word}") or parametric(name.strip(), word, task, classes)
    if found is None:
        names = (*known, *FORMS.get(task, ()))
        near = get_close_matches(word, names, 3, 0.5)
        raise InvalidInput(
            f"{task} predictions have no metric {name!r}; {'nearest' if near else 'known'}: {', '.join(near or names)}"
        )
    return found


def quality(name: str) -> Metric | None:
    """The metric of classes by that name, whatever their number, or None: for words read before the data."""
    tasks: tuple[Task, ...] = ("binary", "multiclass")
    word, _, rest = name.partition("[")
    named = (rest.rstrip("]"),) if word in ("precision", "recall", "f1", "specificity") and rest else ()
    for task in tasks:
        try:
            return find(name, task, named)
        except InvalidInput:
            continue
    return None


def names() -> tuple[str, ...]:
    """Every metric of classes that has a plain name."""
    return tuple(dict.fromkeys((*STATIC["multiclass"], *STATIC["binary"])))


def info(metric: Metric, *, leads: bool = False) -> MetricInfo:
    """The row's words, range and direction as a record."""
    return MetricInfo(
        name=metric.name,
        title=metric.title,
        unit=metric.unit,
        low=metric.low,
        high=metric.high,
        higher_is_better=metric.higher_is_better,
        leads=leads,
    )


# --- asking ------------------------------------------------------------------------------------------------


def evidence(examples: Examples, metrics: Sequence[Metric]) -> Evidence:
    """Examples ready to be asked for these metrics; those that need resampling share it."""
    return Evidence(examples, _statistics(metrics, examples))


def expect(of: Evidence, metrics: Sequence[Metric]) -> None:
    """Let these metrics, which will be asked for too, share their resampling."""
    of.expect(_statistics(metrics, of.examples))


def pair(before: Examples, after: Examples, metrics: Sequence[Metric]) -> Pair:
    """Two models on the same examples, ready to be compared on these metrics.

    Raises `InvalidInput` where the labels are not the same ones in the same order.
    """
    return Pair(before, after, _statistics(metrics, before))


def _statistics(metrics: Sequence[Metric], examples: Examples) -> tuple[TableStatistic, ...]:
    """Those that are resampled: plain shares only where examples share a source."""
    tables = (m.family for m in metrics if isinstance(m.family, Table))
    return tuple(t.statistic for t in tables if not t.share or examples.clusters is not None)


def estimate(of: Evidence, metric: Metric, level: float = 0.95) -> Estimate | Unavailable:
    """One metric of one model with its interval, or the reason why it has none."""
    try:
        _check_needs(metric, of.examples)
        value = metric.family.value(of)
        low, high, method = metric.family.interval(of, level)
    except Undefined as reason:
        return Unavailable(quantity=metric.name, reason=str(reason))
    return Estimate(
        quantity=metric.name,
        unit=metric.unit,
        value=value,
        low=min(low, value),
        high=max(high, value),
        level=level,
        method=method,
        n=_standing_on(metric, of),
    )


def _standing_on(metric: Metric, of: Evidence) -> int:
    """What the interval counts: the positives of a recall, the queries of a ranking, clusters; else all examples."""
    if isinstance(metric.family, Table):
        return round(metric.family.trials(of.margins)) if metric.family.share else of.n
    return metric.family.units_of(of) if isinstance(metric.family, Sums) else of.n


def estimates(examples: Examples, names: Sequence[str] = (), level: float = 0.95) -> tuple[Estimate | Unavailable, ...]:
    """Several metrics of one model, by name; without names the task's own."""
    rows = [find(name, examples.task, examples.classes) for name in (names or defaults(examples.task))]
    of = evidence(examples, rows)
    return tuple(estimate(of, row, level) for row in rows)


def drop(of: Pair, metric: Metric) -> Drop | Unavailable:
    """How much worse the second model is on the same examples: positive is always worse."""
    asked = of if metric.higher_is_better else of.swapped
    try:
        for side in (of.before, of.after):
            _check_needs(metric, side.examples)
        return metric.family.drop(asked)
    except Undefined as reason:
        return Unavailable(quantity=f"{metric.name}_drop", reason=str(reason))


def drop_estimate(of: Pair, metric: Metric, level: float = 0.95) -> Estimate | Unavailable:
    """:func:`drop` as an estimate with its interval; the quantity is named ``NAME_drop``."""
    found = drop(of, metric)
    if isinstance(found, Unavailable):
        return found
    low, high = found.interval(level)
    return Estimate(
        quantity=f"{metric.name}_drop",
        unit=metric.unit,
        value=found.value,
        low=min(low, found.value),
        high=max(high, found.value),
        level=level,
        method=found.method,
        n=of.n,
    )


def _check_needs(metric: Metric, examples: Examples) -> None:
    """Raise `Undefined` where the examples lack what the metric reads."""
    if metric.needs == "predicted":
        if examples.predicted is None:
            raise Undefined("needs predicted classes")
        return
    if metric.needs != "scores" and not examples.calibrated:
        raise Undefined("needs probabilities, and the scores were declared to rank only")
    if examples.scores is None and (examples.p_true is None or metric.needs != "p_true"):
        given = "predicted classes" if examples.p_true is None else "the true class's probabilities"
        raise Undefined(f"needs the scores of all classes, and only {given} were kept")
