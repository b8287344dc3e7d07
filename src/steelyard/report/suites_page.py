"""Pages of suites: one reading, and several compared. Made from their records alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from steelyard.records import CellChange, Estimate, Suite, SuiteCell, SuiteChange, Unavailable
from steelyard.report import assembly, drawing, numbers, suites, theme, times
from steelyard.report.assembly import Tile
from steelyard.report.forest import Mark, forest
from steelyard.report.sections import Badge, Column, Grid, Page, Section, render

__all__ = ["change_charts", "render_changes", "render_suite", "suite_charts"]

_KEYS = (
    Column(name="Model", kind="name"),
    Column(name="Data", kind="name"),
    Column(name="Engine", kind="name"),
    Column(name="Batch", kind="number"),
)
METHODS = (
    (
        "Cells",
        (
            "One model on one data set by one engine at one batch size, read in ten fresh processes; engines of one model take "
            "turns. Under stress: the rates shown to hold and to break a limit on the latency."
        ),
    ),
    ("Latency", "The geometric mean of the processes' medians; the interval is Student's t on their logs."),
    (
        "Comparison",
        (
            "The two were read at other times, so a cell's processes are two independent samples (Welch). Holm's correction over "
            "all cells and quantities makes the intervals hold together."
        ),
    ),
    (
        "Geometric mean",
        "Of the ratios of these very cells, each weighing the same: it says nothing of models that are not in the suite.",
    ),
)


# --- one suite ---------------------------------------------------------------------------------------


def render_suite(suite: Suite, cells: Sequence[SuiteCell]) -> str:
    """The page of one reading."""
    with drawing.unchecked():
        return render(_suite_page(suite, cells), suite_charts(cells))


def suite_charts(cells: Sequence[SuiteCell]) -> dict[str, Any]:
    """Latency and accuracy of each cell; None where no cell has any."""
    return {"latency": _latencies(cells), "accuracy": _accuracies(cells)}


def _latencies(cells: Sequence[SuiteCell]) -> Any:
    found = [(c, e) for c in cells if isinstance(e := suites.latency(c), Estimate)]
    if not found:
        return None
    factor, unit = times.scaled_time(min(e.value for _, e in found))
    marks = [
        Mark(
            label=_label(c.key),
            value=e.value / factor,
            low=e.low / factor,
            high=e.high / factor,
            outcome=c.engine,
            shown=numbers.interval(e.value, e.low, e.high, "s"),
        )
        for c, e in found
    ]
    words = "One call at the cell's batch size: 95 % t over fresh processes, on a logarithmic scale where cells lie far apart."
    return forest(
        marks, "Latency of each cell", words, axis="log", x_title=f"latency of a call, {unit}", colours=_engines(cells)
    )


def _label(key: str, *, batch: bool = True) -> str:
    """A cell's name on an axis, what differs most first.

    >>> _label("cnn/digits/openvino/batch-8"), _label("cnn/digits/openvino/batch-8", batch=False)
    ('cnn x8, openvino, digits', 'cnn, openvino, digits')
    """
    model, data, engine, size = suites.key_parts(key)
    return f"{model}{f' x{size}' if batch else ''}, {engine}, {data}"


def _accuracies(cells: Sequence[SuiteCell]) -> Any:
    """Once for all batch sizes: predictions are the same ones."""
    first = {(c.model, c.data, c.engine): c for c in reversed(cells)}
    found = [(c, e) for c in reversed(first.values()) if (e := suites.accuracy(c)) is not None]
    marks = [
        Mark(
            label=_label(c.key, batch=False),
            value=100 * e.value,
            low=100 * e.low,
            high=100 * e.high,
            outcome=c.engine,
            shown=numbers.interval(e.value, e.low, e.high, "fraction"),
        )
        for c, e in found
    ]
    words = "On the test split, with Wilson's 95 % interval. To compare models see suite compare, which pairs them."
    return forest(marks, "Accuracy", words, axis="plain", x_title="accuracy, %", colours=_engines(cells))


def _engines(cells: Sequence[SuiteCell]) -> dict[str, str]:
    names = dict.fromkeys(c.engine for c in cells)
    return {name: theme.SERIES[i % len(theme.SERIES)] for i, name in enumerate(names)}


def _suite_page(suite: Suite, cells: Sequence[SuiteCell]) -> Page:
    read = sum(c.measured is not None for c in cells)
    refused = [c for c in cells if c.refusal is not None]
    return Page(
        headline=f"{read} of {len(suite.cells)} cells read",
        plan=f"suite {suite.name}",
        brand="suite run",
        lede="The same models, data, engines and batch sizes, to be read again after every change.",
        time=suite.time,
        version=suite.version,
        badges=(Badge(words=f"{len(refused)} could not be read", outcome="broken"),) if refused else (),
        tiles=tuple(_suite_tiles(cells)),
        sections=(
            Section(
                id="cells",
                title="Cells",
                figures=("latency", "accuracy"),
                wide=("latency", "accuracy"),
                grids=(_cells(cells), _refusals(refused)),
                notes=(*suites.stress_lines(cells), *_flags(cells)),
            ),
            Section(
                id="inputs",
                title="Inputs and machine",
                facts=(
                    ("What was asked", tuple(_asked(suite))),
                    ("Machine and software", tuple(assembly.machine_rows(suite.environment))),
                ),
            ),
            Section(id="methods", title="Methods", methods=METHODS[:2]),
        ),
    )


def _suite_tiles(cells: Sequence[SuiteCell]) -> Iterator[Tile]:
    found = [(e.value, c.key) for c in cells if isinstance(e := suites.latency(c), Estimate)]
    for name, pick in (("Fastest cell", min), ("Slowest cell", max)) if len(found) > 1 else ():
        seconds, key = pick(found)
        yield Tile(name=name, value=numbers.seconds(seconds), details=(key,))


def _cells(cells: Sequence[SuiteCell]) -> Grid:
    numbered = (Column(name=n, kind="number") for n in ("Latency", "Examples/s", "Accuracy", "Size"))
    rows = tuple(
        (*suites.key_parts(c.key), *suites.cell_words(c)) for c in cells if c.measured is not None and not c.stress
    )
    caption = "Latency of one call at that batch, 95 % t on fresh processes; accuracy, 95 % Wilson."
    return Grid(label="Cells", caption=caption, columns=(*_KEYS, *numbered), rows=rows)


def _refusals(cells: Sequence[SuiteCell]) -> Grid:
    columns = (*_KEYS, Column(name="Kind"), Column(name="Reason", kind="words"))
    rows = tuple((*suites.key_parts(c.key), c.refusal.kind, c.refusal.reason) for c in cells if c.refusal is not None)
    caption = "Could not be read; the same command tries them again."
    return Grid(label="Cells that could not be read", caption=caption, columns=columns, rows=rows)


def _flags(cells: Sequence[SuiteCell]) -> Iterator[str]:
    for cell in cells:
        if cell.flags:
            flagged = len(times.flagged_rounds(cell.flags))
            yield f"{cell.key}: {flagged} round{'s' * (flagged > 1)} flagged, and kept ({cell.flags[0]}{' ...' if len(cell.flags) > 1 else ''})"


def _asked(suite: Suite) -> Iterator[tuple[str, str]]:
    for name, value in json.loads(suite.definition).items():
        yield name.capitalize(), value if isinstance(value, str) else json.dumps(value)


# --- several compared --------------------------------------------------------------------------------


def render_changes(changes: Sequence[SuiteChange], band: float) -> str:
    """The page of every further suite against the first."""
    with drawing.unchecked():
        return render(_changes_page(changes), change_charts(changes, band))


def change_charts(changes: Sequence[SuiteChange], band: float) -> dict[str, Any]:
    """One forest plot a comparison: ratios of latency, their mean, and drops of accuracy."""
    return {f"change-{i}": _change_chart(change, band) for i, change in enumerate(changes, 1)}


def _change_chart(change: SuiteChange, band: float) -> Any:
    known = [(row, row.found) for row in change.changes if isinstance(row.found, Estimate)]
    ratios = [_mark(row, e, 1.0) for row, e in known if row.quantity == "latency"]
    if change.mean is not None:
        ratios.append(_mean(change.mean))
    drops = [_mark(row, e, 100.0) for row, e in known if row.quantity == "accuracy"]
    words = f"{change.second} against {change.first}: left is faster. Intervals hold together (Holm). Tinted: within {100 * band:.3g} %."
    return drawing.stacked(
        [
            chart
            for chart in (
                forest(ratios, "Ratios of latency", words, axis="ratio", x_title="change of latency", band=band),
                forest(
                    drops,
                    "Drops of accuracy",
                    "On the same test examples: right of 0 is worse.",
                    axis="points",
                    x_title="drop, points",
                ),
            )
            if chart is not None
        ]
    )


def _mark(row: CellChange, found: Estimate, factor: float) -> Mark:
    return Mark(
        label=_label(row.key, batch=row.quantity == "latency"),
        value=factor * found.value,
        low=factor * found.low,
        high=factor * found.high,
        outcome=row.outcome or "undecided",
        shown=suites.change_of(row),
    )


def _mean(found: Estimate) -> Mark:
    shown = numbers.ratio(found.value, found.low, found.high)
    return Mark(
        label="geometric mean", value=found.value, low=found.low, high=found.high, outcome="beside it", shown=shown,
        mean=True,
    )  # fmt: skip


def _changes_page(changes: Sequence[SuiteChange]) -> Page:
    first = changes[0]
    return Page(
        headline=_headline(first) if len(changes) == 1 else f"{len(changes)} suites against the first",
        plan=f"{', '.join(c.second for c in changes)} against {first.first}",
        brand="suite compare",
        lede="Cell by cell, and the geometric mean of the ratios of latency.",
        badges=tuple(_badges(changes)),
        tiles=tuple(_change_tiles(changes)),
        sections=(
            *(_change_section(i, change, alone=len(changes) == 1) for i, change in enumerate(changes, 1)),
            Section(id="methods", title="Methods", methods=METHODS),
        ),
    )


def _headline(change: SuiteChange) -> str:
    if change.mean is None:
        return "No ratio could be told"
    said = numbers.change(1.0, change.mean.value, "faster", "slower")
    return "As fast as before, on the mean" if said == "same" else f"{said}, on the mean"


def _badges(changes: Sequence[SuiteChange]) -> Iterator[Badge]:
    outcomes = [row.outcome for change in changes for row in change.changes if row.outcome is not None]
    for outcome in dict.fromkeys(outcomes):
        yield Badge(words=f"{outcomes.count(outcome)} {outcome}", outcome=outcome)


def _change_tiles(changes: Sequence[SuiteChange]) -> Iterator[Tile]:
    for change in changes:
        if change.mean is not None:
            shown = numbers.ratio(change.mean.value, change.mean.low, change.mean.high)
            details = (assembly.span(shown), f"mean of {change.mean.n} ratios", change.second)
            value = numbers.ratio(change.mean.value)
            yield Tile(name="Latency, against the first", value=value, details=details, share=change.mean.value)


def _change_section(number: int, change: SuiteChange, *, alone: bool) -> Section:
    gone = (f"{r.key}: {r.quantity}: {r.found.reason}" for r in change.changes if isinstance(r.found, Unavailable))
    unlike = f"Unlike machines: {change.unlike}. Ratios are of machine and model together." if change.unlike else ""
    columns = (
        *_KEYS,
        Column(name="Quantity"),
        Column(name="Change", kind="number"),
        Column(name="Verdict", kind="badge"),
    )
    rows = tuple(
        (*suites.key_parts(r.key), r.quantity, suites.change_of(r), r.outcome or "unavailable") for r in change.changes
    )
    caption = "Latency: ratio; accuracy: drop; these hold together (Holm). Sustained: ratio of the rates under stress."
    return Section(
        id=f"change-{number}",
        title="Changes" if alone else change.second,
        alarm=unlike,
        figures=(f"change-{number}",),
        wide=(f"change-{number}",),
        grids=(Grid(label=f"Changes of {change.second}", caption=caption, columns=columns, rows=rows),),
        notes=(*gone, *change.notes),
    )
