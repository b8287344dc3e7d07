"""Energy: read from the machine's counters where there are some, else fitted to it, else modelled, as a distribution.

Four labels stand with every number, and are never mixed:

==============  =========================================================================================
``measured``    counters of the processor packages, their memory and GPUs (``counters``, ``windows``): whatever else
                ran meanwhile included, without power supply, fans and cooling
``calibrated``  a model fitted to this machine's own counters earlier (``calibrated``), with its error on kinds of load
                it had not seen; the same scope as the counters
``modelled``    published power figures of processors like this one (``model``), at the building's meter; simple models of
                this kind miss counters by about 40 % on average, so expect a factor of two either way
unknown         none of these works: `Unavailable` with the reason, never a zero
==============  =========================================================================================

Models tell a *ratio* of two runs well: drawn with one seed, every factor is the same draw in both and cancels. At equal
utilisation and memory the ratio of energies *is* the ratio of times.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.probe.energy.calibrated import PowerModel, calibrated_power_w, fit_power
from steelyard.probe.energy.counters import EnergyCounters, read_counters
from steelyard.probe.energy.model import (
    error_sigma,
    modelled_energy_j,
    modelled_error,
    modelled_power_w,
    processor_families,
)
from steelyard.probe.energy.windows import Window, above_idle, measured_energy, windows_for
from steelyard.records import EnergyCalibration, Environment, Sample, Unavailable

__all__ = [
    "EnergyCounters",
    "PowerModel",
    "Window",
    "above_idle",
    "calibrated_power_w",
    "energy",
    "error_sigma",
    "fit_power",
    "measured_energy",
    "modelled_energy_j",
    "modelled_error",
    "modelled_power_w",
    "processor_families",
    "read_counters",
    "windows_for",
]


def energy(
    seconds: float,
    cpu_seconds: float,
    memory_bytes: int,
    environment: Environment,
    *,
    before: EnergyCounters | Unavailable | None = None,
    after: EnergyCounters | Unavailable | None = None,
    calibration: EnergyCalibration | None = None,
    draws: int = 4000,
    seed: int = 0,
) -> Sample | Unavailable:
    """The energy of a stretch of work: measured if both counter readings are there, else calibrated, else modelled.

    `Unavailable` where none works: a processor for whose kind no power figures are published.
    """
    if isinstance(before, EnergyCounters) and isinstance(after, EnergyCounters):
        note = f"counters of {after.words}: other processes included; without supply, fans and cooling"
        return Sample(quantity="energy_j", unit="J", values=np.array([after.since(before)]), note=note)
    if not seconds > 0:
        raise InvalidInput(f"energy needs a positive time, got {seconds} s")
    if calibration is not None:
        power = calibrated_power_w(calibration, {"busy_cores": cpu_seconds / seconds}, draws, seed)
        return dataclasses.replace(power, quantity="energy_j", unit="J", values=seconds * power.values)
    if not processor_families(environment):
        reason = f"no energy counter, and no published power figures for the processor {environment.cpu!r}"
        return Unavailable(quantity="energy_j", reason=reason)
    return modelled_energy_j(seconds, cpu_seconds, memory_bytes, environment, draws, seed)
