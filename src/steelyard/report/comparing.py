"""A comparison for the terminal, and as plain JSON. Nothing here prints."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import SCHEMA, Compared, Comparison, Difference, Estimate, Sample, Unavailable
from steelyard.report import derive, numbers
from steelyard.stats.paired import log_ratio_interval, sign_flip_interval

__all__ = ["compared_json", "compared_rows", "compared_table", "flag_lines", "typical", "verdict_line", "verdict_notes"]

MARKS = {
    "faster": ("✓", "green"),
    "slower": ("✗", "red"),
    "equivalent": ("=", "cyan"),
    "undecided": ("?", "yellow"),
    "better": ("✓", "green"),
    "worse": ("✗", "red"),
    "undefined": ("–", "bright_black"),
}
_WIDEST = 24  # of a name above a column; longer ones stand in the verdict alone
_UNIT = {"models": "inference", "callables": "call", "commands": "run"}


def verdict_line(found: Compared) -> Text:
    """The answer in one sentence: what is faster, by how much, how sure, and how long it took."""
    first, second = found.names
    mark, style = MARKS[found.outcome]
    line = Text(f"{mark} ", style=style)
    words = {
        "faster": f"{second} is faster than {first}",
        "slower": f"{second} is slower than {first}",
        "equivalent": f"{second} and {first} are equivalent within {found.band:.3g}".replace(f"{found.band:.3g}", f"{100 * found.band:.3g} %"),
        "undecided": f"undecided whether {second} is faster or slower than {first}",
    }  # fmt: skip
    line.append(words[found.outcome], style=f"bold {style}")
    if found.ratio is not None and not math.isinf(found.ratio.high):
        line.append(
            f": {_percent(found.ratio.value)} time ({_percent(found.ratio.low)} to {_percent(found.ratio.high)}"
        )
        line.append(f", {100 * found.ratio.level:.4g} % at every look)")
    rounds = 0 if found.comparison is None else len(found.comparison.seconds)
    line.append(f"; {rounds} rounds in {numbers.seconds(found.wall_s)}")
    return line


def _percent(ratio: float) -> str:
    """A ratio as a change.

    >>> _percent(1.021), _percent(0.5), _percent(1.0)
    ('+2.1 %', '-50.0 %', '+0.0 %')
    """
    return f"{100 * (ratio - 1):+.{1 if abs(ratio - 1) >= 0.005 or ratio == 1 else 2}f} %"


def compared_table(found: Compared) -> Table:
    """Both side by side: time, memory, quality, and how the second stands to the first, with intervals."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("", overflow="fold")
    short = all(len(name) <= _WIDEST for name in found.names)
    for name in found.names if short else ("first", "second"):
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_column("second against first", justify="right", overflow="fold")
    table.add_column("outcome")
    for *row, outcome in compared_rows(found):
        table.add_row(*row, _marked(outcome) if outcome else "")
    return table


def compared_rows(found: Compared) -> tuple[tuple[str, ...], ...]:
    """(quantity, first, second, second against first, outcome) of all that was read; an outcome of "" is none."""
    costs = [] if found.comparison is None else _cost_rows(found, found.comparison)
    pairs = zip(found.qualities, found.differences, strict=True)
    return (*costs, *((d.metric, _score(pair[0]), _score(pair[1]), _drop(d), d.outcome) for pair, d in pairs))


def _cost_rows(found: Compared, comparison: Comparison) -> list[tuple[str, ...]]:
    first, second = (numbers.seconds(typical(comparison, arm)) for arm in (0, 1))
    shown = "from round 10"
    if found.ratio is not None and not math.isinf(found.ratio.high):
        shown = _ratio(found.ratio)
    rows: list[tuple[str, ...]] = [(f"time of one {_UNIT[found.kind]}", first, second, shown, found.outcome)]
    names = {"memory_running_bytes": "peak memory", "cpu_s": "processor time of a run"}
    for quantity, name in names.items():
        both = [_reading(comparison, arm, quantity) for arm in (0, 1)]
        if all(isinstance(r, Sample) for r in both):
            one, other = (r.value for r in both if isinstance(r, Sample))
            unit = "byte" if quantity.endswith("bytes") else "s"
            against = numbers.ratio(other / one) if one > 0 else ""
            rows.append((name, numbers.quantity(one, unit), numbers.quantity(other, unit), against, ""))
    return rows


def _ratio(found: Estimate) -> str:
    """Three decimals: a difference of 0.1 % is seen."""
    return f"{found.value:.3f}x ({found.low:.3f}-{found.high:.3f})"


def typical(comparison: Comparison, arm: int) -> float:
    """The median over rounds of the rounds' medians, in seconds."""
    return float(np.median(np.median(comparison.seconds[:, :, arm], axis=1)))


def _reading(comparison: Comparison, arm: int, quantity: str) -> Sample | Unavailable | None:
    rows = comparison.readings[arm] if comparison.readings else ()
    return next((r for r in rows if r.quantity == quantity), None)


def _score(found: Estimate | Unavailable) -> str:
    return numbers.quantity(found.value, found.unit) if isinstance(found, Estimate) else "undefined"


def _drop(difference: Difference) -> str:
    """The change of a metric, worse being positive."""
    drop = difference.drop
    if not isinstance(drop, Estimate):
        return drop.reason
    if drop.unit == "fraction":
        return f"drop {numbers.points(drop.value, drop.low, drop.high)}"
    return f"worse by {numbers.interval(drop.value, drop.low, drop.high, drop.unit)}"


def _marked(outcome: str) -> Text:
    mark, style = MARKS[outcome]
    return Text(f"{mark} {outcome}", style=style)


