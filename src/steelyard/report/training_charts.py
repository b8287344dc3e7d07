"""Charts of trainings, one alone or several side by side: records in, an Altair chart out, or None where its data are absent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.records import Finding, Floats, Measurement, RateSearch, TrainingRun, Unavailable, Watched
from steelyard.report import drawing, numbers, theme, times, watching
from steelyard.report.drawing import Rows
from steelyard.report.training import ROLES, breakdown, epoch_loss, role_bytes
from steelyard.stats.proportion import wilson

if TYPE_CHECKING:
    import altair as alt

__all__ = ["CHARTS", "Told"]

_POINTS = 300  # of one line: beyond, neighbours are joined by their mean
_LINES = 7  # layers or activations that are drawn
PHASES = dict(zip(("data", "forward", "backward", "optimiser", "communication", "other"), (
    theme.BROKEN, theme.CHOSEN, theme.OTHERS[1], theme.OTHERS[2], theme.OTHERS[0], theme.BASELINE), strict=True))  # fmt: skip
MEMORY = dict(zip(ROLES.values(), (theme.CHOSEN, theme.OTHERS[1], theme.OTHERS[2], theme.OTHERS[0]), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One training as a page shows it. Trainings of one `group` differ in their seed alone; "" stands for none."""

    watched: Watched
    findings: tuple[Finding, ...] = ()
    run: TrainingRun | None = None  # with what only `steelyard train` knows
    name: str = ""
    group: str = ""

    @property
    def label(self) -> str:
        """Its name among others."""
        return self.name or self.watched.name


Trainings = Sequence[Told]


# --- curves ------------------------------------------------------------------------------------------


def losses(runs: Trainings) -> Any:
    """The loss of each step, joined where there are many, with that of each epoch in training and in validation."""
    import altair as alt

    rows = [row for told in runs for row in _loss_rows(told, alone=len(runs) == 1)]
    if not rows:
        return None
    names = list(dict.fromkeys(row["line"] for row in rows))
    log = min(r["loss"] for r in rows) > 0 and max(r["loss"] for r in rows) > 30 * min(r["loss"] for r in rows)
    scale = alt.Scale(type="log", nice=False, padding=8) if log else alt.Scale(zero=False)
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(nice=False)),
        y=alt.Y("loss:Q", title="loss", scale=scale, axis=alt.Axis(format="~g", tickCount=5)),
        color=drawing.colour("line", _line_colours(names), names),
        tooltip=drawing.tips(line="line", step="step", loss="shown"),
    )
    steps = base.transform_filter("!datum.epoch").mark_line(strokeWidth=1.2, opacity=0.55)
    epochs = base.transform_filter("datum.epoch").mark_line(
        strokeWidth=2.2, point=alt.OverlayMarkDef(size=36, filled=True)
    )
    thick = "epochs, every example counted once." if len(runs) == 1 else "validation."
    words = f"Thin: each step. Thick: {thick}" + (" The scale is logarithmic." if log else "")
    return drawing.finish(drawing.layered(steps, epochs), "Loss", words, height=300)


def _loss_rows(told: Told, *, alone: bool) -> Iterator[dict[str, Any]]:
    watched = told.watched
    name = "" if alone else f"{told.label}: "
    at, loss = _joined(watched.loss)
    yield from _points(f"{name}training" if not alone else "training, each step", at, loss, epoch=False)
    held = watched.scores.get("validation_loss")
    if alone and len(watched.epoch_ends) > 1:
        yield from _points("training, each epoch", watched.epoch_ends, epoch_loss(watched), epoch=True)
    if held is not None:
        yield from _points(f"{name}validation", watched.epoch_ends, held, epoch=True)


def _points(line: str, at: Any, values: Floats, *, epoch: bool) -> Iterator[dict[str, Any]]:
    for step, value in zip(at, values, strict=True):
        if math.isfinite(value):
            shown = numbers.significant(float(value))
            yield {"line": line, "step": float(step), "loss": float(value), "shown": shown, "epoch": epoch}


