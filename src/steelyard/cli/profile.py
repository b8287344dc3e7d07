"""`steelyard profile`: its words, and what it shows."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from steelyard.cli.commands import declarations, output

if TYPE_CHECKING:
    from steelyard.api import Result

__all__ = ["profile"]


@click.command()
@click.argument("source")
@click.option("--data", help="Data whose reading is timed too: 'digits', a folder, an .npz, or file.py:function.")
@click.option("--batch", type=int, default=1, show_default=True, help="Examples in one inference.")
@click.option(
    "--trace", type=click.Path(), help="File for the trace, to be opened in ui.perfetto.dev (OUT/trace.json)."
)
@click.option("--device", default="cpu", show_default=True, help="For PyTorch models: cpu, cuda or cuda:1.")
@click.option("--budget", default="20s", show_default=True, help="Time to measure.")
@click.option("--out", type=click.Path(), help="Run folder (runs/NAME-profile).")
@declarations()
@output
def profile(source: str, trace: str | None, as_json: bool, quiet: bool, **words: Any) -> int:
    """Where the time of one inference of SOURCE goes: layers and operators, each against this machine's roofline.

    Says what bounds the model, what quantisation, fusion, batching or another engine can give at most here, and writes a
    trace for Perfetto.
    """
    from steelyard import api
    from steelyard.cli.progress import showing

    with showing(api.parse_budget(words["budget"]), quiet=quiet or as_json) as progress:
        result = api.profile(source, trace=trace, progress=progress, **words)
    _show(result, trace or str(result.folder / "trace.json"), as_json=as_json, quiet=quiet)
    return 0


def _show(result: Result, trace: str, *, as_json: bool, quiet: bool) -> None:
    from steelyard.report import profiling
    from steelyard.report.text import summary_json

    records = result.records
    if as_json:
        places = {"folder": str(result.folder), "report": str(result.report), "trace": trace}
        findings = [
            {
                "name": f.name,
                "claim": f.claim,
                "evidence": dict(f.evidence),
                "ceilings": [
                    {
                        "technique": c.technique,
                        "gain": c.gain,
                        "ceiling": c.ceiling,
                        "helps": c.helps,
                        "because": c.because,
                    }
                    for c in f.ceilings
                ],
            }
            for f in records.findings
        ]
        document = {**summary_json(records), "profile": profiling.profile_json(records), "findings": findings, **places}
        click.echo(json.dumps(document, indent=2))
        return
    if quiet or records.profiled is None:
        return
    console = Console()
    for line in profiling.profile_lines(records):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(profiling.operators_table(records))
    console.print(profiling.layers_table(records, console.width))
    for finding in records.findings:
        console.print(f"[bold]{finding.name}[/]: ", end="")
        console.print(finding.claim, markup=False, soft_wrap=True)
    console.print(profiling.ceilings_table(records))
    for note in records.run.warnings:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    console.print(f"trace     {shlex.quote(trace)}", markup=False, soft_wrap=True)
    console.print(f"report    {shlex.quote(str(result.report))}", markup=False, soft_wrap=True)
