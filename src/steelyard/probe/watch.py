"""What happened to the machine between two moments: reasons to flag what was measured meanwhile, never to drop it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from steelyard.probe.host import Pressure, load_now

__all__ = ["Moment", "disturbances", "moment"]

_STEP_S = 0.05  # a wall clock that moves against the monotonic one by more than this, and than slewing explains
_SLEW = 0.001  # a clock is slewed by at most 500 parts in a million; twice that is no surprise
_ASLEEP_S = 0.01
_OTHERS = 0.05  # of all cores' time


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Clocks and counters read together, in seconds. ``own_s`` is processor time of this process and its ended children."""

    pressure: Pressure
    wall_s: float  # CLOCK_REALTIME: steps when somebody sets it
    monotonic_s: float  # CLOCK_MONOTONIC: never steps, stands still while the machine sleeps
    boot_s: float  # CLOCK_BOOTTIME: goes on while the machine sleeps
    own_s: float


def moment() -> Moment:
    """Now."""
    return Moment(
        pressure=load_now(),
        wall_s=time.clock_gettime(time.CLOCK_REALTIME),
        monotonic_s=time.clock_gettime(time.CLOCK_MONOTONIC),
        boot_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        own_s=sum(os.times()[:4]),
    )


def disturbances(before: Moment, after: Moment) -> tuple[str, ...]:
    """Steal, throttling, other programs' load, a wall clock that was set, and a machine that slept."""
    pressure = after.pressure.since(before.pressure)
    passed = after.monotonic_s - before.monotonic_s
    stepped = (after.wall_s - before.wall_s) - (after.boot_s - before.boot_s)
    asleep = (after.boot_s - before.boot_s) - passed
    found = list(pressure.flags())
    others = (pressure.busy_s - (after.own_s - before.own_s)) / pressure.cpu_s if pressure.cpu_s > 0 else 0.0
    if others > _OTHERS:
        found.append(f"other load {others:.0%}")
    if abs(stepped) > _STEP_S + _SLEW * passed:
        found.append(f"the wall clock was set by {stepped:+.3g} s")
    if asleep > _ASLEEP_S:
        found.append(f"the machine slept for {asleep:.3g} s")
    return tuple(found)
