"""Renderables for the terminal and the plain JSON that other programs read. Nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import (
    Corrupted,
    Difference,
    Estimate,
    Evaluated,
    Evaluation,
    Gap,
    Gate,
    Overlap,
    SliceScore,
    Temperature,
    Threshold,
    Unavailable,
)
from steelyard.report import numbers
from steelyard.report.evaluation import tables
from steelyard.report.evaluation.tables import Cell

__all__ = [
    "METRICS_SCHEMA",
    "difference_notes",
    "difference_table",
    "gate_lines",
    "metrics_json",
    "notes",
    "robustness_table",
    "score_table",
    "slice_table",
]

METRICS_SCHEMA = 1
MOST_SLICES = 20  # in the terminal; the page and the JSON have more
MOST_COUNTS = 1_000  # classes up to which the confusion table is written in full
MARKS = {
    "met": ("✓", "green"),
    "better": ("✓", "green"),
    "broken": ("✗", "red"),
    "worse": ("✗", "red"),
    "undecided": ("?", "yellow"),
    "equivalent": ("=", "cyan"),
    "too few": ("–", "bright_black"),
    "undefined": ("–", "bright_black"),
}


# --- terminal --------------------------------------------------------------------------------------


def score_table(evaluation: Evaluation) -> Table:
    """Metric, value, interval, n and method, the leading metric first; several models stand side by side."""
    rows = tables.score_rows(evaluation)
    return _alone(evaluation, rows) if len(evaluation.models) == 1 else _side_by_side(evaluation, rows)


def _alone(evaluation: Evaluation, rows: Sequence[tables.ScoreRow]) -> Table:
    table = _table("Scores")
    table.add_column("metric", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    table.add_column(f"{100 * evaluation.level:.3g} % interval", justify="right")
    table.add_column("n", justify="right")
    table.add_column("method", overflow="fold")
    for row in rows:
        cell = row.cells[0]
        figures = (_text(cell), cell.interval, cell.n, Text(_brief(cell.method), style="dim"))
        table.add_row(_named(row), *figures)
    return _captioned(table, _lead_words(evaluation))


def _side_by_side(evaluation: Evaluation, rows: Sequence[tables.ScoreRow]) -> Table:
    table = _table("Scores")
    table.add_column("metric", overflow="fold")
    for model in evaluation.models:
        table.add_column(_user(model.name), justify="right", overflow="fold")
    table.add_column("method", overflow="fold")
    for row in rows:
        methods = dict.fromkeys(_brief(c.method) for c in row.cells if c.method)
        figures = (_text(cell, _stacked(cell)) for cell in row.cells)
        table.add_row(_named(row), *figures, Text("; ".join(methods), style="dim"))
    return _captioned(table, f"In brackets: {100 * evaluation.level:.3g} % intervals. {_lead_words(evaluation)}")


def _brief(method: str) -> str:
    """A method without its library's signature, which the page shows, but with its warnings.

    >>> _brief("DeLong, score; too few: coverage not shown"), _brief("Wilson; nrefs:1|case:mixed")
    ('DeLong, score; too few: coverage not shown', 'Wilson')
    """
    first, *rest = method.split("; ")
    return "; ".join((first, *(part for part in rest if part.startswith("too few"))))


def _named(row: tables.ScoreRow) -> Text:
    return Text(f"{row.name} ★" if row.leads else row.name, style="bold" if row.leads else "")


def _lead_words(evaluation: Evaluation) -> str:
    return f"★ leads: {evaluation.objective.why}" if evaluation.objective.why else "★ leads"


def slice_table(evaluation: Evaluation) -> Table:
    """The leading metric in each slice against all other examples, worst first."""
    table = _table(f"Slices by {tables.title(evaluation, tables.leading(evaluation))}, worst first")
    several = len(evaluation.models) > 1
    for name in (*(("model",) if several else ()), "slice"):
        table.add_column(name, overflow="fold")
    for name in ("n", "score", "worse than the rest by", "p, Holm"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("verdict")
    left = 0
    for model in evaluation.models:
        rows = tables.slice_rows(model)
        left += max(0, len(rows) - MOST_SLICES)
        for row in rows[:MOST_SLICES]:
            name = _user(f"{row.name} (discovered)" if row.discovered else row.name)
            figures = (row.n, _text(row.score, _stacked(row.score)), _text(row.gap, _stacked(row.gap)), row.adjusted)
            table.add_row(*((_user(model.name),) if several else ()), name, *figures, _marked(row.verdict))
    return _captioned(table, f"{left:,} more in the report" if left else "")


def difference_table(evaluation: Evaluation) -> Table:
    """The drop from the first model to the second on the same examples: over all of them, then by slice."""
    table = _table("Differences on the same examples")
    rows = tables.difference_rows(evaluation)
    pairs = dict.fromkeys(row.pair for row in rows)
    for name in (*(("models",) if len(pairs) > 1 else ()), "metric", "where"):
        table.add_column(name, overflow="fold")
    for name in ("n", "drop", "p, Holm"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("outcome")
    shown = rows[: 2 * MOST_SLICES]
    for row in shown:
        first = (_user(row.pair),) if len(pairs) > 1 else ()
        figures = (row.n, _text(row.drop, _stacked(row.drop)), row.adjusted)
        table.add_row(*first, _user(row.metric), _user(row.where or "all"), *figures, _marked(row.outcome))
    whose = f"{next(iter(pairs))}: " if len(pairs) == 1 else ""
    more = f" {len(rows) - len(shown):,} more in the report." if len(rows) > len(shown) else ""
    return _captioned(table, f"{whose}a positive drop is worse, whatever the metric's direction.{more}")


def difference_notes(evaluation: Evaluation) -> Text:
    """Further tests of a difference, and what would resolve one that is open."""
    rows = [row for row in tables.difference_rows(evaluation) if row.remarks][: 2 * MOST_SLICES]
    lines = Text()
    for row in rows:
        where = f", {row.where}" if row.where else ""
        lines.append(_plain(f"• {row.metric}{where}: {'; '.join(row.remarks)}") + "\n", style="dim")
    lines.rstrip()
    return lines


def robustness_table(evaluation: Evaluation, model: Evaluated) -> Table:
    """The leading metric under each damage, by severity; what hurts most comes first."""
    leading = tables.title(evaluation, tables.leading(evaluation))
    table = _table(f"{leading} of {_plain(model.name)} on damaged examples")
    table.add_column("damage", overflow="fold")
    for severity in ("clean", *"12345"):
        table.add_column(severity, justify="right")
    for row in tables.corrupted_rows(model):
        table.add_row(_user(row.name), *(_text(cell) for cell in row.cells))
    return _captioned(table, "severities 1 to 5; their intervals stand in the report")


def gate_lines(evaluation: Evaluation) -> Text:
    """One line for each limit, those that fail the command first."""
    lines, several = Text(), len(evaluation.models) > 1
    for row in tables.gate_rows(evaluation):
        mark, style = MARKS[row.outcome]
        lines.append(f"{mark} {row.outcome:<9} ", style=style)
        lines.append(_plain(f"{row.model}: {row.text}" if several else row.text))
        lines.append(f"  {row.measured.whole}" if row.measured.missing else f"  measured {row.measured.whole}")
        lines.append("  fails the command\n" if not row.passed else "\n", style="red" if not row.passed else "")
    lines.rstrip()
    return lines


def notes(evaluation: Evaluation) -> Text:
    """What a reader must know beside the numbers: warnings, duplicates, the threshold, how often the set was used."""
    found = [
        *evaluation.warnings,
        *(overlap_words(o) for o in evaluation.overlaps),
        *(f"{m.name}: {threshold_words(m.threshold)}" for m in evaluation.models if m.threshold is not None),
        *(f"{m.name}: {temperature_words(m.temperature)}" for m in evaluation.models if m.temperature is not None),
        *(f"{m.name}: {gap_words(row)}" for m in evaluation.models for row in tables.gap_rows(evaluation, m)),
        *((uses_words(evaluation.test_uses),) if evaluation.test_uses else ()),
        *(f"{m.name}: {note}" for m in evaluation.models for note in m.notes),
    ]
    return Text("\n".join(f"• {_plain(line)}" for line in found))


# --- sentences -------------------------------------------------------------------------------------


def overlap_words(overlap: Overlap) -> str:
    """Duplicates between splits in one sentence.

    >>> overlap_words(Overlap(split="test", other="train", count=3, examples=(17, 402)))
    '3 examples of test also stand in train, for instance number 17 and 402'
    """
    alike = "also stand in" if overlap.kind == "exact" else "nearly stand in"
    places = [str(i) for i in overlap.examples[:3]] or [f"{a} as {b}" for a, b in overlap.pairs[:3]]
    where = f", for instance number {' and '.join(places)}" if places else ""
    told = f" ({overlap.method})" if overlap.method else ""
    return f"{overlap.count:,} examples of {overlap.split} {alike} {overlap.other}{where}{told}"


def gap_words(row: tables.GapRow) -> str:
    """How much better a metric is on what the model learnt from."""
    return (
        f"{row.metric} on {row.seen} {row.on_seen.text}, on {row.unseen} {row.on_unseen.text}: a gap of {row.gap.whole}"
    )


def threshold_words(threshold: Threshold) -> str:
    """The decision threshold in one sentence.

    >>> threshold_words(Threshold(value=0.4, target="given", chosen_on="the command", n=0))
    'threshold 0.400, as given'
    """
    value = numbers.significant(threshold.value)
    if threshold.target == "given":
        return f"threshold {value}, as given"
    if threshold.target == "default":
        return f"decides at the default threshold {value}"
    reached = tables.cell(threshold.reached).whole if threshold.reached is not None else ""
    there = f", where it reached {reached}" if reached else ""
    return f"threshold {value}, chosen for {threshold.target} on {threshold.chosen_on} (n = {threshold.n:,}){there}"


def temperature_words(temperature: Temperature) -> str:
    """The temperature in one sentence."""
    value = numbers.significant(temperature.value)
    sure = "too sure of itself" if temperature.value > 1 else "not sure enough of itself"
    return f"temperature {value}, fitted on {temperature.fitted_on} (n = {temperature.n:,}): the model was {sure}"


def uses_words(uses: int) -> str:
    """How often these examples were judged on, and what that means."""
    if uses == 1:
        return "These examples were judged on for the first time, so the intervals hold as they stand."
    return (
        f"These examples were judged on {'twice' if uses == 2 else f'{uses:,} times'}. Each look that led to a change lets luck into the score: "
        "after many, the intervals are too hopeful. Keep examples unseen for the last word."
    )


# --- JSON ------------------------------------------------------------------------------------------


def metrics_json(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation in plain JSON types, with names that stay.

    A number is ``{"value", "low", "high", "unit", "level", "method", "n"}``, an undefined one ``{"undefined": reason}``;
    an end without bound is null.
    """
    objective = evaluation.objective
    return {
        "schema": METRICS_SCHEMA,
        "version": evaluation.version,
        "command": list(evaluation.command),
        "time": evaluation.time or None,
        "task": evaluation.task,
        "classes": list(evaluation.classes),
        "positive": evaluation.positive or None,
        "level": evaluation.level,
        "objective": {"name": objective.name, "leads": objective.leads, "why": objective.why},
        "metrics": {
            m.name: {
                "title": m.title,
                "unit": m.unit,
                "low": _finite(m.low),
                "high": _finite(m.high),
                "higher_is_better": m.higher_is_better,
            }
            for m in evaluation.metrics
        },
        "models": [_model_json(evaluation, model) for model in evaluation.models],
        "differences": [_difference_json(d) for d in evaluation.differences],
        "gates": [_gate_json(g) for g in evaluation.gates],
        "duplicates": [_overlap_json(o) for o in evaluation.overlaps],
        "test_uses": evaluation.test_uses,
        "warnings": list(evaluation.warnings),
    }


