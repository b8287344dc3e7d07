"""`steelyard train`: its words, and what it shows."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from steelyard.cli.commands import declarations, output

if TYPE_CHECKING:
    from steelyard.api.training import Trained

__all__ = ["show", "train"]


@click.command()
@click.argument("source")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--data", help="'digits', a folder, an .npz, .csv or .parquet file, or file.py:function.")
@click.option(
    "--recipe", default="warmup-cosine", show_default=True,
    help="YAML file, or a ready one: warmup-cosine, classic, augment-light, augment-strong, adam-then-sgd, hold-then-decay, "
    "low-memory, fast-cpu, fast-gpu, transfer.",
)  # fmt: skip
@click.option("--find-lr", is_flag=True, help="Find the learning rate by a range test, and train at it.")
@click.option(
    "--resume", type=click.Choice(["auto", "never"]), default="auto", show_default=True,
    help="Go on from the folder's last checkpoint, bit for bit, or begin anew.",
)  # fmt: skip
@click.option("--checkpoint", default="5m", show_default=True, help="How often: a time, or '100 steps'.")
@click.option("--deterministic", is_flag=True, help="Refuse operations whose sums depend on chance.")
@click.option("--skip-bad", is_flag=True, help="Leave out examples that cannot be read, and count them.")
@click.option("--backbone", type=click.Path(), help="Weights of all but the classifier, which starts anew.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True,
    help="That train together, one an accelerator, or sharing the cores: the same batches and weights as one makes.",
)  # fmt: skip
@click.option(
    "--spread", type=click.Choice(["data", "sharded"]), default="data", show_default=True,
    help="Each process holds the whole model, or a part of every weight.",
)  # fmt: skip
@click.option("--scaling", is_flag=True, help="Measure what the processes gain over one.")
@click.option(
    "--start-when-clean",
    type=click.Path(),
    metavar="FORECAST",
    help="CSV or JSON with columns time and g_per_kwh: begin when the grid is cleanest.",
)
@click.option("--lasts", help="How long the training lasts, such as 2h, for --start-when-clean (the recipe's seconds).")
@click.option("--within", help="Time until it must be done, such as 12h, for --start-when-clean.")
@click.option("--out", type=click.Path(), help="Run folder (runs/NAME-train).")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="For the split of data that comes unsplit; seed=1 is the training's.",
)
@click.option("--label", help="Label column of a table (the last).")
@declarations()
@output
def train(source: str, changes: tuple[str, ...], as_json: bool, quiet: bool, **words: Any) -> int:
    """Train SOURCE by a recipe, and judge it once on data nothing has seen.

    SOURCE is file.py[:function] (its code is run) or torchvision:NAME. NAME=VALUE changes the recipe: lr=0.1 amp=bf16. The
    same command on the same folder goes on where a stopped one stood. Exit status 1 if the loss is no longer a number.
    """
    from steelyard.api.training import train as run
    from steelyard.cli.progress import showing

    with showing(None, quiet=quiet or as_json) as progress:
        result = run(source, *changes, progress=progress, **words)
    show(result, as_json=as_json, quiet=quiet)
    return 0 if result.passed else 1


def show(result: Trained, *, as_json: bool, quiet: bool) -> None:
    """Print tables, or one JSON document."""
    from steelyard.report import augmenting, together, trained
    from steelyard.report.training import findings_table

    run, judged, gap = result.run, result.quality, result.gap
    if as_json:
        places = {"folder": str(result.folder), "weights": str(result.weights), "report": str(result.report)}
        click.echo(json.dumps({**trained.training_json(run, judged, gap), **places}, indent=2))
        return
    if quiet:
        return
    console = Console()
    console.print(trained.epochs_table(run))
    console.print(trained.splits_table(judged, gap))
    found = findings_table(result.findings)
    if found is not None:
        console.print(found)
    if run.search is not None:
        console.print(trained.rate_line(run.search), markup=False, soft_wrap=True)
    if run.label_checks:
        console.print(augmenting.checks_table(run.label_checks))
    for words in (*together.lines(run), *trained.said_lines(run)):
        console.print(words, markup=False, soft_wrap=True)
    if run.note:
        console.print(f"stopped: {run.note}", style="red", markup=False, soft_wrap=True)
    console.print(f"weights   {shlex.quote(str(result.weights))}", markup=False, soft_wrap=True)
    console.print(f"report    {shlex.quote(str(result.report))}", markup=False, soft_wrap=True)
