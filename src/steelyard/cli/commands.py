"""The commands, one function each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from steelyard.errors import InvalidInput

__all__ = ["benchmark", "declarations", "doctor", "output", "region", "report", "show_run"]

_Command = Callable[..., Any]


def output(command: _Command) -> _Command:
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")(
        command
    )
    return click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")(command)


def region(command: _Command) -> _Command:
    words = "Grid that powers this machine, for carbon: FR, US-CAMX, us-east-1 ... (STEELYARD_REGION)."
    return click.option("--region", help=words)(command)


def declarations(skip: tuple[str, ...] = ()) -> Callable[[_Command], _Command]:
    """Options that say what a model file does not; those in `skip` are the command's own."""
    options = {
        "weights": click.option(
            "--weights", type=click.Path(), help="State dict for a torchvision name or a Python file."
        ),
        "scale": click.option("--scale", help="Factor on raw values before mean and std, such as 1/255."),
        "mean": click.option("--mean", help="Per channel, comma-separated."),
        "std": click.option("--std", help="Per channel, comma-separated."),
        "outputs": click.option(
            "--outputs", type=click.Choice(["logits", "probabilities"]), help="What the model's outputs are."
        ),
        "labels": click.option("--labels", type=click.Path(), help="File with one class name a line, in output order."),
        "classes": click.option("--classes", type=click.IntRange(2), help="Number of classes of a torchvision name."),
        "size": click.option("--size", type=click.IntRange(1), help="Picture side of a torchvision name (224)."),
    }

    def add(command: _Command) -> _Command:
        for name, option in reversed(options.items()):
            command = command if name in skip else option(command)
        return command

    return add


@click.command()
@click.argument("source")
@click.option("--batch", default="1,2,4,8,16,32", show_default=True, help="Batch sizes of the throughput sweep.")
@click.option("--concurrency", default="1", show_default=True, help="Numbers of callers at once, such as 1,2,4.")
@click.option("--percentiles", default="50,90,99", show_default=True, help="Of latency, such as 50,95,99.9.")
@click.option("--scenario", default="", help="MLPerf's, with commas: single-stream, multi-stream, server, offline.")
@click.option("--target", help="Latency to keep, such as 'p99 <= 35 ms': for the batch size to use, and --stress.")
@click.option("--stress", is_flag=True, help="Raise the load until the target (or ten median latencies) breaks.")
@click.option("--budget", default="30s", show_default=True, help="Time for all of it.")
@click.option("--out", type=click.Path(), help="Run folder (runs/NAME-benchmark).")
@region
@declarations()
@output
def benchmark(
    source: str,
    batch: str,
    concurrency: str,
    percentiles: str,
    scenario: str,
    as_json: bool,
    quiet: bool,
    **words: Any,
) -> int:
    """Weigh SOURCE: what it costs, and what holds it back. Needs no data."""
    from steelyard import api
    from steelyard.cli.progress import showing

    callers = _numbers(concurrency, "numbers of callers", "1,2,4")
    shown = _numbers(percentiles, "percentiles", "50,95,99.9", kind=float)
    scenarios = [name.strip() for name in scenario.split(",") if name.strip()]
    with showing(api.parse_budget(words["budget"]), quiet=quiet or as_json) as progress:
        result = api.benchmark(
            source,
            batches=_batches(batch),
            concurrency=callers,
            percentiles=shown,
            scenarios=scenarios,
            progress=progress,
            **words,
        )
    show_run(result, as_json=as_json, quiet=quiet)
    return 0


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path())
@click.option("--figures", is_flag=True, help="Also write every chart as PNG, SVG and PDF into figures, beside the page.")  # fmt: skip
@click.option("--out", type=click.Path(), help="Of several folders: where the page goes (runs/side-by-side).")
@click.option("--allow-unlike-machines", is_flag=True, help="Set runs of unlike machines side by side, and say so.")
@output
def report(
    folders: tuple[str, ...], figures: bool, out: str | None, allow_unlike_machines: bool, as_json: bool, quiet: bool
) -> int:
    """Render the report of a run folder again, from its records alone, or of several FOLDERS one page side by side."""
    from steelyard import api
    from steelyard.cli.progress import showing

    with showing(2.0, quiet=quiet or as_json) as progress:
        progress("rendering the report", None)
        result = (
            _one(folders[0], out)
            if len(folders) == 1
            else api.side_by_side(folders, out=out or "runs/side-by-side", allow_unlike_machines=allow_unlike_machines)
        )
        if isinstance(result, api.Evaluated):
            from steelyard.cli.evaluate import draw, show

            draw(result, progress, figures=figures)
        elif figures:
            progress("drawing the figures", None)
            api.save_figures(result)
    if isinstance(result, api.Drawn):
        _show_page(result.report, as_json=as_json, quiet=quiet)
    elif isinstance(result, api.Compared):
        from steelyard.cli.compare import show as show_compared

        show_compared(result, as_json=as_json, quiet=quiet)
    elif isinstance(result, api.Evaluated):
        show(result, as_json=as_json, quiet=quiet)
    elif isinstance(result, api.Trained):
        from steelyard.cli.train import show as show_trained

        show_trained(result, as_json=as_json, quiet=quiet)
    else:
        show_run(result, as_json=as_json, quiet=quiet)
    return 0