def _model_json(evaluation: Evaluation, model: Evaluated) -> dict[str, Any]:
    return {
        "name": model.name,
        "source": model.source,
        "digest": model.digest or None,
        "split": model.split or None,
        "n": model.n,
        "metrics": _scores_json(model.scores),
        "per_class": {name: _scores_json(row) for name, row in model.per_class},
        "confusion": _confusion_json(evaluation, model),
        "slices": [_slice_json(s) for s in model.slices],
        "robustness": [_corrupted_json(c) for c in model.corrupted],
        "gaps": [_gap_json(g) for g in model.gaps],
        "threshold": _threshold_json(model.threshold),
        "temperature": _temperature_json(model.temperature),
        "notes": list(model.notes),
    }


def _scores_json(scores: Iterable[Estimate | Unavailable]) -> dict[str, Any]:
    return {s.quantity: _score_json(s) for s in scores}


def _score_json(score: Estimate | Unavailable | None) -> dict[str, Any] | None:
    if score is None:
        return None
    if isinstance(score, Unavailable):
        return {"undefined": score.reason}
    return {
        "value": _finite(score.value),
        "low": _finite(score.low),
        "high": _finite(score.high),
        "unit": score.unit,
        "level": score.level,
        "method": score.method,
        "n": int(score.n),
    }


