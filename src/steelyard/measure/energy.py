"""Energy of an artifact that is being weighed: windows of its sustained run, and the readings made of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.measure.process import Child
from steelyard.probe.energy import (
    EnergyCounters,
    Window,
    above_idle,
    calibrated_power_w,
    measured_energy,
    modelled_power_w,
    processor_families,
    read_counters,
    windows_for,
)
from steelyard.records import (
    EnergyCalibration,
    Environment,
    Floats,
    Plan,
    Sample,
    Scalar,
    Unavailable,
)

__all__ = ["Sustained", "energy_readings", "sustain"]

Reading = Sample | Unavailable

_AT: Mapping[str, Scalar] = {"batch": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """A longer run of one artifact: the time of every call, and what the machine said meanwhile."""

    times: Floats  # seconds of each call
    cpu_s: float  # processor time over all cores
    peak_bytes: int | Unavailable
    clock_ghz: float | None = None
    windows: tuple[Window, ...] = ()  # where a counter can be read
    idle: Window | None = None  # the machine at rest, the artifact loaded, just before
    unread: str = ""  # why there are no windows

    @property
    def wall_s(self) -> float:
        """Time spent inside the calls."""
        return float(np.sum(self.times))


def sustain(
    child: Child,
    seconds: float,
    *,
    read: Callable[[], EnergyCounters | Unavailable] = read_counters,
    rest: Callable[[float], None] = time.sleep,
) -> Sustained:
    """Run the child's artifact at batch 1 for `seconds`; where a counter can be read, in several windows after a rest."""
    first = read()
    if isinstance(first, Unavailable):
        return _joined([child.call("sustained", batch=1, seconds=seconds)], None, first.reason)
    idle_s = float(np.clip(seconds / 5, 0.25, 2.0))
    began = time.perf_counter()
    rest(idle_s)
    idle = _between(first, read(), time.perf_counter() - began, 1)
    count = windows_for(seconds, first.period_s)
    runs = [child.call("sustained", batch=1, seconds=seconds / count) for _ in range(count)]
    return _joined(runs, idle, "")


def _joined(runs: Sequence[Mapping[str, Any]], idle: Window | None, unread: str) -> Sustained:
    peaks = [run["peak_bytes"] for run in runs]
    missing = next((peak for peak in peaks if isinstance(peak, Unavailable)), None)
    windows = [_window(run) for run in runs]
    read = tuple(window for window in windows if window is not None)
    return Sustained(
        times=np.concatenate([run["times"] for run in runs]),
        cpu_s=float(sum(run["cpu_s"] for run in runs)),
        peak_bytes=max(peaks) if missing is None else missing,
        clock_ghz=runs[-1]["clock_ghz"],
        windows=read if len(read) == len(windows) else (),
        idle=idle,
        unread=unread,
    )


def _window(run: Mapping[str, Any]) -> Window | None:
    before, after = run["counters"]
    return _between(before, after, float(np.sum(run["times"])), len(run["times"]))


def _between(
    before: EnergyCounters | Unavailable, after: EnergyCounters | Unavailable, seconds: float, calls: int
) -> Window | None:
    if isinstance(before, Unavailable) or isinstance(after, Unavailable):
        return None
    return Window(before=before, after=after, seconds=seconds, calls=calls)


def energy_readings(
    run: Sustained,
    host: Environment,
    *,
    calibration: EnergyCalibration | None = None,
    counted: Sequence[Reading] = (),
    plan: Plan | None = None,
) -> Iterable[Reading]:
    """``energy_j`` of one call, ``energy_call_s`` (the time it is the energy of) and, measured, ``energy_above_idle_j``.

    Measured where there are windows; else by the calibration where there is one; else modelled. `counted` are the
    readings of MACs and moved bytes, which a calibration may know how to use; `plan` tells their data type.
    """
    found = measured_energy(run.windows, _AT) if run.windows else Unavailable(quantity="energy_j", reason=run.unread)
    if isinstance(found, Sample):
        yield found
        yield _call_s(np.array([w.seconds / w.calls for w in run.windows]))
        if run.idle is not None:
            yield above_idle(run.windows, run.idle, _AT)
        return
    power = _power(run, host, calibration, counted, plan or Plan())
    if isinstance(power, Unavailable):
        yield Unavailable(quantity="energy_j", reason=power.reason, conditions=_AT)
        return
    call_s = run.wall_s / len(run.times)
    unmeasured = f"; not measured: {found.reason}" if run.windows else ""
    yield Sample(
        quantity="energy_j",
        unit="J",
        values=power.values * call_s,
        conditions=_AT,
        provenance=power.provenance,
        note=power.note + unmeasured,
    )
    yield _call_s(np.array([call_s]))


def _call_s(values: Floats) -> Sample:
    return Sample(quantity="energy_call_s", unit="s", values=values, conditions=_AT)


def _power(
    run: Sustained,
    host: Environment,
    calibration: EnergyCalibration | None,
    counted: Sequence[Reading],
    plan: Plan,
) -> Reading:
    busy_cores = run.cpu_s / run.wall_s
    if calibration is not None:
        return calibrated_power_w(calibration, _rates(run, busy_cores, counted, plan))
    if not processor_families(host):
        reason = f"no energy counter, and no published power figures for the processor {host.cpu!r}"
        return Unavailable(quantity="energy_j", reason=reason)
    resident = 0 if isinstance(run.peak_bytes, Unavailable) else run.peak_bytes
    return modelled_power_w(busy_cores, resident, host)


def _rates(run: Sustained, busy_cores: float, counted: Sequence[Reading], plan: Plan) -> dict[str, float]:
    """What ran, in the columns of a calibration; what is not known is left out."""
    known = {
        reading.quantity: reading.value for reading in counted if isinstance(reading, Sample) and not reading.conditions
    }
    per_s = len(run.times) / run.wall_s
    rates = {"busy_cores": busy_cores}
    if run.clock_ghz is not None:
        rates["busy_gigahertz"] = busy_cores * run.clock_ghz
    columns = {"macs": f"{_data_type(plan)}_macs_per_s", "moved_bytes": "moved_bytes_per_s"}
    return rates | {column: known[name] * per_s for name, column in columns.items() if name in known}


def _data_type(plan: Plan) -> str:
    """The data type that most multiply-adds run in, as far as the plan's steps tell.

    >>> from steelyard.records import Step
    >>> _data_type(Plan(steps=(Step(name="openvino"), Step(name="nncf_int8")))), _data_type(Plan())
    ('int8', 'fp32')
    """
    words = str(plan)
    if any(word in words for word in ("int8", "quantize", "mixed", "qat")):
        return "int8"
    return "bf16" if "bf16" in words else "fp32"
