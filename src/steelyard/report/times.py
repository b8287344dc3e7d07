"""Times of models that took turns, as rows and as charts: box plots, and the run slot after slot."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Sample
from steelyard.report import drawing, numbers, theme
from steelyard.report.drawing import Rows

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "MOST_POINTS",
    "Timings",
    "box",
    "box_chart",
    "by_block",
    "flagged_rounds",
    "round_boxes",
    "scaled_time",
    "series_chart",
    "slots",
    "time_unit",
]

MOST_POINTS = 400  # of one line; beyond, neighbours are joined by their median
MOST_ROUNDS = 20  # that boxes stand side by side for; beyond, rounds are joined

Timings = Mapping[str, NDArray[np.float64]]  # name -> (rounds, slots) seconds


def by_block(sample: Sample) -> NDArray[np.float64]:
    """(blocks, readings); ragged blocks are laid end to end as one."""
    if sample.blocks is not None:
        sizes = np.unique(sample.blocks, return_counts=True)[1]
        if np.all(sizes == sizes[0]):
            return sample.values[np.argsort(sample.blocks, kind="stable")].reshape(len(sizes), -1)
    return sample.values.reshape(1, -1)


def time_unit(timings: Timings) -> tuple[float, str]:
    """Seconds of the unit in which the slowest model's median reads best, and its name."""
    return scaled_time(max(float(np.nanmedian(values)) for values in timings.values()))


def scaled_time(seconds: float) -> tuple[float, str]:
    """The unit for one time.

    >>> scaled_time(0.02), scaled_time(3e-9)
    ((0.001, 'ms'), (1e-06, 'µs'))
    """
    scales = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    return next(((scale, unit) for scale, unit in scales if seconds >= scale), scales[-1])


# --- boxes -----------------------------------------------------------------------------------------


def box(name: str, seconds: NDArray[np.float64], factor: float, unit: str) -> dict[str, Any]:
    """Seven numbers of one model's readings, and the same in words."""
    values = seconds[np.isfinite(seconds)] / factor
    keys = ("least", "p5", "q1", "median", "q3", "p95", "most")
    row = dict(zip(keys, np.quantile(values, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)).tolist(), strict=True))
    text = {key: numbers.significant(value) for key, value in row.items()}
    return {
        "model": name,
        **row,
        "n": f"{values.size:,}",
        "shown_median": f"{text['median']} {unit}",
        "shown_quartiles": f"{text['q1']} to {text['q3']} {unit}",
        "shown_range": f"{text['least']} to {text['most']} {unit}",
    }


def box_chart(timings: Timings, colours: Mapping[str, str], title: str) -> alt.LayerChart | None:
    """One box for each model."""
    import altair as alt

    if not timings:
        return None
    factor, unit = time_unit(timings)
    rows = [box(name, values, factor, unit) for name, values in timings.items()]
    wide = max(r["most"] for r in rows) > 20 * min(r["least"] for r in rows)
    scale = alt.Scale(type="log", padding=12, nice=False) if wide else alt.Scale(zero=len(rows) > 1)
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("model:N", title=None, sort=list(timings)),
        color=drawing.colour("model", colours, list(timings), legend=False),
        tooltip=_box_tips("model"),
    )
    axis = (
        alt.Axis(tickCount=5, labelExpr=f"format({factor:g} * datum.value, '~s') + 's'")
        if wide
        else alt.Axis(format=",.3~r")
    )
    x = alt.X("p5:Q", title="latency" if wide else f"latency, {unit}", scale=scale, axis=axis)
    whiskers = base.mark_rule(strokeWidth=1.5).encode(x=x, x2="p95:Q")
    boxes = base.mark_bar(size=18, cornerRadius=2).encode(x="q1:Q", x2="q3:Q")
    medians = base.mark_tick(color=theme.INK, thickness=2, size=24).encode(x="median:Q", color=alt.value(theme.INK))
    low = base.mark_point(size=22, filled=True, opacity=0.7).encode(x="least:Q")
    high = base.mark_point(size=22, filled=True, opacity=0.7).encode(x="most:Q")
    return drawing.finish(
        drawing.layered(whiskers, boxes, medians, low, high),
        title,
        "Box: the middle half. Line: 5 % to 95 %. Tick: median. Dots: the fastest and the slowest reading."
        + (" The scale is logarithmic." if wide else ""),
        height=44 * len(rows) + 20,
    )


