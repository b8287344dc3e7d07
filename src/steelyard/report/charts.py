"""One function per chart: records in, an Altair chart out, or None where its records are absent.

The same specifications are drawn by the page, by a notebook and by :func:`save_figures`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.records import (
    Comparison,
    Estimate,
    Finding,
    Measurement,
    Plan,
    Predictions,
    Requirement,
    RunRecords,
    Sample,
)
from steelyard.report import (
    curves,
    derive,
    drawing,
    frontier_chart,
    layers,
    loads,
    numbers,
    sensitive,
    tables,
    theme,
    times,
    watching,
)
from steelyard.report import energy as joules
from steelyard.report import memory as roles
from steelyard.report.drawing import Rows
from steelyard.report.profiling import placed_layers
from steelyard.stats.knee import Knee
from steelyard.stats.roofline import Roof, Traffic, roof_of

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "CHARTS",
    "confusion",
    "control",
    "control_words",
    "energy",
    "energy_chart",
    "forecasts",
    "latency_boxes",
    "latency_rounds",
    "memory",
    "memory_chart",
    "operators",
    "pareto",
    "placed",
    "rate_chart",
    "roof_chart",
    "roofline",
    "save_figures",
    "throughput",
]

MOST_OPERATORS = 12
LEAST_SHARE = 0.001  # of the operators' time; those below are joined with the others
MOST_CLASSES = 25

Models = Sequence[tuple[str, Measurement]]


# --- candidates ------------------------------------------------------------------------------------


def pareto(records: RunRecords) -> alt.LayerChart | None:
    """Latency ratio against accuracy drop of every weighed candidate, with the region that the requirements allow."""
    import altair as alt

    rows = _pareto_rows(records)
    if not rows:
        return None
    kinds = {"chosen": theme.CHOSEN, "finalist": theme.OTHERS[0], "weighed": theme.BASELINE, "baseline": theme.INK}
    x = alt.X("ratio:Q", title="latency, candidate / baseline", scale=alt.Scale(zero=True, nice=True))
    y = alt.Y("drop:Q", title="accuracy drop, points (validation)", scale=alt.Scale(zero=True, nice=True))
    base = alt.Chart(drawing.data(rows)).encode(
        x=x,
        y=y,
        color=drawing.colour("standing", kinds, [r["standing"] for r in rows]),
        tooltip=drawing.tips(plan="plan", latency="shown_ratio", drop="shown_drop", size="size", stands="standing"),
    )
    across = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=alt.X("low:Q"), x2="high:Q")
    upright = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=alt.Y("drop_low:Q"), y2="drop_high:Q")
    chosen = alt.Chart(drawing.data([r for r in rows if r["standing"] == "chosen"]))
    name = chosen.mark_text(align="left", dx=9, dy=-9, limit=240).encode(x="ratio:Q", y="drop:Q", text="plan:N")
    named = (name,) if any(r["standing"] == "chosen" for r in rows) else ()  # a layer without rows has no extent
    region = _region(records.run.requirements, rows)
    return drawing.finish(
        drawing.layered(*region, across, upright, base.mark_circle(size=110, opacity=1), *named),
        "Speed against quality",
        "Left is faster, down is better. Bars are 95 % intervals"
        + ("; the tinted corner is what the requirements allow." if region else "."),
        height=320,
    )


def forecasts(records: RunRecords) -> alt.LayerChart | None:
    """Predicted gain against the gain that was then measured; on the diagonal the diagnosis was right."""
    import altair as alt

    pairs = [(p, e) for p, e in tables.forecast_rows(records) if e is not None and e.value > 0]
    if not pairs:
        return None
    rows: Rows = [
        {
            "plan": str(p.plan),
            "predicted": p.gain,
            "ceiling": p.ceiling,
            "obtained": 1 / e.value,
            "low": _inverse(e.high, 1 / e.value),
            "high": _inverse(e.low, 1 / e.value),
            "shown": f"{numbers.significant(p.gain)}x (ceiling {numbers.significant(p.ceiling)}x)",
            "shown_obtained": f"{numbers.significant(1 / e.value)}x",
            "because": p.because,
        }
        for p, e in pairs
    ]
    ends = [v for r in rows for v in (r["predicted"], r["obtained"], r["low"], r["high"])]
    domain = [0.9 * min(ends), 1.15 * max(ends)]
    scale = alt.Scale(type="log", domain=domain, nice=False)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if domain[0] <= t <= domain[1]]
    axis = alt.Axis(values=ticks, format="~g", labelExpr="datum.label + 'x'")
    diagonal = (
        alt.Chart(drawing.data([{"predicted": v, "obtained": v} for v in domain]))
        .mark_line(strokeDash=[5, 4], color=theme.MUTED, strokeWidth=1.5)
        .encode(x="predicted:Q", y="obtained:Q")
    )
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("predicted:Q", scale=scale, axis=axis, title="predicted gain"),
        y=alt.Y("obtained:Q", scale=scale, axis=axis, title="obtained gain"),
        tooltip=drawing.tips(plan="plan", predicted="shown", obtained="shown_obtained", because="because"),
    )
    spread = base.mark_rule(color=theme.CHOSEN, strokeWidth=1.5, opacity=0.6).encode(y="low:Q", y2="high:Q")
    return drawing.finish(
        drawing.layered(diagonal, spread, base.mark_circle(size=110, color=theme.CHOSEN, opacity=1)),
        "Predicted against obtained",
        "Gain is baseline latency / candidate latency. Above the dashed line the candidate did better than predicted.",
        height=320,
    )


def _pareto_rows(records: RunRecords) -> Rows:
    before = records.baseline.on("validation") if records.baseline else None
    rows: Rows = []
    for trial in records.trials:
        ratio = derive.trial_ratio(trial)
        drop = derive.accuracy_drop(before, trial.after.on("validation") if trial.after else None)
        if ratio is None or drop is None or trial.refusal is not None or not math.isfinite(ratio.value):
            continue
        stored = derive.reading(trial.after, "stored_bytes")
        rows.append(
            {
                "plan": str(trial.plan),
                "standing": derive.standing(records, trial),
                "ratio": ratio.value,
                "low": ratio.low if math.isfinite(ratio.high) else ratio.value,  # no bound, no bar
                "high": drawing.finite(ratio.high, ratio.value),
                "drop": 100 * drop.value,
                "drop_low": 100 * drop.low,
                "drop_high": 100 * drop.high,
                "shown_ratio": numbers.ratio(ratio.value, ratio.low, ratio.high),
                "shown_drop": numbers.points(drop.value, drop.low, drop.high),
                "size": numbers.size(stored.value) if isinstance(stored, Sample) else "unavailable",
            }
        )
    if rows:
        here = {"plan": "baseline", "standing": "baseline", "size": "", "drop": 0.0, "ratio": 1.0}
        spans = {"low": 1.0, "high": 1.0, "drop_low": 0.0, "drop_high": 0.0}
        rows.append({**here, **spans, "shown_ratio": "1x", "shown_drop": "0 points"})
    return rows


def _region(requirements: Sequence[Requirement], rows: Rows) -> list[alt.Chart]:
    """The rectangle that a latency ratio and an accuracy drop allow; an absent one leaves its side open."""
    import altair as alt

    limits = {(r.quantity, r.kind): r.limit for r in requirements}
    ratio, drop = limits.get(("latency", "max_ratio")), limits.get(("accuracy", "max_drop"))
    if ratio is None and drop is None:
        return []
    right = ratio if ratio is not None else max(r["high"] for r in rows)
    top = 100 * drop if drop is not None else max(r["drop_high"] for r in rows)
    bottom = min(0.0, *(r["drop_low"] for r in rows))
    corner = [{"x": 0.0, "x2": right, "y": bottom, "y2": top}]
    allowed = alt.Chart(drawing.data(corner)).mark_rect(color=theme.BAND, opacity=0.7)
    return [allowed.encode(x="x:Q", x2="x2:Q", y="y:Q", y2="y2:Q")]


# --- time ------------------------------------------------------------------------------------------


def latency_boxes(records: RunRecords) -> alt.LayerChart | None:
    """Box plots of one inference, one per model."""
    timings = _timings(records)
    return times.box_chart(timings, _model_colours(records, list(timings)), "Latency of one inference")


def latency_rounds(records: RunRecords) -> alt.LayerChart | None:
    """Latency over the run, slot after slot: drift and outliers as they happened, none removed."""
    timings = _timings(records)
    return times.series_chart(timings, _model_colours(records, list(timings)), _flags(records))


def control(records: RunRecords) -> alt.LayerChart | None:
    """The A/A control round by round: a second copy of the baseline, which must come out as fast as the first."""
    import altair as alt

    verification = records.verification
    if verification is None or "control" not in verification.comparison.arms:
        return None
    arm = verification.comparison.arms.index("control")
    ratios = _round_ratios(verification.comparison, arm)
    estimate = verification.control
    rows = [{"round": i + 1, "ratio": r, "shown": numbers.ratio(r)} for i, r in enumerate(ratios)]
    band = [{"low": estimate.low, "high": drawing.finite(estimate.high, max(ratios))}]
    alarm = verification.control_alarm
    colour = theme.BROKEN if alarm else theme.MET
    y = alt.Y("ratio:Q", title="copy / baseline", scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(tickCount=6))
    layers = (
        alt.Chart(drawing.data(band)).mark_rect(color=colour, opacity=0.16).encode(y="low:Q", y2="high:Q"),
        alt.Chart(drawing.data([{"ratio": 1.0}])).mark_rule(color=theme.MUTED, strokeDash=[5, 4]).encode(y="ratio:Q"),
        alt.Chart(drawing.data(rows))
        .mark_circle(size=70, color=colour, opacity=1)
        .encode(
            x=alt.X("round:O", title="round", axis=alt.Axis(labelAngle=0)),
            y=y,
            tooltip=drawing.tips(round="round", ratio="shown"),
        ),
    )
    return drawing.finish(
        drawing.layered(*layers),
        "A/A control",
        f"A second copy of the baseline against the first: {control_words(estimate)}, tinted. "
        + (
            "It found a difference where there is none, so the intervals of times were widened by as much."
            if alarm
            else "No false alarm."
        ),
        height=220,
    )


def control_words(estimate: Estimate) -> str:
    """The control's ratio as a difference in per cent: three digits of a ratio near 1 would hide it."""
    value, low, high = (numbers.fixed(100 * (end - 1), 2) for end in (estimate.value, estimate.low, estimate.high))
    return f"{value} % ({low} to {high})"


