"""Load on one loaded model, in its own process: callers that wait for their answer, and arrivals that do not wait.

*Closed loop*: each of a number of callers asks again as soon as it is answered. *Open loop*: requests are due at times
drawn in advance, whatever the model does. The next caller to be free takes the next request that is due, so callers are
the servers of one queue, first come, first served. A request is timed from the moment it was *due*, not from the moment it was
taken: a stalled model would else be asked less and look better (coordinated omission; Tene 2013, Schroeder, Wierman and
Harchol-Balter 2006). Callers are threads; engines let others run while they compute.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from steelyard.measure.worker import Worker
from steelyard.probe.clock import Clock, SystemClock
from steelyard.probe.memory import rss_bytes
from steelyard.stats.order import LEAST_LATE
from steelyard.stats.proportion import wilson

__all__ = [
    "Calls",
    "LoadWorker",
    "Ramp",
    "Requests",
    "Slot",
    "closed_loop",
    "in_system",
    "open_loop",
]

Floats = NDArray[np.float64]
Call = Callable[[], object]

MOST_CALLERS = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calls:
    """Calls of a closed loop: when each began and ended, in seconds from the start, and who made it."""

    starts_s: Floats
    ends_s: Floats
    callers: NDArray[np.int32]

    @property
    def per_s(self) -> float:
        """Calls a second: of each caller until its own last answer, summed, so that a slow last call costs nobody else."""
        last = np.array([self.ends_s[self.callers == c].max() for c in np.unique(self.callers)])
        return float((np.bincount(self.callers, minlength=1)[np.unique(self.callers)] / last).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requests:
    """Requests of an open loop, in the order they were due, in seconds from the start.

    ``free_s`` is when the caller that served it was free to take it: between the later of `due_s` and `free_s` and `start_s`
    lies what the generator itself was late.
    """

    due_s: Floats
    free_s: Floats
    start_s: Floats
    end_s: Floats
    step: NDArray[np.int32]

    @property
    def latency_s(self) -> Floats:
        """From due to answered."""
        return self.end_s - self.due_s

    @property
    def lag_s(self) -> Floats:
        """How much later than it could a request was started: the generator's own fault."""
        return self.start_s - np.maximum(self.due_s, self.free_s)


class Arrivals(Protocol):
    """When requests are due. Both methods are called by one caller at a time."""

    def next_due(self) -> tuple[float, int] | None:
        """Seconds from the start and the step it belongs to, or None when no more will come."""
        ...

    def answered(self, step: int, due_s: float, end_s: float) -> None:
        """Told of each answer."""
        ...


def closed_loop(
    call: Call,
    callers: int,
    seconds: float,
    clock: Clock,
    *,
    settle: bool = True,
    pool: ThreadPoolExecutor | None = None,
) -> Calls:
    """`callers` threads that call until `seconds` have passed, at least once each.

    With `settle` each makes one untimed call first. `pool` holds threads to use again. What a call raises is raised here.
    """
    gate = threading.Barrier(callers)
    begun: list[int] = []

    def caller() -> list[tuple[int, int]]:
        try:
            if settle:
                call()
            if gate.wait() == 0:
                begun.append(clock.now_ns())
            gate.wait()
        except BaseException:
            gate.abort()
            raise
        return _repeated(call, begun[0] + int(seconds * 1e9), clock)

    made = _together(caller, callers, pool)
    spans = [(start, end, who) for who, own in enumerate(made) for start, end in own]
    table = np.array(sorted(spans), dtype=np.int64)
    return Calls(
        starts_s=(table[:, 0] - begun[0]) / 1e9,
        ends_s=(table[:, 1] - begun[0]) / 1e9,
        callers=table[:, 2].astype(np.int32),
    )


def _repeated(call: Call, until_ns: int, clock: Clock) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    now = 0
    while now < until_ns:
        start = clock.now_ns()
        call()
        now = clock.now_ns()
        spans.append((start, now))
    return spans


def open_loop(
    call: Call, callers: int, arrivals: Arrivals, clock: Clock, *, pool: ThreadPoolExecutor | None = None
) -> Requests:
    """Serve `arrivals` with `callers` until no more will come. What a call raises is raised here."""
    lock = threading.Lock()
    begun = clock.now_ns()

    def now_s() -> float:
        return (clock.now_ns() - begun) / 1e9

    def caller() -> list[tuple[float, float, float, float, int]]:
        served: list[tuple[float, float, float, float, int]] = []
        while True:
            free = now_s()
            with lock:
                due = arrivals.next_due()
            if due is None:
                return served
            if due[0] > free:
                clock.sleep(due[0] - free)
            start = now_s()
            call()
            end = now_s()
            with lock:
                arrivals.answered(due[1], due[0], end)
            served.append((due[0], free, start, end, due[1]))

    rows = sorted(row for own in _together(caller, callers, pool) for row in own)
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    due, free, start, end = table[:, :4].T
    return Requests(due_s=due, free_s=free, start_s=start, end_s=end, step=table[:, 4].astype(np.int32))