def _joined(values: Floats) -> tuple[Floats, Floats]:
    """Means of so many neighbours that few enough points are left, and the steps that they end at."""
    size = max(1, -(-len(values) // _POINTS))
    starts = np.arange(0, len(values), size)
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    counts = np.diff(np.append(starts, len(values)))
    return (starts + counts).astype(np.float64), np.add.reduceat(values, starts) / counts


def _line_colours(names: Sequence[str]) -> dict[str, str]:
    """Several trainings have a colour each, whatever the split."""
    known = {
        "training, each step": theme.BASELINE,
        "training, each epoch": theme.CHOSEN,
        "training": theme.CHOSEN,
        "validation": theme.OTHERS[0],
    }
    runs = list(dict.fromkeys(name.rpartition(": ")[0] for name in names))
    return {
        name: known.get(name, theme.SERIES[runs.index(name.rpartition(": ")[0]) % len(theme.SERIES)]) for name in names
    }


def scores(runs: Trainings) -> Any:
    """Scores of each epoch on training and validation data; the validation's with its 95 % interval where it can be told."""
    import altair as alt

    rows = [row for told in runs for row in _score_rows(told, alone=len(runs) == 1)]
    if not rows:
        return None
    names = list(dict.fromkeys(row["line"] for row in rows))
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(nice=False)),
        y=alt.Y("score:Q", title="score", scale=alt.Scale(zero=False, padding=6), axis=alt.Axis(format="~g")),
        color=drawing.colour("line", _line_colours(names), names),
        tooltip=drawing.tips(line="line", epoch="epoch", score="shown"),
    )
    band = base.mark_area(opacity=0.15).encode(y="low:Q", y2="high:Q")
    lines = base.mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=36, filled=True))
    words = "The band is Wilson's 95 % interval over the validation examples." if _banded(runs) else "Higher is better."
    return drawing.finish(drawing.layered(band, lines), "Scores", words, height=260)


def _banded(runs: Trainings) -> bool:
    return any(told.watched.score_examples for told in runs)


def _score_rows(told: Told, *, alone: bool) -> Iterator[dict[str, Any]]:
    watched, n = told.watched, told.watched.score_examples
    for name in ("validation", "training"):
        for epoch, score in zip(watched.epochs, watched.scores.get(name, np.zeros(0)), strict=False):
            if not math.isfinite(score):
                continue
            counted = n and name == "validation" and 0 <= score <= 1
            low, high = wilson(score * n, n) if counted else (float(score), float(score))
            yield {
                "line": name if alone else f"{told.label}: {name}",
                "epoch": int(epoch) + 1,
                "score": float(score),
                "low": low,
                "high": high,
                "shown": numbers.interval(float(score), low, high, "fraction"),
            }


def rates(runs: Trainings) -> Any:
    """The learning rate over the steps."""
    import altair as alt

    rows: Rows = []
    for told in runs:
        at, rate = _joined(told.watched.learning_rate)
        rows += [
            {"line": told.label, "step": float(s), "rate": float(r), "shown": f"{r:.3g}"}
            for s, r in zip(at, rate, strict=True)
            if math.isfinite(r)
        ]
    if not rows:
        return None
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(nice=False)),
        y=alt.Y("rate:Q", title="learning rate", axis=alt.Axis(format="~g", tickCount=5)),
        color=drawing.colour("line", _colours(runs), [r["line"] for r in rows], legend=len(runs) > 1),
        tooltip=drawing.tips(run="line", step="step", rate="shown"),
    )
    return drawing.finish(
        drawing.layered(base.mark_line(strokeWidth=2)), "Learning rate", "As each step used it.", height=180
    )


def _colours(runs: Trainings) -> dict[str, str]:
    names = dict.fromkeys(told.label for told in runs)
    return {name: theme.SERIES[i % len(theme.SERIES)] for i, name in enumerate(names)}


def finder(runs: Trainings) -> Any:
    """The learning-rate range tests."""
    found = [(told, told.run.search) for told in runs if told.run is not None and told.run.search is not None]
    return drawing.stacked([_finder(told.label, search, alone=len(runs) == 1) for told, search in found])


