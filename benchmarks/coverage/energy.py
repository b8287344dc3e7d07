"""Energy, carbon and ratios of energies: does the range that is shown hold the truth of a machine drawn at random?

Truths are drawn here by SciPy's distributions, with the formula written out again, and not by the code under test.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from importlib import resources

import numpy as np
from scipy import stats

from benchmarks.coverage.asked import Floats, Row, Section, following
from steelyard.probe.carbon import carbon, grid_factor
from steelyard.probe.energy import modelled_energy_j, processor_families
from steelyard.probe.host import environment
from steelyard.records import Environment
from steelyard.stats.draws import contrast_interval, product_ratio_interval

__all__ = ["SECTIONS", "true_energies_j"]

TABLE = json.loads(resources.files("steelyard.probe").joinpath("power.json").read_text())
NAMED = dataclasses.replace(environment(()), cpu="AMD EPYC 7763 64-Core Processor", cores=4)
HIDDEN = dataclasses.replace(NAMED, cpu="AMD EPYC", instruction_sets=("avx2",))
SIGMA = 0.466  # of the log of a median-1 log-normal whose mean absolute error is 0.4
SECONDS, MEMORY = 30.0, 2 * 10**9


def true_energies_j(rng: np.random.Generator, host: Environment, busy: float, n: int, sigma: float = SIGMA) -> Floats:
    """Energies of `n` machines drawn from what the model states: P = PUE x error x (cores x power curve + DRAM)."""
    rows = [TABLE["families"][name] for name in processor_families(host)]
    chosen = rng.integers(len(rows), size=n)
    idle, most = (np.array([row[key] for row in rows])[chosen] for key in ("idle_w", "max_w"))
    weight, pue = rng.uniform(size=n), TABLE["pue"]
    curve = weight * busy + (1 - weight) * (2 * busy - busy**1.4)
    dram = rng.uniform(0, TABLE["dram_w_per_gb"]["value"], n) * MEMORY / 1e9
    shape = (pue["mode"] - pue["low"]) / (pue["high"] - pue["low"])
    overhead = stats.triang(shape, pue["low"], pue["high"] - pue["low"]).rvs(n, random_state=rng)
    error = stats.lognorm(sigma).rvs(n, random_state=rng)
    return np.asarray(SECONDS * overhead * error * (host.cores * (idle + (most - idle) * curve) + dram))


def energy_rows(machines: int = 20_000) -> Iterator[Row]:
    rng = np.random.default_rng(11)
    for name, host in (("named", NAMED), ("hidden: three families", HIDDEN)):
        for busy in (0.0, 0.3, 1.0):
            drawn = modelled_energy_j(SECONDS, busy * SECONDS * host.cores, MEMORY, host).values
            low, high = np.quantile(drawn, [0.05, 0.95])
            shares = [_inside(true_energies_j(rng, host, busy, machines, s), low, high) for s in (SIGMA, 0.7)]
            yield name, busy, *shares, f"{high / low:.1f}"


def carbon_rows(machines: int = 20_000) -> Iterator[Row]:
    rng = np.random.default_rng(12)
    energy = modelled_energy_j(SECONDS, SECONDS * NAMED.cores, MEMORY, NAMED)
    for region in ("SE", "DE", "europe-north2"):
        factor = grid_factor(region)
        low, high = np.quantile(carbon(energy, region).values, [0.05, 0.95])
        z = rng.standard_normal(machines)
        side = np.where(z < 0, np.log(factor.g_per_kwh / factor.low), np.log(factor.high / factor.g_per_kwh)) / 1.645
        truth = true_energies_j(rng, NAMED, 1.0, machines) / 3.6e6 * factor.g_per_kwh * np.exp(side * z)
        yield region, _inside(truth, low, high), f"{high / low:.1f}"


def ratio_rows(repeats: int = 1000) -> Iterator[Row]:
    """One machine a repeat: its own powers for both models, and ten rounds of turns that saw the ratio of times."""
    for first, second in ((0.8, 0.8), (0.5, 1.0), (0.25, 1.0)):
        yield first, second, *_modelled_ratio(first, second, repeats), _measured_ratio(repeats)


def _modelled_ratio(first: float, second: float, repeats: int) -> tuple[str, str]:
    drawn = [modelled_energy_j(SECONDS, b * SECONDS * 4, MEMORY, HIDDEN, 1000).values for b in (first, second)]
    held = separate = 0
    for repeat in range(repeats):
        rng = np.random.default_rng([13, repeat])
        truths = [true_energies_j(np.random.default_rng([14, repeat]), HIDDEN, b, 1)[0] for b in (first, second)]
        logs = np.log(0.5) + 0.01 * rng.standard_normal(10)
        truth = 0.5 * truths[1] / truths[0]
        _, low, high = product_ratio_interval(logs, drawn[0], drawn[1], shared=True, level=0.9)
        held += low <= truth <= high
        apart = rng.permutation(drawn[1]) / drawn[0] * 0.5
        low, high = np.quantile(apart, [0.05, 0.95])
        separate += low <= truth <= high
    return f"{held / repeats:.3f}", f"{separate / repeats:.3f}"


def _measured_ratio(repeats: int) -> str:
    """Measured powers: ten windows each with a spread of 3 %, and ten rounds of times."""
    rng, held = np.random.default_rng(15), 0
    for _ in range(repeats):
        logs = np.log(0.5) + 0.01 * rng.standard_normal(10)
        before, after = (w * np.exp(0.03 * rng.standard_normal(10)) for w in (40, 60))
        _, low, high = product_ratio_interval(logs, before, after, shared=False, level=0.9)
        held += low <= 0.75 <= high
    return f"{held / repeats:.3f}"


def window_rows(repeats: int = 4000) -> Iterator[Row]:
    rng = np.random.default_rng(16)
    for windows in (2, 4, 10):
        for follow in (0.0, 0.5):
            noise = following(rng, (repeats, windows), follow)  # heat of one window lingers in the next
            ends = [contrast_interval([0.03 * row], (1,)) for row in noise]
            yield windows, follow, f"{np.mean([low <= 0 <= high for _, low, high in ends]):.3f}"


def _inside(truths: Floats, low: float, high: float) -> str:
    return f"{np.mean((truths >= low) & (truths <= high)):.3f}"


SECTIONS = (
    Section(
        name="energy",
        title="Modelled energy",
        text=(
            "Nominal level here: 90 %, the 5 to 95 % range. 20,000 machines drawn from what the model states, and from a world "
            "in which simple models err by two thirds on average instead of 40 %: the assumed error is what the range stands on."
        ),
        header=("processor's name", "utilisation", "as stated", "errors of sigma 0.7", "high / low"),
        rows=energy_rows,
    ),
    Section(
        name="carbon",
        title="Carbon",
        text="Nominal level 90 %. Machines as above, times a grid factor drawn from its own stated range.",
        header=("grid", "coverage", "high / low"),
        rows=carbon_rows,
    ),
    Section(
        name="energy-ratios",
        title="Ratios of energies",
        text=(
            "Nominal level 90 %, 1,000 machines. Common draws: the same machine made both energies, and each ratio also carries ten "
            "rounds of times. Draws taken apart forget that it was one machine: they hold the truth always, and say nothing."
        ),
        header=("busy before", "busy after", "common draws", "draws apart", "measured windows"),
        rows=ratio_rows,
    ),
    Section(
        name="windows",
        title="Measured energy",
        text=(
            "Nominal level 95 %. t on the logs of a run's windows; 4,000 runs. Windows that follow each other (heat lingers) "
            "promise too much, and the more so the more there are: a run is one process."
        ),
        header=("windows", "correlation of neighbours", "coverage"),
        rows=window_rows,
    ),
)
