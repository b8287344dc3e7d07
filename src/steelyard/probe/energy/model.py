"""Energy modelled from time and utilisation: published power figures of processors like this one, as a distribution.

``P = PUE * error * (cores * (idle + (max - idle) * f(u)) + dram)``, at the building's meter. The published figures
are of whole servers for each hardware thread, so the share of a virtual machine is its cores (threads) of the host's.
Nothing in it is read from this machine but time, processor time and memory. Energy is power times time: of an inference,
an epoch or a run alike.

Coefficients, their dates and sources stand in ``power.json``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.records import Environment, Floats, Sample

__all__ = ["error_sigma", "modelled_energy_j", "modelled_error", "modelled_power_w", "processor_families"]


def modelled_power_w(
    busy_cores: float, memory_bytes: int, environment: Environment, draws: int = 4000, seed: int = 0
) -> Sample:
    """Monte Carlo draws of the power, in watts, of this machine while `busy_cores` of its cores work.

    ``busy_cores`` is processor time over time, so utilisation is ``u = busy_cores / cores``, at most 1. The idle power of
    every core this process may use is charged, too. Each draw takes

    - the processor's *family*, evenly from those that fit its name and instruction sets;
    - the power curve ``f`` between linear ``u`` and concave ``2u - u**1.4`` (Fan, Weber, Barroso 2007), evenly;
    - DRAM per GB from 0 (already inside the server's figure) to the published figure, evenly;
    - PUE from a triangle (1.05 to 1.6; a machine under a desk has 1);
    - the model's own error: log-normal, median 1, mean absolute error 40 %.

    ``values`` has shape ``(draws,)``; its 5th and 95th percentiles are the interval to show. The note names the
    families assumed and the input whose draws explain most of the spread (squared rank correlation).
    Raises `InvalidInput` for what is negative or not finite.
    """
    if not (math.isfinite(busy_cores) and busy_cores >= 0) or memory_bytes < 0 or draws < 1:
        raise InvalidInput(
            f"power needs cores and bytes of 0 or more and a draw at least, got {busy_cores}, {memory_bytes} and {draws}"
        )
    factors = _draw_factors(environment, draws, seed)
    busy = min(1.0, busy_cores / environment.cores)
    watts = environment.cores * (factors.idle_w + (factors.max_w - factors.idle_w) * factors.curve(busy))
    watts = (watts + factors.dram_w_per_gb * memory_bytes / 1e9) * factors.pue * factors.error
    return Sample(
        quantity="power_w",
        unit="W",
        values=watts,
        provenance="modelled",
        note=_note(environment, factors, watts),
    )


def modelled_energy_j(
    seconds: float,
    cpu_seconds: float,
    memory_bytes: int,
    environment: Environment,
    draws: int = 4000,
    seed: int = 0,
) -> Sample:
    """Draws of the energy, in joules, of `seconds` of wall time: `modelled_power_w` times the time.

    ``cpu_seconds`` is the processor time over all cores. Raises `InvalidInput` for times that are not positive and finite.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidInput(f"energy needs a positive time, got {seconds} s")
    power = modelled_power_w(cpu_seconds / seconds, memory_bytes, environment, draws, seed)
    return Sample(
        quantity="energy_j", unit="J", values=seconds * power.values, provenance=power.provenance, note=power.note
    )


def modelled_error() -> float:
    """The mean absolute relative error that the modelled power is taken to have."""
    return float(_coefficients()["mean_absolute_error"]["value"])


def processor_families(environment: Environment) -> tuple[str, ...]:
    """Families of ``power.json`` that this processor may belong to; one if its name tells, none if unknown.

    A cloud often hides the model ("Intel(R) Xeon(R) Processor @ 2.50GHz"); then the instruction sets narrow
    it down. A hypervisor can hide sets too, so neighbours in time are kept.
    """
    cpu, sets = environment.cpu.lower(), set(environment.instruction_sets)
    for pattern, family in _NAMES:
        if re.search(pattern, cpu):
            return (family,)
    if "neon" in sets or "asimddp" in sets:
        return ("Graviton",)
    rules = _AMD_SETS if "amd" in cpu else _INTEL_SETS
    return next((families for needed, families in rules if needed <= sets), ())


def error_sigma(mean_absolute_error: float) -> float:
    """Standard deviation of the log of a median-1 log-normal whose mean of ``|x - 1|`` is as given.

    Solves ``exp(s**2 / 2) * (2 * Phi(s) - 1) = mean_absolute_error`` by bisection.

    >>> round(error_sigma(0.4), 3)
    0.466
    """
    low, high = 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        too_small = math.exp(middle**2 / 2) * math.erf(middle / math.sqrt(2)) < mean_absolute_error
        low, high = (middle, high) if too_small else (low, middle)
    return (low + high) / 2


_NAMES = (
    (r"e5-\d+\w* v4|e7-\d+ v4", "Broadwell"),
    (r"e5-\d+\w* v3|e7-\d+ v3", "Haswell"),
    (r"e5-\d+\w* v2|e7-\d+ v2", "Ivy Bridge"),
    (r"e5-\d+", "Sandy Bridge"),
    (r"(platinum|gold|silver|bronze) \d1\d\d", "Skylake"),
    (r"(platinum|gold|silver|bronze) \d2\d\d", "Cascade Lake"),
    (r"(platinum|gold|silver|bronze) \d3\d\d", "Ice Lake"),
    (r"(platinum|gold|silver|bronze) \d4\d\d", "Sapphire Rapids"),
    (r"(platinum|gold|silver|bronze) \d5\d\d", "Emerald Rapids"),
    (r"xeon\S* 6\d{3}p", "Granite Rapids"),
    (r"epyc [37]\w{2}1\b", "EPYC 1st Gen"),
    (r"epyc 7\w{2}2\b", "EPYC 2nd Gen"),
    (r"epyc 7\w{2}3\b", "EPYC 3rd Gen"),
    (r"epyc [89]\w{2}4\b", "EPYC 4th Gen"),
)
# First rule whose sets are all there.
_INTEL_SETS: tuple[tuple[set[str], tuple[str, ...]], ...] = (
    ({"amx_fp16"}, ("Granite Rapids",)),
    ({"amx_int8"}, ("Sapphire Rapids", "Emerald Rapids")),
    ({"avx512_vnni", "vaes"}, ("Ice Lake",)),
    ({"avx512_vnni"}, ("Cascade Lake", "Ice Lake")),
    ({"avx512f"}, ("Skylake", "Cascade Lake")),
    ({"avx2"}, ("Haswell", "Broadwell", "Coffee Lake")),
    ({"avx"}, ("Sandy Bridge", "Ivy Bridge")),
)
_AMD_SETS: tuple[tuple[set[str], tuple[str, ...]], ...] = (
    ({"avx512f"}, ("EPYC 4th Gen",)),
    ({"vaes"}, ("EPYC 3rd Gen", "EPYC 4th Gen")),
    ({"avx2"}, ("EPYC 1st Gen", "EPYC 2nd Gen", "EPYC 3rd Gen")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Factors:
    """Draws of every uncertain input, each of shape (draws,)."""

    idle_w: Floats
    max_w: Floats
    linear: Floats  # weight of the linear power curve
    dram_w_per_gb: Floats
    pue: Floats
    error: Floats

    def curve(self, busy: float) -> Floats:
        concave = 2 * busy - busy**1.4
        return np.asarray(self.linear * busy + (1 - self.linear) * concave)


def _draw_factors(environment: Environment, draws: int, seed: int) -> _Factors:
    # One stream per input: equal seeds give equal draws whatever else differs between two runs.
    family_rng, curve_rng, dram_rng, pue_rng, error_rng = (np.random.default_rng([seed, k]) for k in range(5))
    table = _coefficients()
    families = processor_families(environment) or tuple(table["families"])
    chosen = family_rng.integers(len(families), size=draws)
    rows = [table["families"][name] for name in families]
    pue = table["pue"]
    return _Factors(
        idle_w=np.array([row["idle_w"] for row in rows])[chosen],
        max_w=np.array([row["max_w"] for row in rows])[chosen],
        linear=curve_rng.uniform(size=draws),
        dram_w_per_gb=dram_rng.uniform(0, table["dram_w_per_gb"]["value"], size=draws),
        pue=pue_rng.triangular(pue["low"], pue["mode"], pue["high"], size=draws),
        error=np.exp(error_sigma(table["mean_absolute_error"]["value"]) * error_rng.standard_normal(draws)),
    )


@cache
def _coefficients() -> dict[str, Any]:
    text = resources.files("steelyard.probe").joinpath("power.json").read_text()
    return dict(json.loads(text))


def _note(environment: Environment, factors: _Factors, watts: Floats) -> str:
    families = " or ".join(processor_families(environment)) or "any family on record"
    name, share = _dominant(factors, watts)
    table = _coefficients()
    blind = "; accelerators not included" if environment.accelerators else ""
    return (
        f"modelled from time and utilisation, at the building's meter; processor assumed {families}"
        f" ({table['source'].partition(',')[0]}, {table['dated']}); expect a factor of two either way;"
        f" {share:.0%} of the spread comes from {name}{blind}"
    )


def _dominant(factors: _Factors, watts: Floats) -> tuple[str, float]:
    """The input with the largest share of the summed squared rank correlations with the power."""
    inputs = {
        "the model's own error": factors.error,
        "the processor's family": factors.max_w,
        "the power curve": factors.linear,
        "the memory's power": factors.dram_w_per_gb,
        "PUE": factors.pue,
    }
    squares = {name: _rank_correlation(values, watts) ** 2 for name, values in inputs.items()}
    name = max(squares, key=lambda key: squares[key])
    return name, squares[name] / (sum(squares.values()) or 1.0)


def _rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's correlation with ties given their mean rank; 0 if either is constant."""
    ranked = [_ranks(values) for values in (x, y)]
    if any(np.ptp(r) == 0 for r in ranked):
        return 0.0
    return float(np.corrcoef(ranked[0], ranked[1])[0, 1])


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