def round_boxes(timings: Timings, colours: Mapping[str, str], flags: Sequence[str] = ()) -> alt.LayerChart | None:
    """Boxes of all models side by side, round after round; flagged rounds bear a mark below."""
    import altair as alt

    if not timings:
        return None
    factor, unit = time_unit(timings)
    count = len(next(iter(timings.values())))
    step = math.ceil(count / MOST_ROUNDS)
    flagged = flagged_rounds(flags)
    rows: Rows = [
        {**box(name, values[first : first + step], factor, unit), "round": _label(first, step, count)}
        for first in range(0, count, step)
        for name, values in timings.items()
        if np.isfinite(values[first : first + step]).any()
    ]
    least, most = min(r["p5"] for r in rows), max(r["p95"] for r in rows)
    x = alt.X("round:O", title="round" if step == 1 else "rounds", sort=None, axis=alt.Axis(labelAngle=0, labelOverlap=True))  # fmt: skip
    wide = most > 2 * least
    scale = alt.Scale(type="log", padding=10, nice=False) if wide else alt.Scale(zero=False, padding=14)
    base = alt.Chart(drawing.data(rows)).encode(
        x=x,
        xOffset=alt.XOffset("model:N", sort=list(timings)),
        color=drawing.colour("model", colours, list(timings)),
        tooltip=[alt.Tooltip("round:N", title="round"), *_box_tips("model")],
    )
    whiskers = base.mark_rule(strokeWidth=1.2).encode(
        y=alt.Y("p5:Q", title=f"latency, {unit}", scale=scale, axis=alt.Axis(tickCount=6, format=",.3~r")), y2="p95:Q"
    )
    boxes = base.mark_bar(cornerRadius=1).encode(y="q1:Q", y2="q3:Q")
    medians = base.mark_tick(thickness=2).encode(y="median:Q", color=alt.value(theme.INK))
    seen = [
        {"round": _label(first, step, count), "why": "; ".join(why)}
        for first in range(0, count, step)
        if (why := [f"round {r}: {flagged[r]}" for r in range(first + 1, first + step + 1) if r in flagged])
    ]
    mark = alt.Chart(drawing.data(seen)).mark_text(text="▲", dy=-6, color=theme.UNDECIDED, fontSize=10)
    marks = mark.encode(x=x, y=alt.value("height"), tooltip=drawing.tips(flagged="why"))
    return drawing.finish(
        drawing.layered(whiskers, boxes, medians, *((marks,) if seen else ())),
        "Latency by round",
        "Each round is a set of fresh processes. Box: the middle half of its slots, line: 5 % to 95 %, tick: median."
        + (f" {step} rounds are joined in each group." if step > 1 else "")
        + (" Triangles: flagged, and kept." if seen else ""),
        height=260,
    )


def _label(first: int, step: int, count: int) -> str:
    """A round's name, or that of several.

    >>> _label(4, 1, 10), _label(9, 3, 11)
    ('5', '10-11')
    """
    last = min(first + step, count)
    return str(last) if step == 1 else f"{first + 1}-{last}"


def _box_tips(name: str) -> list[alt.Tooltip]:
    return drawing.tips(
        **{name: "model"}, median="shown_median", quartiles="shown_quartiles", range="shown_range", readings="n"
    )


# --- the run, slot after slot ----------------------------------------------------------------------


