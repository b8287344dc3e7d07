"""Several runs side by side: charts over all their models, and the page. Made from their records alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.records import Estimate, Measurement, RunRecords, Sample
from steelyard.report import assembly, charts, derive, drawing, energy, loads, numbers, radar_web, tables, theme, times
from steelyard.report.assembly import Tile
from steelyard.report.derive import Estimates
from steelyard.report.sections import Column, Grid, Page, Section, render
from steelyard.stats.roofline import roof_of

__all__ = ["CHARTS", "Weighed", "render_beside", "weighed"]

METHODS = (
    (
        "Apart",
        ("These runs never took turns, so what the machine did in between stands in every difference of a cost. For a verdict, "
        "steelyard compare measures two of them together."),
    ),
    ("Which model", "Of a run of optimize the one that was chosen, or else its baseline; of other runs the model itself."),
    ("Radar", "Each axis is relative to the best of these models: at the rim it is the best, half way in it is half as good."),
    ("Intervals", "As in each run's own report: order statistics, t over slots, Wilson, or 5 to 95 % of a model's draws."),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """One run's model among others."""

    name: str
    records: RunRecords
    measured: Measurement
    plan: str  # "" for a baseline
    split: str
    scores: tuple[Estimate, ...]  # metrics on that split


def weighed(name: str, records: RunRecords, estimates: Estimates) -> Weighed | None:
    """The model that a run is about: what was chosen or leads, else the baseline. None where nothing was measured."""
    pair = derive.compared(records)
    measured = pair.after or pair.before or records.baseline
    if measured is None:
        return None
    plan = str(pair.plan) if pair.after is not None else ""
    scores = estimates.get((plan or "baseline", pair.split), ())
    return Weighed(name=name, records=records, measured=measured, plan=plan, split=pair.split, scores=scores)


def render_beside(models: Sequence[Weighed]) -> str:
    """The page of two models or more."""
    with drawing.unchecked():
        return render(_page(models), {name: draw(models) for name, draw in CHARTS.items()})


# --- charts ------------------------------------------------------------------------------------------


def latency(models: Sequence[Weighed]) -> Any:
    """One box a model."""
    timings = {m.name: found for m in models if (found := _times_of(m)) is not None}
    return times.box_chart(timings, _colours(models), "Latency of one inference")


def _times_of(model: Weighed) -> Any:
    """Readings of single inferences, of a profile those without the profiler."""
    sample = model.measured.get("latency_s", batch=1)
    if isinstance(sample, Sample) and sample.values.size:
        return times.by_block(sample)
    profiled = model.records.profiled
    return profiled.plain_s.reshape(1, -1) if profiled is not None and profiled.batch == 1 else None


def throughput(models: Sequence[Weighed]) -> Any:
    """One line a model over the batch sizes."""
    return charts.rate_chart(_named(models), _colours(models))


def memory(models: Sequence[Weighed]) -> Any:
    """A stack for each model and batch size."""
    return charts.memory_chart(_named(models))


def joules(models: Sequence[Weighed]) -> Any:
    """An interval bar for each model."""
    words = "Each run has draws of its own: what makes all of them wrong alike stands in every bar."
    return charts.energy_chart(_named(models), _colours(models), words)


def roofline(models: Sequence[Weighed]) -> Any:
    """Every model's place under the first machine's roof; a plan that was chosen has none, for findings are of baselines."""
    roof = next((roof for m in models if (roof := roof_of(m.records.run.peaks)) is not None), None)
    points = [point for m in models if not m.plan for point in charts.placed(m.records.findings, m.name)]
    return charts.roof_chart(roof, points, "Diamonds are the models.", []) if points else None


