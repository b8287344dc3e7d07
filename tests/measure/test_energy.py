"""Windows of a scripted run between scripted counters, and which of the three origins an energy comes from."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.measure.energy import Sustained, energy_readings, sustain
from steelyard.probe.energy import EnergyCounters, energy, modelled_power_w
from steelyard.probe.host import environment
from steelyard.records import EnergyCalibration, Plan, Sample, Step, Unavailable

HOST = dataclasses.replace(environment(()), cpu="AMD EPYC 7763 64-Core Processor", cores=4)
NONE = Unavailable(quantity="energy_j", reason="no energy counter on this host")
REST_W, BUSY_W = 20.0, 60.0


class Machine:
    """A child that works at 60 W for as long as it is asked, in calls of 10 ms; a machine that rests at 20 W."""

    def __init__(self, *, counter: bool = True) -> None:
        self.counter, self.uj, self.calls = counter, 0, 0

    def read(self) -> EnergyCounters | Unavailable:
        if not self.counter:
            return NONE
        return EnergyCounters(energy_uj={"package-0": self.uj}, range_uj={"package-0": 1 << 40})

    def rest(self, seconds: float) -> None:
        self.uj += round(1e6 * REST_W * seconds)

    def call(self, method: str, *, batch: int, seconds: float) -> dict[str, Any]:
        assert (method, batch) == ("sustained", 1)
        count = round(seconds / 0.01)
        before = self.read()
        self.uj += round(1e6 * BUSY_W * 0.01 * count)
        self.calls += count
        times = np.full(count, 0.01)
        return {
            "times": times,
            "cpu_s": 4 * 0.01 * count,
            "peak_bytes": 10**8,
            "clock_ghz": None,
            "counters": (before, self.read()),
        }


def sustained(machine: Machine, seconds: float = 2.0) -> Sustained:
    return sustain(machine, seconds, read=machine.read, rest=machine.rest)  # type: ignore[arg-type]


def by_name(readings: Any) -> dict[str, Any]:
    return {reading.quantity: reading for reading in readings}


def test_a_counter_is_read_in_windows_around_the_calls_alone() -> None:
    run = sustained(Machine())
    assert len(run.windows) == 10
    assert len(run.times) == 200
    found = by_name(energy_readings(run, HOST))
    assert found["energy_j"].provenance == "measured"
    assert found["energy_j"].values == pytest.approx(np.full(10, 0.6))
    assert found["energy_call_s"].values == pytest.approx(np.full(10, 0.01))


def test_energy_above_idle_stands_beside_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.4])  # the rest that was asked for takes its time
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    found = by_name(energy_readings(sustained(Machine()), HOST))
    assert found["energy_above_idle_j"].values == pytest.approx(np.full(10, (BUSY_W - REST_W) * 0.01))


def test_without_a_counter_one_run_is_modelled_at_its_utilisation() -> None:
    machine = Machine(counter=False)
    run = sustained(machine)
    assert run.windows == ()
    assert run.idle is None
    found = by_name(energy_readings(run, HOST))
    assert found["energy_j"].provenance == "modelled"
    assert found["energy_j"].values == pytest.approx(0.01 * modelled_power_w(4.0, 10**8, HOST).values)
    assert "energy_above_idle_j" not in found


def test_a_processor_nobody_knows_is_unknown_with_the_reason() -> None:
    alien = dataclasses.replace(HOST, cpu="riscv", instruction_sets=())
    (only,) = energy_readings(sustained(Machine(counter=False)), alien)
    assert isinstance(only, Unavailable)
    assert only.conditions == {"batch": 1}
    assert "'riscv'" in only.reason


def calibration() -> EnergyCalibration:
    """5 W at rest, 10 W a core, 1 W for 10 G int8 multiply-adds a second."""
    rates = np.array([[0, 0], [1, 0], [4, 0], [1, 5e9], [4, 2e10]], dtype=float)
    return EnergyCalibration(
        machine=HOST.machine,
        cpu=HOST.cpu,
        source="counters of 1 package",
        columns=("busy_cores", "int8_macs_per_s"),
        rates=rates,
        watts=5 + rates @ [10, 1e-10],
        kinds=("idle", "integer", "integer", "gemm int8", "gemm int8"),
        seconds=np.full(5, 5.0),
        time="2026-01-31T00:00:00+00:00",
    )


def test_a_calibration_is_used_with_the_macs_of_the_plans_data_type() -> None:
    counted = (Sample(quantity="macs", unit="MAC", values=np.array([1e8])),)
    run, made = sustained(Machine(counter=False)), calibration()
    quantised, plain = (
        by_name(energy_readings(run, HOST, calibration=made, counted=counted, plan=plan))["energy_j"]
        for plan in (Plan(steps=(Step(name="nncf_int8"),)), Plan())
    )
    assert quantised.provenance == "calibrated"
    assert quantised.value == pytest.approx(0.01 * (5 + 4 * 10 + 1e8 / 0.01 * 1e-10), rel=0.03)
    assert plain.value < quantised.value
    assert "calibrated on this machine's counters of 1 package (2026-01-31)" in quantised.note


def test_any_code_s_energy_may_be_calibrated() -> None:
    found = energy(2.0, 4.0, 0, HOST, before=NONE, after=NONE, calibration=calibration())
    assert found.provenance == "calibrated"
    assert found.value == pytest.approx(2.0 * (5 + 2 * 10), rel=0.1)
    with pytest.raises(InvalidInput, match="positive time"):
        energy(0.0, 0.0, 0, HOST, calibration=calibration())


def test_a_counter_that_stands_still_gives_way_to_the_model_and_says_so() -> None:
    machine = Machine()
    run = sustained(machine)
    still = tuple(dataclasses.replace(window, after=window.before) for window in run.windows)
    found = by_name(energy_readings(dataclasses.replace(run, windows=still), HOST))
    assert found["energy_j"].provenance == "modelled"
    assert "not measured: the counter did not move" in found["energy_j"].note
