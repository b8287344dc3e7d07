"""The words and figures of each table, as plain strings: the terminal and the page show the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from steelyard.records import (
    Difference,
    Estimate,
    Evaluated,
    Evaluation,
    Gap,
    MetricInfo,
    SliceScore,
    Unavailable,
)
from steelyard.report import numbers
from steelyard.report.evaluation.words import METRICS

__all__ = [
    "BADGES",
    "NONE",
    "Bar",
    "Cell",
    "ClassRow",
    "ConfusedRow",
    "CorruptedRow",
    "DifferenceRow",
    "GapRow",
    "GateRow",
    "ScoreRow",
    "SliceRow",
    "cell",
    "class_quantities",
    "class_rows",
    "conditions",
    "confused_rows",
    "corrupted_rows",
    "difference",
    "difference_rows",
    "gap_rows",
    "gate_rows",
    "info",
    "leading",
    "of_class",
    "ordered_slices",
    "score",
    "score_rows",
    "slice_rows",
    "title",
    "whole_differences",
]

NONE = "–"
BADGES = {
    "met": "met",
    "better": "met",
    "broken": "broken",
    "worse": "broken",
    "undecided": "undecided",
    "equivalent": "equal",
    "too few": "unavailable",
    "undefined": "unavailable",
}
"""The look of an outcome on the page."""

Score = Estimate | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Where an interval lies on its metric's range, each end from 0 to 100."""

    low: float
    value: float
    high: float
    ends: str  # what 0 and 100 stand for


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A number with its interval, or the reason why there is none."""

    text: str
    interval: str = ""
    method: str = ""
    n: str = ""
    missing: bool = False
    sort: float | None = None
    bar: Bar | None = None

    @property
    def whole(self) -> str:
        """The number and its interval."""
        return f"{self.text} ({self.interval})" if self.interval else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One metric of every model, in the order of the models."""

    metric: str
    name: str  # its title
    leads: bool
    words: str  # what it measures, and which direction is good
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """One class: its cells by quantity, then by model."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedRow:
    """A mistake that was made often."""

    model: str
    true: str
    predicted: str
    count: int
    share: str  # of the true class


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRow:
    """One scenario against all other examples."""

    name: str
    n: str
    score: Cell
    rest: Cell
    gap: Cell
    p_value: str
    adjusted: str
    verdict: str
    discovered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptedRow:
    """One corruption at severities 0 to 5."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """The second model against the first, in one metric."""

    metric: str
    pair: str
    where: str
    n: str
    drop: Cell
    p_value: str
    adjusted: str
    outcome: str
    remarks: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """A metric on examples that the model has seen and on others."""

    metric: str
    seen: str
    unseen: str
    on_seen: Cell
    on_unseen: Cell
    gap: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """A limit and what came of it."""

    text: str
    model: str
    measured: Cell
    outcome: str
    passed: bool


# --- words -----------------------------------------------------------------------------------------


def info(evaluation: Evaluation, metric: str) -> MetricInfo | None:
    """What is known about a metric, or None for one that the record does not describe."""
    return next((m for m in evaluation.metrics if m.name == metric), None)


def title(evaluation: Evaluation, metric: str) -> str:
    """A metric's name as a reader knows it."""
    known = info(evaluation, metric)
    return known.title if known is not None else metric.replace("_", " ").capitalize()


def leading(evaluation: Evaluation) -> str:
    """The name of the metric that leads."""
    return next((m.name for m in evaluation.metrics if m.leads), evaluation.objective.leads)


def conditions(given: Iterable[tuple[str, str]]) -> str:
    """A slice in words.

    >>> conditions((("region", "north"), ("age", "30 to 40")))
    'region = north, age = 30 to 40'
    """
    return ", ".join(f"{column} = {value}" for column, value in given)


def _meaning(known: MetricInfo | None, name: str) -> str:
    said = METRICS.get(name.partition("[")[0].partition("@")[0], "")
    if known is None:
        return said
    good = "Higher is better" if known.higher_is_better else "Lower is better"
    usual = known.unit == "fraction" and (known.low, known.high) == (0.0, 1.0)
    return f"{said} {good}{'' if usual else f', {_range(known)}'}.".strip()


def _range(known: MetricInfo) -> str:
    low, high = (numbers.quantity(end, known.unit) if math.isfinite(end) else "" for end in (known.low, known.high))
    if low and high:
        return f"from {low} to {high}"
    return f"from {low} up" if low else f"at most {high}" if high else "without bounds"


# --- numbers ---------------------------------------------------------------------------------------


def score(model: Evaluated, metric: str) -> Score:
    """A model's score, or why it has none."""
    found = next((s for s in model.scores if s.quantity == metric), None)
    return found if found is not None else Unavailable(quantity=metric, reason="not computed for this model")


