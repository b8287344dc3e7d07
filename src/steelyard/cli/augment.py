"""`steelyard augment`: its words, and what it shows."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from steelyard.cli.commands import declarations, output

if TYPE_CHECKING:
    from steelyard.pipeline.augment import Previewed

__all__ = ["augment"]


@click.command()
@click.argument("source")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--data", help="'digits', a folder, an .npz, .csv or .parquet file, or file.py:function.")
@click.option("--recipe", help="Whose augmentation to begin with: a YAML file or a ready one's name.")
@click.option(
    "--checker", help="Who knows the labels: 'model' (SOURCE with --weights), or module:function from texts to classes."
)
@click.option(
    "--examples", type=click.IntRange(1), default=500, show_default=True, help="How many the checker is asked about."
)
@click.option("--sheet", type=click.Path(), help="File for the pictures that the net sees (augmentation.png).")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the split of data that comes unsplit, and of the changes.",
)
@click.option("--label", help="Label column of a table (the last).")
@declarations()
@output
def augment(source: str, changes: tuple[str, ...], sheet: str | None, as_json: bool, quiet: bool, **words: Any) -> int:
    """Look at what augmentation makes of SOURCE's training examples, before training on them.

    NAME=VALUE are its words: rotation=20 flip=true for pictures, synonym=0.1 typo=0.05 for texts. With --checker each word is
    held against the labels: how many of the examples that it changed are something else now.
    """
    from steelyard import api
    from steelyard.cli.progress import showing

    with showing(None, quiet=quiet or as_json) as progress:
        found = api.augment(source, *changes, progress=progress, **words)
    path = None
    if found.sheet:
        from steelyard.pipeline.augment import sheet_png

        path = Path(sheet or "augmentation.png")
        sheet_png(found.sheet, path)
    _show(found, path, as_json=as_json, quiet=quiet)
    return 0


def _show(found: Previewed, path: Path | None, *, as_json: bool, quiet: bool) -> None:
    from steelyard.report import augmenting

    if as_json:
        document = {
            "checks": augmenting.checks_json(found.checks),
            "rewrites": [{"before": before, "after": after} for before, after in found.rewrites],
            "sheet": None if path is None else str(path),
        }
        click.echo(json.dumps(document, indent=2))
        return
    if quiet:
        return
    console = Console()
    if found.rewrites:
        console.print(augmenting.rewrites_table(found.rewrites))
    if found.checks:
        console.print(augmenting.checks_table(found.checks))
    disputes = augmenting.disputes_table(found.checks)
    if disputes is not None:
        console.print(disputes)
    if found.standardised is not None:
        console.print(augmenting.contract_line(found.contract, found.standardised), markup=False, soft_wrap=True)
    if path is not None:
        console.print(f"pictures  {shlex.quote(str(path))}", markup=False, soft_wrap=True)
