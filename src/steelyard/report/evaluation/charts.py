"""One function per chart: an evaluation in, an Altair chart out, or None where its data are absent.

The same specifications are drawn by the page, by a notebook and by :func:`save_figures`. What needs several panels (one
a model, one a quantity) is a column of charts; the page gives each of them its own box.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.records import (
    Box,
    Corrupted,
    Curve,
    Difference,
    Estimate,
    Evaluated,
    Evaluation,
    SliceScore,
)
from steelyard.report import drawing, numbers, radar_web, theme
from steelyard.report.drawing import Rows
from steelyard.report.evaluation import tables

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "CHARTS",
    "boxes",
    "classes",
    "confusion",
    "confusion_share",
    "differences",
    "pr",
    "radar",
    "reliability",
    "robustness",
    "roc",
    "save_figures",
    "scores",
    "slice_differences",
    "slices",
]

MOST_ROWS = 30  # of a chart with a row for each class, slice or group
MOST_CURVES = 4  # classes drawn beside the mean
MOST_POINTS = 250  # of one curve
MOST_CELLS = 20_000  # of all confusion maps together
MOST_CLASSES = 100  # of one confusion map
WRITTEN = 12  # classes up to which the counts stand in the cells
MOST_MODELS = 6  # that get a panel each

VERDICTS = {
    "worse": theme.BROKEN,
    "undecided": theme.UNDECIDED,
    "equivalent": theme.CHOSEN,
    "better": theme.MET,
    "too few": theme.CONTROL,
}
OPEN = ["undecided", "too few"]


# --- scores ----------------------------------------------------------------------------------------


def scores(evaluation: Evaluation) -> alt.LayerChart | None:
    """Every bounded metric with its interval, on the metric's own range."""
    import altair as alt

    rows = [r for row in tables.score_rows(evaluation) for r in _score_bars(evaluation, row)]
    if not rows:
        return None
    names, count = list(dict.fromkeys(r["metric"] for r in rows)), len(evaluation.models)
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("metric:N", title=None, sort=names, axis=alt.Axis(labelLimit=260)),
        color=_by_model(evaluation),
        tooltip=drawing.tips(model="model", metric="metric", value="shown", range="range"),
        **_offset(evaluation),
    )
    x = alt.X("low:Q", title="place on the metric's own range, %", scale=alt.Scale(domain=[0, 100]))
    spread = base.mark_rule(strokeWidth=3, opacity=0.45, strokeCap="round").encode(x=x, x2=alt.X2("high:Q"))
    points = base.mark_circle(size=70, opacity=1).encode(x=alt.X("value:Q"))
    left_out = [m.title for m in evaluation.metrics if not (math.isfinite(m.low) and math.isfinite(m.high))]
    return drawing.finish(
        drawing.layered(spread, points),
        "Scores",
        f"Dots: values. Bars: {_level(evaluation)} intervals." + _without(left_out, "no range with two ends"),
        height=(26 + 12 * (count - 1)) * len(names) + 20,
    )


def radar(evaluation: Evaluation) -> alt.LayerChart | None:
    """All bounded metrics at once, each from its worst value in the centre to its best at the rim."""
    import altair as alt

    axes, left_out = _axes(evaluation)
    if len(axes) < 3:
        return None
    points = [p for model in evaluation.models for p in _polygon(evaluation, model, axes)]
    bands = [p for model in evaluation.models for p in _ring(evaluation, model, axes)]
    x, y = radar_web.round_axes()
    base = alt.Chart(drawing.data(points)).encode(x=x, y=y, color=_by_model(evaluation))
    lines = base.mark_line(strokeWidth=2, interpolate="linear-closed").encode(
        order=alt.Order("place:Q"), detail=alt.Detail("model:N")
    )
    dots = base.mark_circle(size=42, opacity=1).encode(
        tooltip=drawing.tips(model="model", metric="metric", value="shown")
    )
    rings = alt.Chart(drawing.data(bands)).mark_line(filled=True, opacity=0.22, interpolate="linear-closed")
    fills = rings.encode(
        x=x, y=y, order=alt.Order("place:Q"), detail=alt.Detail("model:N"), color=_by_model(evaluation)
    )
    chart = drawing.finish(
        drawing.layered(*radar_web.web([tables.title(evaluation, name) for name in axes]), fills, lines, dots),
        "All axes at once",
        f"Each metric from its worst possible value (centre) to its best (rim); bands are {_level(evaluation)} "
        "intervals." + _without(left_out, "no range with two ends, or undefined"),
        height=380,
    )
    return chart.properties(usermeta={"narrow": {"height": 240}})


def _score_bars(evaluation: Evaluation, row: tables.ScoreRow) -> Iterator[dict[str, Any]]:
    known = tables.info(evaluation, row.metric)
    if known is None or not (math.isfinite(known.low) and math.isfinite(known.high)):
        return
    for model, cell in zip(evaluation.models, row.cells, strict=True):
        if cell.bar is not None:
            ends = {"low": cell.bar.low, "value": cell.bar.value, "high": cell.bar.high}
            yield {"model": model.name, "metric": row.name, **ends, "shown": cell.whole, "range": cell.bar.ends}


