"""A profile for the terminal, as JSON, and as the rows of its table on the page. Nothing here prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import Ceiling, LayerTime, Profiled, RunRecords, Sample, Unavailable
from steelyard.report import numbers
from steelyard.stats.roofline import Placed, Roof, between_s, layer_seconds, place, raised, roof_of

__all__ = [
    "CeilingRow",
    "LayerRow",
    "ceiling_cells",
    "ceilings_table",
    "cost_of_profiling",
    "counted_lines",
    "doubts",
    "layer_rows",
    "layers_table",
    "operators_table",
    "placed_layers",
    "profile_json",
    "profile_lines",
]

MOST_LAYERS = 15
MOST_OPERATORS = 10
LITTLE = 0.005  # a share of the time that needs no row
WAITS = 0.8  # of an inference in its layers; below, it waited for others
WIDEST_NAME = 20  # of a layer in the terminal; the end of a long name tells most
NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One line of the table of layers, as words."""

    layer: str
    operator: str
    dtype: str
    time: str  # median, with the middle half of the runs
    share: str
    macs: str
    intensity: str
    attained: str
    of_roof: str
    bound: str
    kernel: str


def placed_layers(records: RunRecords) -> tuple[Placed, Roof] | None:
    """The profile's layers under the machine's roof; None where there is no profile, or the roof was not measured."""
    roof = roof_of(records.run.peaks)
    if records.profiled is None or roof is None:
        return None
    roof = raised(roof, records.profiled)
    return place(records.profiled, roof, _dispatch_s(records)), roof


def _dispatch_s(records: RunRecords) -> float:
    if records.profiled is None or records.profiled.engine not in ("eager", "torch"):
        return 0.0
    return next((p.value for p in records.run.peaks if isinstance(p, Sample) and p.quantity == "dispatch_s"), 0.0)


def layer_rows(records: RunRecords, most: int = MOST_LAYERS) -> tuple[LayerRow, ...]:
    """The layers that take most time, longest first, and one row for all others."""
    if records.profiled is None:
        return ()
    seconds = layer_seconds(records.profiled)
    between = between_s(records.profiled)
    whole = max(float(seconds.sum()) + between, 1e-12)
    found = placed_layers(records)
    order = np.argsort(-seconds, kind="stable")
    rows = [_layer_row(records.profiled, int(i), seconds, whole, found and found[0]) for i in order[:most]]
    others = float(seconds[order[most:]].sum())
    if order.size > most:
        rows.append(_sum_row(f"({order.size - most} other layers)", others, whole))
    if between > LITTLE * whole:
        rows.append(_sum_row("(between operators)", between, whole))
    return tuple(rows)


def _sum_row(name: str, spent: float, whole: float) -> LayerRow:
    blank = dict.fromkeys(("dtype", "macs", "intensity", "attained", "of_roof", "bound"), NONE)
    shown = {"time": numbers.quantity(spent, "s"), "share": _per_cent(spent / whole), "kernel": ""}
    return LayerRow(layer=name, operator="", **shown, **blank)


def _layer_row(
    profiled: Profiled, i: int, seconds: np.ndarray[Any, Any], whole: float, placed: Placed | None
) -> LayerRow:
    row = profiled.layers[i]
    flops, moved, spent = 2.0 * row.macs, float(row.moved_bytes), float(seconds[i])
    return LayerRow(
        layer=row.layer or "(outside layers)",
        operator=_operator(row),
        dtype=row.dtype or NONE,
        time=_spread(row, spent),
        share=_per_cent(spent / whole),
        macs=numbers.quantity(row.macs, "MAC") if row.macs else "unknown" if row.state == "unknown" else NONE,
        intensity=numbers.significant(flops / moved) if flops and moved else NONE,
        attained=numbers.quantity(flops / spent, "FLOP/s") if flops and spent else NONE,
        of_roof=NONE if placed is None or not placed.bounds[i] else _per_cent(float(placed.share[i])),
        bound=NONE if placed is None else placed.bounds[i] or NONE,
        kernel=row.kernel,
    )


def _operator(row: LayerTime) -> str:
    """The engine's own word; PyTorch's namespace says nothing."""
    return ", ".join(name.removeprefix("aten::") for name in row.names) or row.operator


def _spread(row: LayerTime, median: float) -> str:
    """The median with the middle half of the readings, both scaled as the median is."""
    raw = float(np.median(row.seconds))
    if row.seconds.size < 4 or not raw > 0:
        return numbers.quantity(median, "s")
    low, high = np.quantile(row.seconds, (0.25, 0.75)) * (median / raw)
    return numbers.interval(median, float(low), float(high), "s")


def _per_cent(share: float) -> str:
    return f"{numbers.fixed(100 * share, 1 if share < 0.1 else 0)} %"


