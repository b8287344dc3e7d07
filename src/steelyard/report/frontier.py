"""Which candidates nothing else beats on every axis at once: the Pareto front over any two quantities or more."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steelyard.errors import InvalidInput
from steelyard.records import Measurement, Plan, RunRecords, Sample, Trial
from steelyard.report import derive, numbers

__all__ = ["AXES", "Axis", "Candidate", "Value", "axes_of", "candidates", "front", "shown"]


class Value(NamedTuple):
    """A point and its 95 % interval; the point alone, three times, where nothing bounds it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A quantity to have less of: how it is called, in which unit, and how it is read of a trial."""

    title: str
    unit: str
    read: Callable[[RunRecords, Trial | None], Value | None]  # of the baseline where there is no trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A weighed plan, or the baseline: where it stands on each axis, and whether nothing beats it on all of them."""

    plan: Plan
    standing: str  # baseline | chosen | finalist | weighed
    values: Mapping[str, Value]
    on_front: bool


def axes_of(words: Iterable[str]) -> tuple[str, ...]:
    """Names of `AXES`. Raises `InvalidInput` for fewer than two, or for one that is not known, with the nearest.

    >>> axes_of(["latency", "Size"])
    ('latency', 'size')
    """
    plain = (word.strip().lower() for word in words if word.strip())
    names = tuple(dict.fromkeys("drop" if word in ("accuracy", "accuracy drop") else word for word in plain))
    for name in names:
        if name not in AXES:
            near = difflib.get_close_matches(name, AXES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(AXES)}"
            raise InvalidInput(f"there is no axis {name!r}; {hint}")
    if len(names) < 2:
        raise InvalidInput(f"a Pareto front needs two axes or more, such as latency,size; there are {', '.join(AXES)}")
    return names


def candidates(records: RunRecords, axes: Sequence[str]) -> tuple[Candidate, ...]:
    """The baseline and every candidate that was read on all of the `axes`, best on the first axis first.

    One that was timed and then left behind has no quality, and is not on a front that asks for it.
    """
    names = axes_of(axes)
    weighed = [t for t in records.trials if t.refusal is None and t.after is not None]
    rows = [(t.plan, derive.standing(records, t), _values(records, t, names)) for t in weighed]
    rows.append((derive.BASELINE, "baseline", _values(records, None, names)))
    known = [(plan, standing, values) for plan, standing, values in rows if values is not None]
    points = [tuple(v.value for v in values.values()) for _, _, values in known]
    found = [
        Candidate(plan=plan, standing=standing, values=values, on_front=not any(_beats(p, point) for p in points))
        for (plan, standing, values), point in zip(known, points, strict=True)
    ]
    return tuple(sorted(found, key=lambda candidate: candidate.values[names[0]].value))


def front(records: RunRecords, axes: Sequence[str]) -> tuple[Candidate, ...]:
    """The candidates that nothing beats: no other has less of one quantity and no more of the rest."""
    return tuple(c for c in candidates(records, axes) if c.on_front)


def shown(name: str, value: Value) -> str:
    """A value with its interval, in the words of its axis.

    >>> shown("size", Value(11.4e6, 11.4e6, 11.4e6)), shown("latency", Value(0.25, 0.25, 0.25))
    ('11.4 MB', '0.250x')
    """
    point, low, high = value
    bounded = low < high and math.isfinite(high)
    unit = AXES[name].unit
    if unit == "byte":
        return numbers.size(point)
    ends = (low, high) if bounded else (None, None)
    return numbers.points(point, *ends) if unit == "points" else numbers.ratio(point, *ends)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _values(records: RunRecords, trial: Trial | None, axes: Sequence[str]) -> dict[str, Value] | None:
    found = {name: AXES[name].read(records, trial) for name in axes}
    return {n: v for n, v in found.items() if v is not None} if None not in found.values() else None


# --- the axes --------------------------------------------------------------------------------------------


def _latency(_records: RunRecords, trial: Trial | None) -> Value | None:
    if trial is None:
        return Value(1.0, 1.0, 1.0)
    ratio = derive.trial_ratio(trial)
    return None if ratio is None or not math.isfinite(ratio.value) else Value(ratio.value, ratio.low, ratio.high)


def _drop(records: RunRecords, trial: Trial | None) -> Value | None:
    before = records.baseline.on("validation") if records.baseline else None
    if trial is None:
        return None if before is None else Value(0.0, 0.0, 0.0)
    drop = derive.accuracy_drop(before, trial.after.on("validation") if trial.after else None)
    return None if drop is None else Value(drop.value, drop.low, drop.high)


def _amount(quantity: str, **conditions: float) -> Callable[[RunRecords, Trial | None], Value | None]:
    def read(records: RunRecords, trial: Trial | None) -> Value | None:
        measured: Measurement | None = records.baseline if trial is None else trial.after
        found = derive.reading(measured, quantity, **conditions)
        return Value(*[found.value] * 3) if isinstance(found, Sample) else None

    return read


def _energy(records: RunRecords, trial: Trial | None) -> Value | None:
    """Energy of one inference over the baseline's: the ratio of times in turns, times that of the powers."""
    from steelyard.report import energy

    if trial is None:
        return Value(1.0, 1.0, 1.0)
    logs = None if trial.comparison is None else derive.arm_logs(trial.comparison, 1)
    if records.baseline is None or trial.after is None or logs is None or not logs.size:
        return None
    found = energy.ratio(records.baseline, trial.after, logs)
    value, low, high = (getattr(found, name, math.nan) for name in ("value", "low", "high"))
    return Value(value, low, high) if math.isfinite(value) else None


AXES: Mapping[str, Axis] = {
    "latency": Axis(title="latency, candidate / baseline", unit="x", read=_latency),
    "drop": Axis(title="accuracy drop, points (validation)", unit="points", read=_drop),
    "size": Axis(title="stored size", unit="byte", read=_amount("stored_bytes")),
    "memory": Axis(title="peak memory, running", unit="byte", read=_amount("memory_running_bytes")),
    "energy": Axis(title="energy, candidate / baseline", unit="x", read=_energy),
}
"""Quantities of which less is better, by the words of ``--pareto``."""
