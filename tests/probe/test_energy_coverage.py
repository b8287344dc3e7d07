"""Ranges of modelled energies hold the truth of machines drawn at random; what real counters showed beside the model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.coverage.energy import HIDDEN, MEMORY, NAMED, SECONDS, true_energies_j
from scipy.stats import binom

from steelyard.probe.energy import fit_power, modelled_energy_j, modelled_power_w
from steelyard.probe.host import environment
from steelyard.records import EnergyCalibration, Environment

PUBLISHED = json.loads((Path(__file__).parent.parent / "fixtures/energy/published_loads.json").read_text())["machines"]
MACHINES = 2000


@pytest.mark.parametrize("host", [NAMED, HIDDEN], ids=["named", "hidden"])
@pytest.mark.parametrize("busy", [0.0, 0.5, 1.0])
def test_nine_machines_in_ten_lie_in_the_range(host: Environment, busy: float) -> None:
    """Machines by SciPy's distributions and the formula written out again; within luck of one in ten thousand."""
    low, high = np.quantile(modelled_energy_j(SECONDS, busy * SECONDS * host.cores, MEMORY, host).values, [0.05, 0.95])
    truths = true_energies_j(np.random.default_rng(21), host, busy, MACHINES)
    held = int(np.sum((truths >= low) & (truths <= high)))
    # the range itself is made of 4,000 draws: it may be off by one per cent
    assert binom.ppf(1e-4, MACHINES, 0.89) <= held <= binom.ppf(1 - 1e-4, MACHINES, 0.91)


def test_a_world_of_larger_errors_is_not_covered() -> None:
    """The test above can fail: where models err by two thirds, the range of 40 % holds too few."""
    low, high = np.quantile(modelled_energy_j(SECONDS, SECONDS * 4, MEMORY, NAMED).values, [0.05, 0.95])
    truths = true_energies_j(np.random.default_rng(22), NAMED, 1.0, MACHINES, sigma=0.7)
    assert np.mean((truths >= low) & (truths <= high)) < 0.8


def test_real_counters_lie_in_most_of_the_modelled_ranges() -> None:
    """Four machines of others, 60 loads: RAPL sees packages alone, the model is of whole servers at the meter."""
    inside = [
        low <= watts <= high
        for cpu, series in PUBLISHED.items()
        for name in ("all cores", "some cores")
        for load, watts in series.get(name, [])
        for low, high in [np.quantile(power(cpu, series["threads"], load), [0.05, 0.95])]
    ]
    assert len(inside) == 60
    assert np.mean(inside) > 0.7  # 0.78 was found: fewer than the 0.9 of a world that is as stated


def power(cpu: str, threads: int, load: float) -> np.ndarray:
    sets = ("avx2", "avx512f") if "EPYC" in cpu else ("avx2",)
    host = dataclasses.replace(environment(()), cpu=cpu, cores=threads, instruction_sets=sets)
    return modelled_power_w(load / 100 * threads, 0, host).values


@pytest.mark.parametrize("cpu", [name for name, series in PUBLISHED.items() if "some cores" in series])
def test_a_fit_to_real_counters_errs_less_on_the_other_kind_than_published_figures(cpu: str) -> None:
    series = PUBLISHED[cpu]
    rows = [(kind, load, watts) for kind in ("all cores", "some cores") for load, watts in series[kind]]
    calibration = EnergyCalibration(
        machine="x",
        cpu=cpu,
        source="counters of packages",
        columns=("busy_cores",),
        rates=np.array([[load / 100 * series["threads"]] for _, load, _ in rows]),
        watts=np.array([watts for *_, watts in rows]),
        kinds=tuple(kind for kind, *_ in rows),
        seconds=np.full(len(rows), 30.0),
        time="2025-01-14",
    )
    assert fit_power(calibration).error < 0.3