def radar(models: Sequence[Weighed]) -> Any:
    """All axes at once, each against the best of the models."""
    import altair as alt

    axes, left = _axes(models)
    if len(axes) < 3:
        return None
    colour = drawing.colour("model", _colours(models), [m.name for m in models])
    x, y = radar_web.round_axes()
    base = alt.Chart(drawing.data(list(_polygons(models, axes)))).encode(x=x, y=y, color=colour)
    lines = base.mark_line(strokeWidth=2, interpolate="linear-closed").encode(
        order=alt.Order("place:Q"), detail=alt.Detail("model:N")
    )
    dots = base.mark_circle(size=42, opacity=1).encode(
        tooltip=drawing.tips(model="model", axis="axis", value="shown", best="share")
    )
    chart = drawing.finish(
        drawing.layered(*radar_web.web(axes), lines, dots),
        "All axes at once",
        "Outwards is better: the rim is the best of these models, half way in is half as good."
        + (f" Not known of every model: {', '.join(left).lower()}." if left else ""),
        height=380,
    )
    return chart.properties(usermeta={"narrow": {"height": 240}})


CHARTS: Mapping[str, Callable[[Sequence[Weighed]], Any]] = {
    "radar": radar,
    "latency": latency,
    "throughput": throughput,
    "memory": memory,
    "energy": joules,
    "roofline": roofline,
}


def _named(models: Sequence[Weighed]) -> list[tuple[str, Measurement]]:
    return [(m.name, m.measured) for m in models]


def _colours(models: Sequence[Weighed]) -> dict[str, str]:
    return {m.name: theme.SERIES[i % len(theme.SERIES)] for i, m in enumerate(models)}


# --- axes of the radar -------------------------------------------------------------------------------


def _latency_of(model: Weighed) -> tuple[float, str] | None:
    sample = model.measured.get("latency_s", batch=1)
    return (sample.value, numbers.seconds(sample.value)) if isinstance(sample, Sample) else None


def _rate_of(model: Weighed) -> tuple[float, str] | None:
    rates = [c.rate.value for c in loads.cells(model.measured) if isinstance(c.rate, Sample) and c.callers == 1]
    return (max(rates), numbers.quantity(max(rates), "1/s")) if rates else None


def _reading_of(quantity: str) -> Callable[[Weighed], tuple[float, str] | None]:
    def read(model: Weighed) -> tuple[float, str] | None:
        found = model.measured.all(quantity)
        return (found[0].value, numbers.quantity(found[0].value, found[0].unit)) if found else None

    return read


def _loading_of(model: Weighed) -> tuple[float, str] | None:
    """With nothing in the page cache, where that was read."""
    cold, old = (model.measured.get("load_s", **cache) for cache in ({"cache": "cold"}, {}))
    sample = cold if isinstance(cold, Sample) else old
    if not isinstance(sample, Sample):
        return None
    found = loads.loading_estimate(sample)
    value = sample.value if found is None else found.value
    return value, numbers.seconds(value)


def _energy_of(model: Weighed) -> tuple[float, str] | None:
    found = energy.per_inference(model.measured)
    if not isinstance(found, Estimate):
        return None
    return found.value, numbers.interval(found.value, found.low, found.high, found.unit)


def _accuracy_of(model: Weighed) -> tuple[float, str] | None:
    found = next((s for s in model.scores if s.quantity == "accuracy"), None)
    return None if found is None else (found.value, numbers.interval(found.value, found.low, found.high, found.unit))


_AXES: Mapping[str, tuple[Callable[[Weighed], tuple[float, str] | None], bool]] = {  # name: how, whether more is better
    "Latency": (_latency_of, False),
    "Throughput": (_rate_of, True),
    "Accuracy": (_accuracy_of, True),
    "Size": (_reading_of("stored_bytes"), False),
    "Memory": (_reading_of("memory_running_bytes"), False),
    "Energy": (_energy_of, False),
    "Time to load": (_loading_of, False),
}


def _axes(models: Sequence[Weighed]) -> tuple[list[str], list[str]]:
    """Axes that every model has, and those that only some have."""
    known = {name: [of(m) is not None for m in models] for name, (of, _) in _AXES.items()}
    return [n for n, has in known.items() if all(has)], [n for n, has in known.items() if any(has) and not all(has)]