def throughput(records: RunRecords) -> alt.LayerChart | None:
    """Examples per second over the batch size, for each model or, of one model alone, for each number of callers."""
    models = _models(records)
    return rate_chart(models, _model_colours(records, [name for name, _ in models]))


def rate_chart(models: Models, model_colours: Mapping[str, str]) -> alt.LayerChart | None:
    """The same of any models; the colours are used where there is one line for each."""
    import altair as alt

    rows = [row for name, m in models for row in _rate_rows(name, m, alone=len(models) == 1)]
    if not rows:
        return None
    several = len({r["callers"] for r in rows}) > 1
    slowest = min(max(r["rate"] for r in rows if r["line"] == line) for line in {r["line"] for r in rows})
    wide = max(r["rate"] for r in rows) > 30 * slowest
    scale = alt.Scale(type="log", nice=False) if wide else alt.Scale()
    colours = curves.callers_colours([r["callers"] for r in rows]) if several else model_colours
    base = alt.Chart(drawing.data(rows)).encode(
        x=curves.batch_axis([r["batch"] for r in rows]),
        y=alt.Y(
            "rate:Q",
            title="examples per second",
            scale=scale,
            axis=alt.Axis(format=",.3~r", tickCount=4 if wide else 6),
        ),
        color=drawing.colour("line", colours, [r["line"] for r in rows]),
        tooltip=drawing.tips(line="line", batch="batch", rate="shown"),
    )
    band = base.mark_area(opacity=0.15).encode(y="low:Q", y2="high:Q")
    points = base.mark_circle(size=60, opacity=1)
    knees = [r for r in rows if r["knee"]]
    ring = alt.Chart(drawing.data(knees)).mark_point(size=260, strokeWidth=2, color=theme.INK)
    rings = [ring.encode(x="batch:Q", y="rate:Q", tooltip=drawing.tips(knee="knee"))] if knees else []
    return drawing.finish(
        drawing.layered(band, base.mark_line(strokeWidth=2), points, *rings),
        "Throughput over batch size",
        "Bands are 95 % intervals over slots that took turns (of old runs, the range of the calls)."
        + (" Rings mark the knee, the smallest batch within 5 % of the best." if knees else ""),
        height=280,
    )


