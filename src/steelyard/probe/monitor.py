"""What the machine did while something ran: load, steal, clocks, heat, memory and GPUs, read a few times a second.

A thread reads ``/proc``, ``/sys`` and NVML at a stated rate and keeps every reading with its time. What a machine does not show
(a virtual one has seldom clocks or temperatures) is `Unavailable` by name. The monitor's own cost is among the readings.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from steelyard.probe.clock import Clock, SystemClock
from steelyard.probe.gpu import Gpu, open_gpus
from steelyard.probe.host import load_now
from steelyard.records import Floats, Sample, Scalar, Unavailable

__all__ = ["Channel", "Monitor", "Source", "machine_sources", "resident_source"]

_HERTZ = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One number that a source gives: a level, or a count since boot whose advance per second is the reading."""

    quantity: str
    unit: str
    conditions: Mapping[str, Scalar] = field(default_factory=dict)
    counts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that is read at every tick; `read` gives one number for each channel."""

    channels: tuple[Channel, ...]
    read: Callable[[], Sequence[float]]


class Monitor:
    """Read all sources `rate_hz` times a second from entering until leaving, in a thread.

    `pid` is the process to watch (this one by default). Ticks that are missed on a busy machine are left out, not made up.
    """

    def __init__(
        self,
        pid: int | None = None,
        *,
        rate_hz: float = 10.0,
        sources: Sequence[Source | Unavailable] | None = None,
        clock: Clock | None = None,
    ) -> None:
        found = machine_sources(pid or os.getpid()) if sources is None else sources
        self._sources = [s for s in found if isinstance(s, Source)]
        self._missing = [s for s in found if isinstance(s, Unavailable)]
        self._step_s = 1 / rate_hz
        self._clock = clock or SystemClock()
        self._rows: list[tuple[float, list[float]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="steelyard-monitor", daemon=True)
        self._cost_s = 0.0
        self._start_ns = 0
        self._before = self._pressure = load_now()

    def __enter__(self) -> Monitor:
        self._start_ns = self._clock.now_ns()
        self._before = load_now()
        self.tick()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.tick()
        self._pressure = load_now().since(self._before)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the monitor began: the time axis of its series."""
        return (self._clock.now_ns() - self._start_ns) / 1e9

    def tick(self) -> None:
        """Read every source once. A source that fails (its process ended) ends the series and keeps what was read."""
        at = self.elapsed_s
        try:
            self._rows.append((at, [value for source in self._sources for value in source.read()]))
        except (OSError, ValueError, IndexError):
            self._over.set()

    def series(self) -> tuple[Sample | Unavailable, ...]:
        """Every reading with its time, what could not be read, the monitor's own cost, and time lost to a CPU quota."""
        times = np.array([at for at, _ in self._rows])
        channels = [channel for source in self._sources for channel in source.channels]
        table = np.array([row for _, row in self._rows]).reshape(len(times), len(channels))
        found = [_sample(channel, times, column) for channel, column in zip(channels, table.T, strict=True)]
        return (*(s for s in found if s.values.size), *self._missing, *self._totals())

    def _totals(self) -> tuple[Sample | Unavailable, ...]:
        times = [at for at, _ in self._rows] or [0.0]
        span = max(times[-1] - times[0], 1e-9)
        cost = _one("monitor_cost_cores", "cores", self._cost_s / span)
        throttled = self._pressure.throttled_s
        if throttled is None:
            return cost, Unavailable(quantity="throttled_s", reason="this control group keeps no count of throttling")
        return cost, _one("throttled_s", "s", throttled)

    def _watch(self) -> None:
        due = self._step_s
        while not self._over.wait(max(0.0, due - self.elapsed_s)):
            self.tick()
            self._cost_s = time.thread_time()
            due = max(due + self._step_s, self.elapsed_s)


def machine_sources(pid: int, *, root: Path = Path("/"), nvml: object = None) -> list[Source | Unavailable]:
    """All that this machine shows about itself and about process `pid`."""
    return [
        _cores(root),
        _process(pid),
        _switches(pid, root),
        resident_source(pid, root=root),
        _clock(root),
        _temperature(root),
        *_gpus(nvml),
    ]


def resident_source(pid: int, *, root: Path = Path("/")) -> Source | Unavailable:
    """Resident bytes of a process, ``/proc/PID/statm``; newer kernels keep this count to within some hundred kilobytes."""
    try:
        read = _Reader(root / f"proc/{pid}/statm")
    except OSError:
        return Unavailable(quantity="resident_bytes", reason=f"no process {pid} in {root / 'proc'}")
    channel = Channel(quantity="resident_bytes", unit="byte")
    return Source(channels=(channel,), read=lambda: [int(read().split()[1]) * _PAGE])


def _sample(channel: Channel, times: Floats, column: Floats) -> Sample:
    if channel.counts:
        steps = np.diff(times)
        column, times = np.diff(column) / np.where(steps > 0, steps, np.inf), times[1:]
    return Sample(
        quantity=channel.quantity, unit=channel.unit, values=column, times_s=times, conditions=channel.conditions
    )


def _one(quantity: str, unit: str, value: float) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array([value]))


# --- sources -----------------------------------------------------------------------------------------


