"""`steelyard suite`: the same cells read again, and two readings compared."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from steelyard.cli.commands import output

__all__ = ["suite"]


@click.group()
def suite() -> None:
    """Benchmark suites: models x data x engines x batch sizes, read in fresh processes, and compared cell by cell."""


@suite.command()
@click.argument("file", type=click.Path(), required=False)
@click.option("--out", type=click.Path(), help="Folder of the suite (runs/suite-NAME).")
@click.option("--budget", help="Time of one cell, such as 20s (what FILE says).")
@output
def run(file: str | None, out: str | None, budget: str | None, as_json: bool, quiet: bool) -> int:
    """Read every cell of the suite in FILE (YAML), or of the built-in one: two small nets on digits.

    A stopped suite goes on where it stood; a cell that fails is recorded with its reason, and the rest goes on. Exit
    status 1 if a cell could not be read.
    """
    from steelyard import api
    from steelyard.cli.progress import showing
    from steelyard.report import suites

    with showing(None, quiet=quiet or as_json) as progress:
        found, cells, folder = api.run_suite(file, out=out, budget=budget, progress=progress)
    if as_json:
        places = {"folder": str(folder), "report": str(folder / "report.html")}
        click.echo(json.dumps({**suites.suite_json(found, cells), **places}, indent=2))
    elif not quiet:
        console = Console()
        console.print(suites.cells_table(found, cells))
        for line in suites.stress_lines(cells):
            console.print(line, markup=False, highlight=False)
        console.print(suites.refusal_lines(found, cells), soft_wrap=True)
        console.print(f"suite     {folder}", markup=False, soft_wrap=True)
        console.print(f"report    {folder / 'report.html'}", markup=False, soft_wrap=True)
    return 0 if all(cell.refusal is None for cell in cells) else 1


@suite.command()
@click.argument("folders", nargs=-1, type=click.Path())
@click.option("--band", default="2%", show_default=True, help="Ratio of times too close to 1 to matter.")
@click.option("--allow-unlike-machines", is_flag=True, help="Compare readings of two machines, and say so.")
@click.option("--out", type=click.Path(), help="Write a page, report.html, into this folder.")
@output
def compare(
    folders: tuple[str, ...], band: str, allow_unlike_machines: bool, out: str | None, as_json: bool, quiet: bool
) -> int:
    """Compare suites that `suite run` wrote: every further folder of FOLDERS against the first."""
    from steelyard import api
    from steelyard.report import suites

    changes = api.compare_suites(
        folders, band=api.parse_share(band), allow_unlike_machines=allow_unlike_machines, out=out
    )
    if as_json:
        page = None if out is None else str(Path(out) / "report.html")
        click.echo(json.dumps({**suites.changes_json(changes), "report": page}, indent=2))
    elif not quiet:
        console = Console()
        for change in changes:
            console.print(suites.change_table(change))
            console.print(suites.change_lines(change), soft_wrap=True)
        if out is not None:
            console.print(f"report    {Path(out) / 'report.html'}", markup=False, soft_wrap=True)
    return 0