def _rate_rows(name: str, measurement: Measurement, *, alone: bool) -> Rows:
    """Of two models side by side only the rates of a lone caller are drawn."""
    grid = [c for c in loads.cells(measurement) if isinstance(c.rate, Sample) and (alone or c.callers == 1)]
    several = len({c.callers for c in grid}) > 1
    knees = loads.knees(measurement) if alone else {}
    return [_rate_row(curves.callers_name(c.callers) if several else name, c, knees.get(c.callers)) for c in grid]


def _rate_row(line: str, cell: loads.Cell, knee: Knee | None) -> dict[str, Any]:
    assert isinstance(cell.rate, Sample)
    found = loads.rate_estimate(cell.rate)
    value = cell.rate.value if found is None else found.value
    ends = (cell.rate.values.min(), cell.rate.values.max()) if found is None else (found.low, found.high)
    low, high = (drawing.finite(float(end), value) for end in ends)
    marked = knee is not None and knee.outcome in ("knee", "flat") and knee.size == cell.batch
    return {
        "line": line,
        "callers": cell.callers,
        "batch": cell.batch,
        "rate": value,
        "low": low,
        "high": high,
        "shown": numbers.interval(value, low, high, "1/s"),
        "knee": loads.knee_words(knee) if marked and knee is not None else "",
    }


