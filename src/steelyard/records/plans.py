"""Techniques in order, what is expected of them, and what must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steelyard.records.readings import Estimate
from steelyard.records.studied import Scalar

__all__ = ["Ceiling", "Finding", "Plan", "Prediction", "Refusal", "Requirement", "Step", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pass and its options, hashable: ``Step(name="quantize_static", options=(("per_channel", True),))``."""

    name: str
    options: tuple[tuple[str, Scalar], ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.options)
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A chain of passes applied in order; the empty plan is the baseline."""

    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return " > ".join(map(str, self.steps)) or "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the diagnosis expects of a plan: baseline latency divided by the candidate's."""

    plan: Plan
    gain: float
    ceiling: float
    minutes: float  # expected time to build and weigh it
    because: str
    hopeless: bool = False  # "will not help here": skipped, with `because` as the reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What one technique can give here, by Amdahl's law over the layers that it touches. Gains are time now / time then."""

    technique: str  # "INT8 quantisation", "fusing element-wise operators", ...
    share: float  # of an inference's time, 0 to 1, that goes to the layers it touches
    gain: float  # where those layers keep their present distance from the roof
    ceiling: float  # where they reach it: more is not to be had
    helps: bool
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim about what holds the model back and the numbers behind it."""

    name: str  # "dispatch-bound", "compute-bound", "memory-bound", "under-utilised"
    claim: str
    evidence: Mapping[str, float]
    predictions: tuple[Prediction, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What must hold. ``limit`` is in the quantity's base unit (s, byte, J, fraction)."""

    quantity: str  # "accuracy", "latency", "p99", "size", ...
    kind: Literal["max_drop", "max_ratio", "min_ratio", "max", "min"]
    limit: float
    text: str  # as the user wrote it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A requirement, its interval and one of three outcomes (four with ``unavailable``).

    ``estimate.level`` is the level after Holm, so interval and outcome always agree.
    """

    requirement: Requirement
    outcome: Literal["met", "broken", "undecided", "unavailable"]
    estimate: Estimate | None
    p_value: float | None = None  # of the claim "the requirement does not hold", before Holm
    advice: str = ""  # what would decide it: "needs about 1,000 more test examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a candidate was not measured."""

    kind: str  # cannot-apply | missing-extra | crash | timeout | out-of-memory | threads | disk-full | parity | error,
    # hopeless: shown to miss a requirement by a part of the measurements; skipped | budget: not tried
    reason: str
