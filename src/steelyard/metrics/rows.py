"""The rows of the metric table: one for each metric, and how those with a number or a class in their name are made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics import calibration, language, losses, multilabel, ranking, regression
from steelyard.metrics import classification as c
from steelyard.metrics.areas import Auc, AveragePrecision, CalibrationGap, MacroAuc, MacroAveragePrecision
from steelyard.metrics.examples import Examples
from steelyard.metrics.families import Family, Sums, Table, all_examples, always_wrong
from steelyard.metrics.threshold import Costs, parse_costs
from steelyard.records import Task
from steelyard.stats.bootstrap import Margins, TableStatistic
from steelyard.stats.sums import Scale, Value, mean, mean_terms, sums

__all__ = ["DEFAULTS", "FORMS", "STATIC", "Metric", "mean_cost", "parametric"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Units = Literal["examples", "queries", "documents"]
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
    needs: str = "predicted"  # predicted | scores | probabilities | p_true, that of the true class alone
    undefined: str = ""  # when it has no value, in words


# --- rows: classes ----------------------------------------------------------------------------------------


def _mean(name: str, title: str, statistic: TableStatistic, least: int = 10) -> Metric:
    """A mean over classes."""
    return Metric(name=name, title=title, family=Table(name=name, statistic=statistic, least=least))


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
    _mean("balanced_accuracy", "Balanced accuracy", c.balanced_accuracy, least=40),
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
        family=Table(
            name="mcc", statistic=c.matthews, trials=all_examples, low=-1.0, origin=always_wrong, why=_ONE_CLASS
        ),
        unit="",
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


# --- rows: scores ------------------------------------------------------------------------------------------

_ONE_SIDE = "0 positives, or 0 negatives"
_AREAS = (
    Metric(name="roc_auc", title="AUC-ROC", family=Auc(), needs="scores", undefined=_ONE_SIDE),
    Metric(name="average_precision", title="AUC-PR", family=AveragePrecision(), needs="scores", undefined=_ONE_SIDE),
)
_NO_CLASS = "no class has both positives and negatives"
_MACRO_AREAS = (
    Metric(name="macro_roc_auc", title="AUC-ROC, macro", family=MacroAuc(), needs="scores", undefined=_NO_CLASS),
    Metric(
        name="macro_average_precision",
        title="AUC-PR, macro",
        family=MacroAveragePrecision(),
        needs="scores",
        undefined=_NO_CLASS,
    ),
)


def _sums(
    name: str,
    title: str,
    terms: Callable[[Examples], Floats],
    value: Value = mean,
    *,
    why: Callable[[Examples], str] = lambda _: "undefined: no examples",
    low: float = 0.0,
    high: float = 1.0,
    scale: Scale | None = None,
    unit: str = "fraction",
    higher_is_better: bool = True,
    needs: str = "predicted",
    undefined: str = "",
    units: Units = "examples",
    trials: Callable[[Floats], float] | None = None,
) -> Metric:
    """A metric of sums of per-example terms."""
    family = Sums(
        name=name, terms=terms, of_sums=value, why=why, low=low, high=high, scale=scale, units=units, trials=trials
    )
    return Metric(
        name=name,
        title=title,
        family=family,
        unit=unit,
        low=low,
        high=high,
        higher_is_better=higher_is_better,
        needs=needs,
        undefined=undefined,
    )


def _p_true(made: Examples) -> NDArray[np.floating]:
    if made.p_true is not None:
        return made.p_true
    assert made.scores is not None
    if made.task == "binary":
        return np.where(made.labels == 1, made.scores, 1 - made.scores)
    return np.asarray(made.scores[np.arange(len(made)), made.labels])


def _cross_entropies(made: Examples) -> Floats:
    return mean_terms(c.log_losses(_p_true(made)))


def _top_hits(made: Examples, k: int) -> Floats:
    assert made.scores is not None
    return mean_terms(c.top_k_hits(made.scores, made.labels, k).astype(np.float64))


_LOG_LOSS = _sums(
    "log_loss", "Log-loss", _cross_entropies, high=c.LARGEST_LOSS, scale="plain", unit="nat", higher_is_better=False,
    needs="p_true",
)  # fmt: skip


_ECE = Metric(
    name="ece", title="Calibration error (ECE)", family=CalibrationGap(), higher_is_better=False, needs="probabilities"
)


def _binary_brier(made: Examples) -> Floats:
    return calibration.binary_brier_terms(made.scores, made.labels)  # type: ignore[arg-type]


def _brier(made: Examples) -> Floats:
    return calibration.brier_terms(made.scores, made.labels, "probabilities")  # type: ignore[arg-type]


_BRIER_2 = _sums("brier", "Brier score", _binary_brier, higher_is_better=False, needs="probabilities")
_BRIER_K = _sums("brier", "Brier score", _brier, high=2.0, higher_is_better=False, needs="probabilities")


def mean_cost(costs: Costs, name: str = "mean_cost") -> Metric:
    """What an example costs on average, of two classes: the sum over the confusion table's cells of count times cost."""
    each = np.array([[costs.tn, costs.fp], [costs.fn, costs.tp]])

    def terms(made: Examples) -> Floats:
        return mean_terms(each[made.labels, made.predicted])

    return _sums(
        name,
        "Mean cost",
        terms,
        low=float(each.min()),
        high=float(each.max()),
        unit="cost",
        higher_is_better=False,
    )


