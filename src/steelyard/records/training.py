"""What a training went through: its recipe, its steps, its epochs, and how good its model came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.records.readings import Environment, Predictions, Sample, Unavailable
from steelyard.records.studied import Contract, Floats, Overlap, Scalar, SubjectSpec

__all__ = ["Ended", "LabelCheck", "RateSearch", "TrainingRun", "Unread", "Watched"]

Ended = Literal["done", "time", "patience", "gain", "diverged"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCheck:
    """What a checker said of examples that one word of a recipe changed, of those whose labels it agreed with before."""

    word: str
    value: Scalar  # as the recipe has it
    examples: int  # looked at
    agreed: int  # of them, the checker said their label while they were unchanged
    changed: int  # of those, the word made other examples of
    disputed: int  # of those, the checker says another class now
    shown: tuple[tuple[str, str, str, str], ...] = ()  # a few: before, after (texts, PNGs in base64), label, said


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """What a watch saw of a training, whoever's loop it was: see `steelyard.trainer.watch` for phases and scores.

    Gradients are read at some steps only. ``dead_share[e, u]`` is the share of the channels of activation ``u`` that gave zero
    for every example looked at in epoch ``e``; NaN where none was looked at.
    """

    name: str
    environment: Environment
    version: str
    phases: tuple[str, ...]  # "data", "forward", "backward", "optimiser", "communication", "other"
    phases_s: Floats  # (steps, phases) by the loop's clock: a step's phases add up to the step
    loss: Floats  # (steps,)
    learning_rate: Floats  # (steps,); NaN where the loop did not tell
    examples: NDArray[np.int64]  # (steps,)
    device_s: Floats | None = None  # (steps, phases) by the accelerator's clock
    epochs: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # numbers, from 0
    epoch_ends: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # steps done by then
    outside_s: Floats = field(default_factory=lambda: np.zeros(0))  # (epochs,): of no step, such as validation
    scores: Mapping[str, Floats] = field(default_factory=dict)  # name to (epochs,)
    score_examples: int = 0  # that the validation score counts over; 0: not told
    sampled: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (samples,): steps
    layers: tuple[str, ...] = ()  # weights, from the input on
    gradient_norms: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # (samples, layers)
    weight_norms: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # (samples, layers)
    updates: Floats = field(
        default_factory=lambda: np.zeros((0, 0))
    )  # (samples, layers): change of a weight by its size
    activations: tuple[str, ...] = ()  # rectified ones, in the order they run
    dead_share: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # (epochs, activations)
    label_counts: tuple[int, ...] = ()  # training examples of each class, where they were seen
    loader: Mapping[str, Scalar] = field(default_factory=dict)  # num_workers, prefetch_factor, ...
    readings: tuple[Sample | Unavailable, ...] = ()  # memory by role, the machine meanwhile, energy by epoch
    target: float | None = None  # of the validation score, that was asked for
    ended: str = ""  # why, where it did not run to its end


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
    watched: Watched | None = None  # the phases of its steps, gradients, memory, energy
    sheet: tuple[tuple[str, str], ...] = ()  # what the net sees: words and a PNG in base64
    label_checks: tuple[LabelCheck, ...] = ()  # of the recipe's augmentation, by the kept weights

    @property
    def seed(self) -> int:
        """Of the order of the examples, and of every random choice."""
        return int(self.recipe["seed"])
