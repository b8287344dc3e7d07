"""The Pareto front drawn over two axes of one's choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steelyard.records import RunRecords
from steelyard.report import drawing, theme
from steelyard.report.frontier import AXES, Candidate, Value, axes_of, candidates, shown

if TYPE_CHECKING:
    import altair as alt

__all__ = ["frontier"]

_SCALES = {"byte": 1e-6, "points": 100.0, "x": 1.0}
_STANDINGS = {"chosen": theme.CHOSEN, "finalist": theme.OTHERS[0], "weighed": theme.BASELINE, "baseline": theme.INK}


def frontier(records: RunRecords, axes: Sequence[str] = ("latency", "size")) -> alt.LayerChart | None:
    """Every weighed candidate on the first two of the `axes`, and the front among them as a line; None where there is none.

    The front is that of these two axes. Raises `InvalidInput` as `axes_of` does.
    """
    import altair as alt

    names = axes_of(axes)[:2]
    found = candidates(records, names)
    if len(found) < 2:  # the baseline alone
        return None
    rows = [_row(c, names) for c in found]
    scale = alt.Scale(zero=True, nice=True)
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("x:Q", title=_title(names[0]), scale=scale),
        y=alt.Y("y:Q", title=_title(names[1]), scale=scale),
        color=drawing.colour("standing", _STANDINGS, [c.standing for c in found]),
        tooltip=drawing.tips(plan="plan", stands="standing", **{name: f"shown_{name}" for name in names}),
    )
    best = drawing.data([r for r in rows if r["front"]])
    line = alt.Chart(best).mark_line(interpolate="step-after", color=theme.MUTED, strokeDash=[5, 4], strokeWidth=1.5)
    across = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=alt.X("x_low:Q"), x2="x_high:Q")
    upright = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=alt.Y("y_low:Q"), y2="y_high:Q")
    return drawing.finish(
        drawing.layered(line.encode(x="x:Q", y="y:Q"), across, upright, base.mark_circle(size=110, opacity=1)),
        f"{names[0].capitalize()} against {names[1]}",
        "Less is better on both axes. No candidate beats those on the dashed line on both at once.",
        height=320,
    )


def _title(name: str) -> str:
    return f"{AXES[name].title}{', MB' if AXES[name].unit == 'byte' else ''}"


def _row(candidate: Candidate, names: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "plan": str(candidate.plan),
        "standing": candidate.standing,
        "front": candidate.on_front,
    }
    for at, name in zip(("x", "y"), names, strict=True):
        value, low, high = _drawn(candidate.values[name], _SCALES[AXES[name].unit])
        row |= {at: value, f"{at}_low": low, f"{at}_high": high, f"shown_{name}": shown(name, candidate.values[name])}
    return row


def _drawn(found: Value, scale: float) -> tuple[float, float, float]:
    """In the axis's unit; an end that is not bounded stays at the point."""
    value = found.value * scale
    bounded = found.high < float("inf")
    return value, (found.low * scale if bounded else value), (found.high * scale if bounded else value)
