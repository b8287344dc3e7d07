"""The page of a training ledger: what each technique saves and costs, over seeds. Made from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.records import Estimate, Ledger, LedgerEnd, LedgerRow, TrainingRun
from steelyard.report import assembly, drawing, ledger, numbers, theme
from steelyard.report.assembly import Tile
from steelyard.report.forest import Mark, forest
from steelyard.report.sections import Badge, Column, Grid, Page, Section, render

__all__ = ["ledger_charts", "render_ledger"]

Trained = Mapping[tuple[str, int], TrainingRun]

COLOURS = {"pays": theme.MET, "does not pay": theme.BROKEN, "undecided": theme.UNDECIDED}
_BADGES = {"pays": "met", "does not pay": "broken", "undecided": "undecided"}
METHODS = (
    (
        "Time of a step",
        (
            "Training steps of baseline, control and techniques take turns in fresh processes; a round's ratio is the median over "
            "its slots, the interval Student's t on the rounds' logs."
        ),
    ),
    (
        "Time of a training",
        "The ratio of steps' times, times the ratio of the examples that the trainings took, seed by seed; Satterthwaite's t.",
    ),
    (
        "Accuracy drop",
        (
            "The same seeds with and without the technique, judged on the same validation examples: the interval knows the spread "
            "between trainings and that between examples (two-way layout without replication)."
        ),
    ),
    ("Energy", "Ratio of times, times the ratio of powers; draws of a modelled power are shared and cancel."),
    ("Pays", "It saves for certain and accuracy holds for certain, at a level at which all techniques hold together."),
)


def render_ledger(asked: Ledger, trained: Trained, end: LedgerEnd, refused: Sequence[str] = ()) -> str:
    """The page of a ledger that has ended; `trained` are its trainings by technique and seed."""
    with drawing.unchecked():
        return render(_page(asked, end, refused), ledger_charts(asked, trained, end))


def ledger_charts(asked: Ledger, trained: Trained, end: LedgerEnd) -> dict[str, Any]:
    """Forest plots of what is saved and what accuracy is lost, and the accuracy of every training."""
    costs = {"time": "training", "memory": "memory", "energy": "energy"}
    names = {"training": "Time of a training", "memory": "Peak memory of a training", "energy": "Energy of a training"}
    first = costs[asked.pay]
    ordered = (first, *(name for name in names if name != first))
    charts: dict[str, Any] = {
        name: forest(
            list(_ratio_marks(end.rows, name)), names[name], "Against the baseline: to the left is saved.", axis="ratio",
            x_title=f"change of {name if name != 'training' else 'time'}", colours=COLOURS,
        )
        for name in ordered
    }  # fmt: skip
    words = "Seeds with the technique against the same seeds without it: right of 0 is lost."
    charts["drop"] = forest(
        list(_drop_marks(end.rows, asked.requirement.limit)), "Accuracy drop on validation", words, axis="points",
        x_title="drop, points", colours=COLOURS,
    )  # fmt: skip
    charts["seeds"] = _seeds(trained)
    return charts


def _ratio_marks(rows: Sequence[LedgerRow], field: str) -> Iterator[Mark]:
    for row in rows:
        found = getattr(row, field)
        if isinstance(found, Estimate):
            shown = numbers.ratio(found.value, found.low, found.high)
            yield Mark(
                label=row.technique, value=found.value, low=found.low, high=found.high, outcome=row.outcome, shown=shown
            )


def _drop_marks(rows: Sequence[LedgerRow], limit: float) -> Iterator[Mark]:
    for row in rows:
        if isinstance(row.drop, Estimate):
            value, low, high = (100 * end for end in (row.drop.value, row.drop.low, row.drop.high))
            shown = numbers.points(row.drop.value, row.drop.low, row.drop.high)
            yield Mark(
                label=row.technique,
                value=value,
                low=low,
                high=high,
                outcome=row.outcome,
                shown=shown,
                limit=100 * limit,
            )


def _seeds(trained: Trained) -> Any:
    """A dot a training: accuracy on validation by technique."""
    import altair as alt

    rows = [
        {"technique": technique, "seed": seed, "accuracy": 100 * float(np.mean(kept.correct))}
        for (technique, seed), run in trained.items()
        for kept in run.predictions
        if kept.split == "validation"
    ]
    if not rows:
        return None
    chart = (
        alt.Chart(drawing.data(rows))
        .mark_point(filled=True, size=90, opacity=0.75, color=theme.CHOSEN)
        .encode(
            x=alt.X("accuracy:Q", title="accuracy on validation, %", scale=alt.Scale(zero=False)),
            y=alt.Y("technique:N", title=None, sort=list(dict.fromkeys(str(r["technique"]) for r in rows))),
            tooltip=drawing.tips(technique="technique", seed="seed", accuracy="accuracy"),
        )
    )
    names = len({r["technique"] for r in rows})
    return drawing.finish(chart, "Accuracy of every training", "One dot a seed.", height=34 * names + 8)


def _page(asked: Ledger, end: LedgerEnd, refused: Sequence[str]) -> Page:
    outcomes = [row.outcome for row in end.rows]
    figures = ("training", "memory", "energy", "drop", "seeds")
    first = {"time": "training"}.get(asked.pay, asked.pay)
    ordered = (first, *(name for name in figures if name != first))
    return Page(
        headline=ledger.conclusion(asked, end),
        plan=asked.spec.source,
        brand="ledger",
        lede=f"Each technique alone, over {len(asked.seeds)} seeds; to pay it must save {asked.pay} at {asked.requirement.text}.",
        version=asked.version,
        badges=tuple(
            Badge(words=f"{outcomes.count(o)} {'pay' if o == 'pays' and outcomes.count(o) > 1 else o}", outcome=_BADGES[o])
            for o in dict.fromkeys(outcomes)
        ),
        tiles=tuple(_tiles(end)),
        sections=(
            Section(
                id="ledger",
                title="Ledger",
                alarm=_alarm(end),
                figures=ordered,
                wide=ordered,
                grids=(_grid(end),),
                notes=tuple(refused),
            ),
            Section(id="recipe", title="Recipe that is left", facts=(("Fields that differ from the baseline", tuple(_changed(asked, end))),)),
            Section(
                id="inputs",
                title="Inputs and machine",
                facts=(
                    ("Baseline's recipe", tuple((k, str(v)) for k, v in asked.recipe.items() if v not in (None, {}, False))),
                    ("Machine and software", tuple(assembly.machine_rows(asked.environment))),
                ),
                command=" ".join(asked.words),
            ),
            Section(id="methods", title="Methods", methods=METHODS),
        ),
    )  # fmt: skip


def _tiles(end: LedgerEnd) -> Iterator[Tile]:
    row = next((row for row in end.rows if row.technique == end.chosen), None)
    for name, field in (("Time", "training"), ("Memory", "memory"), ("Energy", "energy")):
        found = None if row is None else getattr(row, field)
        if isinstance(found, Estimate):
            shown = numbers.ratio(found.value, found.low, found.high)
            yield Tile(
                name=f"{name} of a training",
                value=numbers.ratio(found.value),
                details=(assembly.span(shown),),
                share=found.value,
            )
    if isinstance(end.test_drop, Estimate):
        shown = numbers.points(end.test_drop.value, end.test_drop.low, end.test_drop.high)
        yield Tile(name="Accuracy drop, test", value=numbers.points(end.test_drop.value), details=(assembly.span(shown),))  # fmt: skip


def _grid(end: LedgerEnd) -> Grid:
    numbered = (Column(name=name.capitalize(), kind="number") for name in ledger.COLUMNS)
    columns = (
        Column(name="Technique", kind="name"),
        *numbered,
        Column(name="Verdict"),
        Column(name="Because", kind="words"),
    )
    rows = tuple((row.technique, *ledger.row_cells(row), row.outcome, row.reason) for row in end.rows)
    caption = f"Ratios to the baseline; intervals at {100 * end.level:.4g} %, which hold together at 95 %."
    return Grid(label="Techniques", caption=caption, columns=columns, rows=rows)  # fmt: skip


def _alarm(end: LedgerEnd) -> str:
    if not end.control_alarm:
        return ""
    return "The A/A control found a difference between the baseline and itself: times were widened by as much."


def _changed(asked: Ledger, end: LedgerEnd) -> Iterator[tuple[str, str]]:
    before: Mapping[str, Any] = asked.recipe
    for name, value in end.recipe.items():
        if value != before.get(name):
            yield name, str(value)
    if end.plan.steps:
        yield "passes before the training", str(end.plan)
