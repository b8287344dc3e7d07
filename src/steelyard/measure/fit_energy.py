"""A model of this machine's power, fitted to its own energy counter: designed loads, readings, fit, error on unseen kinds.

Loads differ in kind (integers, floating point, memory, matrix products by data type), in how many processes run and in the
share of the time that they work, so that what each part draws can be told apart. They run in random order, idle between
them, so that a machine that warms up does not fall on one kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from steelyard import __version__
from steelyard.errors import InvalidInput
from steelyard.measure.loads import KINDS
from steelyard.measure.process import Child
from steelyard.probe.energy import EnergyCounters, PowerModel, fit_power, modelled_error, read_counters
from steelyard.records import EnergyCalibration, Environment, Floats, Unavailable

__all__ = ["Crew", "Fitted", "Load", "Processes", "designed_loads", "fit_energy"]

IDLE = "idle"
SETTLE_S = 0.3  # before a reading begins: clocks and voltages follow the load
LEAST_S, MOST_S = 0.5, 10.0  # of a reading
LEAST_ANSWER = 1.15  # of power under load to power at rest; servers have 1.5 to 5
WORKER = "steelyard.measure.loads:Loads"

Read = Callable[[], EnergyCounters | Unavailable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One kind of work in so many processes, each working a share of the time."""

    kind: str
    processes: int = 0
    duty: float = 1.0

    def __str__(self) -> str:
        return IDLE if self.kind == IDLE else f"{self.kind}, {self.processes} process(es), {self.duty:.0%} of the time"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """The readings, the model they give, and what speaks against it."""

    calibration: EnergyCalibration
    model: PowerModel
    rival_error: float  # mean absolute error of the modelled power

    @property
    def answers(self) -> float:
        """Power under the heaviest load over power at rest; near 1 where other work filled the machine all the while."""
        rest = np.array([kind == IDLE for kind in self.calibration.kinds])
        return float(self.calibration.watts.max() / np.median(self.calibration.watts[rest]))

    @property
    def flaw(self) -> str:
        """Why it should not be used; empty for a fit that errs less on unseen kinds than the modelled power does."""
        if self.answers < LEAST_ANSWER:
            return (
                f"the counter hardly answers to load ({self.answers:.2f} times its reading at rest): other work filled the "
                "machine, or the counter is not of this machine; fit it again when it is quiet"
            )
        if self.model.error >= self.rival_error:
            return (
                f"on kinds of load it had not seen it missed by {self.model.error:.0%} on average, and the published figures "
                f"are taken to miss by {self.rival_error:.0%}"
            )
        return ""


class Crew(Protocol):
    """Those who do the work: real processes, or in a test a script."""

    def kinds(self) -> Sequence[str]:
        """The kinds of work that can be done here."""

    def start(self, load: Load, seconds: float) -> None:
        """Begin, without waiting."""

    def results(self) -> Sequence[Mapping[str, Any]]:
        """What each process did a second, when all are done."""


class Processes:
    """A crew of `count` child processes. Use as a context manager."""

    def __init__(self, count: int) -> None:
        self._children = [Child(WORKER) for _ in range(count)]
        self._working: list[Child] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.close()

    def kinds(self) -> Sequence[str]:
        """The kinds that every process can do; libraries are loaded meanwhile."""
        able = {kind: [child.call("ready", kind=kind) for child in self._children] for kind in KINDS}
        return [kind for kind, every in able.items() if all(every)]

    def start(self, load: Load, seconds: float) -> None:
        """Begin, without waiting."""
        self._working = self._children[: load.processes]
        for child in self._working:
            child.start("run", kind=load.kind, seconds=seconds, duty=load.duty)

    def results(self) -> Sequence[Mapping[str, Any]]:
        """What each process did a second, when all are done."""
        return [child.result() for child in self._working]


