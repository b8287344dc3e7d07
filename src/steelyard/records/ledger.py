"""What each training technique brings on one model: the trainings that were run, and the steps that took turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steelyard.records.plans import Plan, Refusal, Requirement
from steelyard.records.readings import Environment, Estimate, Unavailable
from steelyard.records.runs import Comparison
from steelyard.records.studied import SubjectSpec

__all__ = ["Ledger", "LedgerCell", "LedgerEnd", "LedgerRow", "LedgerTurns", "Technique"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Technique:
    """A change to the recipe, or to the model before it is trained, under the word that names it."""

    name: str  # as the user wrote it: "amp", "dropout=0.5"
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of the recipe
    plan: Plan = field(default_factory=Plan)  # passes applied to the untrained model


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCell:
    """One training: a technique under one seed, in a run folder of its own, or why there is none."""

    technique: str  # "baseline", a technique's name, or "combined"
    seed: int
    folder: str  # relative to the ledger's
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LedgerTurns:
    """Training steps that took turns: ``comparison.seconds`` are seconds of one example, so that batches of any size compare.

    Arms: baseline, control, then techniques. ``memory_running_bytes`` of an arm is what a process grew by, at most, from
    before it had the net: weights, gradients, the optimiser's state, activations and what kernels work in.
    """

    comparison: Comparison
    refused: tuple[tuple[str, Refusal], ...] = ()  # techniques whose step could not be run, with the reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The first record of a ledger's folder: its words. Cells and turns follow, one a line."""

    spec: SubjectSpec
    recipe: Mapping[str, Any]  # the baseline's, every field
    techniques: tuple[Technique, ...]
    seeds: tuple[int, ...]
    requirement: Requirement  # what quality must hold for a technique to pay: "accuracy drop <= 1%"
    target: float | None  # accuracy on the validation split whose time is measured
    pay: str  # what should fall: time | memory | energy
    environment: Environment
    version: str
    words: tuple[str, ...] = ()  # of the command that repeats it


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one technique brings against the baseline: ratios under 1 are savings, a drop above 0 is a loss.

    Intervals are at a common level that holds for all techniques together.
    """

    technique: str
    step: Estimate | Unavailable  # seconds of one training example
    training: Estimate | Unavailable  # seconds to the target, or of the whole training where there is none
    memory: Estimate | Unavailable  # what training takes at its peak
    energy: Estimate | Unavailable  # of the training that `training` times
    drop: Estimate | Unavailable  # of the share that is right on the validation split, over seeds and examples
    reached: tuple[int, int] | None = None  # of all trainings with it, those that reached the target
    outcome: Literal["pays", "does not pay", "undecided"] = "undecided"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEnd:
    """The last record of a ledger: rows, the recipe that is left, and what it brings on the test split."""

    rows: tuple[LedgerRow, ...]
    chosen: str  # "baseline", a technique, or "combined"
    recipe: Mapping[str, Any]  # every field, in plain values
    plan: Plan  # passes to apply before it
    control: Estimate | Unavailable
    control_alarm: bool
    level: float  # of every interval in the rows
    test_drop: Estimate | Unavailable | None = None  # of what was chosen against the baseline, judged once
    wall_s: float = 0.0
