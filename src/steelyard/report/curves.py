"""Charts of a benchmark under load: latency over batch size, and rising load. Records in, a chart out, or None."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from steelyard.records import RunRecords, Sample
from steelyard.report import derive, drawing, loads, numbers, theme
from steelyard.report.drawing import Rows
from steelyard.report.loads import Cell, Stressed

if TYPE_CHECKING:
    import altair as alt

__all__ = ["batch_axis", "callers_colours", "callers_name", "stress", "sweep_latency"]

PHASES = {"ramp": theme.CHOSEN, "proof": theme.OTHERS[0], "recovery": theme.BASELINE}


def callers_name(callers: int) -> str:
    """A line's name.

    >>> callers_name(1), callers_name(4)
    ('1 caller', '4 callers')
    """
    return f"{callers} caller{'s' * (callers > 1)}"


def callers_colours(callers: Sequence[int]) -> dict[str, str]:
    """A colour for each number of callers, in turn."""
    series = theme.SERIES
    return {callers_name(c): series[i % len(series)] for i, c in enumerate(sorted(set(callers)))}


def sweep_latency(records: RunRecords) -> alt.LayerChart | None:
    """Median latency of a call over batch size and callers, with the tail where the calls can bound it."""
    import altair as alt

    grid = [c for c in loads.cells(records.baseline) if isinstance(c.latency, Sample)]
    if not grid:
        return None
    rows = [row for cell in grid for row in _latency_rows(cell)]
    names = callers_colours([c.callers for c in grid])
    base = alt.Chart(drawing.data(rows)).encode(
        x=batch_axis([c.batch for c in grid]),
        y=alt.Y(
            "ms:Q",
            title="latency of a call, ms",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(tickCount=4, format=",.3~r"),
        ),
        color=drawing.colour("callers", names, [r["callers"] for r in rows]),
        tooltip=drawing.tips(callers="callers", batch="batch", percentile="percentile", latency="shown"),
    )
    dashed = alt.StrokeDash("percentile:N", scale=alt.Scale(range=[[1, 0], [5, 3], [2, 2]]), title=None)
    spread = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y="low:Q", y2="high:Q")
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=dashed)
    target = loads.target_of(records)
    layers = [*_limit_rule(target[1] if target else None, "ms", 1e3), lines, spread, base.mark_circle(size=50)]
    aim = f" The dashed rule is the target, {target[2]}." if target else ""
    return drawing.finish(
        drawing.layered(*layers),
        "Latency over batch size",
        f"Median and the highest percentile that the calls bound; bars are 95 % order statistics.{aim}",
        height=280,
    )


def batch_axis(batches: Sequence[int]) -> alt.X:
    """Batch sizes on a scale of powers of two."""
    import altair as alt

    axis = alt.Axis(values=sorted(set(batches)), format="d")
    return alt.X("batch:Q", title="batch size", scale=alt.Scale(type="log", base=2), axis=axis)


def _latency_rows(cell: Cell) -> Rows:
    assert isinstance(cell.latency, Sample)
    bounded = [(q, e) for q in (0.5, 0.9, 0.99) if (e := derive.latency_percentile(cell.latency, q)) is not None]
    shown = bounded[:1] + (bounded[-1:] if len(bounded) > 1 else [])
    return [
        {
            "callers": callers_name(cell.callers),
            "batch": cell.batch,
            "percentile": "median" if q == 0.5 else "tail",
            "ms": 1e3 * e.value,
            "low": 1e3 * e.low,
            "high": 1e3 * e.high,
            "shown": f"p{100 * q:g} {numbers.interval(e.value, e.low, e.high, 's')}",
        }
        for q, e in shown
    ]


def _limit_rule(limit_s: float | None, field: str, factor: float) -> list[alt.Chart]:
    import altair as alt

    if limit_s is None:
        return []
    data = drawing.data([{field: factor * limit_s}])
    return [alt.Chart(data).mark_rule(color=theme.BROKEN, strokeDash=[6, 4]).encode(y=f"{field}:Q")]


def stress(records: RunRecords) -> alt.LayerChart | None:
    """The tail of latency over the rate of requests, with the target and the rates that held and broke."""
    import altair as alt

    found = loads.stressed(records.baseline)
    if found is None or not found.steps:
        return None
    rows = _stress_rows(found)
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("rate:Q", title="requests per second"),
        y=alt.Y("ms:Q", title=f"p{100 * found.quantile:g} from when due, ms", scale=alt.Scale(type="log")),
        color=drawing.colour("phase", PHASES, [r["phase"] for r in rows]),
        tooltip=drawing.tips(phase="phase", rate="shown_rate", latency="shown", late="late", outcome="outcome"),
    )
    ramp = base.transform_filter("datum.phase == 'ramp'").mark_line(strokeWidth=2)
    band = [{"low": found.held_per_s, "high": found.broken_per_s}]
    between = (
        [alt.Chart(drawing.data(band)).mark_rect(color=theme.BAND, opacity=0.7).encode(x="low:Q", x2="high:Q")]
        if found.held_per_s and found.broken_per_s
        else []
    )
    return drawing.finish(
        drawing.layered(*between, *_limit_rule(found.limit_s, "ms", 1e3), ramp, base.mark_circle(size=80, opacity=1)),
        "Rising load",
        "Poisson arrivals. The dashed rule is the target; between the rate that held and the rate that broke, tinted, lies what "
        "the model sustains.",
        height=280,
    )


def _stress_rows(found: Stressed) -> Rows:
    return [
        {
            "phase": s.phase,
            "rate": s.rate_per_s,
            "ms": 1e3 * s.tail_s,
            "shown_rate": numbers.quantity(s.rate_per_s, "1/s"),
            "shown": numbers.seconds(s.tail_s),
            "late": numbers.quantity(s.late, "fraction"),
            "outcome": s.outcome,
        }
        for s in found.steps
        if s.n and math.isfinite(s.tail_s)
    ]