def _confusion_json(evaluation: Evaluation, model: Evaluated) -> dict[str, Any] | None:
    """``counts[true][predicted]``; of very many classes ``entries`` (true, predicted, count) of the filled cells."""
    if model.confusion is None:
        return None
    table = model.confusion
    named = {"classes": [tables.class_name(evaluation, i) for i in range(len(table))]}
    if len(table) <= MOST_COUNTS:
        return {**named, "counts": table.tolist()}
    places = np.argwhere(table > 0)
    return {**named, "entries": [[t, p, int(table[t, p])] for t, p in places.tolist()]}


def _slice_json(given: SliceScore) -> dict[str, Any]:
    return {
        "conditions": [list(c) for c in given.conditions],
        "n": given.n,
        "score": _score_json(given.score),
        "rest": _score_json(given.rest),
        "gap": _score_json(given.gap),
        "p_value": _finite(given.p_value),
        "adjusted": _finite(given.adjusted),
        "verdict": given.verdict,
        "discovered": given.discovered,
    }


def _corrupted_json(given: Corrupted) -> dict[str, Any]:
    return {"corruption": given.name, "severity": given.severity, "score": _score_json(given.score)}


def _gap_json(given: Gap) -> dict[str, Any]:
    return {
        "metric": given.metric,
        "seen": given.seen,
        "unseen": given.unseen,
        "on_seen": _score_json(given.on_seen),
        "on_unseen": _score_json(given.on_unseen),
        "gap": _score_json(given.gap),
    }


