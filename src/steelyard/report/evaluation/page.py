"""The report of an evaluation: one HTML file that needs no network, made from the record alone."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from steelyard.records import (
    Difference,
    Estimate,
    Evaluation,
    Shown,
    Temperature,
    Unavailable,
)
from steelyard.report import assembly, drawing, numbers
from steelyard.report.assembly import Tile
from steelyard.report.evaluation import charts, tables, text
from steelyard.report.evaluation.tables import Cell

__all__ = ["render_evaluation"]

# What a page can hold; what is left out is counted on it and stands in metrics.json.
MOST_CLASSES = 100
MOST_SLICES = 60
MOST_DIFFERENCES = 80
MOST_EXAMPLES = 48
MOST_CHARACTERS = 1_200
MOST_FEATURES = 15
MOST_NOTES = 60

OTHER_FIGURES = ("scores",)  # drawn by the score table itself
SHADES = 10
WIDE_MAP = 25  # classes beyond which a confusion map takes the whole width


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run of characters that weigh alike: for the prediction, against it, or neither."""

    text: str
    side: Literal["for", "against", ""]
    strength: int  # per cent of the largest weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One feature's weight; `share` is per cent of the largest."""

    name: str
    side: Literal["for", "against"]
    share: float
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One example as the page shows it."""

    place: str
    true: str
    predicted: str
    confidence: str
    picture: str
    heat: str
    text: str
    parts: tuple[Part, ...]
    weights: tuple[Weight, ...]
    method: str


def render_evaluation(evaluation: Evaluation) -> str:
    """The whole report as one self-contained HTML page.

    Sections whose data are absent are left out. Without pictures it stays under 3 MB, whatever the number of classes,
    slices or examples: what is left out is counted on the page.
    """
    with drawing.unchecked():
        drawn = {name: draw(evaluation) for name, draw in charts.CHARTS.items() if name not in OTHER_FIGURES}
        return assembly.render("evaluation/template.html.j2", drawn, **_context(evaluation))


def _context(evaluation: Evaluation) -> dict[str, Any]:
    lead = tables.leading(evaluation)
    gates, classes = tables.gate_rows(evaluation), tables.class_rows(evaluation)
    differences = tables.difference_rows(evaluation)
    return {
        "evaluation": evaluation,
        "version": evaluation.version,
        "models": evaluation.models,
        "several": len(evaluation.models) > 1,
        "level": f"{100 * evaluation.level:.3g} %",
        "lead": tables.title(evaluation, lead),
        "badges": tables.BADGES,
        "headline": _headline(evaluation),
        "verdict": _verdict(evaluation),
        "tiles": tuple(_tiles(evaluation)),
        "gate_rows": gates,
        "score_rows": tables.score_rows(evaluation),
        "difference_rows": differences[:MOST_DIFFERENCES],
        "difference_level": _levels(d.drop for d in evaluation.differences),
        "gate_level": _levels(g.estimate for g in evaluation.gates),
        "pairs": tuple(dict.fromkeys(row.pair for row in differences)),
        "quantities": tuple(tables.title(evaluation, q) for q in tables.class_quantities(evaluation)),
        "class_rows": classes[:MOST_CLASSES],
        "wide_maps": len(evaluation.classes) > WIDE_MAP,
        "confused_rows": tables.confused_rows(evaluation, most=12 if len(evaluation.models) == 1 else 6),
        "thresholds": tuple((m.name, text.threshold_words(m.threshold)) for m in evaluation.models if m.threshold),
        "temperatures": tuple(_temperatures(evaluation)),
        "slice_groups": tuple(_slice_groups(evaluation)),
        "corrupted": tuple((m.name, tables.corrupted_rows(m)) for m in evaluation.models if m.corrupted),
        "mistakes": tuple(_examples(m.name, m.mistakes) for m in evaluation.models if m.mistakes),
        "explained": tuple(_examples(m.name, m.explained) for m in evaluation.models if m.explained),
        "gap_groups": tuple((m.name, tables.gap_rows(evaluation, m)) for m in evaluation.models if m.gaps),
        "overlaps": tuple(text.overlap_words(o) for o in evaluation.overlaps),
        "uses": text.uses_words(evaluation.test_uses) if evaluation.test_uses else "",
        "warnings": evaluation.warnings[:MOST_NOTES],
        "notes": tuple(_notes(evaluation))[:MOST_NOTES],
        "subject": tuple(_subject(evaluation)),
        "command": shlex.join(evaluation.command),
        "machine_rows": tuple(assembly.machine_rows(evaluation.environment)) if evaluation.environment else (),
        "left": {
            "classes": max(0, len(classes) - MOST_CLASSES),
            "differences": max(0, len(differences) - MOST_DIFFERENCES),
            "warnings": max(0, len(evaluation.warnings) - MOST_NOTES),
        },
    }


# --- headline --------------------------------------------------------------------------------------


def _headline(evaluation: Evaluation) -> str:
    judged = _judged(evaluation)
    if judged is not None:
        return _winner(judged)
    model = evaluation.models[0] if evaluation.models else None
    title = tables.title(evaluation, tables.leading(evaluation))
    if model is None:
        return "Nothing was evaluated"
    if len(evaluation.models) > 1:
        return f"{len(evaluation.models)} models by {_lower(title)}"
    got = tables.cell(tables.score(model, tables.leading(evaluation)))
    return f"{title} cannot be told" if got.missing else f"{title} {got.text}"


def _judged(evaluation: Evaluation) -> Difference | None:
    """The difference that decides a comparison of two models: the leading metric's, over all examples."""
    lead = tables.leading(evaluation)
    found = [d for d in tables.whole_differences(evaluation) if d.metric == lead]
    return found[0] if len(found) == 1 else None


