"""The page of a gate, made from its reports alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from steelyard.records import Comparison, Estimate, GateReport, Verdict
from steelyard.report import assembly, drawing, gating, numbers, theme, times
from steelyard.report.assembly import Tile
from steelyard.report.forest import Mark, forest
from steelyard.report.sections import Badge, Column, Grid, Page, Section, render
from steelyard.report.tables import verdict_estimate

__all__ = ["CHARTS", "render_gate"]

METHODS = (
    ("Verdicts", "Met, broken or undecided, at the level left by Holm's correction over all requirements."),
    (
        "Two stages",
        "A cost that the first stage finds broken is measured again on its own; only where both say so is it broken.",
    ),
    (
        "Taking turns",
        "Baseline, candidate and a second copy of the baseline live in fresh processes at once and run in short slots.",
    ),
    ("Noise floor", "No limit on a ratio of times is set closer to 1 than this machine's controls have been."),
    ("Flags", "Rounds with stolen time, throttling or other load are marked. None is dropped."),
)


def render_gate(reports: Sequence[GateReport]) -> str:
    """The page of the last report, with those before it in a table."""
    report = reports[-1]
    with drawing.unchecked():
        return render(_page(reports), {name: draw(report) for name, draw in CHARTS.items()})


# --- charts ------------------------------------------------------------------------------------------


def requirements(report: GateReport) -> Any:
    """Every requirement's interval with its limit: ratios, drops in points, and shares of absolute limits."""
    return drawing.stacked([c for c in (_ratios(report), _drops(report), _shares(report)) if c is not None])


def _ratios(report: GateReport) -> Any:
    judged = _judged(report, lambda v: v.requirement.kind in ("max_ratio", "min_ratio"))
    words = "Candidate against baseline, each with the interval that decided. Upright ticks: the limits."
    marks = [_mark(v, e, 1.0) for v, e in judged]
    return forest(marks, "Requirements on ratios", words, axis="ratio", x_title="candidate / baseline")


def _drops(report: GateReport) -> Any:
    judged = _judged(report, _in_points)
    words = "What the candidate loses; right of 0 is worse. Upright ticks: the limits."
    marks = [_mark(v, e, 100.0) for v, e in judged]
    return forest(marks, "Requirements on drops", words, axis="points", x_title="drop, points")


def _shares(report: GateReport) -> Any:
    judged = _judged(report, lambda v: v.requirement.kind in ("max", "min") and v.requirement.limit > 0)
    words = "What was measured as a share of its limit, which is at 1."
    marks = [_mark(v, e, 1 / v.requirement.limit) for v, e in judged]
    return forest(marks, "Requirements on the value itself", words, axis="ratio", x_title="measured / limit")


def _in_points(verdict: Verdict) -> bool:
    found = verdict.estimate
    return verdict.requirement.kind == "max_drop" and found is not None and found.unit == "fraction"


def _judged(report: GateReport, wanted: Callable[[Verdict], bool]) -> list[tuple[Verdict, Estimate]]:
    return [(v, v.estimate) for v in report.verdicts if v.estimate is not None and wanted(v)]


def _mark(verdict: Verdict, found: Estimate, factor: float) -> Mark:
    return Mark(
        label=verdict.requirement.text,
        value=factor * found.value,
        low=factor * found.low,
        high=factor * found.high,
        outcome=verdict.outcome,
        shown=verdict_estimate(verdict),
        limit=factor * verdict.requirement.limit,
    )


def round_boxes(report: GateReport) -> Any:
    """Box plots of both and the control, round by round, of the last stage that was measured."""
    timings, flags = _timings(report)
    return times.round_boxes(timings, _COLOURS, flags)


def series(report: GateReport) -> Any:
    """Every slot of that stage in the order of time."""
    timings, flags = _timings(report)
    return times.series_chart(timings, _COLOURS, flags)


_COLOURS = {"baseline": theme.BASELINE, "candidate": theme.CHOSEN, "control": theme.CONTROL}


def _timings(report: GateReport) -> tuple[times.Timings, tuple[str, ...]]:
    found: Comparison | None = next((s.comparison for s in reversed(report.stages) if s.comparison is not None), None)
    if found is None:
        return {}, ()
    return {arm: found.seconds[:, :, i] for i, arm in enumerate(found.arms)}, found.flags


