"""`steelyard ledger`: its words, and what it shows."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.console import Console

from steelyard.cli.commands import declarations, output

if TYPE_CHECKING:
    from steelyard.api.ledgers import Ledgered

__all__ = ["ledger", "show"]


@click.command()
@click.argument("source")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--techniques", required=True,
    help="With commas between: amp, checkpoint, accumulate, channels-last, compile, fused, 8bit, augment, ema, swa, "
    "label-smoothing, dropout, prune, or changes of the recipe such as optimiser=adam+lr=0.001.",
)  # fmt: skip
@click.option("--data", help="'digits', a folder, an .npz, .csv or .parquet file, or file.py:function.")
@click.option("--recipe", default="warmup-cosine", show_default=True, help="The baseline's: YAML file, or a ready one.")
@click.option("--seeds", type=click.IntRange(2), default=3, show_default=True, help="Trainings of each.")
@click.option("--target", help="Time until 'accuracy >= 0.90' on validation, in place of the whole training's.")
@click.option("--require", default="accuracy drop <= 1%", show_default=True, help="What a technique must keep to pay.")
@click.option("--pay", type=click.Choice(["time", "memory", "energy"]), default="time", show_default=True, help="What it must save.")  # fmt: skip
@click.option("--budget", default="5m", show_default=True, help="For steps that take turns, of four techniques.")
@click.option("--timeout", default="1h", show_default=True, help="Time for one training.")
@click.option("--memory", type=click.FloatRange(min=0.1), help="GB that one training may hold (4/5 of the machine's).")
@click.option("--seed", type=int, default=0, show_default=True, help="For the split of data that comes unsplit.")
@click.option("--label", help="Label column of a table (the last).")
@click.option("--out", type=click.Path(), help="Run folder (runs/NAME-ledger).")
@declarations()
@output
def ledger(
    source: str,
    changes: tuple[str, ...],
    techniques: str,
    pay: Literal["time", "memory", "energy"],
    timeout: str,
    memory: float | None,
    as_json: bool,
    quiet: bool,
    **words: Any,
) -> int:
    """What does each training technique bring on SOURCE? Those that do not pay are left out of the recipe that comes out.

    SOURCE is file.py[:function] (its code is run) or torchvision:NAME. NAME=VALUE changes the baseline's recipe: epochs=10.
    Each technique is trained alone over the seeds, and its steps take turns with the baseline's; those that pay are tried
    together. The same command on the same folder goes on where a stopped one stood. Exit status 3 if nothing pays.
    """
    from steelyard import api
    from steelyard.api import ledger as run
    from steelyard.cli.progress import showing
    from steelyard.measure.process import Limits

    limits = Limits(seconds=api.parse_budget(timeout), memory_bytes=int((memory or 0) * 1e9))
    names = tuple(name.strip() for name in techniques.split(",") if name.strip())
    command = ("steelyard", *sys.argv[1:]) if len(sys.argv) > 1 else ("steelyard", "ledger", source)
    with showing(None, quiet=quiet or as_json) as progress:
        result = run(source, names, *changes, pay=pay, limits=limits, progress=progress, command=command, **words)
    show(result, as_json=as_json, quiet=quiet)
    return 0 if result.passed else 3


def show(result: Ledgered, *, as_json: bool, quiet: bool) -> None:
    """Print the ledger and the reasons, or one JSON document."""
    from steelyard.report import ledger as words

    if as_json:
        places = {"folder": str(result.folder), "recipe_file": str(result.recipe), "report": str(result.report)}
        click.echo(json.dumps({**words.ledger_json(result.asked, result.end), **places}, indent=2))
        return
    if quiet:
        return
    console = Console()
    console.print(words.ledger_table(result.asked, result.end))
    console.print(words.ledger_notes(result.end), soft_wrap=True)
    console.print(words.conclusion(result.asked, result.end), style="bold", markup=False, soft_wrap=True)
    console.print(f"recipe    {shlex.quote(str(result.recipe))}", markup=False, soft_wrap=True)
    console.print(f"report    {shlex.quote(str(result.report))}", markup=False, soft_wrap=True)
