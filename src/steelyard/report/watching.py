"""What the machine did while a model was timed: series over time, stretches that were disturbed tinted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.records import Floats, Measurement, RunRecords, Sample
from steelyard.report import derive, drawing, memory, numbers, theme
from steelyard.report.drawing import Rows

if TYPE_CHECKING:
    import altair as alt

__all__ = ["meanwhile", "watched"]

_PANELS: tuple[tuple[str, str, float, Mapping[str, str]], ...] = (  # title, unit shown, its size, quantity -> line
    ("Cores busy meanwhile", "cores", 1.0, {
        "core_busy_fraction": "whole machine", "process_cores": "the model's process",
        "steal_fraction": "stolen by the hypervisor",
    }),
    ("Memory meanwhile", "MB", 1e6, {"resident_bytes": "resident", "gpu_memory_bytes": "on the GPU"}),
    ("Clocks meanwhile", "GHz", 1e9, {"clock_hz": "processor", "gpu_clock_hz": "GPU"}),
    ("Temperature meanwhile", "°C", 1.0, {"temperature_c": "processor", "gpu_temperature_c": "GPU"}),
    ("GPU power meanwhile", "W", 1.0, {"gpu_power_w": "GPU"}),
)  # fmt: skip
_UNITS = {"cores": "cores", "MB": "byte", "GHz": "Hz", "°C": "°C", "W": "W"}
_COLOURS = {
    "whole machine": theme.BASELINE,
    "the model's process": theme.CHOSEN,
    "stolen by the hypervisor": theme.BROKEN,
    "resident": theme.CHOSEN,
    "on the GPU": theme.OTHERS[0],
    "processor": theme.CHOSEN,
    "GPU": theme.OTHERS[0],
}


def watched(records: RunRecords) -> Any:
    """One panel a unit, of the model that the run is about; None where the machine was not watched."""
    pair = derive.compared(records)
    shown = pair.after if pair.after is not None and _series(pair.after) else pair.before or records.baseline
    return None if shown is None else meanwhile(shown)


def meanwhile(measurement: Measurement) -> Any:
    """The same of any readings with times."""
    return drawing.stacked(list(_panels(measurement)))


def _series(measurement: Measurement) -> list[Sample]:
    known = {quantity for _, _, _, lines in _PANELS for quantity in lines}
    return [r for r in measurement.readings if isinstance(r, Sample) and r.times_s is not None and r.quantity in known]


def _panels(measurement: Measurement) -> Iterator[alt.LayerChart]:
    found = _series(measurement)
    cores = sum(s.quantity == "core_busy_fraction" for s in found) or 1
    flagged = _disturbed(measurement)
    for title, unit, size, lines in _PANELS:
        rows = [
            row
            for quantity, line in lines.items()
            for row in _rows([s for s in found if s.quantity == quantity], line, unit, size, cores)
        ]
        if rows:
            yield _panel(rows, title, unit, flagged)


def _rows(series: list[Sample], line: str, unit: str, size: float, cores: int) -> Rows:
    """Points of one line: busy cores are summed, stolen time is of all cores; several GPUs are drawn under one name."""
    if not series or series[0].times_s is None:
        return []
    values = _together(series) * (cores if series[0].quantity == "steal_fraction" else 1)
    return [
        {"t": float(t), "value": float(v / size), "line": line, "shown": numbers.quantity(float(v), _UNITS[unit])}
        for t, v in zip(series[0].times_s, values, strict=False)
    ]


def _together(series: list[Sample]) -> Floats:
    """The sum over cores, the mean over GPUs, of ticks that all of them have."""
    n = min(len(s.values) for s in series)
    stack = np.stack([s.values[:n] for s in series])
    found: Floats = stack.sum(axis=0) if series[0].quantity == "core_busy_fraction" else stack.mean(axis=0)
    return found


def _disturbed(measurement: Measurement) -> Rows:
    """Stretches between ticks in which time was stolen, or a GPU was slowed by its driver."""
    limits = {"steal_fraction": (memory.STEAL, "time was stolen"), "gpu_slowed": (0.0, "the GPU was slowed")}
    rows: Rows = []
    for sample in measurement.readings:
        if isinstance(sample, Sample) and sample.times_s is not None and sample.quantity in limits:
            most, why = limits[sample.quantity]
            starts = np.concatenate([[0.0], sample.times_s[:-1]])
            rows += [
                {"from": float(a), "to": float(b), "why": why}
                for a, b, bad in zip(starts, sample.times_s, sample.values > most, strict=True)
                if bad
            ]
    return rows


def _panel(rows: Rows, title: str, unit: str, flagged: Rows) -> alt.LayerChart:
    import altair as alt

    names = [row["line"] for row in rows]
    lines = (
        alt.Chart(drawing.data(rows))
        .mark_line(strokeWidth=1.6)
        .encode(
            x=alt.X("t:Q", title="seconds since the timed run began", scale=alt.Scale(nice=False)),
            y=alt.Y("value:Q", title=unit, scale=alt.Scale(zero=unit == "cores"), axis=alt.Axis(tickCount=4)),
            color=drawing.colour("line", _COLOURS, names),
            tooltip=[*drawing.tips(line="line", value="shown"), alt.Tooltip("t:Q", title="second", format=".2f")],
        )
    )
    spans = alt.Chart(drawing.data(flagged)).mark_rect(color=theme.UNDECIDED, opacity=0.18)
    tinted = spans.encode(x="from:Q", x2="to:Q", tooltip=drawing.tips(flagged="why"))
    words = "Read in the background while the model was timed."
    words += " Tinted: time was stolen or a clock was held back." if flagged else ""
    return drawing.finish(drawing.layered(*((tinted,) if flagged else ()), lines), title, words, height=170)
