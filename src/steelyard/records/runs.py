"""What a run did: candidates, comparisons, verdicts and how it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.records.plans import Finding, Plan, Prediction, Refusal, Requirement, Verdict
from steelyard.records.profiles import GridFactor, Profiled
from steelyard.records.readings import Environment, Estimate, Measurement, Sample, Unavailable
from steelyard.records.studied import Contract, Floats, Overlap, SubjectSpec

__all__ = ["Comparison", "Outcome", "Run", "RunRecords", "Trial", "Verification"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Raw times of several arms that took turns.

    ``seconds[r, s, a]`` is the median time of one inference of arm ``a`` in slot ``s`` of round ``r``; each
    round is a set of fresh processes. ``order[r, s, a]`` is the arm's place in the slot. Arm 0 is the
    baseline; the arm called ``control`` is a second copy of it (the A/A control).
    """

    arms: tuple[str, ...]
    batch: int
    seconds: Floats  # (rounds, slots, arms)
    order: NDArray[np.int32]  # (rounds, slots, arms)
    flags: tuple[str, ...] = ()  # rounds flagged for steal, throttling or the like; nothing is removed
    ended_s: Floats | None = None  # (rounds,): seconds of measuring after which each round ended
    readings: tuple[tuple[Sample | Unavailable, ...], ...] = ()  # by arm: peak memory a round, processor time a run

    def with_more(self, later: Comparison) -> Comparison:
        """These rounds and later ones of the same comparison.

        Raises `InvalidInput` where they are not of the same arms and slots.
        """
        if later.arms != self.arms or later.seconds.shape[1:] != self.seconds.shape[1:]:
            raise InvalidInput("the rounds are not of one comparison: their arms or slots differ; give another --out")
        rows = zip(self.readings, later.readings, strict=True)
        return Comparison(
            arms=self.arms,
            batch=self.batch,
            seconds=np.concatenate([self.seconds, later.seconds]),
            order=np.concatenate([self.order, later.order]),
            flags=self.flags + later.flags,
            ended_s=None if self.ended_s is None or later.ended_s is None else np.append(self.ended_s, later.ended_s),
            readings=tuple(tuple(map(_chained, earlier, more)) for earlier, more in rows),
        )


def _chained(earlier: Sample | Unavailable, later: Sample | Unavailable) -> Sample | Unavailable:
    """One quantity over more rounds; what was once not read is not read."""
    if isinstance(earlier, Unavailable) or isinstance(later, Unavailable):
        return earlier if isinstance(earlier, Unavailable) else later
    both = None if earlier.blocks is None or later.blocks is None else np.append(earlier.blocks, later.blocks)
    return dataclasses.replace(earlier, values=np.append(earlier.values, later.values), blocks=both)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate: weighed, or refused with its reason. One JSON line, appended at once."""

    plan: Plan
    artifact: str | None = None  # folder, relative to the run folder
    after: Measurement | None = None  # quality on the validation split and cost
    comparison: Comparison | None = None  # quick latency against the baseline, taking turns
    refusal: Refusal | None = None
    prediction: Prediction | None = None
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Finalists against the baseline on the untouched test split."""

    plans: tuple[Plan, ...]
    comparison: Comparison  # arms: baseline, control, then the plans in order
    measurements: tuple[Measurement, ...]  # baseline, then the plans; predictions on "test"
    verdicts: tuple[tuple[Verdict, ...], ...]  # one row per plan, one verdict per requirement
    control: Estimate  # ratio of the A/A control
    control_alarm: bool  # the control "found" a difference: intervals of times were widened by as much
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the run ended."""

    status: Literal["met", "nothing-passed"]
    chosen: Plan
    reason: str
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The first record of a run: its words and what they became."""

    command: str  # optimize | benchmark | verify
    spec: SubjectSpec
    contract: Contract
    requirements: tuple[Requirement, ...]
    budget_s: float
    environment: Environment
    peaks: tuple[Sample | Unavailable, ...] = ()  # this machine's ceilings, see steelyard.probe.peaks
    splits: Mapping[str, int] = field(default_factory=dict)  # {"train": 1077, ...}
    split_method: str = ""
    overlaps: tuple[Overlap, ...] = ()
    warnings: tuple[str, ...] = ()
    version: str = ""
    grid: tuple[GridFactor, ...] = ()  # of the region the user named, first, then of others to compare it with
    percentiles: tuple[float, ...] = ()  # of latency, in per cent, that the user asked for; none: 50, 90, 99
    words: tuple[str, ...] = ()  # further words of the command that repeats the run
    minimise: str = "latency"  # among the plans that keep every requirement: latency | energy | size | memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecords:
    """A run folder's records, grouped: all that a report needs."""

    run: Run
    baseline: Measurement | None = None
    findings: tuple[Finding, ...] = ()
    trials: tuple[Trial, ...] = ()
    verification: Verification | None = None
    outcome: Outcome | None = None
    test_uses: int = 0  # how often finalists were judged on the test split in this folder
    profiled: Profiled | None = None