class _Reader:
    """Read a file of the kernel's again and again through one descriptor."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)

    def __call__(self) -> bytes:
        return os.pread(self._file, 1 << 16, 0)

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # the file may not have been there
            os.close(self._file)


def _cores(root: Path) -> Source | Unavailable:
    """Share of each core's time at work, and of all cores' time that the hypervisor gave to others."""
    try:
        read = _Reader(root / "proc/stat")
        cores = [line.split()[0][3:].decode() for line in _core_lines(read())]
    except OSError as error:
        return Unavailable(quantity="core_busy_fraction", reason=f"{error.filename}: {error.strerror}")

    def values() -> list[float]:
        fields = [[int(word) for word in line.split()[1:9]] for line in _core_lines(read())]
        busy = [(sum(f[:3]) + sum(f[5:7])) / _HERTZ for f in fields]
        return [*busy, sum(f[7] for f in fields) / _HERTZ / len(fields)]

    channels = [
        Channel(quantity="core_busy_fraction", unit="fraction", conditions={"core": core}, counts=True)
        for core in cores
    ]
    return Source(channels=(*channels, Channel(quantity="steal_fraction", unit="fraction", counts=True)), read=values)


def _core_lines(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if line.startswith(b"cpu") and line[3:4].isdigit()]


def _process(pid: int) -> Source | Unavailable:
    """Processor time of all threads of the process, by its CPU clock (clock_getcpuclockid(3)), in nanoseconds."""
    clock = (~pid << 3) | 2  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED), include/linux/posix-timers.h
    try:
        time.clock_gettime_ns(clock)
    except OSError as error:
        return Unavailable(quantity="process_cores", reason=f"no CPU clock of process {pid}: {error.strerror}")
    channel = Channel(quantity="process_cores", unit="cores", counts=True)
    return Source(channels=(channel,), read=lambda: [time.clock_gettime_ns(clock) / 1e9])


def _switches(pid: int, root: Path) -> Source | Unavailable:
    """Times a second that the process's first thread was made to yield its core."""
    try:
        read = _Reader(root / f"proc/{pid}/status")
        read().index(b"\nnonvoluntary_ctxt_switches:")
    except (OSError, ValueError):
        return Unavailable(quantity="involuntary_switches_per_s", reason=f"the kernel counts none for process {pid}")
    channel = Channel(quantity="involuntary_switches_per_s", unit="1/s", counts=True)
    return Source(
        channels=(channel,), read=lambda: [int(read().partition(b"\nnonvoluntary_ctxt_switches:")[2].split()[0])]
    )


def _clock(root: Path) -> Source | Unavailable:
    """Mean clock of the cores this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    paths = [root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq" for core in allowed]
    readers = [_Reader(path) for path in paths if path.exists()]
    if not readers:
        return Unavailable(
            quantity="clock_hz", reason="the kernel shows no clock (no cpufreq): usual on virtual machines"
        )
    channel = Channel(quantity="clock_hz", unit="Hz")
    return Source(channels=(channel,), read=lambda: [sum(int(read()) for read in readers) / len(readers) * 1e3])


def _temperature(root: Path) -> Source | Unavailable:
    """The hottest sensor of the processor, or of the board where none is known to be the processor's."""
    sensors = [*_hwmon(root), *_zones(root)]
    chosen = [path for name, path in sensors if any(word in name for word in _PROCESSOR)] or [p for _, p in sensors]
    if not chosen:
        reason = "no sensor in /sys/class/hwmon or /sys/class/thermal: usual on virtual machines"
        return Unavailable(quantity="temperature_c", reason=reason)
    readers = [_Reader(path) for path in chosen]
    channel = Channel(quantity="temperature_c", unit="°C")
    return Source(channels=(channel,), read=lambda: [max(int(read()) for read in readers) / 1e3])


_PROCESSOR = ("coretemp", "k10temp", "zenpower", "pkg_temp", "cpu")


def _hwmon(root: Path) -> list[tuple[str, Path]]:
    folders = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    return [(_text(folder / "name"), path) for folder in folders for path in sorted(folder.glob("temp*_input"))]


def _zones(root: Path) -> list[tuple[str, Path]]:
    folders = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return [(_text(folder / "type"), folder / "temp") for folder in folders if (folder / "temp").exists()]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip().lower()
    except OSError:
        return ""


def _gpus(nvml: object) -> list[Source | Unavailable]:
    found = open_gpus(nvml)
    if isinstance(found, Unavailable):
        return [Unavailable(quantity="gpu_busy_fraction", reason=found.reason)]
    return [part for gpu in found for part in _gpu(gpu)]


_GPU_UNITS = {
    "busy_fraction": "fraction", "memory_bytes": "byte", "clock_hz": "Hz", "temperature_c": "°C", "power_w": "W",
}  # fmt: skip


def _gpu(gpu: Gpu) -> list[Source | Unavailable]:
    """What this device told at first is asked at every tick; what it did not tell is missing by name."""
    first = gpu.read()
    told = [name for name in _GPU_UNITS if getattr(first, name) is not None]
    where: dict[str, Scalar] = {"gpu": gpu.index}

    def values() -> list[float]:
        now = gpu.read()
        known = [getattr(now, name) for name in told]
        return [*(float("nan") if value is None else float(value) for value in known), float(bool(now.slowed))]

    channels = [Channel(quantity=f"gpu_{name}", unit=_GPU_UNITS[name], conditions=where) for name in told]
    slowed = Channel(quantity="gpu_slowed", unit="fraction", conditions=where)
    missing = [
        Unavailable(quantity=f"gpu_{name}", reason=f"GPU {gpu.index} does not tell it", conditions=where)
        for name in _GPU_UNITS
        if name not in told
    ]
    return [Source(channels=(*channels, slowed), read=values), *missing]