def layers_table(records: RunRecords, width: int = 80) -> Table:
    """The layers that take most time, and where each stands under the roof; with all columns where `width` allows it."""
    table = _table("Layers, by time")
    wide = width >= 120
    table.add_column("layer", no_wrap=True)
    table.add_column("operator", no_wrap=True, overflow="ellipsis", max_width=18 if wide else 9)
    more = ("type", "MACs", "FLOP/byte", "attained") if wide else ()
    for name in ("time", "share", *more, "of roof, bound"):
        table.add_column(name, justify="right", no_wrap=True, min_width=_LEAST[name])
    for row in layer_rows(records):
        extra = (row.dtype, row.macs, row.intensity, row.attained) if wide else ()
        name = Text(_shortened(row.layer, 40 if wide else WIDEST_NAME))
        stands = NONE if row.bound == NONE else f"{row.of_roof} {row.bound}"
        table.add_row(name, Text(row.operator), row.time, row.share, *extra, stands)
    table.caption = Text(
        "Time: median under the profiler, in brackets the middle half. Of roof: least time\n"
        "for the arithmetic and bytes at this machine's measured peaks, over the time.",
        style="dim",
    )
    table.caption_justify = "left"
    return table


_LEAST = {"time": 18, "share": 6, "type": 4, "MACs": 9, "FLOP/byte": 9, "attained": 13, "of roof, bound": 14}  # columns


_MARKS = (
    "_nchwc",
    "_output_0",
    "/WithoutBiases",
)  # that engines put behind names for layout, outputs and folded biases


def _shortened(name: str, most: int) -> str:
    """The end of a name.

    >>> _shortened("features.12.conv.0.0", 12)
    '…12.conv.0.0'
    """
    for mark in _MARKS:
        name = name.removesuffix(mark)
    return name if len(name) <= most else f"…{name[1 - most :]}"


def operators_table(records: RunRecords) -> Table:
    """Time of each operator's own, over all layers."""
    table = _table("Operators, by their own time")
    table.add_column("operator", overflow="fold")
    for name in ("time", "share", "calls"):
        table.add_column(name, justify="right")
    for name, sample, share, calls in _operator_rows(records)[:MOST_OPERATORS]:
        low, high = np.quantile(sample.values, (0.25, 0.75))
        shown = numbers.interval(sample.value, float(low), float(high), "s")
        table.add_row(Text(name), shown, _per_cent(share), numbers.quantity(calls, "count"))
    return table


def _operator_rows(records: RunRecords) -> list[tuple[str, Sample, float, float]]:
    """(operator, seconds, share of all operators' time, calls), longest first."""
    if records.baseline is None:
        return []
    samples = sorted(records.baseline.all("operator_s"), key=lambda s: -s.value)
    total = sum(s.value for s in samples) or 1.0
    rows = []
    for sample in samples:
        name = str(sample.conditions.get("operator", ""))
        calls = records.baseline.get("operator_calls", operator=name)
        rows.append((name, sample, sample.value / total, calls.value if isinstance(calls, Sample) else 0.0))
    return rows


def cost_of_profiling(profiled: Profiled) -> str:
    """What the profiler costs, and so what can be read from its times."""
    plain, watched = float(np.median(profiled.plain_s)), float(np.median(profiled.profiled_s))
    together = sum(float(np.median(row.seconds)) for row in profiled.layers)
    scaled = (
        f"layers took {numbers.seconds(together)} under it and are scaled down to that"
        if together > plain
        else f"layers took {numbers.seconds(together)}, shown as measured"
    )
    runs = f"{profiled.plain_s.size:,} and {profiled.profiled_s.size:,} inferences in turns"
    ratio = numbers.ratio(watched / plain)
    return f"{numbers.seconds(plain)} per inference of {profiled.batch}; {ratio} under the profiler ({runs}); {scaled}"


def doubts(records: RunRecords) -> tuple[str, ...]:
    """Signs that the machine was busy: layers above the measured roof, or waits that no layer shows."""
    found = placed_layers(records)
    if found is None or records.profiled is None:
        return ()
    plain = float(np.median(records.profiled.plain_s))
    seen = float(found[0].seconds.sum()) + between_s(records.profiled)
    said = []
    measured = roof_of(records.run.peaks)
    for dtype, peak in found[1].flops_per_s.items():
        if measured is not None and peak > measured.flops_per_s[dtype] * (1 + LITTLE):
            before, now = (numbers.quantity(rate, "FLOP/s") for rate in (measured.flops_per_s[dtype], peak))
            said.append(
                f"a layer reaches {now} in {dtype}, more than the {before} measured as its peak: it is the peak now"
            )
    if seen < WAITS * plain:
        said.append(
            f"an inference took {numbers.seconds(plain)}, its layers {numbers.seconds(seen)} when undisturbed: other work"
            " on this machine took the rest; shares are of the latter"
        )
    return tuple(said)


