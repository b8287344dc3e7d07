"""Energy: read from the processor's counter where there is one, else modelled, as a distribution.

Two sources, never mixed:

- **measured**: the RAPL counters under ``/sys/class/powercap``: whole packages and their DRAM, whatever
  else ran meanwhile included, without power supply, fans and cooling;
- **modelled**: ``E = t * PUE * error * (cores * (idle + (max - idle) * f(u)) + dram)``, at the building's
  meter. Nothing in it is read from this machine but time, processor time and memory. Simple models of
  this kind miss counters by about 40 % on average, so expect a factor of two either way; more digits
  would hide that. What it does tell well is a *ratio* of two runs drawn with one seed: every factor is the same
  draw in both and cancels, and at equal utilisation and memory the energy ratio *is* the time ratio.

Coefficients, their dates and sources stand in ``power.json``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.records import Environment, Floats, Sample, Unavailable

__all__ = [
    "EnergyCounters",
    "energy",
    "error_sigma",
    "modelled_energy_j",
    "processor_families",
    "read_counters",
]

POWERCAP = Path("/sys/class/powercap")


# --- measured --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCounters:
    """One reading of every RAPL zone that counts: microjoules so far, and where each counter wraps."""

    energy_uj: Mapping[str, int]
    range_uj: Mapping[str, int]

    def since(self, earlier: EnergyCounters) -> float:
        """Joules from `earlier` to now over all zones; at most one wrap of each counter is undone.

        >>> before = EnergyCounters(energy_uj={"package-0": 900}, range_uj={"package-0": 1000})
        >>> after = EnergyCounters(energy_uj={"package-0": 100}, range_uj={"package-0": 1000})
        >>> after.since(before)
        0.0002
        """
        return sum(self._advance_uj(zone, earlier.energy_uj[zone]) for zone in self.energy_uj) / 1e6

    def _advance_uj(self, zone: str, earlier: int) -> int:
        advance = self.energy_uj[zone] - earlier
        return advance if advance >= 0 else advance + self.range_uj[zone]


def read_counters(root: Path = POWERCAP) -> EnergyCounters | Unavailable:
    """Read package zones and the DRAM zones beside them; `Unavailable` says which file could not be read.

    Core and uncore zones lie inside their package, and ``psys`` around it: counting them would count twice.
    """
    zones = {f"{path.name} {_text(path / 'name')}": path for path in sorted(root.glob("intel-rapl:*"))}
    counted = {name: path for name, path in zones.items() if name.split()[-1].startswith(("package", "dram"))}
    if not counted:
        return Unavailable(quantity="energy_j", reason=f"no energy counter on this host: no RAPL zones in {root}")
    try:
        return EnergyCounters(
            energy_uj={name: int((path / "energy_uj").read_text()) for name, path in counted.items()},
            range_uj={name: int((path / "max_energy_range_uj").read_text()) for name, path in counted.items()},
        )
    except PermissionError as error:
        cure = "only root may read it; give read permission or run as root"
        return Unavailable(quantity="energy_j", reason=f"permission denied for {error.filename}: {cure}")
    except (OSError, ValueError) as error:
        return Unavailable(quantity="energy_j", reason=f"the energy counter cannot be read: {error}")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unreadable"


# --- modelled --------------------------------------------------------------------------------------


def modelled_energy_j(
    seconds: float,
    cpu_seconds: float,
    memory_bytes: int,
    environment: Environment,
    draws: int = 4000,
    seed: int = 0,
) -> Sample:
    """Monte Carlo draws of the energy, in joules, of `seconds` of wall time on this machine.

    ``cpu_seconds`` is the processor time over all cores; utilisation is ``u = cpu_seconds / (seconds * cores)``.
    The idle power of every core this process may use is charged for the whole time. Each draw takes

    - the processor's *family*, evenly from those that fit its name and instruction sets;
    - the power curve ``f`` between linear ``u`` and concave ``2u - u**1.4`` (Fan, Weber, Barroso 2007), evenly;
    - DRAM per GB from 0 (already inside the server's figure) to the published figure, evenly;
    - PUE from a triangle (1.05 to 1.6; a machine under a desk has 1);
    - the model's own error: log-normal, median 1, mean absolute error 40 %.

    ``values`` has shape ``(draws,)``; its 5th and 95th percentiles are the interval to show. The note names the
    families assumed and the input whose draws explain most of the spread (squared rank correlation).
    Raises `InvalidInput` for times that are not positive and finite.
    """
    _check(seconds, cpu_seconds, memory_bytes, draws)
    factors = _draw_factors(environment, draws, seed)
    busy = min(1.0, cpu_seconds / (seconds * environment.cores))
    watts = environment.cores * (factors.idle_w + (factors.max_w - factors.idle_w) * factors.curve(busy))
    watts = watts + factors.dram_w_per_gb * memory_bytes / 1e9
    energy_j = seconds * watts * factors.pue * factors.error
    return Sample(
        quantity="energy_j",
        unit="J",
        values=energy_j,
        provenance="modelled",
        note=_note(environment, factors, energy_j),
    )


def energy(
    seconds: float,
    cpu_seconds: float,
    memory_bytes: int,
    environment: Environment,
    *,
    before: EnergyCounters | Unavailable | None = None,
    after: EnergyCounters | Unavailable | None = None,
    draws: int = 4000,
    seed: int = 0,
) -> Sample | Unavailable:
    """The energy of a stretch of work: measured if both counter readings are there, else modelled.

    `Unavailable` where neither works: a processor for whose kind no power figures are published.
    """
    if isinstance(before, EnergyCounters) and isinstance(after, EnergyCounters):
        note = "RAPL: whole packages and their memory, other processes included; without supply, fans and cooling"
        return Sample(quantity="energy_j", unit="J", values=np.array([after.since(before)]), note=note)
    if not processor_families(environment):
        reason = f"no energy counter, and no published power figures for the processor {environment.cpu!r}"
        return Unavailable(quantity="energy_j", reason=reason)
    return modelled_energy_j(seconds, cpu_seconds, memory_bytes, environment, draws, seed)


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


def _note(environment: Environment, factors: _Factors, energy_j: Floats) -> str:
    families = " or ".join(processor_families(environment)) or "any family on record"
    name, share = _dominant(factors, energy_j)
    table = _coefficients()
    blind = "; accelerators not included" if environment.accelerators else ""
    return (
        f"modelled from time and utilisation, at the building's meter; processor assumed {families}"
        f" ({table['source'].partition(',')[0]}, {table['dated']}); expect a factor of two either way;"
        f" {share:.0%} of the spread comes from {name}{blind}"
    )


def _dominant(factors: _Factors, energy_j: Floats) -> tuple[str, float]:
    """The input with the largest share of the summed squared rank correlations with the energy."""
    inputs = {
        "the model's own error": factors.error,
        "the processor's family": factors.max_w,
        "the power curve": factors.linear,
        "the memory's power": factors.dram_w_per_gb,
        "PUE": factors.pue,
    }
    squares = {name: _rank_correlation(values, energy_j) ** 2 for name, values in inputs.items()}
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


def _check(seconds: float, cpu_seconds: float, memory_bytes: int, draws: int) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidInput(f"energy needs a positive time, got {seconds} s")
    if not (math.isfinite(cpu_seconds) and cpu_seconds >= 0):
        raise InvalidInput(f"processor time must be 0 s or more, got {cpu_seconds}")
    if memory_bytes < 0 or draws < 1:
        raise InvalidInput(f"memory must be 0 bytes or more and draws 1 or more, got {memory_bytes} and {draws}")
