"""Charts of a comparison: the record in, an Altair chart out, or None where nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Compared, Comparison, Estimate, Sample
from steelyard.report import derive, drawing, numbers, theme, times
from steelyard.report.forest import Mark, forest
from steelyard.stats.paired import log_ratio_interval, sign_flip_interval
from steelyard.stats.sequence import FIRST, t_sequence, widened

if TYPE_CHECKING:
    import altair as alt

__all__ = ["CHARTS", "change", "control_narrowing", "narrowing", "resources", "round_boxes", "series", "verdict"]

Floats = NDArray[np.float64]
Chart = Any  # alt.LayerChart | alt.VConcatChart, known only where Altair is loaded

_RESOURCES = {"memory_running_bytes": "peak memory", "cpu_s": "processor time"}


def change(ratio: float) -> str:
    """A ratio as a change in per cent, or as a factor where it is far from 1.

    >>> change(1.0213), change(0.9991), change(3.5)
    ('+2.13 %', '-0.09 %', '3.50x')
    """
    if not math.isfinite(ratio):
        return "no bound"
    return f"{100 * (ratio - 1):+.2f} %" if 0.5 < ratio < 2 else numbers.ratio(ratio)


def _span(value: float, low: float, high: float) -> str:
    return (
        f"{change(value)} ({change(low)} to {change(high)})" if math.isfinite(high) else f"{change(value)} (no bound)"
    )


# --- verdict -----------------------------------------------------------------------------------------


def verdict(found: Compared) -> Chart:
    """The interval that decided, those beside it, the control, and what quality lost."""
    return drawing.stacked([c for c in (_times(found), _drops(found)) if c is not None])


def _times(found: Compared) -> alt.LayerChart | None:
    marks = tuple(_time_marks(found))
    return forest(
        marks,
        "Verdict on time",
        f"Time of {found.names[1]} against {found.names[0]}: left is faster. Tinted: too small to matter, within "
        f"{100 * found.band:.3g} %. The top row decides; t and sign flips hold only if the number of rounds had been fixed.",
        axis="ratio",
        x_title="change of the time",
        band=found.band,
    )


def _time_marks(found: Compared) -> Iterator[Mark]:
    comparison = found.comparison
    if comparison is None or found.ratio is None:
        return
    readings = _logs(comparison, "second")
    yield _mark("confidence sequence", found.ratio, found.outcome)
    if len(readings) > 1:
        for name, interval in (("t", log_ratio_interval), ("sign flips", sign_flip_interval)):
            value, low, high = interval(readings, found.level)
            yield Mark(
                label=f"{name}, beside it", value=value, low=low, high=high, outcome="beside it",
                shown=_span(value, low, high),
            )  # fmt: skip
    if found.control is not None:
        yield _mark("A/A control", found.control, "alarm" if found.control_alarm else "beside it")


def _mark(label: str, found: Estimate, stands: str) -> Mark:
    shown = _span(found.value, found.low, found.high)
    return Mark(label=label, value=found.value, low=found.low, high=found.high, outcome=stands, shown=shown)


def _drops(found: Compared) -> alt.LayerChart | None:
    """Drops of metrics that are shares, in points."""
    marks = [
        Mark(
            label=d.metric,
            value=100 * d.drop.value,
            low=100 * d.drop.low,
            high=100 * d.drop.high,
            outcome=d.outcome,
            shown=numbers.points(d.drop.value, d.drop.low, d.drop.high),
        )
        for d in found.differences
        if isinstance(d.drop, Estimate) and d.drop.unit == "fraction"
    ]
    return forest(
        marks,
        "Verdict on quality",
        f"What {found.names[1]} loses against {found.names[0]} on the same {found.examples:,} examples: right of 0 is worse.",
        axis="points",
        x_title="drop, points",
    )


def resources(found: Compared) -> Chart:
    """Ratios of peak memory and, of commands, processor time: t over rounds of fresh processes."""
    marks = [mark for quantity, name in _RESOURCES.items() if (mark := _resource(found, quantity, name)) is not None]
    return forest(
        marks,
        "Memory" if found.kind != "commands" else "Memory and processor time",
        f"{found.names[1]} against {found.names[0]}, 95 % t over rounds of fresh processes. Beside the verdict, not part of it.",
        axis="ratio",
        x_title="ratio" if any(_far(m) for m in marks) else "change",
    )


def _far(mark: Mark) -> bool:
    return not 2 / 3 < mark.value < 1.5


def _resource(found: Compared, quantity: str, name: str) -> Mark | None:
    comparison = found.comparison
    sides = [_by_round(comparison, arm, quantity) for arm in (0, 1)]
    first, second = sides
    if first is None or second is None or len(first) != len(second) or len(first) < 2:
        return None
    value, low, high = log_ratio_interval(np.log(second / first))
    return Mark(label=name, value=value, low=low, high=high, outcome="beside it", shown=_span(value, low, high))


def _by_round(comparison: Comparison | None, arm: int, quantity: str) -> Floats | None:
    """One positive reading a round: the median where a round has several."""
    rows = comparison.readings[arm] if comparison is not None and comparison.readings else ()
    sample = next((r for r in rows if isinstance(r, Sample) and r.quantity == quantity), None)
    if sample is None or not (sample.values > 0).all():
        return None
    if sample.blocks is None:
        return sample.values
    return np.array([np.median(sample.values[sample.blocks == block]) for block in np.unique(sample.blocks)])


# --- round by round ----------------------------------------------------------------------------------


def narrowing(found: Compared) -> Chart:
    """How the interval of the time narrowed against the band, round by round."""
    words = (
        "Dots: the ratio of each round. Tinted and narrowing: the confidence sequence, which holds at every look; "
        f"line: the mean so far. Nothing is said before round {FIRST}. The band is ±{100 * found.band:.3g} %."
    )
    return _narrowing(found, "second", "How the answer became clear", words, theme.CHOSEN)


def control_narrowing(found: Compared) -> Chart:
    """The same of the control, which must hold no difference."""
    words = f"{found.names[0]} against itself, through the same rounds and the same sequence: " + (
        "it found a difference where there is none, so the intervals of the time were widened by as much."
        if found.control_alarm
        else "no false alarm."
    )
    return _narrowing(found, "control", "A/A control", words, theme.BROKEN if found.control_alarm else theme.BASELINE)


def _narrowing(found: Compared, arm: str, title: str, words: str, colour: str) -> alt.LayerChart | None:
    import altair as alt

    if found.comparison is None:
        return None
    rows = _looks(found, found.comparison, arm)
    x = alt.X(
        "round:Q", title="round", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(nice=False, padding=8)
    )
    axis = alt.Axis(tickCount=6, labelExpr="format(100 * (datum.value - 1), '+.2~f') + ' %'")
    y = alt.Y("ratio:Q", title="change of the time", scale=alt.Scale(type="log", nice=False, padding=10), axis=axis)
    tips = drawing.tips(round="round", ratio="shown", sequence="interval", flagged="flagged")
    base = alt.Chart(drawing.data(rows)).encode(x=x, tooltip=tips)
    dots = base.mark_circle(size=46, opacity=0.75, color=colour).encode(y=y)
    looks = [row for row in rows if row["low"] is not None]
    drawn = alt.Chart(drawing.data(looks)).encode(x=x, tooltip=tips)
    area = drawn.mark_area(opacity=0.2, color=colour).encode(y="low:Q", y2="high:Q")
    mean = drawn.mark_line(strokeWidth=2, color=colour).encode(y="mean:Q")
    band = drawing.data([{"low": 1 / (1 + found.band), "high": 1 + found.band}])
    tint = alt.Chart(band).mark_rect(color=theme.BAND, opacity=0.8).encode(y="low:Q", y2="high:Q")
    same = alt.Chart(drawing.data([{"same": 1.0}])).mark_rule(color=theme.MUTED, strokeDash=[5, 4]).encode(y="same:Q")
    return drawing.finish(
        drawing.layered(tint, same, *((area, mean) if len(looks) > 1 else ()), dots), title, words, height=260
    )


def _looks(found: Compared, comparison: Comparison, arm: str) -> drawing.Rows:
    """One row a round: its ratio, the mean so far and the sequence after it, which the control widens as it does the verdict."""
    readings = _logs(comparison, arm)
    lows, highs = t_sequence(readings, found.time_level)
    if arm != "control" and "control" in comparison.arms:
        lows, highs = widened((lows, highs), t_sequence(_logs(comparison, "control"), found.time_level))
    means = np.cumsum(readings) / np.arange(1, len(readings) + 1)
    flags = times.flagged_rounds(comparison.flags)
    return [_look(i + 1, *each, flags) for i, each in enumerate(zip(readings, means, lows, highs, strict=True))]


def _look(number: int, log: float, mean: float, low: float, high: float, flags: Mapping[int, str]) -> dict[str, Any]:
    looked = number >= FIRST and math.isfinite(low)
    return {
        "round": number,
        "ratio": math.exp(log),
        "mean": math.exp(mean),
        "low": math.exp(low) if looked else None,
        "high": math.exp(high) if looked else None,
        "shown": change(math.exp(log)),
        "interval": f"{change(math.exp(low))} to {change(math.exp(high))}" if looked else "none yet",
        "flagged": flags.get(number, "no"),
    }


def _logs(comparison: Comparison, arm: str) -> Floats:
    return derive.arm_logs(comparison, comparison.arms.index(arm))


# --- raw times ---------------------------------------------------------------------------------------


def round_boxes(found: Compared) -> Chart:
    """Box plots of the arms, round by round."""
    return times.round_boxes(_timings(found), _colours(found), _flags(found))


def series(found: Compared) -> Chart:
    """Every slot in the order of time, flagged rounds tinted."""
    return times.series_chart(_timings(found), _colours(found), _flags(found))


def _timings(found: Compared) -> times.Timings:
    comparison = found.comparison
    if comparison is None:
        return {}
    names = _arm_names(found)
    return {names[arm]: comparison.seconds[:, :, i] for i, arm in enumerate(comparison.arms)}


def _arm_names(found: Compared) -> dict[str, str]:
    first, second = found.names
    return {"first": first, "second": second, "control": f"{first} again, the control"}


def _colours(found: Compared) -> dict[str, str]:
    colours = {"first": theme.BASELINE, "second": theme.CHOSEN, "control": theme.CONTROL}
    return {name: colours[arm] for arm, name in _arm_names(found).items()}


def _flags(found: Compared) -> tuple[str, ...]:
    return found.comparison.flags if found.comparison is not None else ()


CHARTS: Mapping[str, Callable[[Compared], Chart]] = {
    "verdict": verdict,
    "narrowing": narrowing,
    "control": control_narrowing,
    "resources": resources,
    "round_boxes": round_boxes,
    "series": series,
}
