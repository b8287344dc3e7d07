"""Peak memory by role, and what the machine did meanwhile, derived from a measurement's readings.

Plain values first, then the same in words: the terminal, the page, the charts and the JSON show the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.records import Measurement, Sample, Unavailable
from steelyard.report import derive, numbers

__all__ = ["ROLE_WORDS", "STEAL", "Stack", "machine_flags", "machine_gaps", "machine_rows", "stack_words", "stacks"]

TOLERANCE = 0.05  # of the peak: within it the roles are said to add up

CLOCK_FALL = 0.05
STEAL = 0.02

ROLE_WORDS = {
    "weights": "weights, packed copies included",
    "activations": "activations, inputs and outputs",
    "workspace": "workspace: scratch memory and what arenas round up",
    "runtime": "runtime: interpreter, libraries, engine",
    "freed": "freed, and kept by the allocator",
}
_SERIES = {  # quantity: words, unit shown
    "process_cores": "Cores busy, the model's process",
    "core_busy_fraction": "Cores busy, the whole machine",
    "steal_fraction": "Time stolen by the hypervisor",
    "involuntary_switches_per_s": "Times made to yield its core",
    "clock_hz": "Processor clock",
    "temperature_c": "Processor temperature",
    "gpu_busy_fraction": "GPU busy",
    "gpu_memory_bytes": "GPU memory",
    "gpu_clock_hz": "GPU clock",
    "gpu_temperature_c": "GPU temperature",
    "gpu_power_w": "GPU power",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Bytes by role at the peak of one batch size, held against the kernel's own peak."""

    batch: int
    roles: dict[str, float | Unavailable]
    peak: float | Unavailable

    @property
    def total(self) -> float:
        """The sum of the roles that could be read."""
        return sum(size for size in self.roles.values() if not isinstance(size, Unavailable))

    @property
    def unattributed(self) -> float | None:
        """Bytes of the peak that no role explains; below zero where the roles claim more than was resident."""
        return None if isinstance(self.peak, Unavailable) else self.peak - self.total

    @property
    def adds_up(self) -> bool | None:
        """Whether the roles meet the peak within `TOLERANCE`; None without a peak."""
        if self.unattributed is None or isinstance(self.peak, Unavailable):
            return None
        return abs(self.unattributed) <= TOLERANCE * self.peak


def stacks(measurement: Measurement | None) -> tuple[Stack, ...]:
    """One for each batch size, smallest first."""
    readings = [r for r in (measurement.readings if measurement else ()) if r.quantity == "memory_role_bytes"]
    batches = sorted({int(r.conditions["batch"] or 0) for r in readings if "role" in r.conditions})
    return tuple(
        Stack(
            batch=batch,
            roles={str(r.conditions["role"]): _size(r) for r in readings if r.conditions.get("batch") == batch},
            peak=_size(derive.reading(measurement, "memory_peak_bytes", batch=batch)),
        )
        for batch in batches
    )


def _size(reading: Sample | Unavailable) -> float | Unavailable:
    return reading if isinstance(reading, Unavailable) else reading.value


def stack_words(stack: Stack) -> str:
    """How well the roles meet the kernel's peak, in one sentence."""
    if isinstance(stack.peak, Unavailable) or stack.unattributed is None:
        return f"no peak to hold them against: {stack.peak.reason if isinstance(stack.peak, Unavailable) else ''}"
    share = abs(stack.unattributed) / stack.peak
    verdict = "the roles add up" if stack.adds_up else "THE ROLES DO NOT ADD UP"
    how = "that no role explains" if stack.unattributed >= 0 else "more than was resident"
    return f"{verdict}: {numbers.size(abs(stack.unattributed))} ({share:.1%} of the peak) {how}"


def machine_rows(measurement: Measurement) -> tuple[tuple[str, str, str], ...]:
    """What the monitor saw while the timed run lasted: name, mean, range over its ticks."""
    return tuple(_machine_rows(measurement))


def _machine_rows(measurement: Measurement) -> Iterator[tuple[str, str, str]]:
    for quantity, words in _SERIES.items():
        series = [s for s in measurement.all(quantity) if s.times_s is not None]
        if quantity == "core_busy_fraction" and series:
            yield _row(words, np.sum([s.values for s in series], axis=0), "cores")
        else:
            for one in series:
                yield _row(words + _which(one), one.values, one.unit)


def machine_gaps(measurement: Measurement) -> tuple[str, ...]:
    """What this machine did not show of itself, and why."""
    missing = (r for r in measurement.readings if isinstance(r, Unavailable) and r.quantity in _SERIES)
    return tuple(f"{_SERIES[reading.quantity]}: unavailable, {reading.reason}." for reading in missing)


def _which(series: Sample) -> str:
    return f" {series.conditions['gpu']}" if "gpu" in series.conditions else ""


def _row(words: str, values: Sequence[float] | np.ndarray, unit: str) -> tuple[str, str, str]:
    low, mean, high = float(np.min(values)), float(np.mean(values)), float(np.max(values))
    return words, numbers.quantity(mean, unit), f"{numbers.quantity(low, unit)} to {numbers.quantity(high, unit)}"


def machine_flags(measurement: Measurement) -> tuple[str, ...]:
    """Reasons to doubt times taken meanwhile: steal, a CPU quota that bit, a clock that fell, a GPU that was slowed."""
    return tuple(flag for sample in measurement.readings if isinstance(sample, Sample) for flag in _flags(sample))


def _flags(sample: Sample) -> Iterator[str]:
    mean = float(sample.values.mean()) if sample.values.size else 0.0
    if sample.quantity == "steal_fraction" and mean > STEAL:
        yield f"steal {mean:.1%}"
    elif sample.quantity == "throttled_s" and sample.value > 0:
        yield f"held back by a CPU quota for {numbers.seconds(sample.value)}"
    elif sample.quantity == "gpu_slowed" and mean > 0:
        yield f"GPU{_which(sample)} slowed by its driver for {mean:.0%} of the run"
    elif sample.quantity in ("clock_hz", "gpu_clock_hz") and _fall(sample) > CLOCK_FALL:
        yield f"{_SERIES[sample.quantity]}{_which(sample)} fell by {_fall(sample):.0%}"


def _fall(series: Sample) -> float:
    """By how much the last third of a series lies below its first, as a share."""
    third = max(1, len(series.values) // 3)
    first, last = np.median(series.values[:third]), np.median(series.values[-third:])
    return float(1 - last / first) if first > 0 else 0.0
