"""Two readings of a suite, cell by cell: ratios of latency and drops in accuracy under Holm, and one mean of the ratios.

The two were read at other times, so a cell's processes are two independent samples (Welch). The geometric mean is that
of these very cells: it says nothing of models that are not in the suite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import from_predictions
from steelyard.metrics.table import drop, find, pair
from steelyard.records import CellChange, Estimate, Measurement, Sample, Suite, SuiteCell, SuiteChange, Unavailable
from steelyard.report.loads import stressed
from steelyard.stats.multiple import HolmClaim, holm
from steelyard.stats.paired import outcome
from steelyard.stats.unpaired import Contrast, contrast, mean_contrast
from steelyard.store import read_suite

__all__ = ["compare_suites", "latency_of"]

_Floats = NDArray[np.float64]
Word = Literal["faster", "slower", "better", "worse", "equivalent", "undecided"]


def compare_suites(
    folders: Sequence[Path], *, band: float = 0.02, level: float = 0.95, allow_unlike_machines: bool = False
) -> tuple[SuiteChange, ...]:
    """Every further folder against the first. Raises `InvalidInput` for fewer than two, unlike machines, or no common cell."""
    if len(folders) < 2 or len({f.resolve() for f in folders}) < len(folders):
        raise InvalidInput(
            f"give two or more folders of suites that differ; got {', '.join(map(str, folders)) or 'none'}"
        )
    if not 0 < band < 1:
        raise InvalidInput(f"the band is a share such as 2%; got {band:g}")
    first, *others = ((folder, *read_suite(folder)) for folder in folders)
    return tuple(_compared(first, other, band, level, allow=allow_unlike_machines) for other in others)


_Read = tuple[Path, Suite, tuple[SuiteCell, ...]]


def _compared(first: _Read, second: _Read, band: float, level: float, *, allow: bool) -> SuiteChange:
    unlike = _unlike(first[1], second[1])
    if unlike and not allow:
        raise InvalidInput(
            f"{first[0]} and {second[0]} were read on unlike machines ({unlike}): read both on one, or add --allow-unlike-machines"
        )
    cells = [{cell.key: cell for cell in read[2] if cell.measured is not None} for read in (first, second)]
    common = [key for key in cells[0] if key in cells[1]]
    if not common:
        raise InvalidInput(
            f"{first[0]} and {second[0]} have no cell in common that both could read: run the same suite twice"
        )
    timed = [cells[0][key] for key in common if not cells[0][key].stress]
    judged = {(c.model, c.data, c.engine): c.key for c in reversed(timed)}.values()
    claims = [c for key in common for c in _claims(cells[0][key], cells[1][key], band, quality=key in judged)]
    changes, contrasts = _judged(claims, level)
    return SuiteChange(
        first=str(first[0]),
        second=str(second[0]),
        changes=changes,
        mean=_mean(contrasts, level),
        unlike=unlike,
        notes=tuple(_notes(first, second, common)),
    )


# --- one cell ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """Something to be judged: its p of "no change", its interval at a level, and what an interval means."""

    key: str
    quantity: Literal["latency", "accuracy"]
    p_value: float
    interval: Callable[[float], Estimate]
    word: Callable[[float], Word]  # error level -> outcome
    contrast: Contrast | None = None


def latency_of(cell: SuiteCell) -> Sample | Unavailable:
    """Seconds of one call at the cell's batch size, every process a block."""
    assert cell.measured is not None
    return cell.measured.get("latency_s", batch=cell.batch)


def _claims(first: SuiteCell, second: SuiteCell, band: float, *, quality: bool) -> Iterator[_Claim | CellChange]:
    """Latency, and once for all batch sizes of one engine accuracy; of cells under stress the rate that they sustain."""
    if first.stress:
        yield _sustained(first, second, band)
        return
    times = latency_of(first), latency_of(second)
    missing = next((t for t in times if isinstance(t, Unavailable)), None)
    if missing is not None:
        yield CellChange(key=first.key, quantity="latency", found=missing)
    else:
        yield _latency(first.key, *(_process_logs(t) for t in times if isinstance(t, Sample)), band=band)
    assert first.measured is not None
    assert second.measured is not None
    if quality and (first.measured.on("test") is not None or second.measured.on("test") is not None):
        yield _accuracy(first.key, first.measured, second.measured, second.labels)


def _process_logs(times: Sample) -> _Floats:
    """The log of each process's median call."""
    blocks = np.zeros(len(times.values), dtype=np.int32) if times.blocks is None else times.blocks
    return np.log([np.median(times.values[blocks == block]) for block in np.unique(blocks)])


def _latency(key: str, first: _Floats, second: _Floats, *, band: float) -> _Claim:
    of = contrast(first, second)
    count = len(first) + len(second)

    def interval(level: float) -> Estimate:
        value, low, high = of.ratio(level)
        return Estimate(
            quantity="latency", unit="x", value=value, low=low, high=high, level=level,
            method="Welch's t on logs of processes, unpaired", n=count,
        )  # fmt: skip

    def word(alpha: float) -> Word:
        outer, inner = interval(1 - alpha), interval(max(1 - 2 * alpha, 0.5))
        return outcome(outer.low, outer.high, band, inner=(inner.low, inner.high))

    return _Claim(key=key, quantity="latency", p_value=of.p_value(), interval=interval, word=word, contrast=of)