def cell(given: Score | None, bar: Bar | None = None) -> Cell:
    """A score as text."""
    if given is None:
        return Cell(text=NONE)
    if isinstance(given, Unavailable):
        return Cell(text=_reason(given), missing=True)
    return _filled(numbers.interval(given.value, given.low, given.high, given.unit), given, bar)


def difference(given: Score | None) -> Cell:
    """A difference of two scores as text: fractions in percentage points."""
    if given is None or isinstance(given, Unavailable):
        return cell(given)
    if given.unit == "fraction":
        return _filled(numbers.points(given.value, given.low, given.high), given)
    return cell(given)


def _filled(shown: str, given: Estimate, bar: Bar | None = None) -> Cell:
    value, _, interval = shown.partition(" (")
    return Cell(
        text=value,
        interval=interval.rstrip(")"),
        method=given.method,
        n=f"{given.n:,}",
        sort=given.value if math.isfinite(given.value) else None,
        bar=bar,
    )


def _reason(given: Unavailable) -> str:
    """Why there is no number, always with a word that says so."""
    said = given.reason
    return said if said.startswith(("undefined", "unavailable", "not ")) else f"undefined: {said}"


def _p(value: float | None) -> str:
    return NONE if value is None else numbers.p_value(value)


def _bars(known: MetricInfo | None, scores: Sequence[Score]) -> tuple[Bar | None, ...]:
    """Places on the metric's own range; where it has no end, several models share one as far as they reach."""
    found = [s for s in scores if isinstance(s, Estimate)]
    ends = [e for s in found for e in (s.low, s.value, s.high) if math.isfinite(e)]
    low, high = (known.low, known.high) if known is not None else (-math.inf, math.inf)
    if not ends or (len(found) < 2 and not math.isfinite(high - low)):
        return tuple(None for _ in scores)
    low = low if math.isfinite(low) else min(0.0, *ends)
    high = high if math.isfinite(high) else max(0.0, *ends) * 1.1
    return tuple(_bar(s, low, high) if isinstance(s, Estimate) and high > low else None for s in scores)


def _bar(given: Estimate, low: float, high: float) -> Bar:
    def place(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - low) / (high - low)))

    ends = f"{numbers.quantity(low, given.unit)} to {numbers.quantity(high, given.unit)}"
    return Bar(low=place(given.low), value=place(given.value), high=place(given.high), ends=ends)


# --- rows ------------------------------------------------------------------------------------------


def score_rows(evaluation: Evaluation) -> tuple[ScoreRow, ...]:
    """Every metric of every model, the leading one first."""
    lead = leading(evaluation)
    names = dict.fromkeys(s.quantity for model in evaluation.models for s in model.scores)
    ordered = [*(n for n in names if n == lead), *(n for n in names if n != lead)]
    return tuple(_score_row(evaluation, name, name == lead) for name in ordered)


def _score_row(evaluation: Evaluation, name: str, leads: bool) -> ScoreRow:
    scores = [score(model, name) for model in evaluation.models]
    known = info(evaluation, name)
    cells = tuple(cell(s, bar) for s, bar in zip(scores, _bars(known, scores), strict=True))
    return ScoreRow(metric=name, name=title(evaluation, name), leads=leads, words=_meaning(known, name), cells=cells)


def class_quantities(evaluation: Evaluation) -> tuple[str, ...]:
    """What was computed for each class, in order."""
    return tuple(dict.fromkeys(s.quantity for m in evaluation.models for _, row in m.per_class for s in row))


def of_class(model: Evaluated) -> dict[str, dict[str, Score]]:
    """Scores by class and quantity."""
    return {name: {s.quantity: s for s in row} for name, row in model.per_class}


def class_rows(evaluation: Evaluation) -> tuple[ClassRow, ...]:
    """Every class, the one that is found least first."""
    quantities, by_model = class_quantities(evaluation), [of_class(m) for m in evaluation.models]
    names = dict.fromkeys(name for known in by_model for name in known)
    ordered = sorted(names, key=lambda name: _badness(known.get(name, {}) for known in by_model))
    return tuple(
        ClassRow(name=name, cells=tuple(cell(known.get(name, {}).get(q)) for q in quantities for known in by_model))
        for name in ordered
    )


def _badness(of_models: Iterable[dict[str, Score]]) -> float:
    """The lowest recall of any model; without one, of any quantity. Undefined comes last."""
    scores = [s for known in of_models for s in known.values() if isinstance(s, Estimate)]
    values = [s.value for s in scores if s.quantity == "recall"] or [s.value for s in scores]
    return min(values, default=math.inf)


def confused_rows(evaluation: Evaluation, most: int = 12) -> tuple[ConfusedRow, ...]:
    """The mistakes made most often, by count."""
    return tuple(row for model in evaluation.models for row in _confused(evaluation, model, most))