def operators(records: RunRecords) -> alt.LayerChart | None:
    """Time of each operator in one inference of the baseline."""
    import altair as alt

    before = derive.compared(records).before or records.baseline
    samples = before.all("operator_s") if before else ()
    if not samples:
        return None
    rows = _operator_rows(samples)
    factor, unit = times.scaled_time(max(r["s"] for r in rows))
    for row in rows:
        row["time"], row["end"] = row["s"] / factor, row["high"] / factor
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("operator:N", title=None, sort=[r["operator"] for r in rows]),
        x=alt.X("time:Q", title=f"{unit} per inference", scale=alt.Scale(domainMax=1.15 * max(r["end"] for r in rows))),
        tooltip=drawing.tips(operator="operator", time="shown", share="share"),
    )
    bars = base.mark_bar(color=theme.CHOSEN, cornerRadiusEnd=2, size=16)
    shares = base.mark_text(align="left", dx=6, color=theme.MUTED).encode(text="share:N", x="end:Q")
    ranges = [{**row, "low": row["low"] / factor, "high": row["end"]} for row in rows if row["low"] < row["high"]]
    spread = alt.Chart(drawing.data(ranges)).mark_rule(color=theme.INK, strokeWidth=1.2, opacity=0.7)
    drawn = (spread.encode(y=alt.Y("operator:N", sort=[r["operator"] for r in rows]), x="low:Q", x2="high:Q"),)
    return drawing.finish(
        drawing.layered(bars, *(drawn if ranges else ()), shares),
        "Where the baseline's time goes",
        "Time per operator in one inference, and its share of the operators' total."
        + (" Lines: the middle half of the inferences." if ranges else ""),
        height=26 * len(rows) + 20,
    )


# --- memory and machine ----------------------------------------------------------------------------


def memory(records: RunRecords) -> alt.LayerChart | None:
    """Peak memory by role where a process was taken apart; else what stood before loading, what loading and running added."""
    return memory_chart(_models(records))


def memory_chart(models: Models) -> alt.LayerChart | None:
    """The same of any models."""
    rows = [row for name, measurement in models for row in _role_rows(name, measurement)]
    if rows:
        words = "Resident at the peak of a call, by who holds it; the tooltip says how well the roles add up."
        return _memory_bars(rows, "Peak memory by role", words, _ROLE_COLOURS)
    rows = [row for name, measurement in models for row in _memory_rows(name, measurement)]
    if not rows:
        return None
    parts = {"before load": theme.CONTROL, "loading adds": theme.CHOSEN, "running adds": theme.OTHERS[0]}
    words = "Resident memory: before the model is loaded, added by loading, added by running one batch."
    return _memory_bars(rows, "Memory of a fresh process", words, parts)


_ROLE_COLOURS = {
    "weights": theme.CHOSEN,
    "activations": theme.OTHERS[0],
    "workspace": theme.OTHERS[1],
    "runtime": theme.CONTROL,
    "freed": theme.OTHERS[2],
}


