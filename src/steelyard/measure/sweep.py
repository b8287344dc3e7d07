"""Throughput over batch size and concurrency: the cells of the grid take turns in short slots of one child.

One cell after the other would turn the machine's drift into a shape of the curve. Here a pass visits every cell once in
random order, the next pass in the reverse of it, so drift falls on all cells alike and each cell has a reading of every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from steelyard.errors import WorkerFailed
from steelyard.measure.load import Slot, in_system
from steelyard.measure.process import Child
from steelyard.probe.clock import Clock, SystemClock
from steelyard.records import Sample, Scalar, Unavailable

__all__ = ["Cell", "CellFailed", "SweepSettings", "cell_conditions", "sweep"]

Cell = tuple[int, int]  # batch size, callers
Slots = Mapping[Cell, list[Slot]]

LEAST_PASSES = 3
MOST_PASSES = 60
_AIMED_PASSES = 8  # enough for an interval; the length of a slot follows
_OVERRUN = 2.0  # times its share that a sweep may take before a cell is left out
_SLOT_S = (0.02, 0.25)
_SETTLE = 0.5  # of a slot: a longer call brings its own caches back, and an untimed one before it would cost too much


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """The grid and its time. `budget_s`, of the whole run, serves to say what would reach a cell that was left out."""

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    concurrency: tuple[int, ...] = (1,)
    seconds: float = 4.0
    budget_s: float = 15.0
    seed: int = 0

    @property
    def cells(self) -> list[Cell]:
        """Small ones first: what they cost tells whether the larger ones fit."""
        return [(b, c) for c in sorted(set(self.concurrency)) for b in sorted(set(self.batches))]


class CellFailed(WorkerFailed):
    """The process died in one cell; ``cell`` says which."""

    def __init__(self, cell: Cell, failure: WorkerFailed) -> None:
        super().__init__(failure.kind, str(failure))
        self.cell = cell


@dataclass(slots=True, kw_only=True)
class _Grid:
    """What is known of the cells while they are visited."""

    call_s: dict[Cell, float] = field(default_factory=dict)  # of one call, all callers at work
    left_out: dict[Cell, str] = field(default_factory=dict)


def sweep(
    child: Child,
    settings: SweepSettings,
    *,
    clock: Clock | None = None,
    on_pass: Callable[[float], None] | None = None,
) -> tuple[Sample | Unavailable, ...]:
    """Readings of every cell, taken in a child that runs a `LoadWorker` and has loaded an artifact.

    ``throughput_per_s`` (examples, one a slot), ``sweep_latency_s`` (one a call), ``cores_busy``, ``machine_cores_busy``,
    ``memory_resident_bytes`` and ``calls_in_flight`` (one a slot); blocks are passes. A cell whose call is too long for the
    time, or that the model refuses, is `Unavailable`. At least three passes are made. `on_pass` is told the share done. Raises
    `CellFailed` where the process dies in a cell's first visit, `WorkerFailed` where it dies later.
    """
    clock = clock or SystemClock()
    ends_ns = clock.now_ns() + int(settings.seconds * 1e9)
    grid = _pilot(child, settings)
    slot_s = _slot_s((ends_ns - clock.now_ns()) / 1e9, len(grid.call_s))
    slots: dict[Cell, list[Slot]] = {cell: [] for cell in grid.call_s}
    for done, order in enumerate(_orders(list(slots), settings.seed)):
        began_ns = clock.now_ns()
        for cell in order:
            slots[cell].append(_visit(child, cell, slot_s, settle=grid.call_s[cell] < _SETTLE * slot_s))
        now_ns = clock.now_ns()
        left_s, pass_s = (ends_ns - now_ns) / 1e9, (now_ns - began_ns) / 1e9
        if on_pass is not None:
            on_pass(min(1.0, 1 - left_s / settings.seconds))
        if done + 1 >= LEAST_PASSES and left_s < pass_s:
            break
    return (*_left_out(grid), *(r for cell in slots for r in _readings(cell, slots[cell])))


def cell_conditions(cell: Cell) -> dict[str, Scalar]:
    """Conditions of a cell's throughput: one caller, as everywhere else, is not said.

    >>> cell_conditions((8, 1)), cell_conditions((8, 2))
    ({'batch': 8}, {'batch': 8, 'concurrency': 2})
    """
    return {"batch": cell[0]} if cell[1] == 1 else {"batch": cell[0], "concurrency": cell[1]}


def _pilot(child: Child, settings: SweepSettings) -> _Grid:
    """Visit each cell once, to warm it and to see what a call takes; leave out what does not fit."""
    grid = _Grid()
    for cell in settings.cells:
        expected = _expected_s(cell, grid.call_s)
        needed = LEAST_PASSES * (sum(grid.call_s.values()) + expected)
        if grid.call_s and needed > _OVERRUN * settings.seconds:
            grid.left_out[cell] = _too_long(expected, needed, settings)
            continue
        try:
            calls = _visit(child, cell, 0.0, settle=True).calls
            grid.call_s[cell] = float(np.max(calls.ends_s - calls.starts_s))
        except WorkerFailed as failure:
            if failure.kind != "error":
                raise CellFailed(cell, failure) from failure
            grid.left_out[cell] = str(failure)
    return grid


def _expected_s(cell: Cell, call_s: Mapping[Cell, float]) -> float:
    """Time of a call of a cell not visited yet: by its examples in flight, from the largest cell known."""
    if not call_s:
        return 0.0
    known = max(call_s, key=lambda other: other[0] * other[1])
    return call_s[known] * cell[0] * cell[1] / (known[0] * known[1])


def _too_long(expected_s: float, needed_s: float, settings: SweepSettings) -> str:
    budget = settings.budget_s * needed_s / (_OVERRUN * settings.seconds)
    return f"a call takes about {expected_s:.2g} s, too long for the sweep's time: --budget {np.ceil(budget):.0f}s would do"


def _visit(child: Child, cell: Cell, seconds: float, *, settle: bool) -> Slot:
    slot: Slot = child.call("cell", batch=cell[0], callers=cell[1], seconds=seconds, settle=settle)
    return slot


def _slot_s(left_s: float, cells: int) -> float:
    least, most = _SLOT_S
    return min(most, max(least, left_s / (_AIMED_PASSES * max(1, cells))))


def _orders(cells: Sequence[Cell], seed: int) -> Iterator[list[Cell]]:
    """An order of the cells for each pass: random, then the same backwards."""
    rng = np.random.default_rng(seed)
    for _ in range(MOST_PASSES // 2):
        order = [cells[i] for i in rng.permutation(len(cells))]
        yield order
        yield order[::-1]


# --- readings ----------------------------------------------------------------------------------------


def _left_out(grid: _Grid) -> list[Unavailable]:
    return [
        Unavailable(quantity="throughput_per_s", reason=why, conditions=cell_conditions(cell))
        for cell, why in grid.left_out.items()
    ]


def _readings(cell: Cell, slots: Sequence[Slot]) -> list[Sample | Unavailable]:
    batch, callers = cell
    passes = np.arange(len(slots), dtype=np.int32)
    where = {"batch": batch, "concurrency": callers}

    def by_slot(quantity: str, unit: str, values: Sequence[float], conditions: Mapping[str, Scalar] = where) -> Sample:
        return Sample(quantity=quantity, unit=unit, values=np.array(values), blocks=passes, conditions=conditions)

    times = [s.calls.ends_s - s.calls.starts_s for s in slots]
    return [
        by_slot("throughput_per_s", "1/s", [batch * s.calls.per_s for s in slots], cell_conditions(cell)),
        Sample(
            quantity="sweep_latency_s",
            unit="s",
            values=np.concatenate(times),
            blocks=np.repeat(passes, [len(t) for t in times]),
            conditions=where,
        ),
        by_slot("cores_busy", "core", [s.cores_busy for s in slots]),
        by_slot("machine_cores_busy", "core", [s.machine_cores_busy for s in slots]),
        by_slot("memory_resident_bytes", "byte", [s.resident_bytes for s in slots]),
        by_slot("calls_in_flight", "count", [in_system(s.calls.starts_s, s.calls.ends_s) for s in slots]),
    ]
