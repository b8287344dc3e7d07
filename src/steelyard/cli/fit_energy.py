"""`steelyard doctor --fit-energy`: the machine's own model of power, fitted, judged and kept."""

from __future__ import annotations

import json

import click
from rich.console import Console

from steelyard.api import parse_budget
from steelyard.cli.progress import showing
from steelyard.measure.fit_energy import Fitted, Processes, fit_energy
from steelyard.probe.host import environment, load_now
from steelyard.report.text import power_table
from steelyard.store import write_calibration

__all__ = ["run"]

BUSY = 0.25  # of the cores, by load average: beyond, others' work is in the readings


def run(budget: str, *, as_json: bool, quiet: bool) -> int:
    """Fit and print; exit status 1 where the fit is not worth keeping."""
    host, seconds = environment(), parse_budget(budget)
    load = load_now().load_average
    with showing(seconds, quiet=quiet or as_json) as progress, Processes(host.cores) as crew:
        fitted = fit_energy(host, seconds, crew, progress=progress)
    path = None if fitted.flaw else write_calibration(fitted.calibration)
    busy = (
        f"load average {load:.1f} on {host.cores} core(s): other work was read, too" if load > BUSY * host.cores else ""
    )
    said = _verdict(fitted, None if path is None else str(path))
    if as_json:
        click.echo(json.dumps(_json(fitted, None if path is None else str(path), busy), indent=2))
    elif not quiet:
        console = Console()
        console.print(power_table(fitted.model.coefficients, fitted.model.errors))
        console.print(said, markup=False, soft_wrap=True)
        if busy:
            console.print(f"warning: {busy}; fit it again when the machine is quiet", style="yellow", soft_wrap=True)
    return 1 if fitted.flaw else 0


def _verdict(fitted: Fitted, path: str | None) -> str:
    if path is None:
        return f"not kept: {fitted.flaw}"
    error = f"on kinds of load it had not seen it missed by {fitted.model.error:.0%} on average"
    return f"kept in {path}: {error}; energies on this machine are now calibrated where no counter is read"


def _json(fitted: Fitted, path: str | None, busy: str) -> dict[str, object]:
    return {
        "kept": path,
        "error": fitted.model.error,
        "rival_error": fitted.rival_error,
        "flaw": fitted.flaw or None,
        "coefficients": dict(fitted.model.coefficients),
        "errors": dict(fitted.model.errors),
        "readings": len(fitted.calibration.watts),
        "warning": busy or None,
    }
