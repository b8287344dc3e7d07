"""`steelyard gate`: its words, what it shows, and the files it leaves for a CI server."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from steelyard.cli.commands import output
from steelyard.errors import InvalidInput

if TYPE_CHECKING:
    from steelyard.records import GateReport

__all__ = ["gate"]


@click.command()
@click.argument("baseline", type=click.Path())
@click.option("--against", "--candidate", "candidate", type=click.Path(), help="The candidate that is judged.")
@click.option("--require", multiple=True, help="What must hold, such as 'latency <= 1.02x' or 'accuracy drop <= 0.2%'.")
@click.option("--save", type=click.Path(), help="Write BASELINE's readings into this file, for the repository.")
@click.option("--scores", is_flag=True, help="With --save: keep all probabilities, which areas under curves need.")
@click.option("--data", help="Judge quality of both on this data, as in evaluate --data.")
@click.option("--budget", default="2m", show_default=True, help="Time to measure; half is kept to confirm a failure.")
@click.option("--stored", is_flag=True, help="Compare stored readings, though both could be measured now.")
@click.option("--allow-unlike-machines", is_flag=True, help="Compare stored readings of two machines, and say so.")
@click.option(
    "--undecided", type=click.Choice(["pass", "fail"]), default="pass", show_default=True,
    help="What becomes of a requirement that the readings can neither prove nor refute.",
)  # fmt: skip
@click.option("--no-history", is_flag=True, help="Neither read nor extend this machine's history of controls.")
@click.option("--junit", type=click.Path(), help="Write JUnit XML, one test case a requirement.")
@click.option("--markdown", type=click.Path(), help="Write Markdown for a pull-request comment.")
@click.option("--out", type=click.Path(), help="Append the report and its raw readings to this folder, with gate.html.")
@output
def gate(
    baseline: str,
    candidate: str | None,
    require: tuple[str, ...],
    save: str | None,
    scores: bool,
    budget: str,
    junit: str | None,
    markdown: str | None,
    no_history: bool,
    as_json: bool,
    quiet: bool,
    **words: Any,
) -> int:
    """Judge a candidate against BASELINE: steelyard gate BASELINE --against CANDIDATE --require ...

    Each is a run folder, a deployed folder (RUN/best) or, for the baseline, a file that --save wrote. Exit status 0
    unless a requirement is broken, and a broken cost is confirmed by a second measurement first; 1 if one is.
    """
    from steelyard import api
    from steelyard.cli.progress import showing

    if save is not None:
        _check_save(candidate, require)
        with showing(api.parse_budget(budget), quiet=quiet or as_json) as progress:
            path = api.save_baseline(
                baseline, save, data=words["data"], budget=budget, scores=scores, progress=progress
            )
        _say_saved(path, as_json=as_json, quiet=quiet)
        return 0
    if candidate is None:
        raise InvalidInput("give the candidate with --against, or --save FILE to keep a baseline")
    command = ("steelyard", *sys.argv[1:])
    with showing(api.parse_budget(budget), quiet=quiet or as_json) as progress:
        report = api.gate(
            baseline, candidate, require=require, budget=budget, history=not no_history, progress=progress,
            command=command, **words,
        )  # fmt: skip
    _leave(report, junit, markdown)
    _show(report, words["out"], as_json=as_json, quiet=quiet)
    return 0 if report.passed else 1


def _check_save(candidate: str | None, require: tuple[str, ...]) -> None:
    if candidate is not None or require:
        raise InvalidInput("--save keeps a baseline and judges nothing: leave out --against and --require")


def _say_saved(path: Path, *, as_json: bool, quiet: bool) -> None:
    from steelyard.report.numbers import size

    if as_json:
        click.echo(json.dumps({"baseline": str(path), "bytes": path.stat().st_size}, indent=2))
    elif not quiet:
        click.echo(f"baseline  {path} ({size(path.stat().st_size)})")
        click.echo(f"use it    steelyard gate {path} --against RUN --require 'latency <= 1.02x'")


def _leave(report: GateReport, junit: str | None, markdown: str | None) -> None:
    """The files that were asked for, and the summary of the GitHub step that this runs in."""
    from steelyard.report import gating

    if junit is not None:
        _write(Path(junit), gating.junit(report))
    if markdown is not None:
        _write(Path(markdown), gating.markdown(report))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary and (markdown is None or Path(summary).resolve() != Path(markdown).resolve()):
        _write(Path(summary), gating.markdown(report), append=True)


def _write(path: Path, content: str, *, append: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None


def _show(report: GateReport, out: str | None, *, as_json: bool, quiet: bool) -> None:
    from steelyard.report import gating

    if as_json:
        page = None if out is None else str(Path(out) / "gate.html")
        click.echo(json.dumps({**gating.gate_json(report), "report": page}, indent=2, ensure_ascii=False))
    elif not quiet:
        console = Console()
        console.print(gating.gate_table(report))
        console.print(gating.gate_lines(report), soft_wrap=True)
        if out is not None:
            console.print(f"report    {Path(out) / 'gate.html'}", markup=False, soft_wrap=True)