def _top(k: int) -> Metric:
    return _sums(f"top{k}_accuracy", f"Accuracy, top {k}", partial(_top_hits, k=k), needs="scores")


# --- rows: several labels ------------------------------------------------------------------------------------


def _label_terms(made: Examples) -> Floats:
    return multilabel.label_terms(made.labels, made.predicted)  # type: ignore[arg-type]


def _labels_why(made: Examples, average: multilabel.Average) -> str:
    return multilabel.labels_undefined(sums(_label_terms(made)), average) or ""


def _over_labels(kind: multilabel.Kind, average: multilabel.Average, beta: float = 1.0) -> Metric:
    letter = f"f{beta:g}" if kind == "f" else kind
    return _sums(
        f"{average}_{letter}",
        f"{letter.capitalize()}, {average}",
        _label_terms,
        multilabel.label_value(kind, average, beta),
        why=partial(_labels_why, average=average),
        undefined="no label has positives or predictions",
        trials=partial(multilabel.label_trials, kind=kind, average=average),
    )


def _subset(made: Examples) -> Floats:
    return multilabel.subset_terms(made.labels, made.predicted)  # type: ignore[arg-type]


def _hamming(made: Examples) -> Floats:
    return multilabel.hamming_terms(made.labels, made.predicted)  # type: ignore[arg-type]


def _sample_f1(made: Examples) -> Floats:
    return multilabel.sample_terms(made.labels, made.predicted)  # type: ignore[arg-type]


def _label_losses(made: Examples) -> Floats:
    return mean_terms(losses.binary_cross_entropies(made.scores, made.labels, "probabilities"))  # type: ignore[arg-type]


_KINDS: tuple[multilabel.Kind, ...] = ("precision", "recall", "f")
_AVERAGES: tuple[multilabel.Average, ...] = ("micro", "macro", "weighted")
_MULTILABEL = (
    _sums("subset_accuracy", "Accuracy, all labels right", _subset),
    _sums("hamming_loss", "Hamming loss", _hamming, higher_is_better=False),
    *(_over_labels(kind, average) for average in _AVERAGES for kind in _KINDS),
    _sums(
        "samples_f1", "F1, mean over examples", _sample_f1,
        why=lambda _: "undefined: no example has labels or predictions", undefined="no example has labels or predictions",
    ),
    *_MACRO_AREAS,
    _sums(
        "log_loss", "Binary cross-entropy", _label_losses, high=c.LARGEST_LOSS, scale="plain", unit="nat",
        higher_is_better=False, needs="probabilities",
    ),
)  # fmt: skip


# --- rows: numbers ---------------------------------------------------------------------------------------------


def _of_numbers(function: Callable[..., Floats]) -> Callable[[Examples], Floats]:
    return lambda made: function(made.labels, made.scores)


def _error(
    name: str, title: str, terms: Callable[..., Floats], value: Value, unit: str = "", undefined: str = ""
) -> Metric:
    return _sums(
        name, title, _of_numbers(terms), value, high=math.inf, unit=unit, higher_is_better=False, needs="scores",
        undefined=undefined, why=partial(_number_why, terms=terms, value=value),
    )  # fmt: skip


def _number_why(made: Examples, terms: Callable[..., Floats], value: Value) -> str:
    totals = sums(terms(made.labels, made.scores))
    if value is regression.r2:
        return regression.r2_undefined(totals) or ""
    return (regression.mape_undefined(totals) if value is regression.mape else None) or "undefined: no examples"


