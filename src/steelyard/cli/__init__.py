"""The command line: words to calls, results to the terminal. The only room that prints."""

from __future__ import annotations

import sys

import click

from steelyard import __version__
from steelyard.errors import SteelyardError
from steelyard.privacy import decline_telemetry

__all__ = ["main"]

_COMMANDS = {
    "optimize": "Make a model faster, smaller and greener under requirements, and prove it.",
    "benchmark": "What a model costs: latency, throughput, memory, size, energy. No data needed.",
    "profile": "Where the time goes: operators, layers on the roofline, a trace, findings.",
    "evaluate": "How good is a model: every metric with its interval, from saved predictions or a model.",
    "train": "Train a model by a recipe, and judge it once on data nothing has seen.",
    "ledger": "What each training technique brings on a model, over seeds; the recipe that pays.",
    "augment": "Look at what augmentation makes of training examples, and of their labels.",
    "compare": "Is one faster than the other, slower or equivalent: models, Python functions or commands.",
    "gate": "May this change pass: a candidate judged against a baseline, for CI.",
    "carbon": "What many inferences of a run's model emit: on this grid, on others, or begun later.",
    "suite": "Benchmark suites: models x data x engines x batches, read and compared.",
    "report": "Render a run's report again, from its records alone.",
    "verify": "Check a deployed folder on the machine where it will live.",
    "predict": "What a deployed folder says of a picture, a text, or many examples.",
    "doctor": "Engines, instruction sets, sensors and noise of this machine.",
}


_HOMES = {
    "augment": "steelyard.cli.augment",
    "carbon": "steelyard.cli.carbon",
    "compare": "steelyard.cli.compare",
    "evaluate": "steelyard.cli.evaluate",
    "gate": "steelyard.cli.gate",
    "ledger": "steelyard.cli.ledger",
    "optimize": "steelyard.cli.optimize",
    "predict": "steelyard.cli.deployed",
    "profile": "steelyard.cli.profile",
    "suite": "steelyard.cli.suite",
    "train": "steelyard.cli.train",
    "verify": "steelyard.cli.deployed",
}


class _Lazy(click.Group):
    """Commands are imported when they run, so that --help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = getattr(import_module(_HOMES.get(cmd_name, "steelyard.cli.commands")), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="steelyard")
def cli() -> None:
    """Puts a deep-learning model on the scale, makes it better, and proves the result.

    Exit status: 0 requirements met, 1 a check failed, 2 bad input, 3 no candidate passed.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is one line on stderr and exit status 2."""
    decline_telemetry()
    try:
        status = cli.main(args=arguments, prog_name="steelyard", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        _stopped()
    except SteelyardError as error:
        click.echo(f"steelyard: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        _stopped()
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that went away: no fault of the program, so no traceback
        where = f"{error.filename}: " if error.filename else ""
        click.echo(
            f"steelyard: {where}{error.strerror or error}; what was recorded before is safe, and the same command goes on from there",
            err=True,
        )
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _stopped() -> None:
    click.echo("steelyard: stopped; what was recorded is safe, and the same command goes on from there", err=True)
    sys.exit(130)
