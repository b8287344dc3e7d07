"""`steelyard doctor --self-test`: runs it, and prints its rates."""

from __future__ import annotations

import json

import click
from rich.console import Console

from steelyard.api import parse_budget
from steelyard.cli.progress import showing
from steelyard.pipeline.selftest import BAND, EXAMPLES, self_test
from steelyard.report import selftest as report
from steelyard.report.numbers import seconds
from steelyard.stats.proportion import clopper_pearson

__all__ = ["run"]

ALPHA = 0.05


def run(budget: str, *, as_json: bool, quiet: bool) -> int:
    """Exit status 1 if the false-alarm rate is shown to be above 5 %."""
    budget_s = parse_budget(budget)
    with showing(budget_s, quiet=quiet or as_json) as progress:
        found = self_test(budget_s, progress)
    nothing = found.times[0]
    low, _ = clopper_pearson(nothing.count("faster", "slower"), len(nothing.outcomes))
    if as_json:
        rates = {"times": report.rates_json(found.times), "drops": report.rates_json(found.drops)}
        click.echo(
            json.dumps(
                {**rates, "band": BAND, "wall_s": found.wall_s, "rounds": found.rounds, "flagged": found.flagged},
                indent=2,
            )
        )
    elif not quiet:
        console = Console()
        console.print(report.time_table(found.times, BAND))
        console.print(report.drop_table(found.drops, EXAMPLES))
        console.print(
            f"{len(nothing.outcomes)} comparison(s) in {seconds(found.wall_s)}; {found.flagged} of {found.rounds} rounds flagged. "
            f"{'False alarms above 5 %: verdicts on this machine are not to be trusted now.' if low > ALPHA else ''}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        if len(nothing.outcomes) < 20:
            console.print("A longer --budget makes more comparisons, and the intervals narrower.", soft_wrap=True)
    return 1 if low > ALPHA else 0