_SOME_ZERO, _ALL_EQUAL = "some targets are 0", "all targets are equal"
_REGRESSION = (
    _error("rmse", "Root mean squared error", regression.squared_terms, regression.rmse),
    _error("mae", "Mean absolute error", regression.absolute_terms, regression.mae),
    _error("mse", "Mean squared error", regression.squared_terms, regression.mse),
    _sums(
        "r2", "R2", _of_numbers(regression.r2_terms), regression.r2, low=-math.inf, needs="scores", unit="",
        undefined=_ALL_EQUAL, why=partial(_number_why, terms=regression.r2_terms, value=regression.r2),
    ),
    _error(
        "mape", "Mean absolute percentage error", regression.percentage_terms, regression.mape, "fraction", _SOME_ZERO
    ),
)  # fmt: skip


# --- rows: rankings --------------------------------------------------------------------------------------------


def _order(made: Examples) -> ranking.Ranked:
    return ranking.ranked(made.queries, made.labels, made.scores)  # type: ignore[arg-type]


def _per_query(
    name: str,
    title: str,
    values: Callable[[ranking.Ranked], Floats],
    undefined: str = "no query has a relevant document",
) -> Metric:
    return _sums(
        name, title, lambda made: mean_terms(values(_order(made))), needs="scores", units="queries", undefined=undefined,
        why=lambda made: ranking.ranking_undefined(_order(made)) or "",
    )  # fmt: skip


def _at(kind: str, k: int) -> Metric | None:
    if k < 1:
        return None
    if kind == "recall":
        return _per_query(f"recall@{k}", f"Recall at {k}", partial(ranking.recalls_at, k=k))
    if kind == "precision":
        return _per_query(f"precision@{k}", f"Precision at {k}", partial(ranking.precisions_at, k=k))
    if kind == "ndcg":
        return _per_query(f"ndcg@{k}", f"nDCG at {k}", partial(ranking.ndcgs_at, k=k))
    return _per_query(f"mrr@{k}", f"Reciprocal rank at {k}", partial(ranking.reciprocal_ranks, k=k))


_RANKING = (
    _per_query("ndcg", "nDCG", ranking.ndcgs_at),
    _per_query("mrr", "Mean reciprocal rank", ranking.reciprocal_ranks),
    _per_query("map", "Mean average precision", ranking.average_precisions),
)


# --- rows: language --------------------------------------------------------------------------------------------
# The labels of a text's tokens are the bytes that each stands for, their scores the log-probabilities.


def _token_terms(made: Examples) -> Floats:
    return language.token_terms(made.scores)  # type: ignore[arg-type]


def _byte_terms(made: Examples) -> Floats:
    return language.byte_terms(made.scores, made.labels)  # type: ignore[arg-type]


def _exact(made: Examples) -> Floats:
    return mean_terms(language.exact_matches(list(made.predicted), list(made.labels)))  # type: ignore[arg-type]


def _token_f1(made: Examples) -> Floats:
    return mean_terms(language.token_f1s(list(made.predicted), list(made.labels)))  # type: ignore[arg-type]


_LANGUAGE = (
    _sums(
        "perplexity", "Perplexity", _token_terms, language.perplexity, low=1.0, high=math.inf, scale="log", unit="",
        higher_is_better=False, needs="scores", units="documents",
    ),
    _sums(
        "bits_per_byte", "Bits per byte", _byte_terms, language.bits_per_byte, high=math.inf, unit="bit",
        higher_is_better=False, needs="scores", units="documents", undefined="0 bytes", why=lambda _: "undefined: 0 bytes",
    ),
)  # fmt: skip
_ANSWERS = (_sums("exact_match", "Exact match", _exact), _sums("token_f1", "F1 of words", _token_f1))


# --- by task ----------------------------------------------------------------------------------------------

_ROWS: Mapping[Task, tuple[Metric, ...]] = {
    "binary": (*_CLASSES, *_of_class(1), *_AREAS, _LOG_LOSS, _BRIER_2, _ECE),
    "multiclass": (*_CLASSES, *_MACRO_AREAS, _LOG_LOSS, _BRIER_K, _ECE),
    "multilabel": _MULTILABEL,
    "regression": _REGRESSION,
    "ranking": _RANKING,
    "language": _LANGUAGE,
    "answers": _ANSWERS,
}
STATIC: Mapping[Task, Mapping[str, Metric]] = MappingProxyType(
    {task: {m.name: m for m in rows} for task, rows in _ROWS.items()}
)
"""Every metric with a plain name, by task."""