def _together(caller: Callable[[], Any], callers: int, pool: ThreadPoolExecutor | None) -> list[Any]:
    """What each of so many threads gave; one caller needs no thread."""
    if callers == 1:
        return [caller()]
    with nullcontext(pool) if pool is not None else ThreadPoolExecutor(callers) as threads:
        futures = [threads.submit(caller) for _ in range(callers)]
        failed = [e for f in futures if (e := f.exception()) is not None]
    for error in sorted(failed, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return [f.result() for f in futures]


def in_system(arrive_s: Floats, leave_s: Floats) -> float:
    """Mean number in the system, counted: the area under arrivals less departures, over the time they span.

    By Little's law (1961) it equals the arrival rate times the mean time in the system.

    >>> in_system(np.array([0.0, 1.0]), np.array([2.0, 4.0]))
    1.25
    """
    moments = np.concatenate([arrive_s, leave_s])
    change = np.concatenate([np.ones(len(arrive_s)), -np.ones(len(leave_s))])
    order = np.argsort(moments, kind="stable")
    span = moments[order[-1]] - moments[order[0]]
    return float((np.cumsum(change[order])[:-1] * np.diff(moments[order])).sum() / span) if span > 0 else 0.0


# --- load that rises until it breaks -----------------------------------------------------------------


class Ramp:
    """Poisson arrivals at rates that rise step by step; where they break the model an easy rate follows the backlog.

    A step is broken where the share of its requests later than `limit_s` is shown to exceed 1 - `quantile` (Wilson's lower
    end at 95 %, and at least three). Two broken steps in a row end the ramp, and the first of them is where it broke: a passing stall
    of the machine breaks one. Steps are numbered by their rate; ``len(rates)`` is the recovery.
    """

    def __init__(
        self,
        *,
        rates: Sequence[float],
        step_s: float,
        limit_s: float,
        quantile: float,
        recovery: tuple[float, float] | None = None,  # rate per second, seconds
        seed: int = 0,
    ) -> None:
        steps = [(rate, step_s) for rate in rates]
        self._steps = steps if recovery is None else [*steps, recovery]
        self._loaded = len(steps)
        self._limit_s, self._share = limit_s, 1 - quantile
        self._rng = np.random.default_rng(seed)
        self._step, self._due_s, self._until_s = 0, 0.0, step_s
        self._late, self._done = [0] * self._loaded, [0] * self._loaded
        self._judged, self._broken_in_a_row, self._ends_s = 0, 0, math.inf
        self.broken_at_s: float | None = None
        self.broken_step: int | None = None

    def next_due(self) -> tuple[float, int] | None:
        """The next request: of the step, of a step after it, or none."""
        while self._step < len(self._steps):
            self._due_s += float(self._rng.exponential(1 / self._steps[self._step][0]))
            if self._due_s <= self._until_s:
                return self._due_s, self._step
            self._next_step()  # the wait has no memory: it is drawn again at the new rate
        return None

    def answered(self, step: int, due_s: float, end_s: float) -> None:
        """Count it. Requests are served in order, so the first answer of a later step ends an earlier one."""
        if self.broken_step is None and step > self._judged:
            self._judge(step, end_s)
        if step < self._loaded:
            self._done[step] += 1
            self._late[step] += end_s - due_s > self._limit_s

    def _judge(self, until: int, now_s: float) -> None:
        for step in range(self._judged, min(until, self._loaded)):
            late, done = self._late[step], self._done[step]
            broken = late >= LEAST_LATE and wilson(late, done)[0] > self._share
            self._broken_in_a_row = self._broken_in_a_row + 1 if broken else 0
            if self._broken_in_a_row == 2:
                self.broken_step, self.broken_at_s = step - 1, now_s
                self._cut(max(now_s, self._due_s))
        self._judged = until

    def _cut(self, now_s: float) -> None:
        """The rising load ends now; the backlog, due until now, is still served."""
        self._ends_s = now_s
        if self._step < self._loaded:
            self._until_s = min(self._until_s, now_s)

    def _next_step(self) -> None:
        self._due_s = self._until_s
        loaded = self._step < self._loaded
        self._step = self._loaded if loaded and self._due_s >= self._ends_s else self._step + 1
        if self._step < len(self._steps):
            self._until_s += self._steps[self._step][1]
        if self._step < self._loaded:
            self._until_s = min(self._until_s, self._ends_s)


# --- the process that does it --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slot:
    """One short closed loop and what it took."""

    calls: Calls
    cores_busy: float  # processor time of this process over the time passed
    machine_cores_busy: float  # of the whole machine
    resident_bytes: int


class LoadWorker(Worker):
    """A worker that can be loaded by several callers at once, whose threads live as long as it does."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(MOST_CALLERS, thread_name_prefix="caller")

    def cell(self, batch: int, callers: int, seconds: float, settle: bool = True) -> Slot:
        """A slot of one batch size and number of callers."""
        inputs = self._batch(batch)
        with _undisturbed():
            before = time.process_time(), _machine_s(), time.perf_counter()
            calls = closed_loop(
                lambda: self._runner(inputs), callers, seconds, SystemClock(), settle=settle, pool=self._pool
            )
            wall = time.perf_counter() - before[2]
            process, machine = time.process_time() - before[0], _machine_s() - before[1]
        return Slot(
            calls=calls, cores_busy=process / wall, machine_cores_busy=machine / wall, resident_bytes=rss_bytes()
        )

    def ramp(self, callers: int, **words: Any) -> tuple[Requests, float | None, int | None]:
        """Requests of batch 1 by a `Ramp` of these words; when and in which step it broke."""
        inputs, ramp = self._batch(1), Ramp(**words)
        with _undisturbed():
            made = open_loop(lambda: self._runner(inputs), callers, ramp, SystemClock(), pool=self._pool)
        return made, ramp.broken_at_s, ramp.broken_step

    def scenario(self, folder: str, **words: Any) -> Any:
        """One MLPerf scenario; see `steelyard.measure.loadgen.drive`."""
        from steelyard.measure.loadgen import Scenario, drive

        def call(indices: NDArray[np.int64]) -> None:
            self._runner(np.ascontiguousarray(self._inputs[indices % len(self._inputs)]))

        with _undisturbed():
            return drive(call, Scenario(**words), Path(folder))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection meanwhile, as in `time_calls`."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _machine_s() -> float:
    """Processor time that the whole machine has spent on work, seconds since boot."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
    return float(sum(times) - idle - guests)
