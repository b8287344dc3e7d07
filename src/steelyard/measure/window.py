"""`steelyard.window`: what any stretch of a program takes, from two clocks at each end.

>>> import steelyard
>>> with steelyard.window("sum") as w:
...     total = sum(range(1000))
>>> w.wall_s > 0 and w.cpu_s >= 0
True

Wall time is of this stretch; processor time, memory and energy are of the whole process, other threads included. A window
opens in about ten microseconds (`benchmarks/overhead.py`). What costs more is asked for: ``memory=True`` for the
peak and growth of memory, ``energy=True`` for the machine's counters, ``gpu=True`` for GPUs. Energy by the model needs time and
processor time alone, and is worked out when it is looked at.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import threading
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.probe.energy import EnergyCounters, energy, read_counters
from steelyard.probe.gpu import Gpu, GpuReading, open_gpus
from steelyard.probe.host import environment
from steelyard.probe.memory import reset_peak, rss_and_peak_bytes, rss_bytes
from steelyard.records import Environment, Sample, Scalar, Unavailable

__all__ = ["Summary", "Window", "window"]

Reading = Sample | Unavailable
_GPU = ("gpu_time_s", "gpu_memory_bytes", "gpu_energy_j")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Window:
    """A stretch of a program: a context manager and a decorator, nestable, at home in threads and coroutines.

    It closes when the stretch raises, counts it as failed, and lets the error pass. Windows of one name add up in
    `summary`. As a decorator it opens a window of the function's name, or of `name`, at each call.
    """

    __slots__ = (
        "_asked",
        "_cuda",
        "_energy",
        "_gpus",
        "_memory",
        "_open",
        "_start_cpu_ns",
        "_start_ns",
        "cpu_s",
        "failed",
        "name",
        "wall_s",
    )  # fmt: skip

    def __init__(self, name: str = "", *, memory: bool = False, energy: bool = False, gpu: bool = False) -> None:
        if not isinstance(name, str):
            raise InvalidInput(f"a window's name is a string, got {name!r}: as a decorator, write @steelyard.window()")
        self.name = name
        self.wall_s = self.cpu_s = float("nan")
        self.failed = False
        self._asked = (memory, energy, gpu)
        self._memory: _Memory | None = None
        self._energy: list[EnergyCounters | Unavailable] = []
        self._gpus: list[list[GpuReading]] = []
        self._cuda: list[Any] = []
        self._open = False
        self._start_ns = self._start_cpu_ns = 0

    def __enter__(self) -> Window:
        if self._open:
            raise InvalidInput(f"the window {self.name!r} is open: nest another, with steelyard.window(...) of its own")
        self._open = True
        if True in self._asked:
            self._ask(first=True)
        self._start_cpu_ns = process_time_ns()
        self._start_ns = perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_ns = perf_counter_ns()
        self.cpu_s = (process_time_ns() - self._start_cpu_ns) / 1e9
        self.wall_s = (end_ns - self._start_ns) / 1e9
        self.failed = kind is not None
        if True in self._asked:
            self._ask(first=False)
        self._open = False
        _remember(self)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Open a window of its own at every call of `function`, coroutine functions included."""
        name = self.name or function.__qualname__
        memory, energy, gpu = self._asked
        fresh = functools.partial(Window, name, memory=memory, energy=energy, gpu=gpu)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidInput(
                f"{name} is a generator, whose call ends before its work begins: open the window inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                with fresh():
                    return await function(*args, **kwargs)

            return cast("Callable[_P, _R]", awaited)

        @functools.wraps(function)
        def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with fresh():
                return function(*args, **kwargs)

        return called

    # --- readings ------------------------------------------------------------------------------------

    @property
    def cores(self) -> float:
        """Cores busy on average: processor time over wall time."""
        return self.cpu_s / self.wall_s if self.wall_s > 0 else float("nan")

    @property
    def peak_bytes(self) -> int | Unavailable:
        """Highest resident set of the process during the window, with ``memory=True``."""
        if self._memory is None:
            return Unavailable(quantity="peak_bytes", reason="it was not asked for: memory=True")
        return self._memory.peak

    @property
    def growth_bytes(self) -> int | Unavailable:
        """Resident memory at the end less that at the beginning; below zero where some was given back."""
        if self._memory is None:
            return Unavailable(quantity="growth_bytes", reason="it was not asked for: memory=True")
        return self._memory.growth

    @property
    def energy(self) -> Reading:
        """Joules, from the machine's counters if they were asked for and are there, else from the model."""
        before, after = self._energy if len(self._energy) == 2 else (None, None)
        if not (self.wall_s > 0 and self.cpu_s > 0):
            return Unavailable(quantity="energy_j", reason="the window is shorter than the processor's clock can tell")
        return energy(self.wall_s, self.cpu_s, rss_bytes(), _environment(), before=before, after=after)

    @property
    def gpu_energy_j(self) -> float | Unavailable:
        """Joules of all GPUs by their own counters, with ``gpu=True``."""
        spent = [
            b.energy_j - a.energy_j for a, b in self._gpu_pairs() if a.energy_j is not None and b.energy_j is not None
        ]
        return sum(spent) if spent else self._no_gpu("gpu_energy_j", "no GPU here counts energy")

    @property
    def gpu_memory_bytes(self) -> float | Unavailable:
        """Bytes that all processes held on the GPUs when the window closed, with ``gpu=True``."""
        held = [b.memory_bytes for _, b in self._gpu_pairs() if b.memory_bytes is not None]
        return sum(held) if held else self._no_gpu("gpu_memory_bytes", "no GPU here tells it")

    @property
    def gpu_time_s(self) -> float | Unavailable:
        """Seconds between the window's marks in PyTorch's current CUDA stream, with ``gpu=True``; waits for the later mark."""
        if len(self._cuda) < 2:
            return self._no_gpu("gpu_time_s", "PyTorch had not begun to use CUDA when the window opened")
        start, end = self._cuda
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def readings(self) -> tuple[Reading, ...]:
        """All of it as records (`steelyard.records.encode` gives one line of JSON for each)."""
        where: dict[str, Scalar] = {"window": self.name}
        numbers: tuple[tuple[str, str, float | Unavailable], ...] = (
            ("wall_s", "s", self.wall_s),
            ("cpu_s", "s", self.cpu_s),
            ("peak_bytes", "byte", self.peak_bytes),
            ("growth_bytes", "byte", self.growth_bytes),
            ("gpu_time_s", "s", self.gpu_time_s),
            ("gpu_memory_bytes", "byte", self.gpu_memory_bytes),
            ("gpu_energy_j", "J", self.gpu_energy_j),
        )
        return (*(_record(*number, where) for number in numbers), _placed(self.energy, where))

    def as_dict(self) -> dict[str, Any]:
        """Plain types: base units, an interval as [low, high], what is not known as None with its reason."""
        found = {r.quantity: _plain(r) for r in self.readings()}
        return {"name": self.name, "failed": self.failed, **found}

    def json(self) -> str:
        """`as_dict` in one line."""
        return json.dumps(self.as_dict())

    def __str__(self) -> str:
        from steelyard.report.windows import rendered, window_table

        memory, energy, gpu = self._asked
        left_out = [*([] if memory else ["peak_bytes", "growth_bytes"]), *([] if gpu else _GPU)]
        unasked = [
            f"{word}=True"
            for word, asked in zip(("memory", "energy", "gpu"), (memory, energy, gpu), strict=True)
            if not asked
        ]
        shown = [reading for reading in self.readings() if reading.quantity not in left_out]
        return rendered(window_table(self.name, shown, failed=self.failed, unasked=unasked))

    @staticmethod
    def summary() -> Summary:
        """All windows closed in this process so far, by name in the order of their first closing."""
        with _lock:
            return Summary(windows=tuple(series.frozen(name) for name, series in _closed.items()))

    @staticmethod
    def forget() -> None:
        """Begin `summary` afresh. A window that closes leaves 17 bytes there."""
        with _lock:
            _closed.clear()

    # --- what costs more -----------------------------------------------------------------------------

    def _ask(self, *, first: bool) -> None:
        """Memory last at the beginning and first at the end: the other readings take some themselves."""
        memory, energy, gpu = self._asked
        if memory and not first and self._memory is not None:
            self._memory.leave()
        if energy:
            self._energy = [*([] if first else self._energy), read_counters()]
        if gpu:
            self._gpus = [*([] if first else self._gpus), [one.read() for one in _gpus()]]
            self._cuda = [*([] if first else self._cuda), *_cuda_mark()]
        if memory and first:
            self._memory = _Memory.enter()

    def _gpu_pairs(self) -> list[tuple[GpuReading, GpuReading]]:
        return list(zip(*self._gpus, strict=True)) if len(self._gpus) == 2 else []

    def _no_gpu(self, quantity: str, otherwise: str) -> Unavailable:
        if not self._asked[2]:
            return Unavailable(quantity=quantity, reason="it was not asked for: gpu=True")
        found = open_gpus()
        return Unavailable(quantity=quantity, reason=found.reason if isinstance(found, Unavailable) else otherwise)


window = Window


class _Memory:
    """Peak and growth while a window is open.

    The kernel keeps one peak for the process, and each window begins it afresh. So what it stood at before is first given to
    every window that is open, which keeps nested windows right. Others that reset it (`steelyard.probe.memory.reset_peak`)
    hide what came before.
    """

    _open: list[_Memory] = []  # noqa: RUF012

    def __init__(self, before: int | Unavailable, peak: int | Unavailable) -> None:
        self._before = before
        self.peak = peak
        self.growth: int | Unavailable = 0

    @classmethod
    def enter(cls) -> _Memory:
        with _lock:
            now = cls._hand_out()
            refused = reset_peak()
            before = now if isinstance(now, Unavailable) else now[0]
            made = cls(before, refused or before)
            cls._open.append(made)
        return made

    def leave(self) -> None:
        with _lock:
            now = self._hand_out()
            self._open.remove(self)
        if isinstance(now, Unavailable) or isinstance(self._before, Unavailable):
            self.growth = (
                now if isinstance(now, Unavailable) else Unavailable(quantity="growth_bytes", reason="not read")
            )
        else:
            self.growth = now[0] - self._before

    @classmethod
    def _hand_out(cls) -> tuple[int, int] | Unavailable:
        """Read size and peak, and let every open window know of the peak."""
        now = rss_and_peak_bytes()
        for one in cls._open:
            if isinstance(now, Unavailable):
                one.peak = now
            elif not isinstance(one.peak, Unavailable):
                one.peak = max(one.peak, now[1])
        return now


# --- windows that closed -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All windows of one name: seconds of wall and processor time of each, and how many raised."""

    name: str
    wall: Sample
    cpu: Sample
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Windows by name; printed, a table."""

    windows: tuple[Series, ...]

    def as_dict(self) -> Mapping[str, Any]:
        """Counts, totals and medians by name."""
        return {
            series.name: {
                "windows": series.wall.values.size,
                "failed": series.failed,
                "total_wall_s": float(series.wall.values.sum()),
                "median_wall_s": series.wall.value,
                "total_cpu_s": float(series.cpu.values.sum()),
            }
            for series in self.windows
        }

    def __str__(self) -> str:
        from steelyard.report.windows import rendered, summary_table

        return rendered(summary_table([(s.name, s.wall, s.cpu, s.failed) for s in self.windows]))


class _Series:
    """Grows by 16 bytes and a flag a window."""

    __slots__ = ("cpu", "failed", "wall")

    def __init__(self) -> None:
        self.wall, self.cpu, self.failed = array("d"), array("d"), array("b")

    def frozen(self, name: str) -> Series:
        where: dict[str, Scalar] = {"window": name}
        return Series(
            name=name,
            wall=Sample(quantity="wall_s", unit="s", values=np.array(self.wall), conditions=where),
            cpu=Sample(quantity="cpu_s", unit="s", values=np.array(self.cpu), conditions=where),
            failed=sum(self.failed),
        )


_lock = threading.Lock()
_closed: dict[str, _Series] = {}


def _remember(closed: Window) -> None:
    with _lock:
        series = _closed.get(closed.name)
        if series is None:
            series = _closed[closed.name] = _Series()
        series.wall.append(closed.wall_s)
        series.cpu.append(closed.cpu_s)
        series.failed.append(closed.failed)


# --- parts -------------------------------------------------------------------------------------------


@functools.cache
def _environment() -> Environment:
    return environment(packages=())


@functools.cache
def _gpus() -> tuple[Gpu, ...]:
    found = open_gpus()
    return () if isinstance(found, Unavailable) else found


def _cuda_mark() -> list[Any]:
    """A timed event in the current stream, where this program has begun to use CUDA through PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    with suppress(RuntimeError):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return [event]
    return []


def _record(quantity: str, unit: str, value: float | Unavailable, where: Mapping[str, Scalar]) -> Reading:
    if isinstance(value, Unavailable):
        return _placed(value, where)
    return Sample(quantity=quantity, unit=unit, values=np.array([float(value)]), conditions=where)


def _placed(reading: Reading, where: Mapping[str, Scalar]) -> Reading:
    if isinstance(reading, Unavailable):
        return Unavailable(quantity=reading.quantity, reason=reading.reason, conditions=where)
    return Sample(
        quantity=reading.quantity,
        unit=reading.unit,
        values=reading.values,
        conditions=where,
        provenance=reading.provenance,
        note=reading.note,
    )


def _plain(reading: Reading) -> Any:
    if isinstance(reading, Unavailable):
        return {"value": None, "unavailable": reading.reason}
    if reading.values.size == 1:
        return float(reading.values[0])
    low, high = np.quantile(reading.values, (0.05, 0.95))
    return {"value": reading.value, "interval": [float(low), float(high)], "provenance": reading.provenance}