def _confused(evaluation: Evaluation, model: Evaluated, most: int) -> Iterator[ConfusedRow]:
    if model.confusion is None or len(model.confusion) < 3:
        return
    totals = model.confusion.sum(axis=1)
    places = np.argwhere(model.confusion)
    wrong = places[places[:, 0] != places[:, 1]]
    counts = model.confusion[wrong[:, 0], wrong[:, 1]]
    for i in np.argsort(-counts, kind="stable")[:most].tolist():
        true, predicted = wrong[i].tolist()
        yield ConfusedRow(
            model=model.name,
            true=class_name(evaluation, true),
            predicted=class_name(evaluation, predicted),
            count=int(counts[i]),
            share=numbers.quantity(counts[i] / totals[true], "fraction"),
        )


def class_name(evaluation: Evaluation, index: int) -> str:
    """A class by its place, or the place itself where it has no name."""
    return evaluation.classes[index] if index < len(evaluation.classes) else str(index)


def ordered_slices(model: Evaluated) -> tuple[SliceScore, ...]:
    """Worst first: by the gap, then those without one, the scored ones by their score."""
    return tuple(sorted(model.slices, key=_slice_order))


def _slice_order(given: SliceScore) -> tuple[bool, float, bool]:
    return given.verdict == "too few", -given.gap.value if given.gap else math.inf, isinstance(given.score, Unavailable)


def slice_rows(model: Evaluated) -> tuple[SliceRow, ...]:
    """The slices of one model, worst first."""
    return tuple(
        SliceRow(
            name=conditions(s.conditions),
            n=f"{s.n:,}",
            score=cell(s.score),
            rest=cell(s.rest),
            gap=difference(s.gap),
            p_value=_p(s.p_value),
            adjusted=_p(s.adjusted),
            verdict=s.verdict,
            discovered=s.discovered,
        )
        for s in ordered_slices(model)
    )


def corrupted_rows(model: Evaluated) -> tuple[CorruptedRow, ...]:
    """Severities 0 to 5 of each corruption, the one that hurts most first."""
    by_name: dict[str, dict[int, Score]] = {}
    for given in model.corrupted:
        by_name.setdefault(given.name, {})[given.severity] = given.score
    rows = [
        CorruptedRow(name=name.replace("_", " "), cells=tuple(cell(known.get(s)) for s in range(6)))
        for name, known in by_name.items()
    ]
    return tuple(sorted(rows, key=_hurt))


def _hurt(row: CorruptedRow) -> float:
    return min((c.sort for c in row.cells if c.sort is not None), default=math.inf)


def whole_differences(evaluation: Evaluation) -> tuple[Difference, ...]:
    """Differences over all examples, the leading metric first."""
    lead = leading(evaluation)
    return tuple(sorted((d for d in evaluation.differences if not d.conditions), key=lambda d: d.metric != lead))


def difference_rows(evaluation: Evaluation) -> tuple[DifferenceRow, ...]:
    """Each metric of the second model against the first, over all examples and then by slice, the worst slice first."""
    parts = sorted((d for d in evaluation.differences if d.conditions), key=_drop_order)
    return tuple(_difference_row(evaluation, d) for d in (*whole_differences(evaluation), *parts))


def _drop_order(given: Difference) -> float:
    return -given.drop.value if isinstance(given.drop, Estimate) else math.inf


def _difference_row(evaluation: Evaluation, given: Difference) -> DifferenceRow:
    tests = tuple(f"{name}: p = {numbers.p_value(p)}".replace("= <", "< ") for name, p in given.tests)
    return DifferenceRow(
        metric=title(evaluation, given.metric),
        pair=f"{given.second} against {given.first}",
        where=conditions(given.conditions),
        n=f"{given.n:,}" if given.n else NONE,
        drop=difference(given.drop),
        p_value=_p(given.p_value),
        adjusted=_p(given.adjusted),
        outcome=given.outcome,
        remarks=(*tests, *((given.advice,) if given.advice else ())),
    )


def gap_rows(evaluation: Evaluation, model: Evaluated) -> tuple[GapRow, ...]:
    """Each metric on the split that was learnt from and on the other."""
    return tuple(_gap_row(evaluation, gap) for gap in model.gaps)


def _gap_row(evaluation: Evaluation, gap: Gap) -> GapRow:
    return GapRow(
        metric=title(evaluation, gap.metric),
        seen=gap.seen,
        unseen=gap.unseen,
        on_seen=cell(gap.on_seen),
        on_unseen=cell(gap.on_unseen),
        gap=difference(gap.gap),
    )


def gate_rows(evaluation: Evaluation) -> tuple[GateRow, ...]:
    """Every limit, those that fail the command first."""
    ordered = sorted(evaluation.gates, key=lambda g: g.passed)
    return tuple(
        GateRow(text=g.text, model=g.model, measured=cell(g.estimate), outcome=g.outcome, passed=g.passed)
        for g in ordered
    )