def _polygons(models: Sequence[Weighed], axes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for place, axis in enumerate(axes):
        of, more = _AXES[axis]
        found = [of(m) or (math.nan, "") for m in models]
        best = (max if more else min)(value for value, _ in found)
        for model, (value, shown) in zip(models, found, strict=True):
            share = value / best if more else best / value
            words = {"axis": axis, "shown": shown, "share": numbers.quantity(share, "fraction")}
            yield {"model": model.name, "place": place, **words, **radar_web.spoke(place, axes, share)}


# --- page --------------------------------------------------------------------------------------------


def _page(models: Sequence[Weighed]) -> Page:
    first = models[0].records.run
    return Page(
        headline=f"{len(models)} models side by side",
        plan=", ".join(m.name for m in models),
        brand="report of several runs",
        lede="Each as its own run weighed it. They never took turns: for a verdict, use steelyard compare on two of them.",
        time=max(m.records.run.environment.time for m in models),
        version=first.version,
        tiles=tuple(_tiles(models)),
        sections=(
            Section(
                id="overview",
                title="Overview",
                alarm=_unlike(models),
                figures=("radar", "latency"),
                wide=("radar", "latency"),
                grids=(_table(models),),
            ),
            Section(
                id="cost",
                title="Cost, in detail",
                figures=("throughput", "energy", "memory", "roofline"),
                wide=("memory",),
            ),
            Section(id="runs", title="Runs and machines", grids=(_runs(models),), facts=tuple(_machines(models))),
            Section(id="methods", title="Methods", methods=METHODS),
        ),
    )


def _unlike(models: Sequence[Weighed]) -> str:
    if len({m.records.run.environment.machine for m in models}) == 1:
        return ""
    return "These runs are of unlike machines: differences are of machine and model together."


def _tiles(models: Sequence[Weighed]) -> Iterator[Tile]:
    """Who is best on each axis, and who comes next."""
    for axis in _axes(models)[0]:
        of, more = _AXES[axis]
        found = sorted(((*(of(m) or (math.nan, "")), m.name) for m in models), reverse=more)
        (_, shown, name), (_, second, other) = found[:2]
        best, following = (words.partition(" (")[0] for words in (shown, second))
        details = (
            ("all alike",) if len({words for _, words, _ in found}) == 1 else (name, f"next: {following}, {other}")
        )
        yield Tile(name=f"Best: {axis.lower()}", value=best, details=details)


def _table(models: Sequence[Weighed]) -> Grid:
    cells = [{row.name: row.before for row in tables.measurement_rows(m.measured, m.scores)} for m in models]
    names = dict.fromkeys(name for found in cells for name in found)
    rows = tuple((name, *(found.get(name, tables.NONE) for found in cells)) for name in names)
    columns = (Column(name="Quantity"), *(Column(name=m.name, kind="number") for m in models))
    caption = "Brackets as in each run's own report. A dash: that run did not read it."
    return Grid(label="All models", caption=caption, columns=columns, rows=rows)


def _runs(models: Sequence[Weighed]) -> Grid:
    columns = (
        Column(name="Name", kind="name"),
        Column(name="Command", kind="name"),
        Column(name="Source", kind="code"),
        Column(name="What is shown", kind="code"),
        Column(name="Judged on", kind="name"),
        Column(name="Time", kind="name"),
    )
    rows = tuple(
        (
            m.name,
            m.records.run.command,
            m.records.run.spec.source,
            m.plan or "baseline",
            f"{m.records.run.spec.data or 'no data'}" + (f", {m.split}" if m.scores else ""),
            m.records.run.environment.time[:16].replace("T", " "),
        )
        for m in models
    )
    return Grid(label="Runs", caption="Where each comes from.", columns=columns, rows=rows)


def _machines(models: Sequence[Weighed]) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Each machine once, with the runs on it."""
    hosts = {m.records.run.environment.machine: m.records.run.environment for m in reversed(models)}
    for machine, host in hosts.items():
        own = ", ".join(m.name for m in models if m.records.run.environment.machine == machine)
        yield f"Machine and software of {own}", tuple(assembly.machine_rows(host))
