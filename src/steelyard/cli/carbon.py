"""`steelyard carbon`: the footprint of many inferences, from a run's records."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from steelyard.cli.commands import output, region

__all__ = ["carbon"]


@click.command()
@click.argument("folder", type=click.Path())
@region
@click.option(
    "--inferences", type=click.IntRange(1), default=1_000_000, show_default=True, help="How many, at batch 1."
)
@click.option("--forecast", type=click.Path(), help="CSV or JSON with columns time and g_per_kwh: when to begin?")
@click.option("--within", help="Time until it must be done, such as 12h.")
@output
def carbon(
    folder: str,
    region: str | None,
    inferences: int,
    forecast: str | None,
    within: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """What many inferences of the model in run FOLDER take and emit: here, on other grids, or begun at another hour.

    For an epoch or a night's batch, give its number of examples as --inferences.
    """
    from steelyard import api
    from steelyard.pipeline.footprint import footprint
    from steelyard.report import footprint as words

    found = footprint(
        Path(folder),
        inferences,
        region=region,
        forecast=None if forecast is None else Path(forecast),
        within_s=None if within is None else api.parse_budget(within),
    )
    start = found.start
    if as_json:
        begin = None if start is None else {
            "time": start.time.isoformat(timespec="minutes"),
            "g_per_kwh": start.g_per_kwh,
            "at_once_g_per_kwh": start.at_once_g_per_kwh,
            "saved": start.saved,
        }  # fmt: skip
        parts = (found.model, found.inferences, found.seconds, found.energy, found.grids, begin)
        click.echo(json.dumps(words.footprint_json(*parts), indent=2))
        return 0
    if quiet:
        return 0
    console = Console()
    console.print(words.head_lines(found.model, found.inferences, found.seconds, found.energy), soft_wrap=True)
    console.print(words.footprint_table(found.grids))
    if start is not None:
        time = start.time.strftime("%Y-%m-%d %H:%M UTC")
        console.print(words.begin_line(time, start.g_per_kwh, start.at_once_g_per_kwh, start.saved), soft_wrap=True)
    return 0
