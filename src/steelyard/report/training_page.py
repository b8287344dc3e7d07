"""The page of one training, or of several side by side, made from records alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import numpy as np

from steelyard.records import Ceiling, Measurement, Sample, TrainingRun, Unavailable, Watched
from steelyard.report import assembly, augmenting, drawing, memory, numbers
from steelyard.report.assembly import Tile
from steelyard.report.sections import Badge, Column, Grid, Page, Section, render
from steelyard.report.training import (
    breakdown,
    epoch_loss,
    epoch_seconds,
    examples_per_s,
    reading,
    role_bytes,
    step_seconds,
    time_to,
    training_rows,
    warm,
)
from steelyard.report.training_charts import CHARTS, Told
from steelyard.stats.proportion import wilson

__all__ = ["Told", "render_training"]

METHODS = (
    (
        "Phases",
        "One clock is read at each change of phase, so that the phases of a step add up to it. A tenth of the steps is warm-up.",
    ),
    (
        "Loss",
        (
            "Of an epoch: the mean over its examples, however they came in batches. Stable from: change-points in the mean, by "
            "least squares."
        ),
    ),
    (
        "Memory",
        (
            "Weights, gradients and optimiser state: their storages at the second step. Kept for the backward pass: what autograd "
            "saved and still holds when the forward pass ends, each storage once."
        ),
    ),
    ("Gradients", "Euclidean norms, read as often as 0.5 % of the time allows."),
    (
        "Energy",
        "Counters where the machine has them, else a model with its 5 to 95 % range; epochs share it by their time and load.",
    ),
    (
        "Findings",
        "Thresholds are rules of thumb, tried on 20 planted faults and 10 healthy trainings (benchmarks/training_faults.py).",
    ),
)


def render_training(runs: Sequence[Told]) -> str:
    """One self-contained HTML page."""
    with drawing.unchecked():
        return render(_page(runs), {name: draw(runs) for name, draw in CHARTS.items()})


def _page(runs: Sequence[Told]) -> Page:
    first = runs[0]
    return Page(
        headline=_headline(first.watched) if len(runs) == 1 else f"{len(runs)} trainings side by side",
        plan=first.label if len(runs) == 1 else ", ".join(told.label for told in runs),
        brand="training",
        lede=_lede(runs),
        time=first.watched.environment.time,
        version=first.watched.version,
        badges=tuple(_badges(runs)),
        tiles=tuple(_tiles(first)) if len(runs) == 1 else (),
        sections=tuple(_sections(runs)),
    )


def _headline(watched: Watched) -> str:
    if not np.isfinite(watched.loss).all():
        return "The loss ran away"
    held = watched.scores.get("validation")
    if held is not None and np.isfinite(held).any():
        best = numbers.quantity(float(np.nanmax(held)), "fraction")
        return f"{best} on validation data"
    last = watched.loss[-1] if len(watched.loss) else float("nan")
    return f"Loss {numbers.significant(float(last))} after {len(watched.loss):,} steps"


def _lede(runs: Sequence[Told]) -> str:
    if len(runs) > 1:
        return "The same readings of each: curves, where a step's time goes, memory by role, and what holds each back."
    watched = runs[0].watched
    whole = float(step_seconds(watched).sum() + watched.outside_s.sum())
    ended = f" It ended early: {watched.ended}." if watched.ended else ""
    return f"{len(watched.loss):,} steps in {len(watched.epochs)} epochs, {numbers.seconds(whole)}.{ended}"


def _badges(runs: Sequence[Told]) -> Iterator[Badge]:
    found = dict.fromkeys(finding.name for told in runs for finding in told.findings)
    for name in found:
        yield Badge(words=name.replace("-", " "), outcome="undecided")
    if not found:
        yield Badge(words="nothing found amiss", outcome="met")


def _tiles(told: Told) -> Iterator[Tile]:
    watched = told.watched
    held, n = watched.scores.get("validation"), watched.score_examples
    if held is not None and np.isfinite(held).any():
        best = int(np.nanargmax(held))
        low, high = wilson(float(held[best]) * n, n) if n and held[best] <= 1 else (0.0, 0.0)
        span = (assembly.span(numbers.interval(float(held[best]), low, high, "fraction")),) if n else ()
        details = (*span, f"after epoch {int(watched.epochs[best]) + 1}")
        yield Tile(name="Validation, best", value=numbers.quantity(float(held[best]), "fraction"), details=details)
    seconds = step_seconds(watched)[warm(watched)]
    if len(seconds):
        largest = max(breakdown(watched), key=lambda part: part.share)
        details = (f"{numbers.quantity(largest.share, 'fraction')} {largest.phase}",)
        yield Tile(name="A step, median", value=numbers.seconds(float(np.median(seconds))), details=details)
    rate = examples_per_s(watched)
    if rate is not None:
        yield Tile(name="Examples per second", value=numbers.quantity(rate, "1/s"), details=("warm steps",))
    sizes = [size for size in role_bytes(watched).values() if not isinstance(size, Unavailable)]
    if sizes:
        yield Tile(name="Memory by role", value=numbers.size(sum(sizes)), details=("tensors of one step",))
    whole = reading(watched, "energy_j")
    if whole is not None:
        yield _energy_tile(whole)


def _energy_tile(whole: Sample) -> Tile:
    low, high = (float(end) for end in np.quantile(whole.values, (0.05, 0.95)))
    details = (assembly.span(numbers.interval(whole.value, low, high, "J")), whole.provenance)
    return Tile(name="Energy", value=numbers.quantity(whole.value, "J"), details=tuple(filter(None, details)))


def _sections(runs: Sequence[Told]) -> Iterator[Section]:
    several = len(runs) > 1
    yield Section(
        id="side-by-side",
        title="Side by side",
        figures=("seeds",),
        wide=("seeds",),
        grids=(_beside(runs), _goals(runs)) if several else (),
    )
    yield Section(
        id="findings",
        title="Diagnosis",
        words="What holds the training back, the numbers behind it, and what to try.",
        grids=(_findings(runs),),
    )
    yield Section(
        id="curves",
        title="Curves",
        figures=("losses", "scores", "rates"),
        wide=("losses",),
        grids=(*_gap(runs), *_epochs(runs)),
    )
    yield Section(
        id="step", title="Time and memory", figures=("steps", "memory"), wide=("steps", "memory") if several else ()
    )
    yield Section(id="gradients", title="Gradients and units", figures=("gradients", "units"))
    yield Section(id="finder", title="Learning rate", figures=("finder",), wide=("finder",))
    yield Section(
        id="sheet",
        title="What the net sees",
        words="Training examples as they were augmented.",
        grids=_labels(runs),
        pictures=tuple(picture for told in runs if told.run is not None for picture in told.run.sheet),
    )
    yield Section(id="machine", title="The machine meanwhile", figures=("machine",), grids=(_machine(runs[0].watched),))
    yield from _inputs(runs)
    yield Section(id="methods", title="Methods", methods=METHODS)


def _labels(runs: Sequence[Told]) -> tuple[Grid, ...]:
    """What each net says of the labels of examples that one word of its recipe changed."""
    several = len(runs) > 1
    columns = (
        *((Column(name="Training", kind="name"),) if several else ()),
        Column(name="Word"), Column(name="Changed", kind="number"), Column(name="Label disputed", kind="number"),
    )  # fmt: skip
    rows = tuple(
        (*((told.label,) if several else ()), *row)
        for told in runs
        if told.run is not None
        for row in augmenting.check_rows(told.run.label_checks)
    )
    caption = (
        "By the kept weights, of examples that they knew unchanged; 95 % intervals by Wilson. A net that was trained on such "
        "examples disputes fewer than another would."
    )
    return (Grid(label="Labels after augmentation", caption=caption, columns=columns, rows=rows),)


def _findings(runs: Sequence[Told]) -> Grid:
    several = len(runs) > 1
    columns = (
        *((Column(name="Training", kind="name"),) if several else ()),
        Column(name="Finding"), Column(name="Evidence", kind="words"), Column(name="Try", kind="words"),
        Column(name="Gain", kind="number"), Column(name="Because", kind="how"),
    )  # fmt: skip
    rows = tuple(
        (*((told.label,) if several else ()), finding.name.replace("-", " "), finding.claim, *cells)
        for told in runs
        for finding in told.findings
        for cells in _tries(finding.ceilings)
    )
    caption = "Gain: time now by time then, where it can be predicted; nothing is promised for the others."
    return Grid(label="Findings", caption=caption, columns=columns, rows=rows)


def _tries(ceilings: Sequence[Ceiling]) -> Iterator[tuple[str, str, str]]:
    for tried in ceilings:
        yield tried.technique, f"{numbers.significant(tried.gain)}x" if tried.gain > 1 else "", tried.because
    if not ceilings:
        yield "", "", ""


def _beside(runs: Sequence[Told]) -> Grid:
    """What each came to, a row a quantity."""
    found = [dict(training_rows(told.watched)) for told in runs]
    names = dict.fromkeys(name for rows in found for name in rows)
    columns = (Column(name=""), *(Column(name=told.label, kind="words") for told in runs))
    rows = tuple((name, *(rows.get(name, "") for rows in found)) for name in names)
    return Grid(label="Trainings side by side", caption="Each from its own record.", columns=columns, rows=rows)


def _goals(runs: Sequence[Told]) -> Grid:
    """Time to the target over seeds, a row a group that asked for one."""
    groups: dict[tuple[str, float], list[Watched]] = {}
    for told in runs:
        if told.watched.target is not None:
            groups.setdefault((told.group or told.label, told.watched.target), []).append(told.watched)
    found = [(name, estimate) for (name, target), alike in groups.items() if (estimate := time_to(alike, target))]
    columns = (
        Column(name="Trainings", kind="name"), Column(name="Quantity"), Column(name="Mean", kind="number"),
        Column(name="n", kind="number"), Column(name="How", kind="how"),
    )  # fmt: skip
    rows = tuple(
        (name, e.quantity, numbers.interval(e.value, e.low, e.high, "s"), str(e.n), e.method) for name, e in found
    )
    caption = "A training that never got there counts with the time it was followed for."
    return Grid(label="Time to quality", caption=caption, columns=columns, rows=rows)


def _epochs(runs: Sequence[Told]) -> tuple[Grid, ...]:
    """The numbers behind the curves, of one training alone."""
    if len(runs) != 1 or not len(runs[0].watched.epochs):
        return ()
    watched = runs[0].watched
    names = list(watched.scores)
    columns = (
        Column(name="Epoch"), Column(name="Ended after", kind="number"), Column(name="Training loss", kind="number"),
        *(Column(name=name.replace("_", " "), kind="number") for name in names),
    )  # fmt: skip
    learnt, ended = epoch_loss(watched), epoch_seconds(watched)
    rows = tuple(
        (
            str(int(epoch) + 1),
            numbers.seconds(float(ended[i])),
            numbers.significant(float(learnt[i])),
            *(numbers.significant(float(watched.scores[name][i])) for name in names),
        )
        for i, epoch in enumerate(watched.epochs)
    )
    shown = rows if len(rows) <= 40 else (*rows[:20], *rows[-20:])
    caption = "Epochs." if shown is rows else f"The first and last 20 of {len(rows)} epochs."
    return (Grid(label="Epochs", caption=caption, columns=columns, rows=shown),)


def _gap(runs: Sequence[Told]) -> tuple[Grid, ...]:
    """Accuracy of the kept weights on each split: what is lost from one to the next."""
    judged = [(told.label, made) for told in runs if told.run is not None for made in told.run.predictions]
    columns = (
        Column(name="Training", kind="name"), Column(name="Split"), Column(name="Accuracy", kind="number"),
        Column(name="n", kind="number"),
    )  # fmt: skip
    rows = tuple(
        (label, made.split, numbers.interval(hits / n, *wilson(hits, n), "fraction"), f"{n:,}")
        for label, made in judged
        if (n := len(made.labels))
        for hits in (int(made.correct.sum()),)
    )
    caption = "The kept weights on each split, 95 % Wilson. Training examples without augmentation."
    return (Grid(label="Gap between splits", caption=caption, columns=columns, rows=rows),)


def _machine(watched: Watched) -> Grid:
    found = Measurement(subject="", environment=watched.environment, readings=watched.readings)
    columns = (Column(name="Reading"), Column(name="Mean", kind="number"), Column(name="Range", kind="how"))
    rows = tuple((words, mean, span) for words, mean, span in memory.machine_rows(found))
    return Grid(label="The machine", caption="Read once a second.", columns=columns, rows=rows)


def _inputs(runs: Sequence[Told]) -> Iterator[Section]:
    first = runs[0]
    facts = [("Loader", tuple((name, str(value)) for name, value in first.watched.loader.items()))]
    if first.run is not None:
        facts.insert(0, ("Recipe", tuple((name, str(value)) for name, value in first.run.recipe.items())))
        facts.append(("Splits", tuple((name, f"{n:,}") for name, n in first.run.splits.items())))
    facts.append(("Machine and software", tuple(assembly.machine_rows(first.watched.environment))))
    said = (*first.run.said, *first.run.warnings) if first.run is not None else ()
    yield Section(
        id="inputs",
        title="Inputs and machine",
        facts=tuple((caption, rows) for caption, rows in facts if rows),
        notes=said,
        command=_command(first.run),
    )


def _command(run: TrainingRun | None) -> str:
    """The words that train it again."""
    if run is None:
        return ""
    named = (("--data", run.spec.data), ("--weights", run.spec.weights))
    words = [word for flag, value in named if value for word in (flag, value)]
    return shlex.join(["steelyard", "train", run.spec.source, *words, *run.words])