def _axes(evaluation: Evaluation) -> tuple[list[str], list[str]]:
    """Metrics with two finite ends that every model has, and the titles of the others."""
    held: list[str] = []
    left: list[str] = []
    for known in evaluation.metrics:
        has = all(isinstance(tables.score(m, known.name), Estimate) for m in evaluation.models)
        bounded = math.isfinite(known.low) and math.isfinite(known.high) and known.high > known.low
        (held if has and bounded else left).append(known.name)
    return held, [tables.title(evaluation, name) for name in left]


def _goodness(evaluation: Evaluation, name: str, value: float) -> float:
    """0 for the worst possible value of a metric, 1 for the best."""
    known = tables.info(evaluation, name)
    assert known is not None
    place = min(1.0, max(0.0, (value - known.low) / (known.high - known.low)))
    return place if known.higher_is_better else 1 - place


def _polygon(evaluation: Evaluation, model: Evaluated, axes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for i, name in enumerate(axes):
        got = tables.score(model, name)
        assert isinstance(got, Estimate)
        words = {"metric": tables.title(evaluation, name), "shown": tables.cell(got).whole}
        yield {
            "model": model.name,
            "place": i,
            **words,
            **radar_web.spoke(i, axes, _goodness(evaluation, name, got.value)),
        }


def _ring(evaluation: Evaluation, model: Evaluated, axes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The band between the intervals' ends: once around outside, once back inside."""
    ends = []
    for name in axes:
        got = tables.score(model, name)
        assert isinstance(got, Estimate)
        ends.append(sorted(_goodness(evaluation, name, end) for end in (got.low, got.high)))
    around = [*range(len(axes)), 0]
    path = [*((i, ends[i][1]) for i in around), *((i, ends[i][0]) for i in reversed(around))]
    for place, (i, radius) in enumerate(path):
        yield {"model": model.name, "place": place, **radar_web.spoke(i, axes, radius)}


# --- classes ---------------------------------------------------------------------------------------


def confusion(evaluation: Evaluation) -> alt.LayerChart | alt.VConcatChart | None:
    """Confusion maps, one a model: how many examples of each true class (row) were given each class (column)."""
    return drawing.stacked([_map(evaluation, m, share=False) for m in _mapped(evaluation)])


def confusion_share(evaluation: Evaluation) -> alt.LayerChart | alt.VConcatChart | None:
    """Confusion maps, one a model, as shares of each true class."""
    return drawing.stacked([_map(evaluation, m, share=True) for m in _mapped(evaluation)])


def classes(evaluation: Evaluation) -> alt.LayerChart | alt.VConcatChart | None:
    """Recall and precision of each class, the class that is found least first."""
    rows = tables.class_rows(evaluation)
    several = len(evaluation.models) > 1
    quantities = [q for q in ("recall", "precision") if q in tables.class_quantities(evaluation)]
    if not quantities:
        return None
    names = [row.name for row in rows[:MOST_ROWS]]
    groups: list[Sequence[str]] = [[q] for q in quantities] if several else [quantities]
    left = f" The {len(rows) - MOST_ROWS:,} best classes are left out." if len(rows) > MOST_ROWS else ""
    made = (_class_bars(evaluation, names, group, left) for group in groups)
    return drawing.stacked([chart for chart in made if chart is not None])


def _mapped(evaluation: Evaluation) -> list[Evaluated]:
    return [m for m in evaluation.models if m.confusion is not None and m.confusion.size][:MOST_MODELS]


def _map(evaluation: Evaluation, model: Evaluated, *, share: bool) -> alt.LayerChart:
    import altair as alt

    table, names = _readable(evaluation, model, min(MOST_CLASSES, math.isqrt(MOST_CELLS // len(_mapped(evaluation)))))
    few = len(names) <= WRITTEN
    keys = [{"i": i, "name": name} for i, name in enumerate(names)]
    named = alt.LookupData(data=drawing.data(keys), key="i", fields=["name"])
    whole = model.confusion is not None and len(names) == len(model.confusion)
    top = max(1, int((table if whole else table[:-1]).max()))  # all other classes together would drown the rest
    base = (
        alt.Chart(drawing.data(_cells(table, empty=few)))
        .transform_lookup(lookup="t", from_=named, as_=["true"])
        .transform_lookup(lookup="p", from_=named, as_=["predicted"])
        .transform_joinaggregate(total="sum(n)", groupby=["t"])
        .transform_calculate(
            share="datum.total > 0 ? datum.n / datum.total : 0",
            shade=f"sqrt({'datum.share' if share else f'datum.n / {top}'})",
            shown="datum.total > 0 ? format(datum.share, '.1%') + ' of the true class' : 'no examples'",
            word=_WORD_SHARE if share else "datum.n > 0 ? format(datum.n, datum.n < 10000 ? 'd' : '.2~s') : ''",
        )
        .encode(
            tooltip=[
                *drawing.tips(true="true", predicted="predicted"),
                alt.Tooltip("n:Q", title="examples", format=","),
                *drawing.tips(share="shown"),
            ]
        )
    )
    sparse = len(names) > 40
    x = alt.X("predicted:N", title="predicted", sort=names, scale=alt.Scale(domain=names),
              axis=alt.Axis(labelAngle=_slant(len(names)), labelLimit=90, labelOverlap=not few,
                            ticks=not sparse))  # fmt: skip
    y = alt.Y("true:N", title="true", sort=names, scale=alt.Scale(domain=names),
              axis=alt.Axis(labelLimit=110, labelOverlap=not few, ticks=not sparse))  # fmt: skip
    cells = base.mark_rect(stroke=theme.GRID, strokeWidth=0.5 if few else 0).encode(
        x=x,
        y=y,
        color=alt.Color("shade:Q", scale=alt.Scale(domain=[0, 1], range=list(theme.SHADES), clamp=True), legend=None),
    )
    layers = (cells, _cell_words(base, x, y, len(names))) if few else (cells,)
    whose = f", {model.name}" if len(evaluation.models) > 1 else ""
    chart = drawing.layered(*layers).properties(view=alt.ViewBackground(fill=theme.SHADES[0], stroke=None))
    return drawing.finish(
        chart,
        f"Confusion as shares of the true class{whose}" if share else f"Confusion in counts{whose}",
        _map_words(share=share, few=few, names=names, known=len(model.confusion) if model.confusion is not None else 0),
        height=max(180, min(640, 34 * len(names) if few else 25 * len(names))),
    )


def _slant(size: int) -> int:
    """The angle at which so many class names fit under a map."""
    return 0 if size < 5 else -45 if size <= WRITTEN else -90


_WORD_SHARE = "datum.n > 0 ? (datum.share < 0.005 ? '<1' : format(100 * datum.share, '.0f')) : ''"


def _cell_words(base: alt.Chart, x: alt.X, y: alt.Y, size: int) -> alt.Chart:
    """What stands in the cells, in a size that fits them."""
    import altair as alt

    fitting = alt.ExprRef(expr=f"max(7.5, min(12, width / {size} / 2.9))")
    shades = alt.condition("datum.shade > 0.62", alt.value(theme.ON_SHADE), alt.value(theme.INK))
    written: alt.Chart = base.mark_text(fontSize=fitting).encode(x=x, y=y, text=alt.Text("word:N"), color=shades)
    return written


def _map_words(*, share: bool, few: bool, names: Sequence[str], known: int) -> str:
    said = "Rows are true classes, columns what the model said; the diagonal is right. "
    said += "Per cent of each row. " if share and few else "" if few else "Hover a cell for names and counts. "
    left = known - len(names) + 1
    rest = f" The {len(names) - 1} classes with most mistakes; the other {left:,} are one row and column." * (left > 1)
    return f"{said}Colours follow the square root, so that rare mistakes show.{rest}"


def _readable(evaluation: Evaluation, model: Evaluated, most: int) -> tuple[NDArray[np.int64], list[str]]:
    """The table and its names; of too many classes those with most mistakes, the others as one."""
    assert model.confusion is not None
    table, size = model.confusion, len(model.confusion)
    names = _unique(tables.class_name(evaluation, i) for i in range(size))
    if size <= most:
        return table, names
    wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * np.diag(table)
    kept = np.sort(np.argsort(-wrong, kind="stable")[: most - 1])
    group = np.full(size, most - 1)
    group[kept] = np.arange(most - 1)
    small = np.zeros((most, most), dtype=np.int64)
    true, predicted = np.nonzero(table)
    np.add.at(small, (group[true], group[predicted]), table[true, predicted])
    return small, [*(names[i] for i in kept), f"{size - most + 1:,} other classes"]


def _unique(names: Iterable[str]) -> list[str]:
    """Names apart from each other: an axis would lay two of the same over one another.

    >>> _unique(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return made


def _cells(table: NDArray[np.int64], *, empty: bool) -> Rows:
    """One row a cell; empty ones are left out of large tables."""
    places = np.argwhere(np.ones_like(table, dtype=bool) if empty else table > 0)
    return [{"t": t, "p": p, "n": int(table[t, p])} for t, p in places.tolist()]


def _class_bars(
    evaluation: Evaluation, names: Sequence[str], quantities: Sequence[str], left: str
) -> alt.LayerChart | None:
    """Bars of one quantity of several models, or of two quantities of one."""
    import altair as alt

    several = len(evaluation.models) > 1
    rows = [
        _class_bar(name, got, model.name if several else quantity)
        for model in evaluation.models
        for known in (tables.of_class(model),)
        for name in names
        for quantity in quantities
        if isinstance(got := known.get(name, {}).get(quantity), Estimate)
    ]
    if not rows:
        return None
    colours = _model_colours(evaluation) if several else dict(zip(quantities, theme.SERIES, strict=False))
    each = len(colours)
    offset: dict[str, Any] = {"yOffset": alt.YOffset("series:N", sort=list(colours))} if each > 1 else {}
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("class:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=150)),
        color=drawing.colour("series", colours, [r["series"] for r in rows], legend=each > 1),
        tooltip=drawing.tips(**{"class": "class", "which": "series", "value": "shown", "examples": "n"}),
        **offset,
    )
    bars = base.mark_bar(opacity=0.55, cornerRadiusEnd=2).encode(
        x=alt.X("value:Q", title="%", scale=alt.Scale(domain=[0, 100]))
    )
    spread = base.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"))
    what = " and ".join(quantities).capitalize()
    return drawing.finish(
        drawing.layered(bars, spread),
        f"{what} of each class",
        f"{' '.join(_CLASS_WORDS[q] for q in quantities)} Lines: {_level(evaluation)} intervals. "
        f"The class found least comes first.{left}",
        height=max(90, len(names) * (8 + 11 * each)),
    )


_CLASS_WORDS = {
    "recall": "Recall: the share of the class that is found.",
    "precision": "Precision: the share of its predictions that is right.",
}


def _class_bar(name: str, got: Estimate, series: str) -> dict[str, Any]:
    ends = {"low": 100 * got.low, "value": 100 * got.value, "high": 100 * got.high}
    return {"class": name, "series": series, **ends, "shown": tables.cell(got).whole, "n": f"{got.n:,}"}


# --- curves ----------------------------------------------------------------------------------------


def roc(evaluation: Evaluation) -> alt.LayerChart | None:
    """ROC curves with their bands; the diagonal is guessing."""
    import altair as alt

    lines = _lines(evaluation, "roc")
    if not lines:
        return None
    guess = [{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}]
    diagonal = alt.Chart(drawing.data(guess)).mark_line(strokeDash=[5, 4], color=theme.MUTED, strokeWidth=1.2)
    drawn = _curves(lines, "false-positive rate", "true-positive rate")
    return drawing.finish(
        drawing.layered(diagonal.encode(x=alt.X("x:Q"), y=alt.Y("y:Q")), *drawn),
        "ROC curve",
        "How many positives are found for the false alarms that it costs, at every threshold. "
        f"Up and left is better; the dashed diagonal is guessing.{_curve_words(lines)}",
        height=340,
    )


def pr(evaluation: Evaluation) -> alt.LayerChart | None:
    """Precision-recall curves with their bands; the dashed line is the share of positives, which guessing reaches."""
    import altair as alt

    lines = _lines(evaluation, "pr")
    if not lines:
        return None
    share = _prevalence(evaluation)
    guess = alt.Chart(drawing.data([{"y": share}])).mark_rule(strokeDash=[5, 4], color=theme.MUTED, strokeWidth=1.2)
    under = (guess.encode(y=alt.Y("y:Q")),) if share is not None else ()
    words = f" Dashed: guessing, {numbers.quantity(share, 'fraction')}." if share is not None else ""
    return drawing.finish(
        drawing.layered(*under, *_curves(lines, "recall", "precision")),
        "Precision-recall curve",
        "How clean the alarms are for the positives that are found, at every threshold. "
        f"Up and right is better.{words}{_curve_words(lines)}",
        height=340,
    )


def reliability(evaluation: Evaluation) -> alt.LayerChart | None:
    """Reliability diagram: hit rate over confidence, with interval bars and the share of examples in each bin.

    A curve of ``""`` is as the model came; any other, such as ``"after temperature"``, is drawn beside it under its name.
    """
    import altair as alt

    lines = {name: curve for model in evaluation.models for name, curve in _reliability(evaluation, model)}
    rows = [row for name, curve in lines.items() for row in _bins(name, curve)]
    if not rows:
        return None
    guess = [{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}]
    diagonal = alt.Chart(drawing.data(guess)).mark_line(strokeDash=[5, 4], color=theme.MUTED, strokeWidth=1.2)
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("x:Q", title="confidence", scale=alt.Scale(domain=[0, 1], padding=0)),
        color=drawing.colour("series", _reliability_colours(evaluation, lines), list(lines), legend=len(lines) > 1),
        tooltip=drawing.tips(which="series", confidence="confidence", right="shown", examples="n"),
    )
    y = alt.Y("y:Q", title="share that is right", scale=alt.Scale(domain=[0, 1]))
    first = next(iter(lines))
    held = alt.Chart(drawing.data([r for r in rows if r["series"] == first]))
    bars = held.mark_bar(size=13, opacity=0.22, color=theme.MUTED).encode(x=alt.X("x:Q"), y=alt.Y("share:Q"))
    spread = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    dashes = alt.Scale(domain=list(lines), range=[[1, 0] if not c.of else [5, 3] for c in lines.values()])
    legend = alt.Legend() if len(lines) > 1 else None  # the same as the colours' legend, so that the two become one
    dash = alt.StrokeDash("series:N", scale=dashes, legend=legend)
    trace = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash)
    whose = f" of {first}" if len(lines) > 1 else ""
    return drawing.finish(
        drawing.layered(
            bars,
            diagonal.encode(x=alt.X("x:Q"), y=alt.Y("y:Q")),
            spread,
            trace,
            base.mark_circle(size=55, opacity=1).encode(y=y),
        ),
        "Reliability",
        "On the dashed line, 80 % confidence is right 80 % of the time; below it the model is too sure of itself. "
        "Lines upright: intervals of each bin. "
        f"Grey: the share of the examples{whose} in the bin.",
        height=340,
    )


def _lines(evaluation: Evaluation, kind: Literal["roc", "pr"]) -> dict[str, Curve]:
    """One curve a model; for one model alone also the classes that rank worst."""
    if len(evaluation.models) > 1:
        found = ((m.name, _main([c for c in m.curves if c.kind == kind])) for m in evaluation.models)
        return {name: curve for name, curve in found if curve is not None}
    curves = [c for m in evaluation.models for c in m.curves if c.kind == kind and c.x.size]
    main = _main(curves)
    if main is None:
        return {}
    others = sorted((c for c in curves if c is not main), key=_area)[:MOST_CURVES]
    name = main.of or (evaluation.models[0].name if evaluation.models else "")
    return {name: main, **{c.of or "unnamed": c for c in others}}


def _main(curves: Sequence[Curve]) -> Curve | None:
    """The curve of all classes together: the only one (of ``""``), or their mean (of ``"macro"``)."""
    means = [c for c in curves if c.of in ("", "macro", "macro average")]
    return next(iter(means or curves), None)


def _area(curve: Curve) -> float:
    return float(np.trapezoid(curve.y, curve.x))


def _curves(lines: Mapping[str, Curve], x: str, y: str) -> tuple[alt.Chart, ...]:
    import altair as alt

    rows = [row for name, curve in lines.items() for row in _points(name, curve)]
    colours = dict(zip(lines, _cycle(), strict=False))
    unit = alt.Scale(domain=[0, 1])
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("x:Q", title=x, scale=unit),
        color=drawing.colour("series", colours, list(lines), legend=len(lines) > 1),
        order=alt.Order("i:Q"),
    )
    trace = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("y:Q", title=y, scale=unit), tooltip=[
            *drawing.tips(which="series"), alt.Tooltip("x:Q", title=x, format=".3f"), alt.Tooltip("y:Q", title=y, format=".3f"),
        ]
    )  # fmt: skip
    banded = [r for r in rows if r["low"] is not None]
    if not banded:
        return (trace,)
    band = (
        alt.Chart(drawing.data(banded))
        .mark_area(opacity=0.16 if len(lines) < 3 else 0.1, line=False)
        .encode(
            x=alt.X("x:Q"),
            y=alt.Y("low:Q"),
            y2=alt.Y2("high:Q"),
            color=drawing.colour("series", colours, list(lines), legend=len(lines) > 1),
        )
    )
    return band, trace


def _curve_words(lines: Mapping[str, Curve]) -> str:
    notes = dict.fromkeys(c.note for c in lines.values() if c.note and c.low is not None)
    return f" Bands: {'; '.join(notes)}." if notes else ""


def _points(name: str, curve: Curve) -> Rows:
    keep = np.unique(np.linspace(0, curve.x.size - 1, min(curve.x.size, MOST_POINTS)).astype(int))
    low, high = _ends(curve)
    return [
        {"series": name, "i": i, "x": _four(curve.x[j]), "y": _four(curve.y[j]), "low": low[j], "high": high[j]}
        for i, j in enumerate(keep.tolist())
    ]


def _ends(curve: Curve) -> tuple[list[float | None], list[float | None]]:
    if curve.low is None or curve.high is None:
        return [None] * curve.x.size, [None] * curve.x.size
    return [_four(v) for v in curve.low], [_four(v) for v in curve.high]


def _prevalence(evaluation: Evaluation) -> float | None:
    """The share of positives; for the mean over k classes, each against the rest, 1 / k."""
    table = next((m.confusion for m in evaluation.models if m.confusion is not None), None)
    if table is None or not table.sum():
        return None
    return float(table[-1].sum() / table.sum()) if len(table) == 2 else 1 / len(table)


def _reliability(evaluation: Evaluation, model: Evaluated) -> Iterator[tuple[str, Curve]]:
    several = len(evaluation.models) > 1
    for curve in model.curves:
        if curve.kind == "reliability" and curve.x.size:
            what = curve.of or "as it came"
            yield (model.name if not curve.of else f"{model.name}, {what}") if several else what, curve


def _reliability_colours(evaluation: Evaluation, lines: Mapping[str, Curve]) -> dict[str, str]:
    """A colour for each line; of several models one for each model, whose other lines are told apart by dashes."""
    if len(evaluation.models) == 1:
        return dict(zip(lines, _cycle(), strict=False))
    colours = _model_colours(evaluation)
    return {
        name: colour
        for model, colour in colours.items()
        for name in lines
        if name == model or name.startswith(f"{model}, ")
    }


def _bins(name: str, curve: Curve) -> Rows:
    total = float(curve.count.sum()) if curve.count is not None else 1.0
    low, high = _ends(curve)
    counts = np.full(curve.x.size, np.nan) if curve.count is None else curve.count
    return [
        {
            "series": name,
            "x": _four(x),
            "y": _four(y),
            "low": low[i],
            "high": high[i],
            "share": float(counts[i]) / total,
            "n": "unknown" if curve.count is None else f"{counts[i]:,.0f}",
            "confidence": numbers.quantity(float(x), "fraction"),
            "shown": numbers.quantity(float(y), "fraction"),
        }
        for i, (x, y) in enumerate(zip(curve.x.tolist(), curve.y.tolist(), strict=True))
    ]


# --- distributions ---------------------------------------------------------------------------------


def boxes(evaluation: Evaluation) -> alt.LayerChart | alt.VConcatChart | None:
    """Box plots by group, one panel a quantity."""
    quantities = dict.fromkeys(b.quantity for m in evaluation.models for b in m.boxes)
    return drawing.stacked([_boxes(evaluation, quantity) for quantity in quantities])


def _boxes(evaluation: Evaluation, quantity: str) -> alt.LayerChart:
    import altair as alt

    made = [(m.name, b) for m in evaluation.models for b in m.boxes if b.quantity == quantity]
    every = list(dict.fromkeys(b.group for _, b in made))
    groups = set(every[:MOST_ROWS])
    rows = [_box(name, b) for name, b in made if b.group in groups]
    count = len({r["model"] for r in rows})
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("group:N", title=None, sort=every[:MOST_ROWS], axis=alt.Axis(labelLimit=150)),
        color=_by_model(evaluation),
        tooltip=drawing.tips(
            model="model", group="group", median="shown_median", half="shown_half", range="shown_range", examples="n"
        ),
        **_offset(evaluation),
    )
    x = alt.X("p5:Q", title=quantity)
    whiskers = base.mark_rule(strokeWidth=1.5).encode(x=x, x2=alt.X2("p95:Q"))
    bars = base.mark_bar(size=12 if count > 1 else 16, cornerRadius=2, opacity=0.75).encode(
        x=alt.X("q1:Q"), x2=alt.X2("q3:Q")
    )
    medians = base.mark_tick(thickness=2, size=16 if count > 1 else 22, color=theme.INK).encode(
        x=alt.X("median:Q"), color=alt.value(theme.INK)
    )
    ends = (base.mark_point(size=20, filled=True, opacity=0.7).encode(x=f"{end}:Q") for end in ("least", "most"))
    left = f" {len(every) - MOST_ROWS:,} more groups are left out." if len(every) > MOST_ROWS else ""
    return drawing.finish(
        drawing.layered(whiskers, bars, medians, *ends),
        f"Spread of the {quantity}",
        f"Box: the middle half. Line: 5 % to 95 %. Tick: median. Dots: least and most.{left}",
        height=len(groups) * (12 + 20 * count) + 16,
    )


def _box(model: str, box: Box) -> dict[str, Any]:
    keys = ("least", "p5", "q1", "median", "q3", "p95", "most")
    row = dict(zip(keys, box.quantiles, strict=True))
    text = {key: numbers.significant(value) for key, value in row.items()}
    return {
        "model": model,
        "group": box.group,
        **{key: float(f"{value:.5g}") for key, value in row.items()},
        "n": f"{box.n:,}",
        "shown_median": text["median"],
        "shown_half": f"{text['q1']} to {text['q3']}",
        "shown_range": f"{text['least']} to {text['most']}",
    }


# --- slices and differences ------------------------------------------------------------------------


def slices(evaluation: Evaluation) -> alt.LayerChart | alt.VConcatChart | None:
    """Forest plots of the gaps between slices and all other examples, those named and those discovered apart."""
    made = (_slice_forest(evaluation, found) for found in (False, True))
    return drawing.stacked([chart for chart in made if chart is not None])


def _slice_forest(evaluation: Evaluation, found: bool) -> alt.LayerChart | None:
    """The worst slices of any model."""
    held = [(m.name, s) for m in evaluation.models[:MOST_MODELS] for s in m.slices if s.discovered is found and s.gap]
    held.sort(key=lambda pair: -pair[1].gap.value if pair[1].gap else 0.0)
    names = list(dict.fromkeys(s.conditions for _, s in held))
    kept = set(names[:MOST_ROWS])
    if not kept:
        return None
    left = f" {len(names) - MOST_ROWS:,} more lie further left." if len(names) > MOST_ROWS else ""
    metric = tables.title(evaluation, tables.leading(evaluation))
    return _forest(
        [_slice_row(model, s) for model, s in held if s.conditions in kept],
        "Weak slices that were discovered" if found else "Slices that were named",
        f"{metric}: how much worse than on all other examples. Right of the line is worse; lines are intervals, brackets "
        f"hold the number of examples.{left}",
        "worse than the rest by",
        evaluation if len(evaluation.models) > 1 else None,
    )


def _slice_row(model: str, given: SliceScore) -> dict[str, Any]:
    assert given.gap is not None
    words = {"name": f"{tables.conditions(given.conditions)} ({given.n:,})", "verdict": given.verdict, "model": model}
    adjusted = tables.NONE if given.adjusted is None else numbers.p_value(given.adjusted)
    return {**words, **_interval(given.gap), "adjusted": adjusted}


def differences(evaluation: Evaluation) -> alt.LayerChart | alt.VConcatChart | None:
    """Forest plot of the drops from the first model to the second, one panel a unit."""
    found = [d for d in tables.whole_differences(evaluation) if isinstance(d.drop, Estimate)]
    return drawing.stacked([_unit_forest(evaluation, unit, own) for unit, own in _by_unit(found)])


def slice_differences(evaluation: Evaluation) -> alt.LayerChart | None:
    """Forest plot of the drops from the first model to the second inside each slice."""
    own = [d for d in evaluation.differences if d.conditions and isinstance(d.drop, Estimate)]
    own.sort(key=lambda d: -d.drop.value if isinstance(d.drop, Estimate) else 0.0)
    if not own:
        return None
    left = f" {len(own) - MOST_ROWS:,} more are left out." if len(own) > MOST_ROWS else ""
    return _forest(
        [_difference_row(evaluation, d) for d in own[:MOST_ROWS]],
        "Difference by slice",
        "Drop from the first model to the second inside each slice, on the same examples. Right of the line the second "
        f"is worse.{left}",
        "drop",
    )


def _by_unit(found: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    def unit(given: Difference) -> str:
        return given.drop.unit if isinstance(given.drop, Estimate) else ""

    ordered = sorted(found, key=lambda d: (unit(d) != "fraction", unit(d)))
    return [(name, list(own)) for name, own in groupby(ordered, key=unit)]


def _unit_forest(evaluation: Evaluation, unit: str, own: Sequence[Difference]) -> alt.LayerChart:
    pairs = list(dict.fromkeys(f"from {d.first} to {d.second}" for d in own))
    shown = f" in {unit}" if unit not in ("", "fraction") else ""
    return _forest(
        [_difference_row(evaluation, d) for d in own],
        f"Difference by metric{shown}",
        f"Drop {pairs[0] if len(pairs) == 1 else 'from the first model to the second'}, on the same examples. Left of "
        "the line the second is better, right of it worse.",
        "drop",
    )


def _difference_row(evaluation: Evaluation, given: Difference) -> dict[str, Any]:
    assert isinstance(given.drop, Estimate)
    where = f"{tables.conditions(given.conditions)} ({given.n:,})" if given.conditions else ""
    metric = tables.title(evaluation, given.metric)
    pairs = {(d.first, d.second) for d in evaluation.differences}
    parts = (metric, f"{given.second} against {given.first}" if len(pairs) > 1 else "", where)
    name = (
        where
        if where and len(pairs) < 2 and given.metric == tables.leading(evaluation)
        else ", ".join(filter(None, parts))
    )
    adjusted = tables.NONE if given.adjusted is None else numbers.p_value(given.adjusted)
    return {"name": name, "verdict": given.outcome, **_interval(given.drop), "adjusted": adjusted}


def _interval(given: Estimate) -> dict[str, Any]:
    """A difference to draw: fractions in percentage points."""
    scale = 100 if given.unit == "fraction" else 1
    low, high = drawing.finite(given.low, given.value), drawing.finite(given.high, given.value)
    ends = {"low": scale * low, "value": scale * given.value, "high": scale * high}
    return {**ends, "unit": "points" if scale == 100 else given.unit, "shown": tables.difference(given).whole}


def _forest(rows: Rows, title: str, subtitle: str, x: str, models: Evaluation | None = None) -> alt.LayerChart:
    """One line a row, coloured by its verdict; with `models`, by the model, and hollow where nothing is decided."""
    import altair as alt

    unit = rows[0]["unit"]
    names = list(dict.fromkeys(r["name"] for r in rows))
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("name:N", title=None, sort=names, axis=alt.Axis(labelLimit=250)),
        color=_by_model(models)
        if models
        else drawing.colour("verdict", VERDICTS, [r["verdict"] for r in rows], columns=3),
        tooltip=drawing.tips(
            **({"model": "model"} if models else {}), **{"": "name", x: "shown", "p, Holm": "adjusted", "is": "verdict"}
        ),
        **(_offset(models) if models else {}),
    )
    axis = alt.X("low:Q", title=f"{x}, {unit}" if unit else x, scale=alt.Scale(zero=True))
    none = alt.Chart(drawing.data([{"x": 0}])).mark_rule(color=theme.MUTED, strokeDash=[5, 4]).encode(x=alt.X("x:Q"))
    spread = base.mark_rule(strokeWidth=2, opacity=0.7).encode(x=axis, x2=alt.X2("high:Q"))
    points = base.mark_circle(size=85, opacity=1).encode(x=alt.X("value:Q"))
    if models:
        open_ = f"indexof({json.dumps(OPEN)}, datum.verdict) >= 0"
        points = points.encode(fillOpacity=alt.condition(open_, alt.value(0.25), alt.value(1)))
    return drawing.finish(
        drawing.layered(none, spread, points),
        title,
        subtitle + (" Pale points are undecided." if models else ""),
        height=(26 + 10 * (len(models.models) - 1 if models else 0)) * len(names) + 20,
    )


# --- robustness ------------------------------------------------------------------------------------


def robustness(evaluation: Evaluation) -> alt.LayerChart | alt.VConcatChart | None:
    """The leading metric over the severity of each corruption, one panel a model, all on the same scale."""
    held = [m for m in evaluation.models if any(isinstance(c.score, Estimate) for c in m.corrupted)][:MOST_MODELS]
    names = list(dict.fromkeys(row.name for m in held for row in tables.corrupted_rows(m)))
    panels = [(m.name, [_severity(c) for c in m.corrupted if isinstance(c.score, Estimate)]) for m in held]
    ends = [v for _, rows in panels for r in rows for v in (r["low"], r["high"])]
    return drawing.stacked(
        [_severities(evaluation, name, rows, names, (min(ends), max(ends))) for name, rows in panels]
    )


def _severities(
    evaluation: Evaluation, model: str, rows: Rows, names: Sequence[str], reach: tuple[float, float]
) -> alt.LayerChart:
    import altair as alt

    metric = tables.title(evaluation, tables.leading(evaluation))
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X(
            "severity:Q", title="severity (0 is clean)", axis=alt.Axis(values=list(range(6)), format="d", grid=False)
        ),
        color=drawing.colour("corruption", dict(zip(names, _cycle(), strict=False)), names, columns=3),
        tooltip=drawing.tips(corruption="corruption", severity="severity", score="shown"),
    )
    turns = [i // len(theme.SERIES) % len(_TURNS) for i in range(len(names))]
    dash = alt.StrokeDash(
        "corruption:N",
        legend=alt.Legend(columns=3),
        scale=alt.Scale(domain=list(names), range=[_TURNS[t][0] for t in turns]),
    )
    shape = alt.Shape(
        "corruption:N",
        legend=alt.Legend(columns=3),
        scale=alt.Scale(domain=list(names), range=[_TURNS[t][1] for t in turns]),
    )
    title = f"{metric}, %" if rows[0]["unit"] == "fraction" else metric
    y = alt.Y("value:Q", title=title, scale=alt.Scale(domain=list(reach), zero=False, nice=True))
    spread = base.mark_rule(strokeWidth=1.4, opacity=0.45).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    points = base.mark_point(size=44, filled=True, opacity=1).encode(y=y, shape=shape)
    several = f", {model}" if len(evaluation.models) > 1 else ""
    return drawing.finish(
        drawing.layered(spread, base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash), points),
        f"Robustness{several}",
        f"{metric} as the data get worse, one line a corruption, with {_level(evaluation)} intervals. "
        "In the legend, what hurts most comes first.",
        height=360,
    )


_TURNS = (([1, 0], "circle"), ([6, 3], "square"), ([2, 2], "triangle-up"))  # when the colours come round again


def _severity(given: Corrupted) -> dict[str, Any]:
    assert isinstance(given.score, Estimate)
    scale = 100 if given.score.unit == "fraction" else 1
    low = drawing.finite(given.score.low, given.score.value)
    high = drawing.finite(given.score.high, given.score.value)
    ends = {"low": scale * low, "value": scale * given.score.value, "high": scale * high}
    words = {"corruption": given.name.replace("_", " "), "severity": given.severity}
    return {**words, **ends, "unit": given.score.unit, "shown": tables.cell(given.score).whole}


# --- colours and words -----------------------------------------------------------------------------


def _cycle() -> Iterator[str]:
    while True:
        yield from theme.SERIES


def _model_colours(evaluation: Evaluation) -> dict[str, str]:
    return dict(zip((m.name for m in evaluation.models), _cycle(), strict=False))


def _by_model(evaluation: Evaluation) -> alt.Color:
    colours = _model_colours(evaluation)
    return drawing.colour("model", colours, list(colours), legend=len(colours) > 1)


def _offset(evaluation: Evaluation) -> dict[str, Any]:
    """Models side by side within a row."""
    import altair as alt

    names = [m.name for m in evaluation.models]
    return {"yOffset": alt.YOffset("model:N", sort=names)} if len(names) > 1 else {}


def _level(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.level:.3g} %"


def _without(titles: Sequence[str], why: str) -> str:
    return f" Left out ({why}): {', '.join(titles)}." if titles else ""


def _four(value: float) -> float:
    return round(float(value), 4)


# --- saving ----------------------------------------------------------------------------------------

CHARTS: Mapping[str, Callable[[Evaluation], alt.LayerChart | alt.VConcatChart | None]] = {
    "scores": scores,
    "radar": radar,
    "differences": differences,
    "slice_differences": slice_differences,
    "confusion": confusion,
    "confusion_share": confusion_share,
    "classes": classes,
    "roc": roc,
    "pr": pr,
    "reliability": reliability,
    "boxes": boxes,
    "slices": slices,
    "robustness": robustness,
}


def save_figures(evaluation: Evaluation, folder: Path, formats: Iterable[str] = drawing.FORMATS) -> tuple[Path, ...]:
    """Writes every chart whose data are present as ``folder/<name>.<format>``; needs no browser.

    Raises `InvalidInput` for a format other than png, svg and pdf.
    """
    return drawing.save(((name, draw(evaluation)) for name, draw in CHARTS.items()), folder, formats)