def _one(folder: str, out: str | None) -> Any:
    from steelyard import api

    if out is not None:
        raise InvalidInput("--out is for several folders side by side: a run's report goes into its own folder")
    return api.render_report(folder)


def _show_page(page: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        click.echo(json.dumps({"report": str(page)}, indent=2))
    elif not quiet:
        click.echo(f"report    {page}")


@click.command()
@click.option(
    "--self-test", "test", is_flag=True, help="Compare work of known difference: false alarms and detection here, now."
)
@click.option(
    "--fit-energy", "fit", is_flag=True, help="Fit a model of this machine's power to its energy counter, and keep it."
)
@click.option("--budget", default="5m", show_default=True, help="Time for the self-test or the fit.")
@output
def doctor(test: bool, fit: bool, budget: str, as_json: bool, quiet: bool) -> int:
    """What this machine can run and sense, how noisy it is now, and what each extra would add.

    With --self-test: how often `compare` would raise a false alarm here, and find slow-downs of 2 % and 5 %. Exit status
    1 if the false-alarm rate is shown to be above 5 %.
    """
    if fit:
        from steelyard.cli.fit_energy import run as fitted

        return fitted(budget, as_json=as_json, quiet=quiet)
    if test:
        from steelyard.cli.selftest import run

        return run(budget, as_json=as_json, quiet=quiet)
    from steelyard.cli.doctor import examine, show
    from steelyard.cli.progress import showing

    with showing(4.0, quiet=quiet or as_json) as progress:
        progress("looking at engines, noise and ceilings", None)
        found = examine()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not quiet:
        show(found)
    return 0


def show_run(result: Any, *, as_json: bool, quiet: bool) -> None:
    from steelyard.pipeline.render import quality_estimates
    from steelyard.report import text
    from steelyard.report.load_tables import load_tables

    records = result.records
    if as_json:
        document = text.summary_json(records, quality_estimates(records))
        click.echo(json.dumps({**document, "folder": str(result.folder), "report": str(result.report)}, indent=2))
        return
    if quiet:
        return
    console = Console()
    console.print(text.summary_table(records, quality_estimates(records)))
    for table in load_tables(records) if records.run.command == "benchmark" else ():
        console.print(table)
    for part in _parts(records):
        console.print(part)
    if any(trial.after is not None for trial in records.trials):
        console.print(text.trials_table(records))
    if any(trial.refusal is not None for trial in records.trials):
        console.print(text.refusals_table(records))
    for finding in records.findings:
        console.print(f"[bold]{finding.name}[/]: ", end="")
        console.print(finding.claim, markup=False, soft_wrap=True)
    for warning in records.run.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    console.print(text.verdict_lines(records), soft_wrap=True)
    if records.outcome is not None:
        console.print(f"artifact  {result.best}", markup=False, soft_wrap=True)
    console.print(f"report    {result.report}", markup=False, soft_wrap=True)


def _parts(records: Any) -> list[Any]:
    """Tables that are shown where their readings are there."""
    from steelyard.report import text

    tables: list[Any] = [text.carbon_table(records)]
    if records.baseline is not None:
        tables += [text.memory_table(records.baseline), text.machine_table(records.baseline)]
    return [table for table in tables if table is not None]


def _batches(words: str) -> list[int]:
    return _numbers(words, "batch sizes", "1,8,32")


def _numbers(words: str, what: str, example: str, kind: type = int) -> list[Any]:
    try:
        return [kind(part) for part in words.split(",")]
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        raise InvalidInput(f"{what} are {numbers} with commas between, such as {example}; got {words!r}") from None
