"""Forest plots: one row for each claim, with its interval, its limit and its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from steelyard.report import drawing, theme
from steelyard.report.drawing import Rows

if TYPE_CHECKING:
    import altair as alt

__all__ = ["Axis", "Mark", "forest"]

Axis = Literal["ratio", "points", "log", "plain"]  # around 1 | around 0 | of one sign, spread wide | as it is

OUTCOMES = {
    "met": theme.MET,
    "faster": theme.MET,
    "better": theme.MET,
    "equivalent": theme.CHOSEN,
    "undecided": theme.UNDECIDED,
    "broken": theme.BROKEN,
    "slower": theme.BROKEN,
    "worse": theme.BROKEN,
    "alarm": theme.BROKEN,
    "beside it": theme.BASELINE,
}
_NARROW = 2.5  # ratios within a factor of this are drawn on a linear axis, as changes in per cent
_ROW = 46


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One row. An unbounded end is drawn to the edge of the plot; `shown` are the same numbers in words."""

    label: str
    value: float
    low: float
    high: float
    outcome: str  # a key of OUTCOMES, or of the colours given
    shown: str
    limit: float | None = None
    mean: bool = False  # a mean over other rows: drawn as a diamond


def forest(
    marks: Sequence[Mark],
    title: str,
    words: str,
    *,
    axis: Axis,
    x_title: str,
    band: float = 0.0,
    colours: Mapping[str, str] = OUTCOMES,
) -> alt.LayerChart | None:
    """Intervals under each other; None for none. `band` tints the ratios within ``1 / (1 + band)`` to ``1 + band``.

    `colours` are of the marks' outcomes, where those are not verdicts.
    """
    import altair as alt

    if not marks:
        return None
    start, end, log = _domain(marks, axis, band)
    rows = [_row(mark, start, end, log=log) for mark in marks]
    names = [mark.label for mark in marks]
    ends = [start, end]
    scale = alt.Scale(type="log", domain=ends, nice=False) if log else alt.Scale(domain=ends, nice=False, zero=False)

    def x(field: str) -> alt.X:  # the same in every layer: Vega-Lite joins what layers say of a scale
        return alt.X(f"{field}:Q", title=x_title, scale=scale, axis=_ticks(axis, start, end, log=log))

    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("label:N", title=None, sort=names, axis=alt.Axis(labelLimit=280)),
        color=drawing.colour("outcome", colours, [mark.outcome for mark in marks]),
        tooltip=drawing.tips(what="label", found="shown", outcome="outcome", limit="limit_shown"),
    )
    bars = base.mark_rule(strokeWidth=3, opacity=0.55).encode(x=x("low"), x2="high:Q")
    points = base.mark_point(size=110, filled=True, opacity=1).encode(
        x=x("value"), shape=alt.Shape("shape:N", scale=None, legend=None)
    )
    said = base.mark_text(dy=-13, fontSize=11.5).encode(x=x("place"), text="shown:N", color=alt.value(theme.MUTED))
    return drawing.finish(
        drawing.layered(*_ground(x, axis, band), bars, points, *_limits(x, rows, names), said),
        title,
        words,
        height=_ROW * len(marks) + 8,
    )


def _row(mark: Mark, start: float, end: float, *, log: bool) -> dict[str, object]:
    return {
        "label": mark.label,
        "value": min(max(mark.value, start), end),
        "low": max(mark.low, start),
        "high": min(mark.high, end),
        "place": _inside(mark.value, start, end, log=log),
        "outcome": mark.outcome,
        "shown": mark.shown,
        "shape": "diamond" if mark.mean else "circle",
        "limit": mark.limit,
        "limit_shown": "" if mark.limit is None else f"{mark.limit:.4g}",
    }


def _inside(value: float, start: float, end: float, *, log: bool) -> float:
    """Where words are centred: at the value, but a quarter of the plot away from its edges."""
    change, back = (math.log, math.exp) if log else (float, float)
    low, high = change(start), change(end)
    return back(min(max(change(max(value, start)), low + 0.27 * (high - low)), high - 0.27 * (high - low)))


def _domain(marks: Sequence[Mark], axis: Axis, band: float) -> tuple[float, float, bool]:
    """What the plot spans, a little beyond every finite end; and whether its scale is logarithmic."""
    ends = [v for m in marks for v in (m.low, m.value, m.high, m.limit) if v is not None and math.isfinite(v)]
    if axis in ("points", "plain"):
        ends += [0.0] if axis == "points" else []
        reach = max(max(ends) - min(ends), 1e-6)
        return min(ends) - 0.08 * reach, max(ends) + 0.08 * reach, False
    ends = [v for v in ends if v > 0]
    if axis == "ratio":
        ends += [1.0, 1 + band, 1 / (1 + band)]
        if max(ends) / min(ends) < _NARROW:
            reach = max(max(ends) - min(ends), 1e-4)
            return min(ends) - 0.08 * reach, max(ends) + 0.08 * reach, False
    spread = max(max(ends) / min(ends), 1.02) ** 0.08
    return min(ends) / spread, max(ends) * spread, True


def _ticks(axis: Axis, start: float, end: float, *, log: bool) -> alt.Axis:
    import altair as alt

    if axis == "ratio" and not log:
        return alt.Axis(tickCount=6, labelExpr="format(100 * (datum.value - 1), '+.2~f') + ' %'")
    if not log:
        return alt.Axis(tickCount=6, format="~g")
    steps = [(m, m * 10.0**e) for e in range(-12, 13) for m in (1, 2, 5)]
    inside = [(m, step) for m, step in steps if start <= step <= end]
    few = [step for m, step in inside if m == 1 or len(inside) <= 8]
    suffix = " + 'x'" if axis == "ratio" else ""
    return alt.Axis(values=few or [start, end], labelExpr=f"format(datum.value, ',.3~r'){suffix}")


def _ground(x: Callable[[str], alt.X], axis: Axis, band: float) -> list[alt.Chart]:
    """The band, and the rule of no difference."""
    import altair as alt

    drawn = []
    if band:
        ends = drawing.data([{"from": 1 / (1 + band), "to": 1 + band}])
        drawn.append(alt.Chart(ends).mark_rect(color=theme.BAND, opacity=0.8).encode(x=x("from"), x2="to:Q"))
    if axis in ("ratio", "points"):
        middle = drawing.data([{"same": 1.0 if axis == "ratio" else 0.0}])
        drawn.append(alt.Chart(middle).mark_rule(color=theme.MUTED, strokeDash=[5, 4]).encode(x=x("same")))
    return drawn


def _limits(x: Callable[[str], alt.X], rows: Rows, names: Sequence[str]) -> list[alt.Chart]:
    import altair as alt

    held = [row for row in rows if row["limit"] is not None]
    if not held:
        return []
    tick = alt.Chart(drawing.data(held)).mark_tick(color=theme.INK, thickness=3, size=26)
    return [tick.encode(x=x("limit"), y=alt.Y("label:N", sort=list(names)))]
