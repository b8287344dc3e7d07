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
def showing(budget_s: float | None, *, quiet: bool) -> Iterator[Progress]:
    """A `Progress` for the length of a job whose measured part lasts about `budget_s`, or as long as it takes."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar(budget_s) as progress:
            yield progress
    else:
        yield _Lines(budget_s)


class _Pace:
    """Seconds left: what the budget leaves, or, without one, as long as the work so far promises."""

    def __init__(self, budget_s: float | None) -> None:
        self._budget_s, self._began = budget_s, 0.0

    def left(self, share: float) -> float | None:
        if self._budget_s is not None:
            return self._budget_s * max(0.0, 1 - share)
        self._began = self._began or time.monotonic()
        return (time.monotonic() - self._began) * (1 - share) / share if share > 0 else None


class _Lines:
    """One line whenever the subject of the work changes."""

    def __init__(self, budget_s: float | None) -> None:
        self._pace, self._started, self._last = _Pace(budget_s), time.monotonic(), ""

    def __call__(self, what: str, share: float | None) -> None:
        seconds = None if share is None else self._pace.left(share)
        if what == self._last:
            return
        self._last = what
        left = "" if seconds is None else f", {_clock(seconds)} left"
        print(f"[{_clock(time.monotonic() - self._started)}{left}] {what}", file=sys.stderr, flush=True)


class _Left(ProgressColumn):
    """Time left, once the measured part has begun."""

    def __init__(self, budget_s: float | None) -> None:
        super().__init__()
        self._pace = _Pace(budget_s)

    def render(self, task: Task) -> Text:
        seconds = None if task.total is None else self._pace.left(task.completed)
        return Text("" if seconds is None else f"{_clock(seconds)} left", style="cyan")


@contextmanager
def _bar(budget_s: float | None) -> Iterator[Progress]:
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
