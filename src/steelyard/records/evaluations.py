"""What an evaluation found.

Saved predictions stay in the user's file, known here by its digest; what is kept of them is what the report draws:
metrics with intervals, counts, and curves of some hundred points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.records.readings import Environment, Estimate, Unavailable
from steelyard.records.studied import Floats, Overlap, Task

__all__ = [
    "Box",
    "Corrupted",
    "Curve",
    "Difference",
    "Evaluated",
    "Evaluation",
    "Gap",
    "Gate",
    "MetricInfo",
    "Objective",
    "Shown",
    "SliceScore",
    "Temperature",
    "Threshold",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """What a reader must know about a metric: its words, range and direction."""

    name: str
    title: str
    unit: str
    low: float  # the smallest possible value
    high: float  # the largest
    higher_is_better: bool
    leads: bool = False  # the objective's primary metric


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Points of a line and, where known, its pointwise band.

    ``roc``: x false-positive rate, y true-positive rate. ``pr``: x recall, y precision. ``reliability``: x mean
    confidence of a bin, y share that is right, ``count`` examples in the bin.
    """

    kind: Literal["roc", "pr", "reliability"]
    of: str  # the class it is about, "" where there is but one
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    count: Floats | None = None
    note: str = ""  # what the band is


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceScore:
    """One scenario: the leading metric inside it, outside it, and whether the gap is real."""

    conditions: tuple[tuple[str, str], ...]  # (("region", "north"), ("age", "30 to 40")): column and value
    n: int
    score: Estimate | Unavailable
    rest: Estimate | Unavailable  # the same metric on all other examples
    gap: Estimate | None = None  # how much worse than the rest; positive is worse
    p_value: float | None = None
    adjusted: float | None = None  # after Holm over all slices looked at
    verdict: Literal["worse", "better", "undecided", "too few"] = "undecided"
    discovered: bool = False  # found by looking, not named by the user


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted:
    """The leading metric under one corruption at one severity; severity 0 is the clean data."""

    name: str
    severity: int
    score: Estimate | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One example shown to the reader: a mistake, or a prediction explained. Pictures are base64 PNG."""

    place: str  # row or key
    true: str
    predicted: str
    confidence: float
    picture: str = ""
    text: str = ""
    heat: str = ""  # the picture with the attribution over it
    weights: tuple[float, ...] = ()  # one for each character of `text`, or each feature
    features: tuple[str, ...] = ()  # names for `weights` where there is no text
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Quantiles of one group's values, for a box plot: least, 5 %, 25 %, 50 %, 75 %, 95 %, most."""

    quantity: str  # "loss", "confidence", "absolute error"
    group: str
    quantiles: tuple[float, ...]
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How much better a metric is on a split that the model has seen: positive is a sign of over-fitting."""

    metric: str
    seen: str  # the split it was trained on
    unseen: str
    on_seen: Estimate | Unavailable
    on_unseen: Estimate | Unavailable
    gap: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A decision threshold chosen for a target on one set of examples and judged on another."""

    value: float
    target: str  # "recall >= 0.95", "costs fp=1 fn=10", "default"
    chosen_on: str  # the file or split
    n: int
    reached: Estimate | Unavailable | None = None  # the target's metric on the examples that chose it


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """A temperature fitted on one set of examples; scores are those of the examples judged."""

    value: float
    fitted_on: str
    n: int
    before: tuple[Estimate | Unavailable, ...]  # ece, brier, log_loss as they came
    after: tuple[Estimate | Unavailable, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """All that was found about one model on one set of examples."""

    name: str
    source: str
    digest: str  # SHA-256 of the file, or the fingerprint of the model
    n: int
    split: str = ""  # where the examples come from a subject
    scores: tuple[Estimate | Unavailable, ...] = ()  # the leading metric first
    per_class: tuple[tuple[str, tuple[Estimate | Unavailable, ...]], ...] = ()  # (class, precision, recall, f1 ...)
    confusion: NDArray[np.int64] | None = None  # (true, predicted)
    curves: tuple[Curve, ...] = ()
    boxes: tuple[Box, ...] = ()
    slices: tuple[SliceScore, ...] = ()
    corrupted: tuple[Corrupted, ...] = ()
    mistakes: tuple[Shown, ...] = ()
    explained: tuple[Shown, ...] = ()
    gaps: tuple[Gap, ...] = ()
    threshold: Threshold | None = None
    temperature: Temperature | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric of the second model against the first on the same examples; a positive drop is worse."""

    metric: str
    first: str  # name of the model compared with
    second: str
    drop: Estimate | Unavailable
    conditions: tuple[tuple[str, str], ...] = ()  # the slice; empty for all examples
    n: int = 0
    p_value: float | None = None  # of "no difference", two-sided, read off the interval
    adjusted: float | None = None  # after Holm over the metrics that are judged and the slices
    outcome: Literal["better", "worse", "equivalent", "undecided", "undefined"] = "undecided"
    tests: tuple[tuple[str, float], ...] = ()  # further p-values: McNemar exact and mid-p
    advice: str = ""  # "needs about 1,000 examples to resolve this gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Which metric leads, and why."""

    name: str
    leads: str
    why: str
    others: tuple[str, ...] = ()  # metrics shown beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A limit that fails the command when it is not kept (exit status 1)."""

    text: str
    model: str
    estimate: Estimate | Unavailable
    outcome: Literal["met", "broken", "undecided", "undefined"]
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The record of `steelyard evaluate`."""

    command: tuple[str, ...]  # the words that repeat it
    task: Task
    classes: tuple[str, ...]  # positive last where there are two
    metrics: tuple[MetricInfo, ...]
    models: tuple[Evaluated, ...]
    objective: Objective
    level: float = 0.95
    positive: str = ""  # the positive class of a binary task
    differences: tuple[Difference, ...] = ()
    gates: tuple[Gate, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    examples: str = ""  # fingerprint of the labels that were judged on
    test_uses: int = 0  # how often they were judged on in this folder, this time included
    warnings: tuple[str, ...] = ()
    environment: Environment | None = None
    time: str = ""  # ISO 8601, UTC
    version: str = ""