def _sustained(first: SuiteCell, second: SuiteCell, band: float) -> CellChange:
    """The ratio of the rates sustained, which lies between those of what was shown to hold and to break."""
    rates = []
    for cell in (first, second):
        found = stressed(cell.measured)
        if found is None or found.held_per_s is None or found.broken_per_s is None:
            gone = Unavailable(quantity="sustained", reason="no two rates were shown, one to hold and one to break")
            return CellChange(key=first.key, quantity="sustained", found=gone)
        rates.append((found.held_per_s, found.broken_per_s))
    (held, broke), (held_now, broke_now) = rates
    low, high = held_now / broke, broke_now / held
    ratio = Estimate(
        quantity="sustained", unit="x", value=math.sqrt(low * high), low=low, high=high, level=0.95,
        method="between rates that held and that broke", n=2,
    )  # fmt: skip
    return CellChange(key=first.key, quantity="sustained", found=ratio, outcome=outcome(1 / high, 1 / low, band))


def _accuracy(key: str, first: Measurement, second: Measurement, labels: tuple[str, ...]) -> _Claim | CellChange:
    """The drop on the same test examples, by Tango's interval."""
    made = [m.on("test") for m in (first, second)]
    before, after = made
    if before is None or after is None or not np.array_equal(before.labels, after.labels):
        gone = Unavailable(quantity="accuracy", reason="the two were not judged on the same test examples")
        return CellChange(key=key, quantity="accuracy", found=gone)
    sides = [from_predictions(m, labels) for m in (before, after)]
    metric = find("accuracy", sides[0].task, sides[0].classes)
    found = drop(pair(sides[0], sides[1], [metric]), metric)
    if isinstance(found, Unavailable):
        return CellChange(key=key, quantity="accuracy", found=found)
    known = found

    def interval(level: float) -> Estimate:
        low, high = known.interval(level)
        return Estimate(
            quantity="accuracy", unit="fraction", value=known.value, low=min(low, known.value),
            high=max(high, known.value), level=level, method=known.method, n=len(before.labels),
        )  # fmt: skip

    def word(alpha: float) -> Word:
        ends = interval(1 - alpha)
        if ends.low <= 0 <= ends.high:
            return "undecided"
        return "worse" if ends.low > 0 else "better"

    return _Claim(key=key, quantity="accuracy", p_value=_no_change(interval), interval=interval, word=word)


def _no_change(interval: Callable[[float], Estimate]) -> float:
    """Two-sided p of "no change": one minus the level at which the interval just reaches 0."""
    low, high = -12.0, 0.0  # bisection on log10(p)
    for _ in range(30):
        middle = (low + high) / 2
        ends = interval(1 - 10**middle)
        low, high = (middle, high) if ends.low <= 0 <= ends.high else (low, middle)
    return float(10**high)


# --- all cells ---------------------------------------------------------------------------------------


def _judged(claims: Sequence[_Claim | CellChange], level: float) -> tuple[tuple[CellChange, ...], list[Contrast]]:
    """Holm over everything that is uncertain, each interval at the level at which its claim was tested."""
    asked = [c for c in claims if isinstance(c, _Claim)]
    tested = iter(holm([min(1.0, c.p_value) for c in asked], 1 - level)) if asked else iter(())
    changes = tuple(c if isinstance(c, CellChange) else _decided(c, next(tested)) for c in claims)
    return changes, [c.contrast for c in asked if c.contrast is not None]


def _decided(claim: _Claim, holds: HolmClaim) -> CellChange:
    return CellChange(
        key=claim.key,
        quantity=claim.quantity,
        found=claim.interval(1 - holds.alpha),
        outcome=claim.word(holds.alpha),
        p_value=claim.p_value,
        adjusted=holds.adjusted,
    )


def _mean(contrasts: Sequence[Contrast], level: float) -> Estimate | None:
    if not contrasts:
        return None
    value, low, high = mean_contrast(contrasts).ratio(level)
    return Estimate(
        quantity="latency", unit="x", value=value, low=low, high=high, level=level,
        method="geometric mean of these cells, Welch and Satterthwaite", n=len(contrasts),
    )  # fmt: skip


def _unlike(first: Suite, second: Suite) -> str:
    one, other = first.environment, second.environment
    if one.machine == other.machine:
        return ""
    return f"{one.cpu}, {one.cores} cores, and {other.cpu}, {other.cores} cores"


def _notes(first: _Read, second: _Read, common: Sequence[str]) -> Iterator[str]:
    """Cells that are not compared, with the reasons, and versions that changed."""
    missing: dict[str, list[str]] = {}
    for key in dict.fromkeys((*first[1].cells, *second[1].cells)):
        if key not in common:
            reason = "; ".join(dict.fromkeys(filter(None, (_lacks(read, key) for read in (first, second)))))
            missing.setdefault(reason, []).append(key)
    for reason, keys in missing.items():
        more = f" and {len(keys) - 1} more are" if len(keys) > 1 else " is"
        yield f"{keys[0]}{more} not compared: {reason}"
    one, other = first[1].environment.packages, second[1].environment.packages
    changed = [f"{n} {one[n]} to {other[n]}" for n in sorted(one.keys() & other.keys()) if one[n] != other[n]]
    if changed:
        yield f"versions changed between the two: {', '.join(changed)}"
    yield "the two were read at other times: what the machine did in between is in every ratio"


def _lacks(read: _Read, key: str) -> str:
    """Why a suite does not hold a cell; empty where it does."""
    cell = next((c for c in read[2] if c.key == key), None)
    if cell is None:
        return f"{read[0]} does not hold it"
    return "" if cell.refusal is None else f"{read[0]}: {cell.refusal.reason}"