def _threshold_json(given: Threshold | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return {
        "value": _finite(given.value),
        "target": given.target,
        "chosen_on": given.chosen_on,
        "n": given.n,
        "reached": _score_json(given.reached),
    }


def _temperature_json(given: Temperature | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return {
        "value": _finite(given.value),
        "fitted_on": given.fitted_on,
        "n": given.n,
        "before": _scores_json(given.before),
        "after": _scores_json(given.after),
    }


def _difference_json(given: Difference) -> dict[str, Any]:
    return {
        "metric": given.metric,
        "first": given.first,
        "second": given.second,
        "conditions": [list(c) for c in given.conditions],
        "n": given.n,
        "drop": _score_json(given.drop),
        "p_value": _finite(given.p_value),
        "adjusted": _finite(given.adjusted),
        "outcome": given.outcome,
        "tests": {name: _finite(p) for name, p in given.tests},
        "advice": given.advice or None,
    }


def _gate_json(given: Gate) -> dict[str, Any]:
    return {
        "text": given.text,
        "model": given.model,
        "estimate": _score_json(given.estimate),
        "outcome": given.outcome,
        "passed": given.passed,
    }


def _overlap_json(given: Overlap) -> dict[str, Any]:
    return {
        "split": given.split,
        "other": given.other,
        "kind": given.kind,
        "count": given.count,
        "examples": list(given.examples),
        "pairs": [list(p) for p in given.pairs],
        "method": given.method or None,
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


# --- drawing ---------------------------------------------------------------------------------------


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _captioned(table: Table, words: str) -> Table:
    table.caption = Text(words, style="dim") if words else None
    table.caption_justify = "left"
    return table


def _text(cell: Cell, words: str | None = None) -> Text:
    lines = (cell.text if words is None else words).split("\n")
    return Text("\n".join(map(_plain, lines)), style="bright_black" if cell.missing else "")


def _stacked(cell: Cell) -> str:
    """A value with its interval in a line of its own, so that neither is broken."""
    return cell.whole.replace(" (", "\n(", 1)


def _user(words: str) -> Text:
    return Text(_plain(words))


def _plain(words: str) -> str:
    """Words from a file, without characters that would steer the terminal.

    >>> _plain("north\\x1b[2Jern")
    'north\ufffd[2Jern'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in words)


def _marked(outcome: str) -> Text:
    mark, style = MARKS[outcome]
    return Text(f"{mark} {outcome}", style=style)