def slots(name: str, seconds: NDArray[np.float64], factor: float) -> Rows:
    """Points of one line. Rounds stay apart: only neighbours within a round are joined."""
    rounds, count = seconds.shape
    step = max(1, math.ceil(seconds.size / MOST_POINTS))
    return [
        {
            "model": name,
            "round": r + 1,
            "slot": r * count + s,
            "start": r * count,
            "latency": float(f"{np.nanmedian(seconds[r, s : s + step]) / factor:.5g}"),
        }
        for r in range(rounds)
        for s in range(0, count, step)
        if np.isfinite(seconds[r, s : s + step]).any()
    ]


def flagged_rounds(flags: Sequence[str]) -> dict[int, str]:
    """What was said of each flagged round, rounds counted from 1.

    >>> flagged_rounds(("round 4: steal 3 %", "round 4: other load 9%", "throttled 2 times"))
    {4: 'steal 3 %; other load 9%', 1: 'throttled 2 times'}
    """
    said: dict[int, list[str]] = {}
    for flag in flags:
        found = re.fullmatch(r"round (\d+): (.*)", flag)
        said.setdefault(int(found[1]) if found else 1, []).append(found[2] if found else flag)
    return {number: "; ".join(why) for number, why in said.items()}


def series_chart(timings: Timings, colours: Mapping[str, str], flags: Sequence[str] = ()) -> alt.LayerChart | None:
    """Latency over the run, slot after slot: drift and outliers as they happened, none removed; flagged rounds tinted."""
    import altair as alt

    if not timings:
        return None
    factor, unit = time_unit(timings)
    rows = [row for name, values in timings.items() for row in slots(name, values, factor)]
    every = [r["latency"] for r in rows]
    wide = max(every) > 2 * min(every)
    scale = alt.Scale(type="log", nice=False, padding=14) if wide else alt.Scale(zero=False)
    lines = (
        alt.Chart(drawing.data(rows))
        .mark_line(strokeWidth=1.4, clip=True)
        .encode(
            x=alt.X("slot:Q", title="reading, in the order they were taken", axis=alt.Axis(grid=False)),
            y=alt.Y("latency:Q", title=f"latency, {unit}", scale=scale, axis=alt.Axis(tickCount=6, format=",.3~r")),
            color=drawing.colour("model", colours, list(timings)),
            detail="start:Q",
            tooltip=[
                *drawing.tips(model="model", round="round"),
                alt.Tooltip("slot:Q", title="slot"),
                alt.Tooltip("latency:Q", title=unit, format=".4~g"),
            ],
        )
    )
    starts = [{"slot": s} for s in sorted({r["start"] for r in rows}) if s]
    seams = alt.Chart(drawing.data(starts)).mark_rule(color=theme.GRID, strokeDash=[2, 3]).encode(x="slot:Q")
    flagged = _flag_rows(next(iter(timings.values())).shape, flags)
    spans = alt.Chart(drawing.data(flagged)).mark_rect(color=theme.UNDECIDED, opacity=0.14)
    tinted = spans.encode(x="slot:Q", x2="end:Q", tooltip=drawing.tips(round="round", flagged="why"))
    joined = max(values.size for values in timings.values()) > MOST_POINTS
    return drawing.finish(
        drawing.layered(*((tinted,) if flagged else ()), *((seams,) if starts else ()), lines),
        "Latency over the run",
        ("Dotted lines part the rounds, each a fresh set of processes." if starts else "Every reading of one process.")
        + (" Tinted rounds are flagged, and kept." if flagged else "")
        + (f" Neighbours are joined by their median to at most {MOST_POINTS} points a line." if joined else ""),
        height=280,
    )


def _flag_rows(shape: tuple[int, ...], flags: Sequence[str]) -> Rows:
    rounds, count = shape
    return [
        {"slot": (r - 1) * count, "end": r * count, "round": str(r), "why": why}
        for r, why in sorted(flagged_rounds(flags).items())
        if r <= rounds
    ]
