"""Charts of a profile's layers: points under the roofline, and bars against the least time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from steelyard.records import RunRecords
from steelyard.report import drawing, numbers, theme
from steelyard.report.drawing import Rows
from steelyard.report.profiling import layer_rows, placed_layers

if TYPE_CHECKING:
    import altair as alt

__all__ = ["BOUNDS", "layer_bars", "layer_points", "point_rows"]

BOUNDS = {
    "compute": theme.CHOSEN,
    "memory": theme.OTHERS[0],
    "dispatch": theme.OTHERS[1],
    "other": theme.BASELINE,
}
MOST_BARS = 15


def point_rows(records: RunRecords) -> Rows:
    """Each layer with arithmetic: its intensity, what it attains, what bounds it, and its time."""
    found = placed_layers(records)
    if found is None or records.profiled is None:
        return []
    placed, _ = found
    rows: Rows = []
    for i, row in enumerate(records.profiled.layers):
        flops, moved, seconds = (float(a[i]) for a in (placed.flops, placed.moved_bytes, placed.seconds))
        if flops > 0 and moved > 0 and seconds > 0:
            rows.append(
                {
                    "layer": row.layer or "(outside layers)",
                    "operator": row.operator,
                    "intensity": flops / moved,
                    "flops": flops / seconds,
                    "seconds": seconds,
                    "bound": placed.bounds[i] or "other",
                    "time": numbers.seconds(seconds),
                    "attained": numbers.quantity(flops / seconds, "FLOP/s"),
                    "share": f"{100 * float(placed.share[i]):.0f} %",
                }
            )
    return rows


def layer_points(rows: Rows) -> alt.Chart:
    """Layers as circles whose area is their time."""
    import altair as alt

    points: alt.Chart = (
        alt.Chart(drawing.data(rows))
        .mark_circle(opacity=0.55, strokeWidth=0)
        .encode(
            x="intensity:Q",
            y="flops:Q",
            size=alt.Size("seconds:Q", scale=alt.Scale(range=[20, 420]), legend=None),
            color=alt.value(theme.INK),
            tooltip=drawing.tips(
                layer="layer", operator="operator", time="time", attained="attained", roof="share", bound="bound"
            ),
        )
    )
    return points


def layer_bars(records: RunRecords) -> alt.LayerChart | None:
    """The layers that take most time, coloured by what bounds them, each with its least time under the roof."""
    import altair as alt

    rows = _bar_rows(records)
    if not rows:
        return None
    names = [row["name"] for row in rows]
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("name:N", title=None, sort=names, axis=alt.Axis(labelLimit=250)),
        tooltip=drawing.tips(layer="name", time="time", share="share", roof="of_roof", bound="bound"),
    )
    x = alt.X("ms:Q", title="ms per inference")
    bars = base.mark_bar(cornerRadiusEnd=2, size=14).encode(
        x=x, color=drawing.colour("bound", BOUNDS, [row["bound"] for row in rows])
    )
    spread = base.mark_rule(color=theme.INK, strokeWidth=1, opacity=0.7).encode(x="low:Q", x2="high:Q")
    least = base.mark_tick(color=theme.INK, thickness=2, size=16).encode(x="least:Q")
    return drawing.finish(
        drawing.layered(bars, spread, least),
        "Layers that take most time",
        "Bar: median. Line: the middle half of the inferences. Tick: the least time at this machine's measured peaks. Colour:"
        " what bounds the layer.",
        height=24 * len(rows) + 20,
    )


def _bar_rows(records: RunRecords) -> Rows:
    found, profiled = placed_layers(records), records.profiled
    if found is None or profiled is None:
        return []
    placed, _ = found
    order = np.argsort(-placed.seconds, kind="stable")[:MOST_BARS]
    rows: Rows = []
    for i, shown in zip(order.tolist(), layer_rows(records, len(order)), strict=False):
        row, seconds = profiled.layers[i], float(placed.seconds[i])
        raw = max(float(np.median(row.seconds)), 1e-12)
        low, high = np.quantile(row.seconds, (0.25, 0.75)) * (seconds / raw)
        rows.append(
            {
                "name": f"{row.layer or '(outside layers)'} {row.operator}",
                "ms": 1e3 * seconds,
                "low": 1e3 * float(low),
                "high": 1e3 * float(high),
                "least": 1e3 * float(placed.least_s[i]),
                "bound": placed.bounds[i] or "other",
                "time": shown.time,
                "share": shown.share,
                "of_roof": shown.of_roof,
            }
        )
    return rows