def _finder(label: str, search: RateSearch, *, alone: bool) -> alt.LayerChart:
    import altair as alt

    top = 1.5 * float(
        np.nanmax(search.smoothed[: max(3, len(search.smoothed) // 4)])
    )  # where the loss runs away is not drawn
    rows: Rows = [
        {"rate": float(rate), "loss": min(float(loss), top), "line": line, "shown": numbers.significant(float(loss))}
        for line, losses in (("each step", search.losses), ("smoothed", search.smoothed))
        for rate, loss in zip(search.rates, losses, strict=True)
        if math.isfinite(loss)
    ]
    colours = {"each step": theme.CONTROL, "smoothed": theme.CHOSEN}
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("rate:Q", title="learning rate", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~g", tickCount=6)),
        y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)),
        color=drawing.colour("line", colours, list(colours)),
        tooltip=drawing.tips(line="line", rate="rate", loss="shown"),
    )  # fmt: skip
    marked = {"suggested": search.suggested, "ran away": search.diverged}
    rules = [
        alt.Chart(drawing.data([{"rate": rate}]))
        .mark_rule(color=theme.MET if name == "suggested" else theme.BROKEN, strokeDash=[5, 4], strokeWidth=1.8)
        .encode(x="rate:Q")
        for name, rate in marked.items()
        if rate is not None
    ]
    told = "nothing, the loss never fell" if search.suggested is None else f"{search.suggested:.3g} (green)"
    words = f"The rate climbs step by step (Smith 2017). Suggested: {told}; red: where the loss ran away. {search.note}"
    title = "Learning-rate finder" if alone else f"Learning-rate finder, {label}"
    return drawing.finish(drawing.layered(*rules, base.mark_line(strokeWidth=2)), title, words.strip(), height=240)


# --- time, memory ------------------------------------------------------------------------------------


def steps(runs: Trainings) -> Any:
    """Where the time of a step goes."""
    found = [(told.label, part) for told in runs for part in breakdown(told.watched)]
    if not found:
        return None
    factor, unit = times.scaled_time(max(part.seconds for _, part in found))
    rows = [
        {
            "run": label,
            "part": part.phase,
            "size": part.seconds / factor,
            "order": list(PHASES).index(part.phase),
            "shown": f"{numbers.seconds(part.seconds)}, {numbers.quantity(part.share, 'fraction')}",
        }
        for label, part in found
    ]
    words = "Means over warm steps; the parts add up to the step. Red is waiting for data."
    return _bars(rows, PHASES, "Where a step's time goes", words, f"time of a step, {unit}")


def memory(runs: Trainings) -> Any:
    """Bytes by role at the second step."""
    rows = [
        {"run": told.label, "part": ROLES[role], "size": size / 1e6, "order": order, "shown": numbers.size(size)}
        for told in runs
        for order, (role, size) in enumerate(role_bytes(told.watched).items())
        if not isinstance(size, Unavailable)
    ]
    words = "Counted tensor by tensor, each storage once. What autograd keeps is told at the end of the forward pass."
    return _bars(rows, MEMORY, "Memory by role", words, "MB") if rows else None


def _bars(rows: Rows, colours: dict[str, str], title: str, words: str, x_title: str) -> alt.LayerChart:
    import altair as alt

    runs = list(dict.fromkeys(row["run"] for row in rows))
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("sum(size):Q", title=x_title, axis=alt.Axis(format=",.3~r")),
        y=alt.Y("run:N", title=None, sort=runs, axis=alt.Axis(labels=len(runs) > 1, ticks=False, domain=False)),
        color=drawing.colour("part", colours, [row["part"] for row in rows], columns=3),
        order=alt.Order("order:Q"),
        tooltip=drawing.tips(run="run", part="part", value="shown"),
    )
    bars = base.mark_bar(size=26, cornerRadius=2)
    return drawing.finish(drawing.layered(bars), title, words, height=44 * len(runs) + 20)


# --- gradients, units --------------------------------------------------------------------------------


def gradients(runs: Trainings) -> Any:
    """Norms of the gradients of some layers, from the input (light) to the output, of the first run that has them."""
    import altair as alt

    watched = next((told.watched for told in runs if told.watched.gradient_norms.size), None)
    if watched is None:
        return None
    layers = np.unique(np.linspace(0, len(watched.layers) - 1, _LINES).round().astype(int))
    rows: Rows = [
        {"layer": watched.layers[i], "step": int(step) + 1, "norm": float(norm), "shown": f"{norm:.3g}"}
        for i in layers
        for step, norm in zip(watched.sampled, watched.gradient_norms[:, i], strict=True)
        if math.isfinite(norm) and norm > 0
    ]
    if not rows:
        return None
    names = [watched.layers[i] for i in layers]
    colours = {name: theme.SERIES[i % len(theme.SERIES)] for i, name in enumerate(names)}
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(nice=False)),
        y=alt.Y("norm:Q", title="norm of the gradient", scale=alt.Scale(type="log", nice=False, padding=8), axis=alt.Axis(format="~g", tickCount=5)),
        color=drawing.colour("layer", colours, names),
        tooltip=drawing.tips(layer="layer", step="step", norm="shown"),
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=24, filled=True))
    words = "Layers from the input to the output. Those of a healthy net stay within some decades of each other."
    return drawing.finish(drawing.layered(lines), "Gradients", words, height=260)


