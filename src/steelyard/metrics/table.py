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

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics import classification as c
from steelyard.metrics.examples import Examples, Undefined
from steelyard.metrics.families import Drop, Evidence, Family, Pair, Sums, Table, all_examples
from steelyard.records import Estimate, MetricInfo, Task, Unavailable
from steelyard.stats.bootstrap import Margins, TableStatistic

__all__ = [
    "Metric",
    "defaults",
    "drop",
    "drop_estimate",
    "estimate",
    "estimates",
    "evidence",
    "find",
    "info",
    "names",
    "pair",
    "quality",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Trials = Callable[[Examples], tuple[Bools, Bools]]  # which examples count, and which of all succeed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One row of the table."""

    name: str
    title: str
    family: Family
    unit: str = "fraction"
    low: float = 0.0  # the smallest possible value
    high: float = 1.0  # the largest
    higher_is_better: bool = True
    needs: str = "predicted"  # predicted | scores | probabilities
    undefined: str = ""  # when it has no value, in words


# --- rows: classes ----------------------------------------------------------------------------------------


def _mean(name: str, title: str, statistic: TableStatistic) -> Metric:
    """A mean over classes."""
    return Metric(name=name, title=title, family=Table(name=name, statistic=statistic))


def _share(
    name: str,
    title: str,
    statistic: TableStatistic,
    trials: Callable[[Margins], float] = all_examples,
    right: Trials | None = None,
    *,
    higher_is_better: bool = True,
    undefined: str = "",
) -> Metric:
    """A share of counted examples."""
    family = Table(name=name, statistic=statistic, trials=trials, share=True, right=right, why=undefined)
    return Metric(name=name, title=title, family=family, higher_is_better=higher_is_better, undefined=undefined)


def _right(made: Examples) -> tuple[Bools, Bools]:
    return np.ones(len(made), dtype=np.bool_), np.asarray(made.predicted == made.labels)


def _wrong(made: Examples) -> tuple[Bools, Bools]:
    return np.ones(len(made), dtype=np.bool_), np.asarray(made.predicted != made.labels)


def _found(made: Examples, which: int) -> tuple[Bools, Bools]:
    return np.asarray(made.labels == which), np.asarray(made.predicted == which)


def _spared(made: Examples, which: int) -> tuple[Bools, Bools]:
    return np.asarray(made.labels != which), np.asarray(made.predicted != which)


_ONE_CLASS = "all labels, or all predictions, are of one class"

_CLASSES = (
    _share("accuracy", "Accuracy", c.accuracy, right=_right),
    _share("error_rate", "Error rate", c.error_rate, right=_wrong, higher_is_better=False),
    _mean("balanced_accuracy", "Balanced accuracy", c.balanced_accuracy),
    _mean("macro_precision", "Precision, macro", c.macro_precision),
    _mean("macro_recall", "Recall, macro", c.macro_recall),
    _mean("macro_f1", "F1, macro", c.macro_f),
    _mean("weighted_precision", "Precision, weighted", c.weighted_precision),
    _share("weighted_recall", "Recall, weighted", c.accuracy, right=_right),
    _mean("weighted_f1", "F1, weighted", c.weighted_f),
    _share("micro_precision", "Precision, micro", c.accuracy, right=_right),
    _share("micro_recall", "Recall, micro", c.accuracy, right=_right),
    _share("micro_f1", "F1, micro", c.accuracy, right=_right),
    Metric(
        name="mcc",
        title="Matthews correlation",
        family=Table(name="mcc", statistic=c.matthews, trials=all_examples, low=-1.0, why=_ONE_CLASS),
        unit="correlation",
        low=-1.0,
        undefined=_ONE_CLASS,
    ),
)


def _f_beta(name: str, title: str, beta: float, which: int) -> Metric:
    why = "0 positives and 0 predicted positives"
    family = Table(
        name=name,
        statistic=partial(c.class_f, which=which, beta=beta),
        trials=lambda m: float(m.actual[which] + m.predicted[which]) / 2,
        why=why,
    )
    return Metric(name=name, title=title, family=family, undefined=why)


def _of_class(which: int, key: str = "") -> tuple[Metric, ...]:
    """Precision, recall, F1 and specificity of one class; `key` names it where there are others."""
    tag, of = (f"[{key}]", f" of {key}") if key else ("", "")
    return (
        _share(
            f"precision{tag}", f"Precision{of}", partial(c.class_precision, which=which),
            lambda m: float(m.predicted[which]), undefined="0 predicted positives",
        ),
        _share(
            f"recall{tag}", f"Recall{of}", partial(c.class_recall, which=which),
            lambda m: float(m.actual[which]), partial(_found, which=which), undefined="0 positives",
        ),
        _f_beta(f"f1{tag}", f"F1{of}", 1.0, which),
        _share(
            f"specificity{tag}", f"Specificity{of}", partial(c.specificity, which=which),
            lambda m: float(m.actual.sum() - m.actual[which]), partial(_spared, which=which),
            undefined="0 negatives",
        ),
    )  # fmt: skip


# --- rows: losses ------------------------------------------------------------------------------------------


def _losses(made: Examples) -> Floats:
    """Per-example loss and one."""
    return _with_ones(c.log_losses(_p_true(made)))


def _p_true(made: Examples) -> NDArray[np.floating]:
    if made.p_true is not None:
        return made.p_true
    if made.scores is None:
        raise Undefined("needs probabilities, and only predicted classes were given")
    if made.task == "binary":
        return np.where(made.labels == 1, made.scores, 1 - made.scores)
    return np.asarray(made.scores[np.arange(len(made)), made.labels])


def _hits(made: Examples, k: int) -> Floats:
    assert made.scores is not None
    return _with_ones(c.top_k_hits(made.scores, made.labels, k).astype(np.float64))


def _with_ones(terms: Floats) -> Floats:
    return np.stack([terms, np.ones(len(terms))], axis=1)


def _ratio(totals: Floats) -> Floats:
    """The first sum over the second: a mean."""
    return np.asarray(totals[..., 0] / totals[..., 1])


def _never(_: Examples) -> str:
    return "undefined: no examples"


_LOG_LOSS = Metric(
    name="log_loss",
    title="Log-loss",
    family=Sums(name="log_loss", terms=_losses, of_sums=_ratio, why=_never, high=c.LARGEST_LOSS, scale="plain"),
    unit="nat",
    high=c.LARGEST_LOSS,
    higher_is_better=False,
    needs="probabilities",
)


def _top(k: int) -> Metric:
    name = f"top{k}_accuracy"
    family = Sums(name=name, terms=partial(_hits, k=k), of_sums=_ratio, why=_never, high=1.0)
    return Metric(name=name, title=f"Accuracy, top {k}", family=family, needs="scores")


# --- finding -----------------------------------------------------------------------------------------------

_STATIC: Mapping[Task, Mapping[str, Metric]] = MappingProxyType(
    {
        "binary": {m.name: m for m in (*_CLASSES, *_of_class(1), _LOG_LOSS)},
        "multiclass": {m.name: m for m in (*_CLASSES, _LOG_LOSS)},
    }
)

_DEFAULTS: Mapping[Task, tuple[str, ...]] = {
    "binary": (
        "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "log_loss",
    ),
    "multiclass": (
        "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1", "mcc", "log_loss",
    ),
}  # fmt: skip


def defaults(task: Task) -> tuple[str, ...]:
    """The metrics that a task is judged by where none are named, the commonest first."""
    return _DEFAULTS[task]


@lru_cache(maxsize=4096)
def find(name: str, task: Task, classes: tuple[str, ...] = ()) -> Metric:
    """The metric of that name. Raises `InvalidInput`, with the nearest names, where the task has none.

    >>> find("f1", "multiclass").name, find("f1", "binary").name, find("top3_accuracy", "multiclass").title
    ('macro_f1', 'f1', 'Accuracy, top 3')
    """
    word = name.strip().lower().replace("-", "_")
    known = _STATIC[task]
    found = known.get(word) or known.get(f"macro_{word}") or _parametric(name.strip(), word, task, classes)
    if found is None:
        names = (*known, "f0.5", "f2", *(("top5_accuracy", "recall[CLASS]") if task == "multiclass" else ()))
        near = get_close_matches(word, names, 3, 0.5)
        raise InvalidInput(
            f"{task} predictions have no metric {name!r}; {'nearest' if near else 'known'}: {', '.join(near or names)}"
        )
    return found


def _parametric(name: str, word: str, task: Task, classes: tuple[str, ...]) -> Metric | None:
    if task not in ("binary", "multiclass"):
        return None
    if match := re.fullmatch(r"(macro_|weighted_)?f(\d+(?:\.\d+)?)", word):
        return _any_beta(match[1] or ("" if task == "binary" else "macro_"), float(match[2]))
    if match := re.fullmatch(r"top_?(\d+)(?:_accuracy)?", word):
        return _top(int(match[1])) if int(match[1]) >= 1 else None
    if match := re.fullmatch(r"(precision|recall|f1|specificity)\[(.+)\]", name, re.IGNORECASE):
        if match[2] not in classes:
            raise InvalidInput(f"{name}: there is no class {match[2]!r}; classes: {', '.join(classes[:20])}")
        rows = {m.name.partition("[")[0]: m for m in _of_class(classes.index(match[2]), match[2])}
        return rows[match[1].lower()]
    return None


def _any_beta(average: str, beta: float) -> Metric | None:
    if not beta > 0:
        return None
    name = f"{average}f{beta:g}"
    if not average:
        return _f_beta(name, f"F{beta:g}", beta, 1)
    statistic = partial(c.macro_f if average == "macro_" else c.weighted_f, beta=beta)
    return _mean(name, f"F{beta:g}, {average.rstrip('_')}", statistic)


def quality(name: str) -> Metric | None:
    """The metric of classes by that name, whatever their number, or None: for words read before the data."""
    tasks: tuple[Task, ...] = ("binary", "multiclass")
    for task in tasks:
        try:
            return find(name, task)
        except InvalidInput:
            continue
    return None


def names() -> tuple[str, ...]:
    """Every metric of classes that has a plain name."""
    return tuple(dict.fromkeys((*_STATIC["multiclass"], *_STATIC["binary"])))


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
    return Evidence(examples, _statistics(metrics))


def pair(before: Examples, after: Examples, metrics: Sequence[Metric]) -> Pair:
    """Two models on the same examples, ready to be compared on these metrics.

    Raises `InvalidInput` where the labels are not the same ones in the same order.
    """
    return Pair(before, after, _statistics(metrics))


def _statistics(metrics: Sequence[Metric]) -> tuple[TableStatistic, ...]:
    return tuple(m.family.statistic for m in metrics if isinstance(m.family, Table) and not m.family.share)


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
        n=len(of.examples),
    )


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
    if metric.needs == "predicted":
        if examples.predicted is None:
            raise Undefined("needs predicted classes")
    elif examples.scores is None and examples.p_true is None:
        raise Undefined(f"needs {metric.needs}, and only predicted classes were given")
    elif metric.needs == "probabilities" and not examples.calibrated:
        raise Undefined("needs probabilities, and the scores were declared to rank only")
    elif metric.needs == "scores" and examples.scores is None:
        raise Undefined("needs the scores of all classes, and only that of the true class was kept")
