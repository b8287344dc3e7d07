"""`steelyard compare`: its words, and what it shows."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from steelyard.cli.commands import declarations, output

if TYPE_CHECKING:
    from steelyard.api import Compared, Kind

__all__ = ["compare", "show"]


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--command", "kind", flag_value="commands", help="FIRST and SECOND are commands, run without a shell.")
@click.option("--callable", "kind", flag_value="callables", help="FIRST and SECOND are file.py:function, called without arguments.")  # fmt: skip
@click.option("--shell", is_flag=True, help="Run commands through /bin/sh.")
@click.option("--data", help="Judge quality too: 'digits', a folder, an .npz, .csv or .parquet file.")
@click.option(
    "--metric", "metrics", multiple=True, help="Metric to judge on the test split (accuracy); may be repeated."
)
@click.option("--band", default="2%", show_default=True, help="Differences of time too small to matter.")
@click.option("--level", type=float, default=0.95, show_default=True, help="Confidence of the whole answer.")
@click.option("--budget", default="2m", show_default=True, help="Time to measure, at most; it stops as soon as it is clear.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Examples in one call of a model.")
@click.option("--timeout", default="10m", show_default=True, help="Time for one step of one of the two.")
@click.option("--memory", type=click.FloatRange(min=0.1), help="GB that one may hold (4/5 of the machine's).")
@click.option("--seed", type=int, help="For the split of data that comes unsplit (0).")
@click.option("--label", help="Label column of a table (the last).")
@click.option("--no-history", is_flag=True, help="Leave this machine's history of controls as it is.")
@click.option("--out", type=click.Path(), help="Run folder (runs/FIRST-vs-SECOND).")
@declarations()
@output
def compare(
    first: str,
    second: str,
    kind: Kind | None,
    memory: float | None,
    timeout: str,
    no_history: bool,
    as_json: bool,
    quiet: bool,
    **words: Any,
) -> int:
    """Is SECOND faster or slower than FIRST, or equivalent? By how much, and how sure.

    Both are models (file.py[:function], torchvision:NAME, .onnx, .xml, .pt2, a deployed folder, a run folder), or with --callable
    Python functions, or with --command shell commands. They take turns in fresh processes, with the first again as a control,
    until the answer is clear or the budget ends. The same words go on where a stopped comparison stood.
    """
    from steelyard import api
    from steelyard.cli.progress import showing
    from steelyard.measure.process import Limits

    limits = Limits(seconds=api.parse_budget(timeout), memory_bytes=int((memory or 0) * 1e9))
    words["metrics"] = words["metrics"] or ("accuracy",)
    command = ("steelyard", *sys.argv[1:]) if len(sys.argv) > 1 else ("steelyard", "compare", first, second)
    with showing(api.parse_budget(words["budget"]), quiet=quiet or as_json) as progress:
        result = api.compare(
            first, second, kind=kind, history=not no_history, limits=limits, progress=progress, command=command,
            **words,
        )  # fmt: skip
    show(result, as_json=as_json, quiet=quiet)
    return 0


def show(result: Compared, *, as_json: bool, quiet: bool) -> None:
    """Print the verdict and its table, or one JSON document."""
    from steelyard.report import comparing

    found = result.compared
    if as_json:
        click.echo(
            json.dumps(
                {**comparing.compared_json(found), "folder": str(result.folder), "report": str(result.report)}, indent=2
            )
        )
        return
    if quiet:
        return
    console = Console()
    console.print(comparing.verdict_line(found), soft_wrap=True)
    console.print(comparing.compared_table(found))
    console.print(comparing.verdict_notes(found), soft_wrap=True)
    console.print(f"report    {shlex.quote(str(result.report))}", markup=False, soft_wrap=True)