def _winner(judged: Difference) -> str:
    return {
        "better": f"{judged.second} is better than {judged.first}",
        "worse": f"{judged.second} is worse than {judged.first}",
        "equivalent": f"{judged.second} and {judged.first} differ by less than the band",
        "undecided": f"{judged.second} or {judged.first}: undecided",
        "undefined": f"{judged.second} and {judged.first} cannot be compared",
    }[judged.outcome]


def _verdict(evaluation: Evaluation) -> str:
    """What the headline rests on, in one sentence."""
    judged, title = _judged(evaluation), tables.title(evaluation, tables.leading(evaluation))
    if judged is None:
        return ""
    if isinstance(judged.drop, Unavailable):
        return f"{title}: {tables.cell(judged.drop).text}."
    gain = judged.drop if judged.drop.value > 0 else _turned(judged.drop)
    change = "worsens" if judged.drop.value > 0 else "improves"
    said = f"{title} {change} by {tables.difference(gain).whole} on the same {judged.n:,} examples."
    return f"{said} {judged.advice[:1].upper()}{judged.advice[1:]}." if judged.advice else said


def _turned(drop: Estimate) -> Estimate:
    """The gain that a drop below zero is."""
    return dataclasses.replace(drop, value=-drop.value, low=-drop.high, high=-drop.low)


def _tiles(evaluation: Evaluation) -> Iterator[Tile]:
    lead = tables.leading(evaluation)
    title, several = tables.title(evaluation, lead), len(evaluation.models) > 1
    for model in evaluation.models[:4]:
        got = tables.cell(tables.score(model, lead))
        name = f"{title}, {model.name}" if several else title
        if got.missing:
            yield Tile(name=name, value="undefined", details=(got.text,))
            continue
        details = (got.interval or "no interval", f"{100 * evaluation.level:.3g} %, n = {got.n}")
        yield Tile(name=name, value=got.text, details=details)
    yield from _counts(evaluation)


def _counts(evaluation: Evaluation) -> Iterator[Tile]:
    model = evaluation.models[0] if evaluation.models else None
    if model is not None:
        classes = (f"{len(evaluation.classes):,} classes",) if evaluation.classes else ()
        split = (f"{model.split} split",) if model.split else ()
        yield Tile(name="Examples", value=f"{model.n:,}", details=(*classes, *split))
    if evaluation.gates:
        kept = sum(g.passed for g in evaluation.gates)
        yield Tile(name="Limits kept", value=f"{kept} of {len(evaluation.gates)}", details=(_exit(evaluation),))
    worse = sum(s.verdict == "worse" for m in evaluation.models for s in m.slices)
    if any(m.slices for m in evaluation.models):
        yield Tile(name="Weak slices", value=f"{worse:,}", details=("worse than the rest", "after Holm"))
    if evaluation.test_uses:
        times = "for the first time" if evaluation.test_uses == 1 else "this time included"
        yield Tile(name="Set judged on", value=f"{evaluation.test_uses:,}x", details=(times,))


def _exit(evaluation: Evaluation) -> str:
    return "exit status 0" if all(g.passed for g in evaluation.gates) else "exit status 1"


def _lower(title: str) -> str:
    """A title inside a sentence; names in capitals stay.

    >>> _lower("Balanced accuracy"), _lower("F1, macro")
    ('balanced accuracy', 'F1, macro')
    """
    return title if title[1:2].isupper() or title[1:2].isdigit() else title[:1].lower() + title[1:]