CHARTS: Mapping[str, Callable[[GateReport], Any]] = {
    "requirements": requirements,
    "round_boxes": round_boxes,
    "series": series,
}


# --- page --------------------------------------------------------------------------------------------


def _page(reports: Sequence[GateReport]) -> Page:
    report = reports[-1]
    return Page(
        headline="Gate passed" if report.passed else "Gate failed",
        plan=f"{report.candidate.name} against {report.baseline.name}",
        brand="gate",
        lede=f"{gating.conclusion(report)} Exit status {0 if report.passed else 1}.",
        time=report.time,
        version=report.version,
        badges=tuple(Badge(words=f"{v.requirement.text}: {v.outcome}", outcome=v.outcome) for v in report.verdicts),
        tiles=tuple(_tiles(report)),
        sections=(
            Section(
                id="requirements",
                title="Requirements",
                words="An interval that holds its limit is undecided: the readings can neither prove nor refute it.",
                alarm=f"Unlike machines: {report.unlike}. Ratios are of machine and model together."
                if report.unlike
                else "",
                figures=("requirements",),
                wide=("requirements",),
                grids=(_verdicts(report),),
                notes=gating.all_notes(report),
            ),
            Section(
                id="times",
                title="Every reading",
                words="Times of the last stage that was measured. No outlier is removed.",
                figures=("round_boxes", "series"),
                wide=("round_boxes", "series"),
            ),
            Section(id="before", title="Gates before", grids=(_before(reports[:-1]),)),
            Section(
                id="inputs",
                title="Inputs and machine",
                facts=_facts(report),
                command=shlex.join(report.command),
            ),
            Section(id="methods", title="Methods", methods=METHODS),
        ),
    )


def _tiles(report: GateReport) -> Iterator[Tile]:
    for verdict in report.verdicts:
        if verdict.estimate is not None:
            shown = verdict_estimate(verdict)
            details = (assembly.span(shown), f"limit: {verdict.requirement.text}")
            yield Tile(
                name=verdict.requirement.quantity.replace("_", " ").capitalize(),
                value=shown.partition(" (")[0],
                details=tuple(filter(None, details)),
            )


def _verdicts(report: GateReport) -> Grid:
    columns = (
        Column(name="Requirement"),
        Column(name="Verdict", kind="badge"),
        Column(name="Measured", kind="number"),
        Column(name="Interval", kind="how"),
        Column(name="What would decide it", kind="words"),
    )
    rows = tuple(
        (
            v.requirement.text,
            v.outcome,
            verdict_estimate(v),
            "" if v.estimate is None else f"{100 * v.estimate.level:.4g} % {v.estimate.method}, n = {v.estimate.n:,}",
            v.advice or "–",
        )
        for v in report.verdicts
    )
    return Grid(label="Verdicts", caption="Each with the interval that decided.", columns=columns, rows=rows)


def _before(reports: Sequence[GateReport]) -> Grid:
    columns = (
        Column(name="Time", kind="name"),
        Column(name="Candidate", kind="code"),
        Column(name="Conclusion", kind="words"),
    )
    rows = tuple((r.time[:16].replace("T", " "), r.candidate.name, gating.conclusion(r)) for r in reversed(reports))
    return Grid(label="Gates before", caption="Recorded in this folder, the latest first.", columns=columns, rows=rows)


def _facts(report: GateReport) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    how = "afresh, taking turns" if report.how == "turns" else "from stored readings, which never ran together"
    rows = (
        ("Baseline", gating.side_words(report.baseline)),
        ("Candidate", gating.side_words(report.candidate)),
        ("Measured", f"{how}, in {numbers.seconds(report.wall_s)}"),
        ("Undecided", f"is let through: {'yes' if report.undecided == 'pass' else 'no'}"),
        ("Noise floor", f"{100 * report.noise_floor:.2g} %" if report.noise_floor else "none known"),
    )
    machine = () if report.environment is None else tuple(assembly.machine_rows(report.environment))
    return (("What was judged", rows), *((("Machine and software", machine),) if machine else ()))
