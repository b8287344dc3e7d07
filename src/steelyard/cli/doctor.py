"""`steelyard doctor`: the machine, as far as it matters to a measurement."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from steelyard.measure.noise import machine_noise
from steelyard.probe.energy import EnergyCounters, processor_families, read_counters
from steelyard.probe.engines import compiler, installed, providers
from steelyard.probe.host import environment
from steelyard.probe.peaks import best, measure_peaks
from steelyard.records import Sample, Unavailable
from steelyard.report.numbers import quantity, size
from steelyard.store import read_calibration

__all__ = ["examine", "show"]


def examine() -> dict[str, Any]:
    """Everything doctor knows, in plain JSON types."""
    host, counters = environment(), read_counters()
    noise = machine_noise()
    peaks = measure_peaks()
    return {
        "processor": host.cpu,
        "cores": host.cores,
        "memory_bytes": host.memory_bytes,
        "instruction_sets": list(host.instruction_sets),
        "accelerators": list(host.accelerators),
        "engines": [
            {"name": e.name, "version": e.version, "devices": list(e.devices), "install": e.install}
            for e in installed(detail=True)
        ],
        "providers": {w: f if isinstance(f, str) else f"unavailable: {f.reason}" for w, f in providers().items()},
        "compiler": compiler(),
        "energy": _energy(host.machine, counters),
        "processor_families": list(processor_families(host)),
        "noise": {"spread": noise.spread, "drift": noise.drift, "steal": noise.steal, "verdict": noise.verdict},
        "peaks": {p.quantity: best(p) if isinstance(p, Sample) else f"unavailable: {p.reason}" for p in peaks},
        "units": {p.quantity: p.unit for p in peaks if isinstance(p, Sample)},
    }


def _energy(machine: str, counters: EnergyCounters | Unavailable) -> str:
    """The origin that energies will have here, and why."""
    if isinstance(counters, EnergyCounters):
        return f"measured by counters of {counters.words}"
    calibration = read_calibration(machine)
    if calibration is not None:
        return f"calibrated on {calibration.source} ({calibration.time[:10]}): {counters.reason}"
    return f"modelled: {counters.reason}"


def _accelerated(providers: dict[str, str]) -> str:
    """ONNX Runtime's execution providers beside the processor's own: those that can run, and the rest by their words."""
    there = [word for word, said in providers.items() if not said.startswith("unavailable")]
    absent = ", ".join(word for word in providers if word not in there)
    return f"{', '.join(there) or 'nothing'}; absent: {absent} (--json says what each needs)"


def show(found: dict[str, Any]) -> None:
    """Print what `examine` found."""
    console = Console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("processor", f"{found['processor']}, {found['cores']} core(s), {size(found['memory_bytes'])}")
    table.add_row("instruction sets", " ".join(found["instruction_sets"]))
    table.add_row("accelerators", ", ".join(found["accelerators"]) or "none found")
    for engine in found["engines"]:
        if engine["version"]:
            table.add_row(engine["name"], f"{engine['version']} {' '.join(engine['devices'])}")
        else:
            table.add_row(engine["name"], f"not installed; {engine['install']}", style="yellow")
    table.add_row("accelerated by", _accelerated(found["providers"]))
    table.add_row("C++ compiler", found["compiler"] or "none: torch.compile cannot run here")
    table.add_row("energy", found["energy"])
    for name, value in found["peaks"].items():
        table.add_row(name, value if isinstance(value, str) else quantity(value, found["units"][name]))
    noise = found["noise"]
    table.add_row(
        "noise now",
        f"{noise['verdict']} (spread {noise['spread']:.1%}, drift {noise['drift']:+.1%}, steal {noise['steal']:.1%})",
    )
    console.print(table)
