"""RAPL against a fixture tree; the model against its formula written out, and its draws against scipy."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from steelyard.errors import InvalidInput
from steelyard.probe import energy
from steelyard.probe.energy import EnergyCounters, model, modelled_energy_j, processor_families, read_counters
from steelyard.records import Environment, Sample, Unavailable

HIDDEN = Environment(
    machine="x",
    cpu="Intel(R) Xeon(R) Processor @ 2.50GHz",
    cores=2,
    memory_bytes=8 << 30,
    instruction_sets=("avx", "avx2", "avx512f", "avx512_vnni"),
    accelerators=(),
    platform="Linux",
    python="3.11",
    packages={},
    time="2026-01-01T00:00:00+00:00",
)


def zone(root: Path, folder: str, name: str, energy_uj: int) -> None:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    zone(tmp_path, "intel-rapl:0:1", "dram", 100)
    zone(tmp_path, "intel-rapl:1", "psys", 7)
    return tmp_path


def test_counters_of_packages_and_memory_survive_a_wrap(powercap: Path):
    before = read_counters(powercap)
    zone(powercap, "intel-rapl:0", "package-0", 100_000)  # wrapped at 1,000,000
    zone(powercap, "intel-rapl:0:1", "dram", 50_100)
    zone(powercap, "intel-rapl:0:0", "core", 400_000)
    after = read_counters(powercap)
    assert after.since(before) == pytest.approx(0.2 + 0.05)


def test_no_counter_and_no_permission_say_so(powercap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "no RAPL zones" in read_counters(tmp_path / "none").reason

    def denied(self: Path) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return "package-0"

    monkeypatch.setattr(Path, "read_text", denied)
    found = read_counters(powercap)
    assert isinstance(found, Unavailable)
    assert "permission denied" in found.reason
    assert "intel-rapl:0" in found.reason


def test_measured_wins_over_modelled():
    before = EnergyCounters(energy_uj={"a": 0}, range_uj={"a": 10})
    after = EnergyCounters(energy_uj={"a": 2_000_000}, range_uj={"a": 10})
    found = energy.energy(1, 1, 0, HIDDEN, before=before, after=after)
    assert found.provenance == "measured"
    assert found.values.tolist() == [2.0]
    modelled = energy.energy(1, 1, 0, HIDDEN, before=Unavailable(quantity="energy_j", reason="none"), after=after)
    assert modelled.provenance == "modelled"


def test_an_unknown_processor_is_unavailable_rather_than_zero():
    alien = dataclasses.replace(HIDDEN, cpu="riscv", instruction_sets=())
    found = energy.energy(1, 1, 0, alien)
    assert isinstance(found, Unavailable)
    assert "riscv" in found.reason


def test_full_load_of_a_known_family_has_the_median_of_the_formula():
    """At u = 1 both power curves give the maximum: 2 cores x 3.69 W x PUE x error, memory left out."""
    broadwell = dataclasses.replace(HIDDEN, cpu="Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz")
    found = modelled_energy_j(10, 20, 0, broadwell, draws=40_000)
    pue = stats.triang(c=(1.135 - 1.05) / 0.55, loc=1.05, scale=0.55)
    assert np.median(found.values) == pytest.approx(10 * 2 * 3.69 * pue.median(), rel=0.02)


def test_idle_costs_the_idle_power():
    broadwell = dataclasses.replace(HIDDEN, cpu="Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz")
    idle, full = (modelled_energy_j(10, used, 0, broadwell) for used in (0, 20))
    assert full.values / idle.values == pytest.approx(np.full(4000, 3.69 / 0.713))


def test_the_interval_is_about_a_factor_of_two_either_way():
    found = modelled_energy_j(1, 2, 10**9, HIDDEN)
    low, middle, high = np.quantile(found.values, [0.05, 0.5, 0.95])
    assert 1.8 < high / middle < 2.8
    assert 1.8 < middle / low < 2.8
    assert "Cascade Lake or Ice Lake" in found.note
    assert "the model's own error" in found.note


def test_one_seed_makes_the_ratio_of_equally_busy_runs_the_ratio_of_times():
    slow, fast = modelled_energy_j(3, 6, 10**8, HIDDEN, seed=4), modelled_energy_j(1, 2, 10**8, HIDDEN, seed=4)
    assert slow.values / fast.values == pytest.approx(np.full(4000, 3.0))


def test_error_draws_have_the_mean_absolute_error_asked_for():
    sigma = energy.error_sigma(0.4)
    expected = stats.lognorm(s=sigma).expect(lambda x: abs(x - 1))
    assert expected == pytest.approx(0.4, abs=1e-3)


def test_rank_correlation_agrees_with_scipy_with_and_without_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 200).astype(float), rng.normal(size=200)
    assert model._rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert model._rank_correlation(np.ones(200), y) == 0.0


@pytest.mark.parametrize(
    ("cpu", "sets", "families"),
    [
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", (), ("Cascade Lake",)),
        ("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", (), ("Skylake",)),
        ("Intel(R) Xeon(R) Platinum 8488C", (), ("Sapphire Rapids",)),
        ("Intel(R) Xeon(R) CPU E5-2666 v3 @ 2.90GHz", (), ("Haswell",)),
        ("AMD EPYC 7R32", (), ("EPYC 2nd Gen",)),
        ("AMD EPYC 7763 64-Core Processor", (), ("EPYC 3rd Gen",)),
        ("AMD EPYC 9R14", (), ("EPYC 4th Gen",)),
        ("Intel(R) Xeon(R) Processor", ("avx2", "avx512f", "avx512_vnni", "amx_int8"), ("Sapphire Rapids", "Emerald Rapids")),
        ("AMD EPYC Processor", ("avx2",), ("EPYC 1st Gen", "EPYC 2nd Gen", "EPYC 3rd Gen")),
        ("aarch64", ("neon",), ("Graviton",)),
        ("mystery", (), ()),
    ],
)  # fmt: skip
def test_families(cpu: str, sets: tuple[str, ...], families: tuple[str, ...]):
    found = processor_families(dataclasses.replace(HIDDEN, cpu=cpu, instruction_sets=sets))
    assert found == families
    assert set(found) <= set(model._coefficients()["families"])


def test_accelerators_are_said_to_be_left_out():
    found = modelled_energy_j(1, 1, 0, dataclasses.replace(HIDDEN, accelerators=("NVIDIA T4",)))
    assert isinstance(found, Sample)
    assert "accelerators not included" in found.note


@pytest.mark.parametrize(("seconds", "cpu"), [(0, 1), (math.nan, 1), (1, -1), (math.inf, 1)])
def test_times_that_make_no_sense_are_refused(seconds: float, cpu: float):
    with pytest.raises(InvalidInput):
        modelled_energy_j(seconds, cpu, 0, HIDDEN)