def units(runs: Trainings) -> Any:
    """Channels that gave nothing, over the epochs, of the first run that has them."""
    import altair as alt

    watched = next((told.watched for told in runs if np.isfinite(told.watched.dead_share).any()), None)
    if watched is None:
        return None
    shown = np.unique(np.linspace(0, len(watched.activations) - 1, _LINES).round().astype(int))
    rows: Rows = [
        {"unit": watched.activations[i], "epoch": epoch + 1, "share": float(share), "shown": numbers.quantity(float(share), "fraction")}
        for i in shown
        for epoch, share in enumerate(watched.dead_share[:, i])
        if math.isfinite(share)
    ]  # fmt: skip
    names, most = [watched.activations[i] for i in shown], max(0.1, float(np.nanmax(watched.dead_share)))
    colours = {name: theme.SERIES[i % len(theme.SERIES)] for i, name in enumerate(names)}
    base = alt.Chart(drawing.data(rows)).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(nice=False)),
        y=alt.Y("share:Q", title="channels that gave nothing", scale=alt.Scale(domain=[0, most]), axis=alt.Axis(format="%", tickCount=5)),
        color=drawing.colour("unit", colours, names),
        tooltip=drawing.tips(rectifier="unit", epoch="epoch", share="shown"),
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=30, filled=True))
    words = "Of each rectifier, in the order they run: the share of channels at zero for every example looked at."
    return drawing.finish(drawing.layered(lines), "Units that gave nothing", words, height=220)


# --- seeds, machine ----------------------------------------------------------------------------------


def seeds(runs: Trainings) -> Any:
    """The last validation score of trainings that differ in their seed alone, one box a group."""
    import altair as alt

    groups: dict[str, list[float]] = {}
    for told in runs:
        held = told.watched.scores.get("validation", np.zeros(0))
        if told.group and len(held) and math.isfinite(held[-1]):
            groups.setdefault(told.group, []).append(float(held[-1]))
    groups = {name: found for name, found in groups.items() if len(found) > 1}
    if not groups:
        return None
    boxes: Rows = [
        dict(zip(("group", "least", "q1", "median", "q3", "most"), (name, *np.quantile(found, (0, 0.25, 0.5, 0.75, 1)).tolist()), strict=True))
        for name, found in groups.items()
    ]  # fmt: skip
    points: Rows = [
        {"group": name, "score": score, "shown": numbers.quantity(score, "fraction")}
        for name, found in groups.items()
        for score in found
    ]
    y = alt.Y("group:N", title=None, sort=list(groups))
    scale = alt.Scale(zero=False, padding=14)
    base = alt.Chart(drawing.data(boxes)).encode(y=y)
    x = alt.X("least:Q", title="last validation score", scale=scale, axis=alt.Axis(format="~g"))
    layers = (
        base.mark_rule(strokeWidth=1.5, color=theme.CHOSEN).encode(x=x, x2="most:Q"),
        base.mark_bar(size=18, cornerRadius=2, color=theme.BAND).encode(x="q1:Q", x2="q3:Q"),
        base.mark_tick(color=theme.INK, thickness=2, size=24).encode(x="median:Q"),
        alt.Chart(drawing.data(points))
        .mark_circle(size=46, color=theme.CHOSEN, opacity=0.8)
        .encode(y=y, x="score:Q", tooltip=drawing.tips(group="group", score="shown")),
    )
    words = "Box: the middle half. Tick: median. Dots: each seed."
    return drawing.finish(drawing.layered(*layers), "Over seeds", words, height=44 * len(groups) + 20)


def machine(runs: Trainings) -> Any:
    """What the machine did during the first training."""
    first = runs[0].watched
    return watching.meanwhile(Measurement(subject="", environment=first.environment, readings=first.readings))


CHARTS = {
    "losses": losses, "scores": scores, "rates": rates, "finder": finder, "steps": steps, "memory": memory,
    "gradients": gradients, "units": units, "seeds": seeds, "machine": machine,
}  # fmt: skip
