"""The web of a radar chart: rings, spokes and names, in plain coordinates that keep its shape in any box."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from steelyard.report import drawing, theme

if TYPE_CHECKING:
    import altair as alt

__all__ = ["round_axes", "spoke", "web"]


def spoke(i: int, axes: Sequence[object], radius: float) -> dict[str, float]:
    """The point on axis `i` at `radius`, the first axis upright."""
    angle = 2 * math.pi * i / len(axes)
    return {"x": round(radius * math.sin(angle), 4), "y": round(radius * math.cos(angle), 4)}


def round_axes() -> tuple[alt.X, alt.Y]:
    """Axes whose units are as long across as upright, whatever the size of the box."""
    import altair as alt

    def scale(side: str) -> alt.Scale:
        radius = "max(40, min(width / 2 - 100, height / 2 - 36))"  # in pixels: the rest is for the names
        reach = f"{side} / 2 / {radius}"
        return alt.Scale(domainMin=alt.ExprRef(expr=f"-{reach}"), domainMax=alt.ExprRef(expr=reach), nice=False)

    return alt.X("x:Q", axis=None, scale=scale("width")), alt.Y("y:Q", axis=None, scale=scale("height"))


def web(titles: Sequence[str]) -> tuple[alt.Chart, ...]:
    """Rings at every quarter, a spoke and a name for each axis."""
    import altair as alt

    x, y = round_axes()
    around = range(len(titles))
    rings = [{"ring": r, "place": i, **spoke(i, titles, r)} for r in (0.25, 0.5, 0.75, 1.0) for i in around]
    spokes = [{"spoke": i, "place": r, **spoke(i, titles, r)} for i in around for r in (0, 1)]
    names = [
        {"name": "\n".join(textwrap.wrap(title, 16)), **spoke(i, titles, 1.09), "side": _side(i, titles)}
        for i, title in enumerate(titles)
    ]
    closed = alt.Chart(drawing.data(rings)).mark_line(interpolate="linear-closed", color=theme.GRID, strokeWidth=1)
    straight = alt.Chart(drawing.data(spokes)).mark_line(color=theme.GRID, strokeWidth=1)
    words = tuple(
        alt.Chart(drawing.data(own))
        .mark_text(align=side, lineBreak="\n", baseline="middle", limit=110, color=theme.MUTED)
        .encode(x=x, y=y, text=alt.Text("name:N"))
        for side in _SIDES
        if (own := [n for n in names if n["side"] == side])
    )
    return (
        closed.encode(x=x, y=y, order=alt.Order("place:Q"), detail=alt.Detail("ring:N")),
        straight.encode(x=x, y=y, order=alt.Order("place:Q"), detail=alt.Detail("spoke:N")),
        *words,
    )


_SIDES: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "right")


def _side(i: int, axes: Sequence[object]) -> Literal["left", "center", "right"]:
    """Which end of an axis' name stands at the axis."""
    across = math.sin(2 * math.pi * i / len(axes))
    return "center" if abs(across) < 0.2 else "left" if across > 0 else "right"
