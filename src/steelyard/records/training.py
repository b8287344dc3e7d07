"""What a training went through: its recipe, its steps, its epochs, and how good its model came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.records.readings import Environment, Predictions, Sample, Unavailable
from steelyard.records.studied import Contract, Floats, Overlap, SubjectSpec

__all__ = ["Ended", "RateSearch", "TrainingRun", "Unread"]

Ended = Literal["done", "time", "patience", "diverged"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateSearch:
    """A learning-rate range test: the loss of each step while the rate climbs on a logarithmic scale (Smith 2017)."""

    rates: Floats  # (steps,)
    losses: Floats  # (steps,), as they came
    smoothed: Floats  # (steps,), their exponential average, corrected for its start
    steepest: float | None  # the rate where the smoothed loss falls fastest per decade
    diverged: float | None  # the rate at which the loss ran away; None where it never did
    suggested: float | None  # None where the loss never fell
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A training example that could not be read, and was left out where that was allowed."""

    split: str
    example: int  # its position in the split
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingRun:
    """One training. Raw readings a step and an epoch; curves, means and intervals are derived from them."""

    spec: SubjectSpec
    contract: Contract
    recipe: Mapping[str, Any]  # every field, in plain values
    environment: Environment
    version: str
    loss: Floats  # (steps,): mean over the step's examples
    learning_rate: Floats  # (steps,)
    step_s: Floats  # (steps,)
    wait_s: Floats  # (steps,): of the step, making its batches
    examples: NDArray[np.int64]  # (steps,)
    steps_per_epoch: int
    ended: Ended
    note: str = ""  # why, where that needs words
    validation: Floats = field(default_factory=lambda: np.zeros(0))  # (epochs,): share that was right
    validation_loss: Floats = field(default_factory=lambda: np.zeros(0))  # (epochs,)
    validation_examples: int = 0
    epoch_end_s: Floats = field(default_factory=lambda: np.zeros(0))  # (epochs,): seconds of training before it
    best_epoch: int | None = None  # whose weights were kept, counted from 0; None: the last
    predictions: tuple[Predictions, ...] = ()  # of the kept weights: train (a part), validation, and test, judged once
    test_uses: int = 0  # how often the test split was judged in this folder
    splits: Mapping[str, int] = field(default_factory=dict)  # {"train": 1077, ...}
    split_method: str = ""
    overlaps: tuple[Overlap, ...] = ()
    search: RateSearch | None = None  # of the learning rate
    unread: tuple[Unread, ...] = ()
    said: tuple[str, ...] = ()  # what was changed on the way: a dropout layer put in, a micro-batch halved, a resume
    warnings: tuple[str, ...] = ()
    weights: str = ""  # file, relative to the run folder
    readings: tuple[Sample | Unavailable, ...] = ()
    words: tuple[str, ...] = ()  # of the command that repeats the run

    @property
    def seed(self) -> int:
        """Of the order of the examples, and of every random choice."""
        return int(self.recipe["seed"])
