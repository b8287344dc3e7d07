"""What the user asked for, and how a job talks while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.probe.host import environment
from steelyard.records import Requirement, Run, SubjectSpec

__all__ = ["Job", "Progress", "check_same", "share_done", "silent"]

Progress = Callable[[str, float | None], None]
"""Told what is happening and, where it is known, the share of the whole job that is done, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run: a subject, what must hold, where the records go and how long it may take."""

    spec: SubjectSpec
    out: Path
    requirements: tuple[Requirement, ...] = ()
    budget_s: float = 600.0
    limits: Limits = field(default_factory=Limits)
    region: str | None = None  # the grid that powers this machine, for carbon
    percentiles: tuple[float, ...] = ()  # of latency, in per cent, to show
    words: tuple[str, ...] = ()  # further words of the command that repeats the run
    minimise: str = "latency"  # among the plans that keep every requirement
    techniques: tuple[str, ...] = ()  # that plans may be made of; none: all
    engines: tuple[str, ...] = ()  # that plans may end in; none: all
    ray: str | None = None  # the Ray cluster that candidates are spread over: auto, local or an address


def silent(_what: str, _share: float | None) -> None:
    """A `Progress` that says nothing."""


def share_done(left_s: float, budget_s: float) -> float:
    """Of the budget; a run that takes longer than its budget is not less than begun nor more than done."""
    return min(1.0, max(0.0, 1 - left_s / budget_s))


def check_same(job: Job, run: Run, command: str) -> None:
    """Raise `InvalidInput` unless the folder's run was started by the same words on a machine like this one (V9)."""
    if run.command != command:
        raise InvalidInput(f"{job.out} holds a {run.command} run: give another --out, or remove the folder")
    if environment().machine != run.environment.machine:
        raise InvalidInput(
            f"{job.out} was begun on another machine ({run.environment.cpu}, {run.environment.cores} cores): "
            "numbers of unlike machines are not compared; give another --out"
        )
    asked = (job.spec, tuple(r.text for r in job.requirements), job.minimise)
    had = (run.spec, tuple(r.text for r in run.requirements), run.minimise)
    if asked != had:
        what = next(w for w, a, h in zip(("subject", "requirements", "--minimise"), asked, had, strict=True) if a != h)
        raise InvalidInput(
            f"{job.out} holds a run with other {what} ({had[0].source}; {', '.join(had[1])}): give another --out, or remove the folder"
        )
