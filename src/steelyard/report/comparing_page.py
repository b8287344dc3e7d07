"""The page of a comparison, made from its record alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator

from steelyard.records import Compared, Comparison, Estimate, Unavailable
from steelyard.report import assembly, comparing, drawing, numbers
from steelyard.report.assembly import Tile
from steelyard.report.comparing_charts import CHARTS, change
from steelyard.report.sections import Badge, Column, Grid, Page, Section, render

__all__ = ["render_compared"]

METHODS = (
    (
        "Taking turns",
        (
            "All three live in fresh processes at once and run one at a time, in short slots, in random order and "
            "then backwards. A round's reading is the median over its slots of log(second / first)."
        ),
    ),
    (
        "What decides",
        (
            "A confidence sequence for Student's t (Lai 1976; Wang and Ramdas 2023): all its looks together hold the "
            "truth at the level given, so measuring may stop as soon as the answer is clear."
        ),
    ),
    (
        "Outcomes",
        (
            "Equivalent where the whole interval lies within the band; else faster or slower where it excludes no "
            "difference; else undecided."
        ),
    ),
    (
        "A/A control",
        (
            "The first against itself goes through the same rounds. Where its sequence excludes no difference, the "
            "verdict's interval is widened by as much."
        ),
    ),
    (
        "Beside it",
        (
            "Student's t and the inverted sign-flip test, as if the number of rounds had been fixed before. They "
            "decide nothing."
        ),
    ),
    (
        "Quality",
        "Paired on the same examples. Time and metrics share one level by Holm's correction.",
    ),
    (
        "Flags",
        "Rounds with stolen time, throttling, other load, or a clock that was set are marked. None is dropped.",
    ),
)


def render_compared(found: Compared) -> str:
    """The whole report as one self-contained HTML page."""
    with drawing.unchecked():
        return render(_page(found), {name: draw(found) for name, draw in CHARTS.items()})


def _page(found: Compared) -> Page:
    first, second = found.names
    notes = tuple(line.removeprefix("• ") for line in comparing.verdict_notes(found).plain.splitlines())
    return Page(
        headline=_headline(found),
        plan=f"{second} against {first}",
        brand=f"compare {found.kind}",
        lede=_lede(found),
        time=found.time,
        version=found.version,
        badges=tuple(_badges(found)),
        tiles=tuple(_tiles(found)),
        sections=(
            Section(
                id="verdict",
                title="Verdict",
                words="The interval that decides first; what stands beside it decides nothing.",
                alarm=_alarm(found),
                figures=("verdict", "narrowing", "control", "resources"),
                wide=("verdict", "narrowing"),
                grids=(_table(found),),
                notes=notes,
            ),
            Section(
                id="times",
                title="Every reading",
                words="Raw times of all slots of all rounds. No outlier is removed.",
                figures=("round_boxes", "series"),
                wide=("round_boxes", "series"),
            ),
            Section(
                id="inputs",
                title="Inputs and machine",
                facts=(
                    ("What was compared, and how", tuple(_inputs(found))),
                    ("Machine and software", tuple(assembly.machine_rows(found.environment))),
                ),
                command=shlex.join(found.command),
            ),
            Section(id="methods", title="Methods", methods=METHODS),
        ),
    )


# --- headline ----------------------------------------------------------------------------------------


def _headline(found: Compared) -> str:
    if found.outcome == "equivalent":
        return f"Equivalent within {100 * found.band:.3g} %"
    if found.outcome == "undecided" or found.ratio is None:
        return "Undecided so far"
    ratio = found.ratio.value
    far = numbers.change(1.0, ratio, "faster", "slower") if not 0.5 < ratio < 2 else ""
    return far or f"{found.outcome.capitalize()}: {abs(100 * (ratio - 1)):.2g} % {'less' if ratio < 1 else 'more'} time"


def _lede(found: Compared) -> str:
    rounds = 0 if found.comparison is None else len(found.comparison.seconds)
    said = comparing.verdict_line(found).plain[2:].partition("; ")[0]
    advice = f" {found.advice[:1].upper()}{found.advice[1:]}." if found.advice else ""
    return f"After {rounds} rounds in {numbers.seconds(found.wall_s)}: {said}.{advice}"


def _badges(found: Compared) -> Iterator[Badge]:
    yield Badge(words=f"time: {found.outcome}", outcome=found.outcome)
    for difference in found.differences:
        yield Badge(words=f"{difference.metric}: {difference.outcome}", outcome=difference.outcome)
    if found.control_alarm:
        yield Badge(words="A/A control: alarm", outcome="broken")


def _alarm(found: Compared) -> str:
    if not found.control_alarm:
        return ""
    return "The A/A control found a difference between the first and itself, so every interval of the time was widened by as much."


def _tiles(found: Compared) -> Iterator[Tile]:
    ratio, comparison = found.ratio, found.comparison
    if ratio is not None:
        bounded = math.isfinite(ratio.high)
        span = f"{change(ratio.low)} to {change(ratio.high)}" if bounded else "no bound yet"
        details = (span, f"{100 * ratio.level:.4g} %, at every look")
        yield Tile(name="Time, against the first", value=change(ratio.value), details=details, share=ratio.value)
    if comparison is not None:
        for arm, name in enumerate(found.names):
            typical = numbers.seconds(comparing.typical(comparison, arm))
            yield Tile(name=name, value=typical, details=("median of the rounds' medians",))
    for pair, difference in zip(found.qualities, found.differences, strict=True):
        yield _quality_tile(difference.metric, pair[1], difference.drop)
    if found.noise_floor is not None:
        yield Tile(
            name="Noise floor", value=change(1 + found.noise_floor), details=("between a thing and itself, here",)
        )


def _quality_tile(metric: str, second: Estimate | Unavailable, drop: Estimate | Unavailable) -> Tile:
    value = numbers.quantity(second.value, second.unit) if isinstance(second, Estimate) else "undefined"
    shown = isinstance(drop, Estimate) and drop.unit == "fraction"
    lost = f"drop {numbers.points(drop.value, drop.low, drop.high)}" if shown and isinstance(drop, Estimate) else ""
    return Tile(name=f"{metric.capitalize()} of the second", value=value, details=(lost,) if lost else ())


# --- tables ------------------------------------------------------------------------------------------


def _table(found: Compared) -> Grid:
    rows = comparing.compared_rows(found)
    columns = (
        Column(name="Quantity"),
        *(Column(name=name, kind="number") for name in found.names),
        Column(name="Second against first", kind="number"),
        Column(name="Outcome", kind="badge"),
    )
    caption = f"Brackets: {100 * found.time_level:.4g} % at every look for the time; of metrics, as Holm leaves it."
    return Grid(label="Both side by side", caption=caption, columns=columns, rows=rows)


def _inputs(found: Compared) -> Iterator[tuple[str, str]]:
    for name, source, digest in zip(("First", "Second"), found.sources, found.digests, strict=True):
        yield name, f"{source}{f', digest {digest}' if digest else ''}"
    yield "Data", f"{found.data}, {found.examples:,} test examples" if found.data else "none"
    yield "Band", f"±{100 * found.band:.3g} %"
    yield "Level", f"{100 * found.level:.4g} % for the whole answer, {100 * found.time_level:.4g} % for the time"
    if found.kind == "models":
        yield "Batch", str(found.batch)
    yield "A round", f"{found.slots} slots of each, {numbers.seconds(found.warm_s)} of warm-up" + _slot_words(found)
    yield "Rounds", _rounds(found.comparison)
    for name, value in found.options.items():
        if value not in (None, "", False):
            yield f"--{name.replace('_', '-')}", str(value)


def _slot_words(found: Compared) -> str:
    return f", at least {numbers.seconds(found.slot_s)} a slot" if found.slot_s else ", one run a slot"


def _rounds(comparison: Comparison | None) -> str:
    return "none" if comparison is None else f"{len(comparison.seconds):,}, each of fresh processes"
