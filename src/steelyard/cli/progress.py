"""Progress on stderr: a bar with time left on a terminal, a line a step elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from steelyard.pipeline.job import Progress, silent

__all__ = ["showing"]


@contextmanager
def showing(budget_s: float, *, quiet: bool) -> Iterator[Progress]:
    """A `Progress` for the length of a job whose measured part lasts about `budget_s`."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar(budget_s) as progress:
            yield progress
    else:
        yield _Lines(budget_s)


class _Lines:
    """One line whenever the subject of the work changes."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s, self._started, self._last = budget_s, time.monotonic(), ""

    def __call__(self, what: str, share: float | None) -> None:
        if what == self._last:
            return
        self._last = what
        left = "" if share is None else f", {_clock(self._budget_s * max(0.0, 1 - share))} left"
        print(f"[{_clock(time.monotonic() - self._started)}{left}] {what}", file=sys.stderr, flush=True)


class _Left(ProgressColumn):
    """Time left by the budget, once the measured part has begun."""

    def __init__(self, budget_s: float) -> None:
        super().__init__()
        self._budget_s = budget_s

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        return Text(f"{_clock(self._budget_s * (1 - task.completed))} left", style="cyan")


@contextmanager
def _bar(budget_s: float) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), _Left(budget_s))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def progress(what: str, share: float | None) -> None:
            if share is None:
                bar.update(task, description=what)
            else:
                bar.update(task, description=what, total=1.0, completed=min(1.0, max(0.0, share)))

        yield progress


def _clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> _clock(83)
    '1:23'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