DEFAULTS: Mapping[Task, tuple[str, ...]] = {
    "binary": (
        "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "roc_auc", "average_precision",
        "log_loss", "brier", "ece",
    ),
    "multiclass": (
        "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1", "mcc",
        "macro_roc_auc", "macro_average_precision", "log_loss", "brier", "ece",
    ),
    "multilabel": (
        "micro_f1", "macro_f1", "samples_f1", "micro_precision", "micro_recall", "subset_accuracy", "hamming_loss",
        "macro_roc_auc", "macro_average_precision", "log_loss",
    ),
    "regression": ("rmse", "mae", "r2", "mse"),
    "ranking": ("ndcg@10", "recall@10", "precision@10", "mrr", "map"),
    "language": ("perplexity", "bits_per_byte"),
    "answers": ("exact_match", "token_f1"),
}  # fmt: skip
"""What a task is judged by where nothing is named, the commonest first."""

_MOST_BETA = 1000.0  # beyond it F is recall to six digits

FORMS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("f0.5", "f2", "mean_cost[fp=1,fn=20]"),
    "multiclass": ("macro_f0.5", "macro_f2", "top5_accuracy", "recall[CLASS]"),
    "multilabel": ("macro_f2",),
    "ranking": ("ndcg@10", "recall@10", "precision@10", "mrr@10"),
}
"""Examples of names with a number or a class in them."""


def parametric(name: str, word: str, task: Task, classes: tuple[str, ...]) -> Metric | None:
    """A metric whose name carries a number or a class: `name` as written, `word` in lower case; None if it is none.

    Raises `InvalidInput` for a class that is not among `classes`.
    """
    if task == "ranking":
        match = re.fullmatch(r"(recall|precision|ndcg|mrr)@(\d{1,9})", word)
        return _at(match[1], int(match[2])) if match else None
    if task == "multilabel":
        match = re.fullmatch(r"(micro|macro|weighted)_f(\d+(?:\.\d+)?)", word)
        if match is None or not 0 < float(match[2]) <= _MOST_BETA:
            return None
        return _over_labels("f", cast("multilabel.Average", match[1]), float(match[2]))
    return _of_classes(name, word, task, classes) if task in ("binary", "multiclass") else None


def _of_classes(name: str, word: str, task: Task, classes: tuple[str, ...]) -> Metric | None:
    if match := re.fullmatch(r"(macro_|weighted_)?f(\d+(?:\.\d+)?)", word):
        return _any_beta(match[1] or ("" if task == "binary" else "macro_"), float(match[2]))
    if match := re.fullmatch(r"top_?(\d{1,9})(?:_accuracy)?", word):
        return _top(int(match[1])) if int(match[1]) >= 1 and task == "multiclass" else None
    if match := re.fullmatch(r"(precision|recall|f1|specificity)\[(.+)\]", name, re.IGNORECASE | re.DOTALL):
        if match[2] not in classes:
            raise InvalidInput(f"{name}: there is no class {match[2]!r}; classes: {', '.join(classes[:20])}")
        rows = {m.name.partition("[")[0]: m for m in _of_class(classes.index(match[2]), match[2])}
        return rows[match[1].lower()]
    if word.startswith("mean_cost") and task == "binary":
        return _priced(word)
    return None


def _priced(word: str) -> Metric:
    """``mean_cost[fp=1,fn=20]``: costs that a name carries itself."""
    match = re.fullmatch(r"mean_cost\[(.+)\]", word)
    if match is None:
        raise InvalidInput(
            f"{word} needs what each mistake costs: give --costs fp=1,fn=20, or write mean_cost[fp=1,fn=20]"
        )
    costs = parse_costs(match[1])
    return mean_cost(costs, f"mean_cost[{costs.text.removeprefix('costs ')}]")


def _any_beta(average: str, beta: float) -> Metric | None:
    if not 0 < beta <= _MOST_BETA:
        return None
    name = f"{average}f{beta:g}"
    if not average:
        return _f_beta(name, f"F{beta:g}", beta, 1)
    statistic = partial(c.macro_f if average == "macro_" else c.weighted_f, beta=beta)
    return _mean(name, f"F{beta:g}, {average.rstrip('_')}", statistic)