def _levels(scores: Iterable[Estimate | Unavailable]) -> str:
    """The confidence of these intervals in words, which Holm's correction may have raised."""
    found = sorted({s.level for s in scores if isinstance(s, Estimate)})
    shown = [f"{100 * level:.4g} %" for level in found]
    return shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}" if shown else ""


# --- sections --------------------------------------------------------------------------------------


def _slice_groups(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Slices by model, those named before those discovered, worst first in each."""
    for model in evaluation.models:
        rows = sorted(tables.slice_rows(model), key=lambda r: r.discovered)
        for discovered, group in groupby(rows, key=lambda r: r.discovered):
            own = list(group)
            name = "Discovered by looking" if discovered else "Named by you"
            whose = f"{model.name}: {name.lower()}" if len(evaluation.models) > 1 else name
            yield {"name": whose, "rows": own[:MOST_SLICES], "left": max(0, len(own) - MOST_SLICES)}


def _temperatures(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for model in evaluation.models:
        if model.temperature is not None:
            words = text.temperature_words(model.temperature)
            yield {"name": model.name, "words": words, "rows": tuple(_cooled(evaluation, model.temperature))}


def _cooled(evaluation: Evaluation, temperature: Temperature) -> Iterator[tuple[str, Cell, Cell]]:
    after = {s.quantity: s for s in temperature.after}
    for before in temperature.before:
        yield (
            tables.title(evaluation, before.quantity),
            tables.cell(before),
            tables.cell(after.get(before.quantity)),
        )


def _notes(evaluation: Evaluation) -> Iterator[str]:
    several = len(evaluation.models) > 1
    for model in evaluation.models:
        yield from (f"{model.name}: {note}" if several else note for note in model.notes)


def _subject(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    yield "Task", evaluation.task
    yield "Objective", f"{evaluation.objective.name}: {evaluation.objective.why}"
    if evaluation.classes:
        yield "Classes", _few(evaluation.classes)
    if evaluation.positive:
        yield "Positive class", evaluation.positive
    for model in evaluation.models:
        digest = f", digest {model.digest.removeprefix('sha256:')[:16]}…" if model.digest else ""
        yield f"Model {model.name}", f"{model.source}, n = {model.n:,}{digest}"


def _few(names: Sequence[str], most: int = 30) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


# --- examples --------------------------------------------------------------------------------------


def _examples(model: str, shown: Sequence[Shown]) -> dict[str, Any]:
    rows = tuple(_example(s) for s in shown[:MOST_EXAMPLES])
    return {"name": model, "rows": rows, "left": max(0, len(shown) - MOST_EXAMPLES)}


def _example(shown: Shown) -> Example:
    spelt = bool(shown.text) and len(shown.weights) == len(shown.text)
    cut = shown.text if len(shown.text) <= MOST_CHARACTERS else f"{shown.text[:MOST_CHARACTERS]} …"
    return Example(
        place=shown.place,
        true=shown.true,
        predicted=shown.predicted,
        confidence=numbers.quantity(shown.confidence, "fraction") if math.isfinite(shown.confidence) else "",
        picture=shown.picture,
        heat=shown.heat,
        text=cut,
        parts=tuple(_parts(shown.text[:MOST_CHARACTERS], shown.weights[:MOST_CHARACTERS])) if spelt else (),
        weights=() if spelt else tuple(_weights(shown)),
        method=shown.method,
    )


def _parts(written: str, weights: Sequence[float]) -> Iterator[Part]:
    """Characters that weigh alike, together."""
    largest = max((abs(w) for w in weights), default=0.0) or 1.0
    steps = [round(SHADES * w / largest) for w in weights]
    for step, run in groupby(zip(steps, written, strict=True), key=lambda pair: pair[0]):
        side: Literal["for", "against", ""] = "for" if step > 0 else "against" if step < 0 else ""
        yield Part(text="".join(c for _, c in run), side=side, strength=100 * abs(step) // SHADES)


def _weights(shown: Shown) -> Iterator[Weight]:
    """The features that weigh most."""
    named = zip(shown.features, shown.weights, strict=False)
    ordered = sorted(named, key=lambda pair: -abs(pair[1]))[:MOST_FEATURES]
    largest = max((abs(w) for _, w in ordered), default=0.0) or 1.0
    for name, weight in ordered:
        side: Literal["for", "against"] = "for" if weight >= 0 else "against"
        yield Weight(name=name, side=side, share=100 * abs(weight) / largest, value=numbers.significant(weight))