def verdict_notes(found: Compared) -> Text:
    """What would decide it, what was found beside it, and what a reader must know: one line each."""
    lines = [found.advice] if found.advice else []
    lines += [f"{d.metric}: {d.advice}" for d in found.differences if d.advice and d.outcome == "undecided"]
    lines.append(_detectable(found))
    if found.comparison is not None:
        lines += _beside(found, found.comparison)
    if found.noise_floor is not None:
        lines.append(f"noise floor of this machine: {_percent(1 + found.noise_floor)} between a thing and itself")
    if found.differences:
        lines.append(
            f"time and {len(found.differences)} metric(s) hold {100 * found.level:.3g} % together (Holm): "
            f"the time is judged at {100 * found.time_level:.4g} %"
        )
    return Text("\n".join(f"• {line}" for line in (*lines, *found.warnings, *flag_lines(found))))


def _detectable(found: Compared) -> str:
    if found.detectable is None:
        return f"before measuring: the budget had no room for ten rounds of {numbers.seconds(found.round_s)}"
    least = f"{100 * found.detectable:.2g} %" if found.detectable <= 1 else "a factor of two or more"
    return (
        f"before measuring: the budget finds a difference of {least} nine times in ten "
        f"(told from {found.detectable_from})"
    )


def _beside(found: Compared, comparison: Comparison) -> list[str]:
    """Fixed-n intervals, which do not decide, and the control."""
    readings = derive.arm_logs(comparison, 1)
    if len(readings) < 2:
        return []
    t, flips = log_ratio_interval(readings, found.level), sign_flip_interval(readings, found.level)
    lines = [
        f"beside it, not deciding: t {_span(t)}; sign flips {_span(flips)}, as if the number of rounds had been fixed"
    ]
    if found.control is not None and not math.isinf(found.control.high):
        ratio = _ratio(found.control)
        alarm = (
            ": ALARM, it should hold 1; every interval of the time was widened by as much"
            if found.control_alarm
            else ""
        )
        lines.append(f"control, the first against itself: {ratio}{alarm}")
    return lines


def _span(found: tuple[float, float, float]) -> str:
    return "no bound" if math.isinf(found[2]) else f"{_percent(found[1])} to {_percent(found[2])}"


def flag_lines(found: Compared) -> list[str]:
    """How many rounds were flagged, and for what; all of them count."""
    if found.comparison is None or not found.comparison.flags:
        return []
    parts = [flag.partition(": ") for flag in found.comparison.flags]
    flagged, rounds = len({head for head, _, _ in parts}), len(found.comparison.seconds)
    kinds = Counter(re.sub(r"[+-]?\d[\d.,e+]*\s*(%|s|times)?", "", reason).strip() for _, _, reason in parts)
    worst = {kind: _worst(kind, [reason for _, _, reason in parts]) for kind in kinds}
    what = "; ".join(f"{worst[kind]} ({count})" for kind, count in kinds.most_common())
    return [f"{flagged} of {rounds} rounds flagged, none dropped; at most: {what}"]


def _worst(kind: str, reasons: list[str]) -> str:
    """The reason of one kind with the largest number."""
    start = kind.split(" ", maxsplit=1)[0]
    alike = [reason for reason in reasons if reason.startswith(start)]
    return max(alike, key=lambda reason: max(map(float, re.findall(r"\d+(?:\.\d+)?", reason)), default=0.0))


# --- JSON ------------------------------------------------------------------------------------------------


def compared_json(found: Compared) -> dict[str, Any]:
    """What `--json` prints: the verdict, the readings of every round, and all words."""
    comparison = found.comparison
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": found.kind,
        "names": list(found.names),
        "sources": list(found.sources),
        "outcome": found.outcome,
        "band": found.band,
        "level": found.level,
        "ratio": _plain(found.ratio),
        "control": _plain(found.control),
        "control_alarm": found.control_alarm,
        "noise_floor": found.noise_floor,
        "detectable": found.detectable,
        "advice": found.advice,
        "wall_s": found.wall_s,
        "rounds": 0 if comparison is None else len(comparison.seconds),
        "qualities": [[_plain(side) for side in pair] for pair in found.qualities],
        "differences": [
            {**dataclasses.asdict(d), "drop": _plain(d.drop), "conditions": None, "tests": None} for d in found.differences
        ],
        "warnings": list(found.warnings),
        "machine": {"fingerprint": found.environment.machine, "cpu": found.environment.cpu, "cores": found.environment.cores},
    }  # fmt: skip
    if comparison is not None:
        readings = derive.arm_logs(comparison, 1)
        document |= {
            "arms": list(comparison.arms),
            "log_ratios": readings.tolist(),
            "control_log_ratios": derive.arm_logs(comparison, 2).tolist(),
            "seconds": comparison.seconds.tolist(),
            "ended_s": None if comparison.ended_s is None else comparison.ended_s.tolist(),
            "flags": list(comparison.flags),
            "fixed_n": {"t": _finite(log_ratio_interval(readings)), "sign_flip": _finite(sign_flip_interval(readings))},
        }
    return document


def _plain(found: Estimate | Unavailable | None) -> dict[str, Any] | None:
    if found is None:
        return None
    if isinstance(found, Unavailable):
        return {"unavailable": found.reason}
    return {
        "value": found.value, "low": found.low, "high": None if math.isinf(found.high) else found.high, "level": found.level,
        "unit": found.unit, "method": found.method, "n": found.n,
    }  # fmt: skip


def _finite(found: tuple[float, float, float]) -> list[float | None]:
    """JSON knows no infinity."""
    return [None if math.isinf(value) else value for value in found]
