"""A fit to a simulated counter: a sysfs tree that a known model of power moves on while scripted loads run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.measure.fit_energy import IDLE, Load, designed_loads, fit_energy
from steelyard.measure.loads import KINDS, Loads
from steelyard.probe.energy import calibrated_power_w, fit_power, read_counters
from steelyard.probe.host import environment
from steelyard.records import Environment, Unavailable, decode, encode
from steelyard.store import read_calibration, write_calibration

TRUE = {"rest": 12.0, "busy_cores": 4.0, "moved_bytes_per_s": 0.5e-9, "fp32_macs_per_s": 0.1e-9}
DOES = {
    "integer": {},
    "floating": {},
    "memory": {"moved_bytes_per_s": 8e9},
    "gemm fp32": {"fp32_macs_per_s": 30e9},
}
WRAP_UJ = 400_000_000  # a small counter, so that it wraps while the loads run


class Machine:
    """Scripted processes, a clock that only sleep moves, and RAPL files that follow the true power."""

    def __init__(self, root: Path, noise: float = 0.0) -> None:
        self.root, self.now, self.working, self.noise = root, 0.0, Load(kind=IDLE), noise
        self._uj, self._rng = 350_000_000.0, np.random.default_rng(3)
        zone = root / "intel-rapl:0"
        zone.mkdir(parents=True)
        (zone / "name").write_text("package-0\n")
        (zone / "max_energy_range_uj").write_text(f"{WRAP_UJ}\n")
        self._write()

    def kinds(self) -> Sequence[str]:
        return list(DOES)

    def start(self, load: Load, seconds: float) -> None:
        self.working = load

    def results(self) -> Sequence[Mapping[str, Any]]:
        done = self._rates(self.working)
        self.working = Load(kind=IDLE)
        return done

    def sleep(self, seconds: float) -> None:
        rates = self._rates(self.working)
        watts = TRUE["rest"] + sum(TRUE[name] * found[name] for found in rates for name in TRUE if name in found)
        self.now += seconds
        self._uj += 1e6 * watts * seconds * (1 + self.noise * self._rng.standard_normal())
        self._write()

    def clock(self) -> float:
        return self.now

    def _rates(self, load: Load) -> list[dict[str, Any]]:
        if load.kind == IDLE:
            return []
        done = {name: amount * load.duty for name, amount in DOES[load.kind].items()}
        return [{"busy_cores": load.duty, "clock_ghz": None, **done}] * load.processes

    def _write(self) -> None:
        (self.root / "intel-rapl:0" / "energy_uj").write_text(f"{int(self._uj % WRAP_UJ)}\n")


@pytest.fixture
def host() -> Environment:
    return dataclasses.replace(environment(()), cores=4)


def fitted(tmp_path: Path, host: Environment, noise: float = 0.0, budget_s: float = 60.0):
    machine = Machine(tmp_path / "powercap", noise)
    return fit_energy(
        host,
        budget_s,
        machine,
        read=lambda: read_counters(machine.root),
        sleep=machine.sleep,
        clock=machine.clock,
    )


def test_the_fit_finds_what_the_counter_was_moved_by(tmp_path: Path, host: Environment) -> None:
    found = fitted(tmp_path, host)
    assert found.model.coefficients == pytest.approx(TRUE, rel=1e-4)
    assert found.calibration.watts.min() == pytest.approx(TRUE["rest"], rel=1e-4)
    assert found.flaw == ""


def test_the_error_on_an_unseen_kind_is_what_leaving_it_out_gives(tmp_path: Path, host: Environment) -> None:
    """Memory alone tells what moved bytes draw: left out, its column is 0, and the error is the power that then lacks."""
    found = fitted(tmp_path, host)
    kinds = np.array(found.calibration.kinds)
    column = found.calibration.columns.index("moved_bytes_per_s")
    moved = found.calibration.rates[kinds == "memory", column]
    lacking = moved * TRUE["moved_bytes_per_s"] / found.calibration.watts[kinds == "memory"]
    assert found.model.errors["memory"] == pytest.approx(lacking.mean(), rel=1e-3)
    assert found.model.errors["integer"] == pytest.approx(0.0, abs=1e-4)


def test_noise_of_the_counter_is_the_least_the_held_out_error_can_be(tmp_path: Path, host: Environment) -> None:
    found = fitted(tmp_path, host, noise=0.05)
    assert found.model.errors["integer"] > 0.01
    assert found.model.coefficients["busy_cores"] == pytest.approx(TRUE["busy_cores"], rel=0.2)


def test_a_fit_no_better_than_the_published_figures_says_so(tmp_path: Path, host: Environment) -> None:
    found = fitted(tmp_path, host)
    random = np.random.default_rng(0).uniform(1, 300, len(found.calibration.watts))
    wild = dataclasses.replace(found.calibration, watts=random)
    assert (
        "published figures are taken to miss by 40%"
        in dataclasses.replace(found, calibration=wild, model=fit_power(wild)).flaw
    )


def test_a_machine_that_others_filled_is_not_fitted(tmp_path: Path, host: Environment) -> None:
    """The counter stood at full power all the while: no load is told from rest, and the error would look splendid."""
    found = fitted(tmp_path, host)
    full = dataclasses.replace(found.calibration, watts=np.full(len(found.calibration.watts), 60.0))
    busy = dataclasses.replace(found, calibration=full, model=fit_power(full))
    assert busy.model.error < 0.01
    assert "hardly answers to load (1.00 times" in busy.flaw


def test_without_a_counter_or_time_the_cure_is_said(tmp_path: Path, host: Environment) -> None:
    machine = Machine(tmp_path / "powercap")
    nothing = Unavailable(quantity="energy_j", reason="no RAPL zones")
    with pytest.raises(InvalidInput, match=r"no RAPL zones; energies stay modelled"):
        fit_energy(host, 60.0, machine, read=lambda: nothing)
    with pytest.raises(InvalidInput, match=r"give --budget \d+s or more"):
        fitted(tmp_path / "short", host, budget_s=3.0)


def test_the_design_has_every_kind_at_every_shape_and_idle_between() -> None:
    loads = designed_loads(("integer", "memory"), 8)
    assert {(load.processes, load.duty) for load in loads if load.kind == "memory"} == {
        (1, 1),
        (4, 1),
        (8, 0.5),
        (8, 1),
    }
    idle = [i for i, load in enumerate(loads) if load.kind == IDLE]
    assert len(idle) == 3
    assert idle[0] == 0
    assert max(np.diff(idle)) < 5
    assert loads == designed_loads(("integer", "memory"), 8)


def test_a_kept_calibration_gives_calibrated_power_with_its_error_as_spread(
    tmp_path: Path, host: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    calibration = fitted(tmp_path, host).calibration
    assert read_calibration(host.machine) is None
    path = write_calibration(calibration)
    assert path == tmp_path / "state/steelyard/energy" / f"{host.machine}.json"
    kept = read_calibration(host.machine)
    assert kept is not None
    assert encode(kept) == encode(decode(encode(calibration)))
    power = calibrated_power_w(kept, {"busy_cores": 2.0, "fp32_macs_per_s": 40e9})
    model = fit_power(kept, ("busy_cores", "fp32_macs_per_s"))
    assert power.provenance == "calibrated"
    assert power.value == pytest.approx(model.watts({"busy_cores": 2.0, "fp32_macs_per_s": 40e9}), rel=0.05)
    assert np.abs(power.values / power.value - 1).mean() == pytest.approx(model.error, rel=0.05)
    assert f"missed by {model.error:.0%}" in power.note
    path.write_text("{}")
    assert read_calibration(host.machine) is None  # a damaged one stops nothing


@pytest.mark.parametrize("kind", ["integer", "floating", "gemm fp32"])
def test_each_kind_of_work_counts_what_it_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    loads = Loads()
    assert loads.ready(kind)
    found = loads.run(kind, 0.1, 0.5)
    assert 0 < found["busy_cores"] < 4
    assert set(found) - {"busy_cores", "clock_ghz"} == set(KINDS[kind]().does)
    assert all(found[name] > 0 for name in KINDS[kind]().does)
