"""Energy counters: of processors and their memory (RAPL), and of GPUs. Cumulative; a window is the advance of two readings.

RAPL is read from the files under ``/sys/class/powercap`` by ourselves: four files, no import, the reason by name where
they cannot be read. Where that is denied and a Zeus daemon is configured (``ZEUSD_SOCK_PATH`` or ``ZEUSD_HOST_PORT``), it
is asked instead. GPUs are read through Zeus, which knows NVIDIA's and AMD's libraries. Why not Zeus for all:
``docs/adr/0018``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from steelyard.records import Unavailable

__all__ = ["GPU_PERIOD_S", "RAPL_PERIOD_S", "EnergyCounters", "read_counters"]

POWERCAP = Path("/sys/class/powercap")
RAPL_PERIOD_S = 0.001
"""How often RAPL counters move: about every millisecond (Intel SDM volume 3B; Khan et al. 2018, RAPL in Action)."""
GPU_PERIOD_S = 0.1
"""How often the sensor of an A100 or H100 is read; it then averages over 25 ms only, so it sees a quarter of the run
(Yang, Adamek and Armour 2024, Accurate and convenient energy measurements for GPUs)."""
_ENDLESS = 1 << 63  # a GPU's counter starts at the driver's loading and never wraps
_GPU = "gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCounters:
    """One reading of every counter: microjoules so far, and where each wraps."""

    energy_uj: Mapping[str, int]
    range_uj: Mapping[str, int]

    def parts_since(self, earlier: EnergyCounters) -> dict[str, float]:
        """Joules of each counter from `earlier` to now; at most one wrap of each is undone.

        >>> before = EnergyCounters(energy_uj={"package-0": 900}, range_uj={"package-0": 1000})
        >>> after = EnergyCounters(energy_uj={"package-0": 100}, range_uj={"package-0": 1000})
        >>> after.parts_since(before)
        {'package-0': 0.0002}
        """
        return {zone: self._advance_uj(zone, earlier.energy_uj[zone]) / 1e6 for zone in self.energy_uj}

    def since(self, earlier: EnergyCounters) -> float:
        """Joules from `earlier` to now over all counters."""
        return sum(self.parts_since(earlier).values())

    @property
    def period_s(self) -> float:
        """How often the slowest of the counters moves."""
        return GPU_PERIOD_S if any(zone.startswith(_GPU) for zone in self.energy_uj) else RAPL_PERIOD_S

    @property
    def words(self) -> str:
        """What is counted: ``2 packages, 2 memories``."""
        kinds = {"package": "package", "dram": "memory", _GPU: "GPU"}
        counts = {word: sum(zone.startswith(kind) for zone in self.energy_uj) for kind, word in kinds.items()}
        plural = {"package": "packages", "memory": "memories", "GPU": "GPUs"}
        return ", ".join(f"{n} {word if n == 1 else plural[word]}" for word, n in counts.items() if n)

    def _advance_uj(self, zone: str, earlier: int) -> int:
        advance = self.energy_uj[zone] - earlier
        return advance if advance >= 0 else advance + self.range_uj[zone]


def read_counters(root: Path = POWERCAP, *, gpus: bool = False) -> EnergyCounters | Unavailable:
    """Read the packages' zones and the DRAM zones beside them, and with `gpus` every GPU; or say what could not be read.

    Core and uncore zones lie inside their package, and ``psys`` around it: counting them would count twice. A model on
    the processor should not be charged for an idle GPU, so GPUs are read where they are used.
    """
    processor = _read_rapl(root)
    if isinstance(processor, Unavailable) and "permission denied" in processor.reason and _daemon():
        processor = _zeus_processors()
    if not gpus:
        return processor
    graphics = _zeus_gpus()
    if isinstance(graphics, Unavailable):
        return graphics  # the GPU's is the larger part: without it the total would be wrong
    return graphics if isinstance(processor, Unavailable) else _joined(processor, graphics)


def _joined(first: EnergyCounters, second: EnergyCounters) -> EnergyCounters:
    return EnergyCounters(
        energy_uj={**first.energy_uj, **second.energy_uj}, range_uj={**first.range_uj, **second.range_uj}
    )


# --- RAPL by its files -----------------------------------------------------------------------------------


def _read_rapl(root: Path) -> EnergyCounters | Unavailable:
    zones = _zones(root)
    if not zones:
        return _unavailable(f"no energy counter on this host: no RAPL zones in {root}")
    try:
        return EnergyCounters(
            energy_uj={name: int((path / "energy_uj").read_text()) for name, path in zones.items()},
            range_uj={name: int((path / "max_energy_range_uj").read_text()) for name, path in zones.items()},
        )
    except PermissionError as error:
        cure = "only root may read it; give read permission, run as root, or run the Zeus daemon"
        return _unavailable(f"permission denied for {error.filename}: {cure}")
    except (OSError, ValueError) as error:
        return _unavailable(f"the energy counter cannot be read: {error}")


def _zones(root: Path) -> dict[str, Path]:
    """Packages and memories by a name that tells two sockets apart: ``package-0 (intel-rapl:0)``."""
    found = {}
    for path in sorted(root.glob("intel-rapl:*")):
        name = _text(path / "name")
        if name.startswith(("package", "dram")):
            found[f"{name} ({path.name})"] = path
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unreadable"


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(quantity="energy_j", reason=reason)


# --- through Zeus ----------------------------------------------------------------------------------------


def _daemon() -> bool:
    return bool(os.environ.get("ZEUSD_SOCK_PATH") or os.environ.get("ZEUSD_HOST_PORT"))


def _zeus_processors() -> EnergyCounters | Unavailable:
    """By the Zeus daemon, which may read what this user may not."""
    cpus = _zeus("get_cpus")
    if isinstance(cpus, Unavailable):
        return cpus
    try:
        read = {i: cpus.get_total_energy_consumption(i) for i in range(len(cpus))}
    except Exception as error:  # a daemon that went away raises kinds of its own and of its HTTP library
        return _unavailable(f"the Zeus daemon does not answer: {error}")
    millijoules = {f"package-{i} (zeusd)": found.cpu_mj for i, found in read.items()}
    millijoules |= {f"dram-{i} (zeusd)": found.dram_mj for i, found in read.items() if found.dram_mj is not None}
    return _from_millijoules(millijoules)


def _zeus_gpus() -> EnergyCounters | Unavailable:
    gpus = _zeus("get_gpus")
    if isinstance(gpus, Unavailable):
        return gpus
    try:
        if not all(gpus.supports_get_total_energy_consumption(i) for i in range(len(gpus))):
            return _unavailable("the GPU has no energy counter: it is older than NVIDIA's Volta")
        return _from_millijoules(
            {f"{_GPU}-{i} {gpus.get_name(i)}": gpus.get_total_energy_consumption(i) for i in range(len(gpus))}
        )
    except Exception as error:  # NVML's and AMD's libraries raise kinds of their own
        return _unavailable(f"the GPU's energy counter cannot be read: {error}")


def _from_millijoules(millijoules: Mapping[str, float]) -> EnergyCounters:
    return EnergyCounters(
        energy_uj={name: round(1000 * value) for name, value in millijoules.items()},
        range_uj=dict.fromkeys(millijoules, _ENDLESS),
    )


@cache
def _zeus(getter: str) -> Any:
    """Zeus's manager of processors or GPUs, made once, or `Unavailable` with what it said."""
    try:
        import zeus.device
    except ImportError:
        return _unavailable("reading it needs the 'energy' extra: pip install 'steelyard[energy]'")
    try:
        return getattr(zeus.device, getter)()
    except Exception as error:  # a broken driver raises many kinds; weighing goes on with the model
        return _unavailable(f"no energy counter by Zeus: {error}")