def _memory_bars(rows: Rows, title: str, words: str, colours: Mapping[str, str]) -> alt.LayerChart:
    import altair as alt

    names = list(dict.fromkeys(r["model"] for r in rows))
    bars = (
        alt.Chart(drawing.data(rows))
        .mark_bar(size=26, cornerRadius=1)
        .encode(
            y=alt.Y("model:N", title=None, sort=names),
            x=alt.X("low:Q", title="memory, MB", axis=alt.Axis(format="~s")),
            x2="high:Q",
            color=drawing.colour("part", colours, list(colours)),
            tooltip=drawing.tips(model="model", part="part", memory="shown", total="total"),
        )
    )
    return drawing.finish(drawing.layered(bars), title, words, height=56 * len(names) + 20)


def energy(records: RunRecords) -> alt.LayerChart | None:
    """Energy of one inference, an interval bar for each model."""
    models = _models(records)
    words = "Models share their draws: bars that overlap say nothing about the difference."
    return energy_chart(models, _model_colours(records, [name for name, _ in models]), words)


def energy_chart(models: Models, colours: Mapping[str, str], words_of_several: str) -> alt.LayerChart | None:
    """The same of any models."""
    import altair as alt

    found = [(name, joules.per_inference(measurement)) for name, measurement in models]
    known = [(name, each) for name, each in found if isinstance(each, Estimate)]
    if not known:
        return None
    top = max(drawing.finite(each.high, each.value) for _, each in known)
    factor, unit = next(((f, u) for f, u in ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")) if top >= f), (1e-9, "nJ"))
    rows: Rows = [
        {
            "model": name,
            "value": each.value / factor,
            "low": each.low / factor,
            "high": drawing.finite(each.high, each.value) / factor,
            "shown": numbers.interval(each.value, each.low, each.high, each.unit),
            "method": each.method,
        }
        for name, each in known
    ]
    names = [r["model"] for r in rows]
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("model:N", title=None, sort=names),
        color=drawing.colour("model", colours, names, legend=False),
        tooltip=drawing.tips(model="model", energy="shown", interval="method"),
    )
    scale = alt.Scale(domain=[0, 1.4 * top / factor], nice=False)  # room for the words behind the longest bar
    x = alt.X("low:Q", title=f"energy of one inference, {unit}", scale=scale)
    bars = base.mark_bar(size=10, cornerRadius=5, opacity=0.35).encode(x=x, x2="high:Q")
    points = base.mark_point(size=110, filled=True, opacity=1).encode(x="value:Q")
    words = base.mark_text(align="left", dx=10).encode(x="high:Q", text="shown:N", color=alt.value(theme.MUTED))
    shared = f" {words_of_several}" if len(rows) > 1 else ""
    return drawing.finish(
        drawing.layered(bars, points, words),
        "Energy of one inference",
        f"Bars: {rows[0]['method']}.{shared}",
        height=44 * len(rows) + 20,
    )


def roofline(records: RunRecords) -> alt.LayerChart | None:
    """This machine's measured ceilings, and where the model stands under them (Williams et al. 2009)."""
    model = placed(records.findings, "baseline")
    words = "The diamond is the baseline." if model else "The model's place was not measured."
    return roof_chart(_roof(records), model, words, layers.point_rows(records))


def roof_chart(roof: Roof | None, model: Rows, words: str, points: Rows) -> alt.LayerChart | None:
    """A roof, models under it as diamonds, and layers as circles; `words` are about the diamonds."""
    import altair as alt

    if roof is None:
        return None
    kinds, bandwidth = [(name, roof.flops_per_s[name]) for name in _KINDS if name in roof.flops_per_s], roof.traffic
    rows = _roof_rows(kinds, bandwidth, [r["intensity"] for r in (*model, *points)])
    log = alt.Scale(type="log", nice=False)
    ceilings = (
        alt.Chart(drawing.data(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X(
                "intensity:Q",
                scale=log,
                title="arithmetic intensity, FLOP per byte",
                axis=_decades([r["intensity"] for r in rows]),
            ),
            y=alt.Y(
                "flops:Q",
                scale=alt.Scale(type="log"),
                title="FLOP/s",
                axis=_decades([r["flops"] for r in (*rows, *points)]),
            ),
            color=drawing.colour(
                "ceiling",
                dict(zip([r["ceiling"] for r in rows], _kind_colours(rows), strict=True)),
                [r["ceiling"] for r in rows],
            ),
            tooltip=drawing.tips(ceiling="ceiling", intensity="shown_intensity", bound="shown"),
        )
    )
    point = (
        alt.Chart(drawing.data(model))
        .mark_point(size=150, filled=True, shape="diamond", color=theme.INK, opacity=1)
        .encode(
            x="intensity:Q",
            y="flops:Q",
            tooltip=drawing.tips(model="name", intensity="shown_intensity", achieved="shown"),
        )
    )
    word = (
        alt.Chart(drawing.data(model))
        .mark_text(align="left", dx=11, dy=4, fontWeight="bold")
        .encode(x="intensity:Q", y="flops:Q", text="name:N")
    )
    circles = (layers.layer_points(points),) if points else ()
    return drawing.finish(
        drawing.layered(ceilings, *circles, *((point, word) if model else ())),
        "Roofline of this machine",
        f"Sloped: {_bandwidth_words(bandwidth)}. Flat: measured matrix-multiply peaks. "
        + words
        + (" Circles are its layers, their area the time." if points else ""),
        height=380 if points else 320,
    )


_KINDS = ("fp32", "bf16", "int8")


def _roof(records: RunRecords) -> Roof | None:
    """This machine's roof, raised to what the profile's layers reach, where there is a profile."""
    found = placed_layers(records)
    return roof_of(records.run.peaks) if found is None else found[1]


def _bandwidth_words(traffic: Traffic) -> str:
    """The slopes in words."""
    memory = f"memory bandwidth, {numbers.quantity(traffic.read_bytes_per_s, 'byte/s')}"
    if traffic.cache_bytes_per_s <= traffic.read_bytes_per_s:
        return memory
    return f"{memory}, and above it the cache's, {numbers.quantity(traffic.cache_bytes_per_s, 'byte/s')}"


def confusion(records: RunRecords) -> alt.LayerChart | None:
    """Confusion matrix, each row a true class, as the share of that class."""
    import altair as alt

    pair = derive.compared(records)
    shown = pair.after if pair.after is not None else pair.before
    made = shown.on(pair.split) if shown is not None else None
    if made is None or made.classes > MOST_CLASSES:
        return None
    rows = _confusion_rows(made, records.run.contract.labels)
    names = list(dict.fromkeys(r["true"] for r in rows))
    cells = (
        alt.Chart(drawing.data(rows))
        .mark_rect(stroke=theme.GRID, strokeWidth=0.5)
        .encode(
            x=alt.X("predicted:N", title="predicted", sort=names, axis=alt.Axis(labelAngle=-45, labelLimit=90)),
            y=alt.Y("true:N", title="true", sort=names, axis=alt.Axis(labelLimit=110)),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(type="sqrt", domain=[0, 1], range=list(theme.SHADES)),
                legend=None,
            ),
            tooltip=drawing.tips(true="true", predicted="predicted", examples="count", share="shown"),
        )
    )
    return drawing.finish(
        drawing.layered(cells),
        f"Confusion of {pair.plan} ({pair.split})",
        "Share of each true class, on a square-root colour scale so that rare mistakes show.",
        height=max(180, 26 * len(names)),
    )


# --- saving ----------------------------------------------------------------------------------------

CHARTS: Mapping[str, Callable[[RunRecords], alt.LayerChart | None]] = {
    "pareto": pareto,
    "frontier": frontier_chart.frontier,
    "forecasts": forecasts,
    "latency_boxes": latency_boxes,
    "latency_rounds": latency_rounds,
    "control": control,
    "throughput": throughput,
    "sweep_latency": curves.sweep_latency,
    "stress": curves.stress,
    "operators": operators,
    "layers": layers.layer_bars,
    "sensitivity": sensitive.sensitivity,
    "memory": memory,
    "watched": watching.watched,
    "energy": energy,
    "roofline": roofline,
    "confusion": confusion,
}


def save_figures(records: RunRecords, folder: Path, formats: Iterable[str] = drawing.FORMATS) -> tuple[Path, ...]:
    """Writes every chart whose records are present as ``folder/<name>.<format>``; needs no browser.

    Raises `InvalidInput` for a format other than png, svg and pdf.
    """
    return drawing.save(((name, draw(records)) for name, draw in CHARTS.items()), folder, formats)


# --- rows ------------------------------------------------------------------------------------------


def _models(records: RunRecords) -> list[tuple[str, Measurement]]:
    pair = derive.compared(records)
    sides = (("baseline", pair.before or records.baseline), (str(pair.plan), pair.after))
    return [(name, m) for name, m in sides if m is not None]


def _timings(records: RunRecords) -> times.Timings:
    """Times of the models that took turns: in verification, else in the lead's trial; else of the baseline alone."""
    verification, lead = records.verification, derive.leading(records)
    if verification is not None:
        return _arms(verification.comparison, verification.plans)
    if lead is not None and lead.comparison is not None:
        return _arms(lead.comparison, (lead.plan,))
    sample = derive.reading(records.baseline, "latency_s", batch=1)
    if not isinstance(sample, Sample) or not sample.values.size:
        return {}
    return {"baseline": times.by_block(sample)}


def _flags(records: RunRecords) -> tuple[str, ...]:
    """What was said of the rounds that `_timings` shows."""
    verification, lead = records.verification, derive.leading(records)
    comparison = verification.comparison if verification is not None else lead.comparison if lead is not None else None
    return comparison.flags if comparison is not None else ()


def _arms(comparison: Comparison, plans: Sequence[Plan]) -> times.Timings:
    """By the models' names: arm 0 is the baseline, the control keeps its name, the others are the plans in order."""
    left = iter(plans)
    names = ["baseline", *("control" if arm == "control" else str(next(left, arm)) for arm in comparison.arms[1:])]
    timings = {name: comparison.seconds[:, :, i] for i, name in enumerate(names)}
    return {name: values for name, values in timings.items() if np.isfinite(values).any()}


def _round_ratios(comparison: Comparison, arm: int) -> list[float]:
    logs = np.log(comparison.seconds[:, :, arm] / comparison.seconds[:, :, 0])
    return [float(np.exp(np.median(row[np.isfinite(row)]))) for row in logs if np.isfinite(row).any()]


def _operator_rows(samples: Sequence[Sample]) -> Rows:
    ordered = sorted(samples, key=lambda s: -s.value)
    total = sum(s.value for s in ordered) or 1.0
    most = [s for s in ordered[:MOST_OPERATORS] if s.value >= LEAST_SHARE * total]
    rest = sum(s.value for s in ordered[len(most) :])
    shown = [(str(s.conditions.get("operator", "unnamed")), s.value, *_half(s)) for s in most]
    if rest:
        shown.append((f"{len(ordered) - len(most)} others", rest, rest, rest))
    return [
        {
            "operator": name,
            "s": s,
            "low": low,
            "high": high,
            "shown": numbers.interval(s, low, high, "s"),
            "share": f"{100 * s / total:.1f} %",
        }
        for name, s, low, high in shown
    ]


def _half(sample: Sample) -> tuple[float, float]:
    """The middle half of the readings."""
    low, high = np.quantile(sample.values, (0.25, 0.75))
    return float(low), float(high)


def _role_rows(name: str, measurement: Measurement) -> Rows:
    """The stack of every batch size, roles that could not be read left out."""
    rows = []
    for stack in roles.stacks(measurement):
        start = 0.0
        for role in roles.ROLE_WORDS:
            size = stack.roles.get(role)
            if isinstance(size, float):
                ends = {"low": start / 1e6, "high": (start + size) / 1e6}
                label = {"model": f"{name}, batch {stack.batch}", "part": role, "total": roles.stack_words(stack)}
                rows.append({**label, **ends, "shown": numbers.size(size)})
                start += size
    return rows


def _memory_rows(name: str, measurement: Measurement) -> Rows:
    """Stacked parts; a step that released memory is drawn empty, with its true value in the tooltip."""
    keys = ("memory_before_load_bytes", "memory_loaded_bytes", "memory_running_bytes")
    readings = [measurement.get(key) for key in keys]
    levels = [r.value for r in readings if isinstance(r, Sample)]
    if len(levels) < len(keys):
        return []
    total, start, rows = numbers.size(levels[-1]), 0.0, []
    for part, low, high in zip(("before load", "loading adds", "running adds"), [0.0, *levels], levels, strict=False):
        end = max(start, high)
        row = {"model": name, "part": part, "low": start / 1e6, "high": end / 1e6, "total": total}
        rows.append({**row, "shown": numbers.size(high - low)})
        start = end
    return rows


def placed(findings: Sequence[Finding], name: str) -> Rows:
    """Where a model stands under the roof, by its findings: one row or none."""
    keys = ("intensity_flop_per_byte", "achieved_flops")
    found = next((f.evidence for f in findings if all(f.evidence.get(k, 0) > 0 for k in keys)), None)
    if found is None:
        return []
    intensity, flops = found[keys[0]], found[keys[1]]
    shown = {"shown_intensity": numbers.significant(intensity), "shown": numbers.quantity(flops, "FLOP/s")}
    return [{"name": name, "intensity": intensity, "flops": flops, **shown}]


def _roof_rows(kinds: Sequence[tuple[str, float]], traffic: Traffic, placed: Sequence[float]) -> Rows:
    """Corners of each data type's ceiling, and of the steeper slope where bytes come from the cache."""
    bandwidth, near = traffic.read_bytes_per_s, traffic.cache_bytes_per_s
    ridges = [peak / bandwidth for _, peak in kinds]
    left, right = min(0.5, *placed, *ridges) / 2, max(*placed, *ridges) * 4
    highest = max(peak for _, peak in kinds)
    slope: Rows = [
        {
            "ceiling": f"from cache, {numbers.quantity(near, 'byte/s')}",
            "kind": "cache",
            "intensity": x,
            "flops": near * x,
            "shown_intensity": numbers.significant(x),
            "shown": numbers.quantity(near * x, "FLOP/s"),
        }
        for x in (left, highest / near)
        if near > bandwidth
    ]
    return slope + [
        {
            "ceiling": f"{name}, {numbers.quantity(peak, 'FLOP/s')}",
            "kind": name,
            "intensity": x,
            "flops": min(peak, bandwidth * x),
            "shown_intensity": numbers.significant(x),
            "shown": numbers.quantity(min(peak, bandwidth * x), "FLOP/s"),
        }
        for (name, peak), ridge in zip(kinds, ridges, strict=True)
        for x in (left, ridge, right)
    ]


def _kind_colours(rows: Rows) -> list[str]:
    colours = {"fp32": theme.CHOSEN, "bf16": theme.OTHERS[0], "int8": theme.OTHERS[1], "cache": theme.CONTROL}
    return [colours[row["kind"]] for row in rows]


def _confusion_rows(made: Predictions, labels: Sequence[str]) -> Rows:
    counts = np.zeros((made.classes, made.classes), dtype=np.int64)
    np.add.at(counts, (made.labels, made.predicted), 1)
    totals = counts.sum(axis=1)
    names = [labels[i] if i < len(labels) else str(i) for i in range(made.classes)]
    return [
        {
            "true": names[t],
            "predicted": names[p],
            "count": int(counts[t, p]),
            "share": float(counts[t, p] / totals[t]) if totals[t] else 0.0,
            "shown": f"{100 * counts[t, p] / totals[t]:.1f} %" if totals[t] else "undefined: no examples",
        }
        for t in range(made.classes)
        for p in range(made.classes)
    ]


# --- drawing ---------------------------------------------------------------------------------------


def _model_colours(records: RunRecords, names: Sequence[str]) -> dict[str, str]:
    """Baseline and control in greys, the chosen or leading plan in the accent, the others in turn."""
    lead = str(derive.compared(records).plan)
    others = [n for n in names if n not in theme.MODELS and n != lead]
    turn = {name: theme.OTHERS[i % len(theme.OTHERS)] for i, name in enumerate(others)}
    accent = {} if lead in theme.MODELS else {lead: theme.CHOSEN}
    return {**theme.MODELS, **accent, **turn}


def _decades(values: Sequence[float]) -> alt.Axis:
    """A logarithmic axis with a line at each power of ten."""
    import altair as alt

    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return alt.Axis(format="~s", values=[10.0**e for e in range(first, last + 1)])


def _inverse(value: float, fallback: float) -> float:
    """1 / value; an unbounded end of an interval is drawn at the point itself."""
    return 1 / value if value > 0 and math.isfinite(value) else fallback
