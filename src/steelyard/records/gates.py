"""What a gate said, and what a suite read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steelyard.records.plans import Plan, Refusal, Verdict
from steelyard.records.readings import Environment, Estimate, Measurement, Unavailable
from steelyard.records.runs import Comparison

__all__ = ["CellChange", "GateReport", "GateSide", "GateStage", "SavedBaseline", "Suite", "SuiteCell", "SuiteChange"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedBaseline:
    """What a gate must know of a model later: readings, one block a process, and predictions; small enough for a repository."""

    name: str
    source: str  # the user's words for the model
    plan: Plan
    measured: Measurement
    labels: tuple[str, ...] = ()
    time: str = ""  # ISO 8601, UTC
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSide:
    """One of the two that a gate compares."""

    name: str  # the path that the user gave
    kind: Literal["run", "deployed", "file"]
    plan: Plan
    subject: str  # fingerprint of the weights or file
    environment: Environment | None = None  # of its stored readings


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStage:
    """One measurement of both sides, and the verdicts that it alone supports."""

    before: Measurement
    after: Measurement
    verdicts: tuple[Verdict, ...]
    comparison: Comparison | None = None  # arms: baseline, control, candidate; None: readings that never ran together
    control: Estimate | None = None  # ratio of the A/A control
    control_alarm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """The record of `steelyard gate`. A time or another noisy cost is broken only where a second stage says so too."""

    baseline: GateSide
    candidate: GateSide
    how: Literal["turns", "stored"]  # measured afresh taking turns | readings that never ran together
    stages: tuple[GateStage, ...]
    verdicts: tuple[Verdict, ...]  # one a requirement, over all stages
    undecided: Literal["pass", "fail"] = "pass"
    noise_floor: float = 0.0  # in log-ratio: no limit on a ratio of times is set closer to 1 than this
    unlike: str = ""  # how the two machines differ, where the user allowed that
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()  # the words that repeat it
    environment: Environment | None = None
    wall_s: float = 0.0
    time: str = ""  # ISO 8601, UTC
    version: str = ""
    asked: tuple[str, ...] = ()  # what the gate was asked, by which the same command finds it again
    open: bool = False  # stopped before the second stage, whose verdicts on suspects are still to come

    def passes(self, verdict: Verdict) -> bool:
        """Whether the gate lets this outcome through; what could not be judged never is."""
        return verdict.outcome == "met" or (verdict.outcome == "undecided" and self.undecided == "pass")

    @property
    def passed(self) -> bool:
        """Whether every requirement was let through."""
        return all(map(self.passes, self.verdicts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The first record of a suite's folder: what was asked, and of which machine."""

    name: str
    cells: tuple[str, ...]  # keys of all cells, in order
    definition: str  # JSON of the suite as it was read
    environment: Environment
    time: str = ""  # ISO 8601, UTC
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCell:
    """One model on one data set by one engine at one batch size: read, or refused with its reason."""

    key: str  # "model/data/engine/batch-1" or "model/data/engine/stress"
    model: str
    data: str  # "" for cost alone
    engine: str
    batch: int
    folder: str  # run folder, relative to the suite's
    measured: Measurement | None = None  # `latency_s` at this batch has one block a process; predictions on "test"
    labels: tuple[str, ...] = ()
    refusal: Refusal | None = None
    flags: tuple[str, ...] = ()  # rounds flagged for steal, throttling or the like; nothing is removed
    wall_s: float = 0.0
    beside: tuple[str, ...] = ()  # keys of the cells that took turns with it
    stress: bool = False  # load raised until it breaks, instead of times of single calls


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One quantity of one cell: the second reading against the first, or why it cannot be compared."""

    key: str
    quantity: Literal["latency", "accuracy", "sustained"]
    found: Estimate | Unavailable
    outcome: Literal["faster", "slower", "better", "worse", "equivalent", "undecided"] | None = None
    p_value: float | None = None
    adjusted: float | None = None  # after Holm over all cells and quantities of the comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteChange:
    """The second suite against the first."""

    first: str
    second: str
    changes: tuple[CellChange, ...]
    mean: Estimate | None  # geometric mean of the latency ratios
    unlike: str = ""  # how the machines differ, where the user allowed that
    notes: tuple[str, ...] = ()