def counted_lines(records: RunRecords) -> tuple[str, ...]:
    """MACs, the share of time that they cover, unknown operators, and the second counter's opinion."""
    profiled, baseline = records.profiled, records.baseline
    if profiled is None or baseline is None:
        return ()
    macs = baseline.get("macs")
    if isinstance(macs, Unavailable):
        return (f"MACs unavailable: {macs.reason}",)
    covered = baseline.get("macs_coverage")
    share = f", which cover {_per_cent(covered.value)} of operator time" if isinstance(covered, Sample) else ""
    flops = numbers.quantity(2 * macs.value, "MAC").replace("MAC", "FLOP")
    total = f"{numbers.quantity(macs.value, 'MAC')} = {flops} per example{share}"
    unknown = ", ".join(f"{name} ({calls})" for name, calls in profiled.unknown)
    return (
        f"{total}; 1 MAC = 2 FLOPs, bias and element-wise work not counted",
        f"unknown operators: {unknown or 'none'}",
        f"second counter: {_opinion(profiled)}",
    )


def _opinion(profiled: Profiled) -> str:
    if not profiled.opinions:
        return profiled.second_counter or "none"
    differ = [
        f"{name} {numbers.quantity(ours, 'MAC')} here, {numbers.quantity(theirs, 'MAC')} there"
        for name, ours, theirs in profiled.opinions
        if ours != theirs
    ]
    return f"{profiled.second_counter} {'differs on ' + '; '.join(differ) if differ else 'agrees on every operator'}"


def profile_lines(records: RunRecords) -> tuple[str, ...]:
    """What profiling cost, what was counted, and the doubts."""
    if records.profiled is None:
        return ()
    return (cost_of_profiling(records.profiled), *counted_lines(records), *doubts(records), *records.profiled.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingRow:
    """What one technique can give, as words."""

    technique: str
    expected: str
    at_most: str
    because: str


def ceiling_cells(records: RunRecords) -> tuple[CeilingRow, ...]:
    """What techniques can give, those that help first."""
    found = [ceiling for finding in records.findings for ceiling in finding.ceilings]
    return tuple(map(_ceiling_row, sorted(found, key=lambda c: (not c.helps, -c.gain))))


def _ceiling_row(found: Ceiling) -> CeilingRow:
    most = f"{numbers.significant(found.ceiling)}x" if found.ceiling > 1 else NONE
    expected = f"{numbers.significant(found.gain)}x" if found.helps else "no help"
    return CeilingRow(technique=found.technique, expected=expected, at_most=most, because=found.because)


def ceilings_table(records: RunRecords) -> Table:
    """What each technique can give at most here, and what will not help, with the reason."""
    table = _table("What could help, at most")
    table.add_column("technique", overflow="fold", min_width=12)
    table.add_column("expected", justify="right")
    table.add_column("at most", justify="right")
    table.add_column("because", overflow="fold")
    for row in ceiling_cells(records):
        table.add_row(row.technique, row.expected, row.at_most, Text(row.because))
    table.caption = Text(
        "Expected: touched layers keep their distance from the roof. At most: they reach it.", style="dim"
    )
    table.caption_justify = "left"
    return table


def profile_json(records: RunRecords) -> dict[str, Any]:
    """The profile in plain JSON types and base units."""
    profiled = records.profiled
    if profiled is None:
        return {}
    found = placed_layers(records)
    seconds = layer_seconds(profiled)
    return {
        "engine": profiled.engine,
        "device": profiled.device,
        "batch": profiled.batch,
        "plain_s": {"median": float(np.median(profiled.plain_s)), "n": int(profiled.plain_s.size)},
        "profiled_s": {"median": float(np.median(profiled.profiled_s)), "n": int(profiled.profiled_s.size)},
        "layers": [_layer_json(profiled, i, float(seconds[i]), found and found[0]) for i in np.argsort(-seconds)],
        "unknown_operators": dict(profiled.unknown),
        "second_counter": profiled.second_counter,
        "opinions": [{"operator": o, "macs": a, "second_macs": b} for o, a, b in profiled.opinions],
        "notes": list(profiled.notes),
    }


def _layer_json(profiled: Profiled, i: int, seconds: float, placed: Placed | None) -> dict[str, Any]:
    row = profiled.layers[i]
    low, high = np.quantile(row.seconds, (0.25, 0.75))
    return {
        "layer": row.layer,
        "operator": row.operator,
        "names": list(row.names),
        "seconds": seconds,
        "profiled_quartiles_s": [float(low), float(high)],
        "calls": row.calls,
        "macs": row.macs if row.state != "unknown" else None,
        "moved_bytes": row.moved_bytes,
        "dtype": row.dtype or None,
        "kernel": row.kernel or None,
        "share_of_roof": None if placed is None or not placed.bounds[i] else float(placed.share[i]),
        "bound": (placed.bounds[i] or None) if placed is not None else None,
    }


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
