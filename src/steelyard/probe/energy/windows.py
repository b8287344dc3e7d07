"""Measured energy: several windows of work between readings of a counter, each long against the counter's own pace.

A counter that moves every tenth of a second cannot tell what 30 ms took. A window is read to within one step of the
counter at either end; the share of the window that this makes up is its resolution, and is said with the reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.probe.energy.counters import GPU_PERIOD_S, EnergyCounters
from steelyard.records import Sample, Scalar, Unavailable

__all__ = ["Window", "above_idle", "measured_energy", "windows_for"]

STEPS = 50  # of the counter in a window, for a resolution of 2 %
MOST_WINDOWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of work between two readings: how long it was, how often the work was done."""

    before: EnergyCounters
    after: EnergyCounters
    seconds: float
    calls: int = 1

    @property
    def energy_j(self) -> float:
        """Joules over all counters."""
        return self.after.since(self.before)


def windows_for(seconds: float, period_s: float) -> int:
    """How many windows fit into `seconds` so that each spans `STEPS` steps of the counter; 1 to 10.

    >>> windows_for(7.5, 0.001), windows_for(7.5, 0.1), windows_for(20, 0.1)
    (10, 1, 4)
    """
    return int(np.clip(seconds // (STEPS * period_s), 1, MOST_WINDOWS))


def measured_energy(windows: Sequence[Window], conditions: Mapping[str, Scalar] | None = None) -> Sample | Unavailable:
    """Joules of one call, a reading for each window; the note says what was counted and how finely.

    `Unavailable` where a counter did not move at all: its step is longer than the window, and 0 J would be a lie. Raises
    `InvalidInput` for no window, or one without calls or time.
    """
    if not windows or min(w.calls for w in windows) < 1 or not min(w.seconds for w in windows) > 0:
        raise InvalidInput("measured energy needs windows that hold a call and take time")
    shortest = min(w.seconds for w in windows)
    period = windows[0].after.period_s
    if min(w.energy_j for w in windows) <= 0:
        reason = f"the counter did not move in {shortest:.3g} s; it moves every {period:g} s: give a longer --budget"
        return Unavailable(quantity="energy_j", reason=reason, conditions=conditions or {})
    return Sample(
        quantity="energy_j",
        unit="J",
        values=np.array([w.energy_j / w.calls for w in windows]),
        conditions=conditions or {},
        note=_note(windows[0].after, shortest, len(windows)),
    )


def above_idle(windows: Sequence[Window], idle: Window, conditions: Mapping[str, Scalar] | None = None) -> Sample:
    """Joules of one call over what the resting machine draws in the same time; the total stays a reading of its own."""
    idle_w = idle.energy_j / idle.seconds
    return Sample(
        quantity="energy_above_idle_j",
        unit="J",
        values=np.array([(w.energy_j - idle_w * w.seconds) / w.calls for w in windows]),
        conditions=conditions or {},
        note=f"above {idle_w:.3g} W of the machine at rest, read for {idle.seconds:.2g} s just before",
    )


def _note(counters: EnergyCounters, shortest: float, count: int) -> str:
    resolution = counters.period_s / shortest
    scope = f"counters of {counters.words}, other processes included; without power supply and cooling"
    how = f"{count} window(s) of {shortest:.2g} s, resolution {resolution:.1%}"
    gpu = counters.period_s >= GPU_PERIOD_S
    partial = "; a GPU's sensor may see only a quarter of the time: short kernels are not resolved" if gpu else ""
    coarse = "; too short for the counter: give a longer --budget" if resolution > 1 / STEPS else ""
    return f"{scope}; {how}{partial}{coarse}"
