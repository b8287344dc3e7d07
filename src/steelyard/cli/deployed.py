"""`steelyard verify` and `steelyard predict`: a deployed folder where it lives."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from steelyard.cli.commands import output
from steelyard.errors import InvalidInput

if TYPE_CHECKING:
    from steelyard.subject.deployed import Answer
    from steelyard.verify.checkup import Checkup

__all__ = ["predict", "verify"]


@click.command()
@click.argument("folder", type=click.Path())
@click.option("--budget", default="5s", show_default=True, help="Time to measure.")
@output
def verify(folder: str, budget: str, as_json: bool, quiet: bool) -> int:
    """Check a deployed FOLDER on this machine: whole, packages, instructions, same outputs, cost.

    Exit status 1 if a check fails. Where a model in 8 bits gives other outputs here, its fallback is tried and named.
    """
    from steelyard import api
    from steelyard.cli.progress import showing

    seconds = api.parse_budget(budget)
    with showing(seconds, quiet=quiet or as_json) as progress:
        checkup = api.verify_folder(folder, seconds=seconds, progress=progress)
    if as_json:
        rows = [{"name": c.name, "outcome": c.outcome, "detail": c.detail} for c in checkup.checks]
        click.echo(json.dumps({"passed": checkup.passed, "checks": rows}, indent=2))
    elif not quiet:
        _show(checkup)
    return 0 if checkup.passed else 1


def _show(checkup: Checkup) -> None:
    console = Console()
    for check in checkup.checks:
        mark, style = {"passed": ("✓", "green"), "failed": ("✗", "red"), "noted": ("•", "yellow")}[check.outcome]
        console.print(f"[{style}]{mark}[/] {check.name}: ", end="")
        console.print(check.detail, markup=False, highlight=False, soft_wrap=True)
    if checkup.measured is not None:
        from steelyard.report.text import measurement_table

        console.print(measurement_table(checkup.measured))


@click.command()
@click.argument("folder", type=click.Path())
@click.argument("examples", type=click.Path(), required=False)
@click.option("--text", help="A text to classify, for models of texts.")
@click.option("--out", type=click.Path(), help="Of many examples: the table to write (standard output).")
@click.option("--label", help="Column of a table that holds the true classes (label, y, target ...).")
@click.option("--top", default=3, show_default=True, type=click.IntRange(1), help="Of one example: classes to show.")
@click.option(
    "--run-code", is_flag=True, help="Trust FOLDER: run the code that it carries, such as what encodes texts."
)
@output
def predict(
    folder: str,
    examples: str | None,
    text: str | None,
    out: str | None,
    label: str | None,
    top: int,
    run_code: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """What the deployed model in FOLDER says of EXAMPLES.

    EXAMPLES is a picture, a folder of pictures (one folder a class, or none), or a table of features or texts (.csv, .tsv,
    .parquet, .npz). Of many the answers are a CSV, with the true labels where they are known, that `steelyard evaluate` reads.
    """
    from pathlib import Path

    if (examples is None) == (text is None):
        raise InvalidInput("give either EXAMPLES (a picture, a folder or a table) or --text")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        if text is not None or not _many(Path(str(examples))):
            _one(folder, examples, text, top, run_code, as_json=as_json, quiet=quiet)
        else:
            _all(folder, str(examples), out, label, run_code, as_json=as_json, quiet=quiet)
    for warning in said:
        click.echo(f"steelyard: {warning.message}", err=True)
    return 0


def _many(path: Any) -> bool:
    from steelyard.subject.columns import SUFFIXES

    return path.is_dir() or path.suffix in SUFFIXES


def _one(
    folder: str, picture: str | None, text: str | None, top: int, run_code: bool, *, as_json: bool, quiet: bool
) -> None:
    from pathlib import Path

    from steelyard import api

    model = api.load(folder, run_code=run_code)
    if text is not None and not model.takes_texts:
        raise InvalidInput(f"{folder} does not take texts: give a picture or a table instead of --text")
    answer: Answer = model.predict(text if text is not None else Path(str(picture)))
    if as_json:
        click.echo(json.dumps({"label": answer.label, "probabilities": dict(answer.probabilities)}, indent=2))
    elif not quiet:
        for name, share in list(answer.probabilities.items())[:top]:
            click.echo(f"{share:7.2%}  {name}")


def _all(
    folder: str, examples: str, out: str | None, label: str | None, run_code: bool, *, as_json: bool, quiet: bool
) -> None:
    from steelyard import api
    from steelyard.cli.progress import showing

    if out is None and (as_json or quiet):
        raise InvalidInput("many answers are a table, which goes to standard output: give --out with --json or --quiet")
    with showing(None, quiet=quiet or as_json or out is None) as progress:
        made = api.predict(folder, examples, out, label=label, run_code=run_code, progress=progress)
    if as_json:
        click.echo(json.dumps({"out": out, "examples": made.examples, "labelled": made.labelled}, indent=2))
    elif not quiet and out is not None:
        told = (
            f"steelyard evaluate {out}" if made.labelled else "the examples came without labels, which evaluating needs"
        )
        click.echo(f"{made.examples:,} answers  {out}\n{told}")