def designed_loads(kinds: Sequence[str], cores: int, seed: int = 0) -> tuple[Load, ...]:
    """Every kind at one process, at half the cores and at all, whole and half of the time, in random order; idle between.

    >>> loads = designed_loads(["integer", "memory"], 2)
    >>> len(loads), sum(load.kind == "idle" for load in loads)
    (9, 3)
    """
    shapes = sorted({(1, 1.0), (max(1, cores // 2), 1.0), (cores, 0.5), (cores, 1.0)})
    busy = [Load(kind=kind, processes=n, duty=duty) for kind in kinds for n, duty in shapes]
    order = [busy[i] for i in np.random.default_rng(seed).permutation(len(busy))]
    thirds = np.array_split(np.arange(len(order)), 3)
    return tuple(load for part in thirds for load in (Load(kind=IDLE), *(order[i] for i in part)))


def fit_energy(
    host: Environment,
    budget_s: float,
    crew: Crew,
    *,
    read: Read = read_counters,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str, float | None], None] = lambda _what, _share: None,
) -> Fitted:
    """Run the designed loads in about `budget_s` seconds and fit the model. Nothing is kept.

    Raises `InvalidInput` where there is no counter, or the budget is too short for a reading of every load.
    """
    counters = read()
    if isinstance(counters, Unavailable):
        raise InvalidInput(f"cannot fit a model of power: {counters.reason}; energies stay modelled")
    loads = designed_loads(crew.kinds(), host.cores)
    seconds = min(MOST_S, budget_s / len(loads) - 2 * SETTLE_S)
    if seconds < LEAST_S:
        needed = len(loads) * (LEAST_S + 2 * SETTLE_S)
        raise InvalidInput(f"{budget_s:g} s are too short for {len(loads)} loads: give --budget {needed:.0f}s or more")
    readings = []
    for i, load in enumerate(loads):
        progress(f"reading power: {load}", i / len(loads))
        readings.append(_reading(load, seconds, crew, read, sleep, clock))
    calibration = _calibration(host, counters, loads, readings, seconds)
    return Fitted(calibration=calibration, model=fit_power(calibration), rival_error=modelled_error())


def _reading(
    load: Load,
    seconds: float,
    crew: Crew,
    read: Read,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> dict[str, float]:
    """Watts over the middle of a load, and its rates summed over the processes."""
    if load.kind != IDLE:
        crew.start(load, seconds + 2 * SETTLE_S)
    sleep(SETTLE_S)
    before, began = read(), clock()
    sleep(seconds)
    after, ended = read(), clock()
    sleep(SETTLE_S)
    results = [] if load.kind == IDLE else crew.results()
    if isinstance(before, Unavailable) or isinstance(after, Unavailable):
        reason = next(r.reason for r in (before, after) if isinstance(r, Unavailable))
        raise InvalidInput(f"the energy counter was lost while {load} ran: {reason}")
    return {"watts": after.since(before) / (ended - began), **_rates(results)}


def _rates(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Summed over processes; a clock counts once for every busy core."""
    rates: dict[str, float] = {}
    for found in results:
        clock = found.get("clock_ghz")
        known = {name: value for name, value in found.items() if name != "clock_ghz"}
        if clock is not None:
            known["busy_gigahertz"] = found["busy_cores"] * clock
        for name, value in known.items():
            rates[name] = rates.get(name, 0.0) + float(value)
    return rates


def _calibration(
    host: Environment,
    counters: EnergyCounters,
    loads: Sequence[Load],
    readings: Sequence[Mapping[str, float]],
    seconds: float,
) -> EnergyCalibration:
    columns = tuple(dict.fromkeys(name for found in readings for name in found if name != "watts"))
    rates: Floats = np.array([[found.get(name, 0.0) for name in columns] for found in readings])
    return EnergyCalibration(
        machine=host.machine,
        cpu=host.cpu,
        source=f"counters of {counters.words}",
        columns=columns,
        rates=rates,
        watts=np.array([found["watts"] for found in readings]),
        kinds=tuple(load.kind for load in loads),
        seconds=np.full(len(loads), seconds),
        time=host.time,
        version=__version__,
    )
