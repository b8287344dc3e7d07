"""`steelyard optimize`: the search and its proof, or what it would try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from steelyard.cli.commands import declarations, output, region, show_run
from steelyard.errors import InvalidInput

__all__ = ["optimize"]


@click.command()
@click.argument("source")
@click.option("--data", help="'digits', a folder, an .npz, .csv or .parquet file, or file.py:function.")
@click.option("--require", multiple=True, help="What must hold, such as 'accuracy drop <= 0.5%'; may be repeated.")
@click.option(
    "--minimise", "--minimize", default="latency", show_default=True,
    help="What the best plan has least of: latency, energy, size or memory.",
)  # fmt: skip
@click.option("--techniques", default="", help="What plans may be made of, such as prune,distill,int8 (all).")
@click.option("--engine", default="", help="Where plans may end, such as openvino,onnxruntime (all).")
@click.option("--budget", default="10m", show_default=True, help="Time for search and proof, such as 90s, 10m or 1h.")
@click.option(
    "--explain-plan", is_flag=True, help="Say what would be tried, in order, and what is hopeless; build nothing."
)
@click.option("--resume", is_flag=True, help="Go on with the run in the folder; refused where there is none.")
@click.option("--pareto", default="", help="Show the front of these: latency, drop, size, memory, energy.")
@click.option("--ray", help="Spread candidates over a Ray cluster: auto, local, or its head's address.")
@click.option("--out", type=click.Path(), help="Run folder (runs/NAME).")
@click.option("--seed", type=int, default=0, show_default=True, help="For the split of data that comes unsplit.")
@click.option("--label", help="Label column of a table (the last).")
@click.option("--memory", type=click.FloatRange(min=0.1), help="GB that one candidate may hold (4/5 of the machine's).")
@click.option(
    "--threads", type=click.IntRange(8), help="Threads that one candidate may run (512, and 32 for each core)."
)
@click.option("--timeout", default="10m", show_default=True, help="Time for one step of one candidate.")
@region
@declarations()
@output
def optimize(
    source: str,
    techniques: str,
    engine: str,
    budget: str,
    explain_plan: bool,
    resume: bool,
    pareto: str,
    memory: float | None,
    threads: int | None,
    timeout: str,
    as_json: bool,
    quiet: bool,
    **words: Any,
) -> int:
    """Make SOURCE faster, smaller or more frugal under requirements, and prove it on data nothing has seen.

    SOURCE is file.py[:function] (its code is run), torchvision:NAME, or a path to .onnx, .xml or .pt2. The run folder
    keeps every record; the same command on the same folder goes on where a stopped run stood.
    """
    from steelyard import api
    from steelyard.cli.progress import showing
    from steelyard.measure.process import Limits
    from steelyard.report.frontier import axes_of

    axes = axes_of(pareto.split(",")) if pareto else ()
    if resume:
        _check_begun(source, words["out"])
    words |= {
        "techniques": _words(techniques),
        "engine": _words(engine),
        "budget": budget,
        "limits": Limits(
            seconds=api.parse_budget(timeout), memory_bytes=int((memory or 0) * 1e9), threads=threads or 0
        ),
    }
    with showing(api.parse_budget(budget), quiet=quiet or as_json) as progress:
        if explain_plan:
            found, predictions = api.explain_plan(source, progress=progress, **words)
        else:
            result = api.optimize(source, progress=progress, **words)
    if explain_plan:
        _show_plans(found, predictions, as_json=as_json, quiet=quiet)
        return 0
    show_run(result, as_json=as_json, quiet=quiet)
    _show_front(result, axes, as_json=as_json, quiet=quiet)
    return 0 if result.met else 3


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word.strip())


def _check_begun(source: str, out: str | None) -> None:
    from steelyard.api.words import run_folder
    from steelyard.store import read_records

    folder = run_folder(source, out, "")
    if not Path(folder).exists():
        raise InvalidInput(
            f"--resume: {folder} holds no run; leave it out to begin one, or give the --out that was used"
        )
    read_records(folder)


def _show_plans(result: Any, predictions: Any, *, as_json: bool, quiet: bool) -> None:
    from steelyard.report.planning import hopeless_table, plans_json, plans_table

    if as_json:
        document = {"folder": str(result.folder), "plans": plans_json(predictions)}
        click.echo(json.dumps({**document, "findings": _claims(result)}, indent=2))
    elif not quiet:
        console = Console()
        for name, claim in _claims(result).items():
            console.print(f"[bold]{name}[/]: ", end="")
            console.print(claim, markup=False, soft_wrap=True)
        console.print(plans_table(predictions, result.records.run.budget_s))
        table = hopeless_table(predictions)
        if table is not None:
            console.print(table)
        console.print("nothing was built; the same command without --explain-plan goes on from here", style="dim")


def _claims(result: Any) -> dict[str, str]:
    return {finding.name: finding.claim for finding in result.records.findings}


def _show_front(result: Any, axes: tuple[str, ...], *, as_json: bool, quiet: bool) -> None:
    """The front that was asked for; and where nothing passed that of speed and quality, for a choice to be made by."""
    from steelyard.report.planning import front_table

    names = axes or (() if result.met else ("latency", "drop", "size"))
    if names and not as_json and not quiet:
        Console().print(front_table(result.records, names))
